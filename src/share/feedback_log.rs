//! The feedback that the control topic holds of one stream: what was said last of each alert.
//!
//! Nothing is handed on and lost: a lane that owns the partition of an alert looks here for what it
//! has not applied yet, at once or whenever it gets the partition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::record::feedback::Feedback;

/// Feedback that is kept of a stream: an operator who labels an alert every hour gives as much in a
/// year.
pub const FEEDBACK_MAX: usize = 10_000;

/// See the module. Shared by the thread that reads the control topic, which writes it, and the
/// lanes of the stream.
#[derive(Debug, Default)]
pub struct FeedbackLog {
    /// By what it is about; [`FEEDBACK_MAX`] at most, the newest.
    said: Mutex<BTreeMap<String, Arc<Feedback>>>,
    /// Counts the changes.
    version: AtomicU64,
}

impl FeedbackLog {
    /// Takes feedback, in place of what was said before of the same alert. Returns the oldest one
    /// where that leaves no room for it.
    pub fn insert(&self, feedback: Feedback) -> Option<Arc<Feedback>> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(feedback.subject(), Arc::new(feedback));
        self.version.fetch_add(1, Ordering::Release);
        if said.len() <= FEEDBACK_MAX {
            return None;
        }
        let by_age = |a: &(&String, &Arc<Feedback>), b: &(&String, &Arc<Feedback>)| {
            (a.1.at, a.0).cmp(&(b.1.at, b.0))
        };
        let oldest = said.iter().min_by(by_age)?.0.clone();
        said.remove(&oldest)
    }

    /// How often it has changed.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The feedback on alerts whose records are in a partition, in its order.
    pub fn of_partition(&self, partition: i32) -> Vec<Arc<Feedback>> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |feedback: &&Arc<Feedback>| {
            feedback
                .records
                .is_some_and(|records| records.partition == partition)
        };
        let mut found: Vec<Arc<Feedback>> = said.values().filter(is_there).cloned().collect();
        found.sort_by_key(|feedback| feedback.at);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::feedback::{FeedbackLabel, RecordRange};

    fn said(alert: &str, partition: i32, second: i64) -> Feedback {
        let at = jiff::Timestamp::from_second(second).unwrap();
        Feedback {
            stream: "s".into(),
            label: FeedbackLabel::FalseAlarm,
            series: "a".into(),
            alert: Some(alert.into()),
            from: at,
            until: at,
            records: Some(RecordRange {
                partition,
                first: 1,
                last: 2,
            }),
            peak_score: None,
            bundle: None,
            at,
            note: None,
        }
    }

    #[test]
    fn the_oldest_feedback_makes_room_whatever_times_are_given() {
        let log = FeedbackLog::default();
        let full = i64::try_from(FEEDBACK_MAX).unwrap();
        for second in 1..=full {
            assert!(
                log.insert(said(&format!("alert-{second}"), 0, second))
                    .is_none()
            );
        }
        for (alert, at, dropped) in [
            ("newest", jiff::Timestamp::MAX, "alert-1"),
            ("oldest", jiff::Timestamp::MIN, "oldest"),
            ("next", jiff::Timestamp::UNIX_EPOCH, "next"),
            ("newer", jiff::Timestamp::MAX, "alert-2"),
        ] {
            let feedback = Feedback {
                at,
                ..said(alert, 0, 0)
            };
            let found = log.insert(feedback).unwrap();
            assert_eq!(found.alert.as_deref(), Some(dropped));
            assert_eq!(log.of_partition(0).len(), FEEDBACK_MAX);
        }
    }

    #[test]
    fn it_holds_the_last_word_on_each_alert_of_a_partition() {
        let log = FeedbackLog::default();
        let before = log.version();
        for feedback in [
            said("b", 0, 30),
            said("a", 0, 40),
            said("c", 1, 50),
            said("b", 0, 60),
        ] {
            log.insert(feedback);
        }
        assert_ne!(log.version(), before);
        let times: Vec<i64> = log
            .of_partition(0)
            .iter()
            .map(|feedback| feedback.at.as_second())
            .collect();
        assert_eq!(times, [40, 60], "in the order in which it was said");
    }
}
