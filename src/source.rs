//! The source: a lane's Kafka consumer, and the micro-batches that it is polled in.
//!
//! Delivery contract: offsets are never committed by librdkafka on its own. The lane commits the
//! offset of a record only after everything that the record caused is durable.

pub mod backoff;
pub mod cluster;
mod failure;
mod oidc;
pub mod rights;
mod settings;
mod tokens;

pub use self::oidc::{OidcFault, TokenError};
pub use self::settings::{Delivery, InputSettings, KafkaSettings, StartOffset, brokers};
pub use self::tokens::{SharedTokens, Tokens};

use std::error::Error;
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, OwnedMessage};
use rdkafka::producer::{BaseProducer, ProducerContext};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use crate::record::{EventTime, Headers, Message};

/// The properties of every client: brokers, then the operator's own.
pub fn client_config(kafka: &KafkaSettings, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", client_id);
    for (key, value) in kafka.client_properties() {
        config.set(key, value);
    }
    config
}

/// The properties of a client that reads what is assigned to it, in no group, and commits nothing.
/// Its poll reports the end of each partition.
///
/// librdkafka requires the name of a group even where none is joined, and looks up its coordinator,
/// which takes a right. `group` is one that the lanes need anyway; where the client has no right to
/// it ([`rights::is_of_group`]), it reads all the same.
pub fn reader_config(kafka: &KafkaSettings, client_id: &str, group: &str) -> ClientConfig {
    let mut config = client_config(kafka, client_id);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    config
}

/// The properties of a producer outside of the path of a record.
pub fn producer_config(kafka: &KafkaSettings, client_id: &str) -> ClientConfig {
    let mut config = client_config(kafka, client_id);
    for (key, value) in &kafka.producer {
        config.set(key, value);
    }
    config
}

/// Adds all partitions of a topic to `list`, from their beginning; a topic that was made a moment
/// ago may have none yet.
///
/// # Errors
/// Where no broker answers in time, or the topic is hidden from the client.
pub fn add_from_beginning<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    list: &mut TopicPartitionList,
    timeout: Duration,
) -> Result<(), KafkaError> {
    // Nobody else polls this client while its topic cannot be found, and its token may expire.
    drop(consumer.poll(Duration::ZERO));
    let metadata = consumer.fetch_metadata(Some(topic), timeout)?;
    for found in metadata.topics() {
        let error = found.error().map(RDKafkaErrorCode::from);
        if error == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
            return Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::TopicAuthorizationFailed,
            ));
        }
        for partition in found.partitions() {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        }
    }
    Ok(())
}

/// A consumer that has its token, where OIDC needs one. librdkafka asks for it in the poll, and the
/// calls that ask the brokers do not poll.
///
/// # Errors
/// Where librdkafka rejects the properties, or there is no token.
pub fn consumer<C: ConsumerContext>(
    kafka: &KafkaSettings,
    config: &ClientConfig,
    context: C,
) -> Result<BaseConsumer<C>, KafkaError> {
    let tokens = kafka.tokens();
    tokens.check()?;
    let consumer: BaseConsumer<C> = config.create_with_context(context)?;
    if tokens.are_needed() {
        // Nothing is assigned that it could read.
        drop(consumer.poll(Duration::ZERO));
    }
    Ok(consumer)
}

/// A producer that has its token; see [`consumer`].
///
/// # Errors
/// As of [`consumer`].
pub fn producer<C: ProducerContext>(
    kafka: &KafkaSettings,
    config: &ClientConfig,
    context: C,
) -> Result<BaseProducer<C>, KafkaError> {
    let tokens = kafka.tokens();
    tokens.check()?;
    let producer: BaseProducer<C> = config.create_with_context(context)?;
    if tokens.are_needed() {
        producer.poll(Duration::ZERO);
    }
    Ok(producer)
}

/// The context of a client whose poll returns the errors: librdkafka's messages on their causes are
/// logged at debug level.
#[derive(Default)]
pub struct QuietClientContext(Tokens);

impl QuietClientContext {
    /// Of a client of these settings.
    pub fn of(kafka: &KafkaSettings) -> Self {
        Self(kafka.tokens())
    }
}

impl ClientContext for QuietClientContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "client");
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.0.answer()
    }
}

impl ConsumerContext for QuietClientContext {}

/// The properties that librdkafka does not know or whose values it does not take: table, key, and
/// why.
pub fn refused_properties(kafka: &KafkaSettings) -> Vec<(&'static str, String, String)> {
    let tables = [("consumer", &kafka.consumer), ("producer", &kafka.producer)];
    let of_tables = tables
        .iter()
        .flat_map(|(table, pairs)| pairs.iter().map(|(k, v)| (*table, k, v)));
    let of_all = kafka.client_properties();
    let check = |(table, key, value): (&'static str, &String, &String)| {
        let refusal = ClientConfig::new()
            .set(key, value)
            .create_native_config()
            .err()?;
        let why = match refusal {
            KafkaError::ClientConfig(_, why, _, _) => why,
            other => other.to_string(),
        };
        Some((table, key.clone(), why))
    };
    of_all
        .map(|(k, v)| ("properties", k, v))
        .chain(of_tables)
        .filter_map(check)
        .collect()
}

/// The properties of a lane's consumer. Those that the delivery contract rests on come last and
/// win.
pub fn consumer_config(
    kafka: &KafkaSettings,
    input: &InputSettings,
    client_id: &str,
) -> ClientConfig {
    let mut config = client_config(kafka, client_id);
    config.set("partition.assignment.strategy", "cooperative-sticky");
    // A killed instance is noticed, and its partitions move on, after this long (librdkafka's
    // default is 45 s).
    config.set("session.timeout.ms", "10000");
    // Bounds what librdkafka buffers ahead of a lane (its default is 64 MiB a partition).
    config.set("queued.max.messages.kbytes", "32768");
    // Once 100,000 records are at hand, librdkafka waits for so long before it fetches more. Its
    // default of 1 s empties that store in between, and holds a lane at about 110,000 records a
    // second.
    config.set("fetch.queue.backoff.ms", "10");
    // Partitions that are added to the topic are read after so long (librdkafka's default is 5 min).
    config.set("topic.metadata.refresh.interval.ms", "30000");
    // The lag among them is a metric.
    config.set("statistics.interval.ms", "5000");
    for (key, value) in &kafka.consumer {
        config.set(key, value);
    }
    config
        .set("group.id", &input.group)
        // A lane sets where each partition starts; records that are gone are an error to it.
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false")
        .set("isolation.level", "read_committed");
    config
}

/// How large a micro-batch may become.
#[derive(Clone, Copy, Debug)]
pub struct BatchBounds {
    /// Records.
    pub records: usize,
    /// Bytes of payload; the record that reaches it is the last one.
    pub bytes: usize,
    /// How long to wait for the first record, and for more after it.
    pub wait: Duration,
}

impl BatchBounds {
    /// As a stream's input has them.
    pub fn of(input: &InputSettings) -> Self {
        Self {
            records: input.batch_records,
            bytes: input.batch_bytes,
            wait: input.batch_wait,
        }
    }
}

/// Polls one micro-batch: empty where nothing came in time.
///
/// A batch ends early where the consumer has nothing more at hand, so that a quiet topic has no
/// added latency. Rebalances run inside the call; the batch ends after one (`interrupted`), so that
/// the caller can drop what was revoked.
///
/// `passes` is shown each error that librdkafka reports, and returns whether to continue; the
/// records polled before it are kept.
///
/// # Errors
/// The first error that does not pass. The records polled before it are lost to the caller, so that
/// the lane has to go back to its last commit.
pub fn poll_batch<'c, C: ConsumerContext>(
    consumer: &'c BaseConsumer<C>,
    bounds: BatchBounds,
    interrupted: impl Fn() -> bool,
    mut passes: impl FnMut(&KafkaError) -> bool,
) -> Result<Vec<BorrowedMessage<'c>>, KafkaError> {
    let deadline = Instant::now() + bounds.wait;
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < bounds.records && bytes < bounds.bytes {
        let wait = if batch.is_empty() {
            deadline.saturating_duration_since(Instant::now())
        } else {
            Duration::ZERO
        };
        match consumer.poll(wait) {
            Some(Ok(message)) => {
                bytes += message.payload_len();
                batch.push(message);
            }
            Some(Err(error)) if !passes(&error) => return Err(error),
            Some(Err(_)) if Instant::now() >= deadline => break,
            Some(Err(_)) => {}
            None if !batch.is_empty() || interrupted() || Instant::now() >= deadline => break,
            None => {}
        }
    }
    Ok(batch)
}

/// The record path's view of a Kafka message.
pub fn view<M: rdkafka::Message + Headers>(message: &M) -> Message<'_> {
    let timestamp = message.timestamp().to_millis();
    let timestamp = timestamp.map(EventTime::from_millis);
    Message {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key(),
        payload: message.payload(),
        timestamp,
        arrival: timestamp,
        headers: Some(message),
    }
}

/// librdkafka parses the headers of a message on access: most streams never need them.
impl Headers for BorrowedMessage<'_> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        last_header(self, name)
    }
}

/// Those of a message that was kept.
impl Headers for OwnedMessage {
    fn last(&self, name: &str) -> Option<&[u8]> {
        last_header(self, name)
    }
}

fn last_header<'a>(message: &'a impl rdkafka::Message, name: &str) -> Option<&'a [u8]> {
    use rdkafka::message::Headers as _;
    message
        .headers()?
        .iter()
        .filter(|header| header.key == name)
        .filter_map(|header| header.value)
        .last()
}
