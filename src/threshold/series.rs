//! The thresholds of a series: one for each of its charts, and what they share.
//!
//! The alert budget is split evenly over the charts. What the series achieves against it moves all
//! of its thresholds: an alert costs one token or, where none is left, raises them by a step;
//! tokens come in at the budgeted rate, and only when they are full the thresholds fall again, by
//! one step for each budgeted alert. This is the feedback of a leaky bucket (Turner, "New Directions
//! in Communications", IEEE Communications Magazine 24(10), 1986): the achieved rate settles at the
//! budget however wrong the calibration was.
//!
//! An open alert is also closed where the plant is steady again at another level: the largest ratio
//! falls well below the plateau that the alert reached, and no field moves more than normal from
//! record to record. The thresholds then lie above the new level for a while, until the baseline
//! has followed. A lasting fault stays on its plateau. And it is closed where the series is back
//! where it was long before: the baseline had followed a slow fault before the alert opened.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ThresholdParams, ThresholdSettings, ThresholdState};
use crate::record::alert::CloseReason;
use crate::record::row::{CorrectionReason, ThresholdCorrection};

/// Alerts that a series may raise before its thresholds rise. See docs/decisions/0020 for how the
/// constants here were chosen.
const TOKENS_MAX: f32 = 2.0;
/// One step of the thresholds, as a logarithm.
const STEP: f32 = 0.1;
/// All steps together: at most 2.46 times.
const LIFT_MAX: f32 = 0.9;
/// Weight of the newest ratio in the plateau, and where ratios are cut.
const PLATEAU: (f32, f32) = (0.05, 50.0);
/// Plateau below which an alert has none.
const PLATEAU_MIN: f32 = 1.2;
/// Part of the plateau below which the plant has come back.
const BACK: f64 = 0.5;
/// Squared movement from record to record, in units of its normal one, below which the plant is
/// steady.
const STEADY: f64 = 3.0;
/// Ratio below which a series is where it was long before.
const NEAR: f64 = 0.8;
/// Such records in a row that close an alert.
const SETTLED_AFTER: u8 = 10;
/// An alert that opens within so many records of one that closed because the series had returned shows
/// that it had not: such an alert does not close for that reason.
const AGAIN: u16 = 1_000;
/// How far above these records the thresholds are held, and what is left of it a record later.
const HOLD: (f32, f32) = (1.2, 0.999);
/// Thresholds are never held above more than this many times their own height: what is further off
/// is no level to get used to.
const HOLD_MAX: f32 = 2.0;

/// Logarithm of what so many alerts that no token pays for raise the thresholds of a series by.
pub fn lift_of(alerts: f64) -> f64 {
    (f64::from(STEP) * alerts).min(f64::from(LIFT_MAX))
}

/// The constants of a stream's thresholds, and those that a series begins with.
#[derive(Clone, PartialEq, Debug)]
pub struct SeriesThresholdParams {
    /// Of each chart; its risk is the chart's share.
    pub chart: ThresholdParams,
    templates: Vec<ThresholdState>,
    /// The least threshold of each chart; none for 0.
    least: Vec<f64>,
    /// See [`SeriesThresholds`].
    lift: f32,
}

/// What is remembered of the thresholds of one series.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SeriesThresholds {
    charts: Vec<ThresholdState>,
    /// Logarithm of what the achieved rate of alerts raises the thresholds by.
    lift: f32,
    /// Alerts that are paid for.
    tokens: f32,
    /// What the thresholds are held above a new level by, >= 1.
    hold: f32,
    /// Records since an alert closed because the series had returned, at most [`AGAIN`].
    since_returned: u16,
    /// Of the open alert.
    plateaus: Option<Box<Plateaus>>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Plateaus {
    /// Of each chart: the smoothed ratio, and the highest that it has been.
    charts: Vec<(f32, f32)>,
    /// What the alert has cost.
    paid: Cost,
    /// Records in a row at which the plant was back and steady, and their largest ratio.
    settled: u8,
    largest: f32,
    /// Records in a row that are where the series was long before.
    returned: u8,
    /// See [`AGAIN`].
    is_again: bool,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
enum Cost {
    #[default]
    Nothing,
    Token,
    Step,
}

/// What the thresholds make of a record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SeriesOutput {
    /// The chart with the largest ratio of score to threshold.
    pub chart: usize,
    /// That ratio times `threshold`: the score of the record.
    pub score: f64,
    /// The threshold of the first chart, as it follows from its scores alone; finite, > 0.
    pub threshold: f64,
    /// Whether the open alert closes, and why.
    pub settled: Option<CloseReason>,
    /// The chart whose present scores became the new normal.
    pub relearning: Option<usize>,
    /// Records of its own that the series needs until its thresholds are no longer provisional.
    pub missing: u64,
    /// Whether the series has opened more alerts than its budget allows, so that its thresholds are
    /// raised or rise with the next one.
    pub over_budget: bool,
    /// How this record changed what the thresholds are multiplied by.
    pub correction: Option<ThresholdCorrection>,
}

impl SeriesThresholdParams {
    /// The constants for records that follow each other by `period` in a series, and the thresholds
    /// of a series without own records, from the calibration scores of each chart; `lift` is the
    /// logarithm of what they begin raised by.
    pub fn new<'s>(
        settings: &ThresholdSettings,
        period: Duration,
        scores: impl ExactSizeIterator<Item = &'s [f64]>,
        lift: f64,
    ) -> Self {
        let chart = ThresholdParams::new(settings, period, scores.len());
        let templates = scores.map(|scores| ThresholdState::calibrated(&chart, scores));
        Self {
            templates: templates.collect(),
            chart,
            least: Vec::new(),
            lift: lift as f32,
        }
    }

    /// The same, with a least threshold for each chart: scores up to it are never outliers.
    pub fn with_least(self, least: Vec<f64>) -> Self {
        Self { least, ..self }
    }

    /// What the threshold of a chart is multiplied by where all are multiplied by `factor`.
    fn factor_of(&self, number: usize, state: &ThresholdState, factor: f64) -> f64 {
        let least = self.least.get(number).filter(|least| **least > 0.0);
        least.map_or(factor, |least| factor.max(least / state.value(&self.chart)))
    }

    /// Alerts that the budget allows for one record.
    pub fn risk(&self) -> f64 {
        self.chart.risk() * self.templates.len() as f64
    }

    /// The thresholds of a series without records of its own; `before` are those that it had for
    /// another bundle: what is paid for stays so, and an alert that is open is not paid for again.
    pub fn begin(&self, before: Option<&SeriesThresholds>, alerting: bool) -> SeriesThresholds {
        SeriesThresholds {
            charts: self.templates.clone(),
            lift: self.lift,
            tokens: before.map_or(TOKENS_MAX, |before| before.tokens),
            hold: 1.0,
            since_returned: before.map_or(AGAIN, |before| before.since_returned),
            plateaus: alerting.then(|| self.plateaus()),
        }
    }

    /// The first threshold of a series without records of its own.
    pub fn calibrated(&self) -> f64 {
        let first = self.templates.first();
        first.map_or(f64::MAX, |first| first.value(&self.chart))
    }

    fn plateaus(&self) -> Box<Plateaus> {
        Box::new(Plateaus {
            charts: vec![(0.0, 0.0); self.templates.len()],
            ..Plateaus::default()
        })
    }
}

impl SeriesThresholds {
    /// Whether they are of these charts and this kind.
    pub fn fits(&self, params: &SeriesThresholdParams) -> bool {
        self.charts.len() == params.templates.len()
            && self.charts.iter().all(|chart| chart.fits(&params.chart))
    }

    /// The threshold of the first chart, as it follows from its scores alone.
    pub fn value(&self, params: &ThresholdParams) -> f64 {
        let first = self.charts.first();
        first.map_or(f64::MAX, |first| first.value(params))
    }

    /// Records that they have learned from.
    pub fn own_records(&self) -> u64 {
        self.charts.first().map_or(0, ThresholdState::own_records)
    }

    /// Number of own records that the series needs until its thresholds are no longer provisional.
    pub fn missing_records(&self, params: &ThresholdParams) -> u64 {
        self.charts
            .first()
            .map_or(0, |first| first.missing_records(params))
    }

    /// Compares the scores of a record with the thresholds, then learns from those that are no
    /// outliers. `before` are the scores that there would be if the open alert had never been,
    /// `alerting` tells whether an alert of the series is open before this record, and
    /// `unrest` how many times its normal squared movement the most restless field has.
    ///
    /// While an alert is open, a score below its threshold is neither an outlier nor known to be
    /// normal: the threshold does not learn from it.
    pub fn step(
        &mut self,
        params: &SeriesThresholdParams,
        scores: &[f64],
        before: &[f64],
        unrest: f64,
        alerting: bool,
    ) -> SeriesOutput {
        let lift = self.lift;
        self.pay(params, alerting);
        let factor = self.factor();
        let missing = self.missing_records(&params.chart);
        let mut found = SeriesOutput {
            chart: 0,
            score: 0.0,
            threshold: self.value(&params.chart),
            settled: None,
            relearning: None,
            missing,
            over_budget: self.is_over_budget(),
            correction: None,
        };
        let (mut largest, mut from_before) = (0.0, 0.0f64);
        let scores = scores.iter().zip(before);
        for (number, (state, (&score, before))) in self.charts.iter_mut().zip(scores).enumerate() {
            let factor = params.factor_of(number, state, factor);
            let ratio = state.ratio(&params.chart, score, factor);
            if ratio > largest {
                (largest, found.chart) = (ratio, number);
            }
            if let Some(plateaus) = &mut self.plateaus {
                plateaus.take(number, ratio as f32);
                from_before = from_before.max(state.ratio(&params.chart, *before, factor));
            }
            if (!alerting || ratio > 1.0) && state.step(&params.chart, score, factor).relearning {
                found.relearning = Some(number);
            }
        }
        found.score = largest * found.threshold;
        let is_reverted = largest > libm::exp(f64::from(LIFT_MAX)) && self.refund();
        found.settled = if alerting && found.relearning == Some(found.chart) {
            Some(CloseReason::AcceptedAsNormal)
        } else if self.returned(from_before, largest) {
            Some(CloseReason::Returned)
        } else {
            (self.settled(largest, unrest)).then_some(CloseReason::LevelShift)
        };
        self.since_returned = match found.settled {
            Some(CloseReason::Returned) => 0,
            _ => self.since_returned.saturating_add(1).min(AGAIN),
        };
        self.hold = 1.0 + (self.hold - 1.0) * HOLD.1;
        found.correction = self.correction_from(lift, is_reverted);
        found
    }

    /// A confirmed alert costs nothing: what it has cost is given back.
    pub fn refund_confirmed(&mut self) {
        if self.lift > 0.0 {
            self.lift = (self.lift - STEP).max(0.0);
        } else {
            self.tokens = (self.tokens + 1.0).min(TOKENS_MAX);
        }
    }

    /// Whether the thresholds are raised, or the next alert is one that no token pays for.
    fn is_over_budget(&self) -> bool {
        self.lift > 0.0 || (self.plateaus.is_none() && self.tokens < 1.0)
    }

    /// What changed since the lift was `before`; of the slow way back only its end counts.
    fn correction_from(&self, before: f32, is_reverted: bool) -> Option<ThresholdCorrection> {
        let is_lower = self.lift < before;
        let reason = if self.lift > before {
            CorrectionReason::OverBudget
        } else if is_lower && is_reverted {
            CorrectionReason::Reverted
        } else if is_lower && self.lift == 0.0 {
            CorrectionReason::WithinBudget
        } else {
            return None;
        };
        let factor = |lift: f32| libm::exp(f64::from(lift));
        Some(ThresholdCorrection {
            from: factor(before),
            to: factor(self.lift),
            reason,
        })
    }

    /// Takes the thresholds that a series begins with, for the charts of `these`; the next scores
    /// are those of another level.
    pub fn relearn(&mut self, params: &SeriesThresholdParams, these: impl Fn(usize) -> bool) {
        let all = self.charts.iter_mut().zip(&params.templates).enumerate();
        for (number, (chart, template)) in all {
            if these(number) {
                chart.clone_from(template);
            }
        }
        self.hold = 1.0;
    }

    /// Raises the thresholds so that a score that an operator calls a false alarm lies below them.
    pub fn lift_above(&mut self, params: &SeriesThresholdParams, score: f64) {
        let ratio = score / self.value(&params.chart);
        for chart in &mut self.charts {
            chart.lift_above(&params.chart, ratio * chart.value(&params.chart));
        }
    }

    /// What the achieved rate and a new level multiply the thresholds by.
    fn factor(&self) -> f64 {
        libm::exp(f64::from(self.lift)) * f64::from(self.hold)
    }

    /// One record goes by, before which an alert may have opened.
    fn pay(&mut self, params: &SeriesThresholdParams, alerting: bool) {
        let risk = params.risk() as f32;
        if self.tokens >= TOKENS_MAX {
            self.lift = (self.lift - STEP * risk).max(0.0);
        }
        self.tokens = (self.tokens + risk).min(TOKENS_MAX);
        match (alerting, &self.plateaus) {
            (true, None) => {
                let mut plateaus = params.plateaus();
                plateaus.is_again = self.since_returned < AGAIN;
                if self.tokens >= 1.0 {
                    self.tokens -= 1.0;
                    plateaus.paid = Cost::Token;
                } else if self.lift + STEP <= LIFT_MAX {
                    self.lift += STEP;
                    plateaus.paid = Cost::Step;
                }
                self.plateaus = Some(plateaus);
            }
            (false, Some(_)) => self.plateaus = None,
            _ => {}
        }
    }

    /// No step of the thresholds would have avoided the open alert: it is no error of theirs.
    /// Returns whether that lowers them.
    fn refund(&mut self) -> bool {
        let Some(plateaus) = &mut self.plateaus else {
            return false;
        };
        let paid = std::mem::take(&mut plateaus.paid);
        match paid {
            Cost::Nothing => {}
            Cost::Token => self.tokens = (self.tokens + 1.0).min(TOKENS_MAX),
            Cost::Step => self.lift = (self.lift - STEP).max(0.0),
        }
        paid == Cost::Step
    }

    /// Whether the series has been where it was long before for long enough.
    fn returned(&mut self, from_before: f64, ratio: f64) -> bool {
        let Some(plateaus) = &mut self.plateaus else {
            return false;
        };
        let is_near = from_before <= NEAR && !plateaus.is_again;
        plateaus.returned = if is_near {
            (plateaus.returned + 1).min(SETTLED_AFTER)
        } else {
            0
        };
        plateaus.returned == SETTLED_AFTER && ratio > NEAR
    }

    /// Whether the plant has been steady at another level for long enough; the thresholds are then
    /// held above it.
    fn settled(&mut self, ratio: f64, unrest: f64) -> bool {
        let Some(plateaus) = &mut self.plateaus else {
            return false;
        };
        let hold = self.hold * (HOLD.0 * ratio as f32).max(1.0);
        if !(plateaus.is_below(ratio) && unrest < STEADY && hold <= HOLD_MAX) {
            (plateaus.settled, plateaus.largest) = (0, 0.0);
            return false;
        }
        plateaus.settled += 1;
        plateaus.largest = plateaus.largest.max(ratio as f32);
        let settled = plateaus.settled >= SETTLED_AFTER;
        if settled {
            self.hold *= (HOLD.0 * plateaus.largest).max(1.0);
            plateaus.settled = 0;
        }
        settled
    }
}

impl Plateaus {
    fn take(&mut self, chart: usize, ratio: f32) {
        if let Some((smoothed, highest)) = self.charts.get_mut(chart) {
            *smoothed += PLATEAU.0 * (ratio.min(PLATEAU.1) - *smoothed);
            *highest = highest.max(*smoothed);
        }
    }

    /// Whether a ratio lies well below the plateau of a chart.
    fn is_below(&self, ratio: f64) -> bool {
        let highest = self.charts.iter().map(|(_, highest)| *highest);
        let reached = highest.filter(|highest| *highest > PLATEAU_MIN);
        reached.fold(0.0, f32::max) * BACK as f32 > ratio as f32
    }
}
