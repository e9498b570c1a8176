//! Fields that name a state of the machine, states that are ignored, and fields that are read as a rate.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod one_series;
mod test_stream;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::pipeline::fits;
use outlierd::record::alert::AlertKind;
use outlierd::record::{EventTime, MISSING, NON_FINITE, RecordVerdict, TrainingRow};
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::TrainingSet;
use rand::{Rng, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use self::one_series::{Outcome, row_of};

const EVERY: i64 = 10;
const LEARNED: usize = 2_000;
/// The modes, by their index.
const OFF: f64 = 0.0;
const RUN: f64 = 2.0;

type Row = [f64; 3];

fn noise(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random_range(-0.5..0.5)).sum()
}

/// A mixer that is off, idle or running, each for 5 to 60 records: its mode, current and speed. Where
/// it `runs`, its motor does whatever the mode says.
fn mixer(records: usize, runs: &[Range<usize>]) -> Vec<Row> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut mode, mut left) = (0_usize, 0);
    let mut row = |i: usize| {
        if left == 0 {
            mode = (mode + rng.random_range(1..3)) % 3;
            left = rng.random_range(5..60);
        }
        left -= 1;
        let motor = if runs.iter().any(|range| range.contains(&i)) {
            2
        } else {
            mode
        };
        let current = [0.2, 6.0, 31.0][motor] + [0.02, 0.3, 0.8][motor] * noise(&mut rng);
        let speed = [0.0, 120.0, 900.0][motor] + [0.0, 2.0, 9.0][motor] * noise(&mut rng);
        [mode as f64, current, speed]
    };
    (0..records).map(&mut row).collect()
}

const MODE: &str = "{name=\"mode\",values=[\"off\",\"idle\",\"run\"]}";

fn mixed(more: &[&str]) -> Arc<StreamSettings> {
    let fields = format!("record.fields=[{MODE}, \"current\", \"speed\"]");
    test_stream::stream(&[&[&*fields], more].concat())
}

fn run<const K: usize>(stream: &Arc<StreamSettings>, rows: &[[f64; K]]) -> Outcome {
    one_series::run(stream, rows, LEARNED, EVERY)
}

fn anomalies(found: &Outcome) -> Vec<usize> {
    let opened = found.opened(AlertKind::Anomaly);
    opened.into_iter().map(row_of).collect()
}

/// Records from `from` on at which the mode is off for at least ten.
fn off_from(rows: &[Row], from: usize) -> Range<usize> {
    let is_off = |at: usize| rows[at..at + 10].iter().all(|row| row[0] == OFF);
    let start = (from..rows.len() - 10).find(|&at| is_off(at)).unwrap();
    start..start + 10
}

#[test]
fn a_motor_that_runs_while_the_mode_is_off_is_found_by_the_mode_only() {
    let healthy = mixer(5_000, &[]);
    let fault = off_from(&healthy, 3_500);
    let rows = mixer(5_000, std::slice::from_ref(&fault));
    let found = run(&mixed(&[]), &rows);
    let inside: Vec<&_> = found
        .opened(AlertKind::Anomaly)
        .into_iter()
        .filter(|alert| fault.contains(&row_of(alert)))
        .collect();
    let [alert] = inside[..] else {
        panic!("{:?} in {fault:?}", anomalies(&found))
    };
    assert!(row_of(alert) < fault.start + 3);
    assert!(alert.fields.iter().all(|field| field.name != "mode"));
    assert!(alert.fields.iter().any(|field| field.name == "current"));
    // At most one beside the fault: the budget of eight hours is a tenth of an alert.
    assert!(anomalies(&found).len() <= 2, "{:?}", anomalies(&found));
    assert!(found.opened(AlertKind::SensorFault).is_empty());

    let blind = test_stream::stream(&["record.fields=[\"current\", \"speed\"]"]);
    let rows: Vec<[f64; 2]> = rows.iter().map(|row| [row[1], row[2]]).collect();
    let without = anomalies(&run(&blind, &rows));
    assert!(
        without.iter().all(|row| !fault.contains(row)),
        "{without:?}"
    );
}

#[test]
fn a_switch_is_no_anomaly_and_a_lost_or_unknown_mode_costs_only_the_context() {
    let mut rows = mixer(4_000, &[]);
    rows[3_000..3_040]
        .iter_mut()
        .for_each(|row| row[0] = MISSING);
    rows[3_400..3_440]
        .iter_mut()
        .for_each(|row| row[0] = NON_FINITE);
    let found = run(&mixed(&[]), &rows);
    let before = anomalies(&found).into_iter().filter(|row| *row < 3_000);
    assert_eq!(before.count(), 0, "{:?}", anomalies(&found));
    let faults = found.opened(AlertKind::SensorFault);
    let rows: Vec<usize> = faults.iter().map(|alert| row_of(alert)).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let scored = &found.verdicts[3_000..3_040];
    assert!(
        scored
            .iter()
            .all(|verdict| *verdict != RecordVerdict::Learning)
    );
}

#[test]
fn records_of_an_ignored_state_are_neither_scored_nor_learned() {
    let mut rows = mixer(4_000, &[]);
    // Whenever it runs, the readings are as wild as a start-up's.
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for row in rows.iter_mut().filter(|row| row[0] == RUN) {
        row[1] = rng.random_range(-1e4..1e4);
        row[2] = rng.random_range(-1e6..1e6);
    }
    let ignoring = mixed(&["gate.ignore_when={mode=[\"run\"]}"]);
    let found = run(&ignoring, &rows);
    for (row, verdict) in rows.iter().zip(&found.verdicts) {
        assert_eq!(*verdict == RecordVerdict::Ignored, row[0] == RUN);
    }
    assert!(found.alerts.is_empty(), "{:?}", anomalies(&found));
    // What is left is scored as sharply as ever: the current of an idle motor, a little high.
    for at in (3_000..3_200)
        .filter(|&at| rows[at][0] == 1.0)
        .collect::<Vec<_>>()
    {
        rows[at][1] += 4.0;
    }
    let opened = anomalies(&run(&ignoring, &rows));
    assert!(
        opened.iter().any(|row| (3_000..3_200).contains(row)),
        "{opened:?}"
    );
}

#[test]
fn an_open_alert_stays_open_while_its_machine_is_ignored() {
    let mut rows = mixer(4_000, &[]);
    let fault = off_from(&rows, 3_000);
    rows[fault.start..fault.start + 8]
        .iter_mut()
        .for_each(|row| row[1] = 30.0);
    rows[fault.start + 8..fault.start + 300]
        .iter_mut()
        .for_each(|row| row[0] = RUN);
    let found = run(&mixed(&["gate.ignore_when={mode=[\"run\"]}"]), &rows);
    let opened = anomalies(&found);
    assert!(opened.iter().any(|row| fault.contains(row)), "{opened:?}");
    let closed = found.closed(AlertKind::Anomaly);
    let ignored = fault.start + 8..fault.start + 300;
    assert!(closed.iter().all(|alert| !ignored.contains(&row_of(alert))));
}

/// Energy in all, from a meter of 16 bits that wraps around, and what is left of a tank that is
/// filled each hour.
fn meter(records: usize, faults: Range<usize>) -> Vec<[f64; 2]> {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (mut energy, mut tank) = (0.0, 500.0);
    let mut row = |i: usize| {
        let load = 40.0 + 3.0 * noise(&mut rng);
        energy += if faults.contains(&i) {
            1.4 * load
        } else {
            load
        };
        tank += if i.is_multiple_of(360) {
            700.0
        } else {
            1.0 + 0.1 * noise(&mut rng)
        };
        [energy % 65_536.0, tank % 65_536.0]
    };
    (0..records).map(&mut row).collect()
}

#[test]
fn a_counter_that_wraps_around_is_no_fault_and_its_rate_is_scored() {
    for read_as in ["rate", "delta"] {
        let fields = format!("record.fields=[{{name=\"energy\",as=\"{read_as}\"}}]");
        let stream = test_stream::stream(&[&*fields]);
        let rows = meter(6_000, 5_000..5_050);
        let rows: Vec<[f64; 1]> = rows.iter().map(|row| [row[0]]).collect();
        let wraps = rows.windows(2).filter(|pair| pair[1][0] < pair[0][0]);
        assert!(wraps.count() >= 3);
        let found = run(&stream, &rows);
        assert!(found.opened(AlertKind::SensorFault).is_empty());
        let opened = anomalies(&found);
        let inside = opened.iter().filter(|row| (5_000..5_050).contains(*row));
        assert_eq!((opened.len(), inside.count()), (1, 1), "{opened:?}");
    }
}

#[test]
fn a_bundle_of_other_states_does_not_fit() {
    let rows = mixer(1_000, &[]);
    let training = rows.iter().enumerate().map(|(number, row)| TrainingRow {
        series: "m".to_owned(),
        time: EventTime(number as i64 * EVERY * 1_000_000),
        values: row.to_vec(),
        image: None,
    });
    let stream = mixed(&[]);
    let set = TrainingSet::new(training.collect::<Vec<_>>());
    let bundle = learn(&stream, &set, None, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(fits(&stream, &bundle).is_ok());
    let fields = "record.fields=[{name=\"mode\",values=[\"off\",\"run\"]}, \"current\", \"speed\"]";
    let error = fits(&test_stream::stream(&[fields]), &bundle).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("mode (off, idle, run), current, speed"),
        "{text}"
    );
    assert!(text.contains("[mode (off, run), current, speed]"), "{text}");
}
