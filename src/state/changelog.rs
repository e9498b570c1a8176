//! The changelog: a compacted topic with the newest state of every series, one partition for each
//! of the input.
//!
//! It is written in the transaction that commits the input's offsets, so that committed states and
//! committed offsets always belong together. A machine that takes a partition over reads what its
//! own store does not have yet, and continues where the group is: losing a machine loses nothing.
//!
//! Beside the states it has the notes that a lane keeps of a partition. Their keys begin with a
//! byte that no text in UTF-8 has, so that no series can have the same one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;

use super::{Commit, StateChange, Store, StoreError};
use crate::events::ChangelogEntrySkipped;
use crate::failure::{Failure, FailureClass};
use crate::source::rights::is_of_group;
use crate::source::{KafkaSettings, QuietClientContext, consumer, reader_config};

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a replay may stand still. An open transaction of the last owner is aborted by the
/// brokers before that.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a replay looks whether the last transaction before its end has been decided.
const PACE: Duration = Duration::from_millis(50);
/// States that are stored at a time.
const CHUNK: usize = 500;

/// The first byte of a note's key.
const NOTE: u8 = 0xff;

/// The key of a partition's note in the changelog.
pub fn note_key(key: &str) -> Vec<u8> {
    [&[NOTE], key.as_bytes()].concat()
}

/// The key of the note that a filled changelog begins with. Its value differs for each time that it
/// was filled.
pub const FILLED: &str = "filled";
/// What the keys of notes of partitions begin with in the store.
const PARTITION: &str = "partition/";

/// The key of a partition's note in the store.
pub fn partition_note(partition: i32, key: &str) -> String {
    format!("{PARTITION}{partition}/{key}")
}

/// Whether a key in the store is that of a partition's note.
pub fn is_partition_note(key: &str) -> bool {
    key.starts_with(PARTITION)
}

/// What an entry of the changelog is about.
enum Subject<'k> {
    Series(&'k str),
    Note(&'k str),
}

impl<'k> Subject<'k> {
    fn of(key: &'k [u8]) -> Option<Self> {
        match key.split_first() {
            Some((&NOTE, note)) => Some(Self::Note(str::from_utf8(note).ok()?)),
            _ => Some(Self::Series(str::from_utf8(key).ok()?)),
        }
    }
}

/// The oldest committed entry of a partition.
struct FirstEntry {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl FirstEntry {
    /// Which filling the changelog is of; `None` where it was never filled.
    fn filled(&self) -> Option<&[u8]> {
        let is_filled = matches!(Subject::of(&self.key), Some(Subject::Note(FILLED)));
        is_filled.then_some(&*self.value)
    }
}

/// What a replay has read and not stored yet.
#[derive(Default)]
struct Replayed {
    states: Vec<StateChange>,
    /// By their keys in the store.
    notes: BTreeMap<String, Option<Vec<u8>>>,
    /// States in all.
    count: usize,
}

/// Why states could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum ChangelogError {
    /// The changelog could not be read.
    #[error("the changelog {topic} could not be read: {source}")]
    Read {
        /// The topic.
        topic: String,
        /// librdkafka's error.
        source: KafkaError,
    },
    /// Nothing came any more before the end.
    #[error(
        "reading the changelog {topic} stalled before its end in partition {partition}: is a transaction open?"
    )]
    Stalled {
        /// The topic.
        topic: String,
        /// The first partition that is not at its end.
        partition: i32,
    },
    /// The process is to stop.
    #[error("the changelog {topic} was not read to its end: outlierd is shutting down")]
    Stopped {
        /// The topic.
        topic: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure for ChangelogError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Read { source, .. } => source.class(),
            Self::Stalled { .. } => FailureClass::EXTERNAL.retryable(),
            Self::Stopped { .. } => FailureClass::USER.retryable(),
            Self::Store(error) => error.class(),
        }
    }
}

/// The changelog of one stream, to read.
pub struct Changelog {
    kafka: KafkaSettings,
    stream: String,
    topic: String,
    /// The consumer group of the stream.
    group: String,
}

/// A partition whose stored states are compared with the changelog.
#[derive(Clone, Copy, Debug)]
pub struct CommittedStates {
    /// The partition.
    pub partition: i32,
    /// Where the committed states end in the changelog, as far as that is known.
    pub end: Option<i64>,
    /// Whether the store may not have all of them.
    pub is_behind: bool,
}

/// What a stream has read of its changelog.
#[derive(Debug)]
pub struct RestoredStates {
    /// States read; a series may have had several.
    pub states: usize,
    /// What partitions have lost.
    pub lost: BTreeMap<i32, LostEntries>,
    /// Of the others, where they ended.
    pub ends: Vec<(i32, i64)>,
}

/// What the changelog of a partition has lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostEntries {
    /// How many entries at most.
    pub entries: i64,
    /// Whether it has none at all.
    pub is_empty: bool,
}

/// What a store does not have of the changelog, and what the changelog does not have.
struct Missing {
    reading: Vec<PartitionReplay>,
    lost: BTreeMap<i32, LostEntries>,
    ends: Vec<(i32, i64)>,
}

/// One partition on its way to the end that it had when the replay began.
struct PartitionReplay {
    partition: i32,
    /// The oldest entry.
    low: i64,
    from: i64,
    end: i64,
}

impl Changelog {
    /// The changelog of `stream` in `topic`; see [`reader_config`] for `group`.
    pub fn new(kafka: &KafkaSettings, stream: &str, topic: &str, group: &str) -> Self {
        Self {
            kafka: kafka.clone(),
            stream: stream.into(),
            topic: topic.into(),
            group: group.into(),
        }
    }

    /// Brings the stored states of partitions that are behind up to the end of the changelog, and finds
    /// those of which the changelog has lost entries. `stop` ends it early.
    ///
    /// # Errors
    /// See [`ChangelogError`]; a replay that ended early is repeated from its start, which does no
    /// harm.
    pub fn restore(
        &self,
        store: &dyn Store,
        partitions: &[CommittedStates],
        stop: &AtomicBool,
    ) -> Result<RestoredStates, ChangelogError> {
        let Missing {
            mut reading,
            lost,
            ends,
        } = self.missing(store, partitions)?;
        if reading.is_empty() {
            let states = 0;
            return Ok(RestoredStates { states, lost, ends });
        }
        // One that has lost entries is found again, until the states are committed to it.
        let known = reading.iter().filter(|r| !lost.contains_key(&r.partition));
        let read: Vec<(i32, i64)> = known.map(|r| (r.partition, r.end)).collect();
        reading.retain(|r| r.from < r.end);
        let replayed = match reading.is_empty() {
            true => Replayed::default(),
            false => self.replay(reading, store, stop)?,
        };
        let commit = Commit {
            changelog: read,
            states: replayed.states,
            notes: replayed.notes.into_iter().collect(),
            ..Commit::default()
        };
        store.commit(&self.stream, &commit)?;
        Ok(RestoredStates {
            states: replayed.count,
            lost,
            ends,
        })
    }

    /// What the store does not have of each partition, and what was committed and the changelog does
    /// not have.
    fn missing(
        &self,
        store: &dyn Store,
        partitions: &[CommittedStates],
    ) -> Result<Missing, ChangelogError> {
        // The end is that of everything written, decided or not: what is decided later belongs to
        // committed offsets too.
        let written = self
            .consumer("read_uncommitted")
            .map_err(|source| self.unread(source))?;
        let (mut reading, mut lost) = (Vec::new(), BTreeMap::new());
        let mut ends = Vec::new();
        for committed in partitions {
            let partition = committed.partition;
            let (low, end) = written
                .fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT)
                .map_err(|source| self.unread(source))?;
            let stored = store.changelog(&self.stream, partition)?;
            let from = stored.unwrap_or(0);
            // One that was created again ends before what was committed to the old one, unless another
            // instance has filled it since; of one that is not compacted, the brokers delete the oldest
            // entries.
            let due = committed.end.unwrap_or(from);
            let has_lost = due > end || from < low;
            if has_lost {
                let entries = (due.saturating_sub(end)).max(low.saturating_sub(from));
                lost.insert(partition, entries);
            } else {
                ends.push((partition, end));
            }
            if has_lost || committed.is_behind || from > end {
                let from = if from > end { low } else { from.max(low) };
                reading.push(PartitionReplay {
                    partition,
                    low,
                    from,
                    end,
                });
            }
        }
        let first = self.first_entries(reading.iter().map(|r| (r.partition, r.low)))?;
        for replay in &mut reading {
            let filled = first.get(&replay.partition).and_then(FirstEntry::filled);
            if filled != self.stored_filling(store, replay.partition)?.as_deref() {
                // It was created again since the store was compared with it.
                replay.from = replay.low;
            }
            if lost.contains_key(&replay.partition) {
                // Another instance may have filled it since: what has a first entry is complete now.
                replay.end = self.range(replay.partition)?.1;
            }
        }
        let lost = lost.into_iter().map(|(partition, entries)| {
            let is_empty = !first.contains_key(&partition);
            (partition, LostEntries { entries, is_empty })
        });
        Ok(Missing {
            reading,
            lost: lost.collect(),
            ends,
        })
    }

    /// Which filling of the changelog the states of the store come from.
    fn stored_filling(
        &self,
        store: &dyn Store,
        partition: i32,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let key = partition_note(partition, FILLED);
        let found = store.notes(&self.stream, &key)?.into_iter();
        Ok(found.into_iter().find(|(of, _)| *of == key).map(|(_, v)| v))
    }

    /// Whether a partition has no committed entry.
    ///
    /// # Errors
    /// [`ChangelogError::Read`] where the brokers do not answer.
    pub fn is_empty(&self, partition: i32) -> Result<bool, ChangelogError> {
        let low = self.range(partition)?.0;
        Ok(self.first_entries([(partition, low)])?.is_empty())
    }

    /// The oldest offset of a partition, and the one behind everything written.
    ///
    /// # Errors
    /// [`ChangelogError::Read`] where the brokers do not answer.
    pub fn range(&self, partition: i32) -> Result<(i64, i64), ChangelogError> {
        let written = self.consumer("read_uncommitted");
        let range = written
            .and_then(|written| written.fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT));
        range.map_err(|source| self.unread(source))
    }

    /// The first committed entry of each partition that has one, from its oldest offset on.
    fn first_entries(
        &self,
        oldest: impl IntoIterator<Item = (i32, i64)>,
    ) -> Result<BTreeMap<i32, FirstEntry>, ChangelogError> {
        let read = |source| self.unread(source);
        let mut left: BTreeMap<i32, i64> = oldest.into_iter().collect();
        let mut found = BTreeMap::new();
        if left.is_empty() {
            return Ok(found);
        }
        let consumer = self.replay_consumer(&left).map_err(read)?;
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        while !left.is_empty() {
            match consumer.poll(PACE) {
                Some(Ok(message)) => {
                    left.remove(&message.partition());
                    let entry = || FirstEntry {
                        key: message.key().unwrap_or_default().to_vec(),
                        value: message.payload().unwrap_or_default().to_vec(),
                    };
                    found.entry(message.partition()).or_insert_with(entry);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    left.remove(&partition);
                }
                Some(Err(error)) if is_of_group(&error) => {}
                Some(Err(source)) => return Err(read(source)),
                None if Instant::now() > deadline => {
                    let code = RDKafkaErrorCode::OperationTimedOut;
                    return Err(read(KafkaError::MessageConsumption(code)));
                }
                None => {}
            }
        }
        Ok(found)
    }

    /// A consumer of committed entries, where the reading of each partition begins.
    fn replay_consumer(
        &self,
        from: &BTreeMap<i32, i64>,
    ) -> Result<BaseConsumer<QuietClientContext>, KafkaError> {
        let committed = self.consumer("read_committed")?;
        let mut start = TopicPartitionList::new();
        for (&partition, &from) in from {
            start.add_partition_offset(&self.topic, partition, Offset::Offset(from))?;
        }
        committed.assign(&start)?;
        Ok(committed)
    }

    fn unread(&self, source: KafkaError) -> ChangelogError {
        ChangelogError::Read {
            topic: self.topic.clone(),
            source,
        }
    }

    fn replay(
        &self,
        mut left: Vec<PartitionReplay>,
        store: &dyn Store,
        stop: &AtomicBool,
    ) -> Result<Replayed, ChangelogError> {
        let read = |source| self.unread(source);
        let from = left.iter().map(|r| (r.partition, r.from)).collect();
        let consumer = self.replay_consumer(&from).map_err(read)?;
        let (mut replayed, mut progress) = (Replayed::default(), Instant::now());
        let mut at_end: Vec<i32> = Vec::new();
        while let Some(first) = left.first() {
            if stop.load(Ordering::Acquire) {
                return Err(ChangelogError::Stopped {
                    topic: self.topic.clone(),
                });
            }
            match consumer.poll(PACE) {
                Some(Ok(message)) => {
                    progress = Instant::now();
                    let (partition, offset) = (message.partition(), message.offset());
                    at_end.retain(|p| *p != partition);
                    let value = message.payload().map(<[u8]>::to_vec);
                    match message.key().and_then(Subject::of) {
                        Some(Subject::Series(series)) => {
                            replayed.states.push((partition, series.into(), value));
                            replayed.count += 1;
                        }
                        Some(Subject::Note(key)) => {
                            replayed.notes.insert(partition_note(partition, key), value);
                        }
                        None => ChangelogEntrySkipped {
                            topic: &self.topic,
                            partition,
                            offset,
                        }
                        .emit(),
                    }
                    left.retain(|r| r.partition != partition || offset + 1 < r.end);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => at_end.push(partition),
                Some(Err(error)) if is_of_group(&error) => {}
                Some(Err(source)) => return Err(read(source)),
                None if progress.elapsed() > PATIENCE => {
                    return Err(ChangelogError::Stalled {
                        topic: self.topic.clone(),
                        partition: first.partition,
                    });
                }
                None => {}
            }
            // Nothing more is to be read; whether because everything is, or because a transaction
            // is still open, tells the last stable offset, which is the end for a consumer that
            // reads what is committed.
            for partition in std::mem::take(&mut at_end) {
                let (_, stable) = consumer
                    .fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT)
                    .map_err(read)?;
                left.retain(|r| r.partition != partition || stable < r.end);
                if left.iter().any(|r| r.partition == partition) {
                    at_end.push(partition);
                }
            }
            if replayed.states.len() >= CHUNK {
                store.stage(&self.stream, &std::mem::take(&mut replayed.states))?;
            }
        }
        Ok(replayed)
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer<QuietClientContext>, KafkaError> {
        let mut config = reader_config(&self.kafka, "outlierd-changelog", &self.group);
        config
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", isolation);
        consumer(&self.kafka, &config, QuietClientContext::of(&self.kafka))
    }
}
