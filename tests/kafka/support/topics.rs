//! What an operator does to topics and groups while a test runs.

use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, TopicPartitionList};

use super::{PATIENCE, admin, block_on, wait_for};

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE))
}

/// Deletes a topic, and waits until it is gone.
pub fn delete_topic(broker: &str, topic: &str) {
    let admin = admin(broker);
    let deleted = block_on(admin.delete_topics(&[topic], &options())).unwrap();
    deleted.into_iter().for_each(|topic| drop(topic.unwrap()));
    wait_for("the topic to be gone", || {
        let metadata = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        found.is_none().then_some(())
    });
}

/// How many partitions a topic has; 0 where it does not exist.
pub fn partitions(broker: &str, topic: &str) -> usize {
    let metadata = admin(broker)
        .inner()
        .fetch_metadata(None, PATIENCE)
        .unwrap();
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    found.map_or(0, |found| found.partitions().len())
}

/// Adds partitions to a topic until it has `count`.
pub fn add_partitions(broker: &str, topic: &str, count: usize) {
    let new = NewPartitions::new(topic, count);
    let added = block_on(admin(broker).create_partitions(&[new], &options())).unwrap();
    added.into_iter().for_each(|topic| drop(topic.unwrap()));
}

/// Deletes the records before an offset of partition 0, as retention does.
pub fn delete_records(broker: &str, topic: &str, before: i64) {
    let mut offsets = TopicPartitionList::new();
    let offset = Offset::Offset(before);
    offsets.add_partition_offset(topic, 0, offset).unwrap();
    let deleted = block_on(admin(broker).delete_records(&offsets, &options())).unwrap();
    for partition in deleted.elements() {
        partition.error().unwrap();
    }
}

/// Sets the committed offset of partition 0, as `kafka-consumer-groups --reset-offsets` does.
pub fn set_offset(broker: &str, group: &str, topic: &str, offset: i64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", group)
        .create()
        .unwrap();
    let mut offsets = TopicPartitionList::new();
    let offset = Offset::Offset(offset);
    offsets.add_partition_offset(topic, 0, offset).unwrap();
    // The group keeps a killed member for a while.
    wait_for("the group to be empty", || {
        consumer.commit(&offsets, CommitMode::Sync).ok()
    });
}

/// Deletes a group with its committed offsets.
pub fn delete_group(broker: &str, group: &str) {
    let admin = admin(broker);
    wait_for("the group to be deleted", || {
        let deleted = block_on(admin.delete_groups(&[group], &options())).unwrap();
        deleted.into_iter().all(|group| group.is_ok()).then_some(())
    });
}
