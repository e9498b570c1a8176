//! The bundle that scores, with the steps that belong to it: chart and threshold.

use std::sync::Arc;

use super::PipelineError;
use super::fits::fits;
use super::forward::RowOutput;
use super::series::{ScoringState, SeriesState, tag};
use super::status::{gap_us, score_period};
use crate::config::settings::StreamSettings;
use crate::gate::{Counter, NormalRange};
use crate::model::bundle::Bundle;
use crate::model::context::TimeContext;
use crate::record::alert::CloseReason;
use crate::record::feedback::{Feedback, FeedbackEffect, FeedbackLabel};
use crate::record::row::{GatedRow, Judgement, ScoredRow};
use crate::record::{EventTime, Scored};
use crate::score::Scorer;
use crate::score::charts::{ChartScores, ChartsState};
use crate::threshold::SeriesThresholdParams;

/// See the module.
pub struct LiveBundle {
    id: Arc<str>,
    tag: u64,
    pub(super) scorer: Scorer,
    pub(super) thresholds: SeriesThresholdParams,
    /// The tag of the bundle before, and what its scaled units are in this one's, field by field.
    before: Option<(u64, Vec<(f64, f64)>)>,
    /// Microseconds after which records are missing between two; 0: never.
    pub(super) gap_us: i64,
    /// The time features that the model gets with each record.
    pub(super) clock: TimeContext,
}

impl LiveBundle {
    /// Makes a bundle ready to score a stream in place of the bundle `before`.
    ///
    /// # Errors
    /// A bundle that does not fit the stream or cannot score.
    pub(super) fn new(
        stream: &StreamSettings,
        bundle: Bundle,
        before: Option<&Self>,
    ) -> Result<Self, PipelineError> {
        fits(stream, &bundle)?;
        let c = &bundle.calibration;
        let period = score_period(stream, c.period_micros);
        let scores: Vec<&[f64]> = c.scores().collect();
        let thresholds = SeriesThresholdParams::new(
            &stream.threshold,
            period,
            scores.into_iter(),
            bundle.calibration.lift,
        );
        let id: Arc<str> = bundle.id().into();
        let before = before.map(|before| {
            let (old, new) = (&before.bundle().calibration.scaler, &c.scaler);
            let by = |field: usize| {
                // Less its season a reading has no level that depends on the scaler.
                let shift = match c.seasons.is_empty() {
                    true => (old.mean[field] - new.mean[field]) / new.sd[field],
                    false => 0.0,
                };
                (old.sd[field] / new.sd[field], shift)
            };
            let fields = stream.record.fields.len();
            let fields = fields.min(old.fields()).min(new.fields());
            let by = (0..fields).map(by).collect();
            (before.tag, by)
        });
        let scorer = Scorer::new(bundle, &stream.score)?;
        let c = &scorer.bundle().calibration;
        Ok(Self {
            tag: tag(&id),
            id,
            thresholds: thresholds.with_least(scorer.charts().step_scores(&c.steps)),
            before,
            gap_us: gap_us(stream, c.period_micros),
            clock: TimeContext::new(&stream.model),
            scorer,
        })
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        self.scorer.bundle()
    }

    /// The threshold of a series without records of its own.
    pub fn calibrated_threshold(&self) -> f64 {
        self.thresholds.calibrated()
    }

    /// The normal behaviour of each field, for the gate.
    pub(super) fn normals(&self) -> Vec<NormalRange> {
        let c = &self.bundle().calibration;
        let scales = c.scaler.mean.iter().zip(&c.scaler.sd);
        let fields = c.fields.iter().zip(scales);
        fields
            .map(|(field, (&mean, &sd))| NormalRange {
                mean,
                sd,
                movement: field.movement,
                longest_run: field.longest_run,
                rest: field.rest,
                moving_run: field.moving_run,
                mean_run: field.mean_run,
                range: field.range,
                step: field.step,
                counter: field.counter_resets.map(|resets| Counter { resets }),
            })
            .collect()
    }

    /// What the clock lets expect of each field at a time, in scaled units.
    pub(super) fn season(&self, time: EventTime) -> Option<&[f32]> {
        let c = &self.bundle().calibration;
        match c.seasons.is_empty() {
            true => None,
            false => c.season(self.clock.at(time).slot, c.fields.len()),
        }
    }

    /// How many records are missing before a row.
    pub(super) fn missing_before(&self, row: &GatedRow<'_>) -> u64 {
        let period = self.bundle().calibration.period_micros.max(1);
        match row
            .previous
            .map_or(0, |previous| row.time.micros_since(previous))
        {
            gap if self.gap_us > 0 && gap > self.gap_us => (gap / period).unsigned_abs(),
            _ => 0,
        }
    }

    /// Chart and threshold of one record, given the output of the model.
    pub(super) fn score<'r>(
        &self,
        state: &mut SeriesState,
        row: &'r GatedRow<'_>,
        evidence: RowOutput<'_>,
    ) -> ScoredRow<'r> {
        let alerting = state.episode.anomaly_open();
        let scoring = match &mut state.scoring {
            Some(mine) if mine.bundle == self.tag && mine.thresholds.fits(&self.thresholds) => mine,
            other => {
                let old = other.take();
                other.insert(self.begin(old, alerting))
            }
        };
        let (scores, raw_error) = match evidence {
            RowOutput::Row(residual) => {
                let (season, missing) = (self.season(row.time), row.unusable());
                let charts = &mut scoring.charts;
                let scores = (self.scorer).step(charts, residual, season, &missing, alerting);
                (scores, residual.raw_error)
            }
            // Each image is judged on its own: what is in front of a camera changes from one to the
            // next.
            RowOutput::Image(inspected, _) => {
                let scored = &inspected.scored;
                (ChartScores::single(scored.score), scored.raw_error)
            }
        };
        let thresholds = &mut scoring.thresholds;
        let (all, before) = (scores.all(), scores.before());
        let found = thresholds.step(&self.thresholds, all, before, scores.unrest, alerting);
        if found.settled == Some(CloseReason::Returned) {
            scoring.charts.resume();
        }
        if let Some(chart) = found.relearning {
            self.relearn(scoring, chart);
        }
        ScoredRow {
            judgement: Judgement::Scored {
                score: found.score,
                threshold: found.threshold,
                missing: found.missing,
                over_budget: found.over_budget,
                settled: found.settled,
                chart: self.scorer.charts().kind(found.chart),
                faults: &row.faults,
            },
            scored: Some(Scored {
                score: found.score,
                level: scores.all().first().copied().unwrap_or_default(),
                chart: found.chart,
                raw_error,
            }),
            budgeted: self.thresholds.risk(),
            correction: found.correction,
        }
    }

    /// A level shift that lasted long is the new normal: it becomes the baseline, and the scores of
    /// the charts that have one start again.
    fn relearn(&self, scoring: &mut ScoringState, chart: usize) {
        let charts = self.scorer.charts();
        if charts.has_level(chart) {
            charts.rebase(&mut scoring.charts);
            let with_level = |chart| charts.has_level(chart);
            scoring.thresholds.relearn(&self.thresholds, with_level);
        }
    }

    /// The state of chart and threshold for this bundle, in place of that for another one.
    ///
    /// Thresholds and baselines start again, so that no alert comes from the change of the bundle.
    /// A series that alerts keeps its deviation: a new baseline would take the fault for normal.
    fn begin(&self, old: Option<ScoringState>, alerting: bool) -> ScoringState {
        let before = old.as_ref().map(|old| &old.thresholds);
        let charts = match (&old, &self.before) {
            (Some(old), Some((tag, by))) if old.bundle == *tag => old.charts.rescaled(by, alerting),
            _ => ChartsState::default(),
        };
        ScoringState {
            bundle: self.tag,
            charts,
            thresholds: self.thresholds.begin(before, alerting),
        }
    }

    /// Applies feedback on an alert: a confirmed one no longer counts against the budget of its
    /// series, which lowers thresholds that it raised; a false alarm raises the threshold of its series
    /// above the alert's highest score, a new normal makes the present readings the baseline. Both
    /// end with the bundle; the next one learns from the records.
    pub(super) fn apply_feedback(
        &self,
        state: &mut SeriesState,
        feedback: &Feedback,
    ) -> FeedbackEffect {
        if !matches!(
            feedback.label,
            FeedbackLabel::Confirmed | FeedbackLabel::FalseAlarm | FeedbackLabel::NewNormal
        ) {
            return FeedbackEffect::Nothing;
        }
        let Some(scoring) = &mut state.scoring else {
            return FeedbackEffect::Nothing;
        };
        let of = feedback.bundle.as_deref();
        if scoring.bundle != self.tag {
            // The bundle may be on its way to this instance.
            return match of.is_some_and(|id| tag(id) == scoring.bundle) {
                true => FeedbackEffect::Later,
                false => FeedbackEffect::Nothing,
            };
        }
        match feedback.label {
            FeedbackLabel::Confirmed if of == Some(&*self.id) => {
                scoring.thresholds.refund_confirmed();
            }
            FeedbackLabel::FalseAlarm if of == Some(&*self.id) => {
                let peak = feedback.peak_score.unwrap_or(0.0);
                scoring.thresholds.lift_above(&self.thresholds, peak);
            }
            FeedbackLabel::NewNormal => {
                self.relearn(scoring, 0);
            }
            _ => return FeedbackEffect::Nothing,
        }
        FeedbackEffect::Applied
    }
}
