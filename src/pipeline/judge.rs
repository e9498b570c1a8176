//! The second half of the line for one record: chart, threshold, episode, and what is kept of them.

use std::sync::Arc;

use super::series::{ScoringState, SeriesState, Slot};
use super::status::{gap_us, threshold_plan};
use super::{BatchOutput, GatedRow, Pipeline, PipelineError, ScoringModel, WindowStatus};
use crate::config::settings::StreamSettings;
use crate::episode::{EpisodeState, Judgement, RecordContext};
use crate::gate::{GateState, NormalRange};
use crate::inter_arrival::InterArrivalStats;
use crate::model::bundle::Bundle;
use crate::record::alert::{Alert, FieldShare};
use crate::record::alert::{AlertEvent, AlertKind};
use crate::record::feedback::{Feedback, FeedbackLabel};
use crate::record::{Image, Record, RecordOutcome, RecordVerdict, Scored};
use crate::retrain::set::TrainingRow;
use crate::score::chart::ChartState;
use crate::score::inspect::Inspected;
use crate::score::{Residual, Residuals, ScoreError, Scorer, error_map, heat_map};
use crate::threshold::ThresholdState;

/// What became of feedback on an alert of a series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeedbackEffect {
    /// The state of the series has changed.
    Applied,
    /// It means nothing to the series: its bundle is gone, for one.
    Nothing,
    /// The bundle that it was said of is not live here yet.
    Later,
}

/// What the model made of a batch.
pub(super) enum ModelOutput {
    Rows(Residuals),
    Images(Vec<Inspected>),
}

/// What it made of one record.
#[derive(Clone, Copy)]
pub(super) enum RowOutput<'e> {
    Row(Residual<'e>),
    Image(&'e Inspected, &'e Image),
}

impl ModelOutput {
    /// Of the `index`-th window, or the `index`-th of the images.
    pub(super) fn at<'e>(&'e self, index: usize, images: &[&'e Image]) -> RowOutput<'e> {
        match self {
            Self::Rows(all) => RowOutput::Row(all.row(index)),
            Self::Images(all) => RowOutput::Image(&all[index], images[index]),
        }
    }
}

impl SeriesState {
    /// The state of a series that was never seen.
    pub fn new(fields: usize) -> Self {
        Self {
            gate: GateState::new(fields),
            inter_arrival: InterArrivalStats::default(),
            resample: None,
            window: None,
            episode: EpisodeState::default(),
            scoring: None,
        }
    }
}

/// Makes a bundle ready for a stream, and tells what it knows of each field's normal behaviour.
pub(super) fn prepare(
    stream: &StreamSettings,
    bundle: Bundle,
    before: Option<&ScoringModel>,
) -> Result<(ScoringModel, Vec<NormalRange>), PipelineError> {
    let names = |fields: &mut dyn Iterator<Item = &str>| fields.collect::<Vec<_>>().join(", ");
    let found = names(
        &mut bundle
            .manifest
            .origin
            .fields
            .iter()
            .map(|field| field.name.as_str()),
    );
    let wanted = names(&mut stream.record.fields.iter().map(|field| field.name.as_str()));
    let (context, wanted_context) = (&bundle.manifest.shape.context, &stream.model.context);
    if context != wanted_context {
        let (bundle, stream) = (bundle.id().into(), stream.name.clone());
        let (found, wanted) = (format!("{context:?}"), format!("{wanted_context:?}"));
        return Err(PipelineError::Context {
            bundle,
            stream,
            found,
            wanted,
        });
    }
    if found != wanted {
        return Err(PipelineError::Fields {
            bundle: bundle.id().into(),
            stream: stream.name.clone(),
            found,
            wanted,
        });
    }
    let c = &bundle.calibration;
    let normals = c
        .fields
        .iter()
        .zip(c.scaler.mean.iter().zip(&c.scaler.sd))
        .map(|(f, (&mean, &sd))| NormalRange {
            mean,
            sd,
            movement: f.movement,
            longest_run: f.longest_run,
            range: f.range,
            step: f.step,
        })
        .collect();
    let threshold = threshold_plan(stream, c.period_micros);
    let template = ThresholdState::calibrated(&threshold, &c.scores);
    let id: Arc<str> = bundle.id().into();
    let tag = super::tag(&id);
    let before = before.map(|model| {
        let sds = model
            .scorer
            .bundle()
            .calibration
            .scaler
            .sd
            .iter()
            .zip(&bundle.calibration.scaler.sd);
        (
            model.tag,
            sds.take(stream.record.fields.len())
                .map(|(old, new)| old / new)
                .collect(),
        )
    });
    let gap_us = gap_us(stream, c.period_micros);
    let scorer = Scorer::new(bundle, &stream.score)?;
    Ok((
        ScoringModel {
            id,
            tag,
            scorer,
            threshold,
            template,
            before,
            gap_us,
        },
        normals,
    ))
}

impl Pipeline {
    /// Judges one record that passed the gate; `evidence` is what its reconstruction tells, where
    /// it has a full window.
    pub(super) fn judge(
        &self,
        slot: &mut Slot,
        record: &Record<'_>,
        values: &[f64],
        item: &GatedRow,
        evidence: Option<RowOutput<'_>>,
        done: &mut BatchOutput,
    ) {
        let (faults, warms_up, time) = (item.faults.as_slice(), item.warms_up, item.time);
        let mut scored = None;
        let mut top_field = faults.first().map(|fault| fault.field);
        let state = &mut slot.state;
        let judgement = match (&self.model, evidence) {
            _ if !faults.is_empty() => {
                done.counts
                    .faults
                    .extend(faults.iter().map(|fault| fault.kind));
                Judgement::Faulty(faults)
            }
            (Some(model), Some(evidence)) => {
                let (judgement, found) = model.score(state, evidence);
                scored = Some(found);
                done.counts.budgeted += model.threshold.risk();
                judgement
            }
            (_, None) if matches!(item.place, WindowStatus::Between | WindowStatus::Resampling) => {
                Judgement::Between
            }
            // A window that is not full yet.
            (Some(_), None) => Judgement::Learning,
            (None, _) => {
                let image = item.file.clone();
                let row = TrainingRow {
                    series: record.series.to_string(),
                    time,
                    values: values.to_vec(),
                    image,
                };
                done.learned.push((record.message, row));
                Judgement::Learning
            }
        };
        let bundle = self.model.as_ref().map_or("", |model| &model.id);
        let spans_gap = matches!(
            item.place,
            WindowStatus::Window {
                spans_gap: true,
                ..
            }
        );
        let (partition, offset) = (record.partition, record.offset);
        let at = RecordContext {
            series: &slot.series,
            time,
            partition,
            offset,
            bundle,
            warms_up,
            spans_gap,
        };
        let scoring = state.scoring.as_ref();
        let row = match evidence {
            Some(RowOutput::Row(residual)) => self.model.as_ref().zip(scoring).zip(Some(residual)),
            _ => None,
        };
        let shares = || {
            row.map_or(Vec::new(), |((model, s), r)| {
                self.shares(model, s, values, r.expected)
            })
        };
        let mut step = self
            .episode
            .step(&mut state.episode, &at, &judgement, shares);
        if step.verdict != RecordVerdict::Normal
            && let Some(((model, s), _)) = row
        {
            top_field = largest(&model.scorer.shares(&s.chart));
        }
        if let (Some(RowOutput::Image(inspected, image)), Some(model)) = (evidence, &self.model) {
            self.point_out(model, inspected, image, &mut step.alerts, done);
        }
        let threshold = if let Judgement::Scored { threshold, .. } = judgement {
            Some(threshold)
        } else {
            None
        };
        done.counts.count(step.verdict);
        done.counts.muted += step.muted;
        done.alerts.extend(step.alerts);
        done.outcomes.push(RecordOutcome {
            message: record.message,
            series: slot.series.clone(),
            time,
            verdict: step.verdict,
            scored,
            threshold,
            alerting: step.alerting,
            spans_gap,
            top_field,
        });
    }

    /// Adds to alerts where on the image their evidence is.
    fn point_out(
        &self,
        model: &ScoringModel,
        inspected: &Inspected,
        image: &Image,
        alerts: &mut [Alert],
        done: &mut BatchOutput,
    ) {
        let shows = |alert: &&mut Alert| {
            alert.kind == AlertKind::Anomaly && alert.event != AlertEvent::Close
        };
        for alert in alerts.iter_mut().filter(shows) {
            let deviations = model.scorer.deviations(inspected);
            alert.regions = error_map::regions(&deviations, image);
            alert.regions.truncate(self.stream.episode.top_fields);
            if self.stream.output.heat_maps.is_some() {
                // A region begins at half of the peak, which is above the threshold.
                let full = inspected.scored.score.max(f64::MIN_POSITIVE);
                done.heat_maps
                    .push((alert.id.clone(), heat_map::png(image, &deviations, full)));
            }
        }
    }

    /// Teaches a series what an operator says: a false alarm raises its threshold above the alert's
    /// highest score, a new normal takes its present readings for the baseline. Both end with the
    /// bundle; the next one learns from the records.
    pub fn apply_feedback(&self, state: &mut SeriesState, feedback: &Feedback) -> FeedbackEffect {
        let Some(model) = &self.model else {
            return FeedbackEffect::Later;
        };
        if !matches!(
            feedback.label,
            FeedbackLabel::FalseAlarm | FeedbackLabel::NewNormal
        ) {
            return FeedbackEffect::Nothing;
        }
        let Some(scoring) = &mut state.scoring else {
            return FeedbackEffect::Nothing;
        };
        let said_of = feedback.bundle.as_deref();
        if scoring.bundle != model.tag {
            // The bundle may be on its way to this machine.
            let is_expected = said_of.is_some_and(|id| super::tag(id) == scoring.bundle);
            return match is_expected {
                true => FeedbackEffect::Later,
                false => FeedbackEffect::Nothing,
            };
        }
        match feedback.label {
            FeedbackLabel::FalseAlarm if said_of == Some(&*model.id) => {
                let peak = feedback.peak_score.unwrap_or(0.0);
                scoring.threshold.lift_above(&model.threshold, peak);
            }
            FeedbackLabel::NewNormal => {
                scoring.chart.rebase();
                scoring.threshold = model.template.clone();
            }
            _ => return FeedbackEffect::Nothing,
        }
        FeedbackEffect::Applied
    }

    fn shares(
        &self,
        model: &ScoringModel,
        state: &ScoringState,
        values: &[f64],
        expected: &[f32],
    ) -> Vec<FieldShare> {
        let shares = model.scorer.shares(&state.chart);
        let fields = self
            .stream
            .record
            .fields
            .iter()
            .zip(values.iter().zip(expected))
            .zip(shares)
            .enumerate();
        fields
            .map(
                |(index, ((field, (&value, &expected)), share))| FieldShare {
                    name: field.name.clone(),
                    value,
                    expected: model.scorer.expected(index, expected),
                    share,
                },
            )
            .collect()
    }
}

impl ScoringModel {
    /// What the model makes of the windows of a batch, or of its images.
    pub(super) fn infer(
        &self,
        stream: &StreamSettings,
        windows: Vec<f32>,
        images: &[&Image],
    ) -> Result<ModelOutput, ScoreError> {
        match &stream.image {
            Some(format) => Ok(ModelOutput::Images(self.scorer.inspect(images, format)?)),
            None => Ok(ModelOutput::Rows(self.scorer.forward(windows)?)),
        }
    }

    /// Chart and threshold of one record.
    fn score<'j>(
        &self,
        state: &mut SeriesState,
        evidence: RowOutput<'_>,
    ) -> (Judgement<'j>, Scored) {
        let alerting = state.episode.anomaly_open();
        let scoring = match &mut state.scoring {
            Some(scoring)
                if scoring.bundle == self.tag && scoring.threshold.fits(&self.threshold) =>
            {
                scoring
            }
            other => {
                // Another bundle is live: thresholds and baselines start anew, so that no alert
                // comes from the change. A series that alerts keeps its deviation: a new baseline
                // would take the fault for normal.
                let alerts_on = other
                    .as_ref()
                    .filter(|_| alerting)
                    .zip(self.before.as_ref());
                let chart = match alerts_on {
                    Some((old, (tag, by))) if old.bundle == *tag => old.chart.rescaled(by),
                    _ => ChartState::default(),
                };
                other.insert(ScoringState {
                    bundle: self.tag,
                    chart,
                    threshold: self.template.clone(),
                })
            }
        };
        let scored = match evidence {
            RowOutput::Row(residual) => self.scorer.step(&mut scoring.chart, residual, alerting),
            // Each image is judged on its own: what is in front of a camera changes from one to the
            // next.
            RowOutput::Image(inspected, _) => inspected.scored.clone(),
        };
        let missing = scoring.threshold.missing_records(&self.threshold);
        let threshold = scoring.threshold.value(&self.threshold);
        if alerting && scored.score <= threshold {
            // Between clear and alert while an episode is open: neither an outlier nor to be
            // learned from.
            return (
                Judgement::Scored {
                    score: scored.score,
                    threshold,
                    missing,
                },
                scored,
            );
        }
        let step = scoring.threshold.step(&self.threshold, scored.score);
        if step.relearning {
            // A level shift that lasted this long is the new normal: it becomes the baseline, and
            // scores start again.
            scoring.chart.rebase();
            scoring.threshold = self.template.clone();
        }
        (
            Judgement::Scored {
                score: scored.score,
                threshold: step.threshold,
                missing,
            },
            scored,
        )
    }
}

/// The index of the largest share; `None` where all are 0.
fn largest(shares: &[f64]) -> Option<usize> {
    let (index, share) = shares
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))?;
    (*share > 0.0).then_some(index)
}
