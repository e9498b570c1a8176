//! What the store holds of a stream's series: their states, and the positions that these belong to.

use std::sync::Arc;

use super::error::LaneError;
use super::group::GroupOffset;
use super::marks::{NOTE, NotedPosition};
use crate::events::store::{StateUnreadable, StoreAccess, StoreAccessFailed};
use crate::pipeline::series::{LoadError, SeriesState, SeriesTable, StoredSeries};
use crate::state::changelog::{CommittedStates, partition_note};
use crate::state::codec;
use crate::state::{StateChange, Store, StoreError};

/// Stored series that are read at a time.
const PAGE: usize = 500;

/// See the module.
pub struct StoredStates {
    store: Arc<dyn Store>,
    stream: String,
}

impl StoredStates {
    pub(super) fn new(store: Arc<dyn Store>, stream: &str) -> Self {
        Self {
            store,
            stream: stream.to_owned(),
        }
    }

    /// The store that has them.
    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    /// Writes states ahead of the commit that they belong to.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub(super) fn stage(&self, states: &[StateChange]) -> Result<(), StoreError> {
        self.store.stage(&self.stream, states)
    }

    /// The stored position of a partition: states in the store belong to it.
    pub(super) fn position(&self, partition: i32) -> Option<i64> {
        match self.store.position(&self.stream, partition) {
            Ok(position) => position,
            Err(error) => {
                StoreAccessFailed {
                    stream: &self.stream,
                    access: StoreAccess::ReadPosition,
                    error: &error,
                }
                .emit();
                None
            }
        }
    }

    /// The position that was committed with the states of a partition.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) fn noted_position(
        &self,
        partition: i32,
    ) -> Result<Option<NotedPosition>, StoreError> {
        let key = partition_note(partition, NOTE);
        let found = self.store.notes(&self.stream, &key)?;
        let bytes = found.into_iter().find(|(found, _)| *found == key);
        Ok(bytes.and_then(|(_, bytes)| codec::decode(&bytes).ok()))
    }

    /// How many entries of the changelog the store was compared with last; 0 where that is not known.
    pub(super) fn compared_entries(&self, partition: i32) -> i64 {
        let stored = self.store.changelog(&self.stream, partition);
        stored.ok().flatten().unwrap_or(0)
    }

    /// Compares the store with what was committed of a partition elsewhere, or before a crash.
    pub(super) fn compare(&self, group: &GroupOffset) -> CommittedStates {
        // What cannot be read is read again.
        let stored = self.store.changelog(&self.stream, group.partition);
        let is_old = stored.ok().flatten() < group.changelog;
        let is_behind = self.position(group.partition) < group.offset;
        CommittedStates {
            partition: group.partition,
            end: group.changelog,
            // An offset that somebody else has set, or deleted, does not show how far the states are.
            is_behind: is_old || is_behind || group.changelog.is_none(),
        }
    }

    /// Whether the store has all that was committed of a partition.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) fn has_all(&self, group: &GroupOffset) -> Result<bool, StoreError> {
        let partition = group.partition;
        let noted = self.noted_position(partition)?.map(|noted| noted.next);
        let position = noted.or(self.position(partition));
        let entries = self.store.changelog(&self.stream, partition)?;
        let is_known = group.offset.is_some() && group.changelog.is_some();
        Ok(is_known && position == group.offset && entries >= group.changelog)
    }

    /// Checks, of a partition that comes, that this release reads its stored states and notes: what
    /// another release wrote must not be overwritten. Returns whether states have another version
    /// than the one that is written now.
    ///
    /// # Errors
    /// [`LoadError::AnotherRelease`], or where the store cannot be read.
    pub(super) fn check_release(&self, partition: i32) -> Result<bool, LaneError> {
        let refused = |entry: String| {
            move |source| LaneError::from(LoadError::AnotherRelease { entry, source })
        };
        let notes = partition_note(partition, "");
        for (key, bytes) in self.store.notes(&self.stream, &notes)? {
            codec::check_release(&bytes).map_err(refused(format!("the stored note {key}")))?;
        }
        let written = codec::written_version::<SeriesState>();
        let mut differs = false;
        self.each_page(partition, |page| {
            for (series, bytes) in page {
                match codec::version_of::<SeriesState>(&bytes) {
                    Ok(version) => differs |= version != written,
                    Err(source) if source.is_of_another_release() => {
                        return Err(refused(state_of(&series))(source));
                    }
                    // It is reported with the next record of the series.
                    Err(_) => {}
                }
            }
            Ok(())
        })?;
        Ok(differs)
    }

    /// The stored state of a series. A damaged one is reported and replaced by a new one; one of
    /// another release must not be overwritten.
    pub(super) fn load(
        &self,
        partition: i32,
        series: &str,
    ) -> Result<Option<SeriesState>, LoadError> {
        let Some(bytes) = self.store.state(&self.stream, partition, series)? else {
            return Ok(None);
        };
        match codec::decode(&bytes) {
            Ok(state) => Ok(Some(state)),
            Err(source) if source.is_of_another_release() => Err(LoadError::AnotherRelease {
                entry: state_of(series),
                source,
            }),
            Err(error) => {
                StateUnreadable {
                    stream: &self.stream,
                    series,
                    error: &error,
                }
                .emit();
                Ok(None)
            }
        }
    }

    /// How many series of a partition are stored.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) fn count(&self, partition: i32) -> Result<usize, StoreError> {
        self.store.count(&self.stream, partition)
    }

    /// Hands the stored states of a partition to `take`, page by page.
    ///
    /// # Errors
    /// Where the store cannot be read, or of `take`.
    pub(super) fn each_page(
        &self,
        partition: i32,
        mut take: impl FnMut(Vec<(String, Vec<u8>)>) -> Result<(), LaneError>,
    ) -> Result<(), LaneError> {
        let mut after = None::<String>;
        loop {
            let page = self
                .store
                .states(&self.stream, partition, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            take(page)?;
        }
    }

    /// Tells the table how many series of a partition are stored.
    pub(super) fn count_series(
        &self,
        partition: i32,
        table: &mut SeriesTable,
    ) -> Result<(), StoreError> {
        table.set_known(partition, self.count(partition)?);
        Ok(())
    }

    /// Tells the table which series of a partition are stored, and how many.
    pub(super) fn list_series(
        &self,
        partition: i32,
        table: &mut SeriesTable,
    ) -> Result<(), LaneError> {
        let mut known = 0;
        self.each_page(partition, |page| {
            known += page.len();
            for (series, bytes) in &page {
                // One that is unreadable is reported with its next record.
                if let Ok(state) = codec::decode::<SeriesState>(bytes) {
                    table.set_stored(partition, series, StoredSeries::from(&state));
                }
            }
            Ok(())
        })?;
        table.set_known(partition, known);
        Ok(())
    }
}

fn state_of(series: &str) -> String {
    format!("the stored state of series {series:?}")
}
