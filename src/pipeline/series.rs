//! What the steps remember of one series, and where it comes from when its next record comes.

mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::table::{SeriesTable, Slot, SlotError};
use crate::episode::EpisodeState;
use crate::failure::{Failure, FailureClass};
use crate::gate::GateState;
use crate::hold::HeldReadings;
use crate::inter_arrival::{InterArrivalStats, SilenceStatus};
use crate::record::EventTime;
use crate::record::row::GatedRow;
use crate::resample::ResampleState;
use crate::score::charts::ChartsState;
use crate::state::StoreError;
use crate::state::codec::{CodecError, Stored};
use crate::threshold::SeriesThresholds;
use crate::window::WindowState;

/// What the steps remember of one series. It is stored as [`Stored`] says, and shown as JSON.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SeriesState {
    /// What its rows were made of (`fits::row_layout`); 0 before the first record.
    pub layout: u32,
    /// Of the gate.
    pub gate: GateState,
    /// How often it sends.
    pub inter_arrival: InterArrivalStats,
    /// Of the resampling; `None` where records are taken as they come.
    pub resample: Option<Box<ResampleState>>,
    /// Of the window; `None` where it is one record.
    pub window: Option<Box<WindowState>>,
    /// Of the episode.
    pub episode: EpisodeState,
    /// Of the steps that belong to a bundle; `None` until the series was first scored.
    pub scoring: Option<ScoringState>,
    /// Event time of its first accepted record, or [`NEVER`]; see [`SeriesState::since`].
    first: EventTime,
    /// The last readings, where they are held. The last field: the release that knows none reads what is
    /// before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Box<HeldReadings>>,
}

/// No record yet, or a release stored the series that did not keep its first one.
const NEVER: EventTime = EventTime(i64::MIN);

impl Stored for SeriesState {
    const VERSION: u8 = 8;
    const OLDEST: u8 = 7;

    fn write(&self, version: u8, bytes: Vec<u8>) -> postcard::Result<Vec<u8>> {
        if version == Self::VERSION {
            return postcard::to_extend(self, bytes);
        }
        // 7: without the first record.
        let before = (
            self.layout,
            &self.gate,
            &self.inter_arrival,
            &self.resample,
            &self.window,
            &self.episode,
            &self.scoring,
        );
        postcard::to_extend(&before, bytes)
    }

    fn read(version: u8, body: &[u8]) -> postcard::Result<Self> {
        let (before, rest) = postcard::take_from_bytes(body)?;
        let (layout, gate, inter_arrival, resample, window, episode, scoring) = before;
        let (first, rest) = match version == Self::VERSION {
            true => postcard::take_from_bytes(rest)?,
            false => (NEVER, rest),
        };
        let held = match rest.is_empty() {
            true => None,
            false => postcard::from_bytes(rest)?,
        };
        Ok(Self {
            layout,
            gate,
            inter_arrival,
            resample,
            window,
            episode,
            scoring,
            first,
            held,
        })
    }
}

/// What depends on the bundle that scores: replaced when another bundle goes live.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ScoringState {
    /// The bundle's [`tag`].
    pub bundle: u64,
    /// Of the control charts.
    pub charts: ChartsState,
    /// Of their thresholds.
    pub thresholds: SeriesThresholds,
}

impl SeriesState {
    /// The state of a series that was never seen, of records with so many fields.
    pub fn new(fields: usize) -> Self {
        Self {
            layout: 0,
            gate: GateState::new(fields),
            inter_arrival: InterArrivalStats::default(),
            resample: None,
            window: None,
            episode: EpisodeState::default(),
            scoring: None,
            first: NEVER,
            held: None,
        }
    }

    /// Event time of its first accepted record since it was last forgotten; `None` where that is not
    /// known. Nothing is scored by it.
    pub fn since(&self) -> Option<EventTime> {
        Some(self.first).filter(|first| *first != NEVER)
    }

    /// A record was accepted that is the first one of a new series, or of a series that begins again.
    pub(super) fn begin_at(&mut self, time: EventTime) {
        self.first = time;
    }

    /// Whether a series that was silent from its newest record until `at` starts from a new state.
    pub fn expired(&self, forget_after: Duration, at: EventTime) -> bool {
        let silent = self
            .gate
            .newest()
            .map_or(0, |newest| at.micros_since(newest));
        !forget_after.is_zero()
            && u128::try_from(silent).is_ok_and(|us| us > forget_after.as_micros())
    }

    /// Whether an alert of the series is open: it has to be closed before the series can be
    /// forgotten.
    pub fn alerting(&self) -> bool {
        self.episode.is_open() || self.inter_arrival.silent == SilenceStatus::Alone
    }

    /// So many records are missing before the next one, or are not believed.
    pub fn interrupt(&mut self, missing: u64) {
        if let Some(scoring) = &mut self.scoring {
            scoring.charts.interrupt(missing);
        }
    }

    /// Drops what belongs to the rows of another configuration. The clock of the series, its send
    /// interval and its open alerts are no rows: they stay.
    pub(super) fn begin_layout(&mut self, layout: u32, fields: usize) {
        (self.window, self.resample, self.scoring) = (None, None, None);
        self.held = None;
        self.gate.forget_readings(fields);
        self.layout = layout;
    }

    /// Prepares for records that are older than those before: the series gets a new clock and new
    /// rows. Thresholds and open alerts stay.
    pub fn rewind(&mut self) {
        (self.window, self.resample, self.held) = (None, None, None);
        self.gate = GateState::new(self.gate.fields());
        self.inter_arrival.reset();
        self.interrupt(u64::MAX);
    }

    /// Before a row is judged: where its series was forgotten, chart, threshold and episodes start
    /// again; an open alert stays, to be closed.
    pub(super) fn begin(&mut self, row: &GatedRow<'_>) {
        if row.forgotten {
            self.scoring = None;
            if !self.episode.is_open() {
                self.episode = EpisodeState::default();
            }
        }
    }
}

/// What is kept in memory of a series that is stored only: all that it takes to find that it is
/// silent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSeries {
    /// Its newest accepted event time.
    pub newest: Option<EventTime>,
    /// How often it sends, and whether its silence was announced.
    pub inter_arrival: InterArrivalStats,
    /// Whether an alert of it is open.
    pub alerting: bool,
}

impl From<&SeriesState> for StoredSeries {
    fn from(state: &SeriesState) -> Self {
        Self {
            newest: state.gate.newest(),
            inter_arrival: state.inter_arrival.clone(),
            alerting: state.alerting(),
        }
    }
}

/// Why the stored state of a series cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another release of outlierd wrote it, and it must not be overwritten.
    #[error("cannot read {entry}: {source}")]
    AnotherRelease {
        /// Which stored entry.
        entry: String,
        /// Why.
        source: CodecError,
    },
}

impl Failure for LoadError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Store(error) => error.class(),
            Self::AnotherRelease { source, .. } => source.class(),
        }
    }
}

/// The series of a lane while a batch runs: those in memory, and how the others are loaded.
pub(super) struct SeriesAccess<'t, 'l> {
    /// In memory.
    pub(super) table: &'t mut SeriesTable,
    /// Loads the others.
    pub(super) load: &'t mut StateLoader<'l>,
}

impl SeriesAccess<'_, '_> {
    /// The slot of a series, which is loaded where it is stored, and new where it was never seen.
    pub(super) fn open(
        &mut self,
        partition: i32,
        series: &str,
        fields: usize,
    ) -> Result<usize, SlotError> {
        let new = || SeriesState::new(fields);
        self.table.slot(partition, series, self.load, new)
    }

    /// The same of a series that is in memory or stored; `None` where it was never seen.
    pub(super) fn known(
        &mut self,
        partition: i32,
        series: &str,
    ) -> Result<Option<&mut Slot>, LoadError> {
        let slot = self.table.known_slot(partition, series, self.load)?;
        Ok(slot.and_then(|slot| self.table.get_mut(slot)))
    }
}

/// Finds the stored state of a series that is not in memory, by partition and name.
pub type StateLoader<'l> = dyn FnMut(i32, &str) -> Result<Option<SeriesState>, LoadError> + 'l;

/// The first 64 bits of a bundle's id: a whole id would take more room than the states of small
/// steps.
pub fn tag(id: &str) -> u64 {
    id.get(..16)
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .unwrap_or(0)
}
