//! Calibration: what the residuals of normal data tell the control chart.
//!
//! The residuals have to come from models that did not learn the rows in question (out of fold):
//! the residuals of rows that a model was fitted to are too small, and a threshold from them gives
//! false alarms.

use std::ops::Range;

use super::chart::{Chart, ChartState, energy_max, energy_weight, ewma_weight, paced, shrink};
use super::matrix::{NotPositiveDefinite, add_outer};
use crate::model::calibration::ChartCalibration;
use crate::record::alert::ChartKind;
use crate::score::ScoreSettings;

/// Records of a series that are not in the calibration: a sample of weeks holds a part of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CalibrationGap {
    /// The row before which they are missing.
    pub row: usize,
    /// How many.
    pub missing: u64,
}

/// Median number of rows of a series, each of which is a segment.
pub fn series_rows(segments: &[Range<usize>]) -> usize {
    let mut lengths: Vec<usize> = segments.iter().map(ExactSizeIterator::len).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(0)
}

/// Fits a chart to vectors of normal data (row-major, n x k, scaled units); each segment is one
/// series in time order and starts with a fresh state, as a new series will. Over `gaps`, in the
/// order of the rows, the baseline continues towards where the series was before, as it does live:
/// see [`Chart::skip`].
///
/// `least` are the least standard deviations of the fields, none for 0: they are added to the
/// covariance.
///
/// The scores are those that new records of the same distribution are expected to have: a covariance
/// of few vectors makes those it was fitted to look nearer than any others. See [`inflation`].
///
/// # Errors
/// [`NotPositiveDefinite`], which the shrinkage makes impossible for finite vectors.
pub fn calibrate(
    kind: ChartKind,
    settings: &ScoreSettings,
    vectors: &[f32],
    k: usize,
    segments: &[Range<usize>],
    gaps: &[CalibrationGap],
    least: &[f64],
) -> Result<ChartCalibration, NotPositiveDefinite> {
    let settings = &paced(settings, series_rows(segments));
    let (mean, mut sd) = moments(vectors, k);
    sd.iter_mut()
        .zip(least)
        .for_each(|(sd, least)| *sd = sd.max(*least));
    let identity: Vec<f64> = (0..k * k)
        .map(|i| if i % (k + 1) == 0 { 1.0 } else { 0.0 })
        .collect();
    let smoother = Chart::new(kind, settings, &mean, &sd, &identity)?;
    let smoothed = smoothed(&smoother, vectors, k, segments, gaps);
    let mut covariance = covariance(&smoothed, k);
    shrink(
        &mut covariance,
        k,
        settings.shrinkage,
        ewma_weight(kind, settings),
    );
    for (field, least) in least.iter().enumerate() {
        covariance[field * (k + 1)] += least * least;
    }
    let chart = Chart::new(kind, settings, &mean, &sd, &covariance)?;
    let inflation = inflation(&smoothed, k, segments);
    let mut scores: Vec<f64> = smoothed
        .chunks_exact(k)
        .map(|e| inflation * chart.length(e))
        .collect();
    if let Some(weight) = energy_weight(kind) {
        smooth_energy(&mut scores, weight, k, segments);
    }
    Ok(ChartCalibration {
        kind,
        mean,
        sd,
        covariance,
        scores,
    })
}

/// The smoothed deviation of each row.
fn smoothed(
    smoother: &Chart,
    vectors: &[f32],
    k: usize,
    segments: &[Range<usize>],
    gaps: &[CalibrationGap],
) -> Vec<f32> {
    let mut smoothed = Vec::with_capacity(vectors.len());
    let mut gaps = gaps.iter().peekable();
    for segment in segments {
        let mut state = ChartState::default();
        let mut run = segment.start;
        for row in segment.clone() {
            if let Some(gap) = gaps.next_if(|gap| gap.row == row) {
                smoother.skip(&mut state, &vectors[run * k..row * k], gap.missing);
                run = row;
            }
            smoothed.extend_from_slice(smoother.smooth(
                &mut state,
                &vectors[row * k..(row + 1) * k],
                &[],
                false,
            ));
        }
    }
    smoothed
}

/// Lengths become roots of smoothed squared lengths, as in [`Chart::step`]; each series begins at
/// the mean of all.
fn smooth_energy(lengths: &mut [f64], weight: f64, k: usize, segments: &[Range<usize>]) {
    let squared = |length: f64| (length * length).min(energy_max(k));
    let mean =
        lengths.iter().map(|&length| squared(length)).sum::<f64>() / lengths.len().max(1) as f64;
    for segment in segments {
        let mut energy = mean;
        for length in &mut lengths[segment.clone()] {
            energy += weight * (squared(*length) - energy);
            *length = energy.sqrt();
        }
    }
}

/// How many times longer the vectors of new records are than those that the covariance was fitted
/// to: `sqrt(1 + c k / m)` with m independent vectors of length k.
///
/// For T-squared of independent normal vectors the ratio of the prediction limit to the fitted
/// values is `(m + 1) / (m - k)`, `1 + k / m` to first order (Hotelling, "Multivariate Quality
/// Control", 1947; Tracy, Young, Mason, Journal of Quality Technology 24(2), 1992). Out-of-fold
/// vectors of a machine that drifts exceed it.
fn inflation(smoothed: &[f32], k: usize, segments: &[Range<usize>]) -> f64 {
    (1.0 + INFLATION * k as f64 / independent(smoothed, k, segments)).sqrt()
}

/// c of [`inflation`]; see docs/decisions/0020.
const INFLATION: f64 = 5.0;

/// Autocorrelation below which vectors count as independent.
const RHO_MIN: f64 = 0.05;
/// Rows of a series that the autocorrelation is taken from at most, evenly thinned.
const THINNED: usize = 8_192;

/// How many of the vectors are independent: `n / (1 + 2 sum rho)` over the lags before the
/// autocorrelation first falls below [`RHO_MIN`], at most a quarter of the longest series (Geyer,
/// "Practical Markov Chain Monte Carlo", Statistical Science 7(4), 1992); mean over the fields, at
/// least 2.
pub fn independent(vectors: &[f32], k: usize, segments: &[Range<usize>]) -> f64 {
    let longest = segments.iter().map(ExactSizeIterator::len).max();
    let stride = longest.unwrap_or(0).div_ceil(THINNED).max(1);
    let of_field = |field: usize| {
        let columns: Vec<Vec<f64>> = segments
            .iter()
            .map(|segment| {
                let rows = segment.clone().step_by(stride);
                rows.map(|row| f64::from(vectors[row * k + field]))
                    .collect()
            })
            .collect();
        let n = columns.iter().map(Vec::len).sum::<usize>() as f64;
        let mean = columns.iter().flatten().sum::<f64>() / n.max(1.0);
        let at_lag = |lag: usize| -> f64 {
            let pairs = columns
                .iter()
                .flat_map(|column| column.iter().zip(column.iter().skip(lag)));
            pairs.map(|(a, b)| (a - mean) * (b - mean)).sum()
        };
        let variance = at_lag(0);
        let longest = columns.iter().map(Vec::len).max().unwrap_or(0);
        let correlations = (1..(longest / 4).max(2)).map(|lag| at_lag(lag) / variance);
        let sum: f64 = correlations.take_while(|rho| *rho >= RHO_MIN).sum();
        (n / (1.0 + 2.0 * sum)).max(2.0)
    };
    (0..k).map(of_field).sum::<f64>() / k.max(1) as f64
}

/// Covariance (k x k, row-major) of smoothed deviations (row-major, n x k).
fn covariance(smoothed: &[f32], k: usize) -> Vec<f64> {
    let mut covariance = vec![0.0; k * k];
    for e in smoothed.chunks_exact(k) {
        let e: Vec<f64> = e.iter().map(|&e| f64::from(e)).collect();
        add_outer(&mut covariance, &e);
    }
    let n = (smoothed.len() / k.max(1)).max(1) as f64;
    covariance.iter_mut().for_each(|c| *c /= n);
    covariance
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
    (
        mean,
        variance.into_iter().map(|v| v.sqrt().max(1e-9)).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ResidualScope;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    fn as_delivered() -> ScoreSettings {
        ScoreSettings {
            scope: ResidualScope::Record,
            ewma_weight: 0.05,
            baseline_weight: 0.004,
            baseline_alarm_factor: 0.0,
            clip_sigma: 15.0,
            shrinkage: 0.03,
        }
    }

    #[test]
    fn scores_of_normal_rows_have_the_length_of_a_whitened_vector() {
        let settings = ScoreSettings {
            scope: ResidualScope::Record,
            ewma_weight: 0.1,
            baseline_weight: 0.004,
            baseline_alarm_factor: 0.1,
            clip_sigma: 15.0,
            shrinkage: 1e-9,
        };
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
        let c = calibrate(
            ChartKind::Mewma,
            &settings,
            &rows,
            3,
            &[0..10_000, 10_000..20_000],
            &[],
            &[],
        )
        .unwrap();
        let mean_square = c.scores.iter().map(|s| s * s).sum::<f64>() / c.scores.len() as f64;
        // E[e' C^-1 e] = k with the plain covariance; the floor of the variances takes a little
        // off.
        assert!((2.0..=3.01).contains(&mean_square), "{mean_square}");
        assert!(c.mean.iter().all(|m| (m - 3.0).abs() < 0.1), "{:?}", c.mean);
        assert!(c.scores[0] < 2.0, "a new series starts near 0");
    }

    /// Independent normal residuals (row-major, n x 8).
    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..n * 8)
            .map(|_| StandardNormal.sample(&mut rng))
            .collect()
    }

    #[test]
    fn scores_of_few_rows_do_not_promise_too_little() {
        let settings = as_delivered();
        let q99 = |mut scores: Vec<f64>| {
            scores.sort_by(f64::total_cmp);
            scores[scores.len() * 99 / 100]
        };
        for (rows, at_most) in [(400, 2.2), (4_000, 1.35), (40_000, 1.15)] {
            let c = calibrate(
                ChartKind::Mewma,
                &settings,
                &noise(rows, 7),
                8,
                std::slice::from_ref(&(0..rows)),
                &[],
                &[],
            )
            .unwrap();
            let chart = Chart::new(
                ChartKind::Mewma,
                &paced(&settings, rows),
                &c.mean,
                &c.sd,
                &c.covariance,
            )
            .unwrap();
            let mut state = ChartState::default();
            let live = noise(40_000, 8)
                .chunks_exact(8)
                .map(|r| chart.step(&mut state, r, &[], false))
                .collect();
            let ratio = q99(c.scores) / q99(live);
            assert!((0.9..at_most).contains(&ratio), "{rows} rows: {ratio}");
        }
    }

    /// A series of noise around a level that changes after half of it, kept in runs of 64 of every
    /// 1,024 records.
    fn sampled(change: f32) -> (Vec<f32>, Vec<CalibrationGap>) {
        let whole = noise(128 * 1_024, 5);
        let mut kept = Vec::new();
        let mut gaps = Vec::new();
        for (run, rows) in whole.chunks_exact(1_024 * 8).enumerate() {
            let level = if run < 64 { 0.0 } else { change };
            if run > 0 {
                gaps.push(CalibrationGap {
                    row: kept.len() / 8,
                    missing: 960,
                });
            }
            kept.extend(rows[..64 * 8].iter().map(|r| r + level));
        }
        (kept, gaps)
    }

    #[test]
    fn a_change_between_two_times_is_not_movement() {
        let settings = as_delivered();
        let widest = |change: f32, with_gaps: bool| {
            let (kept, gaps) = sampled(change);
            let rows = kept.len() / 8;
            let gaps = if with_gaps { gaps } else { Vec::new() };
            let c = calibrate(
                ChartKind::Mewma,
                &settings,
                &kept,
                8,
                std::slice::from_ref(&(0..rows)),
                &gaps,
                &[],
            )
            .unwrap();
            (0..8).map(|i| c.covariance[9 * i]).fold(0.0, f64::max)
        };
        let same = widest(0.0, true);
        let changed = widest(1.5, true);
        // What is left is the time in which the baseline follows, which is the same in life.
        let followed_each_other = widest(1.5, false);
        assert!(changed < 3.5 * same, "{changed} {same}");
        assert!(
            followed_each_other > 4.0 * changed,
            "{followed_each_other} {changed}"
        );
    }
}
