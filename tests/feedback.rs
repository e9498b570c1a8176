//! What operators say of alerts: what thresholds, buffer, proofs and bundles make of it.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_stream;
mod two_fields;

use std::borrow::Cow;
use std::sync::Arc;

use outlierd::model::registry::{Registry, learned_from};
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::SeriesTable;
use outlierd::record::alert::{Alert, AlertEvent};
use outlierd::record::feedback::{Feedback, FeedbackEffect, FeedbackLabel, RecordRange};
use outlierd::record::{Batch, Record, RecordOutcome};
use outlierd::retrain::engine::{LabeledFeedback, RetrainEngine, is_known};
use outlierd::retrain::set::{RecordRun, TrainingRow};
use outlierd::state::Store;
use outlierd::state::memory::MemoryStore;

use self::two_fields::{stream, time, values};

const SERIES: &str = "a";
const LEARNED: i64 = 1_000;

/// A machine whose model is live; offsets are seconds.
struct Machine {
    _models: tempfile::TempDir,
    registry: Arc<Registry>,
    store: Arc<MemoryStore>,
    engine: RetrainEngine,
    pipeline: Pipeline,
    table: SeriesTable,
    now: i64,
}

impl Machine {
    fn new() -> Self {
        let (stream, models) = (stream(&[]), tempfile::tempdir().unwrap());
        let registry = Arc::new(Registry::open(models.path()).unwrap());
        let bundle = two_fields::bundle(&stream, &[SERIES]);
        bundle.save(registry.root()).unwrap();
        registry.promote("s", bundle.id(), "the first one").unwrap();
        let store = Arc::new(MemoryStore::default());
        let mut engine =
            RetrainEngine::open(stream.clone(), registry.clone(), store.clone()).unwrap();
        engine.follow().unwrap();
        let pipeline = Pipeline::new(stream, Some(bundle)).unwrap();
        let table = SeriesTable::new(10);
        Self {
            _models: models,
            registry,
            store,
            engine,
            pipeline,
            table,
            now: LEARNED,
        }
    }

    /// The engine after a restart.
    fn restart(&mut self) {
        self.engine =
            RetrainEngine::open(stream(&[]), self.registry.clone(), self.store.clone()).unwrap();
        self.engine.follow().unwrap();
    }

    fn run(&mut self, seconds: i64, shift: f64) -> (Vec<Alert>, Vec<RecordOutcome>) {
        let (mut alerts, mut outcomes) = (Vec::new(), Vec::new());
        for second in self.now..self.now + seconds {
            let mut batch = Batch::default();
            let (series, time) = (Cow::Borrowed(SERIES), time(second));
            batch.records.push(Record {
                message: 0,
                partition: 0,
                offset: second,
                part: None,
                series,
                time,
                second_time: None,
                arrival: None,
            });
            batch.values.extend(values(0, second, shift));
            let done = self
                .pipeline
                .run_decoded(batch, &mut self.table, &mut |_, _| Ok(None))
                .unwrap();
            alerts.extend(done.alerts);
            outcomes.extend(done.outcomes);
        }
        self.now += seconds;
        (alerts, outcomes)
    }

    /// What the lane does with what an operator says.
    fn apply_feedback(&mut self, feedback: &Feedback) -> FeedbackEffect {
        let slot = self
            .table
            .known_slot(0, SERIES, &mut |_, _| Ok(None))
            .unwrap()
            .unwrap();
        self.pipeline
            .detector
            .apply_feedback(&mut self.table.get_mut(slot).unwrap().state, feedback)
    }
}

fn opened(alerts: &[Alert]) -> usize {
    alerts
        .iter()
        .filter(|alert| alert.event == AlertEvent::Open)
        .count()
}

/// What is said of the seconds of an alert.
fn feedback(label: FeedbackLabel, from: i64, until: i64) -> Feedback {
    let at = |second: i64| jiff::Timestamp::from_second(second).unwrap();
    Feedback {
        stream: "s".into(),
        label,
        series: SERIES.into(),
        alert: Some(format!("alert-{from}")),
        from: at(from),
        until: at(until),
        records: Some(RecordRange {
            partition: 0,
            first: from,
            last: until,
        }),
        peak_score: None,
        bundle: None,
        at: at(until),
        note: None,
    }
}

/// The same with the records of those seconds, and a hundred before.
fn labeled(label: FeedbackLabel, from: i64, until: i64) -> LabeledFeedback {
    let row = |second: i64| {
        let shift = if second < from { 0.0 } else { 1.0 };
        (
            second,
            TrainingRow {
                series: SERIES.into(),
                time: time(second),
                values: values(0, second, shift),
                image: None,
            },
        )
    };
    LabeledFeedback {
        feedback: feedback(label, from, until),
        records: (from - 100..=until).map(row).collect(),
    }
}

fn normal_run(from: i64) -> RecordRun {
    let seconds = || from..from + 60;
    RecordRun {
        series: SERIES.into(),
        offset: from,
        times: seconds().map(time).collect(),
        values: seconds()
            .flat_map(|second| values(0, second, 0.0))
            .collect(),
        scores: vec![1.0; 60],
        ..RecordRun::default()
    }
}

#[test]
fn a_false_alarm_does_not_come_again_and_a_larger_one_does() {
    let mut machine = Machine::new();
    assert_eq!(opened(&machine.run(600, 0.0).0), 0);
    let began = machine.now;
    let (alerts, outcomes) = machine.run(60, 0.4);
    assert_eq!(opened(&alerts), 1);
    let peak = outcomes
        .iter()
        .filter_map(|o| o.scored.as_ref())
        .map(|s| s.score)
        .fold(0.0, f64::max);
    machine.run(300, 0.0);
    let bundle = machine
        .pipeline
        .detector
        .bundle_id()
        .map(ToString::to_string);
    let said = Feedback {
        peak_score: Some(peak),
        bundle,
        ..feedback(FeedbackLabel::FalseAlarm, began, began + 60)
    };
    assert_eq!(machine.apply_feedback(&said), FeedbackEffect::Applied);
    let threshold = |outcomes: &[RecordOutcome]| outcomes.last().unwrap().threshold.unwrap();
    let lifted = threshold(&machine.run(1, 0.0).1);
    assert_eq!(machine.apply_feedback(&said), FeedbackEffect::Applied);
    assert!(
        (threshold(&machine.run(1, 0.0).1) / lifted - 1.0).abs() < 0.01,
        "saying it twice lifts no further"
    );
    machine.run(298, 0.0);
    assert_eq!(opened(&machine.run(60, 0.4).0), 0, "the same again");
    machine.run(300, 0.0);
    assert_eq!(opened(&machine.run(60, 3.0).0), 1, "but no other");

    // Said of another bundle's score it means nothing.
    let mut other = Machine::new();
    other.run(600, 0.0);
    let before = threshold(&other.run(1, 0.0).1);
    let of_another = Feedback {
        bundle: Some("another one".into()),
        ..said.clone()
    };
    assert_eq!(other.apply_feedback(&of_another), FeedbackEffect::Nothing);
    assert!((threshold(&other.run(1, 0.0).1) / before - 1.0).abs() < 0.01);

    // On a machine that its bundle has not reached yet it waits.
    other.pipeline = Pipeline::new(stream(&[]), None).unwrap();
    assert_eq!(other.apply_feedback(&said), FeedbackEffect::Later);
}

#[test]
fn a_new_normal_is_the_baseline_at_once() {
    let mut machine = Machine::new();
    machine.run(600, 0.0);
    let began = machine.now;
    let (alerts, _) = machine.run(100, 1.5);
    assert_eq!(opened(&alerts), 1);
    machine.apply_feedback(&feedback(FeedbackLabel::NewNormal, began, machine.now));
    let (alerts, outcomes) = machine.run(100, 1.5);
    assert!(
        alerts.iter().any(|alert| alert.event == AlertEvent::Close),
        "the alert is over: {alerts:?}"
    );
    assert!(!outcomes.last().unwrap().alerting);
    assert_eq!(opened(&machine.run(600, 1.5).0), 0);
}

#[test]
fn records_of_a_false_alarm_are_kept_to_learn_from_and_outlast_others() {
    let mut machine = Machine::new();
    machine
        .engine
        .learn_from(&labeled(FeedbackLabel::FalseAlarm, 5_000, 5_040))
        .unwrap();
    let labeled_normal: Vec<&RecordRun> = machine
        .engine
        .buffer()
        .runs()
        .filter(|run| run.labeled_normal)
        .collect();
    assert_eq!(
        (
            labeled_normal.len(),
            labeled_normal[0].from(),
            labeled_normal[0].times.len()
        ),
        (1, time(5_000), 41)
    );
    // More normal traffic than there is room for.
    let full = stream(&[]).retrain.records as i64 / 60 + 50;
    machine
        .engine
        .take((0..full).map(|n| normal_run(6_000 + n * 64)).collect())
        .unwrap();
    assert!(machine.engine.buffer().runs().any(|run| run.labeled_normal));
    // It was a fault after all.
    machine
        .engine
        .learn_from(&labeled(FeedbackLabel::Confirmed, 5_000, 5_040))
        .unwrap();
    assert!(!machine.engine.buffer().runs().any(|run| run.labeled_normal));
}

#[test]
fn it_is_taken_to_heart_once_and_the_last_word_counts() {
    let mut machine = Machine::new();
    let confirmed = labeled(FeedbackLabel::Confirmed, 5_000, 5_040);
    assert!(!is_known(&*machine.store, &confirmed.feedback).unwrap());
    machine.engine.learn_from(&confirmed).unwrap();
    assert!(is_known(&*machine.store, &confirmed.feedback).unwrap());
    let kept = |machine: &Machine| machine.store.notes("s", "confirmed/").unwrap().len();
    machine.restart();
    assert_eq!(kept(&machine), 1);
    let changed = labeled(FeedbackLabel::Expected, 5_000, 5_040);
    assert!(!is_known(&*machine.store, &changed.feedback).unwrap());
    machine.engine.learn_from(&changed).unwrap();
    assert_eq!(kept(&machine), 0, "it was no fault");
    let without = LabeledFeedback {
        records: Vec::new(),
        ..confirmed
    };
    machine.engine.learn_from(&without).unwrap();
    assert_eq!(kept(&machine), 0, "the input no longer has its records");
}

#[test]
fn what_is_marked_leaves_the_buffer_stays_out_and_names_the_bundles_that_ate_it() {
    let mut machine = Machine::new();
    machine
        .engine
        .take(vec![normal_run(2_000), normal_run(2_064)])
        .unwrap();
    machine
        .engine
        .learn_from(&labeled(FeedbackLabel::MarkRange, 2_030, 2_079))
        .unwrap();
    let seconds = |machine: &Machine| -> Vec<i64> {
        let mut all: Vec<i64> = machine
            .engine
            .buffer()
            .runs()
            .flat_map(|run| &run.times)
            .map(|t| t.0 / 1_000_000)
            .collect();
        all.sort_unstable();
        all
    };
    let left: Vec<i64> = (2_000..2_030).chain(2_080..2_124).collect();
    assert_eq!(seconds(&machine), left);
    // The collector hands out what had waited, after a restart.
    machine.restart();
    machine.engine.take(vec![normal_run(2_064)]).unwrap();
    assert_eq!(seconds(&machine), left);
    let bundle = machine.registry.load_current("s").unwrap().unwrap();
    let ate = |machine: &Machine| {
        learned_from(
            &bundle.manifest,
            &machine
                .registry
                .excluded_ranges("s")
                .unwrap()
                .read()
                .unwrap(),
        )
        .count()
    };
    assert_eq!(ate(&machine), 0, "it has learned from earlier ones");
    machine
        .engine
        .learn_from(&labeled(FeedbackLabel::MarkRange, 100, 110))
        .unwrap();
    assert_eq!(ate(&machine), 1);
}
