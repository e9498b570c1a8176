//! The straight line: the one place where the steps are joined.
//!
//! Decode, gate and window run record by record; then all windows of the batch go through the model in ONE forward pass;
//! then chart, threshold and episode run record by record. Everything is synchronous and pure: the same messages, states
//! and bundle give the same results, live, replayed or resumed, however the messages were batched.

mod admit;
mod judge;
mod reader;
pub mod series;
mod silence;
pub mod status;

use std::sync::Arc;

use self::admit::{Item, Place};
use self::reader::Reader;
use self::series::{SeriesState, SeriesTable};
use self::silence::{Here, Watch};
use crate::config::settings::Stream;
use crate::events::BatchDone;
use crate::model::bundle::Bundle;
use crate::model::context::Clock;
use crate::record::alert::{Alert, AlertEvent, AlertKind};
use crate::record::{Batch, EventTime, Message, Outcome, Rejected};
use crate::retrain::buffer::Admission;
use crate::retrain::collect::{Collector, Judged};
use crate::retrain::set::{Run, TrainingRow};
use crate::score::{ScoreError, Scorer};
use crate::threshold::ThresholdState;
use crate::{episode, gate, resample, threshold};

/// A step failed in a way that no record can be blamed for.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The forward pass, or a bundle that cannot score.
    #[error("score: {0}")]
    Score(#[from] ScoreError),
    /// The live bundle could not be read.
    #[error(transparent)]
    Registry(#[from] crate::model::registry::RegistryError),
    /// The bundle was made for another context.
    #[error(
        "bundle {bundle} is told {found} of the time, stream {stream} asks for {wanted}: train a new bundle, or correct model.context"
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
        "bundle {bundle} has the fields [{found}], stream {stream} has [{wanted}]: train a new bundle, or configure the fields that it was trained on"
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

/// Finds the stored state of a series that is not in memory, by partition and name.
pub type Load<'l> = dyn FnMut(i32, &str) -> Option<SeriesState> + 'l;

/// What one batch came to.
#[derive(Default)]
pub struct Done {
    /// One for each record that was not rejected, in their order.
    pub outcomes: Vec<Outcome>,
    /// What is to be published, in the order of the records.
    pub alerts: Vec<Alert>,
    /// What goes to the dead letters.
    pub rejected: Vec<Rejected>,
    /// Heat maps of alerts, each with its alert's id and as a PNG file; only where the stream publishes them.
    pub heat_maps: Vec<(String, Vec<u8>)>,
    /// Records to learn from, each with the index of its message; only without a bundle.
    pub learned: Vec<(usize, TrainingRow)>,
    /// For the metrics.
    pub counts: BatchDone,
}

/// The steps of one stream, ready to run.
pub struct Pipeline {
    stream: Arc<Stream>,
    reader: Reader,
    /// `None` where records are taken as they come.
    resample: Option<resample::Plan>,
    /// The context of each record, which the model is told.
    clock: Clock,
    gate: gate::Plan,
    episode: episode::Plan,
    /// `None` while the stream has no bundle.
    model: Option<Model>,
    /// Where normal traffic is collected to train the next bundle from.
    admission: Option<Arc<Admission>>,
    collector: Option<Collector>,
    /// Looks for series that fall silent; `None` where the stream does not want it.
    watch: Option<Watch>,
    /// Records that arrived before this are only learned from: they were there before the stream's first start.
    warm_until: Option<EventTime>,
}

/// The steps that belong to a bundle.
struct Model {
    id: Arc<str>,
    tag: u64,
    scorer: Scorer,
    threshold: threshold::Plan,
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
    pub fn new(stream: Arc<Stream>, bundle: Option<Bundle>) -> Result<Self, PipelineError> {
        let watch = Watch::new(&stream.silence);
        let mut pipeline = Self {
            reader: Reader::new(&stream),
            resample: resample::Plan::new(&stream.resample, &stream.record.fields),
            clock: Clock::new(&stream.model),
            gate: gate::Plan::new(&stream.gate, &stream.record.fields, None),
            episode: episode_plan(&stream),
            stream,
            model: None,
            admission: None,
            collector: None,
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

    /// The threshold of a series that nothing is known of: fixed by the calibration, before any record is scored.
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
    pub fn episodes(&self) -> &episode::Plan {
        &self.episode
    }

    /// Collects normal traffic from now on, as far as the `admission` lets it in.
    pub fn collect(&mut self, admission: Arc<Admission>) {
        self.admission = Some(admission);
        self.start_collecting();
    }

    fn start_collecting(&mut self) {
        let stream = &self.stream;
        // Images are not kept: see `[defaults.retrain]`.
        let admission = self.admission.clone().filter(|_| stream.image.is_none());
        self.collector = admission
            .zip(self.model.as_ref())
            .map(|(admission, model)| {
                let period = model.scorer.bundle().calibration.period_micros;
                Collector::new(&stream.retrain, admission, stream.window, period)
            });
    }

    /// The normal traffic that was collected since the last call.
    pub fn take_collected(&mut self) -> Vec<Run> {
        self.collector.as_mut().map_or(Vec::new(), Collector::take)
    }

    /// A partition leaves: what was being collected of its series is dropped.
    pub fn drop_partition(&mut self, partition: i32) {
        if let Some(collector) = &mut self.collector {
            collector.drop_partition(partition);
        }
        if let Some(watch) = &mut self.watch {
            watch.drop_partition(partition);
        }
    }

    /// Takes over the settings that need no restart: episodes and mutes.
    pub fn reload(&mut self, stream: &Arc<Stream>) {
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
        self.gate = gate::Plan::new(
            &self.stream.gate,
            &self.stream.record.fields,
            Some(&normals),
        );
        self.model = Some(model);
        self.start_collecting();
        Ok(())
    }

    /// Runs a batch of messages.
    ///
    /// # Errors
    /// [`PipelineError::Score`]; the states have then seen a part of the batch and must be dropped.
    pub fn run(
        &mut self,
        messages: &[Message<'_>],
        table: &mut SeriesTable,
        load: &mut Load<'_>,
    ) -> Result<Done, PipelineError> {
        self.run_parts(messages, messages, table, load)
    }

    /// Runs the messages of a file: when they arrived is not known, so none of them is from the future.
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    pub fn run_file(
        &mut self,
        messages: &[Message<'_>],
        table: &mut SeriesTable,
        load: &mut Load<'_>,
    ) -> Result<Done, PipelineError> {
        self.run_parts(messages, &[], table, load)
    }

    /// Decodes and runs; `arrived` are the messages whose times of arrival are known.
    fn run_parts(
        &mut self,
        messages: &[Message<'_>],
        arrived: &[Message<'_>],
        table: &mut SeriesTable,
        load: &mut Load<'_>,
    ) -> Result<Done, PipelineError> {
        let (mut done, mut next) = (Done::default(), 0);
        table.begin_batch();
        // Readings are one part; images are decoded as many at a time as memory should hold.
        while next < messages.len() {
            let (batch, after) = self.reader.decode(messages, next);
            self.run_part(arrived, batch, table, load, &mut done)?;
            next = after;
        }
        Ok(self.finish(done))
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
        load: &mut Load<'_>,
    ) -> Result<Done, PipelineError> {
        let mut done = Done::default();
        table.begin_batch();
        self.run_part(messages, batch, table, load, &mut done)?;
        Ok(self.finish(done))
    }

    /// Adds what a decoded batch comes to.
    fn run_part(
        &mut self,
        messages: &[Message<'_>],
        mut batch: Batch<'_>,
        table: &mut SeriesTable,
        load: &mut Load<'_>,
        done: &mut Done,
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
                        admitted.item.place = Place::Window {
                            index: seen.len(),
                            spans_gap: false,
                        };
                        admitted.item.file = Some(image.file.clone());
                        seen.push(image);
                    }
                    done.counts.out_of_order += u64::from(admitted.out_of_order);
                    if let Some(watch) = &mut self.watch {
                        let bundle = self.model.as_ref().map_or("", |model| &model.id);
                        let (partition, offset, time) =
                            (record.partition, record.offset, record.time);
                        let here = Here {
                            record: index,
                            partition,
                            offset,
                            time,
                            bundle,
                            warms_up,
                        };
                        watch.saw(
                            admitted.item.slot,
                            admitted.before,
                            here,
                            table,
                            &self.episode,
                        );
                    }
                    items.push(Item {
                        record: index,
                        warms_up,
                        ..admitted.item
                    });
                }
                Err((reason, detail)) => {
                    done.rejected
                        .push(Rejected::new(record.message, reason, detail))
                }
            }
        }
        let found = match &self.model {
            Some(model) => Some(model.look(&self.stream, windows, &seen)?),
            None => None,
        };
        let readings: Vec<&[f64]> = readings.collect();
        for item in items {
            let Some(slot) = table.get_mut(item.slot) else {
                continue;
            };
            let (record, values) = (&batch.records[item.record], readings[item.record]);
            if item.anew {
                slot.state.start_anew();
            }
            if let Some(watch) = &mut self.watch {
                done.alerts.extend(watch.take(item.record));
            }
            let values = item.row.as_ref().map_or(values, |row| &row.values);
            let evidence = match item.place {
                Place::Window { index, .. } => found.as_ref().map(|all| all.at(index, &seen)),
                _ => None,
            };
            self.judge(slot, record, values, &item, evidence, done);
            if let (Some(collector), Some(model), Some(outcome)) =
                (&mut self.collector, &self.model, done.outcomes.last())
                && item.place != Place::Slot
            {
                let muted = self.episode.is_muted(&outcome.series, outcome.time);
                let (partition, offset) = (record.partition, record.offset);
                collector.offer(
                    &Judged {
                        partition,
                        offset,
                        values,
                        outcome,
                        muted,
                    },
                    model.tag,
                );
            }
        }
        Ok(())
    }

    /// What all parts came to together.
    fn finish(&self, mut done: Done) -> Done {
        self.count(&done);
        done.rejected.sort_by_key(|rejected| rejected.message);
        done.counts.rejected = done
            .rejected
            .iter()
            .map(|rejected| rejected.reason)
            .collect();
        done
    }

    /// Counts what a bundle on probation is held against.
    fn count(&self, done: &Done) {
        let Some(collector) = &self.collector else {
            return;
        };
        let opened =
            |alert: &&Alert| alert.event == AlertEvent::Open && alert.kind == AlertKind::Anomaly;
        collector.admission().count(
            done.alerts.iter().filter(opened).count() as u64,
            done.counts.budgeted,
        );
        if let Some(newest) = done.outcomes.iter().map(|outcome| outcome.time).max() {
            collector.admission().saw(newest);
        }
    }
}

/// The first 64 bits of a bundle's id: a whole id would take more room than the states of small steps.
pub fn tag(id: &str) -> u64 {
    id.get(..16)
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .unwrap_or(0)
}

fn episode_plan(stream: &Stream) -> episode::Plan {
    episode::Plan::new(
        &stream.name,
        &stream.input.topic,
        &stream.record.fields,
        &stream.episode,
        &stream.mutes,
    )
}
