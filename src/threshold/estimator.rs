//! The kinds of threshold: what each keeps of a series, its level, and how it learns.

use serde::{Deserialize, Serialize};

use super::ThresholdParams;
use super::level::Level;
use super::tail::Tail;
use crate::threshold::ThresholdKind;

/// Least level of `dspot` over the average, as a part of the typical score.
const RISE_MIN: f64 = 0.02;

/// The part of a [`super::ThresholdState`] that depends on the kind; all values relative to its
/// scale. A new kind is a variant here, an arm in each method, and a variant of [`ThresholdKind`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Estimator {
    Sigma { variance: f64 },
    Quantile(Level),
    Spot(Tail),
    Dspot { average: f64, tail: Tail },
}

impl Estimator {
    /// The level before the margin, the typical score and the estimator, in the unit of `scores`.
    pub(super) fn of(
        params: &ThresholdParams,
        scores: &[f64],
        sorted: &[f64],
        median: f64,
    ) -> (f64, f64, Self) {
        let n = scores.len() as f64;
        match params.kind {
            ThresholdKind::Sigma => {
                let mean = scores.iter().sum::<f64>() / n;
                let variance = scores
                    .iter()
                    .map(|score| (score - mean).powi(2))
                    .sum::<f64>()
                    / n;
                (
                    mean + params.deviations * variance.sqrt(),
                    mean,
                    Self::Sigma { variance },
                )
            }
            ThresholdKind::Quantile => {
                let level = Level::of(sorted, params.above);
                (level.at(), median, Self::Quantile(level))
            }
            ThresholdKind::Spot => {
                let tail = Tail::of(params, scores, f64::MIN_POSITIVE);
                (tail.extreme(), median, Self::Spot(tail))
            }
            ThresholdKind::Dspot => {
                let mut average = median;
                let rises: Vec<f64> = scores
                    .iter()
                    .map(|score| {
                        let rise = score - average;
                        average += params.average_weight * rise;
                        rise
                    })
                    .collect();
                let tail = Tail::of(params, &rises, (RISE_MIN * median).max(f64::MIN_POSITIVE));
                // The template has the median, not the last average: it stands for every series at
                // any time.
                (
                    median + tail.extreme(),
                    median,
                    Self::Dspot {
                        average: median,
                        tail,
                    },
                )
            }
        }
    }

    pub(super) fn kind(&self) -> ThresholdKind {
        match self {
            Self::Sigma { .. } => ThresholdKind::Sigma,
            Self::Quantile(_) => ThresholdKind::Quantile,
            Self::Spot(_) => ThresholdKind::Spot,
            Self::Dspot { .. } => ThresholdKind::Dspot,
        }
    }

    /// The level before the margin.
    pub(super) fn level(&self, params: &ThresholdParams, typical: f64) -> f64 {
        match self {
            Self::Sigma { variance } => typical + params.deviations * variance.sqrt(),
            Self::Quantile(level) => level.at(),
            Self::Spot(tail) => tail.extreme(),
            Self::Dspot { average, tail } => average + tail.extreme(),
        }
    }

    /// Learns from a score in units of the state's scale, which is `difference` above the typical
    /// one; `weight` is that of the newest score in a moving average.
    pub(super) fn learn(
        &mut self,
        params: &ThresholdParams,
        weight: f64,
        relative: f64,
        difference: f64,
    ) {
        match self {
            // Incremental exponentially weighted variance: West, "Updating Mean and Variance
            // Estimates", CACM 22(9), 1979; Finch, "Incremental Calculation of Weighted Mean and
            // Variance", 2009.
            Self::Sigma { variance } => {
                *variance = (1.0 - weight) * (*variance + weight * difference * difference);
            }
            Self::Quantile(level) => level.learn(params.above, weight, relative),
            Self::Spot(tail) => tail.learn(params, weight, relative),
            Self::Dspot { average, tail } => {
                tail.learn(params, weight, relative - *average);
                *average += params.average_weight * (relative - *average);
            }
        }
    }

    /// The same, of scores in a unit that is `unit` times as large.
    pub(super) fn rescaled(self, unit: f64) -> Self {
        match self {
            Self::Sigma { variance } => Self::Sigma {
                variance: variance / unit / unit,
            },
            Self::Quantile(level) => Self::Quantile(level.rescaled(unit)),
            Self::Spot(tail) => Self::Spot(tail.rescaled(unit)),
            Self::Dspot { average, tail } => Self::Dspot {
                average: average / unit,
                tail: tail.rescaled(unit),
            },
        }
    }

    /// An outlier came that is not learned from.
    pub(super) fn skip_outlier(&mut self) {
        if let Self::Spot(tail) | Self::Dspot { tail, .. } = self {
            tail.mark_contaminated();
        }
    }
}
