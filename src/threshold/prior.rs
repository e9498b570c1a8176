//! Prior: the state of a series without records, from the fleet's calibration scores.

use crate::config::settings::ThresholdKind;

use super::guard::Guard;
use super::level::{Level, quantile};
use super::tail::Tail;
use super::{Estimator, SCALE, ThresholdParams, ThresholdState};

/// The level where calibration tells none: scores of the chart are in standard deviations.
const UNKNOWN_LEVEL: f64 = 3.0;
/// Least level of `dspot` over the average, as a part of the typical score.
const RISE_MIN: f64 = 0.02;

/// See [`ThresholdState::calibrated`].
pub(super) fn calibrated(plan: &ThresholdParams, scores: &[f64]) -> ThresholdState {
    let usable = || {
        scores
            .iter()
            .copied()
            .filter(|score| score.is_finite() && *score >= 0.0)
    };
    let largest = usable().fold(0.0, f64::max);
    if largest <= 0.0 {
        return calibrated(plan, &[UNKNOWN_LEVEL]);
    }
    // Relative to the largest, sums and squares of any scores are finite.
    let scores: Vec<f64> = usable().map(|score| score / largest).collect();
    let mut sorted = scores.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = quantile(&sorted, 0.5);

    let (level, typical, estimator) = estimate(plan, &scores, &sorted, median);
    // As good as only zeros at the level: the one thing known of the others is how large they get.
    let unit = if level > 1e-12 { level } else { 1.0 };
    let estimator = match estimator {
        Estimator::Sigma { variance } => Estimator::Sigma {
            variance: variance / unit / unit,
        },
        Estimator::Quantile(level) => Estimator::Quantile(level.rescaled(unit)),
        Estimator::Spot(tail) => Estimator::Spot(tail.rescaled(unit)),
        Estimator::Dspot { average, tail } => Estimator::Dspot {
            average: average / unit,
            tail: tail.rescaled(unit),
        },
    };
    ThresholdState {
        scale: (unit * largest).clamp(SCALE.0, SCALE.1),
        typical: typical / unit,
        own: 0,
        operator_factor: 1.0,
        guard: Guard::default(),
        estimator,
    }
}

/// The level before the margin, the typical score and the estimator, in the unit of `scores`.
fn estimate(
    plan: &ThresholdParams,
    scores: &[f64],
    sorted: &[f64],
    median: f64,
) -> (f64, f64, Estimator) {
    let n = scores.len() as f64;
    match plan.kind {
        ThresholdKind::Sigma => {
            let mean = scores.iter().sum::<f64>() / n;
            let variance = scores
                .iter()
                .map(|score| (score - mean).powi(2))
                .sum::<f64>()
                / n;
            (
                mean + plan.deviations * variance.sqrt(),
                mean,
                Estimator::Sigma { variance },
            )
        }
        ThresholdKind::Quantile => {
            let level = Level::of(sorted, plan.above);
            (level.at(), median, Estimator::Quantile(level))
        }
        ThresholdKind::Spot => {
            let tail = Tail::of(plan, scores, f64::MIN_POSITIVE);
            (tail.extreme(), median, Estimator::Spot(tail))
        }
        ThresholdKind::Dspot => {
            let mut average = median;
            let rises: Vec<f64> = scores
                .iter()
                .map(|score| {
                    let rise = score - average;
                    average += plan.average_weight * rise;
                    rise
                })
                .collect();
            let tail = Tail::of(plan, &rises, (RISE_MIN * median).max(f64::MIN_POSITIVE));
            // The template has the median, not the last average: it stands for every series at any
            // time.
            (
                median + tail.extreme(),
                median,
                Estimator::Dspot {
                    average: median,
                    tail,
                },
            )
        }
    }
}
