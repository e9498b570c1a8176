//! Operational events: one struct each, whose `emit` writes the log line and moves the metric
//! together. The metrics are those of the table in [`metric`], which has their names and help
//! texts.
//!
//! Levels by who must act: ERROR means that data is lost or an operator must act, WARN that the
//! service degraded and helps itself, INFO what an operator wants to see in a quiet log. Nothing is
//! logged for each record; counters are moved once for each micro-batch.

pub mod daemon;
pub mod destination;
pub mod lane;
pub mod metric;
pub mod observed;
pub mod position;
pub mod published;
pub mod retrain;
pub mod share;
pub mod store;

use std::time::Duration;

use tracing::{error, info, warn};

use crate::record::alert::Alert;
use crate::record::{FaultKind, RecordVerdict, RejectReason};

/// The counts of one micro-batch of a lane.
#[derive(Default, Debug)]
pub struct BatchMetrics {
    /// Records polled.
    pub records: u64,
    /// By [`RecordVerdict`], in its order.
    pub verdicts: [u64; RecordVerdict::ALL.len()],
    /// Numbers that came as text.
    pub coerced: u64,
    /// Records scored although behind their series.
    pub out_of_order: u64,
    /// Dead letters.
    pub rejected: Vec<RejectReason>,
    /// Faulty readings.
    pub faults: Vec<FaultKind>,
    /// Episodes that opened under a mute.
    pub muted: u64,
    /// Anomalies that the budget allows for the scored records.
    pub budgeted: f64,
}

impl BatchMetrics {
    /// Counts one verdict.
    pub fn count(&mut self, verdict: RecordVerdict) {
        self.verdicts[verdict as usize] += 1;
    }

    /// Adds the counts of the next part of the same batch.
    pub fn append(&mut self, mut next: Self) {
        self.records += next.records;
        for (sum, count) in self.verdicts.iter_mut().zip(next.verdicts) {
            *sum += count;
        }
        self.coerced += next.coerced;
        self.out_of_order += next.out_of_order;
        self.rejected.append(&mut next.rejected);
        self.faults.append(&mut next.faults);
        self.muted += next.muted;
        self.budgeted += next.budgeted;
    }

    /// Moves the metrics.
    pub fn emit(&self, stream: &str, took: Duration) {
        let own = [("stream", stream)];
        metric::RECORDS.add(own, self.records);
        for verdict in RecordVerdict::ALL {
            let n = self.verdicts[verdict as usize];
            if n > 0 {
                metric::VERDICTS.add([("stream", stream), ("verdict", verdict.as_str())], n);
            }
        }
        for reason in &self.rejected {
            metric::REJECTED.add([("stream", stream), ("reason", reason.as_str())], 1);
        }
        for kind in &self.faults {
            metric::FAULTS.add([("stream", stream), ("kind", kind.as_str())], 1);
        }
        metric::COERCED.add(own, self.coerced);
        metric::OUT_OF_ORDER.add(own, self.out_of_order);
        metric::MUTED.add(own, self.muted);
        metric::ALERTS_BUDGETED.add(own, self.budgeted);
        metric::BATCH_SECONDS.record(own, took.as_secs_f64());
    }
}

/// How far a lane is behind in a partition.
pub struct LagMeasured<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The partition.
    pub partition: i32,
    /// Records that are there and not committed.
    pub records: i64,
}

impl LagMeasured<'_> {
    /// Sets the metric.
    pub fn emit(&self) {
        let partition = self.partition.to_string();
        let labels = [("stream", self.stream), ("partition", partition.as_str())];
        metric::CONSUMER_LAG.set(labels, self.records as f64);
    }
}

/// The states of partitions were fetched from the changelog.
pub struct StatesRestored<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The partitions.
    pub partitions: &'a [i32],
    /// States read; a series may have had several.
    pub states: usize,
    /// How long it took.
    pub took: Duration,
}

impl StatesRestored<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        info!(stream = self.stream, partitions = ?self.partitions, states = self.states,
            took_ms = self.took.as_millis() as u64, "states restored from the changelog");
        metric::RESTORED_STATES.add([("stream", self.stream)], self.states as u64);
    }
}

/// A lane paused, or resumed, because of its output.
pub struct InputPaused<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The lane's number.
    pub lane: usize,
    /// Whether it stopped.
    pub paused: bool,
    /// Results on their way to the brokers.
    pub in_flight: usize,
}

impl InputPaused<'_> {
    /// Logs, counts the pauses, and sets the gauge.
    pub fn emit(&self) {
        let lane = self.lane.to_string();
        metric::INPUT_PAUSED.set_flag([("stream", self.stream), ("lane", &lane)], self.paused);
        if self.paused {
            warn!(
                stream = self.stream,
                lane = self.lane,
                in_flight = self.in_flight,
                "the output is slower than the input: input paused"
            );
            metric::INPUT_PAUSES.add([("stream", self.stream)], 1);
        } else {
            info!(
                stream = self.stream,
                lane = self.lane,
                in_flight = self.in_flight,
                "input resumed"
            );
        }
    }
}

/// A series was silent for so long that it is forgotten.
pub struct SeriesExpired<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The series.
    pub series: &'a str,
}

impl SeriesExpired<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            series = self.series,
            "no record for retention.forget_after: state of the series deleted"
        );
        metric::EXPIRED_SERIES.add([("stream", self.stream)], 1);
    }
}

/// The changelog holds something that is no state of a series.
pub struct ChangelogEntrySkipped<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Where it is.
    pub partition: i32,
    /// Where it is.
    pub offset: i64,
}

impl ChangelogEntrySkipped<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(
            topic = self.topic,
            partition = self.partition,
            offset = self.offset,
            "the key of a changelog entry is not a series name: skipped; does another program write to this topic?"
        );
        metric::CHANGELOG_SKIPPED.add([], 1);
    }
}

/// An alert event was published in the output topic.
pub struct AlertPublished<'a> {
    /// The event.
    pub alert: &'a Alert,
    /// How long after the arrival of its records; `None` where no record led to it.
    pub after: Option<Duration>,
}

impl AlertPublished<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let a = self.alert;
        let top = a
            .fields
            .first()
            .map(|f| f.name.as_str())
            .or(a.faults.first().map(|f| f.name.as_str()));
        info!(stream = a.stream, series = a.series, id = a.id, event = a.event.as_str(), kind = a.kind.as_str(),
            severity = ?a.severity, time = a.time, ratio = a.ratio, top_field = top, "alert");
        let labels = [
            ("stream", a.stream.as_str()),
            ("kind", a.kind.as_str()),
            ("event", a.event.as_str()),
        ];
        metric::ALERTS.add(labels, 1);
        if let Some(after) = self.after {
            let stream = [("stream", a.stream.as_str())];
            metric::ALERT_SECONDS.record(stream, after.as_secs_f64());
        }
    }
}

/// A stream without a bundle collects records.
pub struct LearningProgress<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Records so far.
    pub done: usize,
    /// Records wanted.
    pub wanted: usize,
}

impl LearningProgress<'_> {
    /// Logs and sets the gauge.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            "learning {}/{}",
            self.done.min(self.wanted),
            self.wanted
        );
        metric::LEARNING_RECORDS.set([("stream", self.stream)], self.done as f64);
    }
}

/// A bundle scores from now on.
pub struct BundleLive<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Its id.
    pub bundle: &'a str,
    /// The bundle that was live until now.
    pub before: Option<&'a str>,
    /// Model kind.
    pub kind: &'a str,
}

impl BundleLive<'_> {
    /// Logs and sets the gauge.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            bundle = self.bundle,
            kind = self.kind,
            "live"
        );
        let labels = |bundle| [("stream", self.stream), ("bundle", bundle)];
        if let Some(before) = self.before {
            metric::BUNDLE_INFO.set_flag(labels(before), false);
        }
        metric::BUNDLE_INFO.set_flag(labels(self.bundle), true);
    }
}

/// A lane owns other partitions than before.
pub struct PartitionsChanged<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The lane's number.
    pub lane: usize,
    /// `assigned` or `revoked`.
    pub change: &'static str,
    /// Which ones.
    pub partitions: &'a [i32],
    /// How many it owns now.
    pub owned: usize,
}

impl PartitionsChanged<'_> {
    /// Logs and sets the gauge.
    pub fn emit(&self) {
        info!(stream = self.stream, lane = self.lane, partitions = ?self.partitions, owned = self.owned,
            "partitions {}", self.change);
        let lane = self.lane.to_string();
        metric::PARTITIONS.set(
            [("stream", self.stream), ("lane", &lane)],
            self.owned as f64,
        );
    }
}

/// A lane committed states and offsets.
pub struct Committed<'a> {
    /// The stream.
    pub stream: &'a str,
    /// How long it took.
    pub took: Duration,
}

impl Committed<'_> {
    /// Counts.
    pub fn emit(&self) {
        metric::COMMITS.add([("stream", self.stream)], 1);
        metric::COMMIT_SECONDS.record([("stream", self.stream)], self.took.as_secs_f64());
    }
}
