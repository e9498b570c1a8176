//! What a lane owns besides its consumer: the pipeline, the series in memory, the producer, and
//! what is not committed yet.
//!
//! It sits behind a mutex only because librdkafka calls back on a rebalance, from inside the lane's
//! own poll: the lane never holds it while polling, so that it is never waited for.

mod handover;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;
use rdkafka::message::{BorrowedMessage, Message as _};

use self::handover::PartitionHandover;
use self::watch::LaneWatch;
use super::checkpoint::{CommittedChanges, PendingCheckpoint};
use super::delivery::{self, Changes, DeliveryGuarantee};
use super::error::LaneError;
use super::expiry::Expiry;
use super::feedback::FeedbackSeen;
use super::group::GroupMember;
use super::notes::PartitionNotes;
use super::positions::PartitionPositions;
use super::recovery::PartitionRecovery;
use super::sampler::Sampler;
use super::silence::TopicSilenceMonitor;
use super::status::LaneStatus;
use super::stored_states::StoredStates;
use super::topic_watch::ReadRecords;
use super::uncommitted::Uncommitted;
use super::{Lane, clocks, warm_up};
use crate::config::settings::StreamSettings;
use crate::events;
use crate::events::lane::TransactionNotAborted;
use crate::pipeline::Pipeline;
use crate::pipeline::series::SeriesTable;
use crate::record::alert::Alert;
use crate::record::{EventTime, Rejected};
use crate::retrain::learner::Learner;
use crate::retrain::set::RecordRun;
use crate::sink::Sink;
use crate::source::view;
use crate::state::codec;

/// Changed states that one commit may hold: all of them are in the producer's memory at once.
const CHANGED_MAX: usize = 20_000;

/// See the module.
pub struct LaneState {
    stream: Arc<StreamSettings>,
    pipeline: Pipeline,
    table: SeriesTable,
    sink: Sink,
    states: StoredStates,
    learner: Arc<Learner>,
    positions: PartitionPositions,
    /// Partitions of the input topic when the lane last got some.
    input_partitions: usize,
    read_records: Arc<ReadRecords>,
    /// What is kept of partitions beside the states of series.
    notes: PartitionNotes,
    /// Whether all that is read is silent.
    topic: TopicSilenceMonitor,
    feedback: FeedbackSeen,
    /// What the retraining takes of the output.
    sampler: Sampler,
    uncommitted: Uncommitted,
    recovery: PartitionRecovery,
    /// Committed, and not in the store yet.
    pending_checkpoint: PendingCheckpoint,
    /// When the lane began: what the table's time counts from.
    began: Instant,
    expiry: Expiry,
    /// How a commit becomes durable.
    delivery: Box<dyn DeliveryGuarantee>,
    status: Arc<LaneStatus>,
    /// Whether the lane is to stop: whatever it waits for is given up then.
    stop: Arc<AtomicBool>,
}

impl LaneState {
    /// The state of a lane that owns no partition yet.
    pub fn new(lane: &Lane, pipeline: Pipeline, sink: Sink, stop: Arc<AtomicBool>) -> Self {
        let stream = lane.stream.clone();
        let admission = lane.retrainer.admission().clone();
        let events = lane.retrainer.event_queue().clone();
        let mut table = SeriesTable::new(stream.record.max_series);
        if stream.silence.after > 0.0 {
            table.keep_stored();
        }
        Self {
            delivery: delivery::of(&lane.kafka, &stream),
            table,
            expiry: Expiry::new(&stream.retention, stream.silence.after == 0.0),
            topic: TopicSilenceMonitor::new(&stream.silence, Instant::now()),
            sampler: Sampler::new(stream.clone(), admission, events),
            states: StoredStates::new(lane.store.clone(), &stream.name),
            stream,
            pipeline,
            sink,
            learner: lane.learner.clone(),
            positions: PartitionPositions::default(),
            input_partitions: 0,
            read_records: lane.read_records.clone(),
            notes: PartitionNotes::default(),
            feedback: FeedbackSeen::default(),
            uncommitted: Uncommitted::new(),
            recovery: PartitionRecovery::default(),
            pending_checkpoint: PendingCheckpoint::default(),
            began: Instant::now(),
            status: lane.status.clone(),
            stop,
        }
    }

    pub(super) fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The pipeline, to swap its bundle or settings between two batches.
    pub fn pipeline_mut(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }

    pub(super) fn owned(&self) -> usize {
        self.positions.count()
    }

    /// The normal traffic that was collected since the last call.
    pub fn take_runs(&mut self) -> Vec<RecordRun> {
        self.sampler.take_runs()
    }

    /// Whether the partition is owned whose owner trains the stream.
    pub fn is_trainer(&self) -> bool {
        self.positions.owns(0)
    }

    /// How many series are in memory.
    pub fn series(&self) -> usize {
        self.table.len()
    }

    /// Whether the changelog was lost, where an `error` may be its consequence.
    pub(super) fn has_lost_changelog(&self, error: &LaneError) -> bool {
        match error {
            LaneError::ChangelogLost => true,
            LaneError::Sink(_) => {
                let owned = self.positions.owned();
                self.delivery.has_lost_changelog(&self.sink, &owned)
            }
            _ => false,
        }
    }

    /// The partitions, to come or to leave.
    pub(super) fn handover(&mut self) -> PartitionHandover<'_> {
        PartitionHandover { lane: self }
    }

    /// What is looked at between two batches.
    pub(super) fn watch(&mut self) -> LaneWatch<'_> {
        LaneWatch { lane: self }
    }

    /// Gives the changelog as many partitions as the input has.
    ///
    /// # Errors
    /// [`LaneError`] where the brokers do not answer or allow it.
    pub(super) fn prepare_changelog(&mut self, partitions: usize) -> Result<(), LaneError> {
        self.input_partitions = partitions;
        self.delivery.prepare(&self.sink, partitions)
    }

    /// Whether records run again whose results were published before.
    pub(super) fn runs_again(&self) -> bool {
        self.recovery.is_running()
    }

    /// Partitions are read to their ends.
    pub(super) fn at_ends(&mut self, partitions: &[i32]) {
        self.recovery.at_ends(partitions);
    }

    /// The owned partitions whose topic was deleted and created again since they are read.
    pub(super) fn replaced(&self) -> Vec<i32> {
        self.read_records
            .replaced(|partition| self.positions.owns(partition))
    }

    /// Aborts what was sent since the last commit; the series in memory are void then, and the
    /// partitions are not read any more.
    pub(super) fn abort(&mut self) {
        self.uncommitted.aborted();
        for partition in self.positions.owned() {
            self.read_records.end(partition);
        }
        if let Err(error) = self.sink.producer().abort() {
            TransactionNotAborted {
                stream: &self.stream.name,
                error: &error,
            }
            .emit();
        }
    }

    /// Runs one micro-batch through the pipeline and hands its results to the producer; of records that
    /// were published before, only the states stay.
    ///
    /// # Errors
    /// Any [`LaneError`]: the batch has then had effects that were not committed, and the lane must
    /// go back.
    pub fn run(&mut self, batch: &[BorrowedMessage<'_>]) -> Result<(), LaneError> {
        let recovery = &self.recovery;
        let was_published =
            |of: &BorrowedMessage<'_>| recovery.was_published(of.partition(), of.offset());
        let published: Vec<bool> = batch.iter().map(was_published).collect();
        let mut rest = batch;
        for part in published.chunk_by(|a, b| a == b) {
            let (now, later) = rest.split_at(part.len());
            match part.first() {
                Some(true) => self.run_again(now)?,
                _ => self.run_new(now)?,
            }
            rest = later;
        }
        Ok(())
    }

    fn run_again(&mut self, batch: &[BorrowedMessage<'_>]) -> Result<(), LaneError> {
        let messages: Vec<_> = batch.iter().map(view).collect();
        let states = &self.states;
        let mut load = |partition, series: &str| states.load(partition, series);
        self.table.set_now(self.began.elapsed());
        drop(self.pipeline.run(&messages, &mut self.table, &mut load)?);
        self.positions.advance(batch);
        for message in batch {
            self.recovery
                .advance(message.partition(), message.offset() + 1);
        }
        Ok(())
    }

    fn run_new(&mut self, batch: &[BorrowedMessage<'_>]) -> Result<(), LaneError> {
        let started = Instant::now();
        let messages: Vec<_> = batch.iter().map(view).collect();
        let states = &self.states;
        let mut load = |partition, series: &str| states.load(partition, series);
        self.table.set_now(self.began.elapsed());
        let mut done = self.pipeline.run(&messages, &mut self.table, &mut load)?;
        self.sampler.take(&self.pipeline, &done);
        let rejections = &self.status.rejections;
        rejections.observe(&self.stream, &messages, &done, started);

        let mut before = None;
        for rejected in &done.rejected {
            let repeats = before.replace(rejected.message) == Some(rejected.message);
            if let Some(message) = batch.get(rejected.message) {
                self.sink.dead_letter(message, rejected, repeats)?;
            }
        }
        let arrived = messages.first().and_then(|message| message.arrival);
        self.publish(std::mem::take(&mut done.alerts), arrived)?;
        for (alert, png) in &done.heat_maps {
            self.sink.heat_map(alert, png)?;
        }
        for outcome in &done.outcomes {
            self.sink.score(outcome)?;
        }
        for (of, row) in done.training_rows() {
            let partition = of.partition;
            let offset = of.place();
            self.uncommitted
                .learned((partition, offset, codec::encode(&row)?));
            self.learner.add(partition, offset, row);
        }
        self.expiry.observe_all(&done.outcomes);
        self.positions.advance(batch);
        done.counts.emit(&self.stream.name, started.elapsed());
        Ok(())
    }

    /// Steps over a record, with a dead letter where there is a reason to give.
    ///
    /// # Errors
    /// Where it cannot be sent.
    pub(super) fn step_over(
        &mut self,
        batch: &[BorrowedMessage<'_>],
        reason: Option<&Rejected>,
    ) -> Result<(), LaneError> {
        if let (Some(message), Some(rejected)) = (batch.first(), reason) {
            self.sink.dead_letter(message, rejected, false)?;
        }
        self.positions.advance(batch);
        Ok(())
    }

    /// Serves delivery reports, and tells how many results are on their way to the brokers.
    pub fn in_flight(&self) -> usize {
        self.sink.producer().poll();
        self.sink.producer().in_flight()
    }

    /// Sends alerts; they are published with the next commit. `arrived` is when the records that led to
    /// them arrived, if any did.
    fn publish(
        &mut self,
        alerts: impl IntoIterator<Item = Alert>,
        arrived: Option<EventTime>,
    ) -> Result<(), LaneError> {
        for alert in alerts {
            self.sink.alert(&alert)?;
            tracing::debug!(id = alert.id, "alert waits for its commit");
            self.uncommitted.alert(alert, arrived);
        }
        Ok(())
    }

    /// How much of the history a stream begins with.
    pub(super) fn warm_up_span(&self) -> Duration {
        self.stream.input.warm_up
    }

    /// Begins to warm up where it `begins`, or goes on with it.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub(super) fn warm_up(&mut self, begins: bool) -> Result<(), LaneError> {
        let until = match begins {
            true => Some(warm_up::begin(self.states.store(), &self.stream)?),
            false => warm_up::begun(self.states.store(), &self.stream)?,
        };
        if let Some(until) = until {
            self.pipeline.intake.warm_up(until);
        }
        Ok(())
    }

    /// Whether a commit is due: by time, for an alert or feedback, for the sheer number of changes,
    /// or to make room in memory.
    pub fn commit_due(&self) -> bool {
        !self.recovery.is_running() && self.has_due_changes()
    }

    fn has_due_changes(&self) -> bool {
        self.urgent_in().is_some_and(|wait| wait.is_zero())
            || self.uncommitted.age() >= self.stream.input.commit_interval
            || self.table.changed() >= CHANGED_MAX
            || self.expiry.is_full(&self.table)
    }

    /// How long a commit that should not wait has to wait yet, where there is one.
    pub fn urgent_in(&self) -> Option<Duration> {
        self.uncommitted
            .is_urgent()
            .then(|| self.delivery.pause_left())
    }

    /// Makes everything so far durable, in the order of the delivery contract. Where `mode` is
    /// `Sync`, the store is written too. Returns whether there was anything.
    ///
    /// # Errors
    /// Any [`LaneError`]: nothing after the failed step has happened.
    pub fn commit(
        &mut self,
        consumer: &dyn GroupMember,
        mode: CommitMode,
    ) -> Result<bool, LaneError> {
        if self.recovery.is_running() {
            return Ok(false);
        }
        let began = Instant::now();
        self.uncommitted.commit_begins();
        let progress = self.positions.with_progress();
        clocks::keep(progress, &self.pipeline, &mut self.notes)?;
        let positions = self.positions.changed(&self.notes);
        let noted = positions
            .iter()
            .map(|(&partition, &next)| (partition, next));
        self.positions.note(noted, &mut self.notes)?;
        if positions.is_empty() {
            return self.store_if_due(mode).map(|()| false);
        }
        let forgotten = self.expiry.forget(
            self.states.store(),
            &self.stream.name,
            &mut self.table,
            &self.pipeline,
            &self.positions,
        )?;
        self.publish(forgotten.closed, None)?;
        let notes = self.notes.changes();
        let stream = self.stream.clone();
        let changes = Changes {
            topic: &stream.input.topic,
            positions: &positions,
            forgotten: &forgotten.series,
            notes: &notes,
        };
        let changelog = self
            .delivery
            .publish(&self.sink, &mut self.table, &changes, consumer)?;
        self.notes.committed();
        self.positions.committed(&positions);
        self.positions.share(positions.keys(), &self.read_records);
        self.recovery.committed();
        self.pending_checkpoint.committed(CommittedChanges {
            positions: positions.iter().map(|(&p, &offset)| (p, offset)).collect(),
            changelog,
            forgotten: forgotten.series.clone(),
            learned: self.uncommitted.take_learned(),
            notes: notes.clone(),
        });
        // A changelog that is lost before the next time would take it along.
        let stores = self.uncommitted.has_alert_of_notes();
        self.store_if_due(if stores { CommitMode::Sync } else { mode })?;
        self.uncommitted.published();
        events::Committed {
            stream: &stream.name,
            took: began.elapsed(),
        }
        .emit();
        (self.delivery).stored(&stream.name, &changes, consumer, mode)?;
        Ok(true)
    }

    fn store_if_due(&mut self, mode: CommitMode) -> Result<(), LaneError> {
        let each = self.delivery.stores_each_commit();
        let is_due = self.pending_checkpoint.is_due() || self.expiry.is_full(&self.table);
        if each || is_due || matches!(mode, CommitMode::Sync) {
            self.pending_checkpoint.store(
                self.states.store(),
                &self.stream.name,
                &mut self.table,
                !each,
            )?;
            self.table.set_now(self.began.elapsed());
            // Each look takes all series: too many for every commit.
            self.status.alerting(self.table.alerting());
            self.expiry.sweep(&mut self.table);
        }
        Ok(())
    }
}
