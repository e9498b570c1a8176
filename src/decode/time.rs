//! How an event time is written: the forms of [`TimeFormat`], read into [`EventTime`].
//!
//! Every time lies in the years 1970 to 2199; anything else is a wrong unit, a dead clock or
//! garbage, and is refused.
//!
//! - Text is RFC 3339 as `jiff` reads it: a space or a lower-case `t` may replace the `T`, a
//!   lower-case `z` the `Z`. A date alone is its midnight. Fractions are read to the nanosecond and
//!   cut to the microsecond of [`EventTime`].
//! - Text without an offset is local time of `record.time_zone`. An hour that comes twice, at the end
//!   of summer time, gives two times ([`ReadTime`]); one that is skipped is moved on by the gap, as
//!   RFC 5545 has it.
//! - Numbers, also written as text, count from the Unix epoch. Whole numbers are cut to the
//!   microsecond, fractions are rounded to the nearest one (a 64-bit float of seconds cannot hold
//!   more).
//! - [`TimeFormat::Auto`] derives the unit of a number from its magnitude: below 1e10 seconds,
//!   below 1e13 milliseconds, below 1e16 microseconds, else nanoseconds. It refuses times before 2000,
//!   as which numbers of other forms appear, and reads 14 or 17 digits that are a date and a time as
//!   these.
//! - A pattern is read as `strptime` does (POSIX.1-2024; the directives are those of `jiff`).

use std::fmt::{self, Display};

use jiff::Timestamp;
use jiff::civil::{DateTime, Time, date};
use jiff::fmt::strtime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::text::quoted;
use crate::record::format::{RecordFormat, TimeFormat};
use crate::record::{EventTime, ReadTime};

/// 2200-01-01T00:00:00Z in microseconds since the epoch: the first time that is refused.
const END_US: i64 = 7_258_118_400_000_000;
/// 2000-01-01T00:00:00Z: the first time that [`TimeFormat::Auto`] accepts.
const AUTO_BEGIN_US: i64 = 946_684_800_000_000;
/// Distance from the arrival of a message beyond which [`TimeFormat::Auto`] refuses a time: ten
/// years.
const AUTO_DISTANCE_US: i64 = 3_653 * 86_400_000_000;

/// Largest number that [`TimeFormat::Auto`] takes for seconds; each finer unit has a thousand times
/// the border.
const AUTO_SECONDS_BELOW: f64 = 1e10;

/// Length of an RFC 3339 date, `2026-03-09`: an offset can only stand behind it.
const DATE_LEN: usize = 10;

/// Date and time in digits, as [`TimeFormat::Auto`] reads them: the first number of as many digits,
/// and their pattern.
const COMPACT: [(i64, &str); 2] = [
    (10_000_000_000_000, "%Y%m%d%H%M%S"),
    (10_000_000_000_000_000, "%Y%m%d%H%M%S%3f"),
];
/// The first of them with a fraction of the second.
const COMPACT_FRACTION: &str = "%Y%m%d%H%M%S%.f";
/// Digits in front of it.
const COMPACT_DIGITS: usize = 14;
/// The same that it only suggests, by the number of digits: fewer may be a number.
const SUGGESTED: [(usize, &str); 3] = [(12, "%y%m%d%H%M%S"), (10, "%y%m%d%H%M"), (8, "%Y%m%d")];
/// Days between the first day of spreadsheets, 1899-12-30, and the Unix epoch.
const SPREADSHEET_DAYS: f64 = 25_569.0;

/// Reads the event times of a stream.
#[derive(Clone, PartialEq, Debug)]
pub struct TimeReader {
    format: TimeFormat,
    zone: TimeZone,
    /// Characters of a time in the pattern: a number has lost the zeros in front.
    width: usize,
}

impl TimeReader {
    /// A reader of times of `format` in `zone`.
    pub fn new(format: TimeFormat, zone: TimeZone) -> Self {
        let width = match &format {
            TimeFormat::Pattern(pattern) => {
                strtime::format(pattern, date(2026, 11, 30).at(13, 14, 33, 0))
                    .map_or(0, |text| text.len())
            }
            _ => 0,
        };
        Self {
            format,
            zone,
            width,
        }
    }

    /// The reader of a record's times.
    pub fn of(record: &RecordFormat) -> Self {
        Self::new(record.time_format.clone(), record.time_zone.clone())
    }

    /// Reads a whole number of the format's unit. `Err` is the fault, without the name of the field.
    pub fn read_integer(&self, number: i64) -> Result<ReadTime, String> {
        if let Some(compact) = self.compact(number) {
            return compact;
        }
        let micros = match self.unit(number as f64) {
            Some(Unit::Days) => return self.read_float(number as f64),
            Some(Unit::Seconds) => number.checked_mul(1_000_000),
            Some(Unit::Millis) => number.checked_mul(1_000),
            Some(Unit::Micros) => Some(number),
            Some(Unit::Nanos) => Some(number.div_euclid(1_000)),
            None => return Err(self.not_a_number(&number.to_string())),
        };
        self.counted(micros, &number)
    }

    /// Reads a number with a fraction of the format's unit. `Err` is the fault, without the name of
    /// the field.
    pub fn read_float(&self, number: f64) -> Result<ReadTime, String> {
        let micros = match self.unit(number) {
            Some(Unit::Days) => return self.read_days(number),
            Some(Unit::Seconds) => number * 1e6,
            Some(Unit::Millis) => number * 1e3,
            Some(Unit::Micros) => number,
            Some(Unit::Nanos) => number / 1e3,
            None => return Err(self.not_a_number(&number.to_string())),
        };
        // The cast saturates and makes NaN 0, which is why NaN is asked for first.
        let micros = (!micros.is_nan()).then_some(micros.round() as i64);
        self.counted(micros, &number)
    }

    /// Reads text: a date and time, or a number of the format's unit. `Err` is the fault, without the
    /// name of the field.
    ///
    /// The caller has handled blank text: a blank time is a missing one.
    pub fn read_text(&self, text: &str) -> Result<ReadTime, String> {
        let text = text.trim();
        if let TimeFormat::Pattern(pattern) = &self.format {
            return self.by_pattern(pattern, text);
        }
        if let Some(read) = self.compact_fraction(text) {
            return Ok(read);
        }
        if self.format != TimeFormat::Rfc3339 && is_number(text) {
            return match text.parse::<i64>() {
                Ok(number) => self.read_integer(number),
                Err(_) => text
                    .parse()
                    .map_err(|_| self.unreadable(text))
                    .and_then(|number| self.read_float(number)),
            };
        }
        if !matches!(self.format, TimeFormat::Auto | TimeFormat::Rfc3339) {
            return Err(self.unreadable(text));
        }
        let has_offset = text
            .bytes()
            .skip(DATE_LEN)
            .any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'));
        let read = if has_offset {
            text.parse::<Timestamp>()
                .ok()
                .map(|time| event_time(time).into())
        } else {
            text.parse::<DateTime>()
                .ok()
                .and_then(|civil| self.local(civil))
        };
        let read = read.ok_or_else(|| self.unreadable(text))?;
        self.checked(read, &Quoted(text))
    }

    /// What the format allows, for people.
    pub(super) fn allowed(&self) -> String {
        match &self.format {
            TimeFormat::Auto => "RFC 3339 text or a number since the epoch",
            TimeFormat::Rfc3339 => "RFC 3339 text such as 2026-03-09T10:14:33Z",
            TimeFormat::EpochS => "a number of seconds since the epoch",
            TimeFormat::EpochMs => "a number of milliseconds since the epoch",
            TimeFormat::EpochUs => "a number of microseconds since the epoch",
            TimeFormat::EpochNs => "a number of nanoseconds since the epoch",
            TimeFormat::SpreadsheetDays => {
                "a number of days since 1899-12-30, as spreadsheets count"
            }
            TimeFormat::Pattern(pattern) => {
                let example = strtime::format(pattern, date(2026, 3, 9).at(10, 14, 33, 0));
                let example = example
                    .map(|text| format!(" such as {text}"))
                    .unwrap_or_default();
                return format!("text of the form {pattern:?}{example}");
            }
        }
        .to_owned()
    }

    /// Refuses a time in a form that was found automatically, but is far from the arrival of its
    /// message.
    pub(super) fn near(
        &self,
        read: ReadTime,
        arrival: Option<EventTime>,
    ) -> Result<ReadTime, String> {
        let distance = arrival.map_or(0, |arrival| {
            read.time.micros_since(arrival).saturating_abs()
        });
        if self.format != TimeFormat::Auto || distance <= AUTO_DISTANCE_US {
            return Ok(read);
        }
        Err(format!(
            "{} is more than ten years from the arrival of the message; check the clock, or set record.time_format, \
             with which every time is accepted",
            read.time
        ))
    }

    /// A date and a time in the digits of a number; `None` where the format does not read them.
    fn compact(&self, number: i64) -> Option<Result<ReadTime, String>> {
        match &self.format {
            TimeFormat::Pattern(pattern) => {
                let digits = format!("{number:0>width$}", width = self.width);
                Some(self.by_pattern(pattern, &digits))
            }
            TimeFormat::Auto => {
                let (_, pattern) = COMPACT
                    .iter()
                    .find(|(from, _)| (*from..10 * from).contains(&number))?;
                let read = self.parsed(pattern, &number.to_string())?;
                (read.time.0 >= AUTO_BEGIN_US).then_some(Ok(read))
            }
            _ => None,
        }
    }

    /// A date and a time in 14 digits, with a fraction of the second.
    fn compact_fraction(&self, text: &str) -> Option<ReadTime> {
        let is_one = self.format == TimeFormat::Auto && text.find('.') == Some(COMPACT_DIGITS);
        let read = is_one.then(|| self.parsed(COMPACT_FRACTION, text))??;
        (read.time.0 >= AUTO_BEGIN_US).then_some(read)
    }

    fn by_pattern(&self, pattern: &str, text: &str) -> Result<ReadTime, String> {
        let read = self.parsed(pattern, text);
        let read = read.ok_or_else(|| self.unreadable(text))?;
        self.checked(read, &Quoted(text))
    }

    /// `None` where the text does not have the form of the pattern, or is no time.
    fn parsed(&self, pattern: &str, text: &str) -> Option<ReadTime> {
        let parsed = strtime::parse(pattern, text).ok()?;
        if parsed.offset().is_some() || parsed.timestamp().is_some() {
            return parsed
                .to_timestamp()
                .ok()
                .map(|time| event_time(time).into());
        }
        let day = parsed.to_date().ok()?;
        let time = parsed.to_time().unwrap_or(Time::midnight());
        self.local(day.to_datetime(time))
    }

    /// A local time of the zone.
    fn local(&self, civil: DateTime) -> Option<ReadTime> {
        let at = |offset: Offset| offset.to_timestamp(civil).ok().map(event_time);
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => at(offset).map(ReadTime::from),
            AmbiguousOffset::Gap { before, .. } => at(before).map(ReadTime::from),
            AmbiguousOffset::Fold { before, after } => Some(ReadTime {
                time: at(before)?,
                second: at(after),
            }),
        }
    }

    fn read_days(&self, number: f64) -> Result<ReadTime, String> {
        let millis = ((number - SPREADSHEET_DAYS) * 86_400e3).round();
        let local = Timestamp::from_millisecond(millis as i64).ok();
        let local = local.filter(|_| millis.is_finite());
        // The number counts local days.
        let read = local.and_then(|local| self.local(Offset::UTC.to_datetime(local)));
        self.checked(read.ok_or_else(|| self.out_of_range(&number))?, &number)
    }

    /// A number that counts from the epoch.
    fn counted(&self, micros: Option<i64>, found: &dyn Display) -> Result<ReadTime, String> {
        let time = micros.ok_or_else(|| self.out_of_range(found))?;
        self.checked(EventTime(time).into(), found)
    }

    fn checked(&self, read: ReadTime, found: &dyn Display) -> Result<ReadTime, String> {
        in_range(read.time.0).ok_or_else(|| self.out_of_range(found))?;
        if self.format == TimeFormat::Auto && read.time.0 < AUTO_BEGIN_US {
            return Err(self.too_early(read.time, found));
        }
        Ok(read)
    }

    /// The unit of a number; `None` where the format takes no numbers.
    fn unit(&self, number: f64) -> Option<Unit> {
        Some(match self.format {
            TimeFormat::Rfc3339 | TimeFormat::Pattern(_) => return None,
            TimeFormat::EpochS => Unit::Seconds,
            TimeFormat::EpochMs => Unit::Millis,
            TimeFormat::EpochUs => Unit::Micros,
            TimeFormat::EpochNs => Unit::Nanos,
            TimeFormat::SpreadsheetDays => Unit::Days,
            TimeFormat::Auto if number < AUTO_SECONDS_BELOW => Unit::Seconds,
            TimeFormat::Auto if number < AUTO_SECONDS_BELOW * 1e3 => Unit::Millis,
            TimeFormat::Auto if number < AUTO_SECONDS_BELOW * 1e6 => Unit::Micros,
            TimeFormat::Auto => Unit::Nanos,
        })
    }

    /// Of a time that no clock of today has: another form that the text may have, or a clock that was
    /// never set.
    fn too_early(&self, time: EventTime, found: &dyn Display) -> String {
        let digits = found.to_string();
        let digits = digits.trim_matches('"');
        let pattern = SUGGESTED.iter().find_map(|(length, pattern)| {
            let read = (*length == digits.len()).then(|| self.parsed(pattern, digits))?;
            read.map(|read| (format!("{pattern:?}"), read.time))
        });
        let days = || {
            let days = digits
                .parse::<f64>()
                .ok()
                .filter(|days| (20_000.0..110_000.0).contains(days));
            let read = Self::new(TimeFormat::SpreadsheetDays, self.zone.clone()).read_float(days?);
            read.ok()
                .map(|read| ("\"spreadsheet_days\"".to_owned(), read.time))
        };
        match pattern.or_else(days) {
            Some((format, read)) => format!(
                "{found}, read as a number since the epoch, is {time}; record.time_format = {format} reads {read}"
            ),
            None => format!(
                "{found}, read as {}, is {time}; times before 2000 are refused unless record.time_format names the \
                 form: check the clock and the unit",
                self.allowed()
            ),
        }
    }

    fn not_a_number(&self, number: &str) -> String {
        format!(
            "the number {number} is not {}; check record.time_format",
            self.allowed()
        )
    }

    fn unreadable(&self, text: &str) -> String {
        format!("the text {} is not {}", quoted(text), self.allowed())
    }

    fn out_of_range(&self, found: &dyn Display) -> String {
        format!(
            "{found}, read as {}, is outside the years 1970 to 2199; check the clock and record.time_format",
            self.allowed()
        )
    }
}

/// Text as errors quote it; most times are right, and nobody writes them.
struct Quoted<'t>(&'t str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(self.0))
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Days,
    Seconds,
    Millis,
    Micros,
    Nanos,
}

/// The time `micros` microseconds after the epoch; `None` outside the years 1970 to 2199.
pub(super) fn in_range(micros: i64) -> Option<EventTime> {
    (0..END_US).contains(&micros).then_some(EventTime(micros))
}

fn event_time(time: Timestamp) -> EventTime {
    EventTime(time.as_microsecond())
}

/// Whether `text` is written as a number rather than as a date: a date has a `-` or `:` between
/// digits.
fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests;
