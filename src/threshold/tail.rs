//! Tail: SPOT's peaks over a level, and the extreme quantile that they give.
//!
//! Siffer, Fouque, Termier, Largouet: "Anomaly Detection in Streams with Extreme Value Theory", KDD
//! 2017. What differs from the paper, and why:
//! - the level follows the series' quantile and excesses are ratios to it, so that a series unlike
//!   its fleet still has peaks; the share of records that are peaks then needs no count that grows
//!   for ever;
//! - smoothed scores come in clusters, and an alert is one cluster: peaks are the maxima of
//!   clusters (runs declustering, Coles, "An Introduction to Statistical Modeling of Extreme
//!   Values", 2001, section 5.3.2), counted by cluster. The extremal index is thereby in the rate,
//!   and the risk counts alerts, not records;
//! - the last [`PEAKS`] peaks are kept, the first of them quantiles of the fleet's tail, and the shape
//!   is drawn towards the fleet's, and the fleet's towards an exponential tail: a shape from a few
//!   dozen peaks alone is too uncertain (as with the priors of Martins and Stedinger, 2000), and at
//!   a small risk it decides the threshold.

use half::f16;
use serde::{Deserialize, Serialize};

use super::level::{Level, quantile};
use super::{ThresholdParams, gpd};

/// Peaks that are kept: with everything else a state stays below 400 bytes.
const PEAKS: usize = 64;
/// Peaks between two fits: a fit takes some 10 microseconds.
const REFIT_AFTER: u8 = 8;
/// The fleet's shape counts as this many peaks of the series.
const FLEET_WEIGHT: f64 = 128.0;
/// Shape 0, an exponential tail, counts as this many peaks of the fleet.
const EXPONENTIAL_WEIGHT: f64 = 100.0;
/// Minimum number of peaks for a fit of the tail.
const SAMPLE_MIN: usize = 10;
/// Excesses are cut here, relative to the level: no single peak makes the mean excess absurd.
const EXCESS_MAX: f64 = 10.0;
/// Mean excess of a fleet whose scores show no tail, relative to the level, and its range where
/// they do.
const MEAN_EXCESS: (f64, f64) = (0.02, 2.0);

/// The tail of a distribution above a level, relative to the scale of its state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Tail {
    /// SPOT's initial level t.
    level: Level,
    /// Clusters of peaks per record, exponentially weighted.
    rate: f64,
    /// Shape of the fleet's tail.
    fleet_shape: f32,
    /// Shape and mean excess (relative to the level) at the last fit.
    shape: f32,
    mean_excess: f32,
    /// The excess that has the risk, relative to the level; kept, as it takes a power.
    excess_at_risk: f32,
    /// The last peaks: excesses relative to the level of their time; `oldest` is overwritten next.
    peaks: Box<[Peak]>,
    oldest: u8,
    /// Peaks since the last fit.
    unfitted: u8,
    cluster: Cluster,
}

/// A peak in half precision (IEEE 754 binary16, little endian: two bytes in the store as well). Its
/// rounding of 1 in 2,000 is nothing beside what the fit of a few dozen peaks is uncertain by, and
/// peaks are the largest part of a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Peak([u8; 2]);

impl Peak {
    fn new(excess: f32) -> Self {
        Self(f16::from_f32(excess).to_le_bytes())
    }

    fn get(self) -> f32 {
        f16::from_le_bytes(self.0).to_f32()
    }
}

/// Position of a series in its clusters of peaks.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
enum Cluster {
    /// Below the level.
    Outside,
    /// Inside one: its largest excess, and the records at or below the level since the last one
    /// above.
    Inside(f32, u8),
    /// Inside one with an outlier that was not learned from: its rise and its fading are not normal
    /// peaks either.
    Tainted(u8),
}

impl Cluster {
    /// Takes one excess (<= 0 at or below the level); returns the peak of a cluster that ends here.
    fn step(&mut self, run: u8, excess: f64) -> Option<f32> {
        let above = excess > 0.0;
        let excess = excess.min(EXCESS_MAX) as f32;
        let (next, ended) = match *self {
            Self::Outside if above => (Self::Inside(excess, 0), None),
            Self::Outside => (Self::Outside, None),
            Self::Inside(peak, _) if above => (Self::Inside(peak.max(excess), 0), None),
            Self::Inside(peak, quiet) if quiet + 1 >= run => (Self::Outside, Some(peak)),
            Self::Inside(peak, quiet) => (Self::Inside(peak, quiet + 1), None),
            Self::Tainted(_) if above => (Self::Tainted(0), None),
            Self::Tainted(quiet) if quiet + 1 >= run => (Self::Outside, None),
            Self::Tainted(quiet) => (Self::Tainted(quiet + 1), None),
        };
        *self = next;
        ended
    }
}

impl Tail {
    /// The tail of the fleet's scores (in time order; for `dspot` less their average, so possibly
    /// negative), in their unit. `least` > 0 is the lowest level that makes sense of them.
    pub(super) fn of(params: &ThresholdParams, scores: &[f64], least: f64) -> Self {
        let mut sorted: Vec<f64> = scores.iter().map(|&score| score.max(least)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let level = Level::of(&sorted, params.above);
        let t = level.at();
        let mut cluster = Cluster::Outside;
        let peaks: Vec<f32> = scores
            .iter()
            .filter_map(|score| cluster.step(params.run, score / t - 1.0))
            .collect();
        let (fleet_shape, mean_peak, rate) = if peaks.len() < SAMPLE_MIN {
            // A tail of exponential peaks has the same mean excess over a lower level, where there
            // are more scores to tell it.
            let mean_excess = mean_excess(&sorted, 0.9) / t;
            (
                0.0,
                mean_excess.clamp(MEAN_EXCESS.0, MEAN_EXCESS.1),
                params.above / f64::from(params.run),
            )
        } else {
            let n = peaks.len() as f64;
            (
                gpd::shape(&peaks) * n / (n + EXPONENTIAL_WEIGHT),
                peaks.iter().copied().map(f64::from).sum::<f64>() / n,
                n / scores.len() as f64,
            )
        };
        // Of the fleet's tail, not of its peaks: these few would count once more, and as many as a
        // series' own, in the first fit.
        let pseudo = |place: f64| mean_peak * gpd::excess(fleet_shape, 1.0 / (1.0 - place));
        // A stride that has no factor in common with their number: whichever are overwritten first,
        // small and large ones remain.
        let spread =
            (0..PEAKS).map(|i| pseudo(((i * 27 % PEAKS) as f64 + 0.5) / PEAKS as f64) as f32);
        let mut tail = Self {
            level,
            rate,
            fleet_shape: fleet_shape as f32,
            shape: 0.0,
            mean_excess: 0.0,
            excess_at_risk: 0.0,
            peaks: spread.map(Peak::new).collect(),
            oldest: 0,
            unfitted: 0,
            cluster: Cluster::Outside,
        };
        tail.fit();
        tail.update_quantile(params.risk);
        tail
    }

    /// The score that one cluster in `rate / risk` exceeds: never below the level.
    pub(super) fn extreme(&self) -> f64 {
        self.level.at() * (1.0 + f64::from(self.excess_at_risk))
    }

    /// The same tail in another unit.
    pub(super) fn rescaled(self, unit: f64) -> Self {
        Self {
            level: self.level.rescaled(unit),
            ..self
        }
    }

    /// Learns from one normal score (for `dspot`, less the average).
    pub(super) fn learn(&mut self, params: &ThresholdParams, weight: f64, score: f64) {
        let ended = self.cluster.step(params.run, score / self.level.at() - 1.0);
        self.level.learn(params.above, weight, score);
        self.rate -= weight * self.rate;
        let Some(peak) = ended else { return };
        self.rate += weight;
        if let Some(place) = self.peaks.get_mut(usize::from(self.oldest)) {
            *place = Peak::new(peak);
        }
        self.oldest = (self.oldest + 1) % PEAKS as u8;
        self.unfitted += 1;
        if self.unfitted >= REFIT_AFTER {
            self.fit();
        }
        self.update_quantile(params.risk);
    }

    /// Records an outlier that does not update the tail.
    pub(super) fn mark_contaminated(&mut self) {
        self.cluster = Cluster::Tainted(0);
    }

    fn fit(&mut self) {
        let mut peaks = [0.0; PEAKS];
        for (place, peak) in peaks.iter_mut().zip(&self.peaks) {
            *place = peak.get();
        }
        let peaks = &peaks[..self.peaks.len().min(PEAKS)];
        let n = peaks.len() as f64;
        let shape = (gpd::shape(peaks) * n + f64::from(self.fleet_shape) * FLEET_WEIGHT)
            / (n + FLEET_WEIGHT);
        self.shape = shape as f32;
        self.mean_excess = peaks.iter().sum::<f32>() / peaks.len().max(1) as f32;
        self.unfitted = 0;
    }

    fn update_quantile(&mut self, risk: f64) {
        self.excess_at_risk = (f64::from(self.mean_excess)
            * gpd::excess(f64::from(self.shape), self.rate / risk))
            as f32;
    }
}

/// Mean excess of ascending values over their quantile; 0 where none is larger.
fn mean_excess(sorted: &[f64], probability: f64) -> f64 {
    let level = quantile(sorted, probability);
    let from = sorted.partition_point(|&value| value <= level);
    let above = sorted.get(from..).unwrap_or_default();
    above.iter().map(|value| value - level).sum::<f64>() / above.len().max(1) as f64
}
