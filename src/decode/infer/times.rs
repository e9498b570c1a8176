//! The place of the event time, its format, and how often a series sends.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::places::{Place, Places};
use crate::decode::time::TimeReader;
use crate::record::format::{KeyFrom, RecordFormat, TimeFormat, TimeFrom};
use crate::record::{EventTime, Message};

/// Names of places that hold event times, the surest last.
const NAMES: [&str; 12] = [
    "created",
    "sent",
    "date",
    "t",
    "zeit",
    "taken",
    "datetime",
    "sourcetimestamp",
    "time",
    "ts_ms",
    "timestamp",
    "ts",
];
/// Patterns that are tried after `auto`.
const PATTERNS: [&str; 9] = [
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%d-%m-%Y %H:%M:%S",
    "%y%m%d%H%M%S",
    "%Y%m%d%H%M",
];
/// Share of the values that have to be times, and that must not fall.
const SHARE: f64 = 0.9;

/// Finds place and format of the event time; without any it is that of Kafka.
pub(super) fn find(
    places: &Places,
    records: &[Value],
    record: &mut RecordFormat,
    notes: &mut Vec<String>,
) {
    let mut found: Vec<(usize, &Place, TimeFormat)> = Vec::new();
    for place in places.all().iter().filter(|place| !place.is_sparse()) {
        let rank = rank(&place.name());
        let Some(format) = format_of(place, records, rank > 0) else {
            continue;
        };
        found.push((rank, place, format));
    }
    // Of equally good names the place that is nearest to the top.
    let best = found
        .into_iter()
        .max_by_key(|(rank, place, _)| (*rank, usize::MAX - place.path().len()));
    let Some((_, place, format)) = best else {
        notes
            .push("No place of the records is a time: it is that of the Kafka message.".to_owned());
        return;
    };
    if is_local(place) {
        notes.push(
            "The times have no offset and count as UTC: set record.time_zone if they are local."
                .to_owned(),
        );
    }
    (record.time, record.time_format) = (TimeFrom::Field(place.path()), format);
}

fn rank(name: &str) -> usize {
    let name = name.to_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    let is = |known: &&str| *last == **known || last.ends_with(&format!("_{known}"));
    NAMES.iter().rposition(is).map_or(0, |at| at + 1)
}

fn is_local(place: &Place) -> bool {
    let has_offset = |text: &str| {
        let behind = text.get(10..).unwrap_or_default();
        behind.contains(['Z', 'z', '+', '-'])
    };
    place
        .texts()
        .any(|text| text.contains(':') && !has_offset(text))
}

/// The format that reads the values of a place, which then rise.
fn format_of(place: &Place, records: &[Value], is_named: bool) -> Option<TimeFormat> {
    let patterns = PATTERNS.map(|pattern| TimeFormat::Pattern(pattern.to_owned()));
    let formats = [TimeFormat::Auto].into_iter().chain(patterns);
    let formats = formats.chain(is_named.then_some(TimeFormat::SpreadsheetDays));
    let path = place.path();
    for format in formats {
        let reader = TimeReader::new(format.clone(), TimeZone::UTC);
        let times: Vec<Option<EventTime>> = records
            .iter()
            .filter_map(|record| at(record, &path))
            .map(|value| read(&reader, value))
            .collect();
        let good = times.iter().flatten().count();
        if (good as f64) < SHARE * times.len() as f64 || good == 0 {
            continue;
        }
        // Numbers that are no times may read as some: times rise, and do not stay.
        let times: Vec<EventTime> = times.into_iter().flatten().collect();
        let steps: Vec<i64> = times
            .windows(2)
            .map(|pair| pair[1].micros_since(pair[0]))
            .collect();
        let fall = steps.iter().filter(|step| **step < 0).count();
        let is_fixed = times.len() > 3 && steps.iter().all(|step| *step == 0);
        let rises = fall as f64 <= (1.0 - SHARE) * steps.len() as f64 || is_named;
        let begin = EventTime(946_684_800_000_000);
        if rises && !is_fixed && times.iter().all(|time| *time >= begin) {
            return Some(format);
        }
    }
    None
}

fn read(reader: &TimeReader, value: &Value) -> Option<EventTime> {
    let read = match value {
        Value::Number(number) => match number.as_i64() {
            Some(number) => reader.read_integer(number),
            None => reader.read_float(number.as_f64()?),
        },
        Value::String(text) if text.trim().is_empty() => return None,
        Value::String(text) => reader.read_text(text),
        _ => return None,
    };
    read.ok().map(|read| read.time)
}

/// The value at a path of a record.
pub(super) fn at<'v>(record: &'v Value, path: &[String]) -> Option<&'v Value> {
    let found = path.iter().try_fold(record, |value, key| match value {
        Value::Array(elements) => elements.get(key.parse::<usize>().ok()?),
        value => value.get(key),
    });
    found.filter(|value| !value.is_null())
}

/// The typical time between two records of a series, of tags between two of one tag, in seconds; `None` where that is not known.
pub(super) fn period(
    records: &[Value],
    record: &RecordFormat,
    messages: &[Message<'_>],
    is_tag: bool,
) -> Option<f64> {
    let reader = TimeReader::of(record);
    let is_by_message = records.len() == messages.len();
    let mut newest: HashMap<String, EventTime> = HashMap::new();
    let mut steps = Vec::new();
    for (number, value) in records.iter().enumerate() {
        let message = messages.get(number).filter(|_| is_by_message);
        let time = match &record.time {
            TimeFrom::Field(path) => at(value, path).and_then(|value| read(&reader, value)),
            _ => message.and_then(|message| message.timestamp),
        };
        let series = match &record.key {
            KeyFrom::Field(path) => at(value, path).map(Value::to_string),
            _ => message.map(|message| {
                String::from_utf8_lossy(message.key.unwrap_or_default()).into_owned()
            }),
        };
        let (Some(time), mut series) = (time, series.unwrap_or_default()) else {
            continue;
        };
        if let Some(tag) = value.as_object().filter(|_| is_tag) {
            series.extend(tag.keys().map(String::as_str));
        }
        if let Some(before) = newest.insert(series, time) {
            steps.push(time.micros_since(before));
        }
    }
    steps.retain(|step| *step > 0);
    steps.sort_unstable();
    let middle = steps.get(steps.len() / 2)?;
    Some(*middle as f64 / 1e6)
}
