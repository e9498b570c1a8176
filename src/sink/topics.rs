//! The topics that a stream needs: looked up at start, and created where the configuration allows
//! it.

pub mod changelog;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use self::changelog::{check_compaction, extend, new_changelog};
use super::avro::AvroOutput;
use super::{MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES_TEXT};
use crate::config::settings::{ShareSettings, StreamSettings};
use crate::failure::{Failure, FailureClass};
use crate::source::cluster::{CheckError, Cluster, Unreachable};
use crate::source::rights::{ALTER, Access, CREATE, MissingRight, READ, WRITE};
use crate::source::{Delivery, KafkaSettings};

/// `max.message.bytes` of a topic that does not set it.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;
/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What errors have in place of a stream.
pub const SHARED: &str = "[share]";

/// Why the topics of a stream are not ready.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// No broker answered: worth another try.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The brokers refuse a right on a topic or a group.
    #[error("stream {stream}: {source}")]
    Right {
        /// The stream, or `[share]`.
        stream: String,
        /// The right.
        source: CheckError,
    },
    /// The input topic does not exist.
    #[error("stream {stream}: its input topic {topic:?} does not exist on {brokers}; {hint}")]
    NoInput {
        /// The stream.
        stream: String,
        /// `input.topic`.
        topic: String,
        /// `kafka.brokers`.
        brokers: String,
        /// Topics with similar names, or what to do.
        hint: String,
    },
    /// An output topic does not exist, and may not be created.
    #[error("stream {stream}: its output topics {topics} do not exist; create them, or {hint}")]
    NoOutput {
        /// The stream.
        stream: String,
        /// Their names.
        topics: String,
        /// [`Cluster::creation_hint`].
        hint: &'static str,
    },
    /// A shared topic does not exist, and may not be created.
    #[error(
        "the topics of [share] {topics} do not exist; create them with one partition (bundles and control compacted), {hint}, or set their keys to \"\" to disable sharing"
    )]
    NoShared {
        /// Their names.
        topics: String,
        /// [`Cluster::creation_hint`].
        hint: &'static str,
    },
    /// The changelog lacks partitions, and may not get them.
    #[error(
        "stream {stream}: output.states = {topic:?} has {found} partitions, but the input has {wanted}; add partitions (kafka-topics --alter --topic {topic} --partitions {wanted}), or {hint}"
    )]
    Partitions {
        /// The stream.
        stream: String,
        /// `output.states`.
        topic: String,
        /// Partitions of it.
        found: usize,
        /// Partitions of the input.
        wanted: usize,
        /// [`Cluster::creation_hint`].
        hint: &'static str,
    },
    /// An output topic could not be created.
    #[error(
        "stream {stream}: cannot create the topic {topic:?}: {reason}; create it by hand, or allow outlierd to create it"
    )]
    Create {
        /// The stream.
        stream: String,
        /// The topic.
        topic: String,
        /// The broker's error.
        reason: String,
    },
}

impl TopicError {
    /// The brokers do not do an `operation` that a topic needs.
    fn not_created(
        cluster: &Cluster,
        stream: &str,
        operation: &'static str,
        topic: String,
        code: RDKafkaErrorCode,
    ) -> Self {
        let access = Access::of_topic(operation, &topic);
        match access.missing_of_code(code, &cluster.kafka) {
            Some(right) => Self::refused(stream, right),
            None => Self::Create {
                stream: stream.to_owned(),
                topic,
                reason: match operation {
                    ALTER => format!("adding partitions: {code}"),
                    _ => code.to_string(),
                },
            },
        }
    }

    /// The brokers refuse a right to the stream.
    pub fn refused(stream: &str, right: MissingRight) -> Self {
        Self::Right {
            stream: stream.to_owned(),
            source: right.into(),
        }
    }
}

impl Failure for TopicError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Unreachable(error) => error.class(),
            Self::Right { source, .. } => source.class(),
            Self::NoInput { .. }
            | Self::NoOutput { .. }
            | Self::NoShared { .. }
            | Self::Partitions { .. }
            | Self::Create { .. } => FailureClass::USER,
        }
    }
}

/// The topics of a stream, once they are ready.
pub struct StreamTopics {
    /// Partitions of the input.
    pub partitions: usize,
    /// Partitions that the changelog had before this start; `None` where there was none.
    pub known_partitions: Option<usize>,
    /// The topics that were created.
    pub created: Vec<String>,
    /// Largest message that the topic of the dead letters takes, in bytes.
    pub dead_letter_bytes_max: usize,
    /// The writers of alerts and scores in Avro, once the registry has their schemas.
    pub avro: Option<Arc<AvroOutput>>,
}

/// Checks that the topics of a stream exist, and creates missing output topics with the input's
/// number of partitions.
///
/// # Errors
/// See [`TopicError`].
pub async fn prepare(
    cluster: &Cluster,
    stream: &StreamSettings,
) -> Result<StreamTopics, TopicError> {
    let (partitions, known_partitions, created) = check(cluster, stream).await?;
    if known_partitions.is_some() {
        check_compaction(cluster, stream).await;
    }
    let dead_letters = &stream.output.dead_letters;
    let dead_letter_bytes_max = match created.contains(dead_letters) {
        true => MAX_MESSAGE_BYTES,
        false => max_message_bytes(cluster, dead_letters).await,
    };
    Ok(StreamTopics {
        partitions,
        known_partitions,
        created,
        dead_letter_bytes_max,
        avro: None,
    })
}

async fn check(
    cluster: &Cluster,
    stream: &StreamSettings,
) -> Result<(usize, Option<usize>, Vec<String>), TopicError> {
    let kafka = &cluster.kafka;
    let existing = cluster.topics()?;
    let find = |name: &str| {
        existing
            .iter()
            .find(|(topic, _)| topic == name)
            .map(|(_, partitions)| *partitions)
    };
    let Some(partitions) = find(&stream.input.topic) else {
        visible(cluster, &stream.name, &stream.input.topic, READ)?;
        return Err(TopicError::NoInput {
            stream: stream.name.clone(),
            topic: stream.input.topic.clone(),
            brokers: kafka.brokers.clone(),
            hint: hint(&stream.input.topic, &existing),
        });
    };
    let states = (stream.input.delivery == Delivery::ExactlyOnce).then_some(&stream.output.states);
    let known = states.and_then(|topic| find(topic));
    if let Some(found) = known {
        extend(cluster, stream, found, partitions).await?;
    }
    let output = &stream.output;
    let optional = [states, output.scores.as_ref(), output.heat_maps.as_ref()];
    let outputs = [Some(&output.alerts), Some(&output.dead_letters)]
        .into_iter()
        .chain(optional);
    let missing: Vec<&str> = outputs
        .flatten()
        .map(String::as_str)
        .filter(|name| find(name).is_none())
        .collect();
    for topic in &missing {
        visible(cluster, &stream.name, topic, WRITE)?;
    }
    if missing.is_empty() {
        return Ok((partitions, known, Vec::new()));
    }
    if !cluster.creates_topics() {
        return Err(TopicError::NoOutput {
            stream: stream.name.clone(),
            topics: missing.join(", "),
            hint: cluster.creation_hint(),
        });
    }
    let new = missing.iter().map(|name| match *name {
        name if *name == stream.output.states => new_changelog(kafka, name, partitions),
        name => new_topic(kafka, name, partitions),
    });
    create(cluster, &stream.name, new.collect()).await?;
    let created = missing.into_iter().map(str::to_owned).collect();
    Ok((partitions, known, created))
}

/// Largest message that a topic takes, by its configuration or that of its brokers. Without the
/// right to read it, Kafka's default.
async fn max_message_bytes(cluster: &Cluster, topic: &str) -> usize {
    let value = option_of(cluster, topic, "max.message.bytes").await;
    let bytes = value.and_then(|value| value.parse::<usize>().ok());
    let bytes = bytes.unwrap_or_else(|| {
        tracing::info!(
            topic,
            "cannot read max.message.bytes: using Kafka's default"
        );
        DEFAULT_MAX_MESSAGE_BYTES
    });
    bytes.min(MAX_MESSAGE_BYTES)
}

/// An option of a topic; `None` without the right to read it, or a client that can.
async fn option_of(cluster: &Cluster, topic: &str, name: &str) -> Option<String> {
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let topics = [ResourceSpecifier::Topic(topic)];
    let described = cluster.admin.as_ref()?.describe_configs(&topics, &options);
    let described = described.await;
    let described = described.ok()?.pop()?.ok()?;
    described.get(name)?.value.clone()
}

fn new_topic<'n>(kafka: &KafkaSettings, name: &'n str, partitions: usize) -> NewTopic<'n> {
    let count = i32::try_from(partitions).unwrap_or(i32::MAX);
    let replication = TopicReplication::Fixed(kafka.replication_factor);
    NewTopic::new(name, count, replication).set("max.message.bytes", MAX_MESSAGE_BYTES_TEXT)
}

/// Checks that the topics exist that all machines share, and creates those that are missing.
/// Returns their names.
///
/// # Errors
/// See [`TopicError`].
pub async fn prepare_shared(
    cluster: &Cluster,
    share: &ShareSettings,
) -> Result<Vec<String>, TopicError> {
    let kafka = &cluster.kafka;
    let compacted = [share.bundles.as_deref(), share.control.as_deref()];
    let wanted: Vec<&str> = compacted
        .into_iter()
        .chain([share.events.as_deref()])
        .flatten()
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let existing = cluster.topics()?;
    let is_missing = |name: &&str| existing.iter().all(|(topic, _)| topic != name);
    let missing: Vec<&str> = wanted.into_iter().filter(is_missing).collect();
    for topic in &missing {
        let operation = if compacted.contains(&Some(topic)) {
            READ
        } else {
            WRITE
        };
        visible(cluster, SHARED, topic, operation)?;
    }
    if !missing.is_empty() && !cluster.creates_topics() {
        return Err(TopicError::NoShared {
            topics: missing.join(", "),
            hint: cluster.creation_hint(),
        });
    }
    let new = missing.iter().map(|name| {
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(kafka.replication_factor));
        if compacted.contains(&Some(name)) {
            topic.set("cleanup.policy", "compact")
        } else {
            topic
        }
    });
    create(cluster, SHARED, new.collect()).await?;
    Ok(missing.into_iter().map(str::to_owned).collect())
}

/// Whether a topic that is not in the list of all topics does not exist; else the client has no
/// right to see it.
fn visible(
    cluster: &Cluster,
    stream: &str,
    topic: &str,
    operation: &'static str,
) -> Result<(), TopicError> {
    let right = cluster.hidden(topic, operation);
    right.map_or(Ok(()), |right| Err(TopicError::refused(stream, right)))
}

/// Whether the client may read all topics that it has to, and look up its group.
///
/// # Errors
/// [`TopicError::Right`].
pub fn check_reads(
    cluster: &Cluster,
    stream: &str,
    group: &str,
    topics: &[&str],
) -> Result<(), TopicError> {
    let checked = cluster.check_reads(group, topics);
    checked.map_err(|source| TopicError::Right {
        stream: stream.to_owned(),
        source,
    })
}

async fn create(cluster: &Cluster, stream: &str, new: Vec<NewTopic<'_>>) -> Result<(), TopicError> {
    let Some(admin) = cluster.admin.as_ref().filter(|_| !new.is_empty()) else {
        return Ok(());
    };
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    let created = admin.create_topics(&new, &options).await;
    for result in created.map_err(|error| cluster.unreachable(error))? {
        match result {
            // Another instance was quicker.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(TopicError::not_created(
                    cluster, stream, CREATE, topic, code,
                ));
            }
        }
    }
    Ok(())
}

/// Names topics that the operator may have meant.
fn hint(topic: &str, existing: &[(String, usize)]) -> String {
    let wanted = topic.to_lowercase();
    let similar: Vec<&str> = existing
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !name.starts_with("__"))
        .filter(|name| {
            name.to_lowercase().contains(&wanted) || wanted.contains(&name.to_lowercase())
        })
        .take(5)
        .collect();
    if similar.is_empty() {
        "create it, or correct input.topic".into()
    } else {
        format!("did you mean {}?", similar.join(", "))
    }
}
