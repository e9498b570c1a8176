//! What a lane owns besides its consumer: the pipeline, the series in memory, the producer, and
//! what is not committed yet.
//!
//! It sits behind a mutex only because librdkafka calls back on a rebalance, from inside the lane's
//! own poll: the lane never holds it while polling, so that it is never waited for.

mod between;
mod commit;
mod warm_up;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rdkafka::TopicPartitionList;
use rdkafka::message::{BorrowedMessage, Message as _};

use self::between::FeedbackSeen;
use super::Lane;
use super::checkpoint::PendingCheckpoint;
use super::delivery::{self, DeliveryGuarantee};
use super::error::LaneError;
use super::expiry::Expiry;
use super::group::GroupOffset;
use super::notes::PartitionNotes;
use super::sampler::Sampler;
use super::silence::TopicSilenceMonitor;
use crate::config::settings::StreamSettings;
use crate::events::StatesRestored;
use crate::events::lane::TransactionNotAborted;
use crate::events::store::{StateUnreadable, StoreAccess, StoreAccessFailed};
use crate::pipeline::Pipeline;
use crate::pipeline::series::{LoadError, SeriesState, SeriesTable, StoredSeries};
use crate::record::alert::Alert;
use crate::retrain::learner::Learner;
use crate::retrain::set::RecordRun;
use crate::sink::Sink;
use crate::source::view;
use crate::state::codec::{self, CodecError};
use crate::state::{Learned, Store};

/// The key of the note with the clock by which the series of a partition are found silent.
const CLOCK: &str = "silence-clock";
/// Stored series that are read at a time.
const PAGE: usize = 500;

/// See the module.
pub struct LaneState {
    stream: Arc<StreamSettings>,
    pipeline: Pipeline,
    table: SeriesTable,
    sink: Sink,
    store: Arc<dyn Store>,
    learner: Arc<Learner>,
    /// Partitions that this lane owns. Entries leave when they are revoked.
    owned: HashSet<i32>,
    /// Where the last commit of an owned partition ends, as far as that is known. Entries leave
    /// when they are revoked.
    committed: HashMap<i32, i64>,
    /// Owned partitions with records since the last commit: from the first of them to where to go
    /// on. Emptied by a commit.
    progress: HashMap<i32, Range<i64>>,
    /// What is kept of partitions beside the states of series.
    notes: PartitionNotes,
    /// Whether all that is read is silent.
    topic: TopicSilenceMonitor,
    /// Which feedback was looked at.
    feedback: FeedbackSeen,
    /// What the retraining takes of the output.
    sampler: Sampler,
    /// Alerts sent since the last commit. Emptied by a commit.
    sent: Vec<Alert>,
    /// Learned records since the last commit.
    learned: Vec<Learned>,
    /// Committed, and not in the store yet.
    pending_checkpoint: PendingCheckpoint,
    last_commit: Instant,
    /// Whether there is something to commit that should not wait: an alert, or feedback that was
    /// applied.
    urgent: bool,
    /// When the lane began: what the table's time counts from.
    began: Instant,
    expiry: Expiry,
    /// How a commit becomes durable.
    delivery: Box<dyn DeliveryGuarantee>,
    /// Whether the lane is to stop: whatever it waits for is given up then.
    stop: Arc<AtomicBool>,
}

impl LaneState {
    /// A core that owns nothing yet.
    pub fn new(lane: &Lane, pipeline: Pipeline, sink: Sink, stop: Arc<AtomicBool>) -> Self {
        let stream = lane.stream.clone();
        let admission = lane.retrainer.admission().clone();
        let mut table = SeriesTable::new(stream.record.max_series);
        let looks_for_silence = stream.silence.after > 0.0;
        if looks_for_silence {
            table.keep_stored();
        }
        Self {
            delivery: delivery::of(&lane.kafka, &stream),
            table,
            expiry: Expiry::new(&stream.retention),
            topic: TopicSilenceMonitor::new(&stream.silence, Instant::now()),
            sampler: Sampler::new(stream.clone(), admission),
            stream,
            pipeline,
            sink,
            store: lane.store.clone(),
            learner: lane.learner.clone(),
            owned: HashSet::new(),
            committed: HashMap::new(),
            progress: HashMap::new(),
            notes: PartitionNotes::default(),
            feedback: FeedbackSeen::default(),
            sent: Vec::new(),
            learned: Vec::new(),
            pending_checkpoint: PendingCheckpoint::default(),
            last_commit: Instant::now(),
            urgent: false,
            began: Instant::now(),
            stop,
        }
    }

    /// Whether the lane is to stop.
    pub(super) fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The pipeline, to swap its bundle or settings between two batches.
    pub fn pipeline_mut(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }

    /// How many partitions are owned.
    pub fn owned(&self) -> usize {
        self.owned.len()
    }

    /// The normal traffic that was collected since the last call.
    pub fn take_runs(&mut self) -> Vec<RecordRun> {
        self.sampler.take_runs()
    }

    /// The offset of the next record of an owned partition, as far as it is known.
    fn next_offset(&self, partition: i32) -> Option<i64> {
        let progress = self.progress.get(&partition).map(|range| range.end);
        progress.or_else(|| self.committed.get(&partition).copied())
    }

    /// Whether the partition is owned whose owner trains the stream.
    pub fn is_trainer(&self) -> bool {
        self.owned.contains(&0)
    }

    /// How many series are in memory.
    pub fn series(&self) -> usize {
        self.table.len()
    }

    /// The stored position of a partition: states in the store belong to it.
    pub(super) fn position(&self, partition: i32) -> Option<i64> {
        let stream = &self.stream.name;
        match self.store.position(stream, partition) {
            Ok(position) => position,
            Err(error) => {
                StoreAccessFailed {
                    stream,
                    access: StoreAccess::ReadPosition,
                    error: &error,
                }
                .emit();
                None
            }
        }
    }

    /// Whether the store is behind what was committed of a partition elsewhere, or before a crash.
    pub(super) fn is_behind(&self, group: &GroupOffset) -> bool {
        let stream = &self.stream.name;
        // What cannot be read is read again.
        let stored = self.store.changelog(stream, group.partition).ok().flatten();
        let is_behind = self.position(group.partition) < group.offset;
        group.offset.is_some() && (is_behind || stored < group.changelog)
    }

    /// Fetches what is missing of the states of partitions that were committed elsewhere, or before
    /// a crash.
    ///
    /// # Errors
    /// [`LaneError::Changelog`]: without the states the partitions must not be read.
    pub(super) fn restore(&self, partitions: &[i32]) -> Result<(), LaneError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let restored = self
            .delivery
            .restore(&*self.store, partitions, &self.stop)?;
        let Some(states) = restored else {
            return Ok(());
        };
        StatesRestored {
            stream: &self.stream.name,
            partitions,
            states,
            took: started.elapsed(),
        }
        .emit();
        Ok(())
    }

    /// Aborts what was sent since the last commit; the series in memory are void then.
    pub(super) fn abort(&mut self) {
        self.sent.clear();
        if let Err(error) = self.sink.abort() {
            TransactionNotAborted {
                stream: &self.stream.name,
                error: &error,
            }
            .emit();
        }
    }

    /// Rewinds to the last commit without leaving the group: the transaction is aborted, and
    /// the partitions of which anything has changed since then, those of a `batch` that did not run
    /// included, get their states as they were committed. Returns where each of them has to be read
    /// again.
    ///
    /// # Errors
    /// Any [`LaneError`]: the lane has to restart.
    pub(super) fn rewind(
        &mut self,
        batch: &[BorrowedMessage<'_>],
    ) -> Result<TopicPartitionList, LaneError> {
        self.sink.abort()?;
        self.sent.clear();
        self.taken(batch);
        let mut committed = self.changed_positions();
        for (&partition, range) in &self.progress {
            committed.insert(partition, range.start);
        }
        let offsets = delivery::offsets(&self.stream.input.topic, &committed, &[])?;
        let partitions: Vec<i32> = committed.keys().copied().collect();
        self.revoked(&partitions);
        self.restore(&partitions)?;
        let committed: Vec<_> = committed.into_iter().map(|(p, at)| (p, Some(at))).collect();
        self.assigned(&committed)?;
        self.urgent = false;
        self.last_commit = Instant::now();
        Ok(offsets)
    }

    /// Partitions come, each with the offset of its next record, as far as that is known; their
    /// states are in the store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) fn assigned(&mut self, partitions: &[(i32, Option<i64>)]) -> Result<(), LaneError> {
        for &(partition, next) in partitions {
            self.read_series(partition)?;
            self.notes
                .load(&*self.store, &self.stream.name, partition)?;
            self.topic.assigned(partition, &self.notes);
            if let Some(silence) = &mut self.pipeline.silence
                && let Some(clock) = self.notes.get(partition, CLOCK)
            {
                silence.set_clock(partition, clock);
            }
            self.committed.extend(next.map(|next| (partition, next)));
            self.owned.insert(partition);
        }
        self.look_at_feedback_again();
        Ok(())
    }

    /// Tells the table which series of a partition are stored.
    fn read_series(&mut self, partition: i32) -> Result<(), LaneError> {
        let stream = &self.stream.name;
        if self.stream.silence.after <= 0.0 {
            let known = self.store.count(stream, partition)?;
            self.table.set_known(partition, known);
            return Ok(());
        }
        let (mut known, mut after) = (0, None::<String>);
        loop {
            let page = self
                .store
                .states(stream, partition, after.as_deref(), PAGE)?;
            known += page.len();
            for (series, bytes) in &page {
                // One that is unreadable is reported with its next record.
                if let Ok(state) = codec::decode::<SeriesState>(bytes) {
                    self.table
                        .set_stored(partition, series, StoredSeries::from(&state));
                }
            }
            match page.into_iter().next_back() {
                Some((last, _)) => after = Some(last),
                None => break,
            }
        }
        self.table.set_known(partition, known);
        Ok(())
    }

    pub(super) fn revoked(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.owned.remove(partition);
            self.committed.remove(partition);
            self.progress.remove(partition);
            self.table.drop_partition(*partition);
            if let Some(silence) = &mut self.pipeline.silence {
                silence.drop_partition(*partition);
            }
            self.sampler.drop_partition(*partition);
            self.notes.drop_partition(*partition);
            self.topic.revoked(*partition);
            self.expiry.revoked(*partition);
            self.learned.retain(|(p, _, _)| p != partition);
            self.pending_checkpoint.drop_partition(*partition);
        }
    }

    /// Runs one micro-batch through the pipeline and hands its results to the producer.
    ///
    /// # Errors
    /// Any [`LaneError`]: the batch has then had effects that were not committed, and the lane must
    /// go back.
    pub fn run(&mut self, batch: &[BorrowedMessage<'_>]) -> Result<(), LaneError> {
        let started = Instant::now();
        let messages: Vec<_> = batch.iter().map(view).collect();
        let store = &*self.store;
        let stream = &self.stream.name;
        let mut load = |partition, series: &str| load(store, stream, partition, series);
        self.table.set_now(self.began.elapsed());
        let mut done = self.pipeline.run(&messages, &mut self.table, &mut load)?;
        self.sampler.take(&self.pipeline, &done);

        for rejected in &done.rejected {
            if let Some(message) = batch.get(rejected.message) {
                self.sink.dead_letter(message, rejected)?;
            }
        }
        self.publish(std::mem::take(&mut done.alerts))?;
        for (alert, png) in &done.heat_maps {
            self.sink.heat_map(alert, png)?;
        }
        if self.stream.output.scores.is_some() {
            for outcome in &done.outcomes {
                self.sink.score(outcome)?;
            }
        }
        for (of, row) in done.training_rows() {
            let partition = of.partition;
            let offset = of.offset;
            self.learned.push((partition, offset, codec::encode(&row)?));
            self.learner.add(partition, offset, row);
        }
        for of_one in done.outcomes.chunk_by(|a, b| a.partition == b.partition) {
            if let Some(newest) = of_one.iter().map(|outcome| outcome.time).max() {
                self.expiry.observe(of_one[0].partition, newest);
            }
        }
        self.taken(batch);
        done.counts.emit(&self.stream.name, started.elapsed());
        Ok(())
    }

    /// Messages that the consumer is past.
    fn taken(&mut self, batch: &[BorrowedMessage<'_>]) {
        for of_one in batch.chunk_by(|a, b| a.partition() == b.partition()) {
            if let (Some(first), Some(last)) = (of_one.first(), of_one.last()) {
                let from = first.offset();
                self.progress
                    .entry(first.partition())
                    .or_insert(from..from)
                    .end = last.offset() + 1;
            }
        }
    }

    /// Serves delivery reports, and tells how many results are on their way to the brokers.
    pub fn in_flight(&self) -> usize {
        self.sink.poll();
        self.sink.in_flight()
    }
}

/// The stored state of a series. A damaged one is reported and replaced by a new one; one of a
/// newer outlierd must not be overwritten.
fn load(
    store: &dyn Store,
    stream: &str,
    partition: i32,
    series: &str,
) -> Result<Option<SeriesState>, LoadError> {
    let Some(bytes) = store.state(stream, partition, series)? else {
        return Ok(None);
    };
    match codec::decode(&bytes) {
        Ok(state) => Ok(Some(state)),
        Err(source @ CodecError::Newer { .. }) => Err(LoadError::Newer {
            series: series.into(),
            source,
        }),
        Err(error) => {
            StateUnreadable {
                stream,
                series,
                error: &error,
            }
            .emit();
            Ok(None)
        }
    }
}
