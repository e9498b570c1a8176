//! Transactions: what a lane sends, and the offsets that it belongs to, become visible together or
//! not at all.
//!
//! One producer a lane. The generation of its consumer in the group goes along with the offsets
//! (KIP-447), so that a lane that lost its partitions cannot commit them; the same transactional id
//! after a restart aborts what the last run left open. After any error outlierd aborts the
//! transaction and the lane rewinds to its last commit.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::{ClientConfig, TopicPartitionList};

use super::{Sink, SinkError};
use crate::config::settings::{KafkaSettings, StreamSettings};
use crate::failure::Failure as _;
use crate::source::client_config;

/// How long one step may take, repetitions included.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit of an abort: at a shutdown it must be short, and the next run aborts the transaction
/// as well.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a transaction may stay open beyond twice the commit interval. A lane that died without
/// a word holds up the readers of its outputs, and its successor, for so long.
const GRACE: Duration = Duration::from_secs(15);

/// Sets what a transactional producer needs.
pub(super) fn configure(
    config: &mut ClientConfig,
    transactional_id: &str,
    commit_interval: Duration,
) {
    let timeout = 2 * commit_interval + GRACE;
    config
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", timeout.as_millis().to_string())
        // Not longer than the transaction.
        .set("delivery.timeout.ms", timeout.as_millis().to_string());
}

/// Asks the brokers for a transactional producer, so that brokers without transactions are found at
/// start.
///
/// # Errors
/// [`SinkError::Config`] and [`SinkError::Transaction`].
pub fn check(kafka: &KafkaSettings, stream: &StreamSettings) -> Result<(), SinkError> {
    let mut config = client_config(kafka, "outlierd-check");
    configure(
        &mut config,
        &format!("{}-check", stream.input.group),
        stream.input.commit_interval,
    );
    let producer: BaseProducer = config.create().map_err(SinkError::Config)?;
    init(&producer)
}

/// Takes the transactional id: an open transaction of its last holder is aborted, and the holder
/// locked out.
pub(super) fn init<C: ProducerContext>(producer: &BaseProducer<C>) -> Result<(), SinkError> {
    repeat("init", || producer.init_transactions(STEP_TIMEOUT))
}

impl Sink {
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

    /// Commits everything sent, with the input's `offsets`, in one transaction. [`Sink::settle`]
    /// comes before it.
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

    /// Waits until the brokers have everything that belongs to the transaction. Whoever commits
    /// asks for the generation of the group after this wait: one that ends meanwhile is refused.
    ///
    /// # Errors
    /// [`SinkError::Flush`] and [`SinkError::Delivery`].
    pub fn await_offsets(&self) -> Result<(), SinkError> {
        self.begin()?;
        self.wait(STEP_TIMEOUT)?;
        if let Some((source, message)) = self.take_failed().into_iter().next() {
            let too_large =
                source == KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
            if too_large && message.topic() == self.output.dead_letters {
                // The next try leaves such payloads out.
                let bytes = message.payload().map_or(0, <[u8]>::len);
                self.dead_letter_max
                    .fetch_min(bytes.saturating_sub(1), Ordering::AcqRel);
            }
            return Err(SinkError::Delivery {
                topic: message.topic().into(),
                source,
            });
        }
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

/// Repeats a step for as long as librdkafka calls its error passing.
fn repeat(
    step: &'static str,
    mut try_once: impl FnMut() -> Result<(), KafkaError>,
) -> Result<(), SinkError> {
    let deadline = Instant::now() + STEP_TIMEOUT;
    loop {
        match try_once() {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() && Instant::now() < deadline => {}
            Err(source) => return Err(SinkError::Transaction { step, source }),
        }
    }
}
