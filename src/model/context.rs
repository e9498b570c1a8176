//! Context: the time features of a record, as inputs of the model that are not scored.
//!
//! Contract: each [`TimeFeature`] is two numbers, cosine and sine of the angle that its cycle has
//! turned through, so that the end of a day is next to the begin of the next one. They are within
//! +-1 and are not scaled: a model that was trained in one hour must not see another hour as far
//! out as its data happened to lie close together.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::scaler::Scaler;
use crate::model::{DAY_SLOTS, ModelSettings, TimeFeature};
use crate::record::EventTime;

const DAY_S: f64 = 86_400.0;
/// Slots of an hour.
const HOUR_SLOTS: usize = 4;
/// A holiday is a Sunday; a Monday is 0.
const SUNDAY: i8 = 6;

/// The time features of a stream's model, their time zone, and the plant's holidays.
#[derive(Clone, PartialEq, Debug)]
pub struct TimeContext {
    context: Vec<TimeFeature>,
    zone: TimeZone,
    holidays: Arc<[Date]>,
}

/// A time by the plant's clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClockTime {
    /// Day of the week from Monday, 0 to 6; of a holiday Sunday's.
    weekday: i8,
    /// Seconds of the day, by its clock: one that the clocks change on has another length.
    second: f64,
    /// Its date, as the number of a day.
    pub day: i32,
    /// Its slot of the seasonal baseline; see [`super::seasons`].
    pub slot: usize,
}

/// How slots are joined into coarser ones: a slot belongs to cell `slot % cycle / join`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotWidth {
    /// Slots after which the cells begin again.
    pub cycle: usize,
    /// Slots of a cell.
    pub join: usize,
}

impl SlotWidth {
    pub(super) fn cell(self, slot: usize) -> usize {
        slot % self.cycle / self.join
    }
}

impl TimeContext {
    /// The clock of a stream's model.
    pub fn new(model: &ModelSettings) -> Self {
        Self {
            context: model.context.clone(),
            zone: model.time_zone.clone(),
            holidays: model.holidays.as_slice().into(),
        }
    }

    /// A time by this clock. One that no calendar has is the begin of a cycle.
    pub fn at(&self, time: EventTime) -> ClockTime {
        let civil = Timestamp::from_microsecond(time.0).map(|time| self.zone.to_datetime(time));
        let (date, second) = civil.map_or((Date::ZERO, 0.0), |at| {
            let second = f64::from(at.hour()) * 3_600.0
                + f64::from(at.minute()) * 60.0
                + f64::from(at.second());
            (at.date(), second + f64::from(at.subsec_nanosecond()) * 1e-9)
        });
        let weekday = match self.holidays.contains(&date) {
            true => SUNDAY,
            false => date.weekday().to_monday_zero_offset(),
        };
        let quarter = ((second / DAY_S * DAY_SLOTS as f64) as usize).min(DAY_SLOTS - 1);
        let has = |feature| self.context.contains(&feature);
        let slot = match (has(TimeFeature::TimeOfDay), has(TimeFeature::DayOfWeek)) {
            (true, true) => usize::from(weekday.unsigned_abs()) * DAY_SLOTS + quarter,
            (true, false) => quarter,
            (false, true) => usize::from(weekday.unsigned_abs()),
            (false, false) => 0,
        };
        ClockTime {
            weekday,
            second,
            day: i32::from(date.year()) * 366 + i32::from(date.day_of_year()),
            slot,
        }
    }

    /// Slots of the seasonal baseline; 0 without time features.
    pub fn slots(&self) -> usize {
        TimeFeature::slots(&self.context)
    }

    /// How its slots are joined, the coarsest first.
    pub(super) fn slot_widths(&self) -> Vec<SlotWidth> {
        let slots = self.slots();
        let width = |cycle, join| SlotWidth { cycle, join };
        let mut widths = Vec::new();
        if self.context.contains(&TimeFeature::TimeOfDay) {
            widths.push(width(DAY_SLOTS, HOUR_SLOTS));
            if slots > DAY_SLOTS {
                widths.push(width(slots, HOUR_SLOTS));
            }
        }
        widths.push(width(slots, 1));
        widths
    }

    /// How often the longest cycle was passed through from the first to the last of `times`; `None`
    /// without time features.
    pub fn cycles(&self, times: &[EventTime]) -> Option<f64> {
        let days = match self.slots() {
            0 => return None,
            DAY_SLOTS => 1.0,
            _ => 7.0,
        };
        let ends = times.iter().max().zip(times.iter().min());
        let micros = ends.map_or(0, |(last, first)| last.micros_since(*first));
        Some(micros as f64 * 1e-6 / (days * DAY_S))
    }

    /// Appends the context of a record at `time`.
    pub fn append(&self, time: EventTime, out: &mut Vec<f64>) {
        if self.context.is_empty() {
            return;
        }
        let at = self.at(time);
        for context in &self.context {
            let turns = match context {
                TimeFeature::TimeOfDay => at.second / DAY_S,
                TimeFeature::DayOfWeek => (f64::from(at.weekday) + at.second / DAY_S) / 7.0,
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
impl TimeContext {
    /// One of these features in UTC.
    pub fn utc(features: &[TimeFeature]) -> Self {
        Self {
            context: features.to_vec(),
            zone: TimeZone::UTC,
            holidays: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(zone: &str, holidays: &[&str]) -> TimeContext {
        TimeContext {
            zone: TimeZone::get(zone).unwrap(),
            holidays: holidays.iter().map(|day| day.parse().unwrap()).collect(),
            ..TimeContext::utc(&[TimeFeature::TimeOfDay, TimeFeature::DayOfWeek])
        }
    }

    fn at(zone: &str, time: &str) -> Vec<f64> {
        let clock = clock(zone, &[]);
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

    #[test]
    fn a_holiday_is_a_sunday_and_summer_time_moves_no_slot() {
        let slot = |clock: &TimeContext, time: &str| {
            let time = time.parse::<Timestamp>().unwrap();
            clock.at(EventTime(time.as_microsecond())).slot
        };
        let zurich = clock("Europe/Zurich", &["2026-05-14"]);
        // Thursday, Sunday, and a Thursday in winter, at 6:15 by the clock.
        let thursday = slot(&zurich, "2026-05-14T04:15:00Z");
        assert_eq!(thursday, slot(&zurich, "2026-05-17T04:15:00Z"));
        assert_eq!(thursday, 6 * 96 + 25);
        assert_eq!(slot(&zurich, "2026-01-15T05:15:00Z"), 3 * 96 + 25);
        assert_eq!(zurich.slots(), 7 * 96);
        assert_eq!(TimeContext::utc(&[]).slots(), 0);
    }
}
