//! The first step after decoding: opens the series of a record and takes the record through the
//! gate, resampling and held readings inside.

use std::borrow::Cow;
use std::time::Duration;

use super::detector::Detector;
use super::fits::row_layout;
use super::series::{LoadError, SeriesAccess, SeriesState, Slot, SlotError};
use crate::config::settings::StreamSettings;
use crate::gate::{GateOutput, GateRules, GateState, TimeOrder};
use crate::hold::HoldRules;
use crate::record::row::{DecodedRow, GatedRow, Increment, WindowStatus};
use crate::record::{EventTime, GateVerdict, Record, RejectReason};
use crate::resample::{ResampledRow, Resampler};

/// See the module.
pub struct Intake {
    /// Fields of a record.
    fields: usize,
    /// What the rows of a series are made of.
    layout: u32,
    /// Series of a partition at most.
    max_series: usize,
    /// Event time after which a silent series starts again; zero: never.
    forget_after: Duration,
    gate: GateRules,
    /// Typical time between two records of a series, in microseconds; 0 while there is no bundle.
    period: i64,
    /// `None` where records are taken as they come.
    resample: Option<Resampler>,
    /// `None` where no reading is held.
    hold: Option<HoldRules>,
    /// Records that arrived before this warm up: they were there before the stream's first start.
    warm_until: Option<EventTime>,
}

/// Why a record does not get past the gate.
pub(super) enum Refusal {
    /// It cannot be scored.
    Reject(RejectReason, String),
    /// The state of its series cannot be loaded.
    Load(LoadError),
}

impl From<(RejectReason, String)> for Refusal {
    fn from((reason, detail): (RejectReason, String)) -> Self {
        Self::Reject(reason, detail)
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl Intake {
    /// The intake of a stream; the gate checks readings against what the bundle of `detector` knows
    /// of each field.
    pub(super) fn new(stream: &StreamSettings, detector: &Detector) -> Self {
        let fields = &stream.record.fields;
        Self {
            fields: fields.len(),
            layout: row_layout(stream),
            max_series: stream.record.max_series,
            forget_after: stream.retention.forget_after,
            gate: gate_rules(stream, detector),
            period: period(detector),
            resample: Resampler::new(&stream.resample, fields),
            hold: HoldRules::new(&stream.record),
            warm_until: None,
        }
    }

    /// Checks readings against what another bundle knows of each field.
    pub(super) fn set_normals(&mut self, stream: &StreamSettings, detector: &Detector) {
        self.gate = gate_rules(stream, detector);
        self.period = period(detector);
    }

    /// Publishes nothing of records that arrived before `until`, and learns from them.
    pub fn warm_up(&mut self, until: EventTime) {
        self.warm_until = Some(until);
    }

    /// Takes a record through the gate.
    ///
    /// # Errors
    /// See [`Refusal`]; the state of the series is then as it was, but for late records, which are
    /// counted.
    pub(super) fn admit<'b>(
        &self,
        row: DecodedRow<'b>,
        series: &mut SeriesAccess<'_, '_>,
    ) -> Result<GatedRow<'b>, Refusal> {
        let record = row.record;
        let slot = series
            .open(record.partition, &record.series, self.fields)
            .map_err(|error| self.refusal(record, error))?;
        let arrived = record.arrival.zip(self.warm_until);
        let mut row = GatedRow {
            record,
            time: record.time,
            record_time: record.time,
            values: Cow::Borrowed(row.values),
            image: row.image,
            slot,
            previous: None,
            faults: Vec::new(),
            increments: Vec::new(),
            ignored: false,
            outside: Vec::new(),
            window: WindowStatus::Filling,
            silence: Vec::new(),
            forgotten: false,
            out_of_order: false,
            warms_up: arrived.is_some_and(|(arrival, until)| arrival < until),
        };
        if let Some(slot) = series.table.get_mut(slot) {
            self.check(&mut row, slot)?;
        }
        Ok(row)
    }

    fn refusal(&self, record: &Record<'_>, error: SlotError) -> Refusal {
        match error {
            SlotError::TooMany => {
                let detail = format!(
                    "series {:?} is new, but the partition already has record.max_series = {} series",
                    record.series, self.max_series
                );
                Refusal::Reject(RejectReason::TooManySeries, detail)
            }
            SlotError::Load(error) => Refusal::Load(error),
        }
    }

    fn check(&self, row: &mut GatedRow<'_>, slot: &mut Slot) -> Result<(), Refusal> {
        let found = &mut slot.state;
        if found.layout != self.layout {
            found.begin_layout(self.layout, self.fields);
        }
        row.previous = found.gate.newest();
        row.record_time = time_of(row.record, row.previous);
        row.time = row.record_time;
        // The state of a series that a record with a wrong time would let expire is kept: the gate
        // rejects the record.
        row.forgotten = found.expired(self.forget_after, row.time);
        let mut fresh = row.forgotten.then(|| SeriesState::new(self.fields));
        let state = fresh.as_mut().unwrap_or(found);
        let checked = match &self.resample {
            None => self.check_record(row, state)?,
            Some(resampler) => self.check_resampled(resampler, row, state)?,
        };
        row.out_of_order = checked.order != TimeOrder::InOrder;
        match checked.verdict {
            GateVerdict::Reject(reason, detail) => return Err(Refusal::Reject(reason, detail)),
            GateVerdict::Fault(faults) => row.faults = faults,
            GateVerdict::Pass => {}
        }
        if row.window != WindowStatus::Resampling && !row.ignored {
            row.outside = self.gate.outside(&row.values);
            row.outside
                .retain(|found| row.faults.iter().all(|fault| fault.field != found.field));
        }
        if let Some(fresh) = fresh {
            // Chart, threshold and episodes wait until the records before it in the batch have been
            // judged.
            (found.gate, found.window, found.resample) = (fresh.gate, fresh.window, fresh.resample);
            found.held = fresh.held;
            found.inter_arrival.reset();
        }
        if row.forgotten || row.previous.is_none() && found.since().is_none() {
            found.begin_at(row.record_time);
        }
        Ok(())
    }

    /// What the counters of a row rose by; before the gate sees its readings.
    fn increments(&self, row: &GatedRow<'_>, state: &GateState) -> Vec<Increment> {
        let elapsed = row
            .previous
            .map_or(0, |previous| row.time.micros_since(previous));
        self.gate
            .increments(state, &row.values, elapsed, self.period)
    }

    /// Checks the time and the readings of the record.
    fn check_record(
        &self,
        row: &mut GatedRow<'_>,
        state: &mut SeriesState,
    ) -> Result<GateOutput, Refusal> {
        let (time, arrival) = (row.time, row.record.arrival);
        let filled = self.fill(row, state);
        row.increments = self.increments(row, &state.gate);
        let values = Some(&*row.values);
        let order = self
            .gate
            .check_time(&mut state.gate, time, arrival, values)?;
        let verdict = self.check_values(row, state, &filled);
        Ok(GateOutput { verdict, order })
    }

    /// Fills the row with the readings that are held. Returns the fields of these.
    fn fill(&self, row: &mut GatedRow<'_>, state: &SeriesState) -> Vec<usize> {
        match (&self.hold, &state.held) {
            (Some(hold), Some(held)) => hold.fill(held, row.time, row.values.to_mut()),
            _ => Vec::new(),
        }
    }

    fn check_values(
        &self,
        row: &mut GatedRow<'_>,
        state: &mut SeriesState,
        filled: &[usize],
    ) -> GateVerdict {
        row.ignored = self.gate.ignores(&row.values);
        let (time, values) = (row.time, &row.values);
        if let Some(hold) = &self.hold {
            let held = state.held.get_or_insert_default();
            hold.hold(held, time, values, filled);
        }
        if row.ignored {
            // What a start-up does to readings and counters is no fault, and no past of what follows.
            state.gate.forget_readings(self.fields);
            return GateVerdict::Pass;
        }
        (self.gate).check_values(&mut state.gate, time, values, filled)
    }

    /// Checks the time of the record, and the readings of the row that it completes.
    fn check_resampled(
        &self,
        resampler: &Resampler,
        row: &mut GatedRow<'_>,
        state: &mut SeriesState,
    ) -> Result<GateOutput, Refusal> {
        let time = row.time;
        let arrival = row.record.arrival;
        let order = self.gate.check_time(&mut state.gate, time, arrival, None)?;
        let restarts = matches!(order, TimeOrder::SetBack { .. });
        let open = state.resample.get_or_insert_default();
        let verdict = match resampler.push(open, time, &row.values, restarts) {
            Some(ResampledRow { time, values }) => {
                (row.time, row.values) = (time, Cow::Owned(values));
                let filled = self.fill(row, state);
                row.increments = self.increments(row, &state.gate);
                self.check_values(row, state, &filled)
            }
            None => {
                row.window = WindowStatus::Resampling;
                GateVerdict::Pass
            }
        };
        Ok(GateOutput { verdict, order })
    }
}

/// The time of a record. A local time of the hour that comes twice is the one that is nearer to the
/// series' newest record, or else to the arrival of its message: records come in their order.
fn time_of(record: &Record<'_>, newest: Option<EventTime>) -> EventTime {
    let near = newest.or(record.arrival).unwrap_or(record.time);
    let distance = |time: &EventTime| time.micros_since(near).unsigned_abs();
    let second = record.second_time;
    let second = second.filter(|second| distance(second) < distance(&record.time));
    second.unwrap_or(record.time)
}

fn period(detector: &Detector) -> i64 {
    let bundle = detector.bundle();
    bundle.map_or(0, |bundle| bundle.calibration.period_micros)
}

fn gate_rules(stream: &StreamSettings, detector: &Detector) -> GateRules {
    let normals = detector.normals();
    GateRules::new(&stream.gate, &stream.record.fields, normals.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_time_that_comes_twice_is_that_in_the_order_of_the_records() {
        const MINUTE: i64 = 60_000_000;
        let record = |minute: i64| Record {
            message: 0,
            partition: 0,
            offset: 0,
            part: None,
            series: Cow::Borrowed("m"),
            time: EventTime(minute * MINUTE),
            second_time: Some(EventTime((minute + 60) * MINUTE)),
            arrival: Some(EventTime(75 * MINUTE)),
        };
        let time = |minute, newest: Option<i64>| {
            let newest = newest.map(|minute| EventTime(minute * MINUTE));
            time_of(&record(minute), newest).0 / MINUTE
        };
        assert_eq!(time(0, Some(-1)), 0);
        assert_eq!(time(30, Some(29)), 30);
        assert_eq!(time(29, Some(30)), 29, "late");
        assert_eq!(time(0, Some(59)), 60);
        assert_eq!(time(1, Some(60)), 61);
        assert_eq!(time(59, Some(118)), 119);
        assert_eq!(time(20, None), 80, "by its arrival");
        let mut plain = record(5);
        (plain.second_time, plain.arrival) = (None, None);
        assert_eq!(time_of(&plain, Some(EventTime(MINUTE))), plain.time);
    }
}
