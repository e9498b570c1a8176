//! Faults that operators have confirmed: every challenger has to detect those that the live bundle
//! detects.

use std::collections::BTreeMap;

use super::feedback::LabeledFeedback;
use super::notes::{EngineNotes, NoteChange};
use crate::events::store::StoredEntry;
use crate::retrain::proof::ConfirmedFault;
use crate::retrain::trial::Sequence;
use crate::state::StoreError;
use crate::state::codec::{self, CodecError};

/// Key prefix of the notes of confirmed faults; the alert or time range follows.
const CONFIRMED: &str = "confirmed/";
/// Confirmed faults that are kept, the newest: each is tried by every contender.
const CONFIRMED_MAX: usize = 200;

/// The confirmed faults of a stream.
pub(super) struct ConfirmedFaults {
    /// By alert or time range.
    faults: BTreeMap<String, ConfirmedFault>,
}

impl ConfirmedFaults {
    /// Those that are stored; an unreadable one is logged and ignored.
    pub(super) fn stored(notes: &EngineNotes) -> Result<Self, StoreError> {
        let stored = notes.decoded(CONFIRMED, StoredEntry::ConfirmedFault)?;
        Ok(Self {
            faults: stored.into_iter().collect(),
        })
    }

    /// All of them.
    pub(super) fn to_vec(&self) -> Vec<ConfirmedFault> {
        self.faults.values().cloned().collect()
    }

    /// Takes back that the subject of some feedback was a fault. Returns the change of its note.
    pub(super) fn revoke(&mut self, subject: &str) -> Option<NoteChange> {
        self.faults
            .remove(subject)
            .map(|_| (format!("{CONFIRMED}{subject}"), None))
    }

    /// Keeps a fault that every bundle must detect from now on. Returns what was done, for the
    /// operator, and the changes of notes.
    pub(super) fn confirm(
        &mut self,
        subject: &str,
        labeled: &LabeledFeedback,
    ) -> Result<(&'static str, Vec<NoteChange>), CodecError> {
        let Some(first) = labeled.feedback.records.map(|records| records.first) else {
            return Ok((
                "it has no records, so no bundle can be tested on it",
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
                "the input no longer has its records: no bundle can be tested on it",
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
        self.faults.insert(subject.to_owned(), confirmed);
        if self.faults.len() > CONFIRMED_MAX {
            let began =
                |fault: &ConfirmedFault| fault.sequence.times.first().copied().unwrap_or_default();
            let oldest = self
                .faults
                .iter()
                .min_by_key(|(_, fault)| began(fault))
                .map(|(key, _)| key.clone());
            notes.extend(oldest.and_then(|key| self.revoke(&key)));
        }
        Ok(("every bundle promoted from now on must detect it", notes))
    }
}
