//! What a lane does between two batches: it applies feedback, and publishes what concerns the
//! stream as a whole.
//!
//! All of it changes states or notes of partitions, and is committed like the results of records.

use std::time::{Duration, Instant};

use rdkafka::message::{BorrowedMessage, Message as _};

use super::{LaneState, load};
use crate::lane::detector;
use crate::lane::error::LaneError;
use crate::lane::group::GroupMember;
use crate::lane::silence::Newest;
use crate::record::EventTime;
use crate::record::alert::Alert;
use crate::record::feedback::{Feedback, FeedbackEffect};
use crate::retrain::engine::{Sight, fingerprint};
use crate::share::feedback_log::FeedbackLog;

/// How often feedback that had to wait is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Keys of the notes of applied feedback start so; what it is about follows.
const APPLIED: &str = "feedback/";

/// Which feedback has been looked at.
#[derive(Default)]
pub(super) struct FeedbackSeen {
    /// The version of the log; `None` where partitions have come since.
    version: Option<u64>,
    /// When some of it had to wait.
    waits: Option<Instant>,
}

impl LaneState {
    /// Applies feedback on alerts in owned partitions that was not applied yet, each
    /// once.
    ///
    /// # Errors
    /// Where the state of a series cannot be read.
    pub(in crate::lane) fn apply_feedback(&mut self, log: &FeedbackLog) -> Result<(), LaneError> {
        let version = Some(log.version());
        let retries = self
            .feedback
            .waits
            .is_some_and(|since| since.elapsed() >= RETRY_EVERY);
        if self.feedback.version == version && !retries {
            return Ok(());
        }
        let mut owned: Vec<i32> = self.owned.iter().copied().collect();
        owned.sort_unstable();
        let mut waits = false;
        for partition in owned {
            for feedback in log.of_partition(partition) {
                waits |= self.apply(partition, &feedback)? == FeedbackEffect::Later;
            }
        }
        self.feedback = FeedbackSeen {
            version,
            waits: waits.then(Instant::now),
        };
        Ok(())
    }

    /// Forgets what was looked at: partitions have come.
    pub(super) fn look_at_feedback_again(&mut self) {
        self.feedback = FeedbackSeen::default();
    }

    fn apply(&mut self, partition: i32, feedback: &Feedback) -> Result<FeedbackEffect, LaneError> {
        let key = format!("{APPLIED}{}", feedback.subject());
        let applied = fingerprint(feedback);
        if self.notes.get::<Vec<u8>>(partition, &key).as_ref() == Some(&applied) {
            return Ok(FeedbackEffect::Nothing);
        }
        // After a crash at_least_once delivery reads records again that led to the alert: they come
        // first.
        let last = feedback.records.map_or(0, |records| records.last);
        if self.next_offset(partition).is_none_or(|next| next <= last) {
            return Ok(FeedbackEffect::Later);
        }
        let store = self.store.clone();
        let stream = self.stream.clone();
        let mut load = |partition, series: &str| load(&*store, &stream.name, partition, series);
        let slot = self
            .table
            .known_slot(partition, &feedback.series, &mut load)?;
        let taught = match slot.and_then(|slot| self.table.get_mut(slot)) {
            Some(found) => (self.pipeline.detector).apply_feedback(&mut found.state, feedback),
            // The series has been forgotten.
            None => FeedbackEffect::Nothing,
        };
        if taught != FeedbackEffect::Later {
            self.notes.put(partition, &key, &applied)?;
            self.urgent = true;
        }
        Ok(taught)
    }

    /// Looks whether the topic as a whole is silent, and publishes the alerts that a batch closes,
    /// or its absence opens.
    ///
    /// # Errors
    /// Where an alert cannot be sent.
    pub(in crate::lane) fn watch_topic(
        &mut self,
        batch: &[BorrowedMessage<'_>],
        at_end: bool,
    ) -> Result<(), LaneError> {
        let now = Instant::now();
        let alerts = if batch.is_empty() {
            let partitions = self.owned.len();
            let episodes = &self.pipeline.episodes;
            let opened =
                self.topic
                    .saw_nothing(at_end, partitions, episodes, now, &mut self.notes)?;
            opened.into_iter().collect()
        } else {
            self.topic.observe(&newest(batch), now, &mut self.notes)?
        };
        self.publish(alerts)
    }

    /// Publishes where the stream's detector has gone blind, or sees again, if partition 0 is
    /// owned.
    ///
    /// # Errors
    /// Where the alert cannot be sent.
    pub(in crate::lane) fn follow_detector(
        &mut self,
        sight: Option<&Sight>,
        consumer: &dyn GroupMember,
    ) -> Result<(), LaneError> {
        let partition = detector::PARTITION;
        let Some(sight) = sight.filter(|_| self.owned.contains(&partition)) else {
            return Ok(());
        };
        if detector::is_followed(sight, &self.notes) {
            return Ok(());
        }
        if self.next_offset(partition).is_none() {
            // Nothing was ever read of it: a commit needs its position all the same.
            let end = consumer.end_of_empty(&self.stream.input.topic, partition);
            self.committed.extend(end.map(|end| (partition, end)));
        }
        if self.next_offset(partition).is_none() {
            return Ok(());
        }
        let alert = detector::follow(sight, &self.pipeline.episodes, &mut self.notes)?;
        self.publish(alert)
    }

    /// Sends alerts; they are published with the next commit.
    pub(super) fn publish(
        &mut self,
        alerts: impl IntoIterator<Item = Alert>,
    ) -> Result<(), LaneError> {
        for alert in alerts {
            self.sink.alert(&alert)?;
            tracing::debug!(
                id = alert.id,
                event = alert.event.as_str(),
                "alert waits for its commit"
            );
            self.sent.push(alert);
            self.urgent = true;
        }
        Ok(())
    }
}

/// The newest record of each partition of a batch; that of the batch is the last one.
fn newest(batch: &[BorrowedMessage<'_>]) -> Vec<(i32, Newest)> {
    let mut found: Vec<(i32, Newest)> = Vec::new();
    for message in batch.iter().rev() {
        if found.iter().any(|(of, _)| *of == message.partition()) {
            continue;
        }
        let time = message
            .timestamp()
            .to_millis()
            .map_or_else(EventTime::now, EventTime::from_millis);
        let offset = message.offset();
        found.push((message.partition(), Newest { offset, time }));
    }
    found.reverse();
    found
}
