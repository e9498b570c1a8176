//! The gate: finds invalid times and sensor faults before the model sees a record.
//!
//! A [`GateRules`] is made once for a stream and a bundle; a [`GateState`] belongs to one series
//! and holds the little that the rules need to remember. [`GateRules::check`] is pure: the arrival
//! time is an argument, and the same records in the same order give the same verdicts, whether or
//! not the state was stored and loaded in between.
//!
//! The rules lean towards silence. A reading that is called faulty is not scored, so a false fault
//! hides a true anomaly; a fault that is missed still reaches the model, which scores it as an
//! anomaly. Sensors that jump together are the machine's doing, and no faults.
//!
//! | rule | needs a bundle | where |
//! |---|---|---|
//! | future, duplicate, late | no | `clock` |
//! | missing, non-finite, out of range | no | `field` |
//! | sentinel | no; a bundle makes it exact | `sentinel` |
//! | stuck, standstill | no; a bundle makes it exact | `field` |
//! | flat | yes | `field` |
//! | scale jump | yes | `scale` |
//! | counter reset | yes | `counter` |
//! | spike | yes | `spike` |
//!
//! A fault that lasts for very long is examined: `doubt`.

mod clock;
mod counter;
mod doubt;
mod field;
mod normal;
mod scale;
mod sentinel;
mod settings;
mod spike;

use serde::{Deserialize, Serialize};

pub use clock::TimeOrder;
pub use counter::{Counter, increment, increments};
pub use normal::{NormalRange, normals};
pub use settings::GateSettings;

use crate::record::format::FieldSettings;
use crate::record::row::{Increment, OutsideReading};
use crate::record::{EventTime, FaultKind, GateVerdict, MISSING, RejectReason, SensorFault};

/// The rules of one stream under one bundle.
#[derive(Clone, PartialEq, Debug)]
pub struct GateRules {
    clock: clock::TimeLimits,
    fields: Vec<field::FieldRules>,
    /// `None` where faults are never doubted.
    doubt: Option<doubt::DoubtRules>,
    /// Fields whose states are ignored, each with these.
    ignored: Vec<(usize, Vec<f64>)>,
}

/// What the gate remembers of one series: some 24 bytes a field, and its clock.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GateState {
    clock: clock::SeriesClock,
    fields: Box<[field::FieldState]>,
    /// Faults that last, and fields whose normal range was relearned; boxed, since few series have
    /// any.
    doubts: Option<Box<doubt::Doubts>>,
}

impl GateState {
    /// The state of a series that has sent nothing yet, for a stream of `fields` fields.
    pub fn new(fields: usize) -> Self {
        Self {
            clock: clock::SeriesClock::default(),
            fields: vec![field::FieldState::default(); fields].into(),
            doubts: None,
        }
    }

    /// The state of a series of which nothing is known but the time of its newest record.
    pub fn seen(fields: usize, newest: EventTime) -> Self {
        Self {
            clock: clock::SeriesClock::at(newest),
            ..Self::new(fields)
        }
    }

    /// How many fields its records have.
    pub fn fields(&self) -> usize {
        self.fields.len()
    }

    /// Forgets the readings, for records of `fields` other fields; the clock stays.
    pub fn forget_readings(&mut self, fields: usize) {
        self.fields = vec![field::FieldState::default(); fields].into();
    }

    /// The newest event time that was accepted; `None` before the first.
    pub fn newest(&self) -> Option<EventTime> {
        self.clock.newest()
    }
}

/// The gate's result for one record.
#[derive(Clone, PartialEq, Debug)]
pub struct GateOutput {
    /// Whether the record is scored.
    pub verdict: GateVerdict,
    /// Order of its time among those of its series; [`TimeOrder::InOrder`] for a rejected record.
    pub order: TimeOrder,
}

impl GateRules {
    /// The rules of `gate` for `fields`.
    ///
    /// `normals` has what the bundle knows of each field, in the same order, and is `None` while
    /// the stream has no bundle: then nothing is called flat or wrongly scaled. A field beyond its
    /// end is treated as without a bundle.
    pub fn new(
        gate: &GateSettings,
        fields: &[FieldSettings],
        normals: Option<&[NormalRange]>,
    ) -> Self {
        let rules = fields.iter().enumerate().map(|(index, field)| {
            let normal = normals.and_then(|normals| normals.get(index));
            field::FieldRules::new(gate, field, normal)
        });
        Self {
            clock: clock::TimeLimits::new(gate),
            fields: rules.collect(),
            doubt: normals.and_then(|normals| doubt::DoubtRules::new(gate, fields, normals)),
            ignored: gate.ignored(fields).collect(),
        }
    }

    /// Judges one record of a series and remembers it in `state`.
    ///
    /// `values` are the readings in the units of the sensors, with [`MISSING`] and
    /// [`NON_FINITE`](crate::record::NON_FINITE) as decode writes them; any other NaN or infinity
    /// counts as those, and readings that `values` is too short for are missing. `arrival` is when
    /// the record came in, where that is known. A rejected record leaves the state as it was,
    /// except that late ones are counted. Every faulty sensor is listed, each with the first rule
    /// that it breaks.
    ///
    /// The readings of a state made for another number of fields belong to another configuration and
    /// are forgotten.
    pub fn check(
        &self,
        state: &mut GateState,
        time: EventTime,
        arrival: Option<EventTime>,
        values: &[f64],
    ) -> GateOutput {
        match self.check_time(state, time, arrival, Some(values)) {
            Ok(order) => GateOutput {
                verdict: self.check_values(state, time, values, &[]),
                order,
            },
            Err((reason, detail)) => GateOutput {
                verdict: GateVerdict::Reject(reason, detail),
                order: TimeOrder::InOrder,
            },
        }
    }

    /// The first half of [`GateRules::check`]: the time alone. Without `values` no record is a
    /// duplicate.
    ///
    /// # Errors
    /// Why the record is rejected.
    pub fn check_time(
        &self,
        state: &mut GateState,
        time: EventTime,
        arrival: Option<EventTime>,
        values: Option<&[f64]>,
    ) -> Result<TimeOrder, (RejectReason, String)> {
        if state.fields.len() != self.fields.len() {
            state.forget_readings(self.fields.len());
        }
        let repeated = || {
            values.is_some_and(|values| {
                state
                    .fields
                    .iter()
                    .zip(self.readings(values))
                    .all(|(memory, x)| memory.repeats(x))
            })
        };
        self.clock.check(&mut state.clock, time, arrival, repeated)
    }

    /// Whether a record is to be ignored, by its states.
    pub fn ignores(&self, values: &[f64]) -> bool {
        let mut rules = self.ignored.iter();
        rules.any(|(field, states)| {
            values
                .get(*field)
                .is_some_and(|state| states.contains(state))
        })
    }

    fn readings(&self, values: &[f64]) -> impl Iterator<Item = f64> {
        (0..self.fields.len()).map(|index| values.get(index).copied().unwrap_or(MISSING))
    }

    /// The readings that lie outside the range which their fields were trained on, by more than its
    /// width; none while there is no bundle.
    pub fn outside(&self, values: &[f64]) -> Vec<OutsideReading> {
        let fields = self.fields.iter().zip(values).enumerate();
        let outside = fields.filter_map(|(field, (rules, &value))| {
            Some(OutsideReading {
                field,
                value,
                trained: rules.trained_range(value)?,
            })
        });
        outside.collect()
    }

    /// What the counters among the fields rose by since the record before, `elapsed` microseconds ago,
    /// for one `period`: NaN where they fell, or where there is no reading before. None while
    /// there is no bundle. `state` has not seen the readings yet.
    pub fn increments(
        &self,
        state: &GateState,
        values: &[f64],
        elapsed: i64,
        period: i64,
    ) -> Vec<Increment> {
        let fields = self.fields.iter().zip(&state.fields).zip(values);
        let counted = fields
            .enumerate()
            .filter(|(_, ((rules, _), _))| rules.is_counter());
        counted
            .map(|(field, ((rules, memory), &x))| {
                let (last, period) = (memory.last(), rules.rise_period(period));
                Increment {
                    field,
                    value: last.map_or(f64::NAN, |last| increment(last, x, elapsed, period)),
                }
            })
            .collect()
    }

    /// The second half: the readings, which may be those of a row of several records, at its time. Those
    /// of the fields `held` did not come: nothing is known of their sensors.
    pub fn check_values(
        &self,
        state: &mut GateState,
        time: EventTime,
        values: &[f64],
        held: &[usize],
    ) -> GateVerdict {
        let mut faults = Vec::new();
        for (field, (limits, x)) in self.fields.iter().zip(self.readings(values)).enumerate() {
            let Some(memory) = state.fields.get_mut(field) else {
                break;
            };
            if held.contains(&field) {
                continue;
            }
            let doubt = self.doubt.as_ref();
            let relearned = doubt.and_then(|doubt| doubt.rules_of(state.doubts.as_deref(), field));
            let limits = relearned.as_ref().unwrap_or(limits);
            if let Some((kind, value)) = limits.check(memory, x) {
                faults.push(SensorFault {
                    field,
                    kind,
                    value,
                    repeats: (kind == FaultKind::Stuck).then(|| memory.run()),
                });
            }
        }
        // A machine that jumps takes more than one of its sensors along.
        let jumps = |fault: &SensorFault| matches!(fault.kind, FaultKind::Jump | FaultKind::Spike);
        if faults.iter().filter(|fault| jumps(fault)).count() > 1 {
            faults.retain(|fault| !jumps(fault));
        }
        // A machine that stands still takes most of them along, some of them at rest.
        let still = self.fields.iter().zip(&state.fields);
        let still = still
            .filter(|(rules, memory)| rules.stands_still(memory))
            .count();
        let is_stuck = |fault: &&mut SensorFault| fault.kind == FaultKind::Stuck;
        if still > 1 && 2 * still > self.fields.len() {
            let stuck = faults.iter_mut().filter(is_stuck);
            stuck.for_each(|fault| fault.kind = FaultKind::Standstill);
        }
        if let Some(doubt) = &self.doubt {
            let (doubts, memories) = (&mut state.doubts, &mut state.fields);
            doubt.follow(doubts, memories, time, values, &mut faults);
        }
        if faults.is_empty() {
            GateVerdict::Pass
        } else {
            GateVerdict::Fault(faults)
        }
    }
}
