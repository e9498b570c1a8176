//! How an event time is written: the forms of [`TimeFormat`], read into [`EventTime`].
//!
//! Every time lies in the years 1970 to 2199; anything else is a wrong unit, a dead clock or
//! garbage, and is refused.
//!
//! - Text is RFC 3339 as `jiff` reads it: a space or a lower-case `t` may replace the `T`, a
//!   lower-case `z` the `Z`. Without an offset it is UTC; a date alone is its midnight. Fractions
//!   are read to the nanosecond and cut to the microsecond of [`EventTime`].
//! - Numbers, also written as text, count from the Unix epoch. Whole numbers are cut to the
//!   microsecond, fractions are rounded to the nearest one (a 64-bit float of seconds cannot hold
//!   more).
//! - [`TimeFormat::Auto`] derives the unit of a number from its magnitude: below 1e10 seconds,
//!   below 1e13 milliseconds, below 1e16 microseconds, else nanoseconds. So each unit is correct
//!   from 1970-04-27 on; a stream with older times has to name its unit.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::text::quoted;
use crate::record::EventTime;
use crate::record::format::TimeFormat;

/// 2200-01-01T00:00:00Z in microseconds since the epoch: the first time that is refused.
const END_US: i64 = 7_258_118_400_000_000;

/// Largest number that [`TimeFormat::Auto`] takes for seconds; each finer unit has a thousand times
/// the border.
const AUTO_SECONDS_BELOW: f64 = 1e10;

/// Length of an RFC 3339 date, `2026-03-09`: an offset can only stand behind it.
const DATE_LEN: usize = 10;

/// Reads a whole number of the format's unit. `Err` is the fault, without the name of the field.
pub fn from_integer(number: i64, format: TimeFormat) -> Result<EventTime, String> {
    let micros = match unit(number as f64, format) {
        Some(Unit::Seconds) => number.checked_mul(1_000_000),
        Some(Unit::Millis) => number.checked_mul(1_000),
        Some(Unit::Micros) => Some(number),
        Some(Unit::Nanos) => Some(number.div_euclid(1_000)),
        None => return Err(not_text(&number.to_string())),
    };
    micros
        .and_then(in_range)
        .ok_or_else(|| out_of_range(&number.to_string(), format))
}

/// Reads a number with a fraction of the format's unit. `Err` is the fault, without the name of the
/// field.
pub fn from_float(number: f64, format: TimeFormat) -> Result<EventTime, String> {
    let micros = match unit(number, format) {
        Some(Unit::Seconds) => number * 1e6,
        Some(Unit::Millis) => number * 1e3,
        Some(Unit::Micros) => number,
        Some(Unit::Nanos) => number / 1e3,
        None => return Err(not_text(&number.to_string())),
    };
    // The cast saturates and makes NaN 0, which is why NaN is asked for first.
    let micros = if micros.is_nan() {
        None
    } else {
        in_range(micros.round() as i64)
    };
    micros.ok_or_else(|| out_of_range(&number.to_string(), format))
}

/// Reads text: RFC 3339, or a number of the format's unit. `Err` is the fault, without the name of
/// the field.
///
/// The caller has handled blank text: a blank time is a missing one.
pub fn from_text(text: &str, format: TimeFormat) -> Result<EventTime, String> {
    let text = text.trim();
    if format != TimeFormat::Rfc3339 && is_number(text) {
        return match text.parse::<i64>() {
            Ok(number) => from_integer(number, format),
            Err(_) => text
                .parse()
                .map_err(|_| unreadable(text, format))
                .and_then(|number| from_float(number, format)),
        };
    }
    if !matches!(format, TimeFormat::Auto | TimeFormat::Rfc3339) {
        return Err(unreadable(text, format));
    }
    let has_offset = text
        .bytes()
        .skip(DATE_LEN)
        .any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'));
    let time = if has_offset {
        text.parse::<Timestamp>().ok()
    } else {
        text.parse::<DateTime>()
            .ok()
            .and_then(|civil| Offset::UTC.to_timestamp(civil).ok())
    };
    let time = time.ok_or_else(|| unreadable(text, format))?;
    in_range(time.as_microsecond()).ok_or_else(|| out_of_range(&quoted(text), format))
}

/// The time `micros` microseconds after the epoch; `None` outside the years 1970 to 2199.
pub(super) fn in_range(micros: i64) -> Option<EventTime> {
    (0..END_US).contains(&micros).then_some(EventTime(micros))
}

#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

/// The unit of a number in a format; `None` where the format takes no numbers.
fn unit(number: f64, format: TimeFormat) -> Option<Unit> {
    match format {
        TimeFormat::Rfc3339 => None,
        TimeFormat::EpochS => Some(Unit::Seconds),
        TimeFormat::EpochMs => Some(Unit::Millis),
        TimeFormat::EpochUs => Some(Unit::Micros),
        TimeFormat::EpochNs => Some(Unit::Nanos),
        TimeFormat::Auto if number < AUTO_SECONDS_BELOW => Some(Unit::Seconds),
        TimeFormat::Auto if number < AUTO_SECONDS_BELOW * 1e3 => Some(Unit::Millis),
        TimeFormat::Auto if number < AUTO_SECONDS_BELOW * 1e6 => Some(Unit::Micros),
        TimeFormat::Auto => Some(Unit::Nanos),
    }
}

/// Whether `text` is written as a number rather than as a date: a date has a `-` or `:` between
/// digits.
fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// What a format allows, for people.
pub(super) fn allowed(format: TimeFormat) -> &'static str {
    match format {
        TimeFormat::Auto => "RFC 3339 text or a number since the epoch",
        TimeFormat::Rfc3339 => "RFC 3339 text such as 2026-03-09T10:14:33Z",
        TimeFormat::EpochS => "a number of seconds since the epoch",
        TimeFormat::EpochMs => "a number of milliseconds since the epoch",
        TimeFormat::EpochUs => "a number of microseconds since the epoch",
        TimeFormat::EpochNs => "a number of nanoseconds since the epoch",
    }
}

fn not_text(number: &str) -> String {
    format!("the number {number} is not RFC 3339 text; check the configured time format")
}

fn unreadable(text: &str, format: TimeFormat) -> String {
    format!("the text {} is not {}", quoted(text), allowed(format))
}

fn out_of_range(found: &str, format: TimeFormat) -> String {
    format!(
        "{found}, read as {}, is outside the years 1970 to 2199; check the clock and the time format",
        allowed(format)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-03-09T10:14:33Z
    const SECONDS: i64 = 1_773_051_273;
    const AT: EventTime = EventTime(SECONDS * 1_000_000);

    #[test]
    fn rfc_3339_text_is_read_with_its_usual_liberties() {
        for text in [
            "2026-03-09T10:14:33Z",
            "2026-03-09T10:14:33z",
            "2026-03-09t10:14:33z",
            "2026-03-09 10:14:33Z",
            "2026-03-09 10:14:33",
            "2026-03-09T10:14:33",
            " 2026-03-09T10:14:33+00:00 ",
            "2026-03-09T11:14:33+01:00",
            "2026-03-09T04:44:33-05:30",
            "2026-03-09T10:14:33.000000999Z",
        ] {
            assert_eq!(from_text(text, TimeFormat::Auto), Ok(AT), "{text}");
            assert_eq!(from_text(text, TimeFormat::Rfc3339), Ok(AT), "{text}");
            assert!(
                from_text(text, TimeFormat::EpochS)
                    .expect_err(text)
                    .contains("seconds"),
                "{text}"
            );
        }
        assert_eq!(
            from_text("2026-03-09 10:14:33.25", TimeFormat::Auto),
            Ok(EventTime(AT.0 + 250_000))
        );
        assert_eq!(
            from_text("1970-01-02", TimeFormat::Auto),
            Ok(EventTime(86_400_000_000))
        );
    }

    #[test]
    fn numbers_are_read_in_the_unit_of_the_format() {
        for (format, factor) in [
            (TimeFormat::EpochS, 1),
            (TimeFormat::EpochMs, 1_000),
            (TimeFormat::EpochUs, 1_000_000),
            (TimeFormat::EpochNs, 1_000_000_000),
        ] {
            let number = SECONDS * factor;
            for format in [format, TimeFormat::Auto] {
                assert_eq!(from_integer(number, format), Ok(AT));
                assert_eq!(from_float(number as f64, format), Ok(AT));
                assert_eq!(from_text(&number.to_string(), format), Ok(AT));
            }
            assert!(from_integer(number, TimeFormat::Rfc3339).is_err());
        }
        assert_eq!(
            from_float(SECONDS as f64 + 0.123_456, TimeFormat::Auto),
            Ok(EventTime(AT.0 + 123_456))
        );
        assert_eq!(
            from_text("1773051273.5", TimeFormat::Auto),
            Ok(EventTime(AT.0 + 500_000))
        );
        assert_eq!(from_text("1.773051273e9", TimeFormat::EpochS), Ok(AT));
    }

    #[test]
    fn auto_changes_its_unit_at_the_documented_borders() {
        for (number, micros) in [
            (0, 0),
            (7_258_118_399, END_US - 1_000_000),
            (10_000_000_000, 10_000_000_000_000),
            (10_000_000_000_000, 10_000_000_000_000),
            (10_000_000_000_000_000, 10_000_000_000_000),
        ] {
            assert_eq!(
                from_integer(number, TimeFormat::Auto),
                Ok(EventTime(micros)),
                "{number}"
            );
        }
        assert!(
            from_integer(9_999_999_999, TimeFormat::Auto).is_err(),
            "seconds in the year 2286"
        );
    }

    #[test]
    fn times_outside_the_range_and_other_text_are_refused() {
        for text in ["1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "-1", "1e30"] {
            assert!(
                from_text(text, TimeFormat::Auto)
                    .expect_err(text)
                    .contains("1970 to 2199"),
                "{text}"
            );
        }
        assert!(from_text("2199-12-31T23:59:59.999999Z", TimeFormat::Auto).is_ok());
        for text in [
            "yesterday",
            "09.03.2026 10:14",
            "2026-13-01T00:00:00Z",
            "2026-03-09T25:00:00Z",
            "NaN",
            "",
            "10:14:33",
        ] {
            assert!(
                from_text(text, TimeFormat::Auto)
                    .expect_err(text)
                    .contains("RFC 3339"),
                "{text}"
            );
        }
        for number in [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN] {
            assert!(from_float(number, TimeFormat::EpochNs).is_err(), "{number}");
        }
        assert!(from_integer(i64::MAX, TimeFormat::EpochS).is_err());
    }

    proptest! {
        #[test]
        fn every_event_time_reads_back_from_its_own_text(micros in 0..END_US) {
            let time = EventTime(micros);
            prop_assert_eq!(from_text(&time.to_string(), TimeFormat::Auto), Ok(time));
            prop_assert_eq!(from_integer(micros, TimeFormat::EpochUs), Ok(time));
        }

        #[test]
        fn no_text_panics_or_leaves_the_range(text in ".{0,40}") {
            if let Ok(time) = from_text(&text, TimeFormat::Auto) {
                prop_assert!((0..END_US).contains(&time.0));
            }
        }
    }
}
