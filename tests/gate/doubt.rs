//! Faults that last: which sensors are scored again.

use super::*;

/// Seconds, and records, for which a fault lasts before it is doubted.
const AFTER: usize = 2_000;

fn doubting() -> GateSettings {
    GateSettings {
        doubt_after: Duration::from_secs(AFTER as u64),
        ..gate()
    }
}

fn rules(normal: NormalRange) -> GateRules {
    GateRules::new(&doubting(), &fields(2), Some(&[normal, NORMAL]))
}

/// What became of a sensor beside a healthy one: the faults of its records.
fn faults(series: &mut Series, readings: impl Iterator<Item = f64>) -> Vec<Option<FaultKind>> {
    let mut of = |(x, healthy): (f64, f64)| match series.feed(&[x, healthy]) {
        GateVerdict::Fault(faults) => {
            assert!(faults.iter().all(|fault| fault.field == 0), "{faults:?}");
            Some(faults[0].kind)
        }
        _ => None,
    };
    readings.zip(walk(9)).map(&mut of).collect()
}

fn doubted(faults: &[Option<FaultKind>]) -> Vec<usize> {
    let is_one =
        |(_, kind): &(usize, &Option<FaultKind>)| **kind == Some(FaultKind::CalibrationDoubtful);
    faults
        .iter()
        .enumerate()
        .filter(is_one)
        .map(|(at, _)| at)
        .collect()
}

/// A sensor that follows its machine without noise.
fn smooth() -> impl Iterator<Item = f64> {
    (0..).map(|i| 100.0 + 1.5 * (f64::from(i) * std::f64::consts::TAU / 2_500.0).sin())
}

#[test]
fn a_sensor_without_noise_is_scored_again_once_and_found_dead_later() {
    let mut series = Series::new(rules(NORMAL), 2);
    let found = faults(&mut series, smooth().take(9_000));
    let [at] = doubted(&found)[..] else {
        panic!("{:?}", doubted(&found))
    };
    let flat = found.iter().position(Option::is_some).unwrap();
    assert_eq!((found[flat], at), (Some(FaultKind::Flat), flat + AFTER));
    assert!(
        found[flat..at]
            .iter()
            .all(|kind| *kind == Some(FaultKind::Flat))
    );
    assert!(found[at + 1..].iter().all(Option::is_none));
    // It moves by a thousandth of what it did.
    let dead = (0..1_500).map(|i| 100.0 + 1e-6 * f64::from(i % 7));
    assert_eq!(
        faults(&mut series, dead).last(),
        Some(&Some(FaultKind::Flat))
    );
}

#[test]
fn a_dead_sensor_stays_faulty() {
    let noise = |i: i32| 100.0 + 0.001 * f64::from(i % 7);
    let mut series = Series::new(rules(NORMAL), 2);
    let found = faults(&mut series, (0..9_000).map(noise));
    assert_eq!(doubted(&found), [0; 0]);
    assert_eq!(found.last(), Some(&Some(FaultKind::Flat)));
    let mut series = Series::new(rules(NORMAL), 2);
    let stuck = walk(1).take(10).chain(std::iter::repeat_n(100.5, 9_000));
    let found = faults(&mut series, stuck);
    assert_eq!(doubted(&found), [0; 0]);
    assert_eq!(found.last(), Some(&Some(FaultKind::Stuck)));
}

#[test]
fn a_sensor_in_another_unit_and_a_coarse_one_are_scored_again() {
    let mut series = Series::new(rules(NORMAL), 2);
    let found = faults(&mut series, walk(2).map(|x| x / 25.4).take(9_000));
    assert_eq!(found[0], Some(FaultKind::ScaleJump));
    assert_eq!(doubted(&found), [AFTER]);
    assert!(found[AFTER + 1..].iter().all(Option::is_none));

    let coarse = || {
        walk(3)
            .step_by(300)
            .flat_map(|x| std::iter::repeat_n(x.round(), 300))
    };
    let mut series = Series::new(rules(NORMAL), 2);
    let found = faults(&mut series, coarse().take(12_000));
    let at = doubted(&found);
    assert_eq!(at.len(), 1, "{at:?}");
    assert!(found[at[0] + 1..].iter().all(Option::is_none));
}

#[test]
fn a_machine_that_hardly_varies_proves_nothing_against_its_sensor() {
    let mut series = Series::new(rules(NORMAL), 2);
    let calm = |x: f64| 100.0 + 0.02 * (x - 100.0);
    let mut of = |(x, healthy): (f64, f64)| series.kinds(&[x, healthy]);
    let kinds: Vec<Vec<FaultKind>> = smooth()
        .map(calm)
        .zip(walk(9).map(|x| 100.0 + 0.02 * (x - 100.0)))
        .take(4_000)
        .map(&mut of)
        .collect();
    let doubts = kinds.iter().flatten();
    let doubts = doubts.filter(|kind| **kind == FaultKind::CalibrationDoubtful);
    assert_eq!(doubts.count(), 1);
}

#[test]
fn the_relearned_range_ends_with_the_bundle_and_0_turns_it_off() {
    let mut series = Series::new(rules(NORMAL), 2);
    faults(&mut series, smooth().take(3_000));
    series.plan = rules(NormalRange {
        movement: 0.6,
        ..NORMAL
    });
    let found = faults(&mut series, smooth().skip(3_000).take(1_000));
    assert_eq!(found.last(), Some(&Some(FaultKind::Flat)));

    let off = GateSettings {
        doubt_after: Duration::ZERO,
        ..gate()
    };
    let plan = GateRules::new(&off, &fields(2), Some(&[NORMAL; 2]));
    let found = faults(&mut Series::new(plan, 2), smooth().take(9_000));
    assert_eq!(doubted(&found), [0; 0]);
}

#[test]
fn a_stored_state_goes_on_identically() {
    let straight = faults(&mut Series::new(rules(NORMAL), 2), smooth().take(4_000));
    for every in [1, 997] {
        let mut series = Series::new(rules(NORMAL), 2);
        let mut of = |(number, (x, healthy)): (usize, (f64, f64))| {
            if number % every == 0 {
                let bytes = postcard::to_stdvec(&series.state).unwrap();
                series.state = postcard::from_bytes(&bytes).unwrap();
            }
            series.kinds(&[x, healthy]).first().copied()
        };
        let rows = smooth().zip(walk(9)).take(4_000).enumerate();
        let resumed: Vec<_> = rows.map(&mut of).collect();
        assert_eq!(resumed, straight, "every {every}");
    }
}
