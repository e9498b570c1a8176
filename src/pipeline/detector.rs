//! What scores the records of a stream: the only part of the pipeline that knows whether they are
//! readings or images.
//!
//! [`Detector::gather`] takes row after row, [`Detector::forward`] runs the model once for all of
//! them, [`Detector::score`] takes the rows again, one by one.

use std::borrow::Cow;
use std::sync::Arc;

use super::PipelineError;
use super::forward::RowOutput;
pub(super) use super::forward::{ModelInput, ModelOutput};
use super::live_bundle::LiveBundle;
use super::series::{ScoringState, SeriesState, SeriesTable, Slot};
use crate::config::settings::StreamSettings;
use crate::episode::{EpisodeOutput, EpisodePolicy};
use crate::gate::NormalRange;
use crate::model::bundle::Bundle;
use crate::record::alert::{Alert, AlertEvent, AlertKind, FieldShare};
use crate::record::feedback::{Feedback, FeedbackEffect};
use crate::record::format::{FieldSettings, ImageFormat};
use crate::record::row::{GatedRow, Judgement, RecordContext, ScoredRow, WindowStatus};
use crate::record::{Image, RecordVerdict};
use crate::score::inspect::{Inspected, inspect};
use crate::score::{ScoreError, error_map, heat_map};

/// See the module.
pub enum Detector {
    /// There is no bundle yet: records are training rows.
    Untrained,
    /// Records are readings.
    Rows(RowDetector),
    /// Records are images.
    Images(ImageDetector),
}

/// Scores windows of readings.
pub struct RowDetector {
    live: LiveBundle,
    window: usize,
    stride: usize,
    fields: Vec<FieldSettings>,
}

/// Scores images.
pub struct ImageDetector {
    live: LiveBundle,
    format: ImageFormat,
    /// Whether alerts get heat maps.
    heat_maps: bool,
}

/// What points at the cause of a record's verdict, beside its alerts.
pub struct Explanation {
    /// The faulty field, or the one with the largest share of the score of a record that is not
    /// normal.
    pub top_field: Option<usize>,
    /// Heat maps of alerts, each with the id of its alert and as a PNG file.
    pub heat_maps: Vec<(String, Vec<u8>)>,
}

impl Detector {
    /// Scores a stream with a bundle, which replaces that of the detector `before`.
    ///
    /// # Errors
    /// A bundle that does not fit the stream or cannot score.
    pub fn new(
        stream: &StreamSettings,
        bundle: Option<Bundle>,
        before: Option<&Self>,
    ) -> Result<Self, PipelineError> {
        let Some(bundle) = bundle else {
            return Ok(Self::Untrained);
        };
        let live = LiveBundle::new(stream, bundle, before.and_then(Self::live))?;
        Ok(match &stream.image {
            Some(format) => Self::Images(ImageDetector {
                live,
                format: format.clone(),
                heat_maps: stream.output.heat_maps.is_some(),
            }),
            None => Self::Rows(RowDetector {
                live,
                window: stream.window,
                stride: stream.stride,
                fields: stream.record.fields.clone(),
            }),
        })
    }

    /// The bundle that scores, ready to do so; `None` while there is none.
    pub fn live(&self) -> Option<&LiveBundle> {
        match self {
            Self::Untrained => None,
            Self::Rows(rows) => Some(&rows.live),
            Self::Images(images) => Some(&images.live),
        }
    }

    /// The bundle that scores.
    pub fn bundle(&self) -> Option<&Bundle> {
        self.live().map(LiveBundle::bundle)
    }

    /// The id of the bundle that scores.
    pub fn bundle_id(&self) -> Option<&Arc<str>> {
        self.live().map(LiveBundle::id)
    }

    /// The context of a record of the series called `series`.
    pub(super) fn context<'c>(&'c self, row: &GatedRow<'_>, series: &'c str) -> RecordContext<'c> {
        let of = self.context_of((row.record.partition, row.record.offset));
        RecordContext {
            bundle: of.bundle,
            trained_on: of.trained_on,
            ..row.context(series)
        }
    }

    /// The context of a record of which only partition and offset are known.
    pub(super) fn context_of(&self, (partition, offset): (i32, i64)) -> RecordContext<'_> {
        let bundle = self.bundle();
        RecordContext {
            partition,
            offset,
            bundle: bundle.map_or("", Bundle::id),
            trained_on: bundle.map_or(0, |bundle| bundle.manifest.origin.rows),
            ..RecordContext::default()
        }
    }

    /// The threshold of a series without records of its own: fixed by the calibration, before any
    /// record is scored.
    pub fn calibrated_threshold(&self) -> Option<f64> {
        self.live().map(LiveBundle::calibrated_threshold)
    }

    /// What the bundle knows of each field, for the gate; `None` while there is none.
    pub(super) fn normals(&self) -> Option<Vec<NormalRange>> {
        self.live().map(LiveBundle::normals)
    }

    /// Adds the window that ends with a row, or its image, to what the model gets.
    pub(super) fn gather<'b>(
        &self,
        row: &GatedRow<'b>,
        table: &mut SeriesTable,
        input: &mut ModelInput<'b>,
    ) -> WindowStatus {
        let Some(Slot { state, .. }) = table.get_mut(row.slot) else {
            return row.window;
        };
        if !row.is_scorable() {
            if let Some(window) = &mut state.window {
                window.clear();
            }
            return WindowStatus::Filling;
        }
        match self {
            _ if row.window == WindowStatus::Resampling => WindowStatus::Resampling,
            Self::Untrained => WindowStatus::Filling,
            Self::Rows(rows) => rows.gather(state, row, &mut input.windows),
            Self::Images(_) => {
                input.images.extend(row.image);
                WindowStatus::Window {
                    index: input.images.len() - 1,
                    spans_gap: false,
                }
            }
        }
    }

    /// ONE forward pass over all windows that were gathered; images go through one by one (see
    /// [`crate::score::inspect`]).
    ///
    /// # Errors
    /// Where libtorch refuses the tensors, or the bundle is not one of images.
    pub(super) fn forward<'b>(&self, input: ModelInput<'b>) -> Result<ModelOutput<'b>, ScoreError> {
        Ok(match self {
            Self::Untrained => ModelOutput::None,
            Self::Rows(rows) => ModelOutput::Rows(rows.live.scorer.forward(input.windows)?),
            Self::Images(images) => {
                let inspected = inspect(images.live.bundle(), &input.images, &images.format)?;
                ModelOutput::Images(inspected.into_iter().zip(input.images).collect())
            }
        })
    }

    /// Score and threshold of a row; `evidence` is what the model makes of it. A series that was
    /// forgotten begins again.
    pub(super) fn score<'r>(
        &self,
        state: &mut SeriesState,
        row: &'r GatedRow<'_>,
        evidence: Option<RowOutput<'_>>,
    ) -> ScoredRow<'r> {
        state.begin(row);
        let before = self.live().map_or(0, |live| live.missing_before(row));
        let missing = before + u64::from(!row.is_scorable());
        if missing > 0 {
            state.interrupt(missing);
        }
        let judgement = match (self.live(), evidence) {
            _ if row.ignored => Judgement::Ignored,
            (Some(live), Some(evidence)) => return live.score(state, row, evidence),
            _ if !row.faults.is_empty() => Judgement::Faulty(&row.faults),
            _ => match row.window {
                WindowStatus::Between | WindowStatus::Resampling => Judgement::Between,
                _ => Judgement::Learning,
            },
        };
        ScoredRow {
            judgement,
            scored: None,
            budgeted: 0.0,
            correction: None,
        }
    }

    /// The share of each field in the score of a row; empty for images.
    pub(super) fn shares(
        &self,
        scoring: Option<&ScoringState>,
        row: &GatedRow<'_>,
        scored: &ScoredRow<'_>,
        evidence: Option<RowOutput<'_>>,
    ) -> Vec<FieldShare> {
        match (self, scoring, evidence) {
            (Self::Rows(rows), Some(scoring), Some(RowOutput::Row(residual))) => {
                rows.shares(scoring, scored.chart(), row, residual.expected)
            }
            _ => Vec::new(),
        }
    }

    /// What else points at the cause. The alerts of an image get the regions of their evidence.
    pub(super) fn explain(
        &self,
        step: &mut EpisodeOutput,
        state: &SeriesState,
        row: &GatedRow<'_>,
        scored: &ScoredRow<'_>,
        evidence: Option<RowOutput<'_>>,
        episodes: &EpisodePolicy,
    ) -> Explanation {
        let mut why = Explanation {
            top_field: row.faults.first().map(|fault| fault.field),
            heat_maps: Vec::new(),
        };
        match (self, evidence) {
            (Self::Rows(rows), Some(RowOutput::Row(_)))
                if !matches!(
                    step.verdict,
                    RecordVerdict::Normal | RecordVerdict::SensorFault
                ) =>
            {
                let scoring = state.scoring.as_ref();
                why.top_field = scoring.and_then(|s| rows.top_field(s, scored.chart()));
            }
            (Self::Images(images), Some(RowOutput::Image(inspected, image))) => {
                let most = episodes.top_fields();
                why.heat_maps = images.locate(inspected, image, most, &mut step.alerts);
            }
            _ => {}
        }
        why
    }

    /// Applies feedback on an alert to the state of its series.
    pub fn apply_feedback(&self, state: &mut SeriesState, feedback: &Feedback) -> FeedbackEffect {
        self.live().map_or(FeedbackEffect::Later, |live| {
            live.apply_feedback(state, feedback)
        })
    }
}

impl RowDetector {
    /// The field with the largest share of the score of a chart; `None` where all are 0.
    fn top_field(&self, scoring: &ScoringState, chart: usize) -> Option<usize> {
        let shares = self.live.scorer.charts().shares(&scoring.charts, chart);
        let largest = shares.iter().enumerate();
        let (index, share) = largest.max_by(|a, b| a.1.total_cmp(b.1))?;
        (*share > 0.0).then_some(index)
    }

    /// Adds a row to its series' window, and the window, where it is full, to those of the batch.
    fn gather(
        &self,
        state: &mut SeriesState,
        row: &GatedRow<'_>,
        windows: &mut Vec<f32>,
    ) -> WindowStatus {
        let window = self.window;
        let stride = self.stride;
        let mut readings = Cow::Borrowed(&*row.values);
        for rise in &row.increments {
            readings.to_mut()[rise.field] = rise.value;
        }
        for field in row.unusable() {
            readings.to_mut()[field] = f64::NAN;
        }
        if let Some(states) = &self.live.bundle().calibration.states {
            states.settle(readings.to_mut());
        }
        let clock = Some(&self.live.clock).filter(|clock| clock.slots() > 0);
        let extended = clock.map(|by| by.extended(&readings, &[row.time], readings.len()));
        let values = extended.as_deref().unwrap_or(&readings);
        let scorer = &self.live.scorer;
        if window <= 1 {
            // Rows from before a change of the configuration.
            state.window = None;
            scorer.scale_onto(values, windows);
            return WindowStatus::Window {
                index: windows.len() / values.len() - 1,
                spans_gap: false,
            };
        }
        let state = state.window.get_or_insert_default();
        state.note(row.time, self.live.gap_us);
        if state.push(window, stride, values, |readings| {
            scorer.scale_onto(readings, windows);
        }) {
            WindowStatus::Window {
                index: windows.len() / (window * values.len()) - 1,
                spans_gap: state.spans_gap(window),
            }
        } else if state.is_between(window, stride, values.len()) {
            WindowStatus::Between
        } else {
            WindowStatus::Filling
        }
    }

    fn shares(
        &self,
        scoring: &ScoringState,
        chart: usize,
        row: &GatedRow<'_>,
        expected: &[f32],
    ) -> Vec<FieldShare> {
        let scorer = &self.live.scorer;
        let unusable = row.unusable();
        let expected = self.live.season(row.time).unwrap_or(expected);
        let states = self.live.bundle().calibration.states.as_ref();
        let offsets = states.and_then(|states| states.offsets(&row.values));
        let readings = row.values.iter().zip(expected);
        let fields = self.fields.iter().zip(readings);
        fields
            .zip(scorer.charts().shares(&scoring.charts, chart))
            .enumerate()
            .filter(|(index, _)| !unusable.contains(index))
            .filter(|(_, ((field, _), _))| field.states.is_none())
            .map(|(index, ((field, (&value, &expected)), share))| {
                let offset = offsets.map_or(0.0, |offsets| offsets[index]);
                let expected = scorer.expected(index, expected) + offset;
                // Of a counter the model knows what it rises by.
                let rise = row.increments.iter().find(|rise| rise.field == index);
                let expected = match rise.map(|rise| rise.value) {
                    Some(rise) if rise.is_finite() => value - rise + expected,
                    Some(_) => value,
                    None => expected,
                };
                FieldShare {
                    name: field.name.clone(),
                    unit: field.unit.clone(),
                    value,
                    expected,
                    share,
                }
            })
            .collect()
    }
}

impl ImageDetector {
    /// Adds to alerts where on the image their evidence is, at most `most` regions, and returns
    /// their heat maps.
    fn locate(
        &self,
        inspected: &Inspected,
        image: &Image,
        most: usize,
        alerts: &mut [Alert],
    ) -> Vec<(String, Vec<u8>)> {
        let mut heat_maps = Vec::new();
        for alert in alerts {
            if alert.kind != AlertKind::Anomaly || alert.event == AlertEvent::Close {
                continue;
            }
            let deviations = inspected.deviations(self.live.bundle(), image);
            alert.regions = error_map::regions(&deviations, image);
            alert.regions.truncate(most);
            if self.heat_maps {
                // A region begins at half of the peak, which is above the threshold.
                let full = inspected.scored.score.max(f64::MIN_POSITIVE);
                heat_maps.push((alert.id.clone(), heat_map::png(image, &deviations, full)));
            }
        }
        heat_maps
    }
}
