//! Retraining from end to end on simulated pumps: what is kept, who goes live, who does not, and
//! the way back.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod proof;
mod swap;
#[path = "../test_stream/mod.rs"]
mod test_stream;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use outlierd::config::settings::{StreamSettings, WeightInit};
use outlierd::events::published::EventQueue;
use outlierd::lane::sampler::Sampler;
use outlierd::model::bundle::Bundle;
use outlierd::model::calibration::Calibration;
use outlierd::model::network::Network;
use outlierd::model::registry::Registry;
use outlierd::model::shape::ModelShape;
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::SeriesTable;
use outlierd::record::alert::{Alert, AlertEvent, AlertKind};
use outlierd::record::{Batch, EventTime, Record};
use outlierd::retrain::engine::RetrainEngine;
use outlierd::retrain::error::RetrainError;
use outlierd::retrain::inject::{InjectedFault, InjectedFaultKind, inject};
use outlierd::retrain::learn::learn;
use outlierd::retrain::proof::{ConfirmedFault, Contenders, EvaluationInput};
use outlierd::retrain::schedule::RetrainReason;
use outlierd::retrain::set::{RecordRun, TrainingRow, TrainingSet};
use outlierd::retrain::trial::Sequence;
use outlierd::retrain::verdict::{PromotionVerdict, TestName, VERDICT};
use outlierd::sim::fleet::{Fleet, FleetPlan};
use outlierd::sim::sensor::{SENSORS, Sensor};
use outlierd::state::memory::MemoryStore;
use rand::SeedableRng as _;

const PUMPS: usize = 3;
/// Steps that the first model learns from: one of the plant's days.
const LEARNED: usize = 3_600;
/// Steps of normal traffic after that.
const KEPT: usize = 3_600;

fn stream() -> StreamSettings {
    let fields: Vec<&str> = Sensor::ALL.iter().map(|sensor| sensor.as_str()).collect();
    let own: [&str; 8] = [
        &format!("record.fields={fields:?}"),
        &format!("training.records={}", LEARNED * PUMPS / 2),
        "training.epochs=6",
        "model.linear_unless_better=false",
        "training.folds=2",
        "retrain.guard=30s",
        "retrain.half_life=1d",
        "retrain.records=12000",
    ];
    test_stream::named("pumps", &own)
}

/// A plant whose records are fed to a pipeline.
struct Plant {
    fleet: Fleet,
    plan: FleetPlan,
    table: SeriesTable,
    /// Takes what the records come to.
    sampler: Option<Sampler>,
}

impl Plant {
    fn new() -> Self {
        let plan = FleetPlan {
            pumps: PUMPS,
            ..FleetPlan::default()
        };
        Self {
            fleet: Fleet::new(plan.clone(), &[]),
            plan,
            table: SeriesTable::new(100),
            sampler: None,
        }
    }

    /// Runs `steps` steps, whose readings `change` may change; returns what was learned and the
    /// alerts.
    fn run(
        &mut self,
        pipeline: &mut Pipeline,
        steps: usize,
        change: impl Fn(usize, &mut [f64]),
    ) -> (Vec<TrainingRow>, Vec<Alert>, EventTime) {
        let (mut learned, mut alerts, mut now) = (Vec::new(), Vec::new(), EventTime(0));
        for _ in 0..steps {
            let step = self.fleet.step();
            now = self.plan.time_of(step);
            let mut batch = Batch::default();
            for (pump, reading) in self.fleet.readings().enumerate() {
                let (offset, series) = (
                    (step as usize * PUMPS + pump) as i64,
                    Cow::Owned(FleetPlan::name_of(pump)),
                );
                batch.records.push(Record {
                    message: pump,
                    partition: 0,
                    offset,
                    part: None,
                    series,
                    time: now,
                    second_time: None,
                    arrival: None,
                });
                let mut values = *reading.values;
                change(pump, &mut values);
                batch.values.extend(values);
            }
            let done = pipeline
                .run_decoded(batch, &mut self.table, &mut |_, _| Ok(None))
                .unwrap();
            if let Some(sampler) = &mut self.sampler {
                sampler.take(pipeline, &done);
            }
            learned.extend(done.training_rows().map(|(_, row)| row));
            alerts.extend(done.alerts);
        }
        (learned, alerts, now)
    }
}

/// A champion, and normal traffic that came after it had learned.
struct Fixture {
    models: tempfile::TempDir,
    champion: String,
    runs: Vec<RecordRun>,
    now: EventTime,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let stream = Arc::new(stream());
        let models = tempfile::tempdir().unwrap();
        let registry = Arc::new(Registry::open(models.path()).unwrap());
        let engine = RetrainEngine::open(
            stream.clone(),
            registry.clone(),
            Arc::new(MemoryStore::default()),
        )
        .unwrap();
        let (mut plant, mut pipeline) =
            (Plant::new(), Pipeline::new(stream.clone(), None).unwrap());
        let admission = engine.admission().clone();
        plant.sampler = Some(Sampler::new(
            stream.clone(),
            admission,
            EventQueue::default(),
        ));
        let (learned, ..) = plant.run(&mut pipeline, LEARNED, |_, _| {});
        let bundle = learn(&stream, &TrainingSet::new(learned), None, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        bundle.save(registry.root()).unwrap();
        registry
            .promote("pumps", bundle.id(), "the first one")
            .unwrap();
        let champion = bundle.id().to_owned();
        pipeline.swap(Some(bundle)).unwrap();
        let (_, _, now) = plant.run(&mut pipeline, KEPT, |_, _| {});
        let runs = plant.sampler.as_mut().unwrap().take_runs();
        Fixture {
            models,
            champion,
            runs,
            now,
        }
    })
}

/// A registry of the test's own with the champion live, and an engine on it.
fn engine(
    stream: &Arc<StreamSettings>,
    folder: &Path,
    store: &Arc<MemoryStore>,
) -> (Arc<Registry>, RetrainEngine) {
    let fixture = fixture();
    let registry = Arc::new(Registry::open(folder).unwrap());
    champion().save(registry.root()).unwrap();
    registry
        .promote("pumps", &fixture.champion, "the first one")
        .unwrap();
    let mut engine = RetrainEngine::open(stream.clone(), registry.clone(), store.clone()).unwrap();
    engine.follow().unwrap();
    (registry, engine)
}

fn champion() -> Bundle {
    Bundle::load(
        &fixture()
            .models
            .path()
            .join("pumps")
            .join(&fixture().champion),
    )
    .unwrap()
}

fn assert_champion_is_live(registry: &Registry) {
    let live = registry.current("pumps").unwrap();
    assert_eq!(live.as_ref(), Some(&fixture().champion));
}

fn challenge(engine: &mut RetrainEngine) -> Result<PromotionVerdict, RetrainError> {
    engine.challenge(RetrainReason::Command, fixture().now, &mut || {
        ControlFlow::Continue(())
    })
}

fn kept(registry: &Registry, id: &str) -> Option<PromotionVerdict> {
    PromotionVerdict::read(registry, "pumps", id).unwrap()
}

#[test]
fn normal_traffic_of_all_series_is_kept_and_survives_a_restart() {
    let (stream, dir, store) = (
        Arc::new(stream()),
        tempfile::tempdir().unwrap(),
        Arc::new(MemoryStore::default()),
    );
    let (registry, mut engine) = engine(&stream, dir.path(), &store);
    engine.take(fixture().runs.clone()).unwrap();
    assert_eq!(engine.buffer().series(), PUMPS);
    assert!(
        engine.buffer().len() > KEPT * PUMPS * 3 / 4,
        "{} of {}",
        engine.buffer().len(),
        KEPT * PUMPS
    );
    assert!(engine.due(fixture().now).unwrap().is_none());
    let (plan, runs) = (
        engine.schedule().clone(),
        engine.buffer().runs().cloned().collect::<Vec<_>>(),
    );
    let again = RetrainEngine::open(stream, registry, store).unwrap();
    assert_eq!(
        (
            again.schedule(),
            again.buffer().runs().cloned().collect::<Vec<_>>()
        ),
        (&plan, runs)
    );
}

#[test]
fn a_challenger_that_proves_itself_goes_live_and_the_same_traffic_makes_the_same_one() {
    let (stream, dir) = (Arc::new(stream()), tempfile::tempdir().unwrap());
    let (registry, mut engine) = engine(&stream, dir.path(), &Arc::new(MemoryStore::default()));
    engine.take(fixture().runs.clone()).unwrap();
    let verdict = challenge(&mut engine).unwrap();
    assert!(verdict.passed, "{:#?}", verdict.tests);
    assert_eq!(verdict.champion, fixture().champion);
    assert_eq!(
        registry.current("pumps").unwrap(),
        Some(verdict.challenger.clone())
    );
    assert_eq!(
        kept(&registry, &verdict.challenger).as_ref(),
        Some(&verdict),
        "it is kept as a file"
    );
    let manifest = registry
        .load("pumps", &verdict.challenger)
        .unwrap()
        .manifest;
    let learned = manifest
        .origin
        .learned_from
        .iter()
        .map(|segment| segment.until)
        .max()
        .unwrap();
    assert!(
        learned < verdict.held_out.from,
        "it has not learned from what it is tried on"
    );
    // Every field has a fault of every kind that is found, for a plant as regular as this one.
    let shifts = verdict
        .sensitivity
        .iter()
        .filter(|s| s.kind == InjectedFaultKind::LevelShift);
    assert_eq!(
        shifts.filter(|s| s.smallest.is_some()).count(),
        SENSORS,
        "{:?}",
        verdict.sensitivity
    );

    let other = tempfile::tempdir().unwrap();
    let (_, mut twin) = self::engine(&stream, other.path(), &Arc::new(MemoryStore::default()));
    twin.take(fixture().runs.iter().rev().cloned().collect())
        .unwrap();
    assert_eq!(challenge(&mut twin).unwrap().challenger, verdict.challenger);
    let again = challenge(&mut twin).unwrap_err();
    assert!(
        matches!(&again, RetrainError::Unchanged { bundle } if *bundle == verdict.challenger),
        "it is not tested against itself: {again}"
    );
}

#[test]
fn a_warm_challenger_starts_from_the_champion() {
    let mut warm = stream();
    warm.retrain.initial_weights = WeightInit::Warm;
    // It cannot learn a thing: what it knows is what it started with.
    (warm.training.epochs, warm.training.learning_rate) = (1, 1e-9);
    let set = TrainingSet::of_runs(&fixture().runs);
    let go_on = &mut |_: &_| ControlFlow::Continue(());
    let champion = champion();
    let mut loss = |start| {
        learn(&warm, &set, start, go_on)
            .unwrap()
            .manifest
            .origin
            .metrics
            .holdout_loss
            .unwrap()
    };
    let (warm, fresh) = (loss(Some(&champion)), loss(None));
    assert!(warm < 0.5 * fresh, "{warm} {fresh}");
}

#[test]
fn a_bundle_that_raises_more_alerts_than_it_promised_goes_back() {
    let (stream, dir, store) = (
        Arc::new(stream()),
        tempfile::tempdir().unwrap(),
        Arc::new(MemoryStore::default()),
    );
    let (registry, mut engine) = engine(&stream, dir.path(), &store);
    engine.take(fixture().runs.clone()).unwrap();
    let verdict = challenge(&mut engine).unwrap();
    assert!(verdict.passed);
    engine.admission().count(1, 0.5);
    assert!(
        !engine.probe(fixture().now).unwrap(),
        "one alert is nothing to go back for"
    );
    engine.admission().count(30, 0.5);
    assert!(engine.probe(fixture().now).unwrap());
    assert_champion_is_live(&registry);
    assert!(
        registry
            .history("pumps")
            .unwrap()
            .entries()
            .unwrap()
            .last()
            .unwrap()
            .why
            .starts_with("automatic rollback")
    );
    // The same traffic makes the same challenger: it is not let in again by itself, after a restart
    // neither.
    drop(engine);
    let mut engine = RetrainEngine::open(stream, registry.clone(), store).unwrap();
    engine.follow().unwrap();
    assert_eq!(
        challenge(&mut engine).unwrap().challenger,
        verdict.challenger
    );
    assert_champion_is_live(&registry);
}

#[test]
fn a_pinned_bundle_stays() {
    let (stream, dir) = (Arc::new(stream()), tempfile::tempdir().unwrap());
    let (registry, mut engine) = engine(&stream, dir.path(), &Arc::new(MemoryStore::default()));
    registry.flags("pumps").unwrap().pin(true).unwrap();
    engine.take(fixture().runs.clone()).unwrap();
    assert!(challenge(&mut engine).unwrap().passed);
    assert_champion_is_live(&registry);
}

#[test]
fn too_little_traffic_makes_no_challenger() {
    let (stream, dir) = (Arc::new(stream()), tempfile::tempdir().unwrap());
    let (_, mut engine) = engine(&stream, dir.path(), &Arc::new(MemoryStore::default()));
    engine.take(fixture().runs[..5].to_vec()).unwrap();
    let error = challenge(&mut engine).unwrap_err();
    assert!(matches!(error, RetrainError::TooFew { .. }), "{error}");
}

#[test]
fn a_training_that_is_broken_off_leaves_the_live_bundle_and_is_due_again() {
    // A challenger that went live would be the champion of the next trainings, and the same.
    let mut kept = stream();
    kept.retrain.promote = false;
    let (stream, dir, store) = (
        Arc::new(kept),
        tempfile::tempdir().unwrap(),
        Arc::new(MemoryStore::default()),
    );
    let (registry, mut engine) = engine(&stream, dir.path(), &store);
    engine.take(fixture().runs.clone()).unwrap();
    let mut all = 0;
    let counted = engine.challenge(RetrainReason::Command, fixture().now, &mut || {
        all += 1;
        ControlFlow::Continue(())
    });
    assert!(counted.unwrap().passed);
    let live = fixture().champion.clone();
    // In the first epoch, and in the last part of the proof: both end at once.
    for at in [1, all] {
        let mut asked = 0;
        let broken = engine.challenge(RetrainReason::Command, fixture().now, &mut || {
            asked += 1;
            if asked >= at {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert!(matches!(broken, Err(RetrainError::Cancelled)), "{broken:?}");
        assert_eq!(
            (asked, registry.current("pumps").unwrap().as_deref()),
            (at, Some(live.as_str()))
        );
    }
    assert!(
        engine.due(fixture().now).unwrap().is_none(),
        "its time began with it"
    );
    engine.put_off(fixture().now).unwrap();
    let mut again = RetrainEngine::open(stream, registry, store).unwrap();
    again.follow().unwrap();
    assert_eq!(
        again.due(fixture().now).unwrap(),
        Some(RetrainReason::Period),
        "after a restart too"
    );
}
