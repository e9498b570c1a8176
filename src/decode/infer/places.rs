//! The places of records that hold scalars, and what they hold.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::decode::text::{self, TextReading};
use crate::record::format::{FieldSettings, KeyFrom, RecordFormat, StateValue, States, TimeFrom};

/// Different texts that are kept of a place.
const TEXTS_MAX: usize = 200;
/// Places that are kept.
const PLACES_MAX: usize = 2_000;
/// Nested objects that are looked into.
const DEPTH_MAX: usize = 8;
/// Fields at most.
const FIELDS_MAX: usize = 1_024;
/// How often the rarest state of a place is seen in a sample that has all of them.
const SEEN_MIN: usize = 5;
/// Share of a place's values that have to be numbers for a reading.
const NUMBERS_SHARE: f64 = 0.8;
/// Names of places that name series, the surest last.
const KEY_NAMES: [&str; 16] = [
    "name",
    "host",
    "source",
    "topic",
    "tag",
    "station",
    "line",
    "unit_id",
    "asset",
    "serial",
    "sensor",
    "device",
    "id",
    "equipment",
    "pump",
    "machine",
];
/// Ends of names of numbers that count messages, or name something.
const COUNTERS: [&str; 9] = [
    "seq",
    "sequence",
    "msgid",
    "_msgid",
    "id",
    "offset",
    "seqno",
    "datasetwriterid",
    "messageid",
];

/// One place.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    path: Vec<String>,
    /// Records that have it.
    pub(super) count: usize,
    numbers: usize,
    /// The least and the largest number.
    range: Option<(f64, f64)>,
    /// Whether each number is whole.
    is_whole: bool,
    /// How often each value was seen, as text.
    texts: BTreeMap<String, usize>,
    /// Values that are `true` or `false`.
    flags: usize,
    /// Whether there were more texts than are kept.
    has_many: bool,
    /// Records of the sample.
    records: usize,
}

impl Place {
    pub(super) fn path(&self) -> Vec<String> {
        self.path.clone()
    }

    /// Its keys, joined.
    pub(super) fn name(&self) -> String {
        self.path.join(".")
    }

    fn last(&self) -> String {
        self.path
            .last()
            .map_or(String::new(), |key| key.to_lowercase())
    }

    fn is_reading(&self) -> bool {
        self.numbers as f64 >= NUMBERS_SHARE * self.count as f64 && self.numbers > 0
    }

    /// Whether it names the series: a text, or a whole number that is called so, of few values, in each
    /// record.
    pub(super) fn names_series(&self) -> bool {
        let is_text = self.numbers == 0 && self.range.is_none();
        let is_named = self.key_rank() > 0;
        let few = !self.has_many && 4 * self.texts.len() <= self.records.max(4);
        let is_id = is_text || self.is_whole && is_named;
        is_id && few && !self.texts.is_empty() && self.count == self.records && is_named
    }

    /// How sure its name is that of a key; 0: not at all.
    pub(super) fn key_rank(&self) -> usize {
        let last = self.last();
        let at = |name: &&str| {
            last == **name
                || last.ends_with(&format!("_{name}"))
                || last.ends_with(&format!("{name}_id"))
                || last == format!("{name}id")
        };
        let found = KEY_NAMES.iter().rposition(at);
        found.map_or(0, |at| at + 1)
    }

    fn is_counter(&self) -> bool {
        self.is_whole && COUNTERS.contains(&self.last().as_str())
    }

    /// Whether it holds texts of few kinds that are no numbers, or `true` and `false`.
    pub(super) fn is_state(&self) -> bool {
        let few = !self.has_many && (2..=20).contains(&self.texts.len());
        let is_state = self.numbers == 0 || self.flags == self.count;
        is_state && few && self.records > 4 * self.texts.len()
    }

    /// Its states, where each was seen so often that hardly one is missing.
    pub(super) fn states(&self) -> Option<States> {
        let is_complete = self.texts.values().all(|seen| *seen >= SEEN_MIN);
        let value = |text: &String| match (self.flags > 0, text.as_str()) {
            (true, flag) => StateValue::Flag(flag == "true"),
            (false, text) => StateValue::Text(text.to_owned()),
        };
        let values: Vec<StateValue> = self.texts.keys().map(value).collect();
        States::new(&values)
            .ok()
            .filter(|_| is_complete && self.is_state())
    }

    /// The texts that it holds.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    /// What was seen of it, in words.
    pub(super) fn seen(&self) -> String {
        let (low, high) = self.range.unwrap_or_default();
        format!(
            "{} to {} in {} of {} records",
            low, high, self.count, self.records
        )
    }

    /// Whether records leave it out.
    pub(super) fn is_sparse(&self) -> bool {
        10 * self.count < 9 * self.records
    }
}

/// All places, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Places {
    list: Vec<Place>,
    index: HashMap<Vec<String>, usize>,
    decimal_comma: bool,
}

impl Places {
    pub(super) fn of(records: &[Value], decimal_comma: bool) -> Self {
        let mut places = Self {
            decimal_comma,
            ..Self::default()
        };
        for record in records {
            places.walk(&mut Vec::new(), record, 0);
        }
        for place in &mut places.list {
            place.records = records.len();
        }
        places
    }

    pub(super) fn all(&self) -> &[Place] {
        &self.list
    }

    /// The names of the first places, in quotes.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.list.iter().take(10);
        names.map(|place| format!("`{}`", place.name())).collect()
    }

    /// The places of numbers that are neither key nor time nor a counter of messages.
    pub(super) fn readings(&self, record: &RecordFormat) -> Vec<&Place> {
        let is_used = |place: &&Place| {
            let key = matches!(&record.key, KeyFrom::Field(path) if *path == place.path);
            let time = matches!(&record.time, TimeFrom::Field(path) if *path == place.path);
            place.is_reading() && !place.is_state() && !key && !time && !place.is_counter()
        };
        // A place inside of another one cannot be read beside it.
        self.list.iter().filter(is_used).take(FIELDS_MAX).collect()
    }

    fn walk(&mut self, path: &mut Vec<String>, value: &Value, depth: usize) {
        match value {
            Value::Object(members) if depth < DEPTH_MAX => {
                for (key, value) in members {
                    path.push(key.clone());
                    self.walk(path, value, depth + 1);
                    path.pop();
                }
            }
            Value::Array(elements) if depth < DEPTH_MAX => {
                for (number, value) in elements.iter().enumerate().take(FIELDS_MAX) {
                    path.push(number.to_string());
                    self.walk(path, value, depth + 1);
                    path.pop();
                }
            }
            Value::Null => {}
            scalar => self.take(path, scalar),
        }
    }

    fn take(&mut self, path: &[String], scalar: &Value) {
        let at = match self.index.get(path) {
            Some(at) => *at,
            None if path.is_empty() || self.list.len() >= PLACES_MAX => return,
            None => {
                let path = path.to_vec();
                self.index.insert(path.clone(), self.list.len());
                self.list.push(Place {
                    path,
                    is_whole: true,
                    ..Place::default()
                });
                self.list.len() - 1
            }
        };
        let comma = self.decimal_comma;
        let Some(place) = self.list.get_mut(at) else {
            return;
        };
        place.count += 1;
        let number = match scalar {
            Value::Number(number) => number.as_f64(),
            Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Value::String(text) => match text::reading(text, comma) {
                Ok(TextReading::Number(number)) => Some(number),
                _ => None,
            },
            _ => None,
        };
        if let Some(number) = number.filter(|number| number.is_finite()) {
            place.numbers += 1;
            place.is_whole &= number.fract() == 0.0 && !scalar.is_boolean();
            let (low, high) = place.range.unwrap_or((number, number));
            place.range = Some((low.min(number), high.max(number)));
        }
        let text = match scalar {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        place.flags += usize::from(scalar.is_boolean());
        match (place.texts.len() < TEXTS_MAX, place.texts.get_mut(&text)) {
            (_, Some(seen)) => *seen += 1,
            (true, None) => drop(place.texts.insert(text, 1)),
            (false, None) => place.has_many = true,
        }
    }
}

/// A field of a place, by its last key where that is the only one of its name.
pub(super) fn field_of(place: &Place, all: &[&Place]) -> FieldSettings {
    let last = place.path.last().cloned().unwrap_or_default();
    let is_only = all
        .iter()
        .filter(|other| other.path.last() == Some(&last))
        .count()
        == 1;
    let is_plain = !last.chars().all(|c| c.is_ascii_digit())
        && !["value", "v", "Value"].contains(&last.as_str());
    let name = match is_only && is_plain {
        true => last,
        false => {
            let keys: Vec<&str> = place.path.iter().map(String::as_str).collect();
            let end = match keys.as_slice() {
                [rest @ .., "value" | "v" | "Value"] if !rest.is_empty() => rest,
                keys => keys,
            };
            end.join(".")
        }
    };
    FieldSettings {
        path: place.path(),
        ..FieldSettings::named(&name)
    }
}
