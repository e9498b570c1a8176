//! The gate: tells wrong times and sensor faults apart before any model sees a record.
//!
//! A [`Plan`] is made once for a stream and a bundle; a [`GateState`] belongs to one series and holds the little that
//! the rules need to remember. [`Plan::check`] is pure: the arrival time is an argument, and the same records in the
//! same order give the same verdicts, whether or not the state was stored and loaded in between.
//!
//! The rules lean towards silence. A record that is called faulty is not scored, so a false fault hides a true anomaly;
//! a fault that is missed still reaches the model, which finds it strange.
//!
//! | rule | needs a bundle | where |
//! |---|---|---|
//! | future, duplicate, late | no | `clock` |
//! | missing, non-finite, out of range | no | `field` |
//! | stuck | no; a bundle makes it exact | `field` |
//! | flat | yes | `field` |
//! | scale jump | yes | `scale` |
//! | spike | yes | `spike` |

mod clock;
mod field;
mod normal;
mod scale;
mod spike;

use serde::{Deserialize, Serialize};

pub use clock::Order;
pub use normal::{Normal, normals};

use crate::config::settings;
use crate::record::{EventTime, Fault, GateVerdict, MISSING, RejectReason};

/// The rules of one stream under one bundle.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    clock: clock::Limits,
    fields: Vec<field::Limits>,
}

/// What the gate remembers of one series: 20 bytes a field, and its clock.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GateState {
    clock: clock::Clock,
    fields: Box<[field::Memory]>,
}

impl GateState {
    /// The state of a series that has sent nothing yet, for a stream of `fields` fields.
    pub fn new(fields: usize) -> Self {
        Self {
            clock: clock::Clock::default(),
            fields: vec![field::Memory::default(); fields].into(),
        }
    }

    /// The state of a series of which nothing is known but the time of its newest record.
    pub fn seen(fields: usize, newest: EventTime) -> Self {
        Self {
            clock: clock::Clock::at(newest),
            ..Self::new(fields)
        }
    }

    /// How many fields it is for.
    pub fn fields(&self) -> usize {
        self.fields.len()
    }

    /// The newest event time that was accepted; `None` before the first.
    pub fn newest(&self) -> Option<EventTime> {
        self.clock.newest()
    }
}

/// What the gate says of one record.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    /// Whether the record is scored.
    pub verdict: GateVerdict,
    /// Where its time stands among those of its series; [`Order::InOrder`] for a rejected record.
    pub order: Order,
}

impl Plan {
    /// The rules of `gate` for `fields`.
    ///
    /// `normals` has what the bundle knows of each field, in the same order, and is `None` while the stream has no
    /// bundle: then nothing is called flat or wrongly scaled. A field beyond its end is treated as without a bundle.
    pub fn new(
        gate: &settings::Gate,
        fields: &[settings::Field],
        normals: Option<&[Normal]>,
    ) -> Self {
        let fields = fields.iter().enumerate().map(|(index, field)| {
            let normal = normals.and_then(|normals| normals.get(index));
            field::Limits::new(gate, field, normal)
        });
        Self {
            clock: clock::Limits::new(gate),
            fields: fields.collect(),
        }
    }

    /// Judges one record of a series and remembers it in `state`.
    ///
    /// `values` are the readings in the units of the sensors, with [`MISSING`] and
    /// [`NON_FINITE`](crate::record::NON_FINITE) as decode writes them; any other NaN or infinity counts as those, and
    /// readings that `values` is too short for are missing. `arrival` is when the record came in, where that is known.
    /// A rejected record leaves the state as it was, except that late ones are counted. Every faulty sensor is listed,
    /// each with the first rule that it breaks.
    ///
    /// A state made for another number of fields is of another configuration and is started anew.
    pub fn check(
        &self,
        state: &mut GateState,
        time: EventTime,
        arrival: Option<EventTime>,
        values: &[f64],
    ) -> Checked {
        match self.check_time(state, time, arrival, Some(values)) {
            Ok(order) => Checked {
                verdict: self.check_values(state, values),
                order,
            },
            Err((reason, detail)) => Checked {
                verdict: GateVerdict::Reject(reason, detail),
                order: Order::InOrder,
            },
        }
    }

    /// The first half of [`Plan::check`]: the time alone. Without `values` nothing is taken for a duplicate.
    ///
    /// # Errors
    /// Why the record is rejected.
    pub fn check_time(
        &self,
        state: &mut GateState,
        time: EventTime,
        arrival: Option<EventTime>,
        values: Option<&[f64]>,
    ) -> Result<Order, (RejectReason, String)> {
        if state.fields.len() != self.fields.len() {
            *state = GateState::new(self.fields.len());
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

    fn readings(&self, values: &[f64]) -> impl Iterator<Item = f64> {
        (0..self.fields.len()).map(|index| values.get(index).copied().unwrap_or(MISSING))
    }

    /// The second half: the readings, which may be those of a row of several records.
    pub fn check_values(&self, state: &mut GateState, values: &[f64]) -> GateVerdict {
        let mut faults = Vec::new();
        for (field, (limits, x)) in self.fields.iter().zip(self.readings(values)).enumerate() {
            let Some(memory) = state.fields.get_mut(field) else {
                break;
            };
            if let Some((kind, value)) = limits.check(memory, x) {
                faults.push(Fault { field, kind, value });
            }
        }
        if faults.is_empty() {
            GateVerdict::Pass
        } else {
            GateVerdict::Fault(faults)
        }
    }
}
