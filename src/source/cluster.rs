//! Questions to the brokers at the start: whether they answer, which topics there are, and what the
//! client may read.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminClient;
use rdkafka::client::{ClientContext, DefaultClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;

use super::rights::{Access, MissingRight, READ, is_of_group};
use super::{
    KafkaSettings, QuietClientContext, TokenError, Tokens, client_config, consumer, reader_config,
};
use crate::failure::{Failure, FailureClass};

/// How long the brokers may take to answer before outlierd reports that they do not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one question may take: after each, librdkafka's reason is looked for.
const TRY: Duration = Duration::from_millis(500);
/// How long the ends of the topics may take that the client is to read. A partition without a
/// leader yields none.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What a reason does not say: steps of a connection that fail where the port has TLS and the client
/// has not, or the reverse.
fn hint(reason: &str) -> &'static str {
    if reason.contains("APIVERSION_QUERY") {
        ": is kafka.properties.\"security.protocol\" that of the port, which may require TLS?"
    } else if reason.contains("SSL_HANDSHAKE") && !reason.contains("certificate") {
        ": is kafka.properties.\"security.protocol\" that of the port, which may have no TLS?"
    } else {
        ""
    }
}

/// No broker answers.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// Those that were asked.
    #[error("no broker of {brokers} answered: {reason}")]
    Brokers {
        /// `kafka.brokers`.
        brokers: String,
        /// librdkafka's, with the broker and the step of the connection that failed.
        reason: String,
        /// What the call returned.
        source: KafkaError,
    },
    /// None was asked, for want of a token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Unreachable {
    /// `kafka.brokers` do not answer, for the `reason` that librdkafka gives.
    pub fn new(brokers: &str, reason: String, source: KafkaError) -> Self {
        let reason = format!("{reason}{}", hint(&reason));
        Self::Brokers {
            brokers: brokers.to_owned(),
            reason,
            source,
        }
    }
}

impl Failure for Unreachable {
    /// Credentials and certificates are the user's; another attempt may succeed even so, once they
    /// are corrected on the side of the brokers.
    fn class(&self) -> FailureClass {
        match self {
            Self::Token(error) => error.class(),
            Self::Brokers { reason, source, .. }
                if is_of_credentials(source) || is_reason_of_credentials(reason) =>
            {
                FailureClass::USER.retryable()
            }
            Self::Brokers { .. } => FailureClass::EXTERNAL.retryable(),
        }
    }
}

/// Whether the brokers do not accept the client's credentials, or the client not their certificate.
pub fn is_of_credentials(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{Authentication, SSL, SaslAuthenticationFailed};
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| matches!(code, Authentication | SaslAuthenticationFailed | SSL))
}

/// The same of a reason of librdkafka, which names the step that failed.
fn is_reason_of_credentials(reason: &str) -> bool {
    let steps = ["SSL", "SASL", "uthenticat", "security.protocol"];
    steps.iter().any(|step| reason.contains(step))
}

/// Keeps the reason that librdkafka logs for a connection that fails: the calls that wait for it
/// fail with a time-out.
struct ConnectionContext {
    kept: Mutex<Option<String>>,
    tokens: Tokens,
}

impl ConnectionContext {
    fn reason(&self) -> Option<String> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ClientContext for ConnectionContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if facility == "FAIL" {
            // In front is the name of the thread.
            let reason = line.split_once("]: ").map_or(line, |(_, reason)| reason);
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            *kept = Some(reason.to_owned());
        }
        DefaultClientContext.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "client");
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.tokens.answer()
    }
}

impl ConsumerContext for ConnectionContext {}

/// See the module.
pub struct Cluster {
    /// Their settings.
    pub kafka: KafkaSettings,
    /// To create and describe topics; `None` with OIDC, whose tokens rdkafka gives no such client.
    pub admin: Option<AdminClient<DefaultClientContext>>,
    /// Asks for topics. Brokers that create the topics that a producer asks for do not do so for a
    /// consumer.
    consumer: BaseConsumer<ConnectionContext>,
}

impl Cluster {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// Where librdkafka rejects the properties.
    pub fn new(kafka: &KafkaSettings) -> Result<Self, KafkaError> {
        let config = client_config(kafka, "outlierd-admin");
        let tokens = kafka.tokens();
        let has_admin = !tokens.are_needed();
        let kept = Mutex::default();
        Ok(Self {
            kafka: kafka.clone(),
            admin: has_admin.then(|| config.create()).transpose()?,
            consumer: config.create_with_context(ConnectionContext { kept, tokens })?,
        })
    }

    /// Whether outlierd creates topics, and adds partitions.
    pub fn creates_topics(&self) -> bool {
        self.kafka.create_topics && self.admin.is_some()
    }

    /// What to do where it does not.
    pub fn creation_hint(&self) -> &'static str {
        match self.admin {
            Some(_) => "set kafka.create_topics = true",
            None => "see docs/kafka.md: with OIDC outlierd cannot do so itself",
        }
    }

    /// Every topic that the client may see, with its number of partitions.
    ///
    /// # Errors
    /// Where no broker answers, or there is no token.
    pub fn topics(&self) -> Result<Vec<(String, usize)>, Unreachable> {
        self.kafka.tokens().check()?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        // Nobody else polls this client: what it reports is in its log.
        drop(self.consumer.poll(Duration::ZERO));
        loop {
            let source = match self.consumer.fetch_metadata(None, TRY) {
                Ok(metadata) => {
                    let topics = metadata.topics().iter();
                    let sized = topics.map(|t| (t.name().to_owned(), t.partitions().len()));
                    return Ok(sized.collect());
                }
                Err(source) => source,
            };
            drop(self.consumer.poll(Duration::ZERO));
            let reason = self.consumer.context().reason();
            let is_clear = reason.as_deref().is_some_and(is_reason_of_credentials);
            if is_clear || Instant::now() >= deadline {
                let reason = reason.unwrap_or_else(|| source.to_string());
                return Err(Unreachable::new(&self.kafka.brokers, reason, source));
            }
        }
    }

    /// A request that no broker answered.
    pub fn unreachable(&self, error: KafkaError) -> Unreachable {
        Unreachable::new(&self.kafka.brokers, error.to_string(), error)
    }

    /// The right that a topic is hidden for; `None` where it does not exist. `operation` is what the
    /// client needs it for.
    pub fn hidden(&self, topic: &str, operation: &'static str) -> Option<MissingRight> {
        let asked = self.consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT);
        let metadata = asked.ok()?;
        let error = metadata.topics().first()?.error()?;
        let access = Access::of_topic(operation, topic);
        access.missing_of_code(error.into(), &self.kafka)
    }

    /// Reads the ends of topics, as a client with the name of a group that it does not join: so a
    /// right that is missing is found before the first record needs it.
    ///
    /// # Errors
    /// [`CheckError::Right`]; what has another cause is found by whoever reads the topic.
    pub fn check_reads(&self, group: &str, topics: &[&str]) -> Result<(), CheckError> {
        let mut config = reader_config(&self.kafka, "outlierd-check", group);
        config
            // At the end of an open transaction too.
            .set("isolation.level", "read_uncommitted")
            // Nothing comes after the ends.
            .set("fetch.wait.max.ms", "10");
        let context = QuietClientContext::of(&self.kafka);
        let consumer = consumer(&self.kafka, &config, context)?;
        let Err(error) = read_ends(&consumer, topics) else {
            return Ok(());
        };
        let missing = |topic: &str, error: &KafkaError| {
            let access = Access {
                group,
                ..Access::of_topic(READ, topic)
            };
            access.missing(error, &self.kafka)
        };
        // The error of a topic does not say of which one.
        let of_group = is_of_group(&error).then(|| missing("", &error)).flatten();
        let right = of_group.or_else(|| {
            let mut refused = topics.iter();
            refused.find_map(|topic| missing(topic, &read_ends(&consumer, &[topic]).err()?))
        });
        right.map_or(Ok(()), |right| Err(right.into()))
    }
}

/// Why the brokers could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The brokers refuse it.
    #[error(transparent)]
    Right(#[from] MissingRight),
    /// librdkafka rejects the properties.
    #[error("librdkafka rejected the consumer's properties: {0}")]
    Config(#[from] KafkaError),
}

impl Failure for CheckError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Right(right) => right.class(),
            Self::Config(error) => error.class(),
        }
    }
}

/// Reads the end of the first partition of each topic.
fn read_ends<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &[&str],
) -> Result<(), KafkaError> {
    let mut ends = TopicPartitionList::new();
    for topic in topics {
        ends.add_partition_offset(topic, 0, Offset::End)?;
    }
    consumer.assign(&ends)?;
    let deadline = Instant::now() + READ_TIMEOUT;
    let mut left = ends.count();
    let mut read = BTreeSet::new();
    while left > 0 && Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            // A record came after the end was asked for.
            Some(Ok(message)) if read.insert(message.topic().to_owned()) => left -= 1,
            Some(Err(error)) if !error.is_retryable() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
