//! The sink: a lane's Kafka producer of alerts, dead letters and scores.
//!
//! Delivery contract: with transactions, what was handed to the sink is durable and visible when
//! [`LaneProducer::commit`] has returned `Ok`, and only then; [`Sink::await_acknowledgements`] comes
//! before it. Without them it is durable when [`Sink::flush`] has returned `Ok`. librdkafka retries
//! inside `delivery.timeout.ms`, in order and without duplicates (idempotent producer); what it
//! gives up on fails the call, and the lane rewinds to its last commit.

pub mod cloudevents;
pub mod producer;
pub mod topics;
pub mod transaction;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{
    BorrowedMessage, Header, Headers, Message as _, OwnedHeaders, OwnedMessage,
};
use rdkafka::producer::BaseRecord;

use self::producer::LaneProducer;
use self::transaction::STEP_TIMEOUT;
use crate::config::settings::{OutputSettings, StreamSettings};
use crate::failure::{Failure, FailureClass};
use crate::record::alert::Alert;
use crate::record::{RecordOutcome, Rejected};
use crate::source::KafkaSettings;
use crate::source::client_config;

/// Largest record that is sent; larger dead letters go without their value.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Why results could not be made durable.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The producer cannot be made from its properties.
    #[error(
        "librdkafka rejected the producer's properties: {0}; correct [kafka.properties] or [kafka.producer]"
    )]
    Config(KafkaError),
    /// A message was not accepted or not delivered.
    #[error("topic {topic}: {source}")]
    Delivery {
        /// The output topic.
        topic: String,
        /// librdkafka's error.
        source: KafkaError,
    },
    /// A step of a transaction failed.
    #[error("transaction: {step}: {source}")]
    Transaction {
        /// Which step.
        step: &'static str,
        /// librdkafka's error.
        source: KafkaError,
    },
    /// The brokers did not acknowledge in time.
    #[error("{left} results were not acknowledged within {} s: {source}", timeout.as_secs())]
    Flush {
        /// Messages still on their way.
        left: i32,
        /// How long was waited.
        timeout: Duration,
        /// librdkafka's error.
        source: KafkaError,
    },
}

impl Failure for SinkError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Config(_) => FailureClass::USER,
            Self::Delivery { source, .. } | Self::Transaction { source, .. } => source.class(),
            Self::Flush { .. } => FailureClass::EXTERNAL.retryable(),
        }
    }
}

/// Sends the results of a stream with the producer of a lane.
pub struct Sink {
    producer: LaneProducer,
    stream: String,
    input: String,
    output: OutputSettings,
    /// Longest payload that a dead letter takes along, in bytes; smaller once its topic has refused
    /// one.
    dead_letter_max: Arc<AtomicUsize>,
}

/// The longest payload that a dead letter takes along at first: headers and key take their share of
/// the limit.
pub const DEAD_LETTER_MAX: usize = MAX_MESSAGE_BYTES - 64 * 1024;

impl Sink {
    /// A producer for the outputs of one stream; with a `transactional_id` everything goes through
    /// transactions. `dead_letter_max` starts at [`DEAD_LETTER_MAX`] and outlives the sink.
    ///
    /// # Errors
    /// [`SinkError::Config`]; [`SinkError::Transaction`] where the brokers have no transactions.
    pub fn new(
        kafka: &KafkaSettings,
        stream: &StreamSettings,
        client_id: &str,
        transactional_id: Option<&str>,
        dead_letter_max: Arc<AtomicUsize>,
    ) -> Result<Self, SinkError> {
        let mut config = client_config(kafka, client_id);
        config
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            .set("delivery.timeout.ms", "60000");
        // The coordinator refuses a transaction while it closes the last one; librdkafka would ask
        // again after 100 ms.
        config.set("retry.backoff.ms", "10");
        for (key, value) in &kafka.producer {
            config.set(key, value);
        }
        config
            .set("enable.idempotence", "true")
            .set("message.max.bytes", (MAX_MESSAGE_BYTES).to_string());
        if let Some(id) = transactional_id {
            transaction::configure(&mut config, id, stream.input.commit_interval);
        }
        let states = &stream.output.states;
        Ok(Self {
            producer: LaneProducer::new(&config, states, transactional_id.is_some())?,
            stream: stream.name.clone(),
            input: stream.input.topic.clone(),
            output: stream.output.clone(),
            dead_letter_max,
        })
    }

    /// The producer, to commit or abort what was sent.
    pub fn producer(&self) -> &LaneProducer {
        &self.producer
    }

    /// Sends one alert, keyed by its series so that the events of an episode stay in order.
    ///
    /// # Errors
    /// [`SinkError::Delivery`] where librdkafka does not take it.
    pub fn alert(&self, alert: &Alert) -> Result<(), SinkError> {
        let payload = serde_json::to_vec(alert).unwrap_or_default();
        let headers = cloudevents::headers(alert);
        let record = BaseRecord::to(&self.output.alerts)
            .key(&alert.series)
            .payload(&payload)
            .headers(headers);
        self.producer.send(record)
    }

    /// Sends the heat map of an alert, a PNG file, keyed by the alert's id.
    ///
    /// # Errors
    /// [`SinkError::Delivery`] where librdkafka does not take it.
    pub fn heat_map(&self, alert: &str, png: &[u8]) -> Result<(), SinkError> {
        let Some(topic) = &self.output.heat_maps else {
            return Ok(());
        };
        let headers = OwnedHeaders::new().insert(Header {
            key: "content-type",
            value: Some("image/png"),
        });
        self.producer.send(
            BaseRecord::to(topic)
                .key(alert)
                .payload(png)
                .headers(headers),
        )
    }

    /// Sends a record that could not be scored, with its original key, value and headers and the
    /// reason.
    ///
    /// # Errors
    /// [`SinkError::Delivery`] where librdkafka does not take it.
    pub fn dead_letter(
        &self,
        message: &BorrowedMessage<'_>,
        rejected: &Rejected,
    ) -> Result<(), SinkError> {
        let bytes = message.payload_len();
        let omitted = bytes > self.dead_letter_max.load(Ordering::Acquire);
        let mut headers = message.headers().map(|h| h.detach()).unwrap_or_default();
        for (key, value) in [
            ("outlierd-stream", self.stream.as_str()),
            ("outlierd-reason", rejected.reason.as_str()),
            ("outlierd-detail", &rejected.detail),
            ("outlierd-topic", &self.input),
            ("outlierd-partition", &message.partition().to_string()),
            ("outlierd-offset", &message.offset().to_string()),
            ("outlierd-payload-bytes", &bytes.to_string()),
            (PAYLOAD_OMITTED, if omitted { "true" } else { "false" }),
        ] {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.output.dead_letters).headers(headers);
        if let Some(key) = message.key() {
            record = record.key(key);
        }
        if let Some(payload) = message.payload().filter(|_| !omitted) {
            record = record.payload(payload);
        }
        self.producer.send(record)
    }

    /// Sends the score of one record, where the stream publishes scores.
    ///
    /// # Errors
    /// [`SinkError::Delivery`] where librdkafka does not take it.
    pub fn score(&self, outcome: &RecordOutcome) -> Result<(), SinkError> {
        let Some(topic) = &self.output.scores else {
            return Ok(());
        };
        let payload = serde_json::json!({
            "stream": self.stream,
            "series": outcome.series,
            "time": outcome.time.to_string(),
            "score": outcome.scored.as_ref().map(|s| s.score),
            "raw_error": outcome.scored.as_ref().map(|s| s.raw_error),
            "threshold": outcome.threshold,
            "verdict": outcome.verdict,
            "position": { "topic": self.input, "partition": outcome.partition, "offset": outcome.offset },
        })
        .to_string();
        self.producer.send(
            BaseRecord::to(topic)
                .key(&*outcome.series)
                .payload(&payload),
        )
    }

    /// Sends an entry to the changelog's partition of that number: the state of a series under its
    /// name, or a note. `None` is a tombstone: the series is forgotten.
    ///
    /// # Errors
    /// [`SinkError::Delivery`] where librdkafka does not take it.
    pub fn state(&self, partition: i32, key: &[u8], state: Option<&[u8]>) -> Result<(), SinkError> {
        let record = BaseRecord::<[u8], [u8]>::to(&self.output.states)
            .partition(partition)
            .key(key);
        self.producer.send(match state {
            Some(state) => record.payload(state),
            None => record,
        })
    }

    /// Waits until everything sent so far is acknowledged.
    ///
    /// A dead letter that its topic refuses for its size is sent once more without its value.
    ///
    /// # Errors
    /// [`SinkError::Flush`] and [`SinkError::Delivery`].
    pub fn flush(&self, timeout: Duration) -> Result<(), SinkError> {
        self.producer.wait(timeout)?;
        for (error, message) in self.producer.take_failed() {
            let too_large =
                error == KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
            if !(too_large
                && message.topic() == self.output.dead_letters
                && message.payload().is_some())
            {
                return Err(SinkError::Delivery {
                    topic: message.topic().into(),
                    source: error,
                });
            }
            let mut record =
                BaseRecord::<[u8], [u8]>::to(message.topic()).headers(without_payload(&message));
            if let Some(key) = message.key() {
                record = record.key(key);
            }
            self.producer.send(record)?;
        }
        self.producer.wait(timeout)?;
        match self.producer.take_failed().into_iter().next() {
            Some((source, message)) => Err(SinkError::Delivery {
                topic: message.topic().into(),
                source,
            }),
            None => Ok(()),
        }
    }

    /// Waits until the brokers have everything that belongs to the transaction. Whoever commits
    /// asks for the generation of the group after this wait: one that ends meanwhile is refused.
    ///
    /// # Errors
    /// [`SinkError::Flush`] and [`SinkError::Delivery`].
    pub fn await_acknowledgements(&self) -> Result<(), SinkError> {
        self.producer.begin()?;
        self.producer.wait(STEP_TIMEOUT)?;
        if let Some((source, message)) = self.producer.take_failed().into_iter().next() {
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
}

const PAYLOAD_OMITTED: &str = "outlierd-payload-omitted";

/// The headers of a dead letter, saying that its value was left out.
fn without_payload(message: &OwnedMessage) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    for header in message.headers().into_iter().flat_map(|h| h.iter()) {
        let value = if header.key == PAYLOAD_OMITTED {
            Some(b"true".as_slice())
        } else {
            header.value
        };
        headers = headers.insert(Header {
            key: header.key,
            value,
        });
    }
    headers
}
