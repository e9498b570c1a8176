//! The control chart: residual vectors of a series become one score.
//!
//! A multivariate exponentially weighted moving average (Lowry, Woodall, Champ, Rigdon: "A
//! Multivariate Exponentially Weighted Moving Average Control Chart", Technometrics 34(1), 1992) on
//! readings, or on what a model leaves of them, less a slow baseline of the series that hardly moves
//! while the series alerts. Vectors are smoothed, never scores: a small shift that all records share
//! survives the smoothing, noise does not.
//!
//! ```text
//! d = squash(r - mean)                      per field, at `clip_sigma` standard deviations
//! b <- b + max(beta, 1/n) (d - b)           n-th record of the series; leak * beta while alerting
//! e <- e + alpha ((d - b) - e)
//! score = sqrt(e' C^-1 e)                   C: shrunk covariance of e over normal data
//! ```

use serde::{Deserialize, Serialize};

use super::matrix::{NotPositiveDefinite, cholesky, invert_lower};
use super::missing::{complete, length_ratio};
use crate::record::alert::ChartKind;
use crate::score::ScoreSettings;

/// What the chart remembers of a series: three vectors of the length of the residual.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ChartState {
    /// Slow baseline `b`: what this series' residual is when nothing happens. Behind it the
    /// smoothed deviation `e` from the baseline, whose length in whitened space is the score, and
    /// the anchor: a baseline that is [`ANCHOR`] times as slow.
    vectors: Box<[f32]>,
    /// Records that the anchor has seen, at most [`ANCHOR`] / beta: until then it is their plain
    /// mean, and the baseline is until 1 / beta, so that what sets a series apart from its fleet is
    /// soon part of it.
    seen: u32,
    /// Smoothed squared length of the vector, where it is that which the chart smooths.
    energy: f32,
}

impl ChartState {
    /// Takes the present deviation for the new baseline: after a level shift that was accepted as
    /// normal.
    pub fn rebase(&mut self) {
        let [baseline, smoothed, anchor] = self.split_mut();
        for ((b, e), a) in baseline.iter_mut().zip(smoothed).zip(anchor) {
            *b += *e;
            *e = 0.0;
            *a = *b;
        }
    }

    /// Takes the anchor for the baseline: the series is where it was long before.
    pub fn return_to_anchor(&mut self) {
        let [baseline, smoothed, anchor] = self.split_mut();
        for ((b, e), a) in baseline.iter_mut().zip(smoothed).zip(anchor) {
            *e += *b - *a;
            *b = *a;
        }
    }

    /// The same deviations in other units, each field `by` its factor: for a model with another
    /// scaler. Void where the factors are those of another number of fields.
    pub fn rescaled(&self, by: &[f64]) -> Self {
        if self.vectors.len() != VECTORS * by.len() {
            return Self::default();
        }
        let factors = by.iter().cycle();
        let vectors = self.vectors.iter().zip(factors);
        Self {
            vectors: vectors.map(|(&x, by)| (f64::from(x) * by) as f32).collect(),
            ..self.clone()
        }
    }

    /// A record that the chart says nothing of: what was smoothed before a gap is no part of what comes
    /// after it.
    pub fn pause(&mut self) {
        let [_, smoothed, _] = self.split_mut();
        smoothed.fill(0.0);
    }

    fn split_mut(&mut self) -> [&mut [f32]; VECTORS] {
        let k = self.vectors.len() / VECTORS;
        let (baseline, rest) = self.vectors.split_at_mut(k);
        let (smoothed, anchor) = rest.split_at_mut(k);
        [baseline, smoothed, anchor]
    }

    fn smoothed(&self) -> &[f32] {
        let k = self.vectors.len() / VECTORS;
        &self.vectors[k..2 * k]
    }
}

/// Fields whose steps together raise no alert, and how many steps each: of four simulated plants of
/// two to eight coarse sensors each number from two to four had at most 7 false alarms where one step of two
/// fields had 48, and found as many events.
const STEPPING: usize = 3;
const STEPS: f64 = 2.0;
/// Vectors of a state.
const VECTORS: usize = 3;
/// Records from which a baseline is learned even while the series alerts: it has none yet.
const FRESH: u32 = 20;
/// How many times as slow as the baseline the anchor is.
const ANCHOR: f64 = 10.0;

/// Weight of the newest vector.
pub fn ewma_weight(kind: ChartKind, settings: &ScoreSettings) -> f64 {
    match kind {
        ChartKind::Mewma | ChartKind::Adjusted | ChartKind::Autoencoder => settings.ewma_weight,
        ChartKind::T2 | ChartKind::Variance => 1.0,
    }
}

/// Weight of the newest squared length, where that is smoothed.
pub(super) fn energy_weight(kind: ChartKind) -> Option<f64> {
    (kind == ChartKind::Variance).then_some(ENERGY_WEIGHT)
}

/// Weight of the newest squared length of the innovation; see docs/decisions/0020.
const ENERGY_WEIGHT: f64 = 0.1;

/// Squared lengths are cut here: one wild record of k fields is an outlier, not a lasting one.
pub(super) fn energy_max(k: usize) -> f64 {
    9.0 * k as f64 + 40.0
}

/// The chart of a bundle: constants shared by all series.
#[derive(Clone, PartialEq, Debug)]
pub struct Chart {
    ewma_weight: f64,
    energy_weight: Option<f64>,
    baseline_weight: f64,
    baseline_alarm_factor: f64,
    mean: Vec<f64>,
    /// Where each field's deviation is squashed, in scaled units.
    limit: Vec<f64>,
    /// Inverse of the lower Cholesky factor of C, row-major (rows x rows).
    whitening: Vec<f64>,
}

impl Chart {
    /// A chart from calibration values: the residual's mean and standard deviation (length k) and
    /// the shrunk covariance of the smoothed deviation (k x k, row-major).
    ///
    /// # Errors
    /// [`NotPositiveDefinite`] where `covariance` is singular.
    pub fn new(
        kind: ChartKind,
        settings: &ScoreSettings,
        mean: &[f64],
        sd: &[f64],
        covariance: &[f64],
    ) -> Result<Self, NotPositiveDefinite> {
        let whitening = invert_lower(&cholesky(covariance, mean.len())?, mean.len());
        let limit = sd
            .iter()
            .map(|s| settings.clip_sigma * s.max(SD_MIN))
            .collect();
        let baseline_weight = settings.baseline_weight;
        let baseline_alarm_factor = settings.baseline_alarm_factor;
        Ok(Self {
            ewma_weight: ewma_weight(kind, settings),
            energy_weight: energy_weight(kind),
            baseline_weight,
            baseline_alarm_factor,
            mean: mean.to_vec(),
            limit,
            whitening,
        })
    }

    /// Length of the residual vector.
    pub fn rows(&self) -> usize {
        self.mean.len()
    }

    /// Takes one residual (length k, scaled units) and returns the score: finite, >= 0.
    ///
    /// While `alerting` the baseline moves `baseline_alarm_factor` times as fast: a fault is not
    /// learned as normal, and a true level shift still is in the end.
    pub fn step(
        &self,
        state: &mut ChartState,
        residual: &[f32],
        missing: &[usize],
        alerting: bool,
    ) -> f64 {
        let mut length = self.length(self.smooth(state, residual, missing, alerting));
        if !missing.is_empty() {
            length *= self.length_ratio(missing.len());
        }
        let Some(weight) = self.energy_weight else {
            return length;
        };
        let energy = f64::from(state.energy);
        let squared = (length * length).min(energy_max(self.rows()));
        state.energy = (energy + weight * (squared - energy)) as f32;
        f64::from(state.energy).sqrt()
    }

    /// The score of a smoothed deviation (length k): its length in whitened space.
    pub fn length(&self, e: &[f32]) -> f64 {
        (0..self.rows())
            .map(|row| self.whitened(e, row).powi(2))
            .sum::<f64>()
            .sqrt()
    }

    /// The score at which the [`STEPPING`] fields that it is most sensitive to have each moved by
    /// [`STEPS`] steps; 0 where no steps are known.
    pub fn step_score(&self, steps: &[f64]) -> f64 {
        let mut squares = vec![0.0; steps.len()];
        for row in self.whitening.chunks_exact(self.rows().max(1)) {
            squares
                .iter_mut()
                .zip(row)
                .for_each(|(sum, w)| *sum += w * w);
        }
        let lengths = steps.iter().zip(&squares);
        let mut lengths: Vec<f64> = lengths.map(|(step, square)| step * step * square).collect();
        lengths.sort_unstable_by(|a, b| b.total_cmp(a));
        STEPS * lengths.iter().take(STEPPING).sum::<f64>().sqrt()
    }

    /// The deviation vector `e` after one residual, without its score; calibration fits C to these.
    pub fn smooth<'s>(
        &self,
        state: &'s mut ChartState,
        residual: &[f32],
        missing: &[usize],
        alerting: bool,
    ) -> &'s [f32] {
        if state.vectors.len() != VECTORS * self.rows() {
            state.vectors = vec![0.0; VECTORS * self.rows()].into();
        }
        let (baseline_weight, anchor_weight) = self.weights(&mut state.seen, alerting);
        let constants = self.mean.iter().zip(&self.limit);
        let mut unknown = missing.iter().copied().peekable();
        let [baseline, smoothed, anchor] = state.split_mut();
        let vectors = baseline.iter_mut().zip(&mut *smoothed).zip(anchor);
        let fields = residual.iter().zip(constants).zip(vectors).enumerate();
        for (field, ((&r, (&mean, &limit)), ((b, e), a))) in fields {
            if unknown.next_if_eq(&field).is_some() {
                continue;
            }
            let d = squashed(f64::from(r) - mean, limit);
            *b += (baseline_weight * (d - f64::from(*b))) as f32;
            *a += (anchor_weight * (d - f64::from(*a))) as f32;
            *e += (self.ewma_weight * (d - f64::from(*b) - f64::from(*e))) as f32;
        }
        complete(&self.whitening, smoothed, missing);
        state.smoothed()
    }

    /// A vector whose `missing` entries (ascending) are what the others and the baseline of the series
    /// let expect; 0 deviation before its first record.
    pub fn estimated(&self, state: &ChartState, vector: &[f32], missing: &[usize]) -> Vec<f32> {
        let baseline = |field: usize| state.vectors.get(field).copied().unwrap_or(0.0);
        let constants = self.mean.iter().zip(&self.limit);
        let fields = vector.iter().zip(constants).enumerate();
        let deviation = |(field, (&r, (&mean, &limit))): (usize, (&f32, (&f64, &f64)))| {
            (squashed(f64::from(r) - mean, limit) - f64::from(baseline(field))) as f32
        };
        let mut deviations: Vec<f32> = fields.map(deviation).collect();
        complete(&self.whitening, &mut deviations, missing);
        let mut estimated = vector.to_vec();
        for &field in missing {
            let level = self.mean[field] as f32 + baseline(field);
            estimated[field] = level + deviations[field];
        }
        estimated
    }

    /// How many times longer the deviation of a record is than what is left of it without so many
    /// fields. That of the energy holds its mean.
    fn length_ratio(&self, missing: usize) -> f64 {
        let k = self.rows();
        let left = k.saturating_sub(missing).max(1);
        match self.energy_weight {
            Some(_) => (k as f64 / left as f64).sqrt(),
            None => length_ratio(k, left),
        }
    }

    /// The weights of a record in baseline and anchor; 1 / n until they are as slow as they get.
    fn weights(&self, seen: &mut u32, alerting: bool) -> (f64, f64) {
        let slow = self.baseline_weight;
        if alerting && *seen >= FRESH {
            return (self.baseline_alarm_factor * slow, 0.0);
        }
        if slow <= 0.0 {
            return (0.0, 0.0);
        }
        *seen = seen.saturating_add(1).min((ANCHOR / slow) as u32);
        let mean = 1.0 / f64::from(*seen).max(1.0);
        (slow.max(mean), (slow / ANCHOR).max(mean))
    }

    /// Goes over `missing` records that nobody has: the baseline moves as far towards the mean of
    /// the residuals before them (row-major, n x k) as so many records with that mean would move
    /// it, and takes the smoothed deviation along.
    pub fn skip(&self, state: &mut ChartState, before: &[f32], missing: u64) {
        let rows = before.len() / self.rows().max(1);
        if rows == 0 || state.vectors.len() != VECTORS * self.rows() {
            return;
        }
        let seen = f64::from(state.seen);
        // Its plain mean at first, as in `smooth`.
        let kept = |weight: f64| {
            let warming = ((1.0 / weight.max(f64::MIN_POSITIVE)).ceil() - 1.0 - seen)
                .clamp(0.0, missing as f64);
            seen / (seen + warming).max(1.0) * libm::pow(1.0 - weight, missing as f64 - warming)
        };
        let baseline_kept = kept(self.baseline_weight);
        let anchor_kept = kept(self.baseline_weight / ANCHOR);
        let constants = self.mean.iter().zip(&self.limit).enumerate();
        let [baseline, smoothed, anchor] = state.split_mut();
        let vectors = baseline.iter_mut().zip(smoothed).zip(anchor);
        for ((field, (&mean, &limit)), ((b, e), a)) in constants.zip(vectors) {
            let squashed = |row: &[f32]| match (f64::from(row[field]) - mean) / limit {
                deviations if deviations.is_finite() => limit * tanh(deviations),
                _ => limit,
            };
            let level = before.chunks_exact(self.rows()).map(squashed).sum::<f64>() / rows as f64;
            let moved = ((1.0 - baseline_kept) * (level - f64::from(*b))) as f32;
            *b += moved;
            *e -= moved;
            *a += ((1.0 - anchor_kept) * (level - f64::from(*a))) as f32;
        }
        if self.baseline_weight > 0.0 {
            let seen = (u64::from(state.seen) + missing) as f64;
            state.seen = seen.min(ANCHOR / self.baseline_weight) as u32;
        }
    }

    /// One component of `L^-1 e`, with `C = L L'`.
    fn whitened(&self, e: &[f32], row: usize) -> f64 {
        let start = row * self.rows();
        self.whitening[start..=start + row]
            .iter()
            .zip(e)
            .map(|(w, &e)| w * f64::from(e))
            .sum()
    }

    /// Each field's share of the present score: >= 0, adding up to 1 (all 0 where the score is 0).
    ///
    /// Reconstruction-based contributions (Alcala and Qin, "Reconstruction-based contribution for
    /// process monitoring", Automatica 45(7), 2009): how much of the squared score would go if the
    /// field's deviation were set right, `(C^-1 e)_i^2 / (C^-1)_ii`. They point at the right field
    /// for any fault of a single sensor, and are never negative.
    pub fn shares(&self, state: &ChartState) -> Vec<f64> {
        let n = self.rows();
        if state.vectors.len() != VECTORS * n {
            return vec![0.0; n];
        }
        let y: Vec<f64> = (0..n)
            .map(|row| self.whitened(state.smoothed(), row))
            .collect();
        let mut shares: Vec<f64> = (0..n)
            .map(|i| {
                let column = || (i..n).map(|row| (self.whitening[row * n + i], y[row]));
                let solved: f64 = column().map(|(w, y)| w * y).sum();
                let diagonal: f64 = column().map(|(w, _)| w * w).sum();
                solved * solved / diagonal
            })
            .collect();
        let total: f64 = shares.iter().sum();
        if total > 0.0 {
            shares.iter_mut().for_each(|share| *share /= total);
        }
        shares
    }
}

/// A deviation, cut smoothly at a limit. One that is not a number would stay in the averages for ever: it
/// counts as far off instead.
fn squashed(deviation: f64, limit: f64) -> f64 {
    if deviation.is_finite() {
        limit * tanh(deviation / limit)
    } else {
        limit
    }
}

/// Hyperbolic tangent, off by less than 1e-4 everywhere and by less than 1e-9 up to 1: its
/// continued fraction (Lambert, 1770; Abramowitz and Stegun, 4.5.70) after seven steps, cut where
/// it meets 1. libm's takes a tenth of a record's time, and a compiler makes several of these at
/// once.
fn tanh(x: f64) -> f64 {
    const MEETS_1: f64 = 4.971_786_858_528;
    let x = x.clamp(-MEETS_1, MEETS_1);
    let s = x * x;
    x * (135_135.0 + s * (17_325.0 + s * (378.0 + s)))
        / (135_135.0 + s * (62_370.0 + s * (3_150.0 + s * 28.0)))
}

/// The settings for a calibration on series of `series_rows` records: the baseline's memory is no
/// shorter than [`BASELINE_PART`] of them. A calibration knows what happens within the time that it
/// saw, so a baseline need not follow it, and one that does takes slow faults for drift.
pub fn paced(settings: &ScoreSettings, series_rows: usize) -> ScoreSettings {
    let baseline_weight = settings
        .baseline_weight
        .min(1.0 / (BASELINE_PART * series_rows.max(1) as f64));
    ScoreSettings {
        baseline_weight,
        ..settings.clone()
    }
}

/// See [`paced`].
const BASELINE_PART: f64 = 0.625;

/// Smallest standard deviation of a residual, in scaled units: deviations much smaller than normal
/// variation of the reading itself are no news, however well the model reconstructs the field.
pub const SD_MIN: f64 = 0.1;

/// `C' = (1 - s) C + s diag(C) + floor I`, with the shrinkage `s` and the variance of a smoothed
/// residual of standard deviation [`SD_MIN`] as the floor: never singular. `C` is k x k, row-major.
pub fn shrink(covariance: &mut [f64], k: usize, shrinkage: f64, ewma_weight: f64) {
    let floor = (SD_MIN * SD_MIN * ewma_weight / (2.0 - ewma_weight)).max(1e-6);
    for row in 0..k {
        for column in 0..k {
            if row != column {
                covariance[row * k + column] *= 1.0 - shrinkage;
            }
        }
        covariance[row * k + row] += floor;
    }
}

#[cfg(test)]
mod tests;
