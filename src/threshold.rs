//! Threshold: the level above which a score is an outlier, one small state per series, adapting to
//! the series' own scores.
//!
//! A [`ThresholdParams`] holds the constants of a stream, a [`ThresholdState`] what is remembered
//! of a series (below 400 bytes). A new series clones the state made from the fleet's calibration
//! scores, which count as `min_records` pseudo-observations. A step is pure: it compares the score
//! first and learns from it afterwards. Everything learned is kept relative to one scale, so that
//! the unit and the size of the scores do not matter.
//!
//! | kind | level, before the margin | uses the budget |
//! |---|---|---|
//! | `sigma` | mean + k sd, exponentially weighted; k the risk's normal quantile | yes; exact for normal tails |
//! | `quantile` | the running `level` quantile | no: `level` and `margin` say how rare an outlier is |
//! | `spot` | the level whose exceedance has the risk, by a generalised Pareto tail over the `level` quantile | yes |
//! | `dspot` | the same of the score less its moving average, added to that average | yes |
//!
//! What keeps a series' threshold from going astray:
//! - bound: without an accepted level shift the level stays within [`DRIFT_MAX`] times the fleet's
//!   prior, both ways;
//! - floor: the threshold lies at least 10 % above the series' typical score, so that constant
//!   scores do not alert at their first tick of change;
//! - contamination guard: the state is not updated with outliers, except for the expected share of
//!   normal records above the threshold;
//! - level shift: after outliers alone for `level_shift_after` the state is rescaled to them and
//!   learns from the start.

mod estimator;
mod gpd;
mod guard;
mod level;
mod prior;
mod series;
mod settings;
mod tail;

pub use self::series::{SeriesOutput, SeriesThresholdParams, SeriesThresholds, lift_of};
pub use self::settings::{AlertBudget, ThresholdKind, ThresholdSettings};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use self::estimator::Estimator;
use self::guard::Guard;

/// Without an accepted level shift, the level stays between the fleet's prior divided and
/// multiplied by this.
pub const DRIFT_MAX: f64 = 4.0;
/// The threshold is at least this many times the typical score.
const FLOOR: f64 = 1.1;
/// The risk of one record is kept in this range: below, a tail fitted to hundreds of scores is not
/// informative; above, an "outlier" is an ordinary record.
const RISK: (f64, f64) = (1e-9, 0.1);
/// The prior counts as this many records at least, so that the first few records of a series decide
/// nothing.
const PRIOR_MIN: u64 = 100;
/// Scores are cut here, in units of the state's scale: squares and sums of them stay finite.
const RELATIVE_MAX: f64 = 1e12;
/// What operators say of false alarms raises a threshold by this at most, until another bundle is
/// live.
pub const OPERATOR_FACTOR_MAX: f64 = 4.0;
/// How far above a false alarm's highest score the threshold is raised.
const OPERATOR_FACTOR_MARGIN: f64 = 1.1;
/// Range of a state's scale in score units: far inside what an f64 holds, so that products with it
/// are finite, not 0.
const SCALE: (f64, f64) = (1e-300, 1e300);

/// The constants of a stream's thresholds, made once.
#[derive(Clone, PartialEq, Debug)]
pub struct ThresholdParams {
    kind: ThresholdKind,
    /// Risk of one record: the part of all normal records that may be outliers.
    risk: f64,
    /// Standard deviations of `sigma`.
    deviations: f64,
    margin: f64,
    /// Probability of a score above the tracked quantile.
    above: f64,
    min_records: u64,
    /// Records that the prior counts as.
    prior: u64,
    memory: u64,
    /// Outliers in a row; 0: never.
    level_shift_after: u64,
    /// Part of the normal records that is expected above the threshold, margin included.
    expected_outliers: f64,
    /// Records at or below the initial level that end a cluster of peaks.
    run: u8,
    /// Weight of the newest score in the moving average of `dspot`.
    average_weight: f64,
}

impl ThresholdParams {
    /// The constants for records that follow each other by `period` in a series.
    ///
    /// The risk is `budget.alerts * period / budget.period`, kept within 1e-9 and 0.1. The moving
    /// average of `dspot` is exponential, with the mean age of a window of d = `memory` / 20
    /// records (20 to 5,000): it needs two numbers' room where a window needs d, and d has to be
    /// well above the score's own smoothing or the average would follow every cluster.
    ///
    /// The risk, or for a kind without one the part above `level`, is that of one of `charts` that
    /// share it.
    pub fn new(settings: &ThresholdSettings, period: Duration, charts: usize) -> Self {
        let share = 1.0 / charts.max(1) as f64;
        let ratio = settings.budget.alerts * period.as_secs_f64() * share
            / settings.budget.period.as_secs_f64();
        let risk = if ratio.is_nan() {
            RISK.1
        } else {
            ratio.clamp(RISK.0, RISK.1)
        };
        // Peaks over the level are those of one chart; only without a budget the level is an alert's.
        let share = if settings.kind.uses_budget() {
            1.0
        } else {
            share
        };
        let above = ((1.0 - settings.level) * share).clamp(1e-6, 0.5);
        // A tail that is exponential from 0 on is exceeded at m times its level with the m-th power
        // of the level's probability.
        let base = if settings.kind.uses_budget() {
            risk
        } else {
            above
        };
        let expected_outliers = libm::pow(base, settings.margin());
        let memory = settings.memory.max(PRIOR_MIN);
        let window = (memory as f64 / 20.0).clamp(20.0, 5_000.0);
        Self {
            kind: settings.kind,
            risk,
            // statrs calls the C library's logarithm, whose last bit depends on the processor; in
            // single precision it is the same everywhere.
            deviations: f64::from(-Normal::standard().inverse_cdf(risk) as f32),
            margin: settings.margin(),
            above,
            min_records: settings.min_records,
            prior: settings.min_records.clamp(PRIOR_MIN, memory),
            memory,
            level_shift_after: records_in(settings.level_shift_after, period),
            expected_outliers,
            // As long as the score's memory at the usual smoothing, but so short that independent
            // peaks are seldom merged.
            run: (0.1 / above).clamp(1.0, 10.0) as u8,
            average_weight: 2.0 / (window + 1.0),
        }
    }

    /// The risk of one record that follows from the budget, [1e-9, 0.1]; report the achieved rate
    /// beside it.
    pub fn risk(&self) -> f64 {
        self.risk
    }

    /// Weight of the newest score after `own` records: that of a plain mean whose first records are
    /// the prior, later that of an exponential one.
    fn weight(&self, own: u64) -> f64 {
        1.0 / self.prior.saturating_add(own).min(self.memory) as f64
    }
}

/// How many records follow each other by `period` in a time, 1 at least; 0 where there is no time.
fn records_in(time: Duration, period: Duration) -> u64 {
    if time.is_zero() {
        return 0;
    }
    let records = time.as_secs_f64() / period.as_secs_f64();
    (records.ceil() as u64).max(1)
}

/// The result of a threshold for one score.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ThresholdOutput {
    /// The threshold that the score was compared with; finite, > 0.
    pub threshold: f64,
    /// Whether the score lies above it: an outlier.
    pub above: bool,
    /// Whether this outlier made the state take the present scores for the new normal; at most once
    /// in the records of `level_shift_after`.
    pub relearning: bool,
}

/// The threshold of one series. See the module's documentation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ThresholdState {
    /// What counts as 1: the level of the fleet's prior, in score units; multiplied where a level
    /// shift is accepted.
    scale: f64,
    /// Exponentially weighted mean of the scores learned from, relative; the floor rests on it,
    /// and `sigma`.
    typical: f64,
    /// Number of updates since the state was cloned or last accepted a level shift.
    own: u32,
    /// The operator's: the threshold is this many times what follows from the scores, 1 to
    /// [`OPERATOR_FACTOR_MAX`].
    operator_factor: f32,
    /// The contamination guard.
    guard: Guard,
    /// What depends on the kind.
    estimator: Estimator,
}

impl ThresholdState {
    /// The state of a series without own records, from the calibration scores of the fleet's normal
    /// data.
    ///
    /// `scores` are in time order, by which clusters are found; those that are negative or not
    /// finite are left out. Where no positive score is left, 3 is taken for the level: the scores
    /// of the chart are in standard deviations.
    pub fn calibrated(params: &ThresholdParams, scores: &[f64]) -> Self {
        prior::calibrated(params, scores)
    }

    /// The present threshold, margin included: finite, > 0.
    pub fn value(&self, params: &ThresholdParams) -> f64 {
        let level = self.estimator.level(params, self.typical);
        let relative = (params.margin * level).max(FLOOR * self.typical);
        let own = self.scale * relative.clamp(params.margin / DRIFT_MAX, params.margin * DRIFT_MAX);
        (own * f64::from(self.operator_factor)).clamp(SCALE.0, f64::MAX)
    }

    /// The ratio of a score to a threshold that is `factor` times the present one. Below the
    /// threshold it is drawn out where typical scores lie above half of it, so that a typical score
    /// has 0.5 at most: how near a score is to the threshold means the same for a score that hardly
    /// varies.
    pub fn ratio(&self, params: &ThresholdParams, score: f64, factor: f64) -> f64 {
        let threshold = self.value(params) * factor;
        if score >= threshold {
            return score / threshold;
        }
        let from = (2.0 * self.scale * self.typical - threshold).max(0.0);
        ((score - from) / (threshold - from)).max(0.0)
    }

    /// Raises the threshold above a score that an operator calls a false alarm; one that is lower,
    /// or not finite, changes nothing, and neither does saying it again. It stays raised until
    /// another bundle is live or a level shift is accepted.
    pub fn lift_above(&mut self, params: &ThresholdParams, score: f64) {
        let by = OPERATOR_FACTOR_MARGIN * score / self.value(params);
        if by > 1.0 && score.is_finite() {
            self.operator_factor =
                (by * f64::from(self.operator_factor)).min(OPERATOR_FACTOR_MAX) as f32;
        }
    }

    /// Learns from a normal score. One that is not finite or negative is ignored.
    pub fn learn(&mut self, params: &ThresholdParams, score: f64) {
        if score.is_finite() && score >= 0.0 {
            self.guard.normal(params);
            self.take(params, self.relative(score));
        }
    }

    /// Compares a score with the threshold, then learns from it unless it is an outlier.
    ///
    /// Normal records exceed any threshold now and then: a threshold that never learned from one
    /// would sink, and call more and more records outliers. So those that come no more than twice
    /// as often as expected and lie below twice the threshold are learned from as well. A score
    /// that is not finite or negative changes nothing. `factor` multiplies the threshold for this
    /// score.
    pub fn step(&mut self, params: &ThresholdParams, score: f64, factor: f64) -> ThresholdOutput {
        let threshold = self.value(params) * factor;
        let above = score > threshold;
        let mut relearning = false;
        if !above {
            self.learn(params, score);
        } else if score.is_finite() {
            let relative = self.relative(score);
            if self.guard.outlier(params, relative, score / threshold) {
                self.take(params, relative);
            } else {
                self.estimator.skip_outlier();
            }
            relearning = self.guard.shifted(params);
            if relearning {
                self.reanchor();
            }
        }
        ThresholdOutput {
            threshold,
            above,
            relearning,
        }
    }

    /// Whether the threshold rests on the fleet's calibration more than on the series' own records.
    pub fn provisional(&self, params: &ThresholdParams) -> bool {
        self.missing_records(params) > 0
    }

    /// Number of own records that the series needs until its threshold is no longer provisional.
    pub fn missing_records(&self, params: &ThresholdParams) -> u64 {
        params.min_records.saturating_sub(self.own_records())
    }

    /// Number of updates since the series started or a level shift was accepted.
    pub fn own_records(&self) -> u64 {
        u64::from(self.own)
    }

    /// Whether the state is of the params' kind. One that is not still works as its own kind; the
    /// caller replaces it by the calibrated one when the configuration has changed.
    pub fn fits(&self, params: &ThresholdParams) -> bool {
        self.estimator.kind() == params.kind
    }

    fn relative(&self, score: f64) -> f64 {
        (score / self.scale).min(RELATIVE_MAX)
    }

    fn take(&mut self, params: &ThresholdParams, relative: f64) {
        let weight = params.weight(self.own_records());
        self.own = self.own.saturating_add(1);
        let difference = relative - self.typical;
        self.typical += weight * difference;
        self.estimator.learn(params, weight, relative, difference);
    }

    /// Takes the scores of the present run of outliers for normal: the same distribution, scaled to
    /// their mean. The own records begin at 0 again, so that the state is provisional and learns as
    /// fast as a new one.
    fn reanchor(&mut self) {
        let growth = self.guard.growth(self.typical);
        self.scale = (self.scale * growth).clamp(SCALE.0, SCALE.1);
        self.own = 0;
        self.operator_factor = 1.0;
        self.guard = Guard::default();
    }
}
