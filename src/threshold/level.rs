//! Level: a running quantile that forgets, in two numbers.
//!
//! Stochastic approximation (Robbins and Monro, 1951) with multiplicative steps, as in Yazidi and
//! Hammer, "Multiplicative Update Methods for Incremental Quantile Estimation", IEEE Transactions
//! on Cybernetics, 2019. P-square (Jain and Chlamtac, 1985) never forgets; a sketch takes kilobytes
//! for a tail quantile. A step sees only whether a score lies above the level, so a huge score
//! moves it no further than any other. The steps are sized by the slope of the distribution at the
//! level, known from the calibration, so that a level forgets as an exponentially weighted estimate
//! of the same weight does.

use serde::{Deserialize, Serialize};

/// A score moves a level by no more than this part of it. Scores are smoothed vectors: with a
/// weight of 0.05 about 39 in a row ((2 - alpha) / alpha) tell as much as one independent score,
/// and a fault that grows slowly passes the level long before the threshold. Larger steps let such
/// a cluster carry the threshold away with the fault.
const STEP_MAX: f64 = 0.02 / 39.0;
/// Scores in a row above a level that are learned from. Normal clusters are shorter than the memory
/// of the smoothing (see [`STEP_MAX`]); what stays above the level for longer is something that
/// happens to the machine, and would be learned as normal for as long as it lasts.
const RUN_MAX: u8 = 39;
/// Range of a level relative to its state's scale. The threshold itself is bounded more narrowly;
/// this only stops a level from running away behind that bound.
const RANGE: (f64, f64) = (0.01, super::DRIFT_MAX);

/// A running quantile, relative to the scale of its state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Level {
    at: f64,
    /// How steeply the logarithm of the tail's probability falls with the logarithm of the score:
    /// 4.6 at the 0.99 quantile of an exponential distribution.
    slope: f32,
    /// Scores above the level in a row, at most one more than [`RUN_MAX`].
    run: u8,
}

impl Level {
    /// The level at which the probability `above` is exceeded, of ascending `sorted` scores.
    pub(super) fn of(sorted: &[f64], above: f64) -> Self {
        let low = (2.0 * above).min(0.99);
        let high = above / 2.0;
        let ratio = quantile(sorted, 1.0 - high) / quantile(sorted, 1.0 - low);
        let slope = libm::log(low / high) / libm::log(ratio);
        // Scores without any spread at the level tell no slope; 10 is that of a chart of about
        // eight fields.
        let slope = if slope.is_finite() && slope > 0.0 {
            slope.clamp(2.0, 40.0)
        } else {
            10.0
        };
        Self {
            at: quantile(sorted, 1.0 - above),
            slope: slope as f32,
            run: 0,
        }
    }

    pub(super) fn at(&self) -> f64 {
        self.at
    }

    /// The same level in another unit.
    pub(super) fn rescaled(self, unit: f64) -> Self {
        Self {
            at: (self.at / unit).clamp(RANGE.0, RANGE.1),
            ..self
        }
    }

    /// Learns from one score; `above` is the wanted probability of a larger one, `weight` that of a
    /// score in a mean.
    pub(super) fn learn(&mut self, above: f64, weight: f64, score: f64) {
        self.run = if score > self.at {
            (self.run + 1).min(RUN_MAX + 1)
        } else {
            0
        };
        if self.run > RUN_MAX {
            return;
        }
        let step = (weight / (above * f64::from(self.slope))).min(STEP_MAX);
        let direction = if score > self.at { 1.0 - above } else { -above };
        self.at = (self.at * (1.0 + step * direction)).clamp(RANGE.0, RANGE.1);
    }
}

/// The quantile of ascending values, linear between them; 0 where there is none.
pub(super) fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let place = probability.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
    let low = sorted.get(place.floor() as usize).copied().unwrap_or(0.0);
    let high = sorted.get(place.ceil() as usize).copied().unwrap_or(low);
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_between_level_and_threshold_is_not_learned_for_as_long_as_it_lasts() {
        let scores: Vec<f64> = (1..=10_000).map(|i| f64::from(i) / 10_000.0).collect();
        let mut level = Level::of(&scores, 0.01);
        let before = level.at();
        (0..100_000).for_each(|_| level.learn(0.01, 1e-4, 1.5));
        assert!(level.at() < 1.03 * before, "{} after {before}", level.at());
        (0..300).for_each(|i| {
            (0..99).for_each(|_| level.learn(0.01, 1e-4, 0.5));
            level.learn(0.01, 1e-4, if i % 2 == 0 { 1.5 } else { 0.5 });
        });
        assert!(
            level.at() < before,
            "half as many peaks as expected lower it: {}",
            level.at()
        );
    }
}
