//! Records of a stream's input, read again: to train on, and for feedback on them.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;

use crate::config::settings::StreamSettings;
use crate::failure::{Failure, FailureClass};
use crate::pipeline::series::SeriesTable;
use crate::pipeline::{Pipeline, PipelineError};
use crate::record::Message;
use crate::record::feedback::RecordRange;
use crate::retrain::set::TrainingRow;
use crate::source::KafkaSettings;
use crate::source::rights::is_of_group;
use crate::source::{BatchBounds, QuietClientContext, consumer, poll_batch, reader_config, view};

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// A topic that yields nothing for this long is taken to be at its end (compacted topics have gaps
/// before it).
const QUIET: Duration = Duration::from_secs(10);
/// Records before an alert that are looked through at first for those of its series, and at most.
const BACK: (i64, i64) = (2_000, 1_000_000);
/// Records of an alert that are taken, the first ones.
const TAKEN_MAX: usize = 10_000;

/// Why the records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The brokers.
    #[error("cannot read the input: {0}")]
    Kafka(#[from] KafkaError),
    /// The decoding.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

impl Failure for HistoryError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Kafka(error) => error.class(),
            Self::Pipeline(error) => error.class(),
        }
    }
}

/// The records that pass the gate and that `keeps` wants, with their offsets, from where the consumer
/// was assigned to the `ends` of its partitions (each the offset behind the last record that is
/// wanted); it stops at `limit` records or more.
///
/// # Errors
/// See [`HistoryError`].
pub fn rows(
    consumer: &BaseConsumer<QuietClientContext>,
    stream: &Arc<StreamSettings>,
    mut ends: Vec<(i32, i64)>,
    limit: usize,
    keeps: impl Fn(&TrainingRow) -> bool,
) -> Result<Vec<(i64, TrainingRow)>, HistoryError> {
    // Without a bundle every record that passes the gate is handed out.
    let mut pipeline = Pipeline::new(stream.clone(), None)?;
    let mut table = SeriesTable::new(stream.record.max_series);
    let mut rows = Vec::new();
    let wait = BatchBounds {
        wait: QUIET,
        ..BatchBounds::of(&stream.input)
    };
    while !ends.is_empty() && rows.len() < limit {
        let at_end = RefCell::new(Vec::new());
        let passes = |error: &KafkaError| match error {
            KafkaError::PartitionEOF(partition) => {
                at_end.borrow_mut().push(*partition);
                true
            }
            error => is_of_group(error),
        };
        let batch = poll_batch(consumer, wait, || !at_end.borrow().is_empty(), passes)?;
        let at_end = at_end.into_inner();
        if batch.is_empty() && at_end.is_empty() {
            break;
        }
        let inside = |m: &Message<'_>| {
            ends.iter()
                .any(|&(p, end)| p == m.partition && m.offset < end)
        };
        let messages: Vec<_> = batch.iter().map(view).filter(inside).collect();
        pipeline.await_schemas(&messages)?;
        let done = pipeline.run(&messages, &mut table, &mut |_, _| Ok(None))?;
        let wanted = done.training_rows().filter(|(_, row)| keeps(row));
        rows.extend(wanted.map(|(outcome, row)| (outcome.offset, row)));
        ends.retain(|(partition, _)| !at_end.contains(partition));
        for message in &batch {
            ends.retain(|&(p, end)| p != message.partition() || message.offset() + 1 < end);
        }
    }
    Ok(rows)
}

/// The records of `series` in a stretch of a partition, with their offsets, and `before` of them
/// before it, as far as the topic still has them.
///
/// # Errors
/// See [`HistoryError`].
pub fn read(
    kafka: &KafkaSettings,
    stream: &Arc<StreamSettings>,
    series: &str,
    at: RecordRange,
    before: usize,
) -> Result<Vec<(i64, TrainingRow)>, HistoryError> {
    let config = reader_config(kafka, "outlierd-history", &stream.input.group);
    let consumer = consumer(kafka, &config, QuietClientContext::of(kafka))?;
    let (low, high) =
        consumer.fetch_watermarks(&stream.input.topic, at.partition, REQUEST_TIMEOUT)?;
    let last = at.last.min(high.saturating_sub(1));
    if at.first > last {
        // The range is the operator's, and the topic may have lost it.
        return Ok(Vec::new());
    }
    let first_back = if before == 0 { 0 } else { BACK.0 };
    let mut back = first_back;
    loop {
        let start = at.first.saturating_sub(back).max(low);
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(
            &stream.input.topic,
            at.partition,
            Offset::Offset(start),
        )?;
        // librdkafka 2.12 aborts the process where a partition is assigned again before it has stopped
        // to read it.
        if back == first_back {
            consumer.assign(&assignment)?;
        } else {
            let sought = consumer.seek_partitions(assignment, REQUEST_TIMEOUT)?;
            sought
                .elements()
                .iter()
                .try_for_each(|partition| partition.error())?;
        }
        let ends = vec![(at.partition, last + 1)];
        // An alert may have been open for weeks: what is kept of it is bounded.
        let limit = usize::try_from(back).unwrap_or(0) + TAKEN_MAX;
        let found = rows(&consumer, stream, ends, limit, |row| row.series == series)?;
        let earlier = found
            .iter()
            .take_while(|(offset, _)| *offset < at.first)
            .count();
        if earlier >= before || start == low || back >= BACK.1 {
            let excess = earlier.saturating_sub(before);
            return Ok(found
                .into_iter()
                .skip(excess)
                .take(before + TAKEN_MAX)
                .collect());
        }
        back = (back * 4).min(BACK.1);
    }
}
