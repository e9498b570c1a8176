//! The first half of the line for one record: gate, resampling and window.

use std::sync::Arc;

use super::series::{LoadError, SeriesState, SeriesTable, SlotError, StateLoader};
use super::{Pipeline, ScoringModel};
use crate::gate;
use crate::record::{EventTime, GateVerdict, Record, RejectReason, SensorFault};
use crate::resample::ResampledRow;

/// A record on its way between the gate and the judgement.
#[derive(Default)]
pub(super) struct GatedRow {
    pub(super) record: usize,
    pub(super) slot: usize,
    /// Its event time: that of the slot which it made whole, where there is one.
    pub(super) time: EventTime,
    /// What it adds to.
    pub(super) place: WindowStatus,
    /// The slot that it made whole, which is judged in its place.
    pub(super) row: Option<ResampledRow>,
    pub(super) faults: Vec<SensorFault>,
    /// Its image as a file, where it is one: to learn from.
    pub(super) file: Option<Arc<[u8]>>,
    /// Whether its series had expired and starts anew with it.
    pub(super) expired: bool,
    /// Whether nothing of it is published.
    pub(super) warms_up: bool,
}

/// What a record adds to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum WindowStatus {
    /// No window yet: there is no model, its window is not full, or a sensor is at fault.
    #[default]
    Filling,
    /// The slot of the resampling that still grows.
    Resampling,
    /// Nothing before the next window: it lies between two.
    Between,
    /// It ends a window.
    Window {
        /// Which of the batch.
        index: usize,
        /// Whether records are missing inside.
        spans_gap: bool,
    },
}

/// A record that passed the gate, faulty or not.
pub(super) struct AdmittedRow {
    pub(super) item: GatedRow,
    /// Event time of the series' last record before it.
    pub(super) before: Option<EventTime>,
    pub(super) out_of_order: bool,
}

/// Why a record is not admitted.
pub(super) enum Refusal {
    /// It cannot be scored.
    Reject(RejectReason, String),
    /// Nothing can be said of it: the state of its series cannot be loaded.
    Load(LoadError),
}

impl From<(RejectReason, String)> for Refusal {
    fn from((reason, detail): (RejectReason, String)) -> Self {
        Self::Reject(reason, detail)
    }
}

impl Pipeline {
    /// Gate and window of one record.
    pub(super) fn admit(
        &self,
        record: &Record<'_>,
        arrival: Option<EventTime>,
        values: &[f64],
        table: &mut SeriesTable,
        load: &mut StateLoader<'_>,
        windows: &mut Vec<f32>,
    ) -> Result<AdmittedRow, Refusal> {
        let refusal = |error| match error {
            SlotError::TooMany => {
                let max = self.stream.record.max_series;
                let detail = format!(
                    "series {:?} is new, but the partition already has record.max_series = {max} series",
                    record.series
                );
                Refusal::Reject(RejectReason::TooManySeries, detail)
            }
            SlotError::Load(error) => Refusal::Load(error),
        };
        let new = || SeriesState::new(values.len());
        let slot = table
            .slot(record.partition, &record.series, load, new)
            .map_err(refusal)?;
        let mut item = GatedRow {
            slot,
            ..GatedRow::default()
        };
        let Some(found) = table.get_mut(slot) else {
            return Ok(AdmittedRow {
                item,
                before: None,
                out_of_order: false,
            });
        };
        let before = found.state.gate.newest();
        // What a record with a wrong time would let expire is kept: the gate rejects the record.
        let expired = found
            .state
            .expired(self.stream.retention.forget_after, record.time);
        let mut fresh_state = expired.then(|| SeriesState::new(values.len()));
        let state = fresh_state.as_mut().unwrap_or(&mut found.state);
        let (time, verdict, order) = match &self.resample {
            None => {
                let checked = self
                    .gate
                    .check(&mut state.gate, record.time, arrival, values);
                (record.time, checked.verdict, checked.order)
            }
            Some(plan) => {
                let order = self
                    .gate
                    .check_time(&mut state.gate, record.time, arrival, None)?;
                let restarts = matches!(order, gate::TimeOrder::SetBack { .. });
                let slots = state.resample.get_or_insert_default();
                item.row = plan.push(slots, record.time, values, restarts);
                match &item.row {
                    Some(row) => (
                        row.time,
                        self.gate.check_values(&mut state.gate, &row.values),
                        order,
                    ),
                    None => {
                        item.place = WindowStatus::Resampling;
                        (record.time, GateVerdict::Pass, order)
                    }
                }
            }
        };
        item.time = time;
        if let GateVerdict::Reject(reason, detail) = verdict {
            return Err(Refusal::Reject(reason, detail));
        }
        if let Some(state) = fresh_state {
            // Its second half waits until the records before it in the batch have been judged.
            (found.state.gate, found.state.window, found.state.resample) =
                (state.gate, state.window, state.resample);
            found.state.inter_arrival.reset();
            item.expired = true;
        }
        match verdict {
            GateVerdict::Fault(faults) => {
                if let Some(window) = &mut found.state.window {
                    window.clear();
                }
                item.faults = faults;
            }
            GateVerdict::Pass
                if item.place != WindowStatus::Resampling && self.stream.image.is_none() =>
            {
                let values = item.row.as_ref().map_or(values, |row| &row.values);
                if let Some(model) = &self.model {
                    item.place = self.gather(model, &mut found.state, time, values, windows);
                }
            }
            GateVerdict::Pass | GateVerdict::Reject(..) => {}
        }
        Ok(AdmittedRow {
            item,
            before,
            out_of_order: order != gate::TimeOrder::InOrder,
        })
    }

    /// Adds a record to its series' window, and the window, where it is full, to those of the
    /// batch.
    fn gather(
        &self,
        model: &ScoringModel,
        state: &mut SeriesState,
        time: EventTime,
        values: &[f64],
        windows: &mut Vec<f32>,
    ) -> WindowStatus {
        let (window, stride) = (self.stream.window, self.stream.stride);
        let is_told = !self.stream.model.context.is_empty();
        let told = is_told.then(|| self.clock.extended(values, &[time], values.len()));
        let values = told.as_deref().unwrap_or(values);
        if window <= 1 {
            model.scorer.scale_onto(values, windows);
            return WindowStatus::Window {
                index: windows.len() / values.len() - 1,
                spans_gap: false,
            };
        }
        let state = state.window.get_or_insert_default();
        state.note(time, model.gap_us);
        if state.push(window, stride, values, |readings| {
            model.scorer.scale_onto(readings, windows)
        }) {
            WindowStatus::Window {
                index: windows.len() / (window * values.len()) - 1,
                spans_gap: state.spans_gap(window),
            }
        } else if state.is_between(window, stride, values.len()) {
            WindowStatus::Between
        } else {
            WindowStatus::Filling
        }
    }
}
