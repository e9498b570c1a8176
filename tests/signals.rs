//! Records as plants send them: sensors that are lost, rest, send sentinels or are coarse; machines
//! that start now and then; faults that last; signals that leave the range they were trained on.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod one_series;
mod test_stream;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::record::alert::{Alert, AlertKind, CloseReason, Severity};
use outlierd::record::{EventTime, FaultKind, MISSING, NON_FINITE, RecordVerdict, TrainingRow};
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::TrainingSet;
use outlierd::score::Scorer;
use rand::{Rng, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use self::one_series::{Outcome, row_of};

const FIELDS: [&str; 5] = ["load", "current", "temp", "vib", "flow"];
/// Seconds between two records.
const EVERY: i64 = 10;

type Row = [f64; 5];

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random_range(-0.5..0.5)).sum()
}

/// A mill whose five sensors follow one load.
fn mill(records: usize, seed: u64) -> Vec<Row> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut x, mut warm) = (0.0, 50.0);
    let mut row = |i: usize| {
        x = 0.97 * x + 1.2 * normal(&mut rng);
        let load = 50.0 + 8.0 * (i as f64 / 28.6).sin() + x;
        warm += (load - warm) / 25.0;
        let mut noise = |sd: f64| sd * normal(&mut rng);
        let vib = 1.0 + 0.02 * load + noise(0.05);
        let temp = 35.0 + 0.4 * warm + noise(0.15);
        [
            load,
            0.21 * load + noise(0.12),
            temp,
            vib,
            0.8 * load + noise(0.4),
        ]
    };
    (0..records).map(&mut row).collect()
}

fn stream(fields: &[&str], more: &[&str]) -> Arc<StreamSettings> {
    let fields = format!("record.fields={fields:?}");
    test_stream::stream(&[&[&*fields], more].concat())
}

fn run<const K: usize>(stream: &Arc<StreamSettings>, rows: &[[f64; K]], learned: usize) -> Outcome {
    one_series::run(stream, rows, learned, EVERY)
}

fn set<const K: usize>(rows: &mut [[f64; K]], range: Range<usize>, field: usize, value: f64) {
    rows[range].iter_mut().for_each(|row| row[field] = value);
}

#[test]
fn a_lost_sensor_does_not_hide_the_others() {
    for lost in [MISSING, NON_FINITE] {
        let mut rows = mill(2_200, 1);
        set(&mut rows, 1_500..2_000, 3, lost);
        rows[1_700..1_820].iter_mut().for_each(|row| row[2] += 8.0);
        let found = run(&stream(&FIELDS, &[]), &rows, 1_000);
        let [fault] = found.opened(AlertKind::SensorFault)[..] else {
            panic!("{:?}", found.alerts)
        };
        assert_eq!(
            (row_of(fault), fault.faults[0].name.as_str()),
            (1_502, "vib")
        );
        assert_eq!(
            (fault.severity, fault.not_scored),
            (Severity::Warning, false)
        );
        let what = match lost.is_nan() {
            true => "is missing",
            false => "is not a finite number",
        };
        assert_eq!(
            fault.summary,
            format!("vib of m {what} since 04:10:00 UTC.")
        );
        let [anomaly] = found.opened(AlertKind::Anomaly)[..] else {
            panic!("{:?}", found.alerts)
        };
        assert!((1_700..1_720).contains(&row_of(anomaly)), "{anomaly:?}");
        assert_eq!(anomaly.fields[0].name, "temp");
        let summary = &anomaly.summary;
        assert!(summary.starts_with("temp of m "), "{summary}");
        assert!(summary.contains(" since 04:43:"), "{summary}");
        assert_eq!(anomaly.trained_on, 1_000);
        assert!(anomaly.fields.iter().all(|field| field.name != "vib"));
        assert_eq!(found.verdicts[1_600], RecordVerdict::SensorFault);
        assert_eq!(found.verdicts[1_800], RecordVerdict::Outlier);
    }
}

#[test]
fn healthy_records_without_some_fields_raise_no_more_alerts() {
    let stream = stream(&FIELDS, &["threshold.budget=20 per series per day"]);
    let mut counts = Vec::new();
    for lost in [&[][..], &[0], &[2], &[1, 4]] {
        let opened = |seed| {
            let mut rows = mill(9_000, seed);
            for &field in lost {
                set(&mut rows, 1_000..9_000, field, MISSING);
            }
            run(&stream, &rows, 1_000).opened(AlertKind::Anomaly).len()
        };
        counts.push((0..3).map(opened).sum::<usize>());
    }
    // The budget allows 56 in that time.
    assert!(counts.iter().all(|count| *count <= 60), "{counts:?}");
}

#[test]
fn a_network_fills_in_what_a_lost_sensor_would_have_read() {
    let kind = ["model.kind=dense", "model.linear_unless_better=false"];
    let stream = stream(&FIELDS, &kind);
    let training = mill(3_000, 1).into_iter().enumerate();
    let set = TrainingSet::new(training.map(|(i, row)| TrainingRow {
        series: "m".to_owned(),
        time: EventTime(i as i64 * EVERY * 1_000_000),
        values: row.to_vec(),
        image: None,
    }));
    let bundle = learn(&stream, &set, None, &mut |_| ControlFlow::Continue(())).unwrap();
    let scorer = Scorer::new(bundle, &stream.score).unwrap();
    let rows = mill(1_000, 2);
    let mut whole = Vec::new();
    scorer.scale_onto(&rows.concat(), &mut whole);
    for lost in 0..FIELDS.len() {
        let mut windows = whole.clone();
        let column = windows.iter_mut().skip(lost).step_by(FIELDS.len());
        column.for_each(|value| *value = f32::NAN);
        let filled = scorer.forward(windows).unwrap();
        let (mut missed, mut all) = (0.0, 0.0);
        for (number, row) in whole.chunks_exact(FIELDS.len()).enumerate() {
            missed += (filled.row(number).readings[lost] - row[lost]).powi(2);
            all += row[lost].powi(2);
        }
        // The temperature follows the load of a while ago, which the other sensors no longer show.
        let most = if FIELDS[lost] == "temp" { 0.7 } else { 0.35 };
        assert!(missed < most * all, "{}: {}", FIELDS[lost], missed / all);
    }
}

#[test]
fn a_record_without_most_of_its_fields_is_not_scored_and_the_alert_says_so() {
    let mut rows = mill(1_300, 2);
    for field in 0..3 {
        set(&mut rows, 1_100..1_200, field, MISSING);
    }
    let found = run(&stream(&FIELDS, &[]), &rows, 1_000);
    let [fault] = found.opened(AlertKind::SensorFault)[..] else {
        panic!("{:?}", found.alerts)
    };
    assert!(fault.not_scored, "{fault:?}");
    assert_eq!(found.verdicts[1_150], RecordVerdict::SensorFault);
    assert_eq!(found.opened(AlertKind::Anomaly).len(), 0);
}

/// Sunlight and the power of a panel every 10 s of a day of 2,880 s, and its temperature.
fn panel(records: usize) -> Vec<[f64; 3]> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut cloud = 1.0;
    let mut row = |i: usize| {
        let day = (i % 288) as f64 / 288.0;
        if i.is_multiple_of(6) {
            cloud = rng.random_range(0.55..1.0);
        }
        let sun = (1_000.0 * cloud * ((day - 0.25) * std::f64::consts::TAU).sin()).max(0.0);
        let sun = if sun < 1.0 { 0.0 } else { sun };
        let power = 0.075 * sun * (1.0 + 0.01 * normal(&mut rng));
        let temp = 12.0 + 0.02 * sun + 0.3 * normal(&mut rng);
        [sun, power, temp].map(|x| (x * 100.0).round() / 100.0)
    };
    (0..records).map(&mut row).collect()
}

#[test]
fn a_night_is_no_stuck_sensor_and_a_value_that_stands_still_by_day_is() {
    let fields = ["sun", "power", "temp"];
    let mut rows = panel(5_184);
    set(&mut rows, 3_550..4_300, 1, 60.76);
    let found = run(&stream(&fields, &[]), &rows, 2_880);
    let [fault] = found.opened(AlertKind::SensorFault)[..] else {
        panic!("{:?}", found.opened(AlertKind::SensorFault))
    };
    assert_eq!(fault.faults[0].kind, FaultKind::Stuck);
    assert_eq!(fault.faults[0].name, "power");
    assert!((3_600..3_640).contains(&row_of(fault)), "{fault:?}");
    // Records at rest are learned from.
    let learned = found.verdicts[..2_880].iter();
    assert!(
        learned
            .into_iter()
            .all(|verdict| *verdict == RecordVerdict::Learning)
    );

    let mut rows = panel(5_184);
    let still = rows[3_550];
    rows[3_550..4_300].fill(still);
    let found = run(&stream(&fields, &[]), &rows, 2_880);
    let [fault] = found.opened(AlertKind::SensorFault)[..] else {
        panic!("{:?}", found.opened(AlertKind::SensorFault))
    };
    assert!(
        fault
            .faults
            .iter()
            .all(|fault| fault.kind == FaultKind::Standstill)
    );
    assert!(fault.not_scored);
}

/// A mill that is off for a third of each day of 960 records, and starts and stops in no time.
fn shift_mill(records: usize, seed: u64) -> Vec<Row> {
    let mut rows = mill(records, seed);
    let mut warm = 20.0;
    for (i, row) in rows.iter_mut().enumerate() {
        let [load, current, temp, vib, flow] = row;
        let is_off = i % 960 >= 640;
        warm += (if is_off { 20.0 } else { *temp } - warm) / 25.0;
        *temp = warm;
        if is_off {
            (*load, *current, *flow, *vib) = (0.0, 0.0, 0.0, *vib / 50.0);
        }
    }
    rows
}

#[test]
fn a_machine_that_starts_or_stops_is_no_anomaly() {
    let mut opened = Vec::new();
    for seed in 1..=4 {
        let found = run(&stream(&FIELDS, &[]), &shift_mill(9_600, seed), 1_920);
        assert!(found.opened(AlertKind::SensorFault).is_empty());
        opened.extend(found.opened(AlertKind::Anomaly).into_iter().map(row_of));
    }
    let at_switches = opened.iter().filter(|&row| row % 320 < 8);
    assert_eq!(at_switches.count(), 0, "{opened:?}");
}

#[test]
fn sentinels_are_sensor_faults_while_learning_and_live_and_change_nothing_else() {
    let mut rows = mill(2_700, 1);
    set(&mut rows, 300..330, 3, -9_999.0);
    set(&mut rows, 700..720, 4, 65_535.0);
    set(&mut rows, 1_500..1_560, 3, -9_999.0);
    set(&mut rows, 2_000..2_020, 1, 77_777.0);
    rows[2_500..2_620].iter_mut().for_each(|row| row[2] += 8.0);
    let found = run(&stream(&FIELDS, &[]), &rows, 1_000);
    let faults = found.opened(AlertKind::SensorFault);
    let of = |alert: &&Alert| {
        let fault = &alert.faults[0];
        (fault.name.clone(), fault.kind, fault.value)
    };
    let of: Vec<_> = faults.iter().map(of).collect();
    let sentinel = |name: &str, value| (name.to_owned(), FaultKind::Sentinel, Some(value));
    let expected = [
        sentinel("vib", -9_999.0),
        sentinel("flow", 65_535.0),
        sentinel("vib", -9_999.0),
        sentinel("current", 77_777.0),
    ];
    assert_eq!(of, expected);
    let [anomaly] = found.opened(AlertKind::Anomaly)[..] else {
        panic!("{:?}", found.opened(AlertKind::Anomaly))
    };
    assert!((2_500..2_520).contains(&row_of(anomaly)), "{anomaly:?}");
}

#[test]
fn a_step_of_a_coarse_sensor_is_no_alert_and_thirty_are() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let mut at = [21.0, 21.0, 45.0];
    let mut row = |_| {
        for (at, (step, base)) in at.iter_mut().zip([(0.1, 21.0), (0.1, 21.0), (1.0, 45.0)]) {
            if rng.random_bool(0.004) {
                *at = base + step * f64::from(rng.random_range(-1..2i8));
            }
        }
        at.map(|x| (x * 10.0).round() / 10.0)
    };
    let mut rows: Vec<[f64; 3]> = (0..12_000).map(&mut row).collect();
    rows[9_000..9_060].iter_mut().for_each(|row| row[0] += 3.0);
    let found = run(
        &stream(&["room_a", "room_b", "humidity"], &[]),
        &rows,
        2_000,
    );
    assert_eq!(found.opened(AlertKind::SensorFault).len(), 0);
    let [anomaly] = found.opened(AlertKind::Anomaly)[..] else {
        panic!("{:?}", found.opened(AlertKind::Anomaly))
    };
    assert_eq!(
        (row_of(anomaly), anomaly.fields[0].name.as_str()),
        (9_000, "room_a")
    );
}

#[test]
fn a_fault_that_lasts_is_one_alert() {
    let mut rows = mill(12_000, 1);
    rows[1_500..10_500]
        .iter_mut()
        .for_each(|row| row[2] += 25.0);
    let found = run(&stream(&FIELDS, &[]), &rows, 1_000);
    let opened = found.opened(AlertKind::Anomaly);
    assert_eq!(opened.len(), 1, "{opened:?}");
    let closed = found.closed(AlertKind::Anomaly);
    assert!(row_of(closed[0]) >= 10_500, "{closed:?}");
}

#[test]
fn a_level_is_accepted_as_normal_after_the_time_for_it_and_the_alert_says_so() {
    let mut rows = mill(4_000, 1);
    rows[1_500..].iter_mut().for_each(|row| row[2] += 25.0);
    let found = run(
        &stream(&FIELDS, &["threshold.level_shift_after=4h"]),
        &rows,
        1_000,
    );
    let closed = found.closed(AlertKind::Anomaly);
    assert_eq!(closed.len(), 1, "{closed:?}");
    assert_eq!(closed[0].close_reason, Some(CloseReason::AcceptedAsNormal));
    assert!((2_940..2_980).contains(&row_of(closed[0])), "{closed:?}");
    assert_eq!(
        found.opened(AlertKind::Anomaly).len(),
        1,
        "it does not come again"
    );
}

#[test]
fn readings_outside_the_trained_range_are_told_once() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let ramp = |i: usize| [0.01 * i as f64 + 0.5 * normal(&mut rng)];
    let rows: Vec<[f64; 1]> = (0..5_000).map(ramp).collect();
    let found = run(&stream(&["value"], &[]), &rows, 1_000);
    let [outside] = found.opened(AlertKind::OutOfTrainingRange)[..] else {
        panic!("{:?}", found.alerts)
    };
    assert_eq!(outside.severity, Severity::Info);
    let [field] = &outside.outside[..] else {
        panic!("{outside:?}")
    };
    assert_eq!(field.name, "value");
    assert!(field.value > field.trained[1] + (field.trained[1] - field.trained[0]));
}

#[test]
fn a_pump_that_starts_now_and_then_raises_no_alert() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let (mut on, mut left, mut since) = (false, 60, 0);
    let mut row = |_| {
        (left, since) = (left - 1, since + 1);
        if left <= 0 {
            (on, since) = (!on, 0);
            let mean = if on { 120.0 } else { 240.0 };
            left = (mean * (1.0 + 0.1 * normal(&mut rng))) as i32;
        }
        let inrush = [9.0, 2.5].get(since as usize).copied().unwrap_or(0.0);
        let (current, pressure) = match on {
            true => {
                let built = 1.0 - (-f64::from(since + 1) / 3.0).exp();
                (
                    6.2 + 0.1 * normal(&mut rng) + inrush,
                    1.8 * built + 0.02 * normal(&mut rng),
                )
            }
            false => (
                0.02 * normal(&mut rng).abs(),
                0.05 + 0.01 * normal(&mut rng),
            ),
        };
        [current, pressure, 12.0 * pressure.max(0.0).sqrt()]
    };
    let rows: Vec<[f64; 3]> = (0..14_000).map(&mut row).collect();
    let found = run(&stream(&["current", "pressure", "flow"], &[]), &rows, 4_320);
    assert!(found.alerts.is_empty(), "{:?}", found.alerts);
}

#[test]
fn alerts_of_one_hour_with_the_same_leading_field_are_one_incident() {
    let incident = |seed, from: usize, field: usize| {
        let mut rows = mill(2_200, seed);
        rows[from..from + 100]
            .iter_mut()
            .for_each(|row| row[field] *= 1.5);
        let found = run(&stream(&FIELDS, &[]), &rows, 1_000);
        let opened = found.opened(AlertKind::Anomaly);
        assert_eq!(opened[0].fields[0].name, FIELDS[field]);
        let closed = found.closed(AlertKind::Anomaly);
        assert_eq!(closed[0].incident, opened[0].incident, "until its end");
        opened[0].incident.clone().unwrap()
    };
    let one = incident(1, 1_500, 2);
    assert_eq!(incident(2, 1_510, 2), one, "of another machine");
    assert_ne!(incident(1, 1_500, 3), one, "of another sensor");
    assert_ne!(incident(1, 1_900, 2), one, "an hour later");
}
