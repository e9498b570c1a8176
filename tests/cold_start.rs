//! Streams and series that are new: what is missing is told, and what happened before the first
//! start is learned from only.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_stream;
mod two_fields;

use std::borrow::Cow;
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::events::published::EventQueue;
use outlierd::lane::sampler::Sampler;
use outlierd::model::bundle::Bundle;
use outlierd::model::registry::Registry;
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::SeriesTable;
use outlierd::pipeline::status::SeriesStatus;
use outlierd::record::alert::{Alert, AlertEvent};
use outlierd::record::{Batch, EventTime, Record};
use outlierd::retrain::buffer::Admission;
use outlierd::retrain::learner::{Learner, LearnerPhase};
use outlierd::retrain::set::TrainingRow;
use outlierd::state::memory::MemoryStore;

use self::two_fields::{time, values};

fn stream() -> Arc<StreamSettings> {
    two_fields::stream(&["retrain.guard=1s"])
}

fn bundle() -> Bundle {
    two_fields::bundle(&stream(), &["a"])
}

/// Records of the series `a`, one a second, that arrived when they were measured; `shift` is on the
/// second reading.
fn run(
    pipeline: &mut Pipeline,
    table: &mut SeriesTable,
    seconds: std::ops::Range<i64>,
    shift: f64,
) -> Vec<Alert> {
    sampled(pipeline, table, None, seconds, shift)
}

/// The same, and a sampler takes what they come to.
fn sampled(
    pipeline: &mut Pipeline,
    table: &mut SeriesTable,
    mut sampler: Option<&mut Sampler>,
    seconds: std::ops::Range<i64>,
    shift: f64,
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for second in seconds {
        let time = time(second);
        let record = Record {
            message: 0,
            partition: 0,
            offset: second,
            part: None,
            series: Cow::Borrowed("a"),
            time,
            second_time: None,
            arrival: Some(time),
        };
        let batch = Batch {
            records: vec![record],
            values: values(0, second, shift),
            ..Batch::default()
        };
        let done = pipeline
            .run_decoded(batch, table, &mut |_, _| Ok(None))
            .unwrap();
        if let Some(sampler) = &mut sampler {
            sampler.take(pipeline, &done);
        }
        alerts.extend(done.alerts);
    }
    alerts
}

#[test]
fn what_happened_before_the_first_start_is_learned_from_and_not_published() {
    let warm = |until: Option<i64>| {
        let mut pipeline = Pipeline::new(stream(), Some(bundle())).unwrap();
        let mut sampler =
            Sampler::new(stream(), Arc::new(Admission::open()), EventQueue::default());
        until
            .into_iter()
            .for_each(|second| pipeline.intake.warm_up(EventTime(second * 1_000_000)));
        let mut table = SeriesTable::new(10);
        let (mut alerts, mut collected) = (Vec::new(), 0);
        for (seconds, shift) in [
            (1_000..2_000, 0.0),
            (2_000..2_060, 3.0),
            (2_060..2_600, 0.0),
        ] {
            let taken = Some(&mut sampler);
            alerts.extend(sampled(&mut pipeline, &mut table, taken, seconds, shift));
        }
        for run in sampler.take_runs() {
            collected += run.times.len();
        }
        let later = run(&mut pipeline, &mut table, 2_600..2_660, 3.0);
        (alerts.len(), collected, later)
    };
    let (cold, collected, later) = warm(None);
    assert!(cold >= 2 && later[0].event == AlertEvent::Open);
    let (told, learned, after) = warm(Some(2_600));
    assert_eq!(
        (told, learned),
        (0, collected),
        "nothing is told of the history, and as much is learned from it"
    );
    assert_eq!(
        after[0], later[0],
        "the thresholds are those of a stream that has run all the time"
    );
    // A fault that goes on is told when the history is over.
    let (told, _, _) = warm(Some(2_030));
    assert!(told >= 2, "{told}");
}

#[test]
fn a_new_series_says_how_many_records_it_is_missing() {
    let (stream, bundle) = (stream(), bundle());
    let mut pipeline = Pipeline::new(stream.clone(), Some(self::bundle())).unwrap();
    let mut table = SeriesTable::new(10);
    let wanted = stream.threshold.min_records;
    let status = |table: &mut SeriesTable| {
        let slot = table.find(0, "a").unwrap();
        SeriesStatus::new(
            &stream,
            Some(&bundle),
            0,
            "a",
            &table.get_mut(slot).unwrap().state,
        )
    };
    run(&mut pipeline, &mut table, 1_000..1_100, 0.0);
    let young = status(&mut table);
    assert_eq!(
        (young.own_records, young.missing_records),
        (100, wanted - 100)
    );
    assert_eq!(young.newest.as_deref(), Some("1970-01-01T00:18:19Z"));
    assert!((young.gap_s.unwrap() - 1.0).abs() < 0.02 && young.threshold.unwrap() > 0.0);
    let alerts = run(&mut pipeline, &mut table, 1_100..1_150, 3.0);
    assert!(
        alerts[0].provisional && (200..=300).contains(&alerts[0].missing_records),
        "{:?}",
        alerts[0]
    );
    assert!(status(&mut table).anomaly);

    run(&mut pipeline, &mut table, 1_150..2_600, 0.0);
    let grown = status(&mut table);
    assert_eq!((grown.missing_records, grown.anomaly), (0, false));
    let alerts = run(&mut pipeline, &mut table, 2_600..2_650, 3.0);
    assert!(!alerts[0].provisional && alerts[0].missing_records == 0);
    assert!(
        serde_json::to_value(&alerts[0])
            .unwrap()
            .get("missing_records")
            .is_none()
    );
}

/// A learner that has as many records as it wants.
fn ready(folder: &std::path::Path) -> (Arc<Registry>, Arc<Learner>) {
    let (stream, registry) = (stream(), Arc::new(Registry::open(folder).unwrap()));
    let learner = Learner::open(
        stream.clone(),
        registry.clone(),
        Arc::new(MemoryStore::default()),
    )
    .unwrap();
    // Readings that swing slowly: as many records as are wanted at least do not cover them.
    let mut s = 0;
    while let LearnerPhase::Collecting { done, .. } = learner.phase() {
        assert_eq!(done as i64, s);
        assert!(done < 10_000);
        learner.add(
            0,
            s,
            TrainingRow {
                series: "a".into(),
                time: time(s),
                values: values(0, s, 0.0),
                image: None,
            },
        );
        s += 1;
    }
    assert!(s > stream.training.records as i64);
    (registry, learner)
}

#[test]
fn the_machine_that_owns_partition_0_trains_the_first_model_and_the_others_wait_for_it() {
    let [a, b] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let ((first, leader), (second, other)) = (ready(a.path()), ready(b.path()));
    other.train_if_ready(false);
    assert_eq!(
        (other.phase(), other.is_training()),
        (LearnerPhase::Training, true)
    );
    leader.train_if_ready(true);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let id = loop {
        if let LearnerPhase::Live(id) = leader.phase() {
            break id;
        }
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    };
    assert_eq!(
        second.current("s").unwrap(),
        None,
        "the other has trained none"
    );
    // Its bundle comes by the shared topics.
    second
        .import_bundle("s", &id, &first.files("s", &id).unwrap())
        .unwrap();
    second
        .promote("s", &id, "the first one, on another machine")
        .unwrap();
    other.follow(&id);
    assert_eq!(other.phase(), LearnerPhase::Live(id));
    other.train_if_ready(true);
    assert!(matches!(other.phase(), LearnerPhase::Live(_)));
}

#[test]
fn a_bundle_of_another_window_is_refused() {
    for wanted in [4, 8] {
        let window = format!("window={wanted}");
        let stream = two_fields::stream(&[&window]);
        let bundle = bundle();
        let id = bundle.id().to_owned();
        let refused = Pipeline::new(stream, Some(bundle)).map(drop);
        let told = refused.unwrap_err().to_string();
        let says = [
            &*id,
            "windows of 1 records",
            &format!("window = {wanted}"),
            "train",
        ];
        assert!(says.iter().all(|part| told.contains(part)), "{told}");
    }
}
