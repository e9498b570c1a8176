//! What holds for any scores: finite, positive, bounded thresholds, that scale with the scores and
//! survive a stop.

use std::time::Duration;

use outlierd::threshold::{DRIFT_MAX, ThresholdParams, ThresholdState};
use outlierd::threshold::{ThresholdKind, ThresholdSettings};
use proptest::prelude::*;

use crate::source::{Chart, Draw};
use crate::{KINDS, plan, settings};

fn any_kind() -> impl Strategy<Value = ThresholdKind> {
    prop::sample::select(KINDS.to_vec())
}

/// Scores of every size, with ties and zeros.
fn any_scores() -> impl Strategy<Value = Vec<f64>> {
    let score = prop_oneof![
        4 => 0.0..10.0f64,
        1 => Just(0.0),
        1 => Just(1.0),
        1 => (-300.0..300.0f64).prop_map(|exponent| 10f64.powf(exponent)),
        1 => prop::num::f64::ANY,
    ];
    prop::collection::vec(score, 0..300)
}

proptest! {
    #[test]
    fn a_threshold_is_finite_and_positive_whatever_the_scores(
        kind in any_kind(), margin in 0.5..4.0f64, level in 0.51..0.9999f64, memory in 0..100_000u64, shift in 0..50u64,
        calibration in any_scores(), scores in any_scores(),
    ) {
        let settings = ThresholdSettings { level, memory, level_shift_after: Duration::from_secs(shift), ..settings(kind, 1e-5, margin) };
        let plan = ThresholdParams::new(&settings, Duration::from_secs(1), 1);
        let mut state = ThresholdState::calibrated(&plan, &calibration);
        let mut anchor = state.value(&plan);
        prop_assert!(anchor.is_finite() && anchor > 0.0);
        for score in scores {
            let step = state.step(&plan, score, 1.0);
            let value = state.value(&plan);
            prop_assert!(value.is_finite() && value > 0.0, "{value} after {score}");
            if step.relearning {
                anchor = anchor.max(value);
            } else {
                prop_assert!(value <= anchor * DRIFT_MAX * 1.001, "{value} beyond the bound of {anchor}");
            }
        }
    }

    #[test]
    fn a_threshold_scales_with_its_scores(kind in any_kind(), exponent in -60..60i32, seed in 0..1_000u64) {
        let factor = 2f64.powi(exponent);
        let plan = plan(kind, 1e-3, 1.0);
        let (mut chart, mut draw) = (Chart::seeded(seed), Draw::seeded(seed));
        let calibration = chart.scores(500);
        let scaled: Vec<f64> = calibration.iter().map(|score| score * factor).collect();
        let mut plain_state = ThresholdState::calibrated(&plan, &calibration);
        let mut scaled_state = ThresholdState::calibrated(&plan, &scaled);
        for _ in 0..2_000 {
            let score = chart.score() * if draw.uniform() < 0.01 { 3.0 } else { 1.0 };
            let plain = plain_state.step(&plan, score, 1.0);
            let scaled = scaled_state.step(&plan, score * factor, 1.0);
            // A power of two changes no digit: the two are equal, not only near.
            prop_assert_eq!(plain.threshold * factor, scaled.threshold);
            prop_assert_eq!(plain.above, scaled.above);
        }
    }

    #[test]
    fn a_stop_changes_nothing(
        kind in any_kind(), seed in 0..1_000u64, stops in prop::collection::vec(0..3_000usize, 1..5),
    ) {
        let plan = plan(kind, 1e-3, 1.0);
        let mut chart = Chart::seeded(seed);
        let mut straight = ThresholdState::calibrated(&plan, &chart.scores(500));
        let mut resumed = straight.clone();
        for i in 0..3_000 {
            if stops.contains(&i) {
                let bytes = postcard::to_stdvec(&resumed).expect("a state");
                resumed = postcard::from_bytes(&bytes).expect("its own bytes");
            }
            let score = chart.score();
            prop_assert_eq!(straight.step(&plan, score, 1.0), resumed.step(&plan, score, 1.0));
        }
        prop_assert_eq!(straight, resumed);
    }
}
