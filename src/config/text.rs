//! Values that are written as text with their own syntax: durations, sizes, budgets, paths, times,
//! names.
//!
//! Each parser's error describes the allowed values, in words that follow the key and the value
//! found ("must be ...").

use std::ops::RangeInclusive;
use std::time::Duration;

use super::raw::{ByteSize, KeyWords};
use super::settings::{AlertBudget, KeyFrom, TimeFormat, TimeFrom};
use crate::record::EventTime;

/// Longest name that Kafka gives a topic, in characters.
pub const TOPIC_CHARS_MAX: usize = 249;
/// Longest name of a stream, in characters: leaves room for what is put around it in the names of
/// topics.
pub const STREAM_CHARS_MAX: usize = 100;
/// Deepest path into a record, in keys.
const PATH_KEYS_MAX: usize = 16;
/// Longest name or key of a field, in characters.
pub const FIELD_CHARS_MAX: usize = 200;

type Read<T> = Result<T, String>;

/// A duration such as `20s` or `1h 30m`, within a range.
pub fn duration(text: &str, allowed: RangeInclusive<Duration>) -> Read<Duration> {
    let range = format!(
        "from {} to {}",
        span(*allowed.start()),
        span(*allowed.end())
    );
    match humantime::parse_duration(text.trim()) {
        Ok(duration) if allowed.contains(&duration) => Ok(duration),
        Ok(_) => Err(format!("must be a duration {range}")),
        Err(_) => Err(format!(
            "must be a duration {range}, with a unit: us, ms, s, m, h or d"
        )),
    }
}

/// A bound as one number and one unit.
fn span(duration: Duration) -> String {
    let units = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ];
    let micros = duration.as_micros();
    match units
        .into_iter()
        .find(|(unit, _)| micros >= *unit && micros.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", micros / unit),
        None if micros == 0 => "0s".into(),
        None => format!("{micros}us"),
    }
}

/// A size such as `8 MiB`, or a number of bytes, within a range of bytes.
pub fn size(size: &ByteSize, allowed: RangeInclusive<u64>) -> Read<usize> {
    let range = format!(
        "from {} to {}",
        bytes(*allowed.start()),
        bytes(*allowed.end())
    );
    let found = match size {
        ByteSize::Bytes(bytes) => Some(*bytes),
        ByteSize::Text(text) => {
            let text = text.trim();
            let digits = text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len());
            let (number, unit) = text.split_at(digits);
            let unit = UNITS
                .iter()
                .find(|(name, _)| *name == unit.trim())
                .map(|(_, bytes)| *bytes);
            number
                .parse::<u64>()
                .ok()
                .zip(unit)
                .and_then(|(number, unit)| number.checked_mul(unit))
        }
    };
    match found {
        Some(found) if allowed.contains(&found) => {
            usize::try_from(found).map_err(|_| "is too large for this machine".to_owned())
        }
        Some(_) => Err(format!("must be a size {range}")),
        None => Err(format!(
            "must be a size {range}: a whole number and B, KiB, MiB or GiB, such as \"8 MiB\""
        )),
    }
}

const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

fn bytes(count: u64) -> String {
    let (name, unit) = UNITS
        .into_iter()
        .find(|(_, unit)| count.is_multiple_of(*unit))
        .unwrap_or(("B", 1));
    format!("{} {name}", count / unit)
}

/// A budget such as `2 per series per week` or `1 per series per 30 days`.
pub fn budget(text: &str) -> Read<AlertBudget> {
    let fault = || {
        "must be a number above 0, then \"per series per\", then hour, day, week or a number of them, \
                    such as \"2 per series per week\" or \"1 per series per 30 days\""
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (alerts, count, unit) = match words.as_slice() {
        [alerts, "per", "series", "per", unit] => (alerts, "1", unit),
        [alerts, "per", "series", "per", count, unit] => (alerts, *count, unit),
        _ => return Err(fault().into()),
    };
    let hours = match unit.strip_suffix('s').unwrap_or(unit) {
        "hour" => 1,
        "day" => 24,
        "week" => 7 * 24,
        _ => return Err(fault().into()),
    };
    let alerts = alerts
        .parse::<f64>()
        .ok()
        .filter(|alerts| alerts.is_finite() && *alerts > 0.0);
    match (alerts, count.parse::<u32>()) {
        (Some(alerts), Ok(count @ 1..=1000)) => Ok(AlertBudget {
            alerts,
            period: Duration::from_secs(u64::from(count) * hours * 3600),
        }),
        _ => Err(fault().into()),
    }
}

/// `N of M` with 1 <= N <= M <= 64.
pub fn n_of_m(text: &str) -> Read<(u32, u32)> {
    let parsed = text
        .split_once(" of ")
        .and_then(|(n, m)| Some((n.trim().parse().ok()?, m.trim().parse().ok()?)));
    match parsed {
        Some((n, m)) if 1 <= n && n <= m && m <= 64 => Ok((n, m)),
        Some((n, m)) if n > m => Err(format!(
            "must not ask for {n} outliers among only {m} records"
        )),
        _ => Err("must be \"N of M\" with 1 <= N <= M <= 64, such as \"3 of 5\"".into()),
    }
}

/// A path into a record: keys separated by dots, or a list of keys.
pub fn path(words: &KeyWords) -> Read<Vec<String>> {
    let keys: Vec<String> = match words {
        KeyWords::Text(text) => text.split('.').map(str::to_owned).collect(),
        KeyWords::Keys(keys) => keys.clone(),
    };
    let is_good = |key: &String| !key.is_empty() && key.chars().count() <= FIELD_CHARS_MAX;
    match (1..=PATH_KEYS_MAX).contains(&keys.len()) && keys.iter().all(is_good) {
        true => Ok(keys),
        false => Err(format!(
            "must be 1 to {PATH_KEYS_MAX} keys of 1 to {FIELD_CHARS_MAX} characters, such as \"sensors.temp\", \
             or [\"a.b\", \"c\"] where a key holds dots"
        )),
    }
}

/// Where the series' key is.
pub fn key_from(words: &KeyWords) -> Read<KeyFrom> {
    match (words, field_path(words)) {
        (KeyWords::Text(text), _) if text == "kafka" => Ok(KeyFrom::Kafka),
        (KeyWords::Text(text), _) if text == "partition" => Ok(KeyFrom::Partition),
        (_, Some(path)) => Ok(KeyFrom::Field(path?)),
        _ => header(words).map(KeyFrom::Header).ok_or_else(|| "must be \"kafka\", \"partition\", \"header:\" and a name, or \"field:\" and a path into the record, such as \"field:pump.id\"".into()),
    }
}

/// Where the event time is.
pub fn time_from(words: &KeyWords, format: TimeFormat) -> Read<TimeFrom> {
    match (words, field_path(words)) {
        (KeyWords::Text(text), _) if text == "kafka" => Ok(TimeFrom::Kafka),
        (_, Some(path)) => Ok(TimeFrom::Field(path?, format)),
        _ => header(words).map(|name| TimeFrom::Header(name, format)).ok_or_else(|| {
            "must be \"kafka\", \"header:\" and a name, or \"field:\" and a path into the record, such as \"field:ts\""
                .into()
        }),
    }
}

/// The name of a Kafka header.
fn header(words: &KeyWords) -> Option<String> {
    let KeyWords::Text(text) = words else {
        return None;
    };
    text.strip_prefix("header:")
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

fn field_path(words: &KeyWords) -> Option<Read<Vec<String>>> {
    match words {
        KeyWords::Keys(_) => Some(path(words)),
        KeyWords::Text(text) => text
            .strip_prefix("field:")
            .map(|rest| path(&KeyWords::Text(rest.trim().into()))),
    }
}

/// A point in time, in RFC 3339.
pub fn time(text: &str) -> Read<EventTime> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(EventTime(time.as_microsecond())),
        Err(_) => Err(
            "must be a time in RFC 3339, with its offset from UTC, such as 2026-03-09T06:00:00Z"
                .into(),
        ),
    }
}

/// The name of a Kafka topic; `{stream}` has been replaced.
pub fn topic(name: &str) -> Read<String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_length_good = (1..=TOPIC_CHARS_MAX).contains(&name.len());
    match is_length_good && name.chars().all(is_good) && name != "." && name != ".." {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "must be the name of a Kafka topic: 1 to {TOPIC_CHARS_MAX} letters, digits, \".\", \"_\" or \"-\""
        )),
    }
}

/// The name of a stream: a part of the names of topics, folders and metrics.
pub fn stream_name(name: &str) -> Read<String> {
    let is_good = topic(name).is_ok()
        && name.len() <= STREAM_CHARS_MAX
        && name.starts_with(|c: char| c.is_alphanumeric());
    match is_good {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "cannot be the name of a stream; allowed are 1 to {STREAM_CHARS_MAX} letters, digits, \".\", \"_\" or \"-\", \
             the first a letter or digit"
        )),
    }
}

/// The name of a consumer group, or of a field; anything without control characters.
pub fn name(name: &str) -> Read<String> {
    match (1..=FIELD_CHARS_MAX).contains(&name.chars().count())
        && !name.chars().any(char::is_control)
    {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "must have 1 to {FIELD_CHARS_MAX} characters, none of them a control character"
        )),
    }
}

/// Broker addresses, `host:port`, comma-separated.
pub fn brokers(text: &str) -> Read<String> {
    let is_good = |broker: &str| match broker.trim().rsplit_once(':') {
        Some((host, port)) => {
            !host.is_empty()
                && !host.contains(char::is_whitespace)
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => false,
    };
    match text.split(',').all(is_good) {
        true => Ok(text.split(',').map(str::trim).collect::<Vec<_>>().join(",")),
        false => {
            Err("must be host:port, comma-separated, such as \"kafka-1:9092,kafka-2:9092\"".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn budgets_are_read_with_their_period() {
        let read =
            |text: &str| budget(text).map(|budget| (budget.alerts, budget.period.as_secs() / 3600));
        assert_eq!(read("2 per series per week"), Ok((2.0, 168)));
        assert_eq!(read("0.5 per  series per day"), Ok((0.5, 24)));
        assert_eq!(read("1 per series per 30 days"), Ok((1.0, 720)));
        for bad in [
            "",
            "2",
            "2 per week",
            "0 per series per day",
            "NaN per series per day",
            "1 per series per 0 days",
            "-1 per series per day",
            "1 per series per month",
            "1 per series per 1.5 days",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_read_in_bytes() {
        let read = |text: &str| size(&ByteSize::Text(text.into()), 1..=1 << 40);
        assert_eq!(read("8 MiB"), Ok(8 << 20));
        assert_eq!(read("512KiB"), Ok(512 << 10));
        for bad in [
            "8",
            "8 MB",
            "MiB",
            "1.5 MiB",
            "-1 B",
            "0 B",
            "99999999999999999999 B",
            "18446744073709551615 GiB",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            size(&ByteSize::Bytes(1 << 20), 1..=10),
            Err("must be a size from 1 B to 10 B".into())
        );
    }

    #[test]
    fn the_ends_of_a_range_are_inside() {
        let read = |text| duration(text, Duration::from_millis(1)..=Duration::from_secs(10));
        assert_eq!(read("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(read("10s"), Ok(Duration::from_secs(10)));
        for bad in ["999us", "10s 1ns", "10", "", "-1s", "ten seconds"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn n_is_at_most_m() {
        assert_eq!(n_of_m("3 of 5"), Ok((3, 5)));
        assert_eq!(n_of_m("64 of 64"), Ok((64, 64)));
        for bad in [
            "0 of 1", "6 of 5", "1 of 65", "3", "3of5", "a of b", "-1 of 2",
        ] {
            assert!(n_of_m(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_and_times_are_words_or_paths() {
        let text = |text: &str| KeyWords::Text(text.into());
        let keys = |keys: &[&str]| KeyWords::Keys(keys.iter().map(|&key| key.into()).collect());
        assert_eq!(key_from(&text("partition")), Ok(KeyFrom::Partition));
        assert_eq!(
            key_from(&text("field:pump.id")),
            Ok(KeyFrom::Field(vec!["pump".into(), "id".into()]))
        );
        assert_eq!(
            key_from(&keys(&["pump.id"])),
            Ok(KeyFrom::Field(vec!["pump.id".into()]))
        );
        assert_eq!(
            time_from(&text("kafka"), TimeFormat::Auto),
            Ok(TimeFrom::Kafka)
        );
        for bad in [
            text("partition"),
            text("ts"),
            text("field:"),
            text("field:a..b"),
            keys(&[]),
            keys(&[""]),
        ] {
            assert!(time_from(&bad, TimeFormat::Auto).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_need_an_offset() {
        assert_eq!(time("1970-01-01T01:00:00+01:00"), Ok(EventTime(0)));
        assert!(time("2026-03-09T06:00:00").is_err());
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn a_stream_name_leaves_room_for_a_topic_name() {
        let longest = "a".repeat(STREAM_CHARS_MAX);
        assert!(stream_name(&longest).is_ok());
        assert!(topic(&format!("outlierd.{longest}.dead-letters")).is_ok());
        for bad in ["", ".", "-a", "a/b", "pümpe", "a b", &format!("{longest}a")] {
            assert!(stream_name(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in ".{0,40}") {
            let words = KeyWords::Text(text.clone());
            let _ = (budget(&text), n_of_m(&text), time(&text), topic(&text), brokers(&text), name(&text));
            let _ = (duration(&text, Duration::ZERO..=Duration::MAX), size(&ByteSize::Text(text), 0..=u64::MAX));
            let _ = (key_from(&words), time_from(&words, TimeFormat::Auto), path(&words));
        }
    }
}
