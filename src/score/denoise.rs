//! What the denoiser leaves of normal records, and whether its chart is worth its share of the alert
//! budget.

use std::ops::Range;

use tch::TchError;

use super::rows::{Memories, Rows};
use crate::model::denoiser::{Denoiser, DenoiserRows, fit};

/// The denoiser is used where its error on held-out records is at most this part of that of its
/// linear part; see docs/decisions/0021.
const ERROR_RATIO_MAX: f64 = 0.8;
/// Input values that a denoiser is fitted to at most: 64 MiB.
const VALUES_MAX: usize = 1 << 24;

/// A denoiser that is worth a chart, and what is left of the records by it.
pub struct Denoised {
    /// The denoiser.
    pub denoiser: Denoiser,
    /// What is left of each record that has a past, by the denoiser of its fold; row-major.
    pub residuals: Vec<f32>,
    /// The rows of `residuals` of each series.
    pub segments: Vec<Range<usize>>,
}

/// Fits a denoiser to records: where it is far enough ahead of a linear one, what is left of them, and
/// the ratio of their errors, `None` where there are too few records.
///
/// # Errors
/// A failure inside libtorch.
pub fn denoise(rows: &Rows<'_>, seed: u64) -> Result<(Option<Denoised>, Option<f64>), TchError> {
    let inputs = DenoiserRows::inputs(rows.k);
    let every = (rows.count() * inputs).div_ceil(VALUES_MAX).max(1);
    let mut sample = DenoiserRows::new(rows.k);
    rows.walk(Memories::Before, |_, row, memory, z| {
        if let Some(past) = memory.past().filter(|_| row % every == 0) {
            sample.push(z, past, rows.fold[row]);
        }
    });
    let Some(fitted) = fit(&sample, rows.folds, seed)? else {
        return Ok((None, None));
    };
    let ratio = Some(fitted.error_ratio);
    let Some(denoiser) = fitted
        .mean()
        .filter(|_| fitted.error_ratio <= ERROR_RATIO_MAX)
    else {
        return Ok((None, ratio));
    };
    let (residuals, segments) = rows.left(Memories::Before, |fold, memory, z| {
        Some(fitted.folds[fold].residual(z, memory.past()?))
    });
    let denoised = Denoised {
        denoiser,
        residuals,
        segments,
    };
    Ok((Some(denoised), ratio))
}
