//! The record before a position: what shows that a topic is still the one that the position belongs
//! to. A topic that was deleted and created again has another record there. Kafka's topic ids would
//! show that too, but no safe call returns them (docs/decisions/0024).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;
use serde::{Deserialize, Serialize};

use crate::source::{KafkaSettings, QuietClientContext, consumer, reader_config};

/// The key of the note that has a [`NotedPosition`].
pub(super) const NOTE: &str = "position";
/// How long the brokers may take for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the records may take in all.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one poll may take.
const PACE: Duration = Duration::from_millis(50);

/// What is kept of a record to recognise it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct RecordMark {
    /// Its timestamp, in milliseconds.
    millis: Option<i64>,
    /// CRC-32 of its key and payload.
    checksum: u32,
}

impl RecordMark {
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Self {
        let mut sum = crc32fast::Hasher::new();
        sum.update(message.key().unwrap_or_default());
        sum.update(message.payload().unwrap_or_default());
        Self {
            millis: message.timestamp().to_millis(),
            checksum: sum.finalize(),
        }
    }
}

/// How far a partition is read: a note of it, committed with its states.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct NotedPosition {
    /// The offset of the next record.
    pub(super) next: i64,
    /// The record before it; `None` where it is not known.
    pub(super) mark: Option<RecordMark>,
}

/// The offsets that a partition holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LogRange {
    /// Of its oldest record.
    pub(super) low: i64,
    /// Behind its newest record, whether that is committed or not.
    pub(super) high: i64,
}

/// Reads what is at the positions of an input topic, beside the consumer of its lane.
pub(super) struct LogReader {
    consumer: BaseConsumer<QuietClientContext>,
    topic: String,
    /// Assigned once: librdkafka 2.12 aborts the process where a partition is assigned again, or the
    /// consumer closed, before it has stopped to read it.
    assigned: Option<Vec<i32>>,
}

impl LogReader {
    /// A reader of `topic`; see [`reader_config`] for `group`.
    pub(super) fn new(kafka: &KafkaSettings, group: &str, topic: &str) -> Result<Self, KafkaError> {
        // One record of each partition is wanted.
        let mut config = reader_config(kafka, "outlierd-positions", group);
        config
            .set("isolation.level", "read_uncommitted")
            .set("auto.offset.reset", "error")
            .set("queued.min.messages", "1")
            .set("fetch.message.max.bytes", "1024");
        let consumer = consumer(kafka, &config, QuietClientContext::of(kafka))?;
        let topic = topic.to_owned();
        Ok(Self {
            consumer,
            topic,
            assigned: None,
        })
    }

    /// Whether it reads these partitions, or none yet.
    pub(super) fn fits(&self, offsets: &BTreeMap<i32, i64>) -> bool {
        let assigned = self.assigned.as_ref();
        assigned.is_none_or(|assigned| assigned.iter().eq(offsets.keys()))
    }

    pub(super) fn range(&self, partition: i32) -> Result<LogRange, KafkaError> {
        let range = self
            .consumer
            .fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT)?;
        let (low, high) = range;
        Ok(LogRange { low, high })
    }

    /// The marks of the records at some offsets, by partition; those that the topic does not have
    /// any more are left out. The partitions are those of the first call. `stops` ends it early.
    pub(super) fn marks(
        &mut self,
        offsets: &BTreeMap<i32, i64>,
        stops: impl Fn() -> bool,
    ) -> Result<BTreeMap<i32, RecordMark>, KafkaError> {
        let mut found = BTreeMap::new();
        let mut left = offsets.clone();
        let mut start = TopicPartitionList::new();
        for (&partition, &offset) in offsets {
            start.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        if left.is_empty() {
            return Ok(found);
        }
        match &self.assigned {
            None => self.consumer.assign(&start)?,
            Some(_) => {
                let sought = self.consumer.seek_partitions(start, REQUEST_TIMEOUT)?;
                for partition in sought.elements() {
                    partition.error()?;
                }
            }
        }
        self.assigned = Some(offsets.keys().copied().collect());
        let began = Instant::now();
        while !left.is_empty() {
            if stops() || began.elapsed() > PATIENCE {
                let code = RDKafkaErrorCode::OperationTimedOut;
                return Err(KafkaError::MessageConsumption(code));
            }
            match self.consumer.poll(PACE) {
                Some(Ok(message)) => {
                    let wanted = left.remove(&message.partition());
                    if wanted == Some(message.offset()) {
                        found.insert(message.partition(), RecordMark::of(&message));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    left.remove(&partition);
                }
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        Ok(found)
    }
}
