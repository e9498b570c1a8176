//! What the store holds of an engine: the buffered runs, the schedule, confirmed faults, and which
//! feedback was applied.

use std::sync::Arc;

use crate::config::settings::StreamSettings;
use crate::events::store::{StoredEntry, StoredEntryIgnored};
use crate::pipeline::series::SeriesState;
use crate::retrain::buffer::BufferChange;
use crate::retrain::error::RetrainError;
use crate::retrain::schedule::RetrainSchedule;
use crate::retrain::set::RecordRun;
use crate::state::codec::{self, Stored};
use crate::state::{Commit, Store, StoreError};

/// Notes of runs start so; partition and offset follow.
const RUN: &str = "run/";
/// The note of the schedule.
const SCHEDULE: &str = "plan";

/// A change of a note, by key; `None` removes it.
pub(super) type NoteChange = (String, Option<Vec<u8>>);

/// The notes of one stream's engine.
pub(super) struct EngineNotes {
    store: Arc<dyn Store>,
    stream: Arc<StreamSettings>,
}

impl EngineNotes {
    pub(super) fn new(store: Arc<dyn Store>, stream: Arc<StreamSettings>) -> Self {
        Self { store, stream }
    }

    /// The normal traffic that is kept; an unreadable run is logged and ignored, and so is one of
    /// other fields.
    pub(super) fn runs(&self) -> Result<Vec<RecordRun>, StoreError> {
        let stored = self.decoded(RUN, StoredEntry::NormalTraffic)?;
        let mut runs: Vec<RecordRun> = stored.into_iter().map(|(_, run)| run).collect();
        let fields = self.stream.record.fields.len();
        runs.retain(|run| run.values.len() == run.times.len() * fields);
        Ok(runs)
    }

    /// The schedule; a new one if no readable one is stored.
    pub(super) fn schedule(&self) -> Result<RetrainSchedule, StoreError> {
        let notes = self.store.notes(&self.stream.name, SCHEDULE)?;
        let schedule = notes.into_iter().find(|(key, _)| key == SCHEDULE);
        Ok(schedule
            .and_then(|(_, bytes)| codec::decode(&bytes).ok())
            .unwrap_or_default())
    }

    pub(super) fn keep_schedule(&self, schedule: &RetrainSchedule) -> Result<(), RetrainError> {
        self.write(vec![(SCHEDULE.to_owned(), Some(codec::encode(schedule)?))])
    }

    /// The notes whose keys begin with `prefix`, by the rest of the key; an unreadable one is
    /// logged as `entry` and ignored.
    pub(super) fn decoded<T: Stored>(
        &self,
        prefix: &str,
        entry: StoredEntry,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let stream = &self.stream.name;
        let mut decoded = Vec::new();
        for (key, bytes) in self.store.notes(stream, prefix)? {
            match codec::decode(&bytes) {
                Ok(value) => decoded.push((key[prefix.len()..].to_owned(), value)),
                Err(error) => StoredEntryIgnored {
                    stream,
                    entry,
                    key: &key,
                    error: &error,
                }
                .emit(),
            }
        }
        Ok(decoded)
    }

    /// Makes changes of the buffer durable, with those of other notes.
    pub(super) fn keep_runs(
        &self,
        changes: Vec<BufferChange>,
        others: Vec<NoteChange>,
    ) -> Result<(), RetrainError> {
        let mut notes = Vec::with_capacity(changes.len() + others.len());
        for (partition, offset, run) in changes {
            let bytes = run.map(|run| codec::encode(&run)).transpose()?;
            notes.push((format!("{RUN}{partition}/{offset}"), bytes));
        }
        notes.extend(others);
        self.write(notes)
    }

    /// The committed state of a series.
    pub(super) fn state(
        &self,
        partition: i32,
        series: &str,
    ) -> Result<Option<SeriesState>, RetrainError> {
        let bytes = self.store.state(&self.stream.name, partition, series)?;
        Ok(bytes.map(|bytes| codec::decode(&bytes)).transpose()?)
    }

    fn write(&self, notes: Vec<NoteChange>) -> Result<(), RetrainError> {
        Ok(self.store.commit(
            &self.stream.name,
            &Commit {
                notes,
                ..Commit::default()
            },
        )?)
    }
}
