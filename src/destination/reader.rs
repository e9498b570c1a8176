//! The thread of a destination: reads committed alerts, delivers them, then commits its position.
//!
//! Everything polled is delivered before the next poll, so that a committed position never covers
//! an alert that was not delivered, whatever the group does meanwhile. While a destination fails,
//! the reader pauses its partitions and continues to poll: it stays in its group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, TopicPartitionList};

use super::decoder::{AlertDecoder, AlertFault};
use super::{Destination, DestinationError, DestinationStatus};
use crate::config::settings::{DestinationSettings, Settings, StreamSettings};
use crate::events::destination::{AlertSkipped, AlertsDelivered};
use crate::failure::Failure as _;
use crate::schema_registry::RegisteredSchema;
use crate::source::KafkaSettings;
use crate::source::backoff::Backoff;
use crate::source::rights::{Access, READ};
use crate::source::{self, BatchBounds, QuietClientContext, client_config, poll_batch};

/// How long the reader polls at a time; bounds how late it notices a stop.
const POLL: Duration = Duration::from_millis(200);
/// Alerts that one flush takes at most.
const BOUNDS: BatchBounds = BatchBounds {
    records: 500,
    bytes: 4 << 20,
    wait: POLL,
};
/// How long the schema of an alert in Avro may take, before the reader polls again.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(3);
/// A consumer that ran this long without an error has recovered.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// How long commits may fail before the consumer is replaced: a rebalance fails some.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);

/// Reads the committed alerts of a stream for one destination.
pub struct DestinationReader {
    kafka: KafkaSettings,
    topic: String,
    group: String,
    decoder: AlertDecoder,
    destination: Box<dyn Destination>,
    status: Arc<DestinationStatus>,
}

impl DestinationReader {
    pub(super) fn new(
        settings: &Settings,
        stream: &StreamSettings,
        place: &DestinationSettings,
        destination: Box<dyn Destination>,
    ) -> Self {
        Self {
            kafka: settings.kafka.clone(),
            topic: stream.output.alerts.clone(),
            group: place.group(&stream.input.group),
            decoder: AlertDecoder::new(&settings.registry),
            destination,
            status: Arc::new(DestinationStatus::new(&stream.name, place.name())),
        }
    }

    /// What the status page reads.
    pub fn status(&self) -> Arc<DestinationStatus> {
        self.status.clone()
    }

    /// Keeps the schema that this process writes alerts with: the registry may be away when they are
    /// read.
    pub fn add_schema(&mut self, schema: &RegisteredSchema) {
        // Where it cannot be kept, it cannot be fetched either: the first alert fails for it.
        let _ = self.decoder.insert(schema);
    }

    /// Runs until `halt` is set, on a thread named `NAME-STREAM`, such as `file-pumps`.
    ///
    /// # Errors
    /// Where the system has no thread.
    pub fn start(mut self, halt: Arc<AtomicBool>) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name(format!("{}-{}", self.status.name, self.status.stream))
            .spawn(move || self.supervise(&halt))
    }

    /// Replaces the consumer after errors that librdkafka does not retry.
    fn supervise(&mut self, halt: &AtomicBool) {
        let mut backoff = Backoff::default();
        while !halt.load(Ordering::Acquire) {
            let started = Instant::now();
            let Err(error) = self.run(halt) else {
                return;
            };
            if started.elapsed() > HEALTHY_AFTER {
                backoff = Backoff::default();
            }
            self.status.failed(&self.failure(error));
            let until = Instant::now() + backoff.wait();
            while Instant::now() < until && !halt.load(Ordering::Acquire) {
                thread::park_timeout(POLL);
            }
        }
    }

    fn failure(&self, source: KafkaError) -> DestinationError {
        let access = Access {
            group: &self.group,
            ..Access::of_topic(READ, &self.topic)
        };
        match access.missing(&source, &self.kafka) {
            Some(right) => DestinationError::Right(right),
            None => DestinationError::Alerts {
                topic: self.topic.clone(),
                group: self.group.clone(),
                source,
            },
        }
    }

    fn run(&mut self, halt: &AtomicBool) -> KafkaResult<()> {
        let consumer = self.consumer()?;
        consumer.subscribe(&[&self.topic])?;
        let started = Instant::now();
        let mut positions = DeliveredPositions::new(&self.topic);
        while !halt.load(Ordering::Acquire) {
            let mut batch = AlertBatch::default();
            for message in poll_batch(&consumer, BOUNDS, || false, KafkaError::is_retryable)? {
                batch.push(&message);
            }
            if !batch.next.is_empty() {
                if !self.deliver(&consumer, &mut batch, halt)? {
                    break;
                }
                positions.add(batch.next);
            } else if started.elapsed() > HEALTHY_AFTER {
                self.status.recovered();
            }
            positions.commit(&consumer)?;
        }
        Ok(())
    }

    fn consumer(&self) -> KafkaResult<BaseConsumer<QuietClientContext>> {
        let client_id = format!("outlierd-{}-{}", self.status.stream, self.status.name);
        let mut config: ClientConfig = client_config(&self.kafka, &client_id);
        config.set("session.timeout.ms", "10000");
        for (key, value) in &self.kafka.consumer {
            config.set(key, value);
        }
        config
            .set("group.id", &self.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            // A group without a position, such as that of the first start, delivers what the topic
            // still holds. From the end it would lose the alerts published before its first
            // assignment, and those of an outage that outlasts their retention or its position's.
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            .set("isolation.level", "read_committed");
        source::consumer(&self.kafka, &config, QuietClientContext::of(&self.kafka))
    }

    fn try_deliver(&mut self, batch: &mut AlertBatch) -> Result<(), DestinationError> {
        batch.decode(&mut self.decoder, &self.topic)?;
        if batch.alerts.is_empty() {
            return Ok(());
        }
        self.destination.deliver(&batch.alerts)
    }

    /// Delivers a batch, however many attempts it takes; returns whether it is delivered, which it
    /// may not be at a stop.
    fn deliver(
        &mut self,
        consumer: &BaseConsumer<QuietClientContext>,
        batch: &mut AlertBatch,
        halt: &AtomicBool,
    ) -> KafkaResult<bool> {
        let mut backoff = Backoff::default();
        let mut is_paused = false;
        loop {
            match self.try_deliver(batch) {
                Ok(()) => break,
                Err(error) => self.status.failed(&error),
            }
            is_paused = true;
            let until = Instant::now() + backoff.wait();
            while Instant::now() < until {
                if halt.load(Ordering::Acquire) {
                    return Ok(false);
                }
                poll_paused(consumer, batch)?;
            }
        }
        if is_paused {
            consumer.resume(&consumer.assignment()?)?;
        }
        self.status.recovered();
        AlertsDelivered {
            stream: &self.status.stream,
            destination: self.status.name,
            alerts: batch.alerts.len(),
        }
        .emit();
        Ok(true)
    }
}

/// Answers the group without reading on. A partition that is assigned meanwhile may yield a message
/// before it is paused: it joins the batch.
fn poll_paused(
    consumer: &BaseConsumer<QuietClientContext>,
    batch: &mut AlertBatch,
) -> KafkaResult<()> {
    consumer.pause(&consumer.assignment()?)?;
    match consumer.poll(POLL) {
        Some(Ok(message)) => batch.push(&message),
        Some(Err(error)) if !error.is_retryable() => return Err(error),
        Some(Err(_)) | None => {}
    }
    Ok(())
}

/// A message as it was polled.
struct PolledAlert {
    partition: i32,
    offset: i64,
    payload: Vec<u8>,
}

/// What was polled and is to be delivered.
#[derive(Default)]
struct AlertBatch {
    /// Those that were not decoded yet.
    polled: VecDeque<PolledAlert>,
    /// The lines of those before.
    alerts: Vec<String>,
    /// By partition, the offset behind its last message.
    next: BTreeMap<i32, i64>,
}

impl AlertBatch {
    fn push(&mut self, message: &BorrowedMessage<'_>) {
        let (partition, offset) = (message.partition(), message.offset());
        self.next.insert(partition, offset + 1);
        self.polled.push_back(PolledAlert {
            partition,
            offset,
            payload: message.payload().unwrap_or_default().to_vec(),
        });
    }

    /// Decodes what was polled; an attempt that fails resumes at the same message.
    fn decode(&mut self, decoder: &mut AlertDecoder, topic: &str) -> Result<(), DestinationError> {
        while let Some(polled) = self.polled.front() {
            match decoder.line(&polled.payload, SCHEMA_PATIENCE) {
                Ok(alert) => self.alerts.push(alert),
                Err(AlertFault::NoSchema(source)) => {
                    let topic = topic.to_owned();
                    return Err(DestinationError::Schema { topic, source });
                }
                Err(AlertFault::NoAlert(reason)) => AlertSkipped {
                    topic,
                    partition: polled.partition,
                    offset: polled.offset,
                    reason: &reason,
                }
                .emit(),
            }
            self.polled.pop_front();
        }
        Ok(())
    }
}

/// Positions that are delivered and not committed yet.
struct DeliveredPositions {
    topic: String,
    next: BTreeMap<i32, i64>,
    /// Since when commits fail.
    failing: Option<Instant>,
}

impl DeliveredPositions {
    fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            next: BTreeMap::new(),
            failing: None,
        }
    }

    fn add(&mut self, next: BTreeMap<i32, i64>) {
        self.next.extend(next);
    }

    /// Commits them. What is refused, such as during a rebalance, is committed by the next call;
    /// a partition that has moved on belongs to its new owner.
    fn commit(&mut self, consumer: &BaseConsumer<QuietClientContext>) -> KafkaResult<()> {
        if self.next.is_empty() {
            return Ok(());
        }
        let assigned = consumer.assignment()?;
        self.next
            .retain(|partition, _| assigned.find_partition(&self.topic, *partition).is_some());
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in &self.next {
            offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*next))?;
        }
        let done = match offsets.count() {
            0 => Ok(()),
            _ => consumer.commit(&offsets, CommitMode::Sync),
        };
        self.settle(done)
    }

    fn settle(&mut self, done: KafkaResult<()>) -> Result<(), KafkaError> {
        let Err(error) = done else {
            self.next.clear();
            self.failing = None;
            return Ok(());
        };
        tracing::debug!(topic = self.topic, error = %error, "position of a destination not committed yet");
        let since = *self.failing.get_or_insert_with(Instant::now);
        if since.elapsed() < COMMIT_PATIENCE {
            return Ok(());
        }
        Err(error)
    }
}
