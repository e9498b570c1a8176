//! The producer of a lane, with or without transactions.

use std::cell::Cell;
use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use super::SinkError;
use super::transaction::{ABORT_TIMEOUT, RefusedTopic, STEP_TIMEOUT, init, repeat};
use crate::source::{self, KafkaSettings, Tokens};

/// How often deliveries are looked for while they are waited for: an alert waits that much longer.
const DELIVERY_PACE: Duration = Duration::from_micros(300);
/// How long a full send queue is waited for before the lane rewinds to its last commit.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the brokers may take to describe a topic.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest dead letter that its topic takes.
pub(super) struct DeadLetterLimit {
    pub(super) topic: String,
    /// In bytes; halved when the topic refuses one for its size, as where its limit was lowered.
    pub(super) bytes_max: Arc<AtomicUsize>,
}

impl DeadLetterLimit {
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max.load(Ordering::Acquire)
    }

    fn refused(&self, topic: &str, error: &KafkaError) {
        if topic == self.topic && is_too_large(error) {
            let halved = |bytes| Some(bytes / 2);
            let _ = (self.bytes_max).fetch_update(Ordering::AcqRel, Ordering::Acquire, halved);
        }
    }
}

/// Whether a message was refused for its size.
pub(super) fn is_too_large(error: &KafkaError) -> bool {
    *error == KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)
}

/// Collects what the brokers refused since the lane last asked.
struct DeliveryReports {
    /// Emptied by [`LaneProducer::take_failed`]; bounded by what a lane sends between two commits.
    failed: Mutex<Vec<(KafkaError, OwnedMessage)>>,
    /// A topic that the brokers refused to the open transaction.
    refused_topic: RefusedTopic,
    dead_letters: DeadLetterLimit,
    /// Topic of the states.
    states: String,
    tokens: Tokens,
    /// By partition, the offset behind the newest state that the brokers have; emptied by
    /// [`LaneProducer::take_changelog`].
    changelog: Mutex<HashMap<i32, i64>>,
}

impl ClientContext for DeliveryReports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// The flush reports the effect on results; librdkafka logs the causes.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "producer");
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.refused_topic.read_log(level, facility, line);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.tokens.answer()
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(message) if message.topic() == self.states => {
                let mut changelog = self
                    .changelog
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let next = changelog.entry(message.partition()).or_default();
                *next = (*next).max(message.offset() + 1);
            }
            Ok(_) => {}
            Err((error, message)) => {
                self.dead_letters.refused(message.topic(), error);
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.push((error.clone(), message.detach()));
            }
        }
    }
}

/// See the module.
pub struct LaneProducer {
    producer: BaseProducer<DeliveryReports>,
    /// Whether what is sent belongs to transactions.
    transactional: bool,
    /// Whether a transaction is open.
    open: Cell<bool>,
}

impl LaneProducer {
    /// The producer of a client's properties; `states` is the topic of the states.
    pub(super) fn new(
        kafka: &KafkaSettings,
        config: &ClientConfig,
        states: &str,
        dead_letters: DeadLetterLimit,
        transactional: bool,
    ) -> Result<Self, SinkError> {
        let deliveries = DeliveryReports {
            failed: Mutex::default(),
            refused_topic: RefusedTopic::default(),
            dead_letters,
            states: states.to_owned(),
            tokens: kafka.tokens(),
            changelog: Mutex::default(),
        };
        let producer = source::producer(kafka, config, deliveries).map_err(SinkError::Config)?;
        if transactional {
            init(&producer)?;
        }
        Ok(Self {
            producer,
            transactional,
            open: Cell::new(false),
        })
    }

    /// Hands a message to librdkafka; a full queue is backpressure: its deliveries are served until
    /// there is room.
    pub(super) fn send<K, P>(&self, mut record: BaseRecord<'_, K, P>) -> Result<(), SinkError>
    where
        K: rdkafka::message::ToBytes + ?Sized,
        P: rdkafka::message::ToBytes + ?Sized,
    {
        self.begin()?;
        let deadline = Instant::now() + QUEUE_TIMEOUT;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    self.producer.poll(Duration::from_millis(100));
                }
                Err((source, back)) => {
                    // A message that the brokers refused makes librdkafka refuse all that come
                    // after it: that one is the cause.
                    self.poll();
                    let topic = back.topic.into();
                    return Err(self
                        .refused()
                        .unwrap_or(SinkError::Delivery { topic, source }));
                }
            }
        }
    }

    /// Serves delivery reports without waiting.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// How many messages the brokers have not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    /// By partition, the offset in the changelog behind the states that the brokers have taken
    /// since the last call.
    pub fn take_changelog(&self) -> Vec<(i32, i64)> {
        self.producer
            .context()
            .changelog
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .collect()
    }

    /// How many partitions the changelog has; 0 where it does not exist. The producer knows them from
    /// then on, also those that were just added.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn changelog_partitions(&self) -> Result<usize, KafkaError> {
        let topic = &self.producer.context().states;
        let metadata = self
            .producer
            .client()
            .fetch_metadata(Some(topic), METADATA_TIMEOUT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.filter(|found| found.error().is_none());
        Ok(found.map_or(0, |found| found.partitions().len()))
    }

    /// Behind the newest entry of a partition of the changelog, decided or not.
    ///
    /// # Errors
    /// Where no broker answers, or the changelog has no such partition.
    pub fn changelog_end(&self, partition: i32) -> Result<i64, KafkaError> {
        let topic = &self.producer.context().states;
        let client = self.producer.client();
        Ok(client
            .fetch_watermarks(topic, partition, METADATA_TIMEOUT)?
            .1)
    }

    /// Waits until everything sent so far is acknowledged or given up.
    pub(super) fn wait(&self, timeout: Duration) -> Result<(), SinkError> {
        let left = |source| SinkError::Flush {
            left: self.producer.in_flight_count(),
            timeout,
            source,
        };
        let deadline = Instant::now() + timeout;
        while self.producer.in_flight_count() > 0 {
            if Instant::now() >= deadline {
                return self.producer.flush(Duration::ZERO).map_err(left);
            }
            // Not the producer's own flush, which looks only every 100 ms, and not a poll that
            // waits: it spins through the last millisecond.
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(DELIVERY_PACE);
        }
        Ok(())
    }

    /// The error of the first message that the brokers refused since the last call. Where they
    /// refused a topic to the transaction, or fenced the producer, it is that: all messages fail
    /// then, without the cause.
    pub(super) fn refused(&self) -> Option<SinkError> {
        let failed = self.take_failed();
        if let Some(refused) = self.producer.context().refused_topic.take() {
            return Some(refused);
        }
        let first = failed.into_iter().next();
        let (source, topic) = match (self.producer.client().fatal_error(), first) {
            (Some((code, _)), first) => {
                let topic = first.map(|(_, message)| message.topic().into());
                (KafkaError::MessageProduction(code), topic)
            }
            (None, first) => {
                let (source, message) = first?;
                (source, Some(message.topic().into()))
            }
        };
        let topic = topic.unwrap_or_else(|| self.producer.context().states.clone());
        Some(SinkError::Delivery { topic, source })
    }

    /// The largest dead letter, in bytes.
    pub(super) fn dead_letter_bytes_max(&self) -> usize {
        self.producer.context().dead_letters.bytes_max()
    }

    /// What the brokers refused since the last call.
    fn take_failed(&self) -> Vec<(KafkaError, OwnedMessage)> {
        std::mem::take(
            &mut *self
                .producer
                .context()
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Opens a transaction if none is open.
    pub(super) fn begin(&self) -> Result<(), SinkError> {
        if self.transactional && !self.open.get() {
            self.producer
                .begin_transaction()
                .map_err(|source| SinkError::Transaction {
                    step: "begin",
                    source,
                })?;
            self.open.set(true);
        }
        Ok(())
    }

    /// Commits everything sent, with the input's `offsets`, in one transaction.
    /// [`super::Sink::await_acknowledgements`] comes before it.
    ///
    /// # Errors
    /// Nothing of it is visible then, unless the answer to the very last step was lost: whether it
    /// was committed is asked from the group's offsets when the lane starts again.
    pub fn commit(
        &self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), SinkError> {
        repeat("offsets", || {
            self.producer
                .send_offsets_to_transaction(offsets, group, STEP_TIMEOUT)
        })
        .map_err(|error| self.cause(error))?;
        self.commit_alone()
    }

    /// Commits everything sent, without offsets of the input.
    ///
    /// # Errors
    /// As [`LaneProducer::commit`].
    pub(super) fn commit_alone(&self) -> Result<(), SinkError> {
        repeat("commit", || self.producer.commit_transaction(STEP_TIMEOUT))
            .map_err(|error| self.cause(error))?;
        self.open.set(false);
        Ok(())
    }

    /// The topic that the brokers refused, where that is why a step failed.
    fn cause(&self, error: SinkError) -> SinkError {
        let refused = self.producer.context().refused_topic.take();
        refused.unwrap_or(error)
    }

    /// Takes back everything sent since the last commit, where it went through a transaction.
    ///
    /// # Errors
    /// [`SinkError::Transaction`]; the next holder of the transactional id takes it back then.
    pub fn abort(&self) -> Result<(), SinkError> {
        if self.open.replace(false) {
            // An abort waits for the reports of what is on its way, and nobody would serve them
            // then.
            self.producer.purge(PurgeConfig::default().queue());
            let _ = self.wait(ABORT_TIMEOUT);
            let aborted = self.producer.abort_transaction(ABORT_TIMEOUT);
            self.take_failed();
            drop(self.producer.context().refused_topic.take());
            self.take_changelog();
            aborted.map_err(|source| SinkError::Transaction {
                step: "abort",
                source,
            })?;
        }
        Ok(())
    }
}
