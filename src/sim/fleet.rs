//! A fleet: simulated pumps that report together, one record a pump at each step, as the JSON of a
//! plant's gateway.
//!
//! The event time starts at a fixed instant and advances by a fixed period; nothing is read from
//! the clock.

use std::time::Duration;

use super::fault::PlantFault;
use super::pump::{Pump, Surroundings};
use super::sensor::{Sensor, Values};
use crate::record::EventTime;

/// What a fleet is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FleetPlan {
    /// How many pumps.
    pub pumps: usize,
    /// Number of the first one.
    pub first: usize,
    /// Seed of all that is random. Pump 3 of two fleets with the same seed is the same, whatever
    /// their sizes.
    pub seed: u64,
    /// Event time of the first record.
    pub start: EventTime,
    /// Event time between two records of a pump; not zero.
    pub period: Duration,
    /// Length of the working day in event time, with its load cycle; shorter than a day, so that a
    /// demonstration sees many.
    pub day: Duration,
    /// Length of a year with its seasons in event time, from winter to winter; zero: it is always
    /// winter.
    pub year: Duration,
}

impl Default for FleetPlan {
    /// 20 pumps, a record a second from 2026-03-02T00:00:00Z on, an hour for a day.
    fn default() -> Self {
        Self {
            pumps: 20,
            first: 0,
            seed: 1,
            start: EventTime::from_millis(1_772_409_600_000),
            period: Duration::from_secs(1),
            day: Duration::from_secs(3_600),
            year: Duration::ZERO,
        }
    }
}

impl FleetPlan {
    /// Event time of the record number `step` (saturating).
    pub fn time_of(&self, step: u64) -> EventTime {
        let micros = i64::try_from(self.period.as_micros()).unwrap_or(i64::MAX);
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        EventTime(self.start.0.saturating_add(micros.saturating_mul(step)))
    }

    /// Name of a pump in the records: `pump-07`.
    pub fn name_of(pump: usize) -> String {
        format!("pump-{pump:02}")
    }
}

/// Pumps that run, each with the faults it is going to have.
#[derive(Clone, Debug)]
pub struct Fleet {
    plan: FleetPlan,
    pumps: Vec<Member>,
    /// Number of the next step.
    next: u64,
    /// Text of the present event time: it is the same for all pumps.
    time: String,
}

/// A pump and what belongs to it.
#[derive(Clone, Debug)]
struct Member {
    pump: Pump,
    name: String,
    /// Its faults by time, the next one last: the ones that are over are taken off.
    faults: Vec<PlantFault>,
}

impl Fleet {
    /// A fleet before its first step. Of `faults`, those of pumps that it does not have are left
    /// out; where two faults of a pump overlap, the later one begins when the earlier one is over.
    pub fn new(plan: FleetPlan, faults: &[PlantFault]) -> Self {
        let dt = plan.period.as_secs_f64();
        let day = plan.day.as_secs_f64();
        let member = |index: usize| {
            let index = plan.first + index;
            let mut own: Vec<PlantFault> = faults
                .iter()
                .filter(|fault| fault.pump == index)
                .copied()
                .collect();
            own.sort_by_key(|fault| std::cmp::Reverse(fault.start));
            Member {
                pump: Pump::new(index, plan.seed, dt, day),
                name: FleetPlan::name_of(index),
                faults: own,
            }
        };
        Self {
            pumps: (0..plan.pumps).map(member).collect(),
            plan,
            next: 0,
            time: String::new(),
        }
    }

    /// Moves all pumps by one record and gives its number. The first call gives 0.
    pub fn step(&mut self) -> u64 {
        let step = self.next;
        let day = self.plan.day.as_secs_f64().max(f64::MIN_POSITIVE);
        let seconds = step as f64 * self.plan.period.as_secs_f64();
        let season = match self.plan.year.as_secs_f64() {
            0.0 => 0.0,
            year => 0.5 - 0.5 * (std::f64::consts::TAU * seconds / year).cos(),
        };
        let around = Surroundings {
            step,
            day: (seconds / day).fract(),
            season,
        };
        for member in &mut self.pumps {
            while member.faults.last().is_some_and(|fault| fault.end <= step) {
                member.faults.pop();
            }
            let fault = member.faults.last().filter(|fault| fault.acts_on(step));
            member.pump.step(around, fault);
        }
        self.time = self.plan.time_of(step).to_string();
        self.next += 1;
        step
    }

    /// The readings and names of all pumps after the last step, in the order of the pumps.
    pub fn readings(&self) -> impl Iterator<Item = PumpReading<'_>> {
        self.pumps.iter().map(|member| PumpReading {
            pump: &member.name,
            time: &self.time,
            values: member.pump.values(),
        })
    }
}

/// Room for one record with its longest names and numbers.
const RECORD_BYTES: usize = 512;

/// What one pump reports at one step.
#[derive(Clone, Copy, Debug)]
pub struct PumpReading<'a> {
    /// Name of the pump.
    pub pump: &'a str,
    /// Event time, RFC 3339 in UTC.
    pub time: &'a str,
    /// The readings, at the sensors' resolutions.
    pub values: &'a Values,
}

impl PumpReading<'_> {
    /// Appends the record as one JSON object without a line end; `buffer` is not cleared. A reading that
    /// is not finite is null.
    ///
    /// `{"pump":"pump-07","time":"2026-03-02T00:00:00Z","sensors":{"flow":{"value":118.42,"unit":"m3/h"},...}}`
    pub fn write_json(&self, buffer: &mut Vec<u8>) {
        buffer.reserve(RECORD_BYTES);
        buffer.extend_from_slice(b"{\"pump\":\"");
        buffer.extend_from_slice(self.pump.as_bytes());
        buffer.extend_from_slice(b"\",\"time\":\"");
        buffer.extend_from_slice(self.time.as_bytes());
        buffer.extend_from_slice(b"\",\"sensors\":");
        let mut opening = "{\"";
        for (sensor, value) in Sensor::ALL.into_iter().zip(self.values) {
            buffer.extend_from_slice(opening.as_bytes());
            buffer.extend_from_slice(sensor.as_str().as_bytes());
            buffer.extend_from_slice(b"\":{\"value\":");
            match value.is_finite() {
                true => write_decimal(
                    (value * sensor.steps_per_unit()).round() as i64,
                    sensor.decimals(),
                    buffer,
                ),
                false => buffer.extend_from_slice(b"null"),
            }
            buffer.extend_from_slice(b",\"unit\":\"");
            buffer.extend_from_slice(sensor.unit().as_bytes());
            buffer.extend_from_slice(b"\"}");
            opening = ",\"";
        }
        buffer.extend_from_slice(b"}}");
    }
}

/// Appends `steps` with its last `decimals` digits after a point, digit by digit: the general
/// formatting of floats would be most of the cost of a record.
fn write_decimal(steps: i64, decimals: u32, buffer: &mut Vec<u8>) {
    if steps < 0 {
        buffer.push(b'-');
    }
    let mut rest = steps.unsigned_abs();
    let first = buffer.len();
    let mut written = 0;
    // Lowest digit first, at least one before the point; turned round at the end.
    while rest > 0 || written <= decimals {
        if written == decimals && decimals > 0 {
            buffer.push(b'.');
        }
        buffer.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        written += 1;
    }
    if let Some(digits) = buffer.get_mut(first..) {
        digits.reverse();
    }
}
