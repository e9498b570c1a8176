use super::*;
use crate::model::ResidualScope;
use proptest::prelude::*;

fn settings() -> ScoreSettings {
    ScoreSettings {
        scope: ResidualScope::Record,
        ewma_weight: 0.1,
        baseline_weight: 0.004,
        baseline_alarm_factor: 0.0,
        clip_sigma: 5.0,
        shrinkage: 0.1,
    }
}

#[test]
fn tanh_is_as_exact_as_it_says_and_never_falls() {
    let mut before = -1.0;
    for step in -8_000..=8_000 {
        let x = f64::from(step) / 1_000.0;
        let found = super::tanh(f64::from(step) / 1_000.0);
        assert!(
            (found - x.tanh()).abs() < if x.abs() <= 1.0 { 1e-9 } else { 1e-4 },
            "tanh({x}) = {found}"
        );
        assert!(
            found >= before && found.abs() <= 1.0,
            "tanh({x}) = {found} after {before}"
        );
        before = found;
    }
    assert!((super::tanh(1e300) - 1.0).abs() < 1e-12 && (super::tanh(-1e300) + 1.0).abs() < 1e-12);
}

#[test]
fn the_score_is_the_mahalanobis_length_of_the_smoothed_residual() {
    // C = [[4, 1], [1, 2]]; C^-1 = [[2, -1], [-1, 4]] / 7.
    let exact = ScoreSettings {
        ewma_weight: 1.0,
        baseline_weight: 0.0,
        clip_sigma: 1e9,
        ..settings()
    };
    let chart = Chart::new(
        ChartKind::Mewma,
        &exact,
        &[1.0, 0.0],
        &[1.0, 1.0],
        &[4.0, 1.0, 1.0, 2.0],
    )
    .unwrap();
    let mut state = ChartState::default();
    let score = chart.step(&mut state, &[3.0, 1.0], &[], false);
    let expected = ((2.0 * 4.0 - 2.0 * 2.0 + 4.0) / 7.0f64).sqrt();
    assert!((score - expected).abs() < 1e-6, "{score} {expected}");
    let shares = chart.shares(&state);
    // C^-1 e = (3, 2) / 7, diagonal of C^-1 = (2, 4) / 7: contributions 9/14 and 1/7.
    assert!(
        (shares[0] - 9.0 / 11.0).abs() < 1e-6 && (shares[1] - 2.0 / 11.0).abs() < 1e-6,
        "{shares:?}"
    );
}

#[test]
fn a_frozen_baseline_does_not_learn_a_fault() {
    let chart = Chart::new(ChartKind::Mewma, &settings(), &[0.0], &[1.0], &[0.05]).unwrap();
    let mut free = ChartState::default();
    let mut frozen = ChartState::default();
    // A series of its own: what was never normal is no baseline.
    (0..FRESH).for_each(|_| _ = chart.step(&mut frozen, &[0.0], &[], false));
    let score = |state: &mut ChartState, hold| {
        (0..5_000)
            .map(|_| chart.step(state, &[3.0], &[], hold))
            .last()
            .unwrap()
    };
    assert!(
        score(&mut free, false) < 0.1,
        "a free baseline takes the shift in"
    );
    assert!(
        score(&mut frozen, true) > 5.0,
        "a frozen one keeps seeing it"
    );
    frozen.rebase();
    assert!(
        chart.step(&mut frozen, &[3.0], &[], true) < 0.1,
        "until the shift is accepted"
    );
}

#[test]
fn what_sets_a_series_apart_is_its_baseline_from_the_first_record_on() {
    let chart = Chart::new(ChartKind::Mewma, &settings(), &[0.0], &[1.0], &[0.05]).unwrap();
    let mut state = ChartState::default();
    let apart = (0..100)
        .map(|i| {
            chart.step(
                &mut state,
                &[if i % 2 == 0 { 3.1 } else { 2.9 }],
                &[],
                false,
            )
        })
        .fold(0.0, f64::max);
    assert!(apart < 0.1, "a series that always reads 3: {apart}");
    let shift = (0..50)
        .map(|_| chart.step(&mut state, &[4.0], &[], false))
        .last()
        .unwrap();
    assert!(shift > 2.0, "a change of it: {shift}");
}

#[test]
fn a_long_calibration_makes_a_slow_baseline() {
    assert_eq!(paced(&settings(), 400).baseline_weight, 0.004);
    assert_eq!(paced(&settings(), 0).baseline_weight, 0.004);
    assert!((paced(&settings(), 4_000).baseline_weight - 0.0004).abs() < 1e-12);
}

#[test]
fn a_singular_covariance_is_refused() {
    assert_eq!(
        Chart::new(
            ChartKind::Mewma,
            &settings(),
            &[0.0; 2],
            &[1.0; 2],
            &[1.0, 1.0, 1.0, 1.0]
        )
        .unwrap_err(),
        NotPositiveDefinite { row: 1 }
    );
}

#[test]
fn shrinking_makes_any_covariance_positive_definite() {
    let mut covariance = vec![1.0; 9];
    shrink(
        &mut covariance,
        3,
        settings().shrinkage,
        settings().ewma_weight,
    );
    assert!(
        Chart::new(
            ChartKind::Mewma,
            &settings(),
            &[0.0; 3],
            &[1.0; 3],
            &covariance
        )
        .is_ok()
    );
    let mut zero = vec![0.0; 9];
    shrink(&mut zero, 3, settings().shrinkage, settings().ewma_weight);
    assert!(Chart::new(ChartKind::Mewma, &settings(), &[0.0; 3], &[1.0; 3], &zero).is_ok());
}

proptest! {
    #[test]
    fn scores_are_finite_and_shares_add_up(residuals in prop::collection::vec(prop::num::f32::ANY, 3..90)) {
        let chart = Chart::new(ChartKind::Mewma, &settings(), &[0.1, 0.0, -0.2], &[1.0, 0.5, 0.0], &[0.1, 0.02, 0.0, 0.02, 0.1, 0.0, 0.0, 0.0, 1e-6]).unwrap();
        let mut state = ChartState::default();
        for residual in residuals.chunks_exact(3) {
            let score = chart.step(&mut state, residual, &[], false);
            prop_assert!(score.is_finite() && score >= 0.0);
            let shares = chart.shares(&state);
            let total: f64 = shares.iter().sum();
            prop_assert!(shares.iter().all(|&s| s >= 0.0) && (score == 0.0 || (total - 1.0).abs() < 1e-9));
        }
    }
}

#[test]
fn going_over_missing_records_is_what_as_many_with_their_mean_do() {
    let settings = ScoreSettings {
        ewma_weight: 0.05,
        baseline_alarm_factor: 0.05,
        shrinkage: 0.05,
        ..settings()
    };
    let chart = Chart::new(
        ChartKind::Mewma,
        &settings,
        &[0.5, 0.0],
        &[1.0, 1.0],
        &[1.0, 0.0, 0.0, 1.0],
    )
    .unwrap();
    let first = [[1.0f32, -0.5], [2.0, 0.5]];
    for (begin, missing) in [(100, 10), (100, 5_000), (5_000, 700), (0, 9)] {
        let mut state = ChartState::default();
        let walk = |state: &mut ChartState, row: &[f32]| _ = chart.smooth(state, row, &[], false);
        (0..begin).for_each(|_| walk(&mut state, &[0.0, 0.0]));
        first.iter().for_each(|row| walk(&mut state, row));
        let mut skipped = state.clone();
        let mut walked = state;
        chart.skip(&mut skipped, &first.concat(), missing);
        // The mean of the two, squashed as each of them would be.
        let squashed = |x: f64| 5.0 * (x / 5.0).tanh();
        let mean = [(squashed(0.5) + squashed(1.5)) / 2.0, 0.0]
            .map(|d: f64| (5.0 * (d / 5.0).atanh()) as f32);
        (0..missing).for_each(|_| walk(&mut walked, &[mean[0] + 0.5, mean[1]]));
        for vector in [0, 2] {
            let a = skipped.split_mut()[vector].to_vec();
            let b = walked.split_mut()[vector].to_vec();
            assert!(
                a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 2e-3),
                "{begin} {missing} {vector}: {a:?} {b:?}"
            );
        }
        assert_eq!(skipped.seen, walked.seen);
    }
}
