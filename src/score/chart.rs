//! The control chart: residual vectors of a series become one score.
//!
//! A multivariate exponentially weighted moving average (Lowry, Woodall, Champ, Rigdon: "A
//! Multivariate Exponentially Weighted Moving Average Control Chart", Technometrics 34(1), 1992) on
//! the autoencoder's residual, less a slow baseline of the series that nearly stands still while
//! the series alerts. Vectors are smoothed, never scores: a small shift that all records share
//! survives the smoothing, noise does not.
//!
//! ```text
//! d = squash(r - mean)                      per field, at `clip_sigma` standard deviations
//! b <- b + max(beta, 1/n) (d - b)           n-th record of the series; leak * beta while alerting
//! e <- e + alpha ((d - b) - e)
//! score = sqrt(e' C^-1 e)                   C: shrunk covariance of e over normal data
//! ```

use serde::{Deserialize, Serialize};

use crate::score::ScoreSettings;

/// What the chart remembers of a series: two vectors of the length of the residual.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ChartState {
    /// Slow baseline `b`: what this series' residual is when nothing happens. Behind it the
    /// smoothed deviation `e` from the baseline, of the same length, whose length in whitened space
    /// is the score.
    vectors: Box<[f32]>,
    /// Records that the baseline has seen, at most 1 / beta: until then it is their plain mean, so
    /// that what sets a series apart from its fleet is soon part of it.
    seen: u32,
}

impl ChartState {
    /// Takes the present deviation for the new baseline: after a level shift that was accepted as
    /// normal.
    pub fn rebase(&mut self) {
        let (baseline, smoothed) = self.split_mut();
        for (b, e) in baseline.iter_mut().zip(smoothed) {
            *b += *e;
            *e = 0.0;
        }
    }

    /// The same deviations in other units, each field `by` its factor: for a model with another
    /// scaler. Void where the factors are those of another number of fields.
    pub fn rescaled(&self, by: &[f64]) -> Self {
        if self.vectors.len() != 2 * by.len() {
            return Self::default();
        }
        let vectors = self
            .vectors
            .iter()
            .zip(by.iter().chain(by))
            .map(|(&x, factor)| (f64::from(x) * factor) as f32);
        Self {
            vectors: vectors.collect(),
            seen: self.seen,
        }
    }

    fn split_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        self.vectors.split_at_mut(self.vectors.len() / 2)
    }

    fn smoothed(&self) -> &[f32] {
        &self.vectors[self.vectors.len() / 2..]
    }
}

/// The chart of a bundle: constants shared by all series.
#[derive(Clone, PartialEq, Debug)]
pub struct Chart {
    ewma_weight: f64,
    baseline_weight: f64,
    baseline_alarm_factor: f64,
    mean: Vec<f64>,
    /// Where each field's deviation is squashed, in scaled units.
    limit: Vec<f64>,
    /// Inverse of the lower Cholesky factor of C, row-major (rows x rows).
    whitening: Vec<f64>,
}

/// The covariance is no covariance.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error(
    "the residual covariance of the calibration is not positive definite at field {row}: train a new bundle"
)]
pub struct NotPositiveDefinite {
    /// Where the factorisation failed.
    pub row: usize,
}

impl Chart {
    /// A chart from calibration values: the residual's mean and standard deviation (length k) and
    /// the shrunk covariance of the smoothed deviation (k x k, row-major).
    ///
    /// # Errors
    /// [`NotPositiveDefinite`] where `covariance` is singular.
    pub fn new(
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
        let ewma_weight = settings.ewma_weight;
        let baseline_weight = settings.baseline_weight;
        let baseline_alarm_factor = settings.baseline_alarm_factor;
        Ok(Self {
            ewma_weight,
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
    pub fn step(&self, state: &mut ChartState, residual: &[f32], alerting: bool) -> f64 {
        let e = self.smooth(state, residual, alerting);
        self.length(e)
    }

    /// The score of a smoothed deviation (length k): its length in whitened space.
    pub fn length(&self, e: &[f32]) -> f64 {
        (0..self.rows())
            .map(|row| self.whitened(e, row).powi(2))
            .sum::<f64>()
            .sqrt()
    }

    /// The deviation vector `e` after one residual, without its score; calibration fits C to these.
    pub fn smooth<'s>(
        &self,
        state: &'s mut ChartState,
        residual: &[f32],
        alerting: bool,
    ) -> &'s [f32] {
        if state.vectors.len() != 2 * self.rows() {
            state.vectors = vec![0.0; 2 * self.rows()].into();
        }
        let warming =
            f64::from(state.seen + 1) * self.baseline_weight < 1.0 && self.baseline_weight > 0.0;
        state.seen += u32::from(warming);
        let baseline_weight = match (alerting, warming) {
            (true, _) => self.baseline_alarm_factor * self.baseline_weight,
            (false, true) => 1.0 / f64::from(state.seen),
            (false, false) => self.baseline_weight,
        };
        let constants = self.mean.iter().zip(&self.limit);
        let (baseline, smoothed) = state.split_mut();
        for ((&r, (&mean, &limit)), (b, e)) in residual
            .iter()
            .zip(constants)
            .zip(baseline.iter_mut().zip(smoothed))
        {
            let deviation = f64::from(r) - mean;
            // A residual that is no number would stay in the averages for ever: it counts as far
            // off instead.
            let d = if deviation.is_finite() {
                limit * tanh(deviation / limit)
            } else {
                limit
            };
            *b += (baseline_weight * (d - f64::from(*b))) as f32;
            *e += (self.ewma_weight * (d - f64::from(*b) - f64::from(*e))) as f32;
        }
        state.smoothed()
    }

    /// Goes over `missing` records that nobody has: the baseline moves as far towards the mean of
    /// the residuals before them (row-major, n x k) as so many records with that mean would move
    /// it, and takes the smoothed deviation along.
    pub fn skip(&self, state: &mut ChartState, before: &[f32], missing: u64) {
        let rows = before.len() / self.rows().max(1);
        if rows == 0 || state.vectors.len() != 2 * self.rows() {
            return;
        }
        // Its plain mean at first, as in `smooth`.
        let seen = f64::from(state.seen);
        let warming = ((1.0 / self.baseline_weight.max(f64::MIN_POSITIVE)).ceil() - 1.0 - seen)
            .clamp(0.0, missing as f64);
        let kept = seen / (seen + warming).max(1.0)
            * libm::pow(1.0 - self.baseline_weight, missing as f64 - warming);
        let constants = self.mean.iter().zip(&self.limit).enumerate();
        let (baseline, smoothed) = state.split_mut();
        for ((field, (&mean, &limit)), (b, e)) in constants.zip(baseline.iter_mut().zip(smoothed)) {
            let squashed = |row: &[f32]| match (f64::from(row[field]) - mean) / limit {
                deviations if deviations.is_finite() => limit * tanh(deviations),
                _ => limit,
            };
            let level = before.chunks_exact(self.rows()).map(squashed).sum::<f64>() / rows as f64;
            let moved = ((1.0 - kept) * (level - f64::from(*b))) as f32;
            *b += moved;
            *e -= moved;
        }
        state.seen += warming as u32;
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
        if state.vectors.len() != 2 * n {
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
pub fn shrink(covariance: &mut [f64], k: usize, settings: &ScoreSettings) {
    let shrinkage = settings.shrinkage;
    let floor = (SD_MIN * SD_MIN * settings.ewma_weight / (2.0 - settings.ewma_weight)).max(1e-6);
    for row in 0..k {
        for column in 0..k {
            if row != column {
                covariance[row * k + column] *= 1.0 - shrinkage;
            }
        }
        covariance[row * k + row] += floor;
    }
}

/// The lower Cholesky factor of a symmetric matrix (n x n, row-major).
fn cholesky(a: &[f64], n: usize) -> Result<Vec<f64>, NotPositiveDefinite> {
    let mut l = vec![0.0; n * n];
    for row in 0..n {
        for column in 0..=row {
            let dot: f64 = (0..column)
                .map(|k| l[row * n + k] * l[column * n + k])
                .sum();
            let rest = a.get(row * n + column).copied().unwrap_or(f64::NAN) - dot;
            if row == column {
                if rest.is_nan() || rest <= 0.0 {
                    return Err(NotPositiveDefinite { row });
                }
                l[row * n + row] = rest.sqrt();
            } else {
                l[row * n + column] = rest / l[column * n + column];
            }
        }
    }
    Ok(l)
}

/// The inverse of a lower triangular matrix (n x n, row-major), by forward substitution.
fn invert_lower(l: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for column in 0..n {
        inverse[column * n + column] = 1.0 / l[column * n + column];
        for row in column + 1..n {
            let dot: f64 = (column..row)
                .map(|k| l[row * n + k] * inverse[k * n + column])
                .sum();
            inverse[row * n + column] = -dot / l[row * n + row];
        }
    }
    inverse
}

#[cfg(test)]
mod tests;
