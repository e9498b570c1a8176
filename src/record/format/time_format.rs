//! The formats of an event time.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::Offset;
use serde::Deserialize;

/// Formats of an event time.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum TimeFormat {
    /// By its form: text is RFC 3339 (a space for the `T` and a missing offset are accepted); a number
    /// is an epoch whose magnitude determines the unit, or date and time in 14 or 17 digits.
    Auto,
    /// RFC 3339 text.
    Rfc3339,
    /// Seconds since the epoch, with or without a fraction.
    EpochS,
    /// Milliseconds since the epoch.
    EpochMs,
    /// Microseconds since the epoch.
    EpochUs,
    /// Nanoseconds since the epoch.
    EpochNs,
    /// Days since 1899-12-30 with a fraction, as spreadsheets count them.
    SpreadsheetDays,
    /// A pattern of strftime.
    Pattern(String),
}

impl TimeFormat {
    /// The formats with a name.
    const NAMED: [(&str, Self); 7] = [
        ("auto", Self::Auto),
        ("rfc3339", Self::Rfc3339),
        ("epoch_s", Self::EpochS),
        ("epoch_ms", Self::EpochMs),
        ("epoch_us", Self::EpochUs),
        ("epoch_ns", Self::EpochNs),
        ("spreadsheet_days", Self::SpreadsheetDays),
    ];
}

impl TryFrom<String> for TimeFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some((_, format)) = Self::NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(format.clone());
        }
        if !text.contains('%') {
            let names = Self::NAMED.map(|(name, _)| format!("{name:?}")).join(", ");
            return Err(format!(
                "must be one of {names}, or a pattern such as \"%d.%m.%Y %H:%M:%S\""
            ));
        }
        let written = strtime::format(&text, SAMPLE);
        let written = written.map_err(|fault| format!("is not a pattern of strftime: {fault}"))?;
        let read = strtime::parse(&text, &written).and_then(|parsed| match parsed.timestamp() {
            Some(time) => Ok(Offset::UTC.to_datetime(time).date()),
            None => parsed.to_date(),
        });
        match read {
            Ok(day) if day == Offset::UTC.to_datetime(SAMPLE).date() => Ok(Self::Pattern(text)),
            Ok(_) | Err(_) => Err(format!(
                "must hold year, month and day, so that the date can be read again from {written:?}"
            )),
        }
    }
}

/// 2026-11-30T13:14:33Z: what a pattern has to write and to read.
const SAMPLE: Timestamp = Timestamp::constant(1_796_044_473, 0);
