//! Prior: the state of a series without records, from the fleet's calibration scores.

use super::estimator::Estimator;
use super::guard::Guard;
use super::level::quantile;
use super::{SCALE, ThresholdParams, ThresholdState};

/// The level where calibration tells none: scores of the chart are in standard deviations.
const UNKNOWN_LEVEL: f64 = 3.0;

/// See [`ThresholdState::calibrated`].
pub(super) fn calibrated(params: &ThresholdParams, scores: &[f64]) -> ThresholdState {
    let usable = || {
        scores
            .iter()
            .copied()
            .filter(|score| score.is_finite() && *score >= 0.0)
    };
    let largest = usable().fold(0.0, f64::max);
    if largest <= 0.0 {
        return calibrated(params, &[UNKNOWN_LEVEL]);
    }
    // Relative to the largest, sums and squares of any scores are finite.
    let scores: Vec<f64> = usable().map(|score| score / largest).collect();
    let mut sorted = scores.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = quantile(&sorted, 0.5);

    let (level, typical, estimator) = Estimator::of(params, &scores, &sorted, median);
    // As good as only zeros at the level: the one thing known of the others is how large they get.
    let unit = if level > 1e-12 { level } else { 1.0 };
    let estimator = estimator.rescaled(unit);
    ThresholdState {
        scale: (unit * largest).clamp(SCALE.0, SCALE.1),
        typical: typical / unit,
        own: 0,
        operator_factor: 1.0,
        guard: Guard::default(),
        estimator,
    }
}
