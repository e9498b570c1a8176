//! What operators say of alerts, taken to heart: normal records are learned from, confirmed faults have to be caught, and
//! what is marked is left out.

use std::collections::BTreeMap;

use super::Engine;
use crate::events::published::Event;
use crate::events::retrain::BundleMarked;
use crate::events::share::FeedbackTaken;
use crate::model::bundle::Bundle;
use crate::model::manifest::{Manifest, Segment};
use crate::model::registry::learned_from;
use crate::record::EventTime;
use crate::record::feedback::{Feedback, Says};
use crate::retrain::error::RetrainError;
use crate::retrain::proof::Confirmed;
use crate::retrain::set::{Run, TrainingRow};
use crate::retrain::trial::Course;
use crate::state::{Store, StoreError, codec};

/// Notes of confirmed faults start so; what they were said of follows.
const CONFIRMED: &str = "confirmed/";
/// Notes of what has been taken to heart start so; the hash of what was said is in them.
const TOLD: &str = "told/";
/// Confirmed faults that are kept, the newest: each is tried by every contender.
const CONFIRMED_MAX: usize = 200;

/// Changes of notes in the store, by key; `None` removes one.
type Notes = Vec<(String, Option<Vec<u8>>)>;

/// What an operator said, with the records of the series that it is about, as far as the input still has them.
#[derive(Clone, PartialEq, Debug)]
pub struct Lesson {
    /// The feedback.
    pub feedback: Feedback,
    /// Records with their offsets, in order: those of the alert, and some before it.
    pub records: Vec<(i64, TrainingRow)>,
}

impl Engine {
    /// Takes to heart what an operator says; once, however often it comes.
    ///
    /// # Errors
    /// Where store or model folder cannot be read or written.
    pub fn learn_from(&mut self, lesson: &Lesson) -> Result<(), RetrainError> {
        let feedback = &lesson.feedback;
        let subject = feedback.subject();
        let told = vec![(format!("{TOLD}{subject}"), Some(fingerprint(feedback)))];
        let (done, changes, mut notes) = match feedback.says {
            Says::FalseAlarm | Says::NewNormal => {
                let runs = taught(lesson);
                let rows: usize = runs.iter().map(|run| run.times.len()).sum();
                (
                    format!("{rows} records added to the training buffer"),
                    self.buffer.add(runs),
                    self.unconfirm(&subject),
                )
            }
            says => {
                let changes = self
                    .buffer
                    .retain(|series, time| !feedback.is_about(series, time));
                let (done, notes) = match says {
                    Says::Confirmed => self.confirm(&subject, lesson)?,
                    Says::MarkRange => (self.mark(feedback)?, self.unconfirm(&subject)),
                    _ => (
                        "excluded from training".to_owned(),
                        self.unconfirm(&subject),
                    ),
                };
                (done, changes, notes)
            }
        };
        notes.extend(told);
        self.keep(changes, notes)?;
        FeedbackTaken {
            feedback,
            done: &done,
        }
        .emit();
        self.outbox.put(
            &self.stream.name,
            Event::FeedbackTaken {
                feedback: feedback.clone(),
                done,
            },
        );
        Ok(())
    }

    /// A later word on the same alert takes back that it was a fault.
    fn unconfirm(&mut self, subject: &str) -> Notes {
        let was_one = self.confirmed.remove(subject).is_some();
        was_one
            .then(|| (format!("{CONFIRMED}{subject}"), None))
            .into_iter()
            .collect()
    }

    /// Keeps a fault that every bundle has to catch from now on.
    fn confirm(&mut self, subject: &str, lesson: &Lesson) -> Result<(String, Notes), RetrainError> {
        let Some(first) = lesson.feedback.records.map(|records| records.first) else {
            return Ok((
                "it has no records, so no bundle can be tested on it".into(),
                Vec::new(),
            ));
        };
        let begins = lesson
            .records
            .iter()
            .take_while(|(offset, _)| *offset < first)
            .count();
        if begins == lesson.records.len() {
            return Ok((
                "the input no longer has its records: no bundle can be tested on it".into(),
                Vec::new(),
            ));
        }
        let mut course = Course::default();
        for (_, row) in &lesson.records {
            course.times.push(row.time);
            course.values.extend_from_slice(&row.values);
        }
        let confirmed = Confirmed { course, begins };
        let mut notes = vec![(
            format!("{CONFIRMED}{subject}"),
            Some(codec::encode(&confirmed)?),
        )];
        self.confirmed.insert(subject.to_owned(), confirmed);
        if self.confirmed.len() > CONFIRMED_MAX {
            let began = |fault: &Confirmed| fault.course.times.first().copied().unwrap_or_default();
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

    /// Marks a stretch of time as faulty, and tells whether the live bundle has learned from it.
    fn mark(&mut self, feedback: &Feedback) -> Result<String, RetrainError> {
        let name = &self.stream.name;
        let micros = |at: jiff::Timestamp| EventTime(at.as_microsecond());
        let (from, until) = (micros(feedback.from), micros(feedback.until));
        self.registry.mark(
            name,
            &Segment {
                series: feedback.series.clone(),
                from,
                until,
            },
        )?;
        self.marked = self.registry.marked(name)?;
        let live = self.registry.load_current(name)?;
        let is_marked = |bundle: &Bundle| self.look_at_marks(&bundle.manifest);
        Ok(match live.as_ref().is_some_and(is_marked) {
            true => "excluded from training; the live bundle was trained on it: train another one with `outlierd model challenge`",
            false => "excluded from training",
        }
        .to_owned())
    }

    /// Says whether a bundle has learned from what is marked.
    pub(super) fn look_at_marks(&self, manifest: &Manifest) -> bool {
        let name = &self.stream.name;
        let ranges = learned_from(manifest, &self.marked).count();
        BundleMarked {
            stream: name,
            bundle: &manifest.id,
            ranges,
        }
        .emit();
        if ranges > 0 {
            self.outbox.put(
                name,
                Event::LearnedFromMarked {
                    bundle: manifest.id.clone(),
                    ranges,
                },
            );
        }
        ranges > 0
    }
}

/// Whether a word of an operator has been taken to heart before.
///
/// # Errors
/// Where the store cannot be read.
pub fn is_known(store: &dyn Store, feedback: &Feedback) -> Result<bool, StoreError> {
    let key = format!("{TOLD}{}", feedback.subject());
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

/// The confirmed faults that are stored; an unreadable one is said and left out.
pub(super) fn confirmed(
    store: &dyn Store,
    stream: &str,
) -> Result<BTreeMap<String, Confirmed>, StoreError> {
    let mut found = BTreeMap::new();
    for (key, bytes) in store.notes(stream, CONFIRMED)? {
        match codec::decode(&bytes) {
            Ok(fault) => drop(found.insert(key[CONFIRMED.len()..].to_owned(), fault)),
            Err(error) => {
                tracing::error!(stream, key, error = %error, "a stored confirmed fault is unreadable and ignored")
            }
        }
    }
    Ok(found)
}

/// The records of an alert, without those before it, as a run of normal traffic.
fn taught(lesson: &Lesson) -> Vec<Run> {
    let Some(of_alert) = lesson.feedback.records else {
        return Vec::new();
    };
    let mut run = Run {
        series: lesson.feedback.series.clone(),
        partition: of_alert.partition,
        ..Run::default()
    };
    (run.offset, run.taught) = (of_alert.first, true);
    for (_, row) in lesson
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
