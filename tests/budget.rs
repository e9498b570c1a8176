//! The alert budget of a series: alerts beyond it are provisional and correct its thresholds, each
//! correction is told and taken back, and none silences a true fault.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_stream;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use outlierd::events::published::{Event, EventQueue, PublishedEvent};
use outlierd::lane::sampler::Sampler;
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::SeriesTable;
use outlierd::record::alert::{Alert, AlertEvent};
use outlierd::record::feedback::{Feedback, FeedbackEffect, FeedbackLabel};
use outlierd::record::row::CorrectionReason;
use outlierd::record::{Batch, EventTime, Record};
use outlierd::retrain::buffer::Admission;
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::{TrainingRow, TrainingSet};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

fn time(second: i64) -> EventTime {
    EventTime(second * 1_000_000)
}

/// Two readings that follow one cause, with a shift of the second; as random as real noise, since the
/// charts would learn any other.
fn values(series: usize, second: i64, shift: f64) -> [f64; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(second as u64 * 6 + series as u64);
    let mut noise = || rng.random_range(-0.2..0.2) + rng.random_range(-0.2..0.2);
    let cause = (second as f64 / 40.0 + series as f64).sin() + noise();
    [cause + noise(), 2.0 * cause + noise() + shift]
}

const SERIES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Six series that have run for 2,000 s with a model of all of them.
struct Plant {
    pipeline: Pipeline,
    table: SeriesTable,
    sampler: Sampler,
    published: Receiver<PublishedEvent>,
    second: i64,
}

impl Plant {
    fn new() -> Self {
        let stream = test_stream::stream(&[
            "record.fields=[\"x\", \"y\"]",
            "model.kind=linear",
            "model.latent=1",
            "threshold.min_records=500",
        ]);
        let row = |(second, (number, name)): (i64, (usize, &&str))| TrainingRow {
            series: (*name).into(),
            time: time(second),
            values: values(number, second, 0.0).into(),
            image: None,
        };
        let series = |second| SERIES.iter().enumerate().map(move |of| (second, of));
        let rows = TrainingSet::new((0..1_000).flat_map(series).map(row));
        let bundle = learn(&stream, &rows, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let (events, published) = EventQueue::new();
        let mut plant = Self {
            pipeline: Pipeline::new(stream.clone(), Some(bundle)).unwrap(),
            table: SeriesTable::new(100),
            sampler: Sampler::new(stream, Arc::new(Admission::open()), events),
            published,
            second: 1_000,
        };
        plant.run(2_000, &[0.0; 6]);
        plant
    }

    /// So many seconds, with a shift of the second reading of each series.
    fn run(&mut self, seconds: i64, shifts: &[f64; 6]) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for second in self.second..self.second + seconds {
            let record = |(number, name): (usize, &&'static str)| Record {
                message: number,
                partition: 0,
                offset: second * 6 + number as i64,
                part: None,
                series: Cow::Borrowed(*name),
                time: time(second),
                second_time: None,
                arrival: Some(time(second)),
            };
            let batch = Batch {
                records: SERIES.iter().enumerate().map(record).collect(),
                values: (0..6).flat_map(|n| values(n, second, shifts[n])).collect(),
                ..Batch::default()
            };
            let done = self
                .pipeline
                .run_decoded(batch, &mut self.table, &mut |_, _| Ok(None))
                .unwrap();
            self.sampler.take(&self.pipeline, &done);
            alerts.extend(done.alerts);
        }
        self.second += seconds;
        alerts
    }

    /// Feedback on an alert of the first series.
    fn feedback(&mut self, alert: &Alert, label: FeedbackLabel) {
        let at = alert.time.parse().unwrap();
        let feedback = Feedback {
            stream: alert.stream.clone(),
            label,
            series: alert.series.clone(),
            alert: Some(alert.id.clone()),
            from: at,
            until: at,
            records: None,
            peak_score: alert.score,
            bundle: Some(alert.bundle.clone()),
            at,
            note: None,
        };
        let slot = self.table.known_slot(0, "a", &mut |_, _| Ok(None)).unwrap();
        let slot = self.table.get_mut(slot.unwrap()).unwrap();
        let applied = self
            .pipeline
            .detector
            .apply_feedback(&mut slot.state, &feedback);
        assert_eq!(applied, FeedbackEffect::Applied);
    }

    /// The corrections since the last call.
    fn corrections(&self) -> Vec<(String, f64, f64, CorrectionReason)> {
        let corrected = |published: PublishedEvent| match published.event {
            Event::ThresholdsCorrected {
                series,
                from,
                to,
                reason,
            } => Some((series, from, to, reason)),
            _ => None,
        };
        self.published.try_iter().filter_map(corrected).collect()
    }
}

fn of(alerts: &[Alert], event: AlertEvent) -> Vec<&Alert> {
    alerts.iter().filter(|alert| alert.event == event).collect()
}

/// A shift of the first series alone whose alert lies above the threshold, but not far.
const SMALL: [f64; 6] = [0.4, 0.0, 0.0, 0.0, 0.0, 0.0];

#[test]
fn alerts_beyond_the_budget_are_provisional_and_raise_the_thresholds() {
    let mut plant = Plant::new();
    let mut opened = Vec::new();
    for _ in 0..4 {
        let mut alerts = plant.run(100, &SMALL);
        alerts.extend(plant.run(900, &[0.0; 6]));
        let open = of(&alerts, AlertEvent::Open);
        assert_eq!(open.len(), 1, "{alerts:?}");
        let peaks = alerts.iter().filter_map(|alert| alert.peak_ratio);
        let peak = peaks.fold(0.0, f64::max);
        assert!(
            peak < 2.4,
            "the alert is one that a correction may avoid: {peak}"
        );
        opened.push(open[0].provisional);
    }
    assert_eq!(opened, [false, false, true, true]);
    let corrections = plant.corrections();
    let reasons: Vec<_> = corrections
        .iter()
        .map(|(_, _, _, reason)| *reason)
        .collect();
    assert_eq!(
        reasons,
        [CorrectionReason::OverBudget; 2],
        "{corrections:?}"
    );
    let (series, from, to, _) = &corrections[0];
    assert_eq!((&**series, *from), ("a", 1.0));
    assert!((to - 0.1f64.exp()).abs() < 1e-6, "{corrections:?}");
}

/// Spends what the first series has saved, and what it saves meanwhile.
fn spend(plant: &mut Plant) {
    for _ in 0..2 {
        plant.run(100, &SMALL);
        plant.run(900, &[0.0; 6]);
    }
    assert_eq!(plant.corrections(), []);
}

#[test]
fn a_correction_that_avoids_nothing_is_taken_back_at_once() {
    let mut plant = Plant::new();
    spend(&mut plant);
    plant.run(30, &SMALL);
    plant.run(70, &[5.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let corrections = plant.corrections();
    let reasons: Vec<_> = corrections
        .iter()
        .map(|(_, _, _, reason)| *reason)
        .collect();
    let both = [CorrectionReason::OverBudget, CorrectionReason::Reverted];
    assert_eq!(reasons, both, "{corrections:?}");
    assert_eq!(corrections[1].2, 1.0, "{corrections:?}");
}

#[test]
fn a_confirmed_alert_costs_nothing() {
    let mut plant = Plant::new();
    spend(&mut plant);
    let alerts = plant.run(100, &SMALL);
    plant.run(900, &[0.0; 6]);
    assert_eq!(plant.corrections().len(), 1);
    plant.feedback(&alerts[0], FeedbackLabel::Confirmed);
    // Paid again, so that the next alert would raise them; the one that is confirmed has not.
    let again = plant.run(100, &SMALL);
    assert!(again[0].provisional, "{again:?}");
    let corrections = plant.corrections();
    assert_eq!(
        (corrections.len(), corrections[0].1),
        (1, 1.0),
        "{corrections:?}"
    );
}

#[test]
fn a_fault_of_the_whole_fleet_is_not_silenced() {
    let mut plant = Plant::new();
    for fault in 0..5 {
        let alerts = plant.run(600, &[0.6; 6]);
        let mut open: Vec<&str> = of(&alerts, AlertEvent::Open)
            .iter()
            .map(|a| &*a.series)
            .collect();
        open.sort_unstable();
        assert_eq!(open, SERIES, "fault {fault}");
        let closed = of(&alerts, AlertEvent::Close);
        assert!(closed.is_empty(), "fault {fault}: {closed:?}");
        let closed = plant.run(900, &[0.0; 6]);
        assert_eq!(
            of(&closed, AlertEvent::Close).len(),
            SERIES.len(),
            "fault {fault}"
        );
    }
    let raised = plant.corrections();
    let raised = raised
        .iter()
        .filter(|(_, _, _, reason)| *reason == CorrectionReason::OverBudget);
    assert!(raised.count() > 0, "the faults went beyond the budget");
}
