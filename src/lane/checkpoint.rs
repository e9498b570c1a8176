//! What is committed and not in the store yet.
//!
//! With exactly-once delivery the changelog has every committed state, so that the store may follow
//! behind: an alert is committed at once without waiting for a disk, and a series that changed
//! often is stored once. After a crash the states since the last storing come from the changelog.
//! With at-least-once delivery the store is all there is, and each commit stores.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::error::LaneError;
use super::notes::NoteChange;
use crate::pipeline::series::SeriesTable;
use crate::state::changelog::partition_note;
use crate::state::{Commit, Learned, Store, codec};

/// How far the store may be behind the changelog: a start after a crash reads this much of it.
const STORE_EVERY: Duration = Duration::from_secs(5);
/// States that are written at a time: sled keeps every page that it replaces until a batch ends.
const STAGED: usize = 500;

/// See the module.
#[derive(Default)]
pub(super) struct PendingCheckpoint {
    /// By partition, the offset of the next record.
    positions: HashMap<i32, i64>,
    /// By partition, the end of the committed states in the changelog.
    changelog: HashMap<i32, i64>,
    forgotten: Vec<(i32, String)>,
    learned: Vec<Learned>,
    /// By partition and key; `None` removes one.
    notes: BTreeMap<(i32, String), Option<Vec<u8>>>,
    stored: Option<Instant>,
}

/// What has been committed beside the states of series in memory.
#[derive(Default)]
pub(super) struct CommittedChanges {
    /// By partition, the offset of the next record.
    pub(super) positions: Vec<(i32, i64)>,
    /// By partition, the end of the committed states in the changelog.
    pub(super) changelog: Vec<(i32, i64)>,
    /// Series that are forgotten.
    pub(super) forgotten: Vec<(i32, String)>,
    pub(super) learned: Vec<Learned>,
    pub(super) notes: Vec<NoteChange>,
}

impl PendingCheckpoint {
    /// Takes over what has been committed.
    pub(super) fn committed(&mut self, committed: CommittedChanges) {
        self.positions.extend(committed.positions);
        self.changelog.extend(committed.changelog);
        self.forgotten.extend(committed.forgotten);
        self.learned.extend(committed.learned);
        for (partition, key, bytes) in committed.notes {
            self.notes.insert((partition, key), bytes);
        }
    }

    /// Whether it is time. Learned records are nowhere else.
    pub(super) fn is_due(&self) -> bool {
        !self.learned.is_empty() || self.stored.is_none_or(|at| at.elapsed() >= STORE_EVERY)
    }

    /// Forgets what belongs to a partition that has left: without its states in memory its position
    /// must not be stored.
    pub(super) fn drop_partition(&mut self, partition: i32) {
        self.positions.remove(&partition);
        self.changelog.remove(&partition);
        self.forgotten.retain(|(p, _)| *p != partition);
        self.learned.retain(|(p, _, _)| *p != partition);
        self.notes.retain(|(p, _), _| *p != partition);
    }

    /// Stores everything; the series in memory have to be as they were committed. With `staged` in
    /// small pieces, else in one.
    ///
    /// # Errors
    /// Of the store, or a state that cannot be encoded.
    pub(super) fn store(
        &mut self,
        store: &dyn Store,
        stream: &str,
        table: &mut SeriesTable,
        staged: bool,
    ) -> Result<(), LaneError> {
        self.stored = Some(Instant::now());
        if self.positions.is_empty() {
            return Ok(());
        }
        let mut states = Vec::new();
        for slot in table.take_unstored() {
            states.push((
                slot.partition,
                slot.series.to_string(),
                Some(codec::encode(&slot.state)?),
            ));
            if staged && states.len() >= STAGED {
                store.stage(stream, &states)?;
                states.clear();
            }
        }
        states.extend(
            self.forgotten
                .drain(..)
                .map(|(partition, series)| (partition, series, None)),
        );
        let commit = Commit {
            positions: self.positions.drain().collect(),
            changelog: self.changelog.drain().collect(),
            learned: std::mem::take(&mut self.learned),
            states,
            notes: std::mem::take(&mut self.notes)
                .into_iter()
                .map(|((partition, key), bytes)| (partition_note(partition, &key), bytes))
                .collect(),
        };
        Ok(store.commit(stream, &commit)?)
    }
}
