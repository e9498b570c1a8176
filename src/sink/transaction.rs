//! Transactions: what a lane sends, and the offsets that it belongs to, become visible together or
//! not at all.
//!
//! One producer a lane. The generation of its consumer in the group goes along with the offsets
//! (KIP-447), so that a lane that lost its partitions cannot commit them; the same transactional id
//! after a restart aborts what the last run left open. After any error outlierd aborts the
//! transaction and the lane rewinds to its last commit.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{DefaultClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::{ClientConfig, ClientContext};

use super::SinkError;
use crate::config::settings::StreamSettings;
use crate::failure::{Failure, FailureClass};
use crate::source::{self, KafkaSettings, Tokens, client_config};

/// How long one step may take, repetitions included.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit of an abort: at a shutdown it must be short, and the next run aborts the transaction
/// as well.
pub(super) const ABORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a transaction may stay open beyond twice the commit interval. A lane that died without
/// a word holds up the readers of its outputs, and its successor, for so long.
const GRACE: Duration = Duration::from_secs(15);

/// Longest time that the check of the rights may hold its transaction open, should outlierd be
/// killed meanwhile.
const CHECK_TIMEOUT_MS: &str = "10000";
/// How long the check waits for a refusal. The brokers answer within a round trip; a refusal that
/// comes later is found by the first transaction of the lane.
const CHECK_WAIT: Duration = Duration::from_millis(500);
/// Longer than the check waits, so that it sends nothing.
const CHECK_LINGER_MS: &str = "5000";

/// The brokers have given the transactional id to another producer, or ended its transaction.
#[derive(Debug, thiserror::Error)]
#[error(
    "the brokers fenced the transactional id {id} ({reason}): outlierd was paused for longer than a transaction may last, or, where this repeats, another instance runs with a copy of its state folder; stop that one and delete its service.state_dir, and it gets its own id and restores the states from the changelog"
)]
pub struct Fenced {
    id: String,
    reason: String,
}

impl Fenced {
    pub(super) fn new(id: &str, reason: &KafkaError) -> Self {
        Self {
            id: id.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl Failure for Fenced {
    fn class(&self) -> FailureClass {
        FailureClass::USER
    }
}

/// The topic that the brokers refused to a transaction. librdkafka names it in its log only: the
/// calls fail without it, and so do all messages of the transaction.
#[derive(Default)]
pub(super) struct RefusedTopic(Mutex<Option<String>>);

impl RefusedTopic {
    /// Looks at a line of librdkafka's log: `Failed to add partition "TOPIC" [0] to transaction:
    /// Broker: Topic authorization failed`.
    pub(super) fn read_log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if facility == "ADDPARTS" && line.contains("authorization failed") {
            let topic = line.split('"').nth(1).map(str::to_owned);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = topic;
        }
        DefaultClientContext.log(level, facility, line);
    }

    /// The topic that was refused since the last call.
    pub(super) fn take(&self) -> Option<SinkError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(SinkError::Delivery {
            topic: kept.take()?,
            source: KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed),
        })
    }
}

struct CheckContext {
    refused: RefusedTopic,
    tokens: Tokens,
}

impl ClientContext for CheckContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.refused.read_log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "client");
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.tokens.answer()
    }
}

impl ProducerContext for CheckContext {
    type DeliveryOpaque = ();

    /// Nothing is delivered.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

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

/// Asks the brokers for a transaction over `topics`, and aborts it without sending anything: brokers
/// without transactions, and rights that are missing, are found before the first alert. `id` is a
/// transactional id that no lane and no other instance uses.
///
/// # Errors
/// [`SinkError::Config`], [`SinkError::Transaction`], and [`SinkError::Delivery`] of a topic that
/// the brokers refuse.
pub fn check<'t>(
    kafka: &KafkaSettings,
    stream: &StreamSettings,
    id: &str,
    topics: impl IntoIterator<Item = &'t str>,
) -> Result<(), SinkError> {
    let mut config = client_config(kafka, "outlierd-check");
    configure(&mut config, id, stream.input.commit_interval);
    config
        .set("transaction.timeout.ms", CHECK_TIMEOUT_MS)
        .set("delivery.timeout.ms", CHECK_TIMEOUT_MS)
        .set("linger.ms", CHECK_LINGER_MS);
    let context = CheckContext {
        refused: RefusedTopic::default(),
        tokens: kafka.tokens(),
    };
    let producer = source::producer(kafka, &config, context).map_err(SinkError::Config)?;
    init(&producer)?;
    let failed = |step| move |source| SinkError::Transaction { step, source };
    producer.begin_transaction().map_err(failed("begin"))?;
    for topic in topics {
        // It joins the transaction when it is queued, and is sent later.
        let record = BaseRecord::<[u8], [u8]>::to(topic).partition(0);
        let queued = producer.send(record.key(b"").payload(b""));
        queued.map_err(|(source, _)| SinkError::Delivery {
            topic: topic.to_owned(),
            source,
        })?;
    }
    let deadline = Instant::now() + CHECK_WAIT;
    let mut refused = None;
    while refused.is_none() && Instant::now() < deadline {
        producer.poll(Duration::from_millis(20));
        refused = producer.context().refused.take();
    }
    producer.purge(PurgeConfig::default().queue());
    let deadline = Instant::now() + ABORT_TIMEOUT;
    // An abort waits for the reports of what was purged, and nobody would serve them then.
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(Duration::from_millis(1));
    }
    let aborted = producer.abort_transaction(ABORT_TIMEOUT);
    match refused {
        Some(refused) => Err(refused),
        None => aborted.map_err(failed("abort")),
    }
}

/// Takes the transactional id: an open transaction of its last holder is aborted, and the holder
/// locked out.
pub(super) fn init<C: ProducerContext>(producer: &BaseProducer<C>) -> Result<(), SinkError> {
    repeat("init", || producer.init_transactions(STEP_TIMEOUT))
}

/// Repeats a step for as long as librdkafka calls its error passing.
pub(super) fn repeat(
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
