//! The straight line: the one place where the steps are joined.
//!
//! Decode, gate and window run record by record; then all windows of the batch go through the model
//! in ONE forward pass; then chart, threshold and episode run record by record. Everything is
//! synchronous and pure: the same messages, states and bundle give the same results, live, replayed
//! or resumed, however the messages were batched.

mod admit;
mod judge;
mod reader;
pub mod series;
mod silence;
pub mod status;

use std::sync::Arc;

pub use self::judge::FeedbackEffect;
pub use self::silence::SilenceClock;

use self::admit::{GatedRow, Refusal, WindowStatus};
use self::reader::BatchReader;
use self::series::{LoadError, SeriesTable, StateLoader};
use self::silence::{SilenceContext, SilenceMonitor, States};
use crate::config::settings::StreamSettings;
use crate::events::BatchMetrics;
use crate::model::bundle::Bundle;
use crate::model::context::TimeContext;
use crate::record::alert::Alert;
use crate::record::{Batch, EventTime, Message, RecordOutcome, Rejected};
use crate::retrain::set::TrainingRow;
use crate::score::{ScoreError, Scorer};
use crate::threshold::ThresholdState;
use crate::{episode, gate, resample, threshold};

/// A step failed in a way that no record can be blamed for.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The forward pass, or a bundle that cannot score.
    #[error("score: {0}")]
    Score(#[from] ScoreError),
    /// A stored state could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The live bundle could not be read.
    #[error(transparent)]
    Registry(#[from] crate::model::registry::RegistryError),
    /// The bundle was made for another context.
    #[error(
        "bundle {bundle} was trained with time features {found}, but stream {stream} is configured with {wanted}: train a new bundle, or correct model.context"
    )]
    Context {
        /// The bundle.
        bundle: String,
        /// The stream.
        stream: String,
        /// Context of the bundle.
        found: String,
        /// Context of the stream.
        wanted: String,
    },
    /// The bundle was made for another stream configuration.
    #[error(
        "bundle {bundle} has the fields [{found}], but stream {stream} has [{wanted}]: train a new bundle, or configure the fields that it was trained on"
    )]
    Fields {
        /// The bundle.
        bundle: String,
        /// The stream.
        stream: String,
        /// Fields of the bundle.
        found: String,
        /// Fields of the stream.
        wanted: String,
    },
}

/// What one batch came to.
#[derive(Default)]
pub struct BatchOutput {
    /// One for each record that was not rejected, in their order.
    pub outcomes: Vec<RecordOutcome>,
    /// What is to be published, in the order of the records.
    pub alerts: Vec<Alert>,
    /// What goes to the dead letters.
    pub rejected: Vec<Rejected>,
    /// Heat maps of alerts, each with its alert's id and as a PNG file; only where the stream
    /// publishes them.
    pub heat_maps: Vec<(String, Vec<u8>)>,
    /// Records to learn from, each with the index of its message; only without a bundle.
    pub learned: Vec<(usize, TrainingRow)>,
    /// What a sample of normal traffic is taken from; only after [`Pipeline::keep_samples`].
    pub samples: Samples,
    /// For the metrics.
    pub counts: BatchMetrics,
}

/// Records that a bundle has judged, with their readings.
#[derive(Default)]
pub struct Samples {
    /// In their order.
    pub records: Vec<Sample>,
    /// The readings of all of them, row-major.
    pub values: Vec<f64>,
}

/// A record that a bundle has judged.
pub struct Sample {
    /// Index of its outcome.
    pub outcome: usize,
    /// Partition of its message.
    pub partition: i32,
    /// Offset of its message.
    pub offset: i64,
    /// Whether alerts of its series were muted at its time.
    pub muted: bool,
}

/// The steps of one stream, ready to run.
pub struct Pipeline {
    stream: Arc<StreamSettings>,
    reader: BatchReader,
    /// `None` where records are taken as they come.
    resample: Option<resample::Resampler>,
    /// The context of each record, which the model is told.
    clock: TimeContext,
    gate: gate::GateRules,
    episode: episode::EpisodePolicy,
    /// `None` while the stream has no bundle.
    model: Option<ScoringModel>,
    /// Whether judged records are handed out with their readings.
    keeps_samples: bool,
    /// Looks for series that fall silent; `None` where the stream does not want it.
    watch: Option<SilenceMonitor>,
    /// Records that arrived before this are only learned from: they were there before the stream's
    /// first start.
    warm_until: Option<EventTime>,
}

/// The steps that belong to a bundle.
struct ScoringModel {
    id: Arc<str>,
    tag: u64,
    scorer: Scorer,
    threshold: threshold::ThresholdParams,
    /// The threshold of a series that has no records of its own.
    template: ThresholdState,
    /// The tag of the model before, and what its scaled units are in this one's, field by field.
    before: Option<(u64, Vec<f64>)>,
    /// Microseconds after which records are missing between two; 0: never.
    gap_us: i64,
}

impl Pipeline {
    /// The pipeline of a stream; without a bundle it learns.
    ///
    /// # Errors
    /// A bundle that does not fit the stream or cannot score.
    pub fn new(stream: Arc<StreamSettings>, bundle: Option<Bundle>) -> Result<Self, PipelineError> {
        let watch = SilenceMonitor::new(&stream);
        let mut pipeline = Self {
            reader: BatchReader::new(&stream),
            resample: resample::Resampler::new(&stream.resample, &stream.record.fields),
            clock: TimeContext::new(&stream.model),
            gate: gate::GateRules::new(&stream.gate, &stream.record.fields, None),
            episode: episode_plan(&stream),
            stream,
            model: None,
            keeps_samples: false,
            watch,
            warm_until: None,
        };
        pipeline.swap(bundle)?;
        Ok(pipeline)
    }

    /// The id of the bundle that scores.
    pub fn bundle_id(&self) -> Option<&Arc<str>> {
        self.model.as_ref().map(|model| &model.id)
    }

    /// The threshold of a series that nothing is known of: fixed by the calibration, before any
    /// record is scored.
    pub fn calibrated_threshold(&self) -> Option<f64> {
        self.model
            .as_ref()
            .map(|model| model.template.value(&model.threshold))
    }

    /// Publishes nothing of records that arrived before `until`, and learns from them.
    pub fn warm_up(&mut self, until: EventTime) {
        self.warm_until = Some(until);
    }

    /// The rules of the stream's alerts.
    pub fn episodes(&self) -> &episode::EpisodePolicy {
        &self.episode
    }

    /// The bundle that scores.
    pub fn bundle(&self) -> Option<&Bundle> {
        self.model.as_ref().map(|model| model.scorer.bundle())
    }

    /// Hands out judged records with their readings from now on. Images are not kept: see
    /// `[defaults.retrain]`.
    pub fn keep_samples(&mut self) {
        self.keeps_samples = self.stream.image.is_none();
    }

    /// The clock by which series of a partition are found silent, to be kept with their states.
    pub fn silence_clock(&self, partition: i32) -> Option<&SilenceClock> {
        self.watch.as_ref()?.clock(partition)
    }

    /// Goes on with a clock that was kept.
    pub fn set_silence_clock(&mut self, partition: i32, clock: SilenceClock) {
        if let Some(watch) = &mut self.watch {
            watch.set_clock(partition, clock);
        }
    }

    /// A partition leaves.
    pub fn drop_partition(&mut self, partition: i32) {
        if let Some(watch) = &mut self.watch {
            watch.drop_partition(partition);
        }
    }

    /// Takes over the settings that need no restart: episodes and mutes.
    pub fn reload(&mut self, stream: &Arc<StreamSettings>) {
        self.stream = stream.clone();
        self.episode = episode_plan(stream);
    }

    /// Makes another bundle score, between two batches.
    ///
    /// # Errors
    /// A bundle that does not fit the stream or cannot score; the present one stays.
    pub fn swap(&mut self, bundle: Option<Bundle>) -> Result<(), PipelineError> {
        let Some(bundle) = bundle else {
            self.model = None;
            return Ok(());
        };
        let (model, normals) = judge::prepare(&self.stream, bundle, self.model.as_ref())?;
        self.gate = gate::GateRules::new(
            &self.stream.gate,
            &self.stream.record.fields,
            Some(&normals),
        );
        self.model = Some(model);
        Ok(())
    }

    /// Runs a batch of messages.
    ///
    /// # Errors
    /// [`PipelineError::Score`] and [`PipelineError::Load`]; the states have then seen a part of
    /// the batch and must be dropped.
    pub fn run(
        &mut self,
        messages: &[Message<'_>],
        table: &mut SeriesTable,
        load: &mut StateLoader<'_>,
    ) -> Result<BatchOutput, PipelineError> {
        self.run_parts(messages, messages, table, load)
    }

    /// Runs the messages of a file: when they arrived is not known, so none of them is from the
    /// future.
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    pub fn run_file(
        &mut self,
        messages: &[Message<'_>],
        table: &mut SeriesTable,
        load: &mut StateLoader<'_>,
    ) -> Result<BatchOutput, PipelineError> {
        self.run_parts(messages, &[], table, load)
    }

    /// Decodes and runs; `arrived` are the messages whose times of arrival are known.
    fn run_parts(
        &mut self,
        messages: &[Message<'_>],
        arrived: &[Message<'_>],
        table: &mut SeriesTable,
        load: &mut StateLoader<'_>,
    ) -> Result<BatchOutput, PipelineError> {
        let (mut done, mut next) = (BatchOutput::default(), 0);
        // Readings are one part; images are decoded as many at a time as memory should hold.
        while next < messages.len() {
            let (batch, after) = self.reader.decode(messages, next);
            self.run_part(arrived, batch, table, load, &mut done)?;
            next = after;
        }
        Ok(finish(done))
    }

    /// Runs a decoded batch; `messages` give the arrival times and may be empty, as for files.
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    pub fn run_decoded(
        &mut self,
        messages: &[Message<'_>],
        batch: Batch<'_>,
        table: &mut SeriesTable,
        load: &mut StateLoader<'_>,
    ) -> Result<BatchOutput, PipelineError> {
        let mut done = BatchOutput::default();
        self.run_part(messages, batch, table, load, &mut done)?;
        Ok(finish(done))
    }

    /// Adds what a decoded batch comes to.
    fn run_part(
        &mut self,
        messages: &[Message<'_>],
        mut batch: Batch<'_>,
        table: &mut SeriesTable,
        load: &mut StateLoader<'_>,
        done: &mut BatchOutput,
    ) -> Result<(), PipelineError> {
        done.counts.records += (batch.records.len() + batch.rejected.len()) as u64;
        done.counts.coerced += batch.coerced;
        done.rejected.append(&mut batch.rejected);
        let mut items = Vec::with_capacity(batch.records.len());
        let mut windows =
            Vec::with_capacity(batch.values.len() * self.stream.window / self.stream.stride);
        let mut seen = Vec::new();
        done.outcomes.reserve(batch.records.len());
        let readings = batch.values.chunks_exact(self.stream.record.fields.len());

        for (index, (record, values)) in batch.records.iter().zip(readings.clone()).enumerate() {
            let arrival = messages
                .get(record.message)
                .and_then(|message| message.timestamp);
            let warms_up = arrival
                .zip(self.warm_until)
                .is_some_and(|(arrival, until)| arrival < until);
            match self.admit(record, arrival, values, table, load, &mut windows) {
                Ok(mut admitted) => {
                    if let (Some(image), true) =
                        (batch.images.get(index), admitted.item.faults.is_empty())
                    {
                        admitted.item.place = WindowStatus::Window {
                            index: seen.len(),
                            spans_gap: false,
                        };
                        admitted.item.file = Some(image.file.clone());
                        seen.push(image);
                    }
                    done.counts.out_of_order += u64::from(admitted.out_of_order);
                    if let Some(watch) = &mut self.watch {
                        let bundle = self.model.as_ref().map_or("", |model| &model.id);
                        let here = SilenceContext {
                            record: index,
                            partition: record.partition,
                            offset: record.offset,
                            time: record.time,
                            bundle,
                            warms_up,
                        };
                        let mut states = States {
                            table,
                            load,
                            episodes: &self.episode,
                        };
                        watch.observe(admitted.item.slot, admitted.before, here, &mut states)?;
                    }
                    items.push(GatedRow {
                        record: index,
                        warms_up,
                        ..admitted.item
                    });
                }
                Err(Refusal::Reject(reason, detail)) => {
                    done.rejected
                        .push(Rejected::new(record.message, reason, detail))
                }
                Err(Refusal::Load(error)) => return Err(error.into()),
            }
        }
        let found = match &self.model {
            Some(model) => Some(model.infer(&self.stream, windows, &seen)?),
            None => None,
        };
        let readings: Vec<&[f64]> = readings.collect();
        for item in items {
            let Some(slot) = table.get_mut(item.slot) else {
                continue;
            };
            let (record, values) = (&batch.records[item.record], readings[item.record]);
            if item.expired {
                slot.state.reset();
            }
            if let Some(watch) = &mut self.watch {
                done.alerts.extend(watch.take(item.record));
            }
            let values = item.row.as_ref().map_or(values, |row| &row.values);
            let evidence = match item.place {
                WindowStatus::Window { index, .. } => {
                    found.as_ref().map(|all| all.at(index, &seen))
                }
                _ => None,
            };
            self.judge(slot, record, values, &item, evidence, done);
            if let Some(outcome) = done.outcomes.last()
                && self.keeps_samples
                && self.model.is_some()
                && item.place != WindowStatus::Resampling
            {
                done.samples.values.extend_from_slice(values);
                done.samples.records.push(Sample {
                    outcome: done.outcomes.len() - 1,
                    partition: record.partition,
                    offset: record.offset,
                    muted: self.episode.is_muted(&outcome.series, outcome.time),
                });
            }
        }
        Ok(())
    }
}

/// What all parts came to together.
fn finish(mut done: BatchOutput) -> BatchOutput {
    done.rejected.sort_by_key(|rejected| rejected.message);
    done.counts.rejected = done
        .rejected
        .iter()
        .map(|rejected| rejected.reason)
        .collect();
    done
}

/// The first 64 bits of a bundle's id: a whole id would take more room than the states of small
/// steps.
pub fn tag(id: &str) -> u64 {
    id.get(..16)
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .unwrap_or(0)
}

fn episode_plan(stream: &StreamSettings) -> episode::EpisodePolicy {
    episode::EpisodePolicy::new(
        &stream.name,
        &stream.input.topic,
        &stream.record.fields,
        &stream.episode,
        &stream.mutes,
    )
}
