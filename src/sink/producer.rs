//! The producer of a lane, with or without transactions.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use super::SinkError;
use super::transaction::{ABORT_TIMEOUT, STEP_TIMEOUT, init, repeat};

/// How often deliveries are looked for while they are waited for: an alert waits that much longer.
const DELIVERY_PACE: Duration = Duration::from_micros(300);
/// How long a full send queue is waited for before the lane rewinds to its last commit.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(60);

/// Collects what the brokers refused since the lane last asked.
#[derive(Default)]
struct DeliveryReports {
    /// Emptied by [`LaneProducer::take_failed`]; bounded by what a lane sends between two commits.
    failed: Mutex<Vec<(KafkaError, OwnedMessage)>>,
    /// Topic of the states.
    states: String,
    /// By partition, the offset behind the newest state that the brokers have; emptied by
    /// [`LaneProducer::take_changelog`].
    changelog: Mutex<HashMap<i32, i64>>,
}

impl ClientContext for DeliveryReports {
    /// The flush reports the effect on results; librdkafka logs the causes.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "producer");
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
        config: &ClientConfig,
        states: &str,
        transactional: bool,
    ) -> Result<Self, SinkError> {
        let deliveries = DeliveryReports {
            states: states.to_owned(),
            ..DeliveryReports::default()
        };
        let producer = config
            .create_with_context(deliveries)
            .map_err(SinkError::Config)?;
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
                    return Err(SinkError::Delivery {
                        topic: back.topic.into(),
                        source,
                    });
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

    /// What the brokers refused since the last call.
    pub(super) fn take_failed(&self) -> Vec<(KafkaError, OwnedMessage)> {
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
        })?;
        repeat("commit", || self.producer.commit_transaction(STEP_TIMEOUT))?;
        self.open.set(false);
        Ok(())
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
            self.take_changelog();
            aborted.map_err(|source| SinkError::Transaction {
                step: "abort",
                source,
            })?;
        }
        Ok(())
    }
}
