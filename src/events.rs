//! Operational events: one struct each, whose `emit` writes the log line and moves the metric together.
//!
//! Levels by who must act: ERROR means that data is lost or an operator must act, WARN that the service degraded and
//! helps itself, INFO what an operator wants to see in a quiet log. Nothing is logged for each record; counters are
//! moved once for each micro-batch.

pub mod published;
pub mod retrain;
pub mod share;

use std::path::Path;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tracing::{error, info, warn};

use crate::record::alert::Alert;
use crate::record::{FaultKind, RejectReason, Verdict};

/// Help texts of all metrics, for the Prometheus page.
pub fn describe_metrics() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "outlierd_records_total",
        "Records read from the input topic"
    );
    describe_counter!("outlierd_verdicts_total", "Records by verdict");
    describe_counter!(
        "outlierd_rejected_total",
        "Records sent to the dead letters, by reason"
    );
    describe_counter!("outlierd_faults_total", "Faulty sensor readings, by kind");
    describe_counter!(
        "outlierd_alerts_total",
        "Published alert events, by kind and event"
    );
    describe_counter!("outlierd_coerced_total", "Numbers that came as text");
    describe_counter!(
        "outlierd_out_of_order_total",
        "Records behind the newest of their series, and scored"
    );
    describe_counter!("outlierd_muted_total", "Alert events held back by a mute");
    describe_counter!(
        "outlierd_restored_states_total",
        "States read from the changelog"
    );
    describe_counter!("outlierd_commits_total", "Commits of states and offsets");
    describe_counter!(
        "outlierd_lane_restarts_total",
        "Lanes that went back to their last commit"
    );
    describe_histogram!(
        "outlierd_batch_seconds",
        "Time of one micro-batch from decode to outputs"
    );
    describe_gauge!(
        "outlierd_alerts_budgeted",
        "Anomalies that threshold.budget allows for the records scored; beside outlierd_alerts_total of event open"
    );
    describe_gauge!("outlierd_series", "Series held in memory by a lane");
    describe_gauge!(
        "outlierd_consumer_lag_records",
        "Records of a partition that are not consumed yet"
    );
    describe_gauge!(
        "outlierd_learning_records",
        "Records learned so far by a stream without a bundle"
    );
    describe_gauge!("outlierd_partitions", "Input partitions owned by a lane");
    retrain::describe_metrics();
    share::describe_metrics();
}

/// What one micro-batch of a lane came to.
#[derive(Default, Debug)]
pub struct BatchDone {
    /// Records polled.
    pub records: u64,
    /// By [`Verdict`], in its order.
    pub verdicts: [u64; Verdict::ALL.len()],
    /// Numbers that came as text.
    pub coerced: u64,
    /// Records scored although behind their series.
    pub out_of_order: u64,
    /// Dead letters.
    pub rejected: Vec<RejectReason>,
    /// Faulty readings.
    pub faults: Vec<FaultKind>,
    /// Anomalies that the budget allows for the scored records.
    pub budgeted: f64,
}

impl BatchDone {
    /// Counts one verdict.
    pub fn count(&mut self, verdict: Verdict) {
        self.verdicts[verdict as usize] += 1;
    }

    /// Moves the metrics.
    pub fn emit(&self, stream: &str, took: Duration) {
        let stream = stream.to_owned();
        counter!("outlierd_records_total", "stream" => stream.clone()).increment(self.records);
        for verdict in Verdict::ALL {
            let n = self.verdicts[verdict as usize];
            if n > 0 {
                counter!("outlierd_verdicts_total", "stream" => stream.clone(), "verdict" => verdict.as_str())
                    .increment(n);
            }
        }
        for reason in &self.rejected {
            counter!("outlierd_rejected_total", "stream" => stream.clone(), "reason" => reason.as_str()).increment(1);
        }
        for kind in &self.faults {
            counter!("outlierd_faults_total", "stream" => stream.clone(), "kind" => kind.as_str())
                .increment(1);
        }
        counter!("outlierd_coerced_total", "stream" => stream.clone()).increment(self.coerced);
        counter!("outlierd_out_of_order_total", "stream" => stream.clone())
            .increment(self.out_of_order);
        gauge!("outlierd_alerts_budgeted", "stream" => stream.clone()).increment(self.budgeted);
        histogram!("outlierd_batch_seconds", "stream" => stream).record(took.as_secs_f64());
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
        gauge!("outlierd_consumer_lag_records", "stream" => self.stream.to_owned(), "partition" => partition)
            .set(self.records as f64);
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
        counter!("outlierd_restored_states_total", "stream" => self.stream.to_owned())
            .increment(self.states as u64);
    }
}

/// A lane stopped taking records, or goes on, because of its output.
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
        let (stream, lane) = (self.stream.to_owned(), self.lane.to_string());
        gauge!("outlierd_input_paused", "stream" => stream.clone(), "lane" => lane)
            .set(f64::from(u8::from(self.paused)));
        if self.paused {
            warn!(
                stream = self.stream,
                lane = self.lane,
                in_flight = self.in_flight,
                "the output is slower than the input: input paused"
            );
            counter!("outlierd_input_pauses_total", "stream" => stream).increment(1);
        } else {
            info!(
                stream = self.stream,
                lane = self.lane,
                in_flight = self.in_flight,
                "input goes on"
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
            "silent for keep.expire_after: forgotten"
        );
        counter!("outlierd_expired_series_total", "stream" => self.stream.to_owned()).increment(1);
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
            "an entry of the changelog has no series' name for a key: skipped; who else writes to this topic?"
        );
        counter!("outlierd_changelog_skipped_total").increment(1);
    }
}

/// An alert event was handed to the output topic.
pub struct AlertPublished<'a>(pub &'a Alert);

impl AlertPublished<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let a = self.0;
        let top = a
            .fields
            .first()
            .map(|f| f.name.as_str())
            .or(a.faults.first().map(|f| f.name.as_str()));
        info!(stream = a.stream, series = a.series, id = a.id, event = a.event.as_str(), kind = a.kind.as_str(),
            severity = ?a.severity, time = a.time, ratio = a.ratio, top_field = top, "alert");
        counter!("outlierd_alerts_total", "stream" => a.stream.clone(), "kind" => a.kind.as_str(), "event" => a.event.as_str())
            .increment(1);
    }
}

/// A stream without a bundle collects records.
pub struct Learning<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Records so far.
    pub done: usize,
    /// Records wanted.
    pub wanted: usize,
}

impl Learning<'_> {
    /// Logs and sets the gauge.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            "learning {}/{}",
            self.done.min(self.wanted),
            self.wanted
        );
        gauge!("outlierd_learning_records", "stream" => self.stream.to_owned())
            .set(self.done as f64);
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
        let info = |bundle: &str| gauge!("outlierd_bundle_info", "stream" => self.stream.to_owned(), "bundle" => bundle.to_owned());
        if let Some(before) = self.before {
            info(before).set(0.0);
        }
        info(self.bundle).set(1.0);
    }
}

/// The first training of a stream failed.
pub struct TrainingFailed<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Why.
    pub error: String,
}

impl TrainingFailed<'_> {
    /// Logs.
    pub fn emit(&self) {
        error!(
            stream = self.stream,
            error = self.error,
            "training failed: the records are dropped, and the next ones are learned from instead"
        );
        counter!("outlierd_training_failures_total", "stream" => self.stream.to_owned())
            .increment(1);
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
        gauge!("outlierd_partitions", "stream" => self.stream.to_owned(), "lane" => self.lane.to_string())
            .set(self.owned as f64);
    }
}

/// A lane goes back to its last commit.
pub struct LaneGoesBack<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The lane's number.
    pub lane: usize,
    /// Why.
    pub error: String,
    /// How long it waits outside its group first; none where it stays in the group.
    pub backoff: Option<Duration>,
}

impl LaneGoesBack<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            lane = self.lane,
            error = self.error,
            left_group = self.backoff.is_some(),
            backoff_ms = self.backoff.unwrap_or_default().as_millis() as u64,
            "lane goes back to its last commit"
        );
        let left_group = if self.backoff.is_some() {
            "true"
        } else {
            "false"
        };
        counter!("outlierd_lane_restarts_total", "stream" => self.stream.to_owned(), "left_group" => left_group)
            .increment(1);
    }
}

/// The state of a series could not be read; the series starts anew.
pub struct StateUnreadable<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The series.
    pub series: &'a str,
    /// Why.
    pub error: String,
}

impl StateUnreadable<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(
            stream = self.stream,
            series = self.series,
            error = self.error,
            "stored state of a series is unreadable: it starts anew from the fleet's calibration"
        );
        counter!("outlierd_state_unreadable_total", "stream" => self.stream.to_owned())
            .increment(1);
    }
}

/// A damaged state folder made way for an empty one.
pub struct StateSetAside<'a> {
    /// Where it was.
    pub folder: &'a Path,
    /// Where it is.
    pub aside: &'a Path,
}

impl StateSetAside<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(folder = %self.folder.display(), kept_as = %self.aside.display(),
            "state folder was damaged and is set aside: series go on from the changelog; what is not in it (delivery = \
             \"at_least_once\", records learned so far) starts anew");
        counter!("outlierd_state_set_aside_total").increment(1);
    }
}
