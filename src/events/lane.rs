//! Events of a lane's dealings with the brokers that went wrong.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::metric;
use super::published::{Event, EventQueue};
use crate::failure::Failure;
use crate::record::rejections::Rejections;
use crate::record::row::ThresholdCorrection;

/// A lane rewinds to its last commit.
pub struct LaneRewound<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The lane's number.
    pub lane: usize,
    /// Why.
    pub error: &'a dyn Failure,
    /// How long it waits outside its group first; none where it stays in the group.
    pub backoff: Option<Duration>,
}

impl LaneRewound<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            lane = self.lane,
            error = self.error.to_string(),
            domain = self.error.domain().as_str(),
            left_group = self.backoff.is_some(),
            backoff_ms = self.backoff.unwrap_or_default().as_millis() as u64,
            "lane rewound to its last commit"
        );
        let left_group = if self.backoff.is_some() {
            "true"
        } else {
            "false"
        };
        metric::LANE_RESTARTS.add([("stream", self.stream), ("left_group", left_group)], 1);
    }
}

/// Records of a stream were rejected since it was last said.
pub struct RecordsRejected<'a> {
    /// The stream.
    pub stream: &'a str,
    /// How many, and why.
    pub rejections: &'a Rejections,
    /// The topic that has them.
    pub dead_letters: &'a str,
}

impl RecordsRejected<'_> {
    /// Logs; each of them was counted.
    pub fn emit(&self) {
        let (stream, dead_letters) = (self.stream, self.dead_letters);
        warn!(stream, dead_letters, "{}", self.rejections);
    }
}

/// Records of a lane wait for a schema registry that does not answer.
pub struct SchemasAwaited<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The lane's number.
    pub lane: usize,
    /// How many wait that were read already.
    pub records: usize,
    /// Why the registry does not answer.
    pub error: &'a str,
}

impl SchemasAwaited<'_> {
    /// Logs.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            lane = self.lane,
            records = self.records,
            error = self.error,
            "records wait for their schemas: the schema registry does not answer"
        );
    }
}

/// A lane steps over a record that failed again and again.
pub struct RecordSteppedOver<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Partition of the record.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Why it failed.
    pub error: &'a str,
    /// Whether it gets a dead letter: a topic may refuse that too.
    pub has_dead_letter: bool,
}

impl RecordSteppedOver<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(
            stream = self.stream,
            partition = self.partition,
            offset = self.offset,
            error = self.error,
            has_dead_letter = self.has_dead_letter,
            "record not scored: it failed again and again"
        );
        metric::STEPPED_OVER.add([("stream", self.stream)], 1);
    }
}

/// A batch corrected the thresholds of series.
pub struct ThresholdsCorrected<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Each series and its correction.
    pub corrections: &'a [(Arc<str>, ThresholdCorrection)],
}

impl ThresholdsCorrected<'_> {
    /// Logs, counts and publishes.
    pub fn emit(&self, queue: &EventQueue) {
        for (series, found) in self.corrections {
            info!(
                stream = self.stream,
                series = &**series,
                from = found.from,
                to = found.to,
                reason = found.reason.as_str(),
                "thresholds corrected"
            );
            let labels = [("stream", self.stream), ("reason", found.reason.as_str())];
            metric::THRESHOLDS_CORRECTED.add(labels, 1);
            queue.put(
                self.stream,
                Event::ThresholdsCorrected {
                    series: series.to_string(),
                    from: found.from,
                    to: found.to,
                    reason: found.reason,
                },
            );
        }
    }
}

/// Sensors that were faulty for `gate.doubt_after` are scored again.
pub struct CalibrationDoubted<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The series.
    pub series: &'a str,
    /// Name of the sensor's field.
    pub field: &'a str,
}

impl CalibrationDoubted<'_> {
    /// Logs; the fault of this kind is counted with those of its batch.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            series = self.series,
            field = self.field,
            "calibration doubtful: the sensor is scored again with a relearned range"
        );
    }
}

/// The consumer of a lane reported an error that librdkafka retries.
pub struct ConsumerFailed<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The lane's number.
    pub lane: usize,
    /// What librdkafka reports.
    pub error: &'a dyn Failure,
    /// Whether the log is due for another line about such errors.
    pub is_logged: bool,
}

impl ConsumerFailed<'_> {
    /// Counts, and logs where it is due.
    pub fn emit(&self) {
        if self.is_logged {
            warn!(
                stream = self.stream,
                lane = self.lane,
                error = %self.error,
                domain = self.error.domain().as_str(),
                "consumer error: librdkafka retries"
            );
        }
        metric::CONSUMER_ERRORS.add([("stream", self.stream)], 1);
    }
}

/// The group's offsets could not be committed, although the store has the positions.
pub struct OffsetsNotCommitted<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Why.
    pub error: &'a dyn Failure,
}

impl OffsetsNotCommitted<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            error = %self.error,
            domain = self.error.domain().as_str(),
            "cannot commit offsets; the stored positions are used at the next start"
        );
        metric::OFFSETS_NOT_COMMITTED.add([("stream", self.stream)], 1);
    }
}

/// A transaction could not be aborted.
pub struct TransactionNotAborted<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Why.
    pub error: &'a dyn Failure,
}

impl TransactionNotAborted<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            error = %self.error,
            domain = self.error.domain().as_str(),
            "cannot abort the transaction: it is aborted at the next start"
        );
        metric::TRANSACTIONS_NOT_ABORTED.add([("stream", self.stream)], 1);
    }
}

/// The group coordinator does not give the committed offsets yet.
pub struct OffsetsAwaited<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The lane's number.
    pub lane: usize,
    /// How long the lane has waited.
    pub waited: Duration,
}

impl OffsetsAwaited<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            lane = self.lane,
            waited_s = self.waited.as_secs(),
            "waiting for the group's committed offsets"
        );
        metric::OFFSETS_AWAITED.add([("stream", self.stream)], 1);
    }
}
