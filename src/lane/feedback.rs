//! Feedback on alerts, as a lane applies it to the states of its series: each once, which is a note
//! of the partition that is committed with the state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::LaneError;
use super::notes::PartitionNotes;
use super::positions::PartitionPositions;
use super::stored_states::StoredStates;
use crate::pipeline::Pipeline;
use crate::pipeline::series::SeriesTable;
use crate::record::feedback::{Feedback, FeedbackEffect};
use crate::retrain::engine::fingerprint;
use crate::share::feedback_log::{FEEDBACK_MAX, FeedbackLog};

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

/// What feedback is applied to.
pub(super) struct FeedbackReceiver<'l> {
    pub(super) positions: &'l PartitionPositions,
    pub(super) notes: &'l mut PartitionNotes,
    pub(super) table: &'l mut SeriesTable,
    pub(super) states: &'l StoredStates,
    pub(super) pipeline: &'l Pipeline,
}

impl FeedbackSeen {
    /// Applies feedback on alerts in owned partitions that was not applied yet. Returns whether
    /// there was any.
    ///
    /// # Errors
    /// Where the state of a series cannot be read.
    pub(super) fn apply_new(
        &mut self,
        log: &FeedbackLog,
        receiver: &mut FeedbackReceiver<'_>,
    ) -> Result<bool, LaneError> {
        let version = Some(log.version());
        let retries = self
            .waits
            .is_some_and(|since| since.elapsed() >= RETRY_EVERY);
        if self.version == version && !retries {
            return Ok(false);
        }
        let (mut waits, mut applied) = (false, false);
        for partition in receiver.positions.owned() {
            let all = log.of_partition(partition);
            for feedback in &all {
                match receiver.apply(partition, feedback)? {
                    None => {}
                    Some(FeedbackEffect::Later) => waits = true,
                    Some(_) => applied = true,
                }
            }
            forget_expired(receiver.notes, partition, &all);
        }
        *self = Self {
            version,
            waits: waits.then(Instant::now),
        };
        Ok(applied)
    }
}

impl FeedbackReceiver<'_> {
    /// Applies feedback and notes that, unless it has to wait; `None` where it was applied before.
    fn apply(
        &mut self,
        partition: i32,
        feedback: &Feedback,
    ) -> Result<Option<FeedbackEffect>, LaneError> {
        let key = format!("{APPLIED}{}", feedback.subject());
        let applied = fingerprint(feedback);
        if self.notes.get::<Vec<u8>>(partition, &key).as_ref() == Some(&applied) {
            return Ok(None);
        }
        // After a crash at_least_once delivery reads records again that led to the alert: they come
        // first.
        let last = feedback.records.map_or(0, |records| records.last);
        let next = self.positions.next_offset(partition);
        if next.is_none_or(|next| next <= last) {
            return Ok(Some(FeedbackEffect::Later));
        }
        let states = self.states;
        let mut load = |partition, series: &str| states.load(partition, series);
        let slot = self
            .table
            .known_slot(partition, &feedback.series, &mut load)?;
        let effect = match slot.and_then(|slot| self.table.get_mut(slot)) {
            Some(found) => (self.pipeline.detector).apply_feedback(&mut found.state, feedback),
            // The series has been forgotten.
            None => FeedbackEffect::Nothing,
        };
        if effect != FeedbackEffect::Later {
            self.notes.put(partition, &key, &applied)?;
        }
        Ok(Some(effect))
    }
}

/// Removes the notes of applied feedback that the log does not keep any more, where there are more
/// notes than it can hold.
fn forget_expired(notes: &mut PartitionNotes, partition: i32, all: &[Arc<Feedback>]) {
    let applied = notes.keys(partition, APPLIED);
    if applied.len() <= FEEDBACK_MAX {
        return;
    }
    let kept: BTreeSet<String> = all.iter().map(|feedback| feedback.subject()).collect();
    for subject in applied.iter().filter(|subject| !kept.contains(*subject)) {
        notes.remove(partition, &format!("{APPLIED}{subject}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::feedback::FeedbackLabel;

    #[test]
    fn notes_of_feedback_that_nobody_keeps_are_removed_where_there_are_too_many() {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let kept = Arc::new(Feedback {
            stream: "s".into(),
            label: FeedbackLabel::Expected,
            series: "a".into(),
            alert: Some("7".into()),
            from: at,
            until: at,
            records: None,
            peak_score: None,
            bundle: None,
            at,
            note: None,
        });
        let mut notes = PartitionNotes::default();
        notes.put(1, "position", &7u32).unwrap();
        for number in 0..FEEDBACK_MAX {
            let key = format!("{APPLIED}{number}");
            notes.put(1, &key, &vec![0_u8]).unwrap();
        }
        forget_expired(&mut notes, 1, std::slice::from_ref(&kept));
        assert_eq!(notes.keys(1, APPLIED).len(), FEEDBACK_MAX, "there is room");
        let key = format!("{APPLIED}{FEEDBACK_MAX}");
        notes.put(1, &key, &vec![0_u8]).unwrap();
        forget_expired(&mut notes, 1, &[kept]);
        assert_eq!(notes.keys(1, APPLIED), ["7"]);
        assert_eq!(notes.get::<u32>(1, "position"), Some(7));
    }
}
