//! The series that a lane holds in memory: the state of every step for each series, found by partition and name.
//!
//! A series is loaded when its first record comes, so that a start costs nothing for series that are silent. It leaves
//! with its partition, or when it is idle, and comes back from the store.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use serde::{Deserialize, Serialize};

use crate::cadence::Cadence;
use crate::episode::EpisodeState;
use crate::gate::GateState;
use crate::record::EventTime;
use crate::resample::ResampleState;
use crate::score::chart::ChartState;
use crate::threshold::ThresholdState;
use crate::window::WindowState;

/// What the steps remember of one series. Its bytes in the store are versioned by [`crate::state::codec`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SeriesState {
    /// Of the gate.
    pub gate: GateState,
    /// How often it sends.
    pub cadence: Cadence,
    /// Of the resampling; `None` where records are taken as they come.
    pub resample: Option<Box<ResampleState>>,
    /// Of the window; `None` where it is one record.
    pub window: Option<Box<WindowState>>,
    /// Of the episode.
    pub episode: EpisodeState,
    /// Of the steps that belong to a bundle; `None` until the series was first scored.
    pub scoring: Option<ScoringState>,
}

/// What depends on the bundle that scores: replaced when another bundle goes live.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ScoringState {
    /// The bundle's [`super::tag`].
    pub bundle: u64,
    /// Of the control chart.
    pub chart: ChartState,
    /// Of the threshold.
    pub threshold: ThresholdState,
}

impl SeriesState {
    /// Whether a series that was silent from its newest record until `at` starts anew.
    pub fn expired(&self, expire_after: Duration, at: EventTime) -> bool {
        let silent = self
            .gate
            .newest()
            .map_or(0, |newest| at.micros_since(newest));
        !expire_after.is_zero()
            && u128::try_from(silent).is_ok_and(|us| us > expire_after.as_micros())
    }

    /// Whether an alert of the series is open: it has to be closed before the series can be forgotten.
    pub fn alerting(&self) -> bool {
        self.episode.anomaly_open() || self.episode.fault_open()
    }

    /// Starts the second half of the line anew; an open alert stays, to be closed.
    pub fn start_anew(&mut self) {
        self.scoring = None;
        if !self.alerting() {
            self.episode = EpisodeState::default();
        }
    }
}

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
    /// When it was last asked for, in seconds since the table was made.
    touched: u32,
}

/// The partition has as many series as it may.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManySeries;

/// All series of a lane.
pub struct SeriesTable {
    max_series: usize,
    began: Instant,
    /// Seconds from `began` to the present batch.
    now: u32,
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
}

impl SeriesTable {
    /// An empty table of at most `max_series` series a partition.
    pub fn new(max_series: usize) -> Self {
        let began = Instant::now();
        let (now, hasher, slots, free, index, dirty, unstored) = Default::default();
        Self {
            max_series,
            began,
            now,
            hasher,
            slots,
            free,
            index,
            dirty,
            unstored,
        }
    }

    /// A batch begins: what it asks for is asked for now.
    pub fn begin_batch(&mut self) {
        self.now = u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX);
    }

    /// How many series changed since the last commit.
    pub fn changed(&self) -> usize {
        self.dirty.len()
    }

    /// How many series are held.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
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

    /// A stored series of a partition was forgotten.
    pub fn forget(&mut self, partition: i32) {
        if let Some(found) = self.index.get_mut(&partition) {
            found.known = found.known.saturating_sub(1);
        }
    }

    /// The slot of a series, which counts as changed from now on. A series that is not in memory is loaded, or made anew
    /// where nothing is stored.
    ///
    /// # Errors
    /// [`TooManySeries`] where it is new and the partition is full.
    pub fn slot(
        &mut self,
        partition: i32,
        series: &str,
        load: impl FnOnce() -> Option<SeriesState>,
        new: impl FnOnce() -> SeriesState,
    ) -> Result<usize, TooManySeries> {
        let touched = self.now;
        let hash = self.hasher.hash_one(series);
        let held = self.index.entry(partition).or_default();
        let slot = match held
            .slots
            .find(hash, |&slot| name(&self.slots, slot) == series)
        {
            Some(&slot) => slot,
            None => {
                let state = match load() {
                    Some(state) => state,
                    None if held.known >= self.max_series => return Err(TooManySeries),
                    None => {
                        held.known += 1;
                        new()
                    }
                };
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.slots.push(None);
                    self.slots.len() - 1
                });
                let new = Slot {
                    series: series.into(),
                    partition,
                    state,
                    dirty: false,
                    unstored: false,
                    touched,
                };
                self.slots[slot] = Some(Box::new(new));
                let rehash = |&slot: &usize| self.hasher.hash_one(name(&self.slots, slot));
                held.slots.insert_unique(hash, slot, rehash);
                slot
            }
        };
        if let Some(found) = &mut self.slots[slot] {
            found.touched = touched;
        }
        self.change(slot);
        Ok(slot)
    }

    /// How many series of a partition are in memory.
    pub fn in_partition(&self, partition: i32) -> usize {
        self.index
            .get(&partition)
            .map_or(0, |held| held.slots.len())
    }

    /// The slots of a partition's series in memory.
    pub fn slots_of(&self, partition: i32) -> Vec<usize> {
        self.index
            .get(&partition)
            .map_or(Vec::new(), |held| held.slots.iter().copied().collect())
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

    /// The series in a slot was changed by something else than a record of its own.
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

    /// Lets series leave memory that are committed and stored as they are: those that were not asked for in `idle`, and,
    /// while more than `max` are held, the ones that were not for longest. Returns how many left.
    pub fn evict(&mut self, idle: Duration, max: usize) -> usize {
        let idle_before = self
            .began
            .elapsed()
            .checked_sub(idle)
            .map_or(0, |at| at.as_secs());
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
            let entry = self.index.get_mut(&gone.partition).and_then(|held| {
                held.slots
                    .find_entry(self.hasher.hash_one(&*gone.series), |&found| found == slot)
                    .ok()
            });
            if let Some(entry) = entry {
                entry.remove();
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

    fn ask(
        table: &mut SeriesTable,
        series: &str,
        stored: Option<SeriesState>,
    ) -> Result<usize, TooManySeries> {
        table.begin_batch();
        table.slot(0, series, || stored, || SeriesState::new(1))
    }

    #[test]
    fn a_series_takes_no_more_memory_than_docs_benchmarks_says() {
        assert!(size_of::<Slot>() <= 320, "{}", size_of::<Slot>());
    }

    #[test]
    fn only_new_series_count_against_the_limit() {
        let mut table = SeriesTable::new(3);
        table.set_known(0, 2);
        ask(&mut table, "stored", Some(SeriesState::new(1))).unwrap();
        ask(&mut table, "new", None).unwrap();
        assert_eq!(ask(&mut table, "one too many", None), Err(TooManySeries));
        ask(&mut table, "stored too", Some(SeriesState::new(1))).unwrap();
        table.forget(0);
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
    fn idle_series_leave_and_their_slots_are_used_again() {
        let mut table = SeriesTable::new(100);
        table.began -= Duration::from_secs(100);
        for name in ["a", "b"] {
            ask(&mut table, name, None).unwrap();
        }
        drop(table.take_dirty());
        drop(table.take_unstored());
        table.get_mut(0).unwrap().touched = 10;
        assert_eq!(table.evict(Duration::from_secs(60), 100), 1);
        assert_eq!((table.len(), table.holds(0, "a")), (1, false));
        assert_eq!(ask(&mut table, "c", None), Ok(0));
    }
}
