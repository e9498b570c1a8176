//! Feedback on alerts: outlierd trains on the records of false alarms, confirmed faults
//! have to be caught, and what is marked is left out.

use std::collections::BTreeMap;

use super::RetrainEngine;
use crate::events::retrain::TrainedOnExcludedRange;
use crate::events::share::FeedbackApplied;
use crate::events::store::{StoredEntry, StoredEntryIgnored};
use crate::model::bundle::Bundle;
use crate::model::manifest::{Manifest, Segment};
use crate::model::registry::learned_from;
use crate::record::EventTime;
use crate::record::feedback::{Feedback, FeedbackLabel};
use crate::retrain::error::RetrainError;
use crate::retrain::proof::ConfirmedFault;
use crate::retrain::set::{RecordRun, TrainingRow};
use crate::retrain::trial::Sequence;
use crate::state::{Store, StoreError, codec};

/// Key prefix of the notes of confirmed faults; the alert or time range follows.
const CONFIRMED: &str = "confirmed/";
/// Key prefix of the notes of applied feedback; each holds the hash of the feedback.
const APPLIED: &str = "applied/";
/// Confirmed faults that are kept, the newest: each is tried by every contender.
const CONFIRMED_MAX: usize = 200;

/// Changes of notes in the store, by key; `None` removes one.
type NoteChanges = Vec<(String, Option<Vec<u8>>)>;

/// Operator feedback, with the records of the series, as far as the input still has them.
#[derive(Clone, PartialEq, Debug)]
pub struct LabeledFeedback {
    /// The feedback.
    pub feedback: Feedback,
    /// Records with their offsets, in order: those of the alert, and some before it.
    pub records: Vec<(i64, TrainingRow)>,
}

impl RetrainEngine {
    /// Applies operator feedback; once, even if it is received several times.
    ///
    /// # Errors
    /// Where store or model folder cannot be read or written.
    pub fn learn_from(&mut self, labeled: &LabeledFeedback) -> Result<(), RetrainError> {
        let feedback = &labeled.feedback;
        let subject = feedback.subject();
        let applied = vec![(format!("{APPLIED}{subject}"), Some(fingerprint(feedback)))];
        let (done, changes, mut notes) = match feedback.label {
            FeedbackLabel::FalseAlarm | FeedbackLabel::NewNormal => {
                let runs = labeled_normal(labeled);
                let rows: usize = runs.iter().map(|run| run.times.len()).sum();
                (
                    format!("{rows} records added to the training buffer"),
                    self.buffer.add(runs),
                    self.unconfirm(&subject),
                )
            }
            label => {
                let changes = self
                    .buffer
                    .retain(|series, time| !feedback.is_about(series, time));
                let (done, notes) = match label {
                    FeedbackLabel::Confirmed => self.confirm(&subject, labeled)?,
                    FeedbackLabel::MarkRange => (self.mark(feedback)?, self.unconfirm(&subject)),
                    _ => (
                        "excluded from training".to_owned(),
                        self.unconfirm(&subject),
                    ),
                };
                (done, changes, notes)
            }
        };
        notes.extend(applied);
        self.keep(changes, notes)?;
        FeedbackApplied {
            feedback,
            done: &done,
        }
        .emit(&self.event_queue);
        Ok(())
    }

    /// Later feedback on the same alert revokes that it was a fault.
    fn unconfirm(&mut self, subject: &str) -> NoteChanges {
        let was_one = self.confirmed.remove(subject).is_some();
        was_one
            .then(|| (format!("{CONFIRMED}{subject}"), None))
            .into_iter()
            .collect()
    }

    /// Stores a fault that every bundle must detect from now on.
    fn confirm(
        &mut self,
        subject: &str,
        labeled: &LabeledFeedback,
    ) -> Result<(String, NoteChanges), RetrainError> {
        let Some(first) = labeled.feedback.records.map(|records| records.first) else {
            return Ok((
                "it has no records, so no bundle can be tested on it".into(),
                Vec::new(),
            ));
        };
        let begins = labeled
            .records
            .iter()
            .take_while(|(offset, _)| *offset < first)
            .count();
        if begins == labeled.records.len() {
            return Ok((
                "the input no longer has its records: no bundle can be tested on it".into(),
                Vec::new(),
            ));
        }
        let mut sequence = Sequence::default();
        for (_, row) in &labeled.records {
            sequence.times.push(row.time);
            sequence.values.extend_from_slice(&row.values);
        }
        let confirmed = ConfirmedFault { sequence, begins };
        let mut notes = vec![(
            format!("{CONFIRMED}{subject}"),
            Some(codec::encode(&confirmed)?),
        )];
        self.confirmed.insert(subject.to_owned(), confirmed);
        if self.confirmed.len() > CONFIRMED_MAX {
            let began =
                |fault: &ConfirmedFault| fault.sequence.times.first().copied().unwrap_or_default();
            let oldest = self
                .confirmed
                .iter()
                .min_by_key(|(_, fault)| began(fault))
                .map(|(key, _)| key.clone());
            notes.extend(oldest.iter().flat_map(|key| self.unconfirm(key)));
        }
        Ok((
            "every bundle promoted from now on must detect it".into(),
            notes,
        ))
    }

    /// Excludes a time range from training, and reports whether the live bundle was trained on it.
    fn mark(&mut self, feedback: &Feedback) -> Result<String, RetrainError> {
        let name = &self.stream.name;
        let micros = |at: jiff::Timestamp| EventTime(at.as_microsecond());
        let from = micros(feedback.from);
        let until = micros(feedback.until);
        self.registry.mark(
            name,
            &Segment {
                series: feedback.series.clone(),
                from,
                until,
            },
        )?;
        self.excluded = self.registry.excluded(name)?;
        let live = self.registry.load_current(name)?;
        let is_marked = |bundle: &Bundle| self.look_at_marks(&bundle.manifest);
        Ok(match live.as_ref().is_some_and(is_marked) {
            true => "excluded from training; the live bundle was trained on it: train another one with `outlierd model challenge`",
            false => "excluded from training",
        }
        .to_owned())
    }

    /// Whether a bundle was trained on an excluded range; logs it.
    pub(super) fn look_at_marks(&self, manifest: &Manifest) -> bool {
        let name = &self.stream.name;
        let ranges = learned_from(manifest, &self.excluded).count();
        TrainedOnExcludedRange {
            stream: name,
            bundle: &manifest.id,
            ranges,
        }
        .emit(&self.event_queue);
        ranges > 0
    }
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

/// What tells one feedback from another on the same alert.
pub fn fingerprint(feedback: &Feedback) -> Vec<u8> {
    blake3::hash(&serde_json::to_vec(feedback).unwrap_or_default())
        .as_bytes()
        .to_vec()
}

/// The confirmed faults that are stored; an unreadable one is logged and ignored.
pub(super) fn confirmed(
    store: &dyn Store,
    stream: &str,
) -> Result<BTreeMap<String, ConfirmedFault>, StoreError> {
    let mut found = BTreeMap::new();
    for (key, bytes) in store.notes(stream, CONFIRMED)? {
        match codec::decode(&bytes) {
            Ok(fault) => drop(found.insert(key[CONFIRMED.len()..].to_owned(), fault)),
            Err(error) => StoredEntryIgnored {
                stream,
                entry: StoredEntry::ConfirmedFault,
                key: &key,
                error: &error,
            }
            .emit(),
        }
    }
    Ok(found)
}

/// The records of an alert, without those before it, as a run of normal traffic.
fn labeled_normal(labeled: &LabeledFeedback) -> Vec<RecordRun> {
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
