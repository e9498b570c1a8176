//! What a lane shows to health checks: whether it runs, and whether it makes progress.

mod rejections;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::error::KafkaError;

pub use self::rejections::RejectionWatch;
use crate::failure::{Failure, PresentFailure};

/// A broker that is connected and answers nothing for longer than this is as good as gone. A lane asks
/// more often than that, be it for the heartbeat of its group alone.
const UNANSWERED_AFTER: Duration = Duration::from_secs(6);

/// A lane that makes no progress for longer than this is not ready.
const STALLED_AFTER: Duration = Duration::from_secs(15);

/// See the module. The lane writes it, from its own thread.
#[derive(Default)]
pub struct LaneStatus {
    /// Partitions owned.
    pub partitions: AtomicUsize,
    /// Series in memory.
    pub series: AtomicUsize,
    /// Series with an open alert, as of the last time that states were stored.
    alerting: AtomicUsize,
    /// Whether the loop runs (not waiting to restart).
    pub running: AtomicBool,
    /// What failed last; cleared once the lane has scored and committed records again, or none
    /// waits.
    failure: PresentFailure,
    /// Of all lanes of the stream.
    pub rejections: Arc<RejectionWatch>,
    progress: Mutex<Progress>,
    /// What librdkafka last reported of its connections, while none is up.
    connection_failure: Mutex<Option<String>>,
    /// Why the schema registry does not answer, while records wait for it.
    registry_failure: Mutex<Option<String>>,
}

struct Progress {
    /// When the loop last began a turn.
    turned: Instant,
    /// When the lane was last a settled member of its group; `None` before the first time.
    joined: Option<Instant>,
    /// When records were last scored or collected, or none waited.
    advanced: Instant,
    /// When records were last read, and when states and positions were last committed.
    read_at: Option<SystemTime>,
    committed_at: Option<SystemTime>,
    /// Whether a broker was connected when librdkafka last reported.
    is_connected: bool,
    /// When librdkafka last reported, and when brokers had answered anything since the report before.
    reported: Instant,
    answered: Instant,
    /// Answers until then.
    answers: u64,
    /// The last error of the consumer since it was a settled member of its group.
    consumer_failure: Option<String>,
    /// Whether records waited then.
    is_behind: bool,
}

impl Default for Progress {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            turned: now,
            joined: None,
            advanced: now,
            read_at: None,
            committed_at: None,
            is_connected: true,
            reported: now,
            answered: now,
            answers: 0,
            consumer_failure: None,
            is_behind: false,
        }
    }
}

/// What the metrics show of a lane.
pub struct LaneObserved {
    /// Whether a broker was connected when librdkafka last reported.
    pub is_connected: bool,
    /// When records were last read; `None` before the first ones.
    pub read_at: Option<SystemTime>,
    /// When states and positions were last committed.
    pub committed_at: Option<SystemTime>,
    /// Series with an open alert, as of the last time that states were stored.
    pub alerting: usize,
}

/// What librdkafka reports of a lane's consumer, every few seconds.
pub(super) struct ConsumerReport {
    /// Whether a broker is connected.
    pub(super) is_connected: bool,
    /// How often brokers have answered, in all.
    pub(super) answers: u64,
    /// Whether the group has given the lane its partitions, which may be none.
    pub(super) is_joined: bool,
    /// Whether records wait.
    pub(super) is_behind: bool,
}

impl LaneStatus {
    /// That of a lane which is not running yet; `rejections` are those of its stream.
    pub fn new(rejections: &Arc<RejectionWatch>) -> Self {
        Self {
            rejections: rejections.clone(),
            ..Self::default()
        }
    }

    /// What failed; `None` while all is well.
    pub fn failure(&self) -> &PresentFailure {
        &self.failure
    }

    /// How many partitions the lane owns, and how many series it has in memory.
    pub(super) fn owns(&self, partitions: usize, series: usize) {
        self.partitions.store(partitions, Ordering::Release);
        self.series.store(series, Ordering::Release);
    }

    /// The loop begins a turn.
    pub(super) fn turns(&self) {
        self.progress().turned = Instant::now();
    }

    /// The group has given the lane its partitions.
    pub(super) fn joined(&self) {
        self.progress().joined = Some(Instant::now());
    }

    /// Records went through the pipeline.
    pub(super) fn advanced(&self) {
        let mut progress = self.progress();
        progress.advanced = Instant::now();
        progress.read_at = Some(SystemTime::now());
    }

    /// What went through the pipeline is committed.
    pub(super) fn committed(&self) {
        let mut progress = self.progress();
        progress.advanced = Instant::now();
        progress.committed_at = Some(SystemTime::now());
        drop(progress);
        self.failure.clear();
    }

    /// So many series have an open alert.
    pub(super) fn alerting(&self, series: usize) {
        self.alerting.store(series, Ordering::Release);
    }

    /// What the metrics show of it.
    pub fn observed(&self) -> LaneObserved {
        let progress = self.progress();
        LaneObserved {
            is_connected: progress.is_connected && self.running.load(Ordering::Acquire),
            read_at: progress.read_at,
            committed_at: progress.committed_at,
            alerting: self.alerting.load(Ordering::Acquire),
        }
    }

    /// An error stopped the lane, or made it rewind.
    pub fn failed(&self, error: &dyn Failure) {
        self.failure.set(error);
    }

    /// The consumer of an input topic failed, and librdkafka tries again.
    pub(super) fn consumer_failed(&self, topic: &str, error: &KafkaError) {
        self.progress().consumer_failure = Some(format!("; input topic {topic}: {error}"));
    }

    /// Records wait for a registry that does not answer, for this reason; or none waits any more.
    pub(super) fn awaits_schemas(&self, reason: Option<String>) {
        *self.registry() = reason;
    }

    fn registry(&self) -> MutexGuard<'_, Option<String>> {
        let kept = self.registry_failure.lock();
        kept.unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a connection to a broker failed.
    pub(super) fn connection_failed(&self, reason: &str) {
        *self.connection() = Some(reason.to_owned());
    }

    /// The reason for the last one that failed since a broker was connected.
    pub(super) fn connection_failure(&self) -> Option<String> {
        self.connection().clone()
    }

    fn connection(&self) -> MutexGuard<'_, Option<String>> {
        let kept = self.connection_failure.lock();
        kept.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reported(&self, report: &ConsumerReport) {
        if report.is_connected {
            *self.connection() = None;
        }
        let now = Instant::now();
        let mut progress = self.progress();
        progress.is_connected = report.is_connected;
        progress.reported = now;
        if report.answers != progress.answers {
            (progress.answers, progress.answered) = (report.answers, now);
        }
        progress.is_behind = report.is_behind;
        if report.is_connected && report.is_joined {
            progress.joined = Some(now);
            progress.consumer_failure = None;
            if !report.is_behind {
                progress.advanced = now;
                self.failure.clear();
            }
        }
    }

    /// Why the lane does no work at `now`, or may not; `None` where it scores whatever comes.
    pub fn not_ready(&self, now: Instant) -> Option<String> {
        if let Some(failure) = self.failure.get() {
            let domain = failure.domain.as_str();
            return Some(format!("{domain} failure: {}", failure.text));
        }
        if !self.running.load(Ordering::Acquire) {
            return Some("starting".into());
        }
        let progress = self.progress();
        let is_long_ago = |at: Instant| now.saturating_duration_since(at) > STALLED_AFTER;
        let limit = STALLED_AFTER.as_secs();
        if is_long_ago(progress.turned) {
            return Some(format!("its loop hangs, for more than {limit} s"));
        }
        if !progress.is_connected {
            let reason = self.connection_failure();
            let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
            return Some(format!("no broker is connected{reason}"));
        }
        let unanswered = progress.reported.duration_since(progress.answered);
        if unanswered > UNANSWERED_AFTER {
            return Some("a broker is connected, and none answers".into());
        }
        let Some(joined) = progress.joined else {
            return Some("its consumer group has assigned no partitions yet".into());
        };
        if is_long_ago(joined) {
            let failure = progress.consumer_failure.as_deref().unwrap_or_default();
            return Some(format!(
                "it has been out of its consumer group for more than {limit} s{failure}"
            ));
        }
        if let Some(reason) = self.registry().as_deref() {
            return Some(format!(
                "records wait for their schemas: the schema registry does not answer: {reason}"
            ));
        }
        if progress.is_behind && is_long_ago(progress.advanced) {
            let text = format!("records wait, and none was processed for more than {limit} s");
            return Some(text);
        }
        self.rejections.unusable(now)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: ConsumerReport = ConsumerReport {
        is_connected: true,
        answers: 1,
        is_joined: true,
        is_behind: false,
    };

    fn running() -> LaneStatus {
        let status = LaneStatus::default();
        status.running.store(true, Ordering::Release);
        status
    }

    /// Why the lane is not ready `seconds` from now.
    fn after(status: &LaneStatus, seconds: u64) -> String {
        let at = Instant::now() + Duration::from_secs(seconds);
        status.not_ready(at).unwrap_or_default()
    }

    #[test]
    fn a_lane_is_ready_once_its_group_has_assigned_partitions_even_none() {
        let status = LaneStatus::default();
        assert_eq!(after(&status, 0), "starting");
        let status = running();
        assert!(after(&status, 0).contains("no partitions yet"));
        status.joined();
        assert_eq!(after(&status, 0), "");
        let spare = running();
        spare.reported(&REPORT);
        assert_eq!(after(&spare, 0), "");
    }

    #[test]
    fn a_lane_without_a_broker_or_out_of_its_group_is_not_ready() {
        let status = running();
        status.joined();
        let is_connected = false;
        status.reported(&ConsumerReport {
            is_connected,
            ..REPORT
        });
        assert_eq!(after(&status, 0), "no broker is connected");
        status.connection_failed("Connection refused");
        let text = "no broker is connected: Connection refused";
        assert_eq!(after(&status, 0), text);
        status.reported(&REPORT);
        assert_eq!(after(&status, 0), "");
        assert_eq!(status.connection_failure(), None);
        let is_joined = false;
        status.reported(&ConsumerReport {
            is_joined,
            ..REPORT
        });
        assert_eq!(after(&status, 1), "", "a rebalance takes its time");
        let late = Instant::now() + Duration::from_secs(20);
        status.progress().turned = late;
        assert!(status.not_ready(late).unwrap().contains("out of its"));
    }

    #[test]
    fn a_lane_whose_broker_answers_nothing_is_not_ready() {
        let status = running();
        status.reported(&REPORT);
        let early = Instant::now() - Duration::from_secs(7);
        status.progress().answered = early;
        status.reported(&REPORT);
        assert!(after(&status, 0).contains("none answers"));
        let answers = 2;
        status.reported(&ConsumerReport { answers, ..REPORT });
        assert_eq!(after(&status, 0), "");
    }

    #[test]
    fn a_loop_that_hangs_is_not_ready() {
        let status = running();
        status.joined();
        assert!(after(&status, 16).contains("hangs"));
        assert_eq!(after(&status, 14), "");
    }

    #[test]
    fn a_lane_that_scores_nothing_while_records_wait_is_not_ready() {
        let is_behind = true;
        let behind = ConsumerReport {
            is_behind,
            ..REPORT
        };
        let status = running();
        status.reported(&behind);
        let late = Instant::now() + Duration::from_secs(16);
        (status.progress().turned, status.progress().joined) = (late, Some(late));
        assert!(status.not_ready(late).unwrap().contains("records wait"));
        status.reported(&REPORT);
        status.progress().joined = Some(late);
        assert_eq!(status.not_ready(late), None, "none waits");
        status.reported(&behind);
        (status.progress().advanced, status.progress().joined) = (late, Some(late));
        assert_eq!(status.not_ready(late), None, "some were scored");
    }

    #[test]
    fn a_failure_lasts_until_records_are_committed_or_none_waits() {
        let status = running();
        status.joined();
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let is_behind = true;
        status.failed(&full);
        status.reported(&ConsumerReport {
            is_behind,
            ..REPORT
        });
        status.advanced();
        assert!(after(&status, 0).starts_with("external failure: "));
        status.committed();
        assert_eq!(after(&status, 0), "");
        status.failed(&full);
        status.reported(&REPORT);
        assert_eq!(after(&status, 0), "");
    }
}
