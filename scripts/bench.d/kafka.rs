//! The little of Kafka that the load program needs.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(60);

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// Creates a topic where it is missing.
pub fn create_topic(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for created in runtime.block_on(admin.create_topics(&[new], &options))? {
        match created {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(anyhow!("topic {topic} cannot be created: {code}")),
        }
    }
    Ok(())
}

/// A producer that waits up to `linger` for more before it sends.
pub fn producer(brokers: &str, linger: Duration) -> anyhow::Result<BaseProducer> {
    let mut config = client(brokers);
    config
        .set("linger.ms", linger.as_millis().to_string())
        .set("batch.size", "1000000");
    config.set("queue.buffering.max.messages", "200000");
    config.create().context("the producer cannot be made")
}

/// Hands one record to the producer, and waits where its queue is full.
pub fn send(
    producer: &BaseProducer,
    topic: &str,
    partition: i32,
    key: &str,
    payload: &[u8],
) -> anyhow::Result<()> {
    let mut record = BaseRecord::to(topic)
        .partition(partition)
        .key(key)
        .payload(payload);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error).with_context(|| format!("topic {topic}")),
        }
    }
}

/// Waits until the brokers have everything.
pub fn finish(producer: &BaseProducer) -> anyhow::Result<()> {
    producer
        .flush(TIMEOUT)
        .context("the brokers did not take all records")
}

/// A consumer of committed records that is in no group.
pub fn reader(brokers: &str, topic: &str) -> anyhow::Result<BaseConsumer> {
    let mut config = client(brokers);
    // librdkafka wants a group to be named even where none is joined.
    config
        .set("group.id", format!("bench-{topic}"))
        .set("enable.auto.commit", "false");
    config
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true");
    config.create().context("the consumer cannot be made")
}

/// Starts at the beginning of all partitions of a topic; returns how many they are.
pub fn assign_all(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<usize> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let found = metadata
        .topics()
        .first()
        .map_or(0, |topic| topic.partitions().len());
    anyhow::ensure!(found > 0, "there is no topic {topic}");
    let mut start = TopicPartitionList::new();
    for partition in 0..found {
        start.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&start)?;
    Ok(found)
}
