//! Records of a stream's input, read again for what an operator says of them.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use crate::config::settings::{Kafka, Stream};
use crate::pipeline::series::SeriesTable;
use crate::pipeline::{Pipeline, PipelineError};
use crate::record::feedback::Records;
use crate::retrain::set::TrainingRow;
use crate::source::{Bounds, client_config, poll_batch, view};

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the input may yield nothing before its end is taken to be reached.
const QUIET: Duration = Duration::from_secs(10);
/// Records before an alert that are looked through at first for those of its series, and at most.
const BACK: (i64, i64) = (2_000, 1_000_000);
/// Records of an alert that are taken, the first ones.
const TAKEN_MAX: usize = 10_000;

/// Why the records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The brokers.
    #[error("the input could not be read again: {0}")]
    Kafka(#[from] KafkaError),
    /// The decoding.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

/// The records of `series` in a stretch of a partition, with their offsets, and `before` of them before it, as far as the
/// topic still has them.
///
/// # Errors
/// See [`HistoryError`].
pub fn read(
    kafka: &Kafka,
    stream: &std::sync::Arc<Stream>,
    series: &str,
    at: Records,
    before: usize,
) -> Result<Vec<(i64, TrainingRow)>, HistoryError> {
    let mut config = client_config(kafka, "outlierd-history");
    // librdkafka wants a group to be named even where none is joined.
    config
        .set("group.id", "outlierd-history")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create()?;
    let (low, high) = consumer.fetch_watermarks(&stream.input.topic, at.partition, REQUEST_TIMEOUT)?;
    let last = at.last.min(high - 1);
    let mut back = if before == 0 { 0 } else { BACK.0 };
    loop {
        let start = (at.first - back).max(low);
        let found = read_from(&consumer, stream, series, at.partition, start, last)?;
        let earlier = found.iter().take_while(|(offset, _)| *offset < at.first).count();
        if earlier >= before || start == low || back >= BACK.1 {
            let excess = earlier.saturating_sub(before);
            return Ok(found.into_iter().skip(excess).take(before + TAKEN_MAX).collect());
        }
        back = (back * 4).min(BACK.1);
    }
}

fn read_from(
    consumer: &BaseConsumer,
    stream: &std::sync::Arc<Stream>,
    series: &str,
    partition: i32,
    start: i64,
    last: i64,
) -> Result<Vec<(i64, TrainingRow)>, HistoryError> {
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(&stream.input.topic, partition, Offset::Offset(start))?;
    consumer.assign(&assignment)?;
    // Without a bundle every record that passes the gate is handed out.
    let mut pipeline = Pipeline::new(stream.clone(), None)?;
    let mut table = SeriesTable::new(stream.record.max_series);
    let mut found = Vec::new();
    let mut progress = Instant::now();
    let mut reached = start - 1;
    while reached < last && progress.elapsed() < QUIET {
        let bounds = Bounds { wait: Duration::from_millis(100), ..Bounds::of(&stream.input) };
        let batch = poll_batch(consumer, bounds, || false, |_| true)?;
        let messages: Vec<_> = batch.iter().map(view).filter(|message| message.offset <= last).collect();
        reached = messages.last().map_or(reached, |message| message.offset);
        if batch.len() > messages.len() {
            reached = last;
        }
        if !batch.is_empty() {
            progress = Instant::now();
        }
        let done = pipeline.run(&messages, &mut table, &mut |_, _| None)?;
        let rows = done.learned.into_iter().filter(|(_, row)| row.series == series);
        found.extend(rows.filter_map(|(message, row)| Some((messages.get(message)?.offset, row))));
    }
    Ok(found)
}
