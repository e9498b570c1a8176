//! What does not move by events: the start of each counter, and what is looked up when the metrics are read.

use std::time::SystemTime;

use strum::VariantArray as _;

use super::metric::{self, Counter};
use crate::record::alert::{AlertEvent, AlertKind};
use crate::record::feedback::FeedbackLabel;
use crate::record::{FaultKind, RecordVerdict, RejectReason};

/// Counters of the process.
const OF_PROCESS: [Counter; 5] = [
    metric::CHANGELOG_SKIPPED,
    metric::BROKERS_AWAITED,
    metric::TOKENS_NOT_RENEWED,
    metric::SHARING_FAILURES,
    metric::STATE_SET_ASIDE,
];

/// Counters of a stream that have no other label.
const OF_STREAM: [Counter; 25] = [
    metric::RECORDS,
    metric::STEPPED_OVER,
    metric::COERCED,
    metric::OUT_OF_ORDER,
    metric::MUTED,
    metric::RESTORED_STATES,
    metric::INPUT_PAUSES,
    metric::EXPIRED_SERIES,
    metric::COMMITS,
    metric::EVENTS_DROPPED,
    metric::BUNDLES_PUBLISHED,
    metric::BUNDLES_PRUNED,
    metric::FEEDBACK_EXPIRED,
    metric::FEEDBACK_DROPPED,
    metric::STATE_UNREADABLE,
    metric::RECORDS_LOST,
    metric::CHANGELOG_LOST,
    metric::CHANGELOG_NOT_COMPACTED,
    metric::TRAINING_FAILURES,
    metric::ROLLBACKS,
    metric::BUNDLES_REFUSED,
    metric::CONSUMER_ERRORS,
    metric::OFFSETS_NOT_COMMITTED,
    metric::TRANSACTIONS_NOT_ABORTED,
    metric::OFFSETS_AWAITED,
];

/// The phases of a stream, as `/status` and the metric name them.
pub const PHASES: [&str; 3] = ["learning", "training", "live"];

/// The process has a recorder of metrics.
pub struct ProcessStarted;

impl ProcessStarted {
    /// Starts the counters of the process at 0: a rate needs a value before the first event.
    pub fn emit(&self) {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        metric::BUILD_INFO.set_flag(version, true);
        for counter in OF_PROCESS {
            counter.add([], 0);
        }
        for outcome in ["applied", "rejected"] {
            metric::CONFIG_RELOADS.add([("outcome", outcome)], 0);
        }
    }
}

/// A stream of the configuration is about to start.
pub struct StreamStarts<'a>(pub &'a str);

impl StreamStarts<'_> {
    /// Starts its counters at 0, those by kind, reason, outcome and label too.
    pub fn emit(&self) {
        let stream = ("stream", self.0);
        for counter in OF_STREAM {
            counter.add([stream], 0);
        }
        let by = |counter: Counter, label: &'static str, values: &[&str]| {
            for value in values {
                counter.add([stream, (label, value)], 0);
            }
        };
        let verdicts = RecordVerdict::ALL.map(RecordVerdict::as_str);
        let reasons: Vec<&str> = RejectReason::VARIANTS
            .iter()
            .map(|it| it.as_str())
            .collect();
        let faults: Vec<&str> = FaultKind::VARIANTS.iter().map(|it| it.as_str()).collect();
        let labels: Vec<&str> = FeedbackLabel::VARIANTS
            .iter()
            .map(|it| it.as_str())
            .collect();
        by(metric::VERDICTS, "verdict", &verdicts);
        by(metric::REJECTED, "reason", &reasons);
        by(metric::FAULTS, "kind", &faults);
        by(metric::LANE_RESTARTS, "left_group", &["true", "false"]);
        by(metric::FEEDBACK, "label", &labels);
        by(
            metric::BUNDLES_RECEIVED,
            "outcome",
            &["imported", "rejected"],
        );
        for kind in AlertKind::ALL {
            for event in AlertEvent::VARIANTS {
                let labels = [stream, ("kind", kind.as_str()), ("event", event.as_str())];
                metric::ALERTS.add(labels, 0);
            }
        }
    }
}

/// A stream as it is when the metrics are read.
pub struct StreamObserved<'a> {
    /// Its name.
    pub stream: &'a str,
    /// One of [`PHASES`].
    pub phase: &'a str,
    /// Series that its lanes hold in memory.
    pub series: usize,
    /// Series with an open alert.
    pub open_alerts: usize,
    /// Whether each lane has a connection to a broker.
    pub is_connected: bool,
    /// When records were last read; `None` before the first ones.
    pub last_record: Option<SystemTime>,
    /// When states and positions were last committed.
    pub last_commit: Option<SystemTime>,
}

impl StreamObserved<'_> {
    /// Sets the gauges.
    pub fn emit(&self) {
        let stream = [("stream", self.stream)];
        metric::SERIES.set(stream, self.series as f64);
        metric::OPEN_ALERTS.set(stream, self.open_alerts as f64);
        metric::KAFKA_CONNECTED.set_flag(stream, self.is_connected);
        for phase in PHASES {
            let labels = [("stream", self.stream), ("phase", phase)];
            metric::PHASE.set_flag(labels, phase == self.phase);
        }
        for (gauge, at) in [
            (metric::LAST_RECORD, self.last_record),
            (metric::LAST_COMMIT, self.last_commit),
        ] {
            if let Some(at) = at {
                gauge.set(stream, unix_seconds(at));
            }
        }
    }
}

/// The state store, of all streams, was measured.
pub struct StoreObserved {
    /// Its bytes on disk.
    pub bytes: u64,
}

impl StoreObserved {
    /// Sets the gauge.
    pub fn emit(&self) {
        metric::STORE_BYTES.set([], self.bytes as f64);
    }
}

/// A time as Prometheus has them.
pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
