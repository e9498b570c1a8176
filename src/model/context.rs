//! Context: the time features of a record, as inputs of the model that are not scored.
//!
//! Contract: each [`TimeFeature`] is two numbers, cosine and sine of the angle that its cycle has
//! turned through, so that the end of a day is next to the begin of the next one. They are within
//! +-1 and are not scaled: a model that was trained in one hour must not see another hour as far
//! out as its data happened to lie close together.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::scaler::Scaler;
use crate::model::ModelSettings;
use crate::model::TimeFeature;
use crate::record::EventTime;

const DAY_S: f64 = 86_400.0;

/// The time features of a stream's model, and their time zone.
#[derive(Clone, PartialEq, Debug)]
pub struct TimeContext {
    context: Vec<TimeFeature>,
    zone: TimeZone,
}

impl TimeContext {
    /// The clock of a stream's model.
    pub fn new(model: &ModelSettings) -> Self {
        Self {
            context: model.context.clone(),
            zone: model.time_zone.clone(),
        }
    }

    /// Appends the context of a record at `time`. A time that no calendar has is the begin of a
    /// cycle.
    pub fn append(&self, time: EventTime, out: &mut Vec<f64>) {
        if self.context.is_empty() {
            return;
        }
        let civil = Timestamp::from_microsecond(time.0).map(|time| self.zone.to_datetime(time));
        let (day, second) = civil.map_or((0, 0.0), |at| {
            let second = f64::from(at.hour()) * 3_600.0
                + f64::from(at.minute()) * 60.0
                + f64::from(at.second());
            (
                at.date().weekday().to_monday_zero_offset(),
                second + f64::from(at.subsec_nanosecond()) * 1e-9,
            )
        });
        for context in &self.context {
            let turns = match context {
                TimeFeature::TimeOfDay => second / DAY_S,
                TimeFeature::DayOfWeek => (f64::from(day) + second / DAY_S) / 7.0,
            };
            let angle = std::f64::consts::TAU * turns;
            out.extend([libm::cos(angle), libm::sin(angle)]);
        }
    }

    /// Rows of `fields` fields (row-major, one for each of `times`), each with its context behind
    /// it.
    pub fn extended(&self, rows: &[f64], times: &[EventTime], fields: usize) -> Vec<f64> {
        let mut out =
            Vec::with_capacity(rows.len() + times.len() * TimeFeature::inputs(&self.context));
        for (row, &time) in rows.chunks_exact(fields).zip(times) {
            out.extend_from_slice(row);
            self.append(time, &mut out);
        }
        out
    }

    /// A scaler of fields that leaves the context behind them as it is.
    pub fn extend(&self, mut scaler: Scaler) -> Scaler {
        let width = TimeFeature::inputs(&self.context);
        scaler.mean.extend(std::iter::repeat_n(0.0, width));
        scaler.sd.extend(std::iter::repeat_n(1.0, width));
        scaler
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(zone: &str, time: &str) -> Vec<f64> {
        let context = vec![TimeFeature::TimeOfDay, TimeFeature::DayOfWeek];
        let clock = TimeContext {
            context,
            zone: TimeZone::get(zone).unwrap(),
        };
        let mut out = Vec::new();
        clock.append(
            EventTime(time.parse::<Timestamp>().unwrap().as_microsecond()),
            &mut out,
        );
        out.iter().map(|x| (x * 1e6).round() / 1e6 + 0.0).collect()
    }

    #[test]
    fn days_and_weeks_turn_around() {
        // A Monday.
        assert_eq!(at("UTC", "2026-03-09T00:00:00Z"), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(at("UTC", "2026-03-09T06:00:00Z")[..2], [0.0, 1.0]);
        assert_eq!(at("UTC", "2026-03-12T12:00:00Z"), [-1.0, 0.0, -1.0, 0.0]);
        let before = at("UTC", "2026-03-08T23:59:59.9Z");
        let after = at("UTC", "2026-03-09T00:00:00Z");
        assert!(
            before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-4),
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn the_clock_is_the_plants() {
        assert_eq!(at("Europe/Zurich", "2026-03-09T05:00:00Z")[..2], [0.0, 1.0]);
        // Summer time: the shift begins an hour earlier in UTC.
        assert_eq!(at("Europe/Zurich", "2026-07-06T04:00:00Z")[..2], [0.0, 1.0]);
    }
}
