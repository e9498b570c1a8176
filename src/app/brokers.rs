//! What the start asks of the brokers: their topics, and the rights to them.

use std::time::{Duration, Instant};

use super::error::AppError;
use super::schemas::await_schemas;
use crate::config::settings::{Settings, StreamSettings};
use crate::events::daemon::BrokersAwaited;
use crate::failure::Failure;
use crate::sink::topics::{self, SHARED, StreamTopics, TopicError};
use crate::sink::transaction;
use crate::source::Delivery;
use crate::source::cluster::Cluster;
use crate::state::Store;
use crate::web::DaemonStatus;

/// How long the daemon waits between two tries to reach the brokers at start.
const BROKER_RETRY: Duration = Duration::from_secs(3);

/// How long a topic may be missing before that is believed: a broker that has just started does not
/// list its topics for a moment.
const TOPIC_GRACE: Duration = Duration::from_secs(3);
const TOPIC_RETRY: Duration = Duration::from_millis(300);

/// Waits for the brokers, however long they are away, prepares the topics of all streams, and
/// checks the rights to them; then for the schema registry, where an output is Avro.
///
/// # Errors
/// A topic or a right that is missing, brokers without transactions, or a schema that is refused.
pub(super) async fn await_topics(
    settings: &Settings,
    store: &dyn Store,
    status: &DaemonStatus,
) -> Result<Vec<StreamTopics>, AppError> {
    let cluster = Cluster::new(&settings.kafka)?;
    let share = &settings.share;
    once_reachable(status, || topics::prepare_shared(&cluster, share)).await?;
    let mut prepared = Vec::new();
    for (number, stream) in settings.streams.iter().enumerate() {
        let mut topics = once_reachable(status, || topics::prepare(&cluster, stream)).await?;
        if number == 0 {
            let read = [&share.control, &share.bundles].map(Option::as_deref);
            let read: Vec<&str> = read.into_iter().flatten().collect();
            topics::check_reads(&cluster, SHARED, &stream.input.group, &read)?;
        }
        check_reads(&cluster, stream)?;
        if stream.input.delivery == Delivery::ExactlyOnce {
            // Once is enough for the shared topics.
            let shared = Some(share).filter(|_| number == 0);
            let shared = shared.map(|share| [&share.control, &share.bundles, &share.events]);
            let shared = shared.into_iter().flatten().flatten().map(String::as_str);
            let written = stream.output.topics().map(|(_, topic)| topic);
            let written: Vec<&str> = written.chain(shared).collect();
            check_writes(settings, stream, store, &written, status).await?;
        }
        tracing::info!(
            stream = stream.name,
            input = stream.input.topic,
            partitions = topics.partitions,
            created = ?topics.created,
            dead_letter_bytes_max = topics.dead_letter_bytes_max,
            "topics ready"
        );
        topics.avro = await_schemas(settings, stream, status).await?;
        prepared.push(topics);
    }
    Ok(prepared)
}

/// Whether outlierd may read what the stream reads, in each of its groups.
fn check_reads(cluster: &Cluster, stream: &StreamSettings) -> Result<(), TopicError> {
    let name = &stream.name;
    let group = &stream.input.group;
    let mut read = vec![stream.input.topic.as_str()];
    if stream.input.delivery == Delivery::ExactlyOnce {
        read.push(&stream.output.states);
    }
    topics::check_reads(cluster, name, group, &read)?;
    for destination in stream.output.destinations() {
        let group = destination.group(group);
        topics::check_reads(cluster, name, &group, &[&stream.output.alerts])?;
    }
    Ok(())
}

/// Whether the brokers have transactions, and outlierd may write all topics in one. Brokers that go
/// away meanwhile refuse nothing.
async fn check_writes(
    settings: &Settings,
    stream: &StreamSettings,
    store: &dyn Store,
    topics: &[&str],
    status: &DaemonStatus,
) -> Result<(), AppError> {
    let id = format!("{}-{}-check", stream.input.group, store.instance()?);
    let checked = loop {
        match transaction::check(&settings.kafka, stream, &id, topics.iter().copied()) {
            Err(error) if error.is_retryable() => wait(status, &error).await,
            checked => break checked,
        }
    };
    status.starting.clear();
    checked.map_err(|source| {
        let name = stream.name.clone();
        if let Some(right) = source.missing_right(&settings.kafka, stream, &id) {
            return TopicError::refused(&name, right).into();
        }
        match source.fenced(&id) {
            Some(source) => AppError::Fenced {
                stream: name,
                source,
            },
            None => AppError::Transactions {
                stream: name,
                source,
            },
        }
    })
}

/// Waits before the brokers are asked again, and says why.
async fn wait(status: &DaemonStatus, error: &dyn Failure) {
    BrokersAwaited {
        error,
        retry: BROKER_RETRY,
    }
    .emit();
    status.starting.set(error);
    tokio::time::sleep(BROKER_RETRY).await;
}

/// Asks again until a broker answers.
async fn once_reachable<T, F>(
    status: &DaemonStatus,
    mut ask: impl FnMut() -> F,
) -> Result<T, TopicError>
where
    F: Future<Output = Result<T, TopicError>>,
{
    let mut missing: Option<Instant> = None;
    loop {
        match ask().await {
            Err(TopicError::NoInput { .. })
                if missing.get_or_insert_with(Instant::now).elapsed() < TOPIC_GRACE =>
            {
                tokio::time::sleep(TOPIC_RETRY).await;
            }
            Err(error) if error.is_retryable() => {
                wait(status, &error).await;
            }
            answer => {
                status.starting.clear();
                return answer;
            }
        }
    }
}
