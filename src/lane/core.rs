//! What a lane owns besides its consumer: the pipeline, the series in memory, the producer, and what is not committed yet.
//!
//! It sits behind a mutex only because librdkafka calls back on a rebalance, from inside the lane's own poll: the lane
//! never holds it while polling, so that it is never waited for.

mod teach;
mod warm_up;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;

use super::error::LaneError;
use super::expiry::Expiry;
use super::rebalance::LaneContext;
use super::storing::Unstored;
use crate::config::settings::{Delivery, Kafka, Stream};
use crate::events::{AlertPublished, Committed, SeriesExpired, StateUnreadable, StatesRestored};
use crate::pipeline::Pipeline;
use crate::pipeline::series::{SeriesState, SeriesTable};
use crate::record::{EventTime, Outcome};
use crate::retrain::learner::Learner;
use crate::sink::Sink;
use crate::source::view;
use crate::state::changelog::Changelog;
use crate::state::codec::{self, CodecError};
use crate::state::{Learned, Store};

/// How long the results of one commit may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Changed states that one commit may hold: all of them are in the producer's memory at once.
const CHANGED_MAX: usize = 20_000;

/// How long after a transaction the next one begins at the earliest. The coordinator refuses it until all partitions of the
/// last one are marked as committed, and librdkafka asks again only after 20 ms: an alert that waits is sooner out so.
const TRANSACTION_PAUSE: Duration = Duration::from_millis(10);

/// See the module.
pub struct Core {
    stream: Arc<Stream>,
    pipeline: Pipeline,
    table: SeriesTable,
    sink: Sink,
    store: Arc<dyn Store>,
    learner: Arc<Learner>,
    /// Partitions that this lane owns. Entries leave when they are revoked.
    owned: HashSet<i32>,
    /// Owned partitions with records since the last commit: from the first of them to where to go on. Emptied by a commit.
    progress: HashMap<i32, Range<i64>>,
    /// Learned records since the last commit.
    learned: Vec<Learned>,
    /// Committed, and not in the store yet.
    unstored: Unstored,
    last_commit: Instant,
    /// When the last transaction ended.
    transaction_ended: Option<Instant>,
    /// Whether an alert was sent since the last commit.
    alert_waits: bool,
    expiry: Expiry,
    /// Where the states of partitions that come from elsewhere are; only with exactly-once delivery.
    changelog: Option<Changelog>,
    /// Whether the lane is to stop: whatever it waits for is given up then.
    stop: Arc<AtomicBool>,
}

impl Core {
    /// A core that owns nothing yet.
    pub fn new(
        kafka: &Kafka,
        stream: Arc<Stream>,
        pipeline: Pipeline,
        sink: Sink,
        store: Arc<dyn Store>,
        learner: Arc<Learner>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let exactly_once = stream.input.delivery == Delivery::ExactlyOnce;
        Self {
            changelog: exactly_once
                .then(|| Changelog::new(kafka, &stream.name, &stream.output.states)),
            table: SeriesTable::new(stream.record.max_series),
            expiry: Expiry::new(&stream.keep, &stream.silence),
            stream,
            pipeline,
            sink,
            store,
            learner,
            owned: HashSet::new(),
            progress: HashMap::new(),
            learned: Vec::new(),
            unstored: Unstored::default(),
            last_commit: Instant::now(),
            transaction_ended: None,
            alert_waits: false,
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

    /// Whether the partition is owned whose owner trains the stream.
    pub fn leads(&self) -> bool {
        self.owned.contains(&0)
    }

    /// How many series are in memory.
    pub fn series(&self) -> usize {
        self.table.len()
    }

    /// The stored position of a partition: states in the store belong to it.
    pub(super) fn position(&self, partition: i32) -> Option<i64> {
        self.store.position(&self.stream.name, partition).unwrap_or_else(|error| {
            tracing::error!(stream = self.stream.name, partition, error = %error, "stored position is unreadable");
            None
        })
    }

    /// Fetches what is missing of the states of partitions, which have come to the `group`'s offsets elsewhere.
    ///
    /// # Errors
    /// [`LaneError::Changelog`]: without the states the partitions must not be read.
    pub(super) fn restore(&self, group: &[(i32, Option<i64>)]) -> Result<(), LaneError> {
        let Some(changelog) = &self.changelog else {
            return Ok(());
        };
        let behind = |(partition, offset): &(i32, Option<i64>)| {
            (offset.is_some() && self.position(*partition) < *offset).then_some(*partition)
        };
        let behind: Vec<i32> = group.iter().filter_map(behind).collect();
        if behind.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let states = changelog.restore(&*self.store, &behind, &self.stop)?;
        StatesRestored {
            stream: &self.stream.name,
            partitions: &behind,
            states,
            took: started.elapsed(),
        }
        .emit();
        Ok(())
    }

    /// Takes back what was sent since the last commit; the series in memory are void then.
    pub(super) fn abort(&self) {
        if let Err(error) = self.sink.abort() {
            tracing::warn!(stream = self.stream.name, error = %error, "the next start takes the transaction back");
        }
    }

    /// Goes back to the last commit without leaving the group: the transaction is taken back, and the partitions with
    /// records since then, those of a `batch` that did not run included, get their states as they were committed. Returns
    /// where each of them has to be read again.
    ///
    /// # Errors
    /// Any [`LaneError`]: the lane has to start anew.
    pub(super) fn go_back(
        &mut self,
        batch: &[BorrowedMessage<'_>],
    ) -> Result<TopicPartitionList, LaneError> {
        self.sink.abort()?;
        self.taken(batch);
        let offsets = self.offsets(|range| range.start)?;
        let (partitions, committed): (Vec<i32>, Vec<_>) = self
            .progress
            .iter()
            .map(|(&partition, range)| (partition, (partition, Some(range.start))))
            .unzip();
        self.revoked(&partitions);
        self.restore(&committed)?;
        self.assigned(&partitions)?;
        self.alert_waits = false;
        self.last_commit = Instant::now();
        Ok(offsets)
    }

    pub(super) fn assigned(&mut self, partitions: &[i32]) -> Result<(), LaneError> {
        for &partition in partitions {
            self.table
                .set_known(partition, self.store.count(&self.stream.name, partition)?);
            self.owned.insert(partition);
        }
        Ok(())
    }

    pub(super) fn revoked(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.owned.remove(partition);
            self.progress.remove(partition);
            self.table.drop_partition(*partition);
            self.pipeline.drop_partition(*partition);
            self.expiry.revoked(*partition);
            self.learned.retain(|(p, _, _)| p != partition);
            self.unstored.drop_partition(*partition);
        }
    }

    /// Runs one micro-batch through the pipeline and hands its results to the producer.
    ///
    /// # Errors
    /// Any [`LaneError`]: the batch has then had effects that were not committed, and the lane must go back.
    pub fn run(&mut self, batch: &[BorrowedMessage<'_>]) -> Result<(), LaneError> {
        let started = Instant::now();
        let messages: Vec<_> = batch.iter().map(view).collect();
        let (store, stream, mut refused) = (&*self.store, &self.stream.name, None);
        let mut load = |partition, series: &str| {
            load(store, stream, partition, series).unwrap_or_else(|error| {
                refused.get_or_insert(error);
                None
            })
        };
        let done = self.pipeline.run(&messages, &mut self.table, &mut load)?;
        if let Some(error) = refused {
            return Err(error);
        }

        let partition = |outcome: &Outcome| {
            messages
                .get(outcome.message)
                .map(|message| message.partition)
        };
        for rejected in &done.rejected {
            if let Some(message) = batch.get(rejected.message) {
                self.sink.dead_letter(message, rejected)?;
            }
        }
        for alert in &done.alerts {
            self.sink.alert(alert)?;
            AlertPublished(alert).emit();
        }
        for (alert, png) in &done.heat_maps {
            self.sink.heat_map(alert, png)?;
        }
        if self.stream.output.scores.is_some() {
            for outcome in &done.outcomes {
                if let Some(message) = messages.get(outcome.message) {
                    self.sink
                        .score(outcome, message.partition, message.offset)?;
                }
            }
        }
        for (message, row) in done.learned {
            if let Some(message) = messages.get(message) {
                self.learned
                    .push((message.partition, message.offset, codec::encode(&row)?));
                self.learner.add(message.partition, message.offset, row);
            }
        }
        for of_one in done.outcomes.chunk_by(|a, b| partition(a) == partition(b)) {
            if let Some((partition, newest)) = of_one
                .first()
                .and_then(partition)
                .zip(of_one.iter().map(|o| o.time).max())
            {
                self.expiry.saw(partition, newest);
            }
        }
        self.taken(batch);
        self.alert_waits |= !done.alerts.is_empty();
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

    /// Whether a commit is due: by time, for an alert, for the sheer number of changes, or to make room in memory.
    pub fn commit_due(&self) -> bool {
        self.alert_due_in().is_some_and(|wait| wait.is_zero())
            || self.last_commit.elapsed() >= self.stream.input.commit_interval
            || self.table.changed() >= CHANGED_MAX
            || self.expiry.is_full(&self.table)
    }

    /// How long the commit for an alert has to wait yet, where one was sent.
    pub fn alert_due_in(&self) -> Option<Duration> {
        let ago = self
            .transaction_ended
            .map_or(TRANSACTION_PAUSE, |at| at.elapsed());
        self.alert_waits
            .then(|| TRANSACTION_PAUSE.saturating_sub(ago))
    }

    /// Serves delivery reports, and tells how many results are on their way to the brokers.
    pub fn in_flight(&self) -> usize {
        self.sink.poll();
        self.sink.in_flight()
    }

    /// Makes everything so far durable, in the order of the delivery contract. Exactly once: results, states and offsets in
    /// one transaction; the store follows, at once where `mode` is `Sync`. At least once: results acknowledged, then states
    /// and positions in one batch of the store, then the offsets.
    ///
    /// # Errors
    /// Any [`LaneError`]: nothing after the failed step has happened.
    pub fn commit(
        &mut self,
        consumer: &BaseConsumer<LaneContext>,
        mode: CommitMode,
    ) -> Result<(), LaneError> {
        self.last_commit = Instant::now();
        self.alert_waits = false;
        let exactly_once = self.changelog.is_some();
        let offsets = self.offsets(|range| range.end)?;
        if offsets.count() > 0 {
            let looked = self.expiry.look(
                &*self.store,
                &self.stream.name,
                &self.table,
                EventTime::now(),
            )?;
            for (partition, series, state) in looked.overdue {
                // In memory it is announced at the next look.
                let _ = self
                    .table
                    .slot(partition, &series, || Some(state), || SeriesState::new(0));
            }
            let expired = looked.expired;
            for (partition, series) in &expired {
                SeriesExpired {
                    stream: &self.stream.name,
                    series,
                }
                .emit();
                self.table.forget(*partition);
            }
            let changelog = if exactly_once {
                self.send_states(&expired)?;
                self.sink.settle()?;
                self.sink.commit(
                    &offsets,
                    &consumer.group_metadata().ok_or(LaneError::NoGroup)?,
                )?;
                self.transaction_ended = Some(Instant::now());
                self.sink.take_changelog()
            } else {
                drop(self.table.take_dirty());
                self.sink.flush(FLUSH_TIMEOUT)?;
                Vec::new()
            };
            let positions = self
                .progress
                .drain()
                .map(|(partition, range)| (partition, range.end));
            self.unstored.committed(
                positions,
                changelog,
                expired,
                std::mem::take(&mut self.learned),
            );
            Committed {
                stream: &self.stream.name,
            }
            .emit();
        }
        let is_due = self.unstored.is_due() || self.expiry.is_full(&self.table);
        if !exactly_once || is_due || matches!(mode, CommitMode::Sync) {
            self.unstored.store(
                &*self.store,
                &self.stream.name,
                &mut self.table,
                exactly_once,
            )?;
            self.expiry.sweep(&mut self.table);
        }
        if !exactly_once
            && offsets.count() > 0
            && let Err(error) = consumer.commit(&offsets, mode)
        {
            // The store is ahead of the group and rules at the next assignment: nothing is read twice.
            tracing::warn!(stream = self.stream.name, error = %error, "offsets could not be committed; the stored positions hold");
        }
        Ok(())
    }

    /// An end of each partition's records since the last commit.
    fn offsets(&self, end: fn(&Range<i64>) -> i64) -> Result<TopicPartitionList, LaneError> {
        let mut offsets = TopicPartitionList::with_capacity(self.progress.len());
        for (partition, range) in &self.progress {
            offsets.add_partition_offset(
                &self.stream.input.topic,
                *partition,
                Offset::Offset(end(range)),
            )?;
        }
        Ok(offsets)
    }

    /// Sends the states that changed since the last commit, and tombstones of the series that have expired.
    fn send_states(&mut self, expired: &[(i32, String)]) -> Result<(), LaneError> {
        for slot in self.table.take_dirty() {
            self.sink.state(
                slot.partition,
                &slot.series,
                Some(&codec::encode(&slot.state)?),
            )?;
        }
        for (partition, series) in expired {
            self.sink.state(*partition, series, None)?;
        }
        Ok(())
    }
}

/// The stored state of a series. A damaged one is said and started anew; one of a newer outlierd must not be overwritten.
fn load(
    store: &dyn Store,
    stream: &str,
    partition: i32,
    series: &str,
) -> Result<Option<SeriesState>, LaneError> {
    let Some(bytes) = store.state(stream, partition, series)? else {
        return Ok(None);
    };
    match codec::decode(&bytes) {
        Ok(state) => Ok(Some(state)),
        Err(source @ CodecError::Newer { .. }) => Err(LaneError::NewerState {
            series: series.into(),
            source,
        }),
        Err(error) => {
            StateUnreadable {
                stream,
                series,
                error: error.to_string(),
            }
            .emit();
            Ok(None)
        }
    }
}
