//! Calibration: what the residuals of normal data tell the control chart.
//!
//! The residuals have to come from models that did not learn the rows in question (out of fold): the residuals of rows
//! that a model was fitted to are too small, and a threshold from them gives false alarms.

use std::ops::Range;

use super::chart::{Chart, ChartState, NotPositiveDefinite, shrink};
use crate::config::settings;

/// The chart's constants and the scores of normal data.
#[derive(Clone, PartialEq, Debug)]
pub struct Calibrated {
    /// Mean residual (length k, scaled units).
    pub mean: Vec<f64>,
    /// Standard deviation of the residual (length k, scaled units).
    pub sd: Vec<f64>,
    /// Shrunk covariance of the smoothed residual (k x k, row-major).
    pub covariance: Vec<f64>,
    /// Score of each row, in the order of the rows.
    pub scores: Vec<f64>,
}

/// Fits the chart to residuals of normal data (row-major, n x k, scaled units); each segment is one series in time order
/// and starts with a fresh state, as a new series will.
///
/// # Errors
/// [`NotPositiveDefinite`], which the shrinkage makes impossible for finite residuals.
pub fn calibrate(
    settings: &settings::Score,
    residuals: &[f32],
    k: usize,
    segments: &[Range<usize>],
) -> Result<Calibrated, NotPositiveDefinite> {
    let (mean, sd) = moments(residuals, k);
    let identity: Vec<f64> = (0..k * k).map(|i| if i % (k + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let smoother = Chart::new(settings, &mean, &sd, &identity)?;
    let rows = |segment: &Range<usize>| residuals[segment.start * k..segment.end * k].chunks_exact(k);

    let mut covariance = vec![0.0; k * k];
    let mut n = 0.0;
    for segment in segments {
        let mut state = ChartState::default();
        for residual in rows(segment) {
            let e = smoother.smooth(&mut state, residual, false);
            for (row, &a) in e.iter().enumerate() {
                for (column, &b) in e.iter().enumerate() {
                    covariance[row * k + column] += f64::from(a) * f64::from(b);
                }
            }
            n += 1.0;
        }
    }
    covariance.iter_mut().for_each(|c| *c /= f64::max(n, 1.0));
    shrink(&mut covariance, k, settings);

    let chart = Chart::new(settings, &mean, &sd, &covariance)?;
    let mut scores = Vec::with_capacity(residuals.len() / k.max(1));
    for segment in segments {
        let mut state = ChartState::default();
        scores.extend(rows(segment).map(|residual| chart.step(&mut state, residual, false)));
    }
    Ok(Calibrated { mean, sd, covariance, scores })
}

/// Mean and standard deviation of each of k columns.
fn moments(residuals: &[f32], k: usize) -> (Vec<f64>, Vec<f64>) {
    let n = (residuals.len() / k.max(1)).max(1) as f64;
    let mut mean = vec![0.0; k];
    for row in residuals.chunks_exact(k) {
        for (m, &r) in mean.iter_mut().zip(row) {
            *m += f64::from(r) / n;
        }
    }
    let mut variance = vec![0.0; k];
    for row in residuals.chunks_exact(k) {
        for ((v, m), &r) in variance.iter_mut().zip(&mean).zip(row) {
            *v += (f64::from(r) - m).powi(2) / n;
        }
    }
    (mean, variance.into_iter().map(|v| v.sqrt().max(1e-9)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn scores_of_normal_rows_have_the_length_of_a_whitened_vector() {
        let settings = settings::Score { alpha: 0.1, beta: 0.004, leak: 0.1, squash: 5.0, shrinkage: 1e-9 };
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        // Three fields that share one cause.
        let rows: Vec<f32> = (0..20_000)
            .flat_map(|_| {
                let cause: f32 = StandardNormal.sample(&mut rng);
                [1.0, 2.0, -1.0].map(|weight| {
                    let own: f32 = StandardNormal.sample(&mut rng);
                    weight * cause + 0.5 * own + 3.0
                })
            })
            .collect();
        let c = calibrate(&settings, &rows, 3, &[0..10_000, 10_000..20_000]).unwrap();
        let mean_square = c.scores.iter().map(|s| s * s).sum::<f64>() / c.scores.len() as f64;
        // E[e' C^-1 e] = k with the plain covariance; the floor of the variances takes a little off.
        assert!((2.0..=3.01).contains(&mean_square), "{mean_square}");
        assert!(c.mean.iter().all(|m| (m - 3.0).abs() < 0.1), "{:?}", c.mean);
        assert!(c.scores[0] < 2.0, "a new series starts near 0");
    }
}
