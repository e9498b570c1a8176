//! Feedback on alerts, as the engine gets it, and which of it was applied.

use super::notes::NoteChange;
use crate::record::feedback::Feedback;
use crate::retrain::set::{RecordRun, TrainingRow};
use crate::state::{Commit, Store, StoreError};

/// Key prefix of the notes of applied feedback; each holds the hash of the feedback.
const APPLIED: &str = "applied/";

/// Operator feedback, with the records of the series, as far as the input still has them.
#[derive(Clone, PartialEq, Debug)]
pub struct LabeledFeedback {
    /// The feedback.
    pub feedback: Feedback,
    /// Records with their offsets, in order: those of the alert, and some before it.
    pub records: Vec<(i64, TrainingRow)>,
}

/// The note that this feedback was applied.
pub(super) fn applied(feedback: &Feedback) -> NoteChange {
    let subject = feedback.subject();
    (format!("{APPLIED}{subject}"), Some(fingerprint(feedback)))
}

/// Whether this feedback has been applied before.
///
/// # Errors
/// Where the store cannot be read.
pub fn is_known(store: &dyn Store, feedback: &Feedback) -> Result<bool, StoreError> {
    let key = format!("{APPLIED}{}", feedback.subject());
    let notes = store.notes(&feedback.stream, &key)?;
    Ok(notes
        .into_iter()
        .any(|(found, bytes)| found == key && bytes == fingerprint(feedback)))
}

/// Removes the note that feedback was applied.
///
/// # Errors
/// Where the store cannot be written.
pub fn forget_applied(store: &dyn Store, feedback: &Feedback) -> Result<(), StoreError> {
    if !is_known(store, feedback)? {
        return Ok(());
    }
    let note = (format!("{APPLIED}{}", feedback.subject()), None);
    let commit = Commit {
        notes: vec![note],
        ..Commit::default()
    };
    store.commit(&feedback.stream, &commit)
}

/// What tells one feedback from another on the same alert.
pub fn fingerprint(feedback: &Feedback) -> Vec<u8> {
    blake3::hash(&serde_json::to_vec(feedback).unwrap_or_default())
        .as_bytes()
        .to_vec()
}

/// The records of an alert, without those before it, as a run of normal traffic.
pub(super) fn labeled_normal(labeled: &LabeledFeedback) -> Vec<RecordRun> {
    let Some(of_alert) = labeled.feedback.records else {
        return Vec::new();
    };
    let mut run = RecordRun {
        series: labeled.feedback.series.clone(),
        partition: of_alert.partition,
        ..RecordRun::default()
    };
    (run.offset, run.labeled_normal) = (of_alert.first, true);
    for (_, row) in labeled
        .records
        .iter()
        .filter(|(offset, _)| *offset >= of_alert.first)
    {
        run.times.push(row.time);
        run.values.extend_from_slice(&row.values);
        // Of no bundle: they tell nothing of drift.
        run.scores.push(0.0);
    }
    if run.times.is_empty() {
        Vec::new()
    } else {
        vec![run]
    }
}
