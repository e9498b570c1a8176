//! What the clock and a counter let expect: shifts and weekends, holidays, energy meters.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod one_series;
mod test_stream;

use std::ops::Range;

use outlierd::record::alert::AlertKind;
use outlierd::record::{FaultKind, RecordVerdict};
use rand::{Rng, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use self::one_series::{Outcome, row_of, run};

/// Ten minutes, and the records of a day and a week. The first record is of Thursday, 1970-01-01.
const EVERY: i64 = 600;
const DAY: usize = 144;
const WEEK: usize = 7 * DAY;
const LEARNED: usize = 4 * WEEK;

fn noise(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random_range(-0.5..0.5)).sum()
}

/// A compressor that runs from 6 to 22 on the days from Monday to Friday and at `extra` records,
/// and not at all on the day `holiday`.
fn compressor(weeks: usize, extra: &[Range<usize>], holiday: Option<usize>) -> Vec<[f64; 3]> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut row = |i: usize| {
        let (day, hour) = (i / DAY, i % DAY / 6);
        let works = (day + 3) % 7 < 5 && (6..22).contains(&hour) && holiday != Some(day);
        let on = works || extra.iter().any(|range| range.contains(&i));
        let power = if on {
            42.0 + 5.0 * noise(&mut rng)
        } else {
            0.4 + 0.05 * noise(&mut rng)
        };
        let pressure = 0.018 * power + if on { 6.8 } else { 0.2 } + 0.02 * noise(&mut rng);
        let oil = if on { 32.0 } else { 18.0 } + noise(&mut rng);
        [power, pressure, oil].map(|x| (x * 1e3).round() / 1e3)
    };
    (0..weeks * WEEK).map(&mut row).collect()
}

fn clocked(more: &[&str]) -> std::sync::Arc<outlierd::config::settings::StreamSettings> {
    let base = [
        "record.fields=[\"power\", \"pressure\", \"oil\"]",
        "model.context=[\"time_of_day\", \"day_of_week\"]",
    ];
    test_stream::stream(&[&base, more].concat())
}

fn anomalies(found: &Outcome) -> Vec<usize> {
    let opened = found.opened(AlertKind::Anomaly);
    opened.into_iter().map(row_of).collect()
}

#[test]
fn a_machine_that_runs_at_the_wrong_hour_is_found_at_once_and_a_weekend_is_no_fault() {
    // A night from 1 to 3, and a Sunday from 10 to 13.
    let night = LEARNED + 5 * DAY + 6..LEARNED + 5 * DAY + 18;
    let sunday = LEARNED + WEEK + 3 * DAY + 60..LEARNED + WEEK + 3 * DAY + 78;
    let rows = compressor(6, &[night.clone(), sunday.clone()], None);
    let found = run(&clocked(&[]), &rows, LEARNED, EVERY);
    let inside = |fault: &Range<usize>| {
        let alerts = found.opened(AlertKind::Anomaly).into_iter();
        alerts
            .filter(|alert| fault.contains(&row_of(alert)))
            .collect::<Vec<_>>()
    };
    for fault in [&night, &sunday] {
        let [alert] = inside(fault)[..] else {
            panic!("{:?}", anomalies(&found))
        };
        assert!(row_of(alert) < fault.start + 3, "{alert:?}");
        let power = alert
            .fields
            .iter()
            .find(|field| field.name == "power")
            .unwrap();
        assert!(power.expected < 3.0, "it is off at that time: {power:?}");
    }
    // The budget of two weeks is four alerts.
    assert!(anomalies(&found).len() <= 2 + 3, "{:?}", anomalies(&found));
    let blind = test_stream::stream(&["record.fields=[\"power\", \"pressure\", \"oil\"]"]);
    let without = run(&blind, &rows, LEARNED, EVERY);
    let met = |fault: &Range<usize>| anomalies(&without).iter().any(|row| fault.contains(row));
    assert!(!(met(&night) && met(&sunday)), "only the clock tells it");
}

#[test]
fn a_holiday_of_the_list_is_a_sunday() {
    // The Friday of the fifth week, 1970-01-30.
    let rows = compressor(5, &[], Some(29));
    let day = 29 * DAY..30 * DAY;
    let outliers = |more: &[&str]| {
        let found = run(&clocked(more), &rows, LEARNED, EVERY);
        let verdicts = found.verdicts[day.clone()].iter();
        verdicts
            .filter(|verdict| **verdict == RecordVerdict::Outlier)
            .count()
    };
    assert!(outliers(&[]) > 60);
    assert!(outliers(&["model.holidays=[\"1970-01-30\"]"]) < 6);
}

/// Power, voltage, energy in all and energy of the day, every five minutes.
fn meter(days: usize, stops: Range<usize>, exchanged: Option<usize>) -> Vec<[f64; 4]> {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (mut total, mut today) = (48_211.0, 0.0);
    let mut row = |i: usize| {
        let hour = (i % 288) as f64 / 12.0;
        let power =
            20.0 + 10.0 * (std::f64::consts::PI * (hour - 6.0) / 12.0).sin() + noise(&mut rng);
        if i.is_multiple_of(288) {
            today = 0.0;
        }
        if !stops.contains(&i) {
            total += power / 12.0;
            today += power / 12.0;
        }
        if exchanged == Some(i) {
            total = 0.0;
        }
        [power, 230.0 + noise(&mut rng), total, today].map(|x| (x * 100.0).round() / 100.0)
    };
    (0..days * 288).map(&mut row).collect()
}

fn metered(rows: &[[f64; 4]]) -> Outcome {
    let fields = "record.fields=[\"power\", \"voltage\", \"energy\", \"energy_today\"]";
    run(&test_stream::stream(&[fields]), rows, 2_880, 300)
}

#[test]
fn a_meter_that_rises_is_normal_for_ever() {
    let rows = meter(24, 0..0, None);
    let found = metered(&rows);
    let alerting = found.verdicts.iter();
    let alerting = alerting
        .filter(|verdict| **verdict == RecordVerdict::Outlier)
        .count();
    assert!(alerting < rows.len() / 50, "{alerting}");
    // The budget of two weeks is four alerts.
    assert!(
        found.opened(AlertKind::Anomaly).len() <= 6,
        "{:?}",
        anomalies(&found)
    );
    assert_eq!(found.opened(AlertKind::OutOfTrainingRange).len(), 0);
    assert_eq!(found.opened(AlertKind::SensorFault).len(), 0);
}

#[test]
fn a_meter_that_stands_still_is_found_and_one_that_is_exchanged_is_named() {
    let stops = 12 * 288..12 * 288 + 200;
    let found = metered(&meter(14, stops.clone(), None));
    let met: Vec<_> = found
        .opened(AlertKind::Anomaly)
        .into_iter()
        .filter(|alert| stops.contains(&row_of(alert)))
        .collect();
    let [alert] = met[..] else {
        panic!("{:?}", anomalies(&found))
    };
    assert!(row_of(alert) < stops.start + 12, "{alert:?}");
    let energy = alert
        .fields
        .iter()
        .find(|field| field.name == "energy")
        .unwrap();
    assert!(
        (0.0..10.0).contains(&(energy.expected - energy.value)),
        "what it should have risen by: {energy:?}"
    );

    let found = metered(&meter(14, 0..0, Some(12 * 288)));
    let [fault] = found.opened(AlertKind::SensorFault)[..] else {
        panic!("{:?}", found.alerts)
    };
    assert_eq!(
        (row_of(fault), fault.faults[0].kind),
        (12 * 288, FaultKind::CounterReset)
    );
    assert_eq!(fault.faults[0].name, "energy");
}
