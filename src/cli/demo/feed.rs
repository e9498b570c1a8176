//! The way of simulated records to the daemon: a producer that never runs far ahead of what the
//! daemon has committed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::Offset;

use super::broker::{PARTITIONS, Topics};
use crate::config::settings::Settings;
use crate::source::client_config;

/// Payload that the daemon has not committed yet, in a partition: a fifth of what the built-in
/// broker keeps.
const BACKLOG_BYTES_MAX: i64 = 1024 * 1024;
/// How often the daemon's committed positions are looked up while they are waited for.
const WAIT: Duration = Duration::from_millis(5);
/// A daemon that reads nothing for this long, and does not train, is stuck.
const STALL_MAX: Duration = Duration::from_secs(120);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Feed {
    topic: String,
    dead_letters: String,
    producer: BaseProducer,
    /// Asks for the positions of the daemon's group, and never joins it.
    positions: BaseConsumer,
    /// Records and bytes sent to each partition.
    sent: Vec<(i64, i64)>,
    /// Records of each partition that the daemon has committed.
    committed: Vec<i64>,
    /// When the daemon last moved.
    moved: Instant,
}

impl Feed {
    pub(super) fn new(settings: &Settings, topics: &Topics) -> anyhow::Result<Self> {
        let mut producer = client_config(&settings.kafka, "outlierd-demo-plant");
        producer
            .set("linger.ms", "5")
            .set("enable.idempotence", "true");
        let mut positions = client_config(&settings.kafka, "outlierd-demo-positions");
        positions
            .set("group.id", &topics.input)
            .set("enable.auto.commit", "false");
        let partitions = usize::try_from(PARTITIONS)?;
        Ok(Self {
            topic: topics.input.clone(),
            dead_letters: topics.dead_letters.clone(),
            producer: producer
                .create()
                .context("cannot create the plant's producer")?,
            positions: positions
                .create()
                .context("cannot create the client for committed positions")?,
            sent: vec![(0, 0); partitions],
            committed: vec![0; partitions],
            moved: Instant::now(),
        })
    }

    /// The daemon is about to begin: until now it had no reason to move.
    pub(super) fn restart_clock(&mut self) {
        self.moved = Instant::now();
    }

    /// Sends a record of the `number`-th series; all of a series go to one partition, as those of a
    /// keyed producer do. Gives its partition and offset.
    pub(super) fn send(
        &mut self,
        number: usize,
        key: &str,
        payload: &[u8],
    ) -> anyhow::Result<(i32, i64)> {
        let index = number % self.sent.len();
        let partition = i32::try_from(index)?;
        let mut record = BaseRecord::to(&self.topic)
            .key(key)
            .payload(payload)
            .partition(partition);
        while let Err((error, refused)) = self.producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error).context("the plant cannot send");
            }
            self.producer.poll(WAIT);
            record = refused;
        }
        self.producer.poll(Duration::ZERO);
        let Some((records, bytes)) = self.sent.get_mut(index) else {
            bail!("the topic has no partition {index}")
        };
        let offset = *records;
        *records += 1;
        *bytes += payload.len() as i64;
        Ok((partition, offset))
    }

    /// Records that the daemon refused.
    pub(super) fn dead_letters(&self) -> anyhow::Result<i64> {
        let count = |partition| {
            let ends =
                self.positions
                    .fetch_watermarks(&self.dead_letters, partition, REQUEST_TIMEOUT);
            Ok(ends.context("cannot count the dead letters")?.1)
        };
        (0..PARTITIONS).map(count).sum()
    }

    /// Records that the daemon has not committed, by what was known last.
    pub(super) fn backlog(&self) -> u64 {
        let behind = |((sent, _), committed): (&(i64, i64), &i64)| {
            u64::try_from(sent - committed).unwrap_or(0)
        };
        self.sent.iter().zip(&self.committed).map(behind).sum()
    }

    /// Whether every partition may take another step. Records are of one size within a few bytes.
    pub(super) fn has_room(&self) -> bool {
        self.sent
            .iter()
            .zip(&self.committed)
            .all(|(&(records, bytes), &committed)| {
                let size = bytes / records.max(1);
                (records - committed) * size < BACKLOG_BYTES_MAX
            })
    }

    /// Waits a moment and looks up how far the daemon has come.
    ///
    /// # Errors
    /// Where the broker does not answer, or the daemon is stuck.
    pub(super) fn wait(&mut self) -> anyhow::Result<()> {
        self.producer.poll(WAIT);
        let mut asked = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            asked.add_partition(&self.topic, partition);
        }
        let found = self.positions.committed_offsets(asked, REQUEST_TIMEOUT);
        let is_stalled = self.moved.elapsed() > STALL_MAX;
        let found = match found {
            // A broker that has just started has no coordinator for a moment.
            Err(_) if !is_stalled => return Ok(()),
            found => found.context("no committed positions")?,
        };
        let before = self.backlog();
        for element in found.elements() {
            let known = usize::try_from(element.partition())
                .ok()
                .and_then(|index| self.committed.get_mut(index));
            if let (Offset::Offset(offset), Some(known)) = (element.offset(), known) {
                *known = offset;
            }
        }
        if self.backlog() < before || before == 0 {
            self.moved = Instant::now();
        } else if is_stalled {
            bail!(
                "the daemon has not committed for {} s: see its log with --log info",
                STALL_MAX.as_secs()
            );
        }
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // What is still queued after an early end is nobody's any more.
        self.producer
            .purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}
