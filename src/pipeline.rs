//! The straight line: the one place where the steps are joined. The same messages, states and
//! bundle give the same results, live, replayed or resumed, however the messages were batched.

mod detector;
mod error;
mod fits;
mod forward;
mod intake;
mod live_bundle;
mod output;
pub mod series;
mod silence;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use self::detector::{Detector, ModelInput, ModelOutput};
pub use self::error::PipelineError;
pub use self::fits::{UnfitError, fits, load_fitting};
use self::intake::{Intake, Refusal};
pub use self::output::BatchOutput;
use self::series::{SeriesAccess, SeriesTable, Slot, StateLoader};
pub use self::silence::{SilenceClock, SilenceMonitor};
use crate::config::settings::StreamSettings;
use crate::decode::batch::BatchDecoder;
use crate::episode::EpisodePolicy;
use crate::model::bundle::Bundle;
use crate::record::alert::Alert;
use crate::record::row::{DecodedRow, GatedRow};
use crate::record::{Batch, Message};

/// How long [`Pipeline::await_schemas`] waits for the registry.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(60);

/// The steps of a stream, ready to run; each lane and each trial has its own.
pub struct Pipeline {
    stream: Arc<StreamSettings>,
    decoder: BatchDecoder,
    /// Series, gate and resampling.
    pub intake: Intake,
    /// Missing data; `None` where the stream does not look for it.
    pub silence: Option<SilenceMonitor>,
    /// Window, model, chart and threshold; another bundle takes [`Pipeline::swap`].
    pub detector: Detector,
    /// N of M, cool-down, mutes, alert ids.
    pub episodes: EpisodePolicy,
}

impl Pipeline {
    /// The pipeline of a stream; without a bundle its records are training rows.
    ///
    /// # Errors
    /// A bundle that does not fit the stream or cannot score.
    pub fn new(stream: Arc<StreamSettings>, bundle: Option<Bundle>) -> Result<Self, PipelineError> {
        let detector = Detector::new(&stream, bundle, None)?;
        Ok(Self {
            decoder: BatchDecoder::new(&stream.record, stream.image.as_ref(), &stream.schemas)?,
            intake: Intake::new(&stream, &detector),
            silence: SilenceMonitor::new(&stream),
            episodes: stream.episode_policy(),
            detector,
            stream,
        })
    }

    /// Makes another bundle score, between two batches.
    ///
    /// # Errors
    /// A bundle that does not fit the stream or cannot score; the present one stays.
    pub fn swap(&mut self, bundle: Option<Bundle>) -> Result<(), PipelineError> {
        self.detector = Detector::new(&self.stream, bundle, Some(&self.detector))?;
        self.intake.set_normals(&self.stream, &self.detector);
        Ok(())
    }

    /// Whether messages name their schemas in a registry: each batch is resolved before it runs.
    pub fn needs_registry(&self) -> bool {
        self.decoder.needs_registry()
    }

    /// Looks up the schemas of a batch of messages. Returns whether the registry has answered for all
    /// of them; only then may the batch run.
    pub fn resolve(&mut self, messages: &[Message<'_>]) -> bool {
        self.decoder.resolve(messages)
    }

    /// The same, and waits for the registry.
    ///
    /// # Errors
    /// [`PipelineError::Registry`], where it does not answer in time.
    pub fn await_schemas(&mut self, messages: &[Message<'_>]) -> Result<(), PipelineError> {
        let awaited = self.decoder.await_schemas(messages, REGISTRY_PATIENCE);
        awaited.map_err(PipelineError::Registry)
    }

    /// Runs a batch of messages, which is resolved where the stream needs it.
    ///
    /// # Errors
    /// As [`Pipeline::run_decoded`].
    pub fn run(
        &mut self,
        messages: &[Message<'_>],
        table: &mut SeriesTable,
        load: &mut StateLoader<'_>,
    ) -> Result<BatchOutput, PipelineError> {
        let mut output = BatchOutput::default();
        let mut next = 0;
        while next < messages.len() {
            let (chunk, after) = self.decoder.decode(messages, next);
            output.append(self.run_decoded(chunk, table, load)?);
            next = after;
        }
        Ok(output)
    }

    /// Runs decoded records: prepares row by row, runs the model once, and decides row by row.
    ///
    /// # Errors
    /// A forward pass or a stored state that failed: the states have then seen a part of the batch
    /// and must be dropped.
    pub fn run_decoded(
        &mut self,
        chunk: Batch<'_>,
        table: &mut SeriesTable,
        load: &mut StateLoader<'_>,
    ) -> Result<BatchOutput, PipelineError> {
        let mut output = BatchOutput::new(&chunk, self.detector.bundle().is_none());
        let mut input = ModelInput::with_capacity(&chunk, &self.stream);
        let mut rows = Vec::with_capacity(chunk.records.len());
        let series = &mut SeriesAccess { table, load };
        for row in chunk.rows() {
            rows.extend(output.admitted(row.record, self.prepare(row, series, &mut input))?);
        }
        let found = self.detector.forward(input)?;
        for row in rows {
            if let Some(slot) = series.table.get_mut(row.slot) {
                self.decide(row, &found, slot, &mut output);
            }
        }
        let alerts = output.alerts.into_iter().map(Alert::summarized);
        output.alerts = alerts.collect();
        Ok(output.with_rejected(chunk.rejected))
    }

    /// Looks which series of a partition are silent that has had no record for `silent_us` while
    /// others had; `newest` is the partition with the offset of its newest record.
    ///
    /// # Errors
    /// A stored state that failed: the states must be dropped.
    pub fn scan_silence(
        &mut self,
        newest: (i32, i64),
        silent_us: i64,
        table: &mut SeriesTable,
        load: &mut StateLoader<'_>,
    ) -> Result<Vec<Alert>, PipelineError> {
        let Some(silence) = &mut self.silence else {
            return Ok(Vec::new());
        };
        let series = &mut SeriesAccess { table, load };
        let context = self.detector.context_of(newest);
        let alerts = silence.scan_idle(context, silent_us, &self.episodes, series)?;
        Ok(alerts.into_iter().map(Alert::summarized).collect())
    }

    fn prepare<'b>(
        &mut self,
        row: DecodedRow<'b>,
        series: &mut SeriesAccess<'_, '_>,
        input: &mut ModelInput<'b>,
    ) -> Result<GatedRow<'b>, Refusal> {
        let mut row = self.intake.admit(row, series)?;
        if let Some(silence) = &mut self.silence {
            row.silence = silence.observe(&row, &self.detector, &self.episodes, series)?;
        }
        row.window = self.detector.gather(&row, series.table, input);
        Ok(row)
    }

    fn decide(
        &self,
        mut row: GatedRow<'_>,
        found: &ModelOutput<'_>,
        slot: &mut Slot,
        output: &mut BatchOutput,
    ) {
        output.alerts.append(&mut row.silence);
        let evidence = found.of(&row);
        let scored = self.detector.score(&mut slot.state, &row, evidence);
        let context = self.detector.context(&row, &slot.series);
        let episode = &mut slot.state.episode;
        let outside = (self.episodes).step_outside(episode, &context, &row.outside);
        output.alerts.extend(outside);
        let scoring = slot.state.scoring.as_ref();
        let shares = || self.detector.shares(scoring, &row, &scored, evidence);
        let mut step = (self.episodes).step(episode, &context, &scored.judgement, shares);
        let (detector, episodes) = (&self.detector, &self.episodes);
        let why = detector.explain(&mut step, &slot.state, &row, &scored, evidence, episodes);
        output.push(&slot.series, &row, &scored, step, why);
    }
}
