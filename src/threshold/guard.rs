//! Guard: decides which outliers update the threshold, and when a run of them is the new normal.
//!
//! Outliers are learned from out of an allowance that fills with the records seen, at twice the
//! rate at which normal records are expected above the threshold: enough for the threshold to rise
//! where it is too low, too little for faults to lift it.

use serde::{Deserialize, Serialize};

use super::ThresholdParams;

/// Outliers that the allowance holds at most: those of normal records come irregularly.
const ALLOWANCE_MAX: f32 = 4.0;
/// A run of outliers is learned from for this many records at most: smoothed scores come in
/// clusters of about this length.
const RUN_MAX: u32 = 10;
/// Outliers further above the threshold than this, as a ratio, are never learned from.
const NEAR: f64 = 2.0;
/// One accepted level shift multiplies the scale by this at most.
const GROWTH_MAX: f64 = 100.0;

/// What the guard remembers of a series.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Guard {
    /// Number of runs of outliers that may update the threshold.
    allowance: f32,
    /// Whether the present run is paid for.
    granted: bool,
    /// Outliers in a row.
    in_row: u32,
    /// Mean of the present run, relative to the state's scale; its newer half counts for most.
    run_mean: f32,
}

impl Guard {
    /// Takes note of a normal record.
    pub(super) fn normal(&mut self, params: &ThresholdParams) {
        self.in_row = 0;
        self.earn(params);
    }

    /// Records an outlier and returns whether it updates the threshold. `ratio` is score /
    /// threshold.
    pub(super) fn outlier(&mut self, params: &ThresholdParams, relative: f64, ratio: f64) -> bool {
        self.earn(params);
        if self.in_row == 0 {
            self.granted = self.allowance >= 1.0 && ratio <= NEAR;
            self.allowance -= f32::from(u8::from(self.granted));
            self.run_mean = 0.0;
        }
        self.in_row = self.in_row.saturating_add(1);
        let span = u64::from(self.in_row).min((params.level_shift_after / 2).max(1));
        self.run_mean += (relative as f32 - self.run_mean) / span as f32;
        self.granted && self.in_row <= RUN_MAX && ratio <= NEAR
    }

    /// Whether the present run is long enough to be the new normal.
    pub(super) fn shifted(&self, params: &ThresholdParams) -> bool {
        params.level_shift_after > 0 && u64::from(self.in_row) >= params.level_shift_after
    }

    /// How many times larger the scores of the present run are than the typical score, 1 to
    /// [`GROWTH_MAX`].
    pub(super) fn growth(&self, typical: f64) -> f64 {
        let growth = f64::from(self.run_mean) / typical;
        if growth.is_nan() {
            1.0
        } else {
            growth.clamp(1.0, GROWTH_MAX)
        }
    }

    fn earn(&mut self, params: &ThresholdParams) {
        self.allowance =
            (self.allowance + 2.0 * params.expected_outliers as f32).min(ALLOWANCE_MAX);
    }
}
