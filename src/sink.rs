//! The sink: a lane's Kafka producer of alerts, dead letters and scores.
//!
//! Delivery contract: with transactions, what was handed to the sink is durable and visible when
//! [`LaneProducer::commit`] has returned `Ok`, and only then; [`Sink::await_acknowledgements`] comes
//! before it. Without them it is durable when [`Sink::flush`] has returned `Ok`. librdkafka retries
//! inside `delivery.timeout.ms`, in order and without duplicates (idempotent producer); what it
//! gives up on fails the call, and the lane rewinds to its last commit.

pub mod avro;
pub mod cloudevents;
mod dead_letter;
pub mod fill;
pub mod producer;
pub mod topics;
pub mod transaction;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message as _, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use serde::Serialize;

use self::avro::{AvroOutput, AvroWriter};
use self::dead_letter::Omitted;
use self::producer::{DeadLetterLimit, LaneProducer, is_too_large};
use self::transaction::{Fenced, STEP_TIMEOUT};
use crate::config::settings::{OutputSettings, StreamSettings};
use crate::failure::{Failure, FailureClass};
use crate::record::alert::Alert;
use crate::record::score::RecordScore;
use crate::record::{RecordOutcome, Rejected};
use crate::source::rights::{Access, MissingRight, WRITE};
use crate::source::{KafkaSettings, client_config};

/// Largest message that is sent, and that the output topics take which outlierd creates: a dead
/// letter holds what came in.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
const MAX_MESSAGE_BYTES_TEXT: &str = "16777216";

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
    /// A message cannot be written in its format.
    #[error("topic {topic}: a message cannot be written as {format}: {reason}")]
    Encode {
        /// The output topic.
        topic: String,
        /// Avro or JSON.
        format: &'static str,
        /// Why.
        reason: String,
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

impl SinkError {
    /// The right that the brokers refuse to a lane of a stream; `None` where the error has another
    /// cause.
    pub fn missing_right(
        &self,
        kafka: &KafkaSettings,
        stream: &StreamSettings,
        transactional_id: &str,
    ) -> Option<MissingRight> {
        let (source, topic) = match self {
            Self::Delivery { source, topic } => (source, topic.as_str()),
            Self::Transaction { source, .. } => (source, ""),
            Self::Config(_) | Self::Encode { .. } | Self::Flush { .. } => return None,
        };
        let access = Access {
            operation: WRITE,
            topic,
            group: &stream.input.group,
            transactional_id,
        };
        access.missing(source, kafka)
    }

    /// The cause, where the brokers do not accept the holder of the transactional id any more.
    pub fn fenced(&self, transactional_id: &str) -> Option<Fenced> {
        use RDKafkaErrorCode as Code;
        let (Self::Delivery { source, .. } | Self::Transaction { source, .. }) = self else {
            return None;
        };
        let code = source.rdkafka_error_code()?;
        let is_fenced = matches!(
            code,
            Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced
        );
        is_fenced.then(|| Fenced::new(transactional_id, source))
    }

    /// Whether a message was refused for what it is, so that the same happens again.
    pub fn is_of_message(&self) -> bool {
        match self {
            Self::Delivery { source, .. } => {
                is_too_large(source)
                    || *source == KafkaError::MessageProduction(RDKafkaErrorCode::InvalidRecord)
            }
            Self::Encode { .. } => true,
            Self::Config(_) | Self::Transaction { .. } | Self::Flush { .. } => false,
        }
    }
}

impl Failure for SinkError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Config(_) => FailureClass::USER,
            Self::Delivery { source, .. } | Self::Transaction { source, .. } => source.class(),
            Self::Encode { .. } => FailureClass::INTERNAL,
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
    /// The writers of alerts and scores in Avro; without them they are JSON.
    avro: Option<Arc<AvroOutput>>,
}

impl Sink {
    /// A producer for the outputs of one stream; with a `transactional_id` everything goes through
    /// transactions. `dead_letter_max`, the largest dead letter in bytes, outlives the sink. With `avro`
    /// alerts and scores are in Avro, else in JSON.
    ///
    /// # Errors
    /// [`SinkError::Config`]; [`SinkError::Transaction`] where the brokers have no transactions.
    pub fn new(
        kafka: &KafkaSettings,
        stream: &StreamSettings,
        client_id: &str,
        transactional_id: Option<&str>,
        dead_letter_max: Arc<AtomicUsize>,
        avro: Option<Arc<AvroOutput>>,
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
        let dead_letters = DeadLetterLimit {
            topic: stream.output.dead_letters.clone(),
            bytes_max: dead_letter_max,
        };
        let transactional = transactional_id.is_some();
        Ok(Self {
            producer: LaneProducer::new(kafka, &config, states, dead_letters, transactional)?,
            stream: stream.name.clone(),
            input: stream.input.topic.clone(),
            output: stream.output.clone(),
            avro,
        })
    }

    /// The producer, to commit or abort what was sent.
    pub fn producer(&self) -> &LaneProducer {
        &self.producer
    }

    /// Sends one alert, keyed by its series so that the events of an episode stay in order.
    ///
    /// # Errors
    /// [`SinkError::Delivery`] where librdkafka does not take it, and [`SinkError::Encode`].
    pub fn alert(&self, alert: &Alert) -> Result<(), SinkError> {
        let writer = self.avro.as_deref().map(|avro| &avro.alerts);
        let payload = encode(writer, &self.output.alerts, alert)?;
        let content_type = match writer {
            Some(_) => cloudevents::AVRO,
            None => cloudevents::JSON,
        };
        let headers = cloudevents::headers(alert, content_type);
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

    /// Sends a record that could not be scored, with its original key, value and headers, as far as
    /// they fit into its topic, and the reason. One that `repeats` is another part of the message of the
    /// one before, and leaves out the value.
    ///
    /// # Errors
    /// [`SinkError::Delivery`] where librdkafka does not take it.
    pub fn dead_letter(
        &self,
        message: &BorrowedMessage<'_>,
        rejected: &Rejected,
        repeats: bool,
    ) -> Result<(), SinkError> {
        let mut omitted = Omitted::of(message, self.producer.dead_letter_bytes_max());
        omitted.payload |= repeats;
        let headers = omitted.headers(message, &self.stream, &self.input, rejected);
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.output.dead_letters).headers(headers);
        if let Some(key) = message.key().filter(|_| !omitted.key) {
            record = record.key(key);
        }
        if let Some(payload) = message.payload().filter(|_| !omitted.payload) {
            record = record.payload(payload);
        }
        self.producer.send(record)
    }

    /// Sends the score of one record, where the stream publishes scores.
    ///
    /// # Errors
    /// [`SinkError::Delivery`] where librdkafka does not take it, and [`SinkError::Encode`].
    pub fn score(&self, outcome: &RecordOutcome) -> Result<(), SinkError> {
        let Some(topic) = &self.output.scores else {
            return Ok(());
        };
        let writer = self.avro.as_deref().and_then(|avro| avro.scores.as_ref());
        let score = RecordScore::of(outcome, &self.stream, &self.input);
        let payload = encode(writer, topic, &score)?;
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
    /// # Errors
    /// [`SinkError::Flush`] and [`SinkError::Delivery`].
    pub fn flush(&self, timeout: Duration) -> Result<(), SinkError> {
        self.producer.wait(timeout)?;
        self.producer.refused().map_or(Ok(()), Err)
    }

    /// Waits until the brokers have everything that belongs to the transaction. Whoever commits
    /// asks for the generation of the group after this wait: one that ends meanwhile is refused.
    ///
    /// # Errors
    /// [`SinkError::Flush`] and [`SinkError::Delivery`].
    pub fn await_acknowledgements(&self) -> Result<(), SinkError> {
        self.producer.begin()?;
        self.flush(STEP_TIMEOUT)
    }
}

/// The value of a message for a topic: in Avro with a writer, else in JSON.
fn encode(
    writer: Option<&AvroWriter>,
    topic: &str,
    value: &impl Serialize,
) -> Result<Vec<u8>, SinkError> {
    let (format, encoded) = match writer {
        Some(writer) => (
            "Avro",
            writer.write(value).map_err(|error| error.to_string()),
        ),
        None => (
            "JSON",
            serde_json::to_vec(value).map_err(|error| error.to_string()),
        ),
    };
    encoded.map_err(|reason| SinkError::Encode {
        topic: topic.to_owned(),
        format,
        reason,
    })
}
