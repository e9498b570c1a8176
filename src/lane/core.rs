//! What a lane owns besides its consumer: the pipeline, the series in memory, the producer, and what is not committed yet.
//!
//! It sits behind a mutex only because librdkafka calls back on a rebalance, from inside the lane's own poll: the lane
//! never holds it while polling, so that it is never waited for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;

use super::rebalance::LaneContext;
use crate::config::settings::{Delivery, Kafka, Stream};
use crate::events::{AlertPublished, StateUnreadable, StatesRestored};
use crate::pipeline::series::{SeriesState, SeriesTable};
use crate::pipeline::{Pipeline, PipelineError};
use crate::retrain::learner::Learner;
use crate::sink::{Sink, SinkError};
use crate::source::view;
use crate::state::changelog::{Changelog, ChangelogError};
use crate::state::codec::{self, CodecError};
use crate::state::{Commit, Store, StoreError};

/// How long the results of one commit may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a lane has to go back to its last commit.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The consumer failed.
    #[error("consumer: {0}")]
    Consumer(#[from] KafkaError),
    /// Results could not be made durable.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The state could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A state could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A step failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// States could not be restored.
    #[error(transparent)]
    Changelog(#[from] ChangelogError),
    /// The consumer is in no group that could commit.
    #[error("the consumer is in no consumer group")]
    NoGroup,
}

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
    /// Owned partitions with records since the last commit: the offset to go on at. Emptied by a commit.
    progress: HashMap<i32, i64>,
    /// Learned records since the last commit.
    learned: Commit,
    last_commit: Instant,
    /// Where the states of partitions that come from elsewhere are; only with exactly-once delivery.
    changelog: Option<Changelog>,
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
    ) -> Self {
        let exactly_once = stream.input.delivery == Delivery::ExactlyOnce;
        Self {
            changelog: exactly_once.then(|| Changelog::new(kafka, &stream.name, &stream.output.states)),
            table: SeriesTable::new(stream.record.max_series),
            stream,
            pipeline,
            sink,
            store,
            learner,
            owned: HashSet::new(),
            progress: HashMap::new(),
            learned: Commit::default(),
            last_commit: Instant::now(),
        }
    }

    /// The pipeline, to swap its bundle or settings between two batches.
    pub fn pipeline_mut(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }

    /// How many partitions are owned.
    pub fn owned(&self) -> usize {
        self.owned.len()
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
        let Some(changelog) = &self.changelog else { return Ok(()) };
        let behind = |(partition, offset): &(i32, Option<i64>)| {
            (offset.is_some() && self.position(*partition) < *offset).then_some(*partition)
        };
        let behind: Vec<i32> = group.iter().filter_map(behind).collect();
        if behind.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let states = changelog.restore(&*self.store, &behind)?;
        StatesRestored { stream: &self.stream.name, partitions: &behind, states, took: started.elapsed() }.emit();
        Ok(())
    }

    /// Takes back what was sent since the last commit; the series in memory are void then.
    pub(super) fn abort(&self) {
        if let Err(error) = self.sink.abort() {
            tracing::warn!(stream = self.stream.name, error = %error, "the next start takes the transaction back");
        }
    }

    pub(super) fn assigned(&mut self, partitions: &[i32]) {
        self.owned.extend(partitions);
    }

    pub(super) fn revoked(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.owned.remove(partition);
            self.progress.remove(partition);
            self.table.drop_partition(*partition);
            self.learned.learned.retain(|(p, _, _)| p != partition);
        }
    }

    /// Runs one micro-batch through the pipeline and hands its results to the producer. Returns whether an alert waits
    /// for a commit.
    ///
    /// # Errors
    /// Any [`LaneError`]: the batch has then had effects that were not committed, and the lane must go back.
    pub fn run(&mut self, batch: &[BorrowedMessage<'_>]) -> Result<bool, LaneError> {
        let started = Instant::now();
        let messages: Vec<_> = batch.iter().map(view).collect();
        let (store, stream, fields) = (&self.store, &self.stream.name, self.stream.record.fields.len());
        let mut load = |partition, series: &str| load(&**store, stream, partition, series, fields);
        let done = self.pipeline.run(&messages, &mut self.table, &mut load)?;

        for rejected in &done.rejected {
            if let Some(message) = batch.get(rejected.message) {
                self.sink.dead_letter(message, rejected)?;
            }
        }
        for alert in &done.alerts {
            self.sink.alert(alert)?;
            AlertPublished(alert).emit();
        }
        if self.stream.output.scores.is_some() {
            for outcome in &done.outcomes {
                if let Some(message) = messages.get(outcome.message) {
                    self.sink.score(outcome, message.partition, message.offset)?;
                }
            }
        }
        for (message, row) in done.learned {
            if let Some(message) = messages.get(message) {
                self.learned.learned.push((message.partition, message.offset, codec::encode(&row)?));
                self.learner.add(message.partition, message.offset, row);
            }
        }
        for message in batch {
            self.progress.insert(message.partition(), message.offset() + 1);
        }
        self.sink.poll();
        done.counts.emit(&self.stream.name, started.elapsed());
        Ok(!done.alerts.is_empty())
    }

    /// Whether a commit is due by time.
    pub fn commit_due(&self) -> bool {
        self.last_commit.elapsed() >= self.stream.input.commit_interval
    }

    /// Makes everything so far durable, in the order of the delivery contract. Exactly once: results, states and offsets in
    /// one transaction, then states and positions in one batch of the store. At least once: results acknowledged, then
    /// that batch, then the offsets.
    ///
    /// # Errors
    /// Any [`LaneError`]: nothing after the failed step has happened.
    pub fn commit(&mut self, consumer: &BaseConsumer<LaneContext>, mode: CommitMode) -> Result<(), LaneError> {
        self.last_commit = Instant::now();
        if self.progress.is_empty() {
            return Ok(());
        }
        let mut commit = std::mem::take(&mut self.learned);
        commit.positions = self.progress.drain().collect();
        let mut failure = None;
        self.table.take_dirty(|slot| match codec::encode(&slot.state) {
            Ok(bytes) => commit.states.push((slot.partition, slot.series.to_string(), bytes)),
            Err(error) => failure = Some(error),
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
        let mut offsets = TopicPartitionList::with_capacity(commit.positions.len());
        for (partition, offset) in &commit.positions {
            offsets.add_partition_offset(&self.stream.input.topic, *partition, Offset::Offset(*offset))?;
        }
        let exactly_once = self.changelog.is_some();
        if exactly_once {
            for (partition, series, state) in &commit.states {
                self.sink.state(*partition, series, state)?;
            }
            self.sink.settle()?;
            self.sink.commit(&offsets, &consumer.group_metadata().ok_or(LaneError::NoGroup)?)?;
            // The store is never ahead of what is committed; where it stays behind, the changelog has it.
            commit.changelog = self.sink.take_changelog();
        } else {
            self.sink.flush(FLUSH_TIMEOUT)?;
        }
        self.store.commit(&self.stream.name, &commit)?;
        metrics::counter!("outlierd_commits_total", "stream" => self.stream.name.clone()).increment(1);
        if !exactly_once && let Err(error) = consumer.commit(&offsets, mode) {
            // The store is ahead of the group and rules at the next assignment: nothing is read twice.
            tracing::warn!(stream = self.stream.name, error = %error, "offsets could not be committed; the stored positions hold");
        }
        Ok(())
    }
}

/// The stored state of a series, or a fresh one.
fn load(store: &dyn Store, stream: &str, partition: i32, series: &str, fields: usize) -> SeriesState {
    let unreadable = |error: String| StateUnreadable { stream, series, error }.emit();
    match store.state(stream, partition, series) {
        Ok(None) => {}
        Ok(Some(bytes)) => match codec::decode(&bytes) {
            Ok(state) => return state,
            Err(error) => unreadable(error.to_string()),
        },
        Err(error) => unreadable(error.to_string()),
    }
    SeriesState::new(fields)
}
