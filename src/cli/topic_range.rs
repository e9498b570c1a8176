//! Records of a stream's topic between two times, for training: a consumer without a group, which
//! commits nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::Offset;

use crate::config::settings::StreamSettings;
use crate::retrain::set::TrainingRow;
use crate::share::history;
use crate::source::{KafkaSettings, QuietClientContext, consumer, reader_config};

const TIMEOUT: Duration = Duration::from_secs(15);
/// Which part of the topic.
#[derive(clap::Args)]
pub(super) struct TopicRange {
    /// Only records from this Kafka timestamp on (RFC 3339)
    #[arg(long, value_name = "TIME", requires = "from_topic")]
    since: Option<jiff::Timestamp>,
    /// Only records before this Kafka timestamp (RFC 3339)
    #[arg(long, value_name = "TIME", requires = "from_topic")]
    until: Option<jiff::Timestamp>,
}

/// The records that pass the gate, at most `limit`.
pub(super) fn read(
    range: &TopicRange,
    kafka: &KafkaSettings,
    stream: &Arc<StreamSettings>,
    limit: usize,
) -> anyhow::Result<Vec<TrainingRow>> {
    let topic = &stream.input.topic;
    let config = reader_config(kafka, "outlierd-train", &stream.input.group);
    let consumer = consumer(kafka, &config, QuietClientContext::of(kafka))
        .context("cannot create a consumer")?;
    let (start, ends) = bounds(&consumer, topic, range)?;
    consumer.assign(&start)?;

    let rows = history::rows(&consumer, stream, ends, limit, |_| true);
    let rows = rows.with_context(|| format!("topic {topic} could not be read"))?;
    Ok(rows.into_iter().map(|(_, row)| row).take(limit).collect())
}

/// Where each partition starts, and the offset that it ends before.
fn bounds(
    consumer: &BaseConsumer<QuietClientContext>,
    topic: &str,
    range: &TopicRange,
) -> anyhow::Result<(TopicPartitionList, Vec<(i32, i64)>)> {
    let metadata = consumer
        .fetch_metadata(Some(topic), TIMEOUT)
        .context("no broker answered")?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .flat_map(|t| t.partitions().iter().map(|p| p.id()))
        .collect();
    if partitions.is_empty() {
        bail!("topic {topic} does not exist");
    }
    let at = |time: jiff::Timestamp| -> anyhow::Result<TopicPartitionList> {
        let mut times = TopicPartitionList::new();
        for &partition in &partitions {
            times.add_partition_offset(topic, partition, Offset::Offset(time.as_millisecond()))?;
        }
        consumer
            .offsets_for_times(times, TIMEOUT)
            .context("offsets of a time could not be looked up")
    };
    let since = range.since.map(at).transpose()?;
    let until = range.until.map(at).transpose()?;
    let offset_in = |list: &Option<TopicPartitionList>, partition| {
        let found = list.as_ref()?.find_partition(topic, partition)?.offset();
        if let Offset::Offset(offset) = found {
            Some(offset)
        } else {
            None
        }
    };
    let mut start = TopicPartitionList::new();
    let mut ends = Vec::new();
    for &partition in &partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
        let first = match &since {
            None => low,
            // No record is that new.
            Some(_) => offset_in(&since, partition).unwrap_or(high),
        };
        let end = offset_in(&until, partition).unwrap_or(high);
        if first < end {
            start.add_partition_offset(topic, partition, Offset::Offset(first))?;
            ends.push((partition, end));
        }
    }
    Ok((start, ends))
}
