//! What the store holds of a stream's series: their states, and the positions that these belong to.

use std::sync::Arc;

use super::group::GroupOffset;
use crate::events::store::{StateUnreadable, StoreAccess, StoreAccessFailed};
use crate::pipeline::series::{LoadError, SeriesState, SeriesTable, StoredSeries};
use crate::state::codec::{self, CodecError};
use crate::state::{Store, StoreError};

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

    /// Whether the store is behind what was committed of a partition elsewhere, or before a crash.
    pub(super) fn is_behind(&self, group: &GroupOffset) -> bool {
        // What cannot be read is read again.
        let stored = self.store.changelog(&self.stream, group.partition);
        let stored = stored.ok().flatten();
        let is_behind = self.position(group.partition) < group.offset;
        group.offset.is_some() && (is_behind || stored < group.changelog)
    }

    /// The stored state of a series. A damaged one is reported and replaced by a new one; one of a
    /// newer outlierd must not be overwritten.
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
            Err(source @ CodecError::Newer { .. }) => Err(LoadError::Newer {
                series: series.into(),
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

    /// Tells the table how many series of a partition are stored.
    pub(super) fn count_series(
        &self,
        partition: i32,
        table: &mut SeriesTable,
    ) -> Result<(), StoreError> {
        let known = self.store.count(&self.stream, partition)?;
        table.set_known(partition, known);
        Ok(())
    }

    /// Tells the table which series of a partition are stored, and how many.
    pub(super) fn list_series(
        &self,
        partition: i32,
        table: &mut SeriesTable,
    ) -> Result<(), StoreError> {
        let (mut known, mut after) = (0, None::<String>);
        loop {
            let page = self
                .store
                .states(&self.stream, partition, after.as_deref(), PAGE)?;
            known += page.len();
            for (series, bytes) in &page {
                // One that is unreadable is reported with its next record.
                if let Ok(state) = codec::decode::<SeriesState>(bytes) {
                    table.set_stored(partition, series, StoredSeries::from(&state));
                }
            }
            match page.into_iter().next_back() {
                Some((last, _)) => after = Some(last),
                None => break,
            }
        }
        table.set_known(partition, known);
        Ok(())
    }
}
