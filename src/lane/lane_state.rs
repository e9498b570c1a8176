//! What a lane owns besides its consumer: the pipeline, the series in memory, the producer, and
//! what is not committed yet.
//!
//! It sits behind a mutex only because librdkafka calls back on a rebalance, from inside the lane's
//! own poll: the lane never holds it while polling, so that it is never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::CommitMode;
use rdkafka::message::BorrowedMessage;

use super::checkpoint::{CommittedChanges, PendingCheckpoint};
use super::delivery::{self, Changes, DeliveryGuarantee};
use super::error::LaneError;
use super::expiry::Expiry;
use super::feedback::{FeedbackReceiver, FeedbackSeen};
use super::group::GroupMember;
use super::notes::PartitionNotes;
use super::positions::PartitionPositions;
use super::sampler::Sampler;
use super::silence::{TopicSilenceMonitor, newest};
use super::stored_states::StoredStates;
use super::uncommitted::Uncommitted;
use super::{Lane, clocks, detector, warm_up};
use crate::config::settings::StreamSettings;
use crate::events::lane::TransactionNotAborted;
use crate::events::{self, StatesRestored};
use crate::pipeline::Pipeline;
use crate::pipeline::series::SeriesTable;
use crate::record::alert::Alert;
use crate::record::{EventTime, Rejected};
use crate::retrain::engine::Sight;
use crate::retrain::learner::Learner;
use crate::retrain::set::RecordRun;
use crate::share::feedback_log::FeedbackLog;
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
    /// What is kept of partitions beside the states of series.
    notes: PartitionNotes,
    /// Whether all that is read is silent.
    topic: TopicSilenceMonitor,
    feedback: FeedbackSeen,
    /// What the retraining takes of the output.
    sampler: Sampler,
    uncommitted: Uncommitted,
    /// Committed, and not in the store yet.
    pending_checkpoint: PendingCheckpoint,
    /// When the lane began: what the table's time counts from.
    began: Instant,
    expiry: Expiry,
    /// How a commit becomes durable.
    delivery: Box<dyn DeliveryGuarantee>,
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
            notes: PartitionNotes::default(),
            feedback: FeedbackSeen::default(),
            uncommitted: Uncommitted::new(),
            pending_checkpoint: PendingCheckpoint::default(),
            began: Instant::now(),
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

    /// What the store holds of the series.
    pub(super) fn states(&self) -> &StoredStates {
        &self.states
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
            .restore(self.states.store(), partitions, &self.stop)?;
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
        self.uncommitted.aborted();
        if let Err(error) = self.sink.producer().abort() {
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
        self.sink.producer().abort()?;
        self.uncommitted.aborted();
        self.positions.advance(batch);
        let committed = self.positions.changed_from(&self.notes);
        let offsets = delivery::offsets(&self.stream.input.topic, &committed, &[])?;
        let partitions: Vec<i32> = committed.keys().copied().collect();
        self.revoked(&partitions);
        self.restore(&partitions)?;
        let committed: Vec<_> = committed.into_iter().map(|(p, at)| (p, Some(at))).collect();
        self.assigned(&committed)?;
        self.uncommitted.commit_begins();
        Ok(offsets)
    }

    /// Partitions come, each with the offset of its next record, as far as that is known; their
    /// states are in the store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) fn assigned(&mut self, partitions: &[(i32, Option<i64>)]) -> Result<(), LaneError> {
        for &(partition, next) in partitions {
            if self.stream.silence.after > 0.0 {
                self.states.list_series(partition, &mut self.table)?;
            } else {
                self.states.count_series(partition, &mut self.table)?;
            }
            self.notes
                .load(self.states.store(), &self.stream.name, partition)?;
            self.topic.assigned(partition, &self.notes);
            clocks::assigned(partition, &mut self.pipeline, &self.notes);
            self.positions.assigned(partition, next);
        }
        self.feedback = FeedbackSeen::default();
        Ok(())
    }

    pub(super) fn revoked(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.positions.revoked(*partition);
            self.table.drop_partition(*partition);
            if let Some(silence) = &mut self.pipeline.silence {
                silence.drop_partition(*partition);
            }
            self.sampler.drop_partition(*partition);
            self.notes.drop_partition(*partition);
            self.topic.revoked(*partition);
            self.expiry.revoked(*partition);
            self.uncommitted.drop_partition(*partition);
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
        let states = &self.states;
        let mut load = |partition, series: &str| states.load(partition, series);
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
        for outcome in &done.outcomes {
            self.sink.score(outcome)?;
        }
        for (of, row) in done.training_rows() {
            let partition = of.partition;
            let offset = of.offset;
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
            self.sink.dead_letter(message, rejected)?;
        }
        self.positions.advance(batch);
        Ok(())
    }

    /// Serves delivery reports, and tells how many results are on their way to the brokers.
    pub fn in_flight(&self) -> usize {
        self.sink.producer().poll();
        self.sink.producer().in_flight()
    }

    /// Applies feedback on alerts in owned partitions that was not applied yet.
    ///
    /// # Errors
    /// Where the state of a series cannot be read.
    pub(super) fn apply_feedback(&mut self, log: &FeedbackLog) -> Result<(), LaneError> {
        let mut receiver = FeedbackReceiver {
            positions: &self.positions,
            notes: &mut self.notes,
            table: &mut self.table,
            states: &self.states,
            pipeline: &self.pipeline,
        };
        if self.feedback.apply_new(log, &mut receiver)? {
            self.uncommitted.hurry();
        }
        Ok(())
    }

    /// Looks whether the topic as a whole is silent, and publishes the alerts that a batch closes,
    /// or its absence opens.
    ///
    /// # Errors
    /// Where an alert cannot be sent.
    pub(super) fn watch_topic(
        &mut self,
        batch: &[BorrowedMessage<'_>],
        at_end: bool,
    ) -> Result<(), LaneError> {
        let now = Instant::now();
        let alerts = if batch.is_empty() {
            let partitions = self.positions.count();
            let alerts = self.pipeline.episodes.alerts();
            let opened =
                self.topic
                    .saw_nothing(at_end, partitions, alerts, now, &mut self.notes)?;
            opened.into_iter().collect()
        } else {
            self.topic.observe(&newest(batch), now, &mut self.notes)?
        };
        self.publish(alerts.into_iter().map(Alert::summarized))
    }

    /// Scans the series of partitions that are read to their ends and silent while others send;
    /// `ends` are those read to their ends, at the time `at` of the machine's clock.
    ///
    /// # Errors
    /// Where the state of a series cannot be read, or an alert cannot be sent.
    pub(super) fn watch_partitions(
        &mut self,
        ends: &[i32],
        at: EventTime,
    ) -> Result<(), LaneError> {
        let silent = self.topic.silent_partitions(ends, at, &mut self.notes)?;
        let (pipeline, table) = (&mut self.pipeline, &mut self.table);
        let alerts = clocks::scan(&silent, pipeline, table, &self.states, &mut self.notes)?;
        self.publish(alerts)
    }

    /// Publishes where the stream's detector has gone blind, or sees again, if partition 0 is
    /// owned.
    ///
    /// # Errors
    /// Where the alert cannot be sent.
    pub(super) fn follow_detector(
        &mut self,
        sight: Option<&Sight>,
        consumer: &dyn GroupMember,
    ) -> Result<(), LaneError> {
        let Some(sight) = sight else { return Ok(()) };
        let topic = &self.stream.input.topic;
        let alert = detector::follow_as_owner(
            sight,
            self.pipeline.episodes.alerts(),
            &mut self.notes,
            &mut self.positions,
            || consumer.end_of_empty(topic, detector::PARTITION),
        )?;
        self.publish(alert.map(Alert::summarized))
    }

    /// Sends alerts; they are published with the next commit.
    fn publish(&mut self, alerts: impl IntoIterator<Item = Alert>) -> Result<(), LaneError> {
        for alert in alerts {
            self.sink.alert(&alert)?;
            tracing::debug!(id = alert.id, "alert waits for its commit");
            self.uncommitted.alert(alert);
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
        self.uncommitted.commit_begins();
        let progress = self.positions.with_progress();
        clocks::keep(progress, &self.pipeline, &mut self.notes)?;
        let positions = self.positions.changed(&self.notes);
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
        self.publish(forgotten.closed)?;
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
        self.pending_checkpoint.committed(CommittedChanges {
            positions: positions.iter().map(|(&p, &offset)| (p, offset)).collect(),
            changelog,
            forgotten: forgotten.series.clone(),
            learned: self.uncommitted.take_learned(),
            notes: notes.clone(),
        });
        self.store_if_due(mode)?;
        self.uncommitted.published();
        events::Committed {
            stream: &stream.name,
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
            self.expiry.sweep(&mut self.table);
        }
        Ok(())
    }
}
