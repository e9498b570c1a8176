//! The series that a lane holds in memory: the state of every step for each series, found by partition and name.
//!
//! A series is loaded when its first record comes, so that a start costs nothing for series that are silent. It leaves
//! with its partition.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::episode::EpisodeState;
use crate::gate::GateState;
use crate::score::chart::ChartState;
use crate::threshold::ThresholdState;
use crate::window::WindowState;

/// What the steps remember of one series. Its bytes in the store are versioned by [`crate::state::codec`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SeriesState {
    /// Of the gate.
    pub gate: GateState,
    /// Of the window.
    pub window: WindowState,
    /// Of the episode.
    pub episode: EpisodeState,
    /// Of the steps that belong to a bundle; `None` until the series was first scored.
    pub scoring: Option<ScoringState>,
}

/// What depends on the bundle that scores: replaced when another bundle goes live.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ScoringState {
    /// The first 64 bits of the bundle's id: a whole id would take more room than the states of small steps.
    pub bundle: u64,
    /// Of the control chart.
    pub chart: ChartState,
    /// Of the threshold.
    pub threshold: ThresholdState,
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
}

/// The stream holds as many series as it may.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManySeries;

/// All series of a lane.
pub struct SeriesTable {
    max_series: usize,
    /// Slots of partitions that left are reused through `free`.
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    index: HashMap<i32, HashMap<Arc<str>, usize>>,
    /// Slots that changed since the last commit; emptied by [`SeriesTable::take_dirty`].
    dirty: Vec<usize>,
}

impl SeriesTable {
    /// An empty table of at most `max_series` series a partition.
    pub fn new(max_series: usize) -> Self {
        Self { max_series, slots: Vec::new(), free: Vec::new(), index: HashMap::new(), dirty: Vec::new() }
    }

    /// How many series are held.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slot of a series, which counts as changed from now on. A series not in memory is made by `load`.
    ///
    /// # Errors
    /// [`TooManySeries`] where the partition is full.
    pub fn slot(
        &mut self,
        partition: i32,
        series: &str,
        load: impl FnOnce() -> SeriesState,
    ) -> Result<usize, TooManySeries> {
        let names = self.index.entry(partition).or_default();
        let slot = match names.get(series) {
            Some(&slot) => slot,
            None if names.len() >= self.max_series => return Err(TooManySeries),
            None => {
                let name: Arc<str> = series.into();
                let new = Slot { series: name.clone(), partition, state: load(), dirty: false };
                let slot = match self.free.pop() {
                    Some(slot) => {
                        self.slots[slot] = Some(new);
                        slot
                    }
                    None => {
                        self.slots.push(Some(new));
                        self.slots.len() - 1
                    }
                };
                names.insert(name, slot);
                slot
            }
        };
        if let Some(found) = &mut self.slots[slot]
            && !found.dirty
        {
            found.dirty = true;
            self.dirty.push(slot);
        }
        Ok(slot)
    }

    /// The series in a slot; `None` where its partition has left.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Calls `visit` with each series that changed since the last call.
    pub fn take_dirty(&mut self, mut visit: impl FnMut(&Slot)) {
        for slot in std::mem::take(&mut self.dirty) {
            if let Some(found) = &mut self.slots[slot]
                && found.dirty
            {
                found.dirty = false;
                visit(found);
            }
        }
    }

    /// Forgets the series of a partition, changed or not.
    pub fn drop_partition(&mut self, partition: i32) {
        for (_, slot) in self.index.remove(&partition).unwrap_or_default() {
            self.slots[slot] = None;
            self.free.push(slot);
        }
        let slots = &self.slots;
        self.dirty.retain(|&slot| slots[slot].is_some());
    }
}
