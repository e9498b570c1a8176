//! Which partitions a lane owns, and how far it has read and committed each of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use rdkafka::message::{BorrowedMessage, Message as _};

use super::error::LaneError;
use super::marks::{NOTE, NotedPosition, RecordMark};
use super::notes::PartitionNotes;
use super::topic_watch::ReadRecords;

/// See the module. Entries of a partition leave when it is revoked.
#[derive(Default)]
pub(super) struct PartitionPositions {
    owned: HashSet<i32>,
    /// Where the last commit of an owned partition ends.
    committed: HashMap<i32, i64>,
    /// Owned partitions with records since the last commit: from the first of them to where to go
    /// on. Emptied by a commit.
    progress: HashMap<i32, Range<i64>>,
    /// The record before the next one of an owned partition, where it is known.
    marks: HashMap<i32, RecordMark>,
}

impl PartitionPositions {
    /// A partition came, with the offset of its next record, and the record before it where that is
    /// known.
    pub(super) fn assigned(&mut self, partition: i32, next: i64, mark: Option<RecordMark>) {
        self.committed.insert(partition, next);
        self.owned.insert(partition);
        self.marks.extend(mark.map(|mark| (partition, mark)));
    }

    /// A partition left.
    pub(super) fn revoked(&mut self, partition: i32) {
        self.owned.remove(&partition);
        self.committed.remove(&partition);
        self.progress.remove(&partition);
        self.marks.remove(&partition);
    }

    pub(super) fn owns(&self, partition: i32) -> bool {
        self.owned.contains(&partition)
    }

    /// How many partitions are owned.
    pub(super) fn count(&self) -> usize {
        self.owned.len()
    }

    /// The owned partitions, in order.
    pub(super) fn owned(&self) -> Vec<i32> {
        let mut owned: Vec<i32> = self.owned.iter().copied().collect();
        owned.sort_unstable();
        owned
    }

    /// The owned partitions with records since the last commit.
    pub(super) fn with_progress(&self) -> impl Iterator<Item = i32> {
        self.progress.keys().copied()
    }

    /// The offset of the next record of an owned partition.
    pub(super) fn next_offset(&self, partition: i32) -> Option<i64> {
        let progress = self.progress.get(&partition).map(|range| range.end);
        progress.or_else(|| self.committed.get(&partition).copied())
    }

    /// Where the last commit of an owned partition ends.
    pub(super) fn committed_offset(&self, partition: i32) -> Option<i64> {
        self.committed.get(&partition).copied()
    }

    /// Messages that the consumer is past.
    pub(super) fn advance(&mut self, batch: &[BorrowedMessage<'_>]) {
        for of_one in batch.chunk_by(|a, b| a.partition() == b.partition()) {
            if let (Some(first), Some(last)) = (of_one.first(), of_one.last()) {
                self.marks.insert(first.partition(), RecordMark::of(last));
                let from = first.offset();
                self.progress
                    .entry(first.partition())
                    .or_insert(from..from)
                    .end = last.offset() + 1;
            }
        }
    }

    /// Notes how far some partitions are read, to be committed with their states.
    ///
    /// # Errors
    /// A note that cannot be encoded.
    pub(super) fn note(
        &self,
        positions: impl IntoIterator<Item = (i32, i64)>,
        notes: &mut PartitionNotes,
    ) -> Result<(), LaneError> {
        for (partition, next) in positions {
            let mark = self.marks.get(&partition).copied();
            notes.put(partition, NOTE, &NotedPosition { next, mark })?;
        }
        Ok(())
    }

    /// Shares which records were read last of some partitions.
    pub(super) fn share<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p i32>,
        read: &ReadRecords,
    ) {
        for &partition in partitions {
            let next = self.next_offset(partition);
            if let Some((next, mark)) = next.zip(self.marks.get(&partition)) {
                read.read(partition, next - 1, *mark);
            }
        }
    }

    /// The next offsets of the partitions of which anything has changed: there are records, or
    /// changed notes.
    pub(super) fn changed(&self, notes: &PartitionNotes) -> BTreeMap<i32, i64> {
        let progress = self.progress.iter();
        let mut positions: BTreeMap<i32, i64> = progress
            .map(|(&partition, range)| (partition, range.end))
            .collect();
        for partition in notes.changed() {
            if let Some(next) = self.next_offset(partition) {
                positions.insert(partition, next);
            }
        }
        positions
    }

    /// Of the partitions of which anything has changed, where they have to be read again from if
    /// the changes are dropped.
    pub(super) fn changed_from(&self, notes: &PartitionNotes) -> BTreeMap<i32, i64> {
        let mut positions = self.changed(notes);
        for (&partition, range) in &self.progress {
            positions.insert(partition, range.start);
        }
        positions
    }

    /// All changes are committed; `positions` are those of [`PartitionPositions::changed`].
    pub(super) fn committed(&mut self, positions: &BTreeMap<i32, i64>) {
        self.progress.clear();
        self.committed.extend(positions);
    }
}
