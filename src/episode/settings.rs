//! The options of episodes and mutes: `[streams.NAME.episode]` and `[[streams.NAME.mutes]]`.

use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::options::optional;
use crate::record::EventTime;

/// When episodes open and close.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct EpisodeSettings {
    /// Outliers among how many records open an episode: "N of M", 1 <= N <= M <= 64.
    #[schemars(with = "String", example = "3 of 5", extend("x-syntax" = "n-of-m"))]
    pub open: NOfM,
    /// Fraction of the threshold below which a record counts towards closing, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub close_ratio: f64,
    /// Number of such consecutive records that close an episode, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub close_after: u32,
    /// Cool-down: event time after a close in which outliers open no new episode, 0s to 366d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "10m", extend("x-duration" = {"minimum": "0s", "maximum": "366d"}))]
    pub cool_down: Duration,
    /// Interval of updates for an open episode, 0s to 366d of event time; 0s: none.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "5m", extend("x-duration" = {"minimum": "0s", "maximum": "366d"}))]
    pub update_every: Duration,
    /// Multiple of the threshold from which an episode is critical, 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub critical_ratio: f64,
    /// Fraction of the threshold from which a record is suspect, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub suspect_ratio: f64,
    /// Maximum number of fields in an alert, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub top_fields: usize,
}

/// `n` outliers among the last `m` records: 1 <= `n` <= `m` <= 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NOfM {
    /// Outliers.
    pub n: u32,
    /// Records.
    pub m: u32,
}

impl FromStr for NOfM {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once(" of ")
            .and_then(|(n, m)| Some((n.trim().parse().ok()?, m.trim().parse().ok()?)));
        match parsed {
            Some((n, m)) if 1 <= n && n <= m && m <= 64 => Ok(Self { n, m }),
            Some((n, m)) if n > m => Err(format!(
                "must not ask for {n} outliers among only {m} records"
            )),
            _ => Err("must be \"N of M\" with 1 <= N <= M <= 64, such as \"3 of 5\"".into()),
        }
    }
}

impl<'de> Deserialize<'de> for NOfM {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A time in which alerts are not published.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MuteSettings {
    /// Which series: a name, or a pattern in which `*` matches any text.
    #[serde(deserialize_with = "series")]
    #[schemars(with = "String", example = "pump-1*", extend("x-syntax" = "series-pattern"))]
    pub series: String,
    /// From this event time on, RFC 3339.
    #[serde(deserialize_with = "time")]
    #[schemars(with = "String", example = "2026-03-09T06:00:00Z", extend("x-syntax" = "time"))]
    pub from: EventTime,
    /// Until this event time (exclusive), RFC 3339.
    #[serde(deserialize_with = "time")]
    #[schemars(with = "String", example = "2026-03-09T14:00:00+01:00", extend("x-syntax" = "time"))]
    pub until: EventTime,
    /// Reason, for operators.
    #[serde(default)]
    pub reason: String,
}

/// Reads the pattern of a mute.
///
/// # Errors
/// Where it is empty.
pub fn series<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    match String::deserialize(from)? {
        empty if empty.is_empty() => Err(de::Error::custom(
            "must be the name of a series, or a pattern such as \"pump-1*\"",
        )),
        series => Ok(series),
    }
}

/// Reads a time of a mute.
///
/// # Errors
/// Where it is no RFC 3339.
pub fn time<'de, D: Deserializer<'de>>(from: D) -> Result<EventTime, D::Error> {
    match String::deserialize(from)?.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(EventTime(time.as_microsecond())),
        Err(_) => Err(de::Error::custom(
            "must be a time in RFC 3339, with its offset from UTC, such as 2026-03-09T06:00:00Z",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn n_is_at_most_m() {
        assert_eq!("3 of 5".parse(), Ok(NOfM { n: 3, m: 5 }));
        assert_eq!("64 of 64".parse(), Ok(NOfM { n: 64, m: 64 }));
        for bad in [
            "0 of 1", "6 of 5", "1 of 65", "3", "3of5", "a of b", "-1 of 2",
        ] {
            assert!(bad.parse::<NOfM>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_need_an_offset() {
        assert_eq!(
            time(json!("1970-01-01T01:00:00+01:00")).ok(),
            Some(EventTime(0))
        );
        assert!(time(json!("2026-03-09T06:00:00")).is_err());
        assert!(time(json!("yesterday")).is_err());
    }
}
