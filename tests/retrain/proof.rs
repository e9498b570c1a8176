//! Challengers that must be refused, each by its own test.

use super::*;

#[test]
fn a_challenger_that_learned_from_faults_is_refused() {
    let (stream, dir) = (Arc::new(stream()), tempfile::tempdir().unwrap());
    let (registry, mut engine) = engine(&stream, dir.path(), &Arc::new(MemoryStore::default()));
    let mut runs = fixture().runs.clone();
    runs.sort_by_key(RecordRun::from);
    // What it learns from is poisoned, what it is tried on is not.
    let poisoned = runs.len() * 7 / 10;
    for (number, run) in runs.iter_mut().take(poisoned).enumerate() {
        let field = number % SENSORS;
        let fault = InjectedFault {
            kind: InjectedFaultKind::Variance,
            field,
            size: 8.0,
        };
        inject(
            &mut run.values,
            SENSORS,
            &fault,
            0,
            Sensor::ALL[field].spread(),
            number as u64,
        );
    }
    engine.take(runs).unwrap();
    let verdict = challenge(&mut engine).unwrap();
    assert!(
        !verdict.passed && verdict.failed().contains(&"injected_faults"),
        "{:#?}",
        verdict.tests
    );
    assert_eq!(
        registry.current("pumps").unwrap(),
        Some(fixture().champion.clone())
    );
    assert_eq!(
        kept(&registry, &verdict.challenger).map(|verdict| verdict.passed),
        Some(false)
    );
}

fn examine(challenger: Bundle, confirmed: &[ConfirmedFault]) -> PromotionVerdict {
    examine_all(challenger, champion(), None, confirmed)
}

/// The fixture's traffic, cut where an engine would, and a confirmed fault.
fn examine_all(
    challenger: Bundle,
    champion: Bundle,
    best: Option<Bundle>,
    confirmed: &[ConfirmedFault],
) -> PromotionVerdict {
    let stream = stream();
    let mut runs = fixture().runs.clone();
    runs.sort_by_key(RecordRun::from);
    let cut = runs.len() * 8 / 10;
    let (all, held_out) = (
        TrainingSet::of_runs(&runs),
        TrainingSet::of_runs(&runs[cut..]),
    );
    let (reason, at) = ("test", fixture().now);
    let case = EvaluationInput {
        stream: &stream,
        all: &all,
        held_out: &held_out,
        confirmed,
        reason,
        at,
    };
    let contenders = Contenders {
        challenger,
        champion,
        best,
        linear: None,
        none: None,
    };
    case.evaluate(contenders, &mut || ControlFlow::Continue(()))
        .unwrap()
}

/// The champion with thresholds raised by a factor, given as a logarithm.
fn raised(lift: f64) -> Bundle {
    let good = champion();
    let calibration = Calibration {
        lift,
        ..good.calibration
    };
    let (origin, created) = (good.manifest.origin, good.manifest.created);
    Bundle::new(origin, calibration, good.model, good.denoiser, created).unwrap()
}

#[test]
fn a_challenger_that_is_a_little_worse_again_and_again_is_refused() {
    // A tenth less than the champion is allowed, but not each time less than the best.
    let (weak, weaker) = (raised(0.75), raised(0.9));
    let alone = examine_all(weaker, weak, None, &[]);
    assert!(alone.passed, "{:#?}", alone.tests);
    let (weak, weaker) = (raised(0.75), raised(0.9));
    let verdict = examine_all(weaker, weak, Some(champion()), &[]);
    assert_eq!(verdict.failed(), ["best_of_year"], "{:#?}", verdict.tests);
    let detail = &verdict.tests.last().unwrap().detail;
    assert!(detail.contains(&fixture().champion), "{detail}");
}

#[test]
fn the_best_bundle_of_the_year_is_found_by_the_verdicts_of_its_successors() {
    let (stream, dir) = (Arc::new(stream()), tempfile::tempdir().unwrap());
    let (registry, mut engine) = engine(&stream, dir.path(), &Arc::new(MemoryStore::default()));
    let mut before = fixture().champion.clone();
    for lift in [0.01, 0.02] {
        let bundle = raised(lift);
        let id = bundle.id().to_owned();
        bundle.save(registry.root()).unwrap();
        let mut verdict = examine(bundle, &[]);
        verdict.champion = before;
        let test = verdict
            .tests
            .iter_mut()
            .find(|test| test.name == TestName::InjectedFaults)
            .unwrap();
        (test.challenger, test.champion) = (92.0, 100.0);
        let json = serde_json::to_vec(&verdict).unwrap();
        registry.attach("pumps", &id, VERDICT, &json).unwrap();
        registry.promote("pumps", &id, "passed").unwrap();
        before = id;
    }
    engine.follow().unwrap();
    engine.take(fixture().runs.clone()).unwrap();
    let verdict = challenge(&mut engine).unwrap();
    let test = verdict.tests.last().unwrap();
    assert_eq!(test.name, TestName::BestOfYear, "{:#?}", verdict.tests);
    assert!(test.detail.contains(&fixture().champion), "{}", test.detail);
}

#[test]
fn a_challenger_with_broken_weights_is_refused() {
    let good = champion();
    let shape = ModelShape {
        members: 1,
        ..good.manifest.shape.clone()
    };
    let random =
        Network::initialised(&shape, &mut rand_chacha::ChaCha8Rng::seed_from_u64(5)).unwrap();
    let created = good.manifest.created;
    let broken = Bundle::new(
        good.manifest.origin,
        good.calibration,
        random.into_model().unwrap(),
        None,
        created,
    )
    .unwrap();
    let verdict = examine(broken, &[]);
    assert!(
        !verdict.passed && verdict.failed().contains(&"reconstruction"),
        "{:#?}",
        verdict.tests
    );
}

#[test]
fn a_challenger_that_misses_a_confirmed_fault_is_refused() {
    let set = TrainingSet::of_runs(&fixture().runs);
    let rows = set.segments[0].clone();
    let (rows, begins) = (rows.end - 400..rows.end, 300);
    let mut values = set.rows[rows.start * SENSORS..rows.end * SENSORS].to_vec();
    let field = Sensor::Flow.index();
    inject(
        &mut values,
        SENSORS,
        &InjectedFault {
            kind: InjectedFaultKind::LevelShift,
            field,
            size: 3.0,
        },
        begins,
        7.0,
        1,
    );
    let confirmed = [ConfirmedFault {
        sequence: Sequence {
            times: set.times[rows].to_vec(),
            values,
        },
        begins,
    }];
    // The same model, deaf: whatever it meets is near what it calls normal.
    let good = champion();
    let mut deaf = good.calibration.clone();
    let covariances = deaf
        .charts
        .iter_mut()
        .flat_map(|chart| &mut chart.covariance);
    covariances.for_each(|c| *c *= 1e4);
    let deaf = Bundle::new(
        good.manifest.origin,
        deaf,
        good.model,
        good.denoiser,
        good.manifest.created,
    )
    .unwrap();
    let verdict = examine(deaf, &confirmed);
    assert!(
        verdict.failed().contains(&"confirmed_faults"),
        "{:#?}",
        verdict.tests
    );
    assert!(
        examine(champion(), &confirmed).passed,
        "the champion itself has nothing to fear"
    );
}
