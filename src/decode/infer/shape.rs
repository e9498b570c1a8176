//! The shape of messages: what is around the records, and where they are.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::decode::filter::Filter;
use crate::record::format::{Layout, RecordFormat};

/// Keys that a tag's name is under, the usual ones first.
const NAMES: [&str; 10] = [
    "name",
    "Name",
    "id",
    "DisplayName",
    "tag",
    "tagName",
    "TagName",
    "n",
    "NodeId",
    "point",
];
/// Keys that a tag's value is under.
const VALUES: [&str; 4] = ["value", "v", "Value", "val"];
/// Keys that a tag's quality is under.
const QUALITIES: [&str; 3] = ["q", "quality", "Quality"];
/// How deep an array of records is looked for.
const DEPTH_MAX: usize = 4;
/// Share of the messages that have to have a shape.
const SHARE: f64 = 0.9;

/// The records that the shape gives.
pub(super) struct Shape {
    pub(super) records: Vec<Value>,
    /// Whether each is one tag.
    pub(super) is_tag: bool,
}

impl Shape {
    /// Finds transform and layout of values, and sets them.
    ///
    /// # Errors
    /// Values without a record.
    pub(super) fn of(
        values: Vec<Value>,
        record: &mut RecordFormat,
        notes: &mut Vec<String>,
    ) -> Result<Self, String> {
        let values = transformed(values, record, notes);
        if values.is_empty() {
            return Err("no message holds a record".to_owned());
        }
        let is_array = most(&values, Value::is_array);
        let path = match is_array {
            true => Some(Vec::new()),
            false => array_of(&values),
        };
        let single = (!is_array && path.is_none())
            .then(|| tag_of(&values))
            .flatten();
        if let Some(tag) = single.filter(|tag| tag.repeats(&values)) {
            tag.set(record, Layout::Tag, Vec::new());
            let records = values.iter().map(|value| tag.record(value, &Map::new()));
            return Ok(Self {
                records: records.collect(),
                is_tag: true,
            });
        }
        let Some(path) = path else {
            return Ok(Self {
                records: values,
                is_tag: false,
            });
        };
        Ok(Self::of_arrays(&values, path, record))
    }

    fn of_arrays(values: &[Value], path: Vec<String>, record: &mut RecordFormat) -> Self {
        let arrays: Vec<(Map<String, Value>, Vec<Value>)> =
            values.iter().map(|value| split(value, &path)).collect();
        let elements: Vec<Value> = arrays.iter().flat_map(|(_, rows)| rows.clone()).collect();
        let Some(tag) = tag_of(&elements) else {
            (record.layout, record.rows) = (Layout::Rows, path);
            let rows = arrays
                .into_iter()
                .flat_map(|(around, rows)| rows.into_iter().map(move |row| merged(&around, row)));
            return Self {
                records: rows.collect(),
                is_tag: false,
            };
        };
        // Tags of one array are one record, unless a name comes twice in it.
        let is_once = |rows: &Vec<Value>| {
            let names: Vec<_> = rows.iter().filter_map(|row| tag.name_of(row)).collect();
            names.iter().collect::<HashSet<_>>().len() == names.len()
        };
        let has_own_times = path.is_empty();
        let is_tag = has_own_times || !arrays.iter().all(|(_, rows)| is_once(rows));
        let layout = if is_tag { Layout::Tag } else { Layout::Tags };
        tag.set(record, layout, path);
        let records = arrays.into_iter().flat_map(|(around, rows)| match is_tag {
            true => rows.iter().map(|row| tag.record(row, &around)).collect(),
            false => {
                let mut record = around;
                for row in &rows {
                    record.extend(tag.reading(row));
                }
                vec![Value::Object(record)]
            }
        });
        Self {
            records: records.collect(),
            is_tag,
        }
    }
}

/// Applies the filter for an envelope or a packed text, where most values have one.
fn transformed(
    values: Vec<Value>,
    record: &mut RecordFormat,
    notes: &mut Vec<String>,
) -> Vec<Value> {
    let objects: Vec<Value> = values
        .into_iter()
        .filter(|value| !value.is_null())
        .collect();
    let has = |keys: &[&str]| {
        let at = |value: &Value| {
            keys.iter()
                .try_fold(value, |value, key| value.get(key))
                .is_some()
        };
        most(&objects, at)
    };
    let (filter, note) = if has(&["payload", "op"]) && has(&["payload", "source"]) {
        (
            ".payload.after // empty",
            "Change events: inserts and updates are records, deletes are none.",
        )
    } else if has(&["op"])
        && has(&["source"])
        && objects.iter().any(|value| value.get("after").is_some())
    {
        (
            ".after // empty",
            "Change events: inserts and updates are records, deletes are none.",
        )
    } else if let Some(found) = packed(&objects) {
        found
    } else {
        return objects;
    };
    let Ok(run) = Filter::compile(filter) else {
        return objects;
    };
    record.transform = filter.to_owned();
    notes.push(note.to_owned());
    let all = objects
        .into_iter()
        .filter_map(|value| run.run(value, 1_000).ok());
    all.flatten().collect()
}

/// The filter for JSON that is a text of an object.
fn packed(values: &[Value]) -> Option<(&'static str, &'static str)> {
    let is_object = |text: &[u8]| serde_json::from_slice::<Map<String, Value>>(text).is_ok();
    let note = "The records are JSON in a text of the message.";
    let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    for (key, plain, packed) in [
        (
            "payload",
            ". + (.payload | fromjson) | del(.payload)",
            ". + (.payload | @base64d | fromjson) | del(.payload)",
        ),
        (
            "value",
            ". + (.value | fromjson) | del(.value)",
            ". + (.value | @base64d | fromjson) | del(.value)",
        ),
        (
            "message",
            ". + (.message | fromjson) | del(.message)",
            ". + (.message | @base64d | fromjson) | del(.message)",
        ),
        (
            "data",
            ". + (.data | fromjson) | del(.data)",
            ". + (.data | @base64d | fromjson) | del(.data)",
        ),
    ] {
        if most(values, |value| {
            text(value, key).is_some_and(|text| is_object(text.as_bytes()))
        }) {
            return Some((plain, note));
        }
        let decoded = |text: String| base64::engine::general_purpose::STANDARD.decode(text).ok();
        let holds = |value: &Value| {
            text(value, key)
                .and_then(decoded)
                .is_some_and(|json| is_object(&json))
        };
        if most(values, holds) {
            return Some((packed, note));
        }
    }
    None
}

fn most(values: &[Value], holds: impl Fn(&Value) -> bool) -> bool {
    let held = values.iter().filter(|value| holds(value)).count();
    !values.is_empty() && held as f64 >= SHARE * values.len() as f64
}

/// The path of the array of objects that most values have.
fn array_of(values: &[Value]) -> Option<Vec<String>> {
    fn arrays(value: &Value, path: &mut Vec<String>, found: &mut HashSet<Vec<String>>) {
        let Value::Object(members) = value else {
            return;
        };
        if path.len() >= DEPTH_MAX {
            return;
        }
        for (key, value) in members {
            path.push(key.clone());
            match value {
                Value::Array(rows) if !rows.is_empty() && rows.iter().all(Value::is_object) => {
                    found.insert(path.clone());
                }
                value => arrays(value, path, found),
            }
            path.pop();
        }
    }
    let mut counts: HashMap<Vec<String>, usize> = HashMap::new();
    for value in values {
        let mut found = HashSet::new();
        arrays(value, &mut Vec::new(), &mut found);
        found
            .into_iter()
            .for_each(|path| *counts.entry(path).or_default() += 1);
    }
    counts.retain(|_, count| *count as f64 >= SHARE * values.len() as f64);
    // The description that Kafka Connect sends along is an array of objects, too.
    counts.retain(|path, _| path.first().is_none_or(|key| key != "schema"));
    let mut paths: Vec<_> = counts.into_keys().collect();
    paths.sort_by_key(|path| (path.len(), path.clone()));
    paths.into_iter().next()
}

/// The elements at a path, and what is around them.
fn split(value: &Value, path: &[String]) -> (Map<String, Value>, Vec<Value>) {
    let rows = path.iter().try_fold(value, |value, key| value.get(key));
    let rows = match rows {
        Some(Value::Array(rows)) => rows.clone(),
        Some(row) => vec![row.clone()],
        None => Vec::new(),
    };
    let mut around = match value {
        Value::Object(around) => around.clone(),
        _ => Map::new(),
    };
    if let Some(first) = path.first() {
        around.remove(first);
    }
    (around, rows)
}

fn merged(around: &Map<String, Value>, row: Value) -> Value {
    let mut record = around.clone();
    match row {
        Value::Object(row) => record.extend(row),
        element => drop(record.insert("value".to_owned(), element)),
    }
    Value::Object(record)
}

/// How tags are written.
struct Tag {
    name: &'static str,
    value: Vec<String>,
    quality: Option<&'static str>,
}

/// How most values are tags: a name and a scalar.
fn tag_of(values: &[Value]) -> Option<Tag> {
    let of = |key: &&str| {
        most(values, |value| {
            value.get(*key).is_some_and(Value::is_string)
        })
    };
    let name = NAMES.into_iter().find(of)?;
    let is_scalar = |value: &Value| value.is_number() || value.is_string() || value.is_boolean();
    let value = VALUES.into_iter().find_map(|key| {
        if most(values, |value| value.get(key).is_some_and(is_scalar)) {
            return Some(vec![key.to_owned()]);
        }
        let inner = VALUES.into_iter().find(|inner| {
            let at = |value: &Value| value.get(key)?.get(inner).map(is_scalar);
            most(values, |value| at(value).unwrap_or(false))
        });
        inner.map(|inner| vec![key.to_owned(), inner.to_owned()])
    })?;
    let is_quality = |key: &&str| most(values, |value| value.get(*key).is_some());
    Some(Tag {
        name,
        value,
        quality: QUALITIES.into_iter().find(is_quality),
    })
}

impl Tag {
    fn name_of<'v>(&self, value: &'v Value) -> Option<&'v str> {
        value.get(self.name)?.as_str()
    }

    /// Whether single tags come by turns: some names, each of them more than once.
    fn repeats(&self, values: &[Value]) -> bool {
        let names: HashSet<_> = values
            .iter()
            .filter_map(|value| self.name_of(value))
            .collect();
        (2..=1_000).contains(&names.len()) && 3 * names.len() <= values.len()
    }

    fn set(&self, record: &mut RecordFormat, layout: Layout, path: Vec<String>) {
        let key = |key: &str| vec![key.to_owned()];
        record.layout = layout;
        record.tags.path = path;
        record.tags.name = key(self.name);
        record.tags.value = self.value.clone();
        record.tags.quality = self.quality.map(key).unwrap_or_default();
    }

    /// Its name and value.
    fn reading(&self, tag: &Value) -> Option<(String, Value)> {
        let value = self
            .value
            .iter()
            .try_fold(tag, |value, key| value.get(key))?;
        Some((self.name_of(tag)?.to_owned(), value.clone()))
    }

    /// The record of one tag: what is around it and in it, and its reading under its name.
    fn record(&self, tag: &Value, around: &Map<String, Value>) -> Value {
        let mut record = around.clone();
        if let Value::Object(tag) = tag {
            record.extend(tag.clone());
        }
        record.remove(self.name);
        match self.value.as_slice() {
            [value] => drop(record.remove(value)),
            [first, value] => {
                let inner = record.get_mut(first).and_then(Value::as_object_mut);
                drop(inner.and_then(|inner| inner.remove(value)));
            }
            _ => {}
        }
        record.extend(self.reading(tag));
        Value::Object(record)
    }
}
