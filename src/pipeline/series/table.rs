//! The series that a lane holds in memory: the state of every step for each series, found by
//! partition and name.
//!
//! A series is loaded when its first record comes. It leaves with its partition, or when it is
//! idle, and comes back from the store. Where silence is looked for, the table keeps the little
//! that this needs of the series that are stored only, so that what is found does not depend on
//! which series are in memory. The table reads no clock: see [`SeriesTable::set_now`].

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::{LoadError, SeriesState, StateLoader, StoredSeries};

use crate::failure::{Failure, FailureClass};

/// One series in memory.
#[derive(Debug)]
pub struct Slot {
    /// Its name.
    pub series: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its state.
    pub state: SeriesState,
    /// Whether it changed since the last commit.
    dirty: bool,
    /// Whether it changed since it was last stored.
    unstored: bool,
    /// When it was last asked for, as [`SeriesTable::set_now`] counts.
    touched: u32,
}

/// Why there is no slot for a series.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The series is new, and the partition has as many as it may.
    #[error("the partition has as many series as it may")]
    TooMany,
    /// Its stored state cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Failure for SlotError {
    fn class(&self) -> FailureClass {
        match self {
            // `max_series` is configured.
            Self::TooMany => FailureClass::USER,
            Self::Load(error) => error.class(),
        }
    }
}

/// All series of a lane.
pub struct SeriesTable {
    max_series: usize,
    /// Seconds since a moment that the owner of the table chose.
    now: u32,
    /// Whether [`StoredSeries`] are kept of the series that leave memory.
    keeps_stored: bool,
    hasher: DefaultHashBuilder,
    /// Empty ones are reused through `free`.
    slots: Vec<Option<Box<Slot>>>,
    free: Vec<usize>,
    index: HashMap<i32, Partition>,
    /// Slots that changed since the last commit; emptied by [`SeriesTable::take_dirty`].
    dirty: Vec<usize>,
    /// Slots that changed since they were stored; emptied by [`SeriesTable::take_unstored`].
    unstored: Vec<usize>,
}

/// The series of one partition.
#[derive(Default)]
struct Partition {
    /// Slots of those in memory, by their series' names, which stand in the slots only.
    slots: HashTable<usize>,
    /// In memory or stored.
    known: usize,
    /// Those that are stored and not in memory; empty unless the table keeps them.
    stored: HashMap<Arc<str>, StoredSeries>,
}

impl SeriesTable {
    /// An empty table of at most `max_series` series a partition.
    pub fn new(max_series: usize) -> Self {
        Self {
            max_series,
            now: 0,
            keeps_stored: false,
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            dirty: Vec::new(),
            unstored: Vec::new(),
        }
    }

    /// Keeps [`StoredSeries`] of the series that leave memory, for silence to be found among them
    /// too.
    pub fn keep_stored(&mut self) {
        self.keeps_stored = true;
    }

    /// Sets the time that series are asked for at from now on, since a moment that the caller
    /// chooses once.
    pub fn set_now(&mut self, now: Duration) {
        self.now = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    }

    /// How many series changed since the last commit.
    pub fn changed(&self) -> usize {
        self.dirty.len()
    }

    /// How many series are held.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many series, in memory or stored only, have an open alert.
    pub fn alerting(&self) -> usize {
        let slots = self.slots.iter().flatten();
        let in_memory = slots.filter(|slot| slot.state.alerting()).count();
        let stored = self.index.values().flat_map(|of| of.stored.values());
        in_memory + stored.filter(|stored| stored.alerting).count()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a series is held.
    pub fn holds(&self, partition: i32, series: &str) -> bool {
        self.find(partition, series).is_some()
    }

    /// Sets how many series of a partition are stored, before its first record comes.
    pub fn set_known(&mut self, partition: i32, known: usize) {
        self.index.entry(partition).or_default().known = known;
    }

    /// Notes a series that a partition has stored, before its first record comes.
    pub fn set_stored(&mut self, partition: i32, series: &str, stored: StoredSeries) {
        let of = &mut self.index.entry(partition).or_default().stored;
        of.insert(series.into(), stored);
    }

    /// A stored series of a partition was forgotten.
    pub fn forget(&mut self, partition: i32, series: &str) {
        if let Some(found) = self.index.get_mut(&partition) {
            found.known = found.known.saturating_sub(1);
            found.stored.remove(series);
        }
    }

    /// The slot of a series, which counts as changed from now on. A series that is not in memory is
    /// loaded, or created where nothing is stored.
    ///
    /// # Errors
    /// [`SlotError::TooMany`] where it is new and the partition is full; [`SlotError::Load`] where
    /// it cannot be loaded.
    pub fn slot(
        &mut self,
        partition: i32,
        series: &str,
        load: &mut StateLoader<'_>,
        new: impl FnOnce() -> SeriesState,
    ) -> Result<usize, SlotError> {
        let slot = match self.find(partition, series) {
            Some(slot) => slot,
            None => match load(partition, series)? {
                Some(state) => self.insert(partition, series, state),
                None => {
                    let known = &mut self.index.entry(partition).or_default().known;
                    if *known >= self.max_series {
                        return Err(SlotError::TooMany);
                    }
                    *known += 1;
                    self.insert(partition, series, new())
                }
            },
        };
        self.touch(slot);
        Ok(slot)
    }

    /// As [`SeriesTable::slot`], for a series that is known; `None` where it is neither in memory
    /// nor stored.
    ///
    /// # Errors
    /// Where it cannot be loaded.
    pub fn known_slot(
        &mut self,
        partition: i32,
        series: &str,
        load: &mut StateLoader<'_>,
    ) -> Result<Option<usize>, LoadError> {
        let slot = match self.find(partition, series) {
            Some(slot) => slot,
            None => match load(partition, series)? {
                Some(state) => self.insert(partition, series, state),
                None => return Ok(None),
            },
        };
        self.touch(slot);
        Ok(Some(slot))
    }

    fn touch(&mut self, slot: usize) {
        if let Some(found) = &mut self.slots[slot] {
            found.touched = self.now;
        }
        self.change(slot);
    }

    /// Puts a series in memory that is not there.
    fn insert(&mut self, partition: i32, series: &str, state: SeriesState) -> usize {
        let held = self.index.entry(partition).or_default();
        let name = match held.stored.remove_entry(series) {
            Some((name, _)) => name,
            None => series.into(),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Box::new(Slot {
            series: name,
            partition,
            state,
            dirty: false,
            unstored: false,
            touched: self.now,
        }));
        let hasher = &self.hasher;
        let slots = &self.slots;
        let rehash = |&slot: &usize| hasher.hash_one(self::name(slots, slot));
        held.slots
            .insert_unique(hasher.hash_one(series), slot, rehash);
        slot
    }

    /// The slots of a partition's series in memory.
    pub fn slots_of(&self, partition: i32) -> Vec<usize> {
        self.index
            .get(&partition)
            .map_or(Vec::new(), |held| held.slots.iter().copied().collect())
    }

    /// The series of a partition that are stored and not in memory, where the table keeps them.
    pub fn stored_of(&self, partition: i32) -> impl Iterator<Item = (&Arc<str>, &StoredSeries)> {
        self.index
            .get(&partition)
            .into_iter()
            .flat_map(|held| &held.stored)
    }

    /// The slot of a series that is in memory.
    pub fn find(&self, partition: i32, series: &str) -> Option<usize> {
        let held = self.index.get(&partition)?;
        held.slots
            .find(self.hasher.hash_one(series), |&slot| {
                name(&self.slots, slot) == series
            })
            .copied()
    }

    /// The series in a slot has changed: the next commit takes it.
    pub fn change(&mut self, slot: usize) {
        if let Some(found) = self.slots.get_mut(slot).and_then(Option::as_mut) {
            if !std::mem::replace(&mut found.dirty, true) {
                self.dirty.push(slot);
            }
            if !std::mem::replace(&mut found.unstored, true) {
                self.unstored.push(slot);
            }
        }
    }

    /// The series in a slot; `None` where it has left.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    /// The series that changed since the last call.
    pub fn take_dirty(&mut self) -> impl Iterator<Item = &Slot> {
        take(&mut self.slots, &mut self.dirty, |slot| slot.dirty = false)
    }

    /// The series that changed since the last call, whether committed or not.
    pub fn take_unstored(&mut self) -> impl Iterator<Item = &Slot> {
        take(&mut self.slots, &mut self.unstored, |slot| {
            slot.unstored = false
        })
    }

    /// Lets series leave memory that are committed and stored as they are: those that were not
    /// asked for in `idle`, and, while more than `max` are held, the ones that were not for
    /// longest. Returns how many left.
    pub fn evict(&mut self, idle: Duration, max: usize) -> usize {
        let idle_before = u64::from(self.now).saturating_sub(idle.as_secs());
        let mut clean: Vec<(u32, usize)> = Vec::new();
        for (slot, held) in self.slots.iter().enumerate() {
            clean.extend(
                held.as_ref()
                    .filter(|held| !held.dirty && !held.unstored)
                    .map(|held| (held.touched, slot)),
            );
        }
        // A tenth more than needed, so that not every new series costs a pass over all of them.
        let excess = if self.len() > max {
            (self.len() - max + max / 10).min(clean.len())
        } else {
            0
        };
        if (1..clean.len()).contains(&excess) {
            clean.select_nth_unstable(excess - 1);
        }
        let mut left = 0;
        for (rank, &(touched, slot)) in clean.iter().enumerate() {
            if rank < excess || u64::from(touched) < idle_before {
                self.remove(slot);
                left += 1;
            }
        }
        left
    }

    fn remove(&mut self, slot: usize) {
        if let Some(gone) = self.slots[slot].take() {
            self.free.push(slot);
            let Some(held) = self.index.get_mut(&gone.partition) else {
                return;
            };
            let hash = self.hasher.hash_one(&*gone.series);
            if let Ok(entry) = held.slots.find_entry(hash, |&found| found == slot) {
                entry.remove();
            }
            if self.keeps_stored {
                held.stored
                    .insert(gone.series.clone(), StoredSeries::from(&gone.state));
            }
        }
    }

    /// Forgets the series of a partition, changed or not.
    pub fn drop_partition(&mut self, partition: i32) {
        for slot in self.index.remove(&partition).unwrap_or_default().slots {
            self.slots[slot] = None;
            self.free.push(slot);
        }
        let slots = &self.slots;
        self.dirty.retain(|&slot| slots[slot].is_some());
        self.unstored.retain(|&slot| slots[slot].is_some());
    }
}

/// Empties a list of slots, and takes its mark off each of them at once.
fn take<'s>(
    slots: &'s mut [Option<Box<Slot>>],
    list: &mut Vec<usize>,
    unmark: fn(&mut Slot),
) -> impl Iterator<Item = &'s Slot> + use<'s> {
    let list = std::mem::take(list);
    for &slot in &list {
        slots[slot].as_deref_mut().into_iter().for_each(unmark);
    }
    let slots = &*slots;
    list.into_iter().filter_map(|slot| slots[slot].as_deref())
}

fn name(slots: &[Option<Box<Slot>>], slot: usize) -> &str {
    slots
        .get(slot)
        .and_then(Option::as_ref)
        .map_or("", |held| &held.series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::GateState;
    use crate::record::EventTime;

    fn ask(
        table: &mut SeriesTable,
        series: &str,
        stored: Option<SeriesState>,
    ) -> Result<usize, SlotError> {
        table.slot(0, series, &mut |_, _| Ok(stored.clone()), || {
            SeriesState::new(1)
        })
    }

    #[test]
    fn a_series_takes_no_more_memory_than_docs_benchmarks_says() {
        assert!(size_of::<Slot>() <= 328, "{}", size_of::<Slot>());
    }

    #[test]
    fn only_new_series_count_against_the_limit() {
        let mut table = SeriesTable::new(3);
        table.set_known(0, 2);
        ask(&mut table, "stored", Some(SeriesState::new(1))).unwrap();
        ask(&mut table, "new", None).unwrap();
        let refused = ask(&mut table, "one too many", None);
        assert!(matches!(refused, Err(SlotError::TooMany)), "{refused:?}");
        ask(&mut table, "stored too", Some(SeriesState::new(1))).unwrap();
        table.forget(0, "of long ago");
        ask(&mut table, "one too many", None).unwrap();
    }

    #[test]
    fn the_longest_silent_leave_first_and_changed_ones_stay() {
        let mut table = SeriesTable::new(100);
        for (second, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let slot = ask(&mut table, name, None).unwrap();
            table.get_mut(slot).unwrap().touched = second as u32;
        }
        assert_eq!(
            table.evict(Duration::from_secs(3600), 2),
            0,
            "all have changes that are not committed"
        );
        drop(table.take_dirty());
        assert_eq!(
            table.evict(Duration::from_secs(3600), 2),
            0,
            "or not stored"
        );
        drop(table.take_unstored());
        let slot = ask(&mut table, "b", None).unwrap();
        table.get_mut(slot).unwrap().touched = 0;
        assert_eq!(table.evict(Duration::from_secs(3600), 2), 2);
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| table.holds(0, name)),
            [false, true, false, true]
        );
        assert_eq!(table.evict(Duration::from_secs(3600), 2), 0);
    }

    #[test]
    fn what_silence_needs_of_a_series_stays_when_the_series_leaves_memory() {
        let mut table = SeriesTable::new(100);
        table.keep_stored();
        let mut state = SeriesState::new(1);
        state.gate = GateState::seen(1, EventTime(7));
        ask(&mut table, "a", Some(state.clone())).unwrap();
        assert_eq!(
            (table.take_dirty().count(), table.take_unstored().count()),
            (1, 1)
        );
        assert_eq!(table.evict(Duration::ZERO, 0), 1);
        let stored = |table: &SeriesTable| -> Vec<(String, Option<EventTime>)> {
            let of = |(name, stored): (&Arc<str>, &StoredSeries)| (name.to_string(), stored.newest);
            table.stored_of(0).map(of).collect()
        };
        assert_eq!(stored(&table), [("a".to_owned(), Some(EventTime(7)))]);
        ask(&mut table, "a", Some(state)).unwrap();
        assert_eq!(stored(&table), [], "it is in memory again");
    }

    #[test]
    fn idle_series_leave_and_their_slots_are_used_again() {
        let mut table = SeriesTable::new(100);
        for name in ["a", "b"] {
            ask(&mut table, name, None).unwrap();
        }
        drop(table.take_dirty());
        drop(table.take_unstored());
        table.get_mut(1).unwrap().touched = 50;
        table.set_now(Duration::from_secs(100));
        assert_eq!(table.evict(Duration::from_secs(60), 100), 1);
        assert_eq!((table.len(), table.holds(0, "a")), (1, false));
        assert_eq!(ask(&mut table, "c", None).unwrap(), 0);
    }
}
