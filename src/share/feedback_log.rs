//! The feedback that the control topic holds of one stream: what was said last of each alert.
//!
//! Nothing is handed on and lost: a lane that owns the partition of an alert looks here for what it
//! has not applied yet, at once or whenever it gets the partition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::record::feedback::Feedback;

/// See the module. Shared by the thread that reads the control topic, which writes it, and the
/// lanes of the stream.
#[derive(Debug, Default)]
pub struct FeedbackLog {
    /// By what it is about: bounded by the topic, which keeps one message for each.
    said: Mutex<BTreeMap<String, Arc<Feedback>>>,
    /// Counts the changes.
    version: AtomicU64,
}

impl FeedbackLog {
    /// Takes feedback, in place of what was said before of the same alert.
    pub fn insert(&self, feedback: Feedback) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(feedback.subject(), Arc::new(feedback));
        self.version.fetch_add(1, Ordering::Release);
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
