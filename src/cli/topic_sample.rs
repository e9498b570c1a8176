//! The newest messages of a topic: a consumer without a group, which commits nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message as _, OwnedMessage, Timestamp};
use rdkafka::topic_partition_list::Offset;

use crate::source::{KafkaSettings, QuietClientContext, consumer, reader_config};

/// How long one request to the brokers may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long the messages may take in all.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one poll may take.
const PACE: Duration = Duration::from_millis(100);
/// Bytes of a sample at most.
const BYTES_MAX: usize = 64 << 20;

/// A message that was kept, with its headers.
pub(super) type SampledMessage = OwnedMessage;

/// A line of a file as a message.
pub(super) fn message_of_line(number: i64, line: &[u8]) -> SampledMessage {
    let (payload, time) = (Some(line.to_vec()), Timestamp::NotAvailable);
    OwnedMessage::new(payload, None, String::new(), time, 0, number, None)
}

/// Reads a topic, from some messages before its end on.
pub(super) struct TopicReader {
    consumer: BaseConsumer<QuietClientContext>,
    /// By partition, the offset behind the newest message when it was opened.
    ends: Vec<(i32, i64)>,
}

impl TopicReader {
    /// Begins about `count` messages before the end of a topic.
    ///
    /// # Errors
    /// Where no broker answers, or the topic does not exist.
    pub(super) fn open(
        kafka: &KafkaSettings,
        group: &str,
        topic: &str,
        count: usize,
    ) -> anyhow::Result<Self> {
        let config = reader_config(kafka, "outlierd-sample", group);
        let consumer = consumer(kafka, &config, QuietClientContext::of(kafka))
            .context("cannot create a consumer")?;
        let metadata = consumer
            .fetch_metadata(Some(topic), TIMEOUT)
            .with_context(|| format!("no broker of {} answered", kafka.brokers))?;
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        let partitions: Vec<i32> = partitions.map(|partition| partition.id()).collect();
        if partitions.is_empty() {
            bail!("topic {topic} does not exist, or may not be read");
        }
        let each = i64::try_from(count.div_ceil(partitions.len())).unwrap_or(i64::MAX);
        let mut start = TopicPartitionList::new();
        let mut ends = Vec::new();
        for partition in partitions {
            let (low, high) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
            let first = low.max(high.saturating_sub(each));
            start.add_partition_offset(topic, partition, Offset::Offset(first))?;
            if first < high {
                ends.push((partition, high));
            }
        }
        consumer.assign(&start)?;
        Ok(Self { consumer, ends })
    }

    /// The messages up to the end that the topic had when it was opened, in the order in which they
    /// arrived.
    ///
    /// # Errors
    /// Where the brokers refuse to give them.
    pub(super) fn sample(&mut self) -> anyhow::Result<Vec<SampledMessage>> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let began = Instant::now();
        while !self.ends.is_empty() && bytes < BYTES_MAX && began.elapsed() < PATIENCE {
            match self.consumer.poll(PACE) {
                Some(Ok(message)) => {
                    let (partition, next) = (message.partition(), message.offset() + 1);
                    self.ends
                        .retain(|(of, end)| *of != partition || next < *end);
                    bytes += message.key_len() + message.payload_len();
                    found.push(message.detach());
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.ends.retain(|(of, _)| *of != partition);
                }
                Some(Err(error)) => return Err(error).context("the topic could not be read"),
                None => {}
            }
        }
        found.sort_by_key(|message: &SampledMessage| {
            let time = message.timestamp().to_millis();
            (time, message.partition(), message.offset())
        });
        Ok(found)
    }

    /// The next message, if one comes soon.
    ///
    /// # Errors
    /// Where the brokers refuse to give it.
    pub(super) fn next(&self) -> anyhow::Result<Option<SampledMessage>> {
        match self.consumer.poll(PACE) {
            Some(Ok(message)) => Ok(Some(message.detach())),
            Some(Err(KafkaError::PartitionEOF(_))) | None => Ok(None),
            Some(Err(error)) => Err(error).context("the topic could not be read"),
        }
    }
}
