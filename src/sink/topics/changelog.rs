//! The changelog of a stream: created, and given the partitions of its input.

use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic};
use rdkafka::error::RDKafkaErrorCode;

use super::{REQUEST_TIMEOUT, TopicError, create, new_topic, option_of};
use crate::config::settings::StreamSettings;
use crate::events::position::{ChangelogExtended, ChangelogNotCompacted};
use crate::source::KafkaSettings;
use crate::source::cluster::Cluster;
use crate::source::rights::ALTER;

/// Gives a running stream the changelog that its input topic with so many `partitions` needs:
/// creates it where it was deleted, and adds partitions where it has fewer.
///
/// # Errors
/// See [`TopicError`].
pub async fn prepare_changelog(
    cluster: &Cluster,
    stream: &StreamSettings,
    partitions: usize,
) -> Result<(), TopicError> {
    let (kafka, topic) = (&cluster.kafka, &stream.output.states);
    let existing = cluster.topics()?;
    let found = existing.into_iter().find(|(name, _)| name == topic);
    if let Some((_, found)) = found {
        return extend(cluster, stream, found, partitions).await;
    }
    if !cluster.creates_topics() {
        return Err(TopicError::NoOutput {
            stream: stream.name.clone(),
            topics: topic.clone(),
            hint: cluster.creation_hint(),
        });
    }
    let new = vec![new_changelog(kafka, topic, partitions)];
    create(cluster, &stream.name, new).await?;
    ChangelogExtended {
        stream: &stream.name,
        topic,
        before: 0,
        partitions,
    }
    .emit();
    Ok(())
}

/// Adds the partitions that the changelog lacks; one with more of them is left as it is.
pub(super) async fn extend(
    cluster: &Cluster,
    stream: &StreamSettings,
    found: usize,
    wanted: usize,
) -> Result<(), TopicError> {
    let topic = &stream.output.states;
    if found >= wanted {
        return Ok(());
    }
    let Some(admin) = cluster.admin.as_ref().filter(|_| cluster.creates_topics()) else {
        return Err(TopicError::Partitions {
            stream: stream.name.clone(),
            topic: topic.clone(),
            found,
            wanted,
            hint: cluster.creation_hint(),
        });
    };
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    let new = [NewPartitions::new(topic, wanted)];
    let added = admin.create_partitions(&new, &options).await;
    for result in added.map_err(|error| cluster.unreachable(error))? {
        match result {
            // Another instance was quicker.
            Ok(_) | Err((_, RDKafkaErrorCode::InvalidPartitions)) => {}
            Err((topic, code)) => {
                let name = &stream.name;
                return Err(TopicError::not_created(cluster, name, ALTER, topic, code));
            }
        }
    }
    ChangelogExtended {
        stream: &stream.name,
        topic,
        before: found,
        partitions: wanted,
    }
    .emit();
    Ok(())
}

/// A changelog that is to be created.
pub(super) fn new_changelog<'n>(
    kafka: &KafkaSettings,
    name: &'n str,
    partitions: usize,
) -> NewTopic<'n> {
    new_topic(kafka, name, partitions).set("cleanup.policy", "compact")
}

/// Reports a changelog that is not compacted: its brokers delete the states of series that send
/// rarely.
pub async fn check_compaction(cluster: &Cluster, stream: &StreamSettings) {
    let topic = &stream.output.states;
    let policy = option_of(cluster, topic, "cleanup.policy").await;
    if let Some(policy) = policy.filter(|policy| policy != "compact") {
        ChangelogNotCompacted {
            stream: &stream.name,
            topic,
            policy: &policy,
        }
        .emit();
    }
}
