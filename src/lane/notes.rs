//! Small entries that a lane keeps of its partitions, beside the states of their series: open
//! alerts of the stream as a whole, the clocks of silence, and which feedback was applied.
//!
//! They are committed with the states, in the same transaction and to the same changelog, and come
//! to another lane or machine with the partition.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::error::LaneError;
use crate::state::changelog::{FILLED, partition_note};
use crate::state::codec::{self, Stored};
use crate::state::{Store, StoreError};

/// A changed entry: partition, key, and its bytes; `None` removes it.
pub(super) type NoteChange = (i32, String, Option<Vec<u8>>);

/// See the module.
#[derive(Default)]
pub(super) struct PartitionNotes {
    /// By partition; emptied when it leaves.
    held: HashMap<i32, BTreeMap<String, Vec<u8>>>,
    /// Changes that are not committed yet; emptied by [`PartitionNotes::committed`].
    changed: BTreeSet<(i32, String)>,
}

impl PartitionNotes {
    /// Reads the entries of a partition that was assigned.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) fn load(
        &mut self,
        store: &dyn Store,
        stream: &str,
        partition: i32,
    ) -> Result<(), StoreError> {
        let prefix = partition_note(partition, "");
        let of = |(key, bytes): (String, Vec<u8>)| (key[prefix.len()..].to_owned(), bytes);
        let found = store.notes(stream, &prefix)?.into_iter().map(of);
        // That one is of the changelog, which has to have it as its first entry.
        let found = found.filter(|(key, _)| key != FILLED).collect();
        self.held.insert(partition, found);
        Ok(())
    }

    pub(super) fn drop_partition(&mut self, partition: i32) {
        self.held.remove(&partition);
        self.changed.retain(|(of, _)| *of != partition);
    }

    /// An entry; `None` where there is none that can be read.
    pub(super) fn get<T: Stored>(&self, partition: i32, key: &str) -> Option<T> {
        let bytes = self.held.get(&partition)?.get(key)?;
        codec::decode(bytes).ok()
    }

    /// Sets an entry.
    ///
    /// # Errors
    /// A value that cannot be encoded.
    pub(super) fn put<T: Stored>(
        &mut self,
        partition: i32,
        key: &str,
        value: &T,
    ) -> Result<(), LaneError> {
        let bytes = codec::encode(value)?;
        let held = self.held.entry(partition).or_default();
        if held.get(key) != Some(&bytes) {
            held.insert(key.to_owned(), bytes);
            self.changed.insert((partition, key.to_owned()));
        }
        Ok(())
    }

    /// The rest of the keys of a partition's entries that begin with `prefix`.
    pub(super) fn keys(&self, partition: i32, prefix: &str) -> Vec<String> {
        let held = self.held.get(&partition).into_iter();
        let all = held.flat_map(BTreeMap::keys);
        all.filter_map(|key| key.strip_prefix(prefix))
            .map(str::to_owned)
            .collect()
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, partition: i32, key: &str) {
        let held = self.held.get_mut(&partition);
        if held.is_some_and(|held| held.remove(key).is_some()) {
            self.changed.insert((partition, key.to_owned()));
        }
    }

    /// Lets the next commit have all entries of a partition.
    pub(super) fn resend(&mut self, partition: i32) {
        let keys = self
            .held
            .get(&partition)
            .into_iter()
            .flat_map(BTreeMap::keys);
        self.changed
            .extend(keys.map(|key| (partition, key.clone())));
    }

    /// The partitions with changes.
    pub(super) fn changed(&self) -> BTreeSet<i32> {
        self.changed
            .iter()
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// The changes that are not committed yet.
    pub(super) fn changes(&self) -> Vec<NoteChange> {
        let bytes = |partition, key: &str| self.held.get(&partition)?.get(key).cloned();
        self.changed
            .iter()
            .map(|(partition, key)| (*partition, key.clone(), bytes(*partition, key)))
            .collect()
    }

    /// All changes are committed.
    pub(super) fn committed(&mut self) {
        self.changed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Commit;
    use crate::state::memory::MemoryStore;

    #[test]
    fn entries_change_once_and_leave_with_their_partition() {
        let store = MemoryStore::default();
        let mut notes = PartitionNotes::default();
        notes.put(1, "a", &7u32).unwrap();
        notes.put(10, "a", &8u32).unwrap();
        let changed = notes.changes();
        assert_eq!(changed.len(), 2);
        notes.committed();
        let commit = Commit {
            notes: changed
                .into_iter()
                .map(|(partition, key, bytes)| (partition_note(partition, &key), bytes))
                .collect(),
            ..Commit::default()
        };
        store.commit("s", &commit).unwrap();
        notes.put(1, "a", &7u32).unwrap();
        assert!(notes.changes().is_empty(), "it is as it was");

        notes.drop_partition(1);
        assert_eq!(notes.get::<u32>(1, "a"), None);
        notes.load(&store, "s", 1).unwrap();
        assert_eq!(
            notes.get::<u32>(1, "a"),
            Some(7),
            "not that of partition 10"
        );
        notes.remove(1, "a");
        assert_eq!(notes.changes(), [(1, "a".to_owned(), None)]);
    }
}
