//! The self-test: what live series would catch today, from their committed states, and a detector
//! that has gone blind.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_stream;
mod two_fields;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use outlierd::config::settings::StreamSettings;
use outlierd::events::published::{Event, EventQueue, PublishedEvent};
use outlierd::lane::sampler::Sampler;
use outlierd::model::registry::Registry;
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::{SeriesState, SeriesTable};
use outlierd::record::{Batch, Record};
use outlierd::retrain::engine::RetrainEngine;
use outlierd::state::memory::MemoryStore;
use outlierd::state::{Commit, Store, codec};
use outlierd::threshold::SeriesThresholdParams;

use self::two_fields::{time, values};

const SERIES: [&str; 4] = ["a", "b", "c", "d"];

fn stream() -> Arc<StreamSettings> {
    two_fields::stream(&["retrain.guard=1s", "retrain.self_test=5m"])
}

/// Four series that have run for a while, their states committed.
struct Plant {
    models: tempfile::TempDir,
    store: Arc<MemoryStore>,
    engine: RetrainEngine,
    published: Receiver<PublishedEvent>,
}

const NOW: i64 = 3_000;

impl Plant {
    fn new() -> Self {
        let (stream, models) = (stream(), tempfile::tempdir().unwrap());
        let registry = Arc::new(Registry::open(models.path()).unwrap());
        let bundle = two_fields::bundle(&stream, &SERIES);
        bundle.save(registry.root()).unwrap();
        registry.promote("s", bundle.id(), "the first one").unwrap();
        let store = Arc::new(MemoryStore::default());
        let mut engine = RetrainEngine::open(stream.clone(), registry, store.clone()).unwrap();
        let (event_queue, published) = EventQueue::new();
        engine.publish_to(event_queue);
        engine.follow().unwrap();

        let (mut pipeline, mut table) = (
            Pipeline::new(stream.clone(), Some(bundle)).unwrap(),
            SeriesTable::new(10),
        );
        let mut sampler = Sampler::new(stream, engine.admission().clone(), EventQueue::default());
        let all =
            (1_000..NOW).flat_map(|second| (0..SERIES.len()).map(move |series| (series, second)));
        for (number, (series, second)) in all.enumerate() {
            let (offset, name) = (number as i64, Cow::Borrowed(SERIES[series]));
            let record = Record {
                message: 0,
                partition: 0,
                offset,
                part: None,
                series: name,
                time: time(second),
                second_time: None,
                arrival: None,
            };
            let batch = Batch {
                records: vec![record],
                values: values(series, second, 0.0),
                ..Batch::default()
            };
            let done = pipeline
                .run_decoded(batch, &mut table, &mut |_, _| Ok(None))
                .unwrap();
            sampler.take(&pipeline, &done);
        }
        engine.take(sampler.take_runs()).unwrap();
        let states: Vec<_> = table
            .take_dirty()
            .map(|slot| (slot.series.to_string(), slot.state.clone()))
            .collect();
        let plant = Self {
            models,
            store,
            engine,
            published,
        };
        states
            .iter()
            .for_each(|(series, state)| plant.put(series, state));
        plant
    }

    fn put(&self, series: &str, state: &SeriesState) {
        let states = vec![(0, series.to_owned(), Some(codec::encode(state).unwrap()))];
        self.store
            .commit(
                "s",
                &Commit {
                    states,
                    ..Commit::default()
                },
            )
            .unwrap();
    }

    fn state(&self, series: &str) -> SeriesState {
        codec::decode(&self.store.state("s", 0, series).unwrap().unwrap()).unwrap()
    }

    /// Puts every threshold where scores are `scores`.
    fn drive_thresholds(&self, score: f64) {
        let scores = [score; 1_000];
        let bundle = Registry::open(self.models.path())
            .unwrap()
            .load_current("s")
            .unwrap();
        let charts = bundle.unwrap().calibration.charts.len();
        let each = vec![&scores[..]; charts];
        let second = Duration::from_secs(1);
        let plan = SeriesThresholdParams::new(&stream().threshold, second, each.into_iter(), 0.0);
        for series in SERIES {
            let mut state = self.state(series);
            state.scoring.as_mut().unwrap().thresholds = plan.begin(None, false);
            self.put(series, &state);
        }
    }

    /// What was announced since the last call by events.
    fn announced(&self) -> Vec<bool> {
        let of = |event: PublishedEvent| match event.event {
            Event::DetectorHealthChanged { degraded, .. } => Some(degraded),
            _ => None,
        };
        self.published.try_iter().filter_map(of).collect()
    }

    /// What the lane is told, again and again: whether the stream is blind, and since when.
    fn sight(&self) -> Option<(bool, i64)> {
        let sight = self.engine.sight()?;
        Some((sight.degraded, sight.since.0 / 1_000_000))
    }

    /// Starts the engine again from what the store holds.
    fn restart(&mut self) {
        let registry = Arc::new(Registry::open(self.models.path()).unwrap());
        self.engine = RetrainEngine::open(stream(), registry, self.store.clone()).unwrap();
        self.engine.follow().unwrap();
    }
}

#[test]
fn healthy_series_catch_what_they_should_and_nothing_of_theirs_changes() {
    let mut plant = Plant::new();
    let before = SERIES.map(|series| plant.state(series));
    plant.engine.run_self_test(time(NOW)).unwrap();
    assert_eq!(plant.engine.self_test().tested(), SERIES.len());
    for field in 0..2 {
        let size = plant.engine.self_test().detectable(field).unwrap();
        assert!(
            (0.5..=4.0).contains(&size),
            "field {field}: {size} standard deviations"
        );
    }
    assert_eq!(
        SERIES.map(|series| plant.state(series)),
        before,
        "it is a shadow of them that is tested"
    );
    assert_eq!(plant.announced(), [true; 0]);
    assert_eq!(plant.sight(), Some((false, NOW)));
    // Not due again so soon.
    plant.drive_thresholds(1e6);
    plant.engine.run_self_test(time(NOW + 60)).unwrap();
    assert_eq!(plant.announced(), [true; 0]);
    assert_eq!(plant.sight(), Some((false, NOW)));
}

#[test]
fn a_stream_whose_thresholds_were_driven_up_is_blind_once_and_sees_again_once() {
    let mut plant = Plant::new();
    let healthy = SERIES.map(|series| plant.state(series));
    plant.drive_thresholds(1e6);
    for at in [NOW - 1_210, NOW - 905] {
        plant.engine.run_self_test(time(at)).unwrap();
    }
    assert_eq!(plant.announced(), [true]);
    let began = NOW - 1_210;
    assert_eq!(plant.sight(), Some((true, began)));
    // A process that was killed before its lane published that says it again, of the same moment.
    plant.restart();
    assert_eq!(plant.sight(), None, "nothing is tested yet");
    plant.engine.run_self_test(time(NOW - 604)).unwrap();
    assert_eq!(plant.sight(), Some((true, began)));
    SERIES
        .iter()
        .zip(&healthy)
        .for_each(|(series, state)| plant.put(series, state));
    plant.engine.run_self_test(time(NOW - 303)).unwrap();
    assert_eq!(plant.sight(), Some((false, NOW - 303)));
    // And so does one that was killed before the end was published.
    plant.restart();
    plant.engine.run_self_test(time(NOW - 2)).unwrap();
    assert_eq!(plant.sight(), Some((false, NOW - 2)));
}

#[test]
fn a_series_with_an_open_alert_or_of_long_ago_tells_nothing() {
    let mut plant = Plant::new();
    // An hour later all of them are silent.
    plant.engine.run_self_test(time(NOW + 3_600)).unwrap();
    assert_eq!(
        (
            plant.engine.self_test().tested(),
            plant.engine.self_test().detectable(0)
        ),
        (0, None)
    );
}
