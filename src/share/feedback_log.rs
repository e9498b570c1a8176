//! The feedback that the control topic holds of one stream: what was said last of each alert.
//!
//! Nothing is handed on and lost: a lane that owns the partition of an alert looks here for what it has not applied yet, at
//! once or whenever it gets the partition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::record::feedback::Feedback;

/// See the module. Shared by the thread that reads the control topic, which writes it, and the lanes of the stream.
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

    /// What was said of alerts whose records are in a partition, in the order in which it was said.
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
