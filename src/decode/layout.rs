//! The layouts of a message: where its records are in the decoded value.
//!
//! | `record.layout` | a message holds | a record |
//! |---|---|---|
//! | `row` | one record | the value |
//! | `rows` | an array of records, at `record.rows` | an element |
//! | `tags` | an array of tags of one record, at `record.tags.path`, or an object with the tags under their names | its tags by name |
//! | `tag` | one tag, or an array of tags at `record.tags.path` | one tag; `resample` joins them |
//!
//! What is around an array belongs to each of its records, unless a record has the same key. An element
//! of `rows` that is no object is the record's `value`. The order of tags is without meaning, tags that
//! are not configured are left out, and a tag whose quality is bad is a reading that is not a number.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::DecodeProblem;
use super::text::quoted;
use crate::record::RejectReason;
use crate::record::format::{KeyFrom, Layout, RecordFormat, TagFormat, TimeFrom};

/// The key of an element that is no object.
const ELEMENT: &str = "value";
/// What a tag with a bad quality reads: not a number.
const BAD: &str = "NaN";
/// From here on a number is a good quality of OPC Data Access, which has 192 for "good".
const GOOD_MIN: u64 = 192;

/// One record of a message, or why it is none.
pub(super) type Part = Result<Value, DecodeProblem>;

/// Finds the records of decoded values.
#[derive(Clone, Debug)]
pub(super) struct LayoutReader {
    layout: Layout,
    rows: Vec<String>,
    tags: TagFormat,
    /// The first keys of the configured paths: what is needed of what is around an array.
    around: Vec<String>,
    /// By the name of a tag, the path that reads it.
    named: HashMap<String, Vec<String>>,
}

impl LayoutReader {
    pub(super) fn new(format: &RecordFormat) -> Self {
        let mut paths: Vec<&Vec<String>> = format.fields.iter().map(|field| &field.path).collect();
        if let KeyFrom::Field(path) = &format.key {
            paths.push(path);
        }
        if let TimeFrom::Field(path) = &format.time {
            paths.push(path);
        }
        let around = paths.iter().filter_map(|path| path.first().cloned());
        Self {
            layout: format.layout,
            rows: format.rows.clone(),
            tags: format.tags.clone(),
            around: around.collect(),
            named: paths
                .iter()
                .map(|&path| (path.join("."), path.clone()))
                .collect(),
        }
    }

    /// Adds the records of a value to those of its message.
    ///
    /// # Errors
    /// A value that has another layout as a whole.
    pub(super) fn split(&self, value: Value, parts: &mut Vec<Part>) -> Result<(), DecodeProblem> {
        match self.layout {
            Layout::Row => parts.push(Ok(value)),
            Layout::Rows => {
                let (around, found) = self.taken(value, &self.rows, "record.rows")?;
                match found {
                    Value::Array(rows) => {
                        let rows = rows.into_iter().map(|row| Ok(self.row(row, &around)));
                        parts.extend(rows);
                    }
                    row => parts.push(Ok(self.row(row, &around))),
                }
            }
            Layout::Tags => {
                let (around, found) = self.taken(value, &self.tags.path, "record.tags.path")?;
                parts.push(self.joined(found, around));
            }
            Layout::Tag => {
                let (around, found) = self.taken(value, &self.tags.path, "record.tags.path")?;
                match found {
                    Value::Array(tags) => {
                        parts.extend(tags.into_iter().filter_map(|tag| self.single(tag, &around)));
                    }
                    tag => parts.extend(self.single(tag, &around)),
                }
            }
        }
        Ok(())
    }

    /// What is at a path, and what is needed of the rest.
    fn taken(
        &self,
        mut value: Value,
        path: &[String],
        option: &str,
    ) -> Result<(Map<String, Value>, Value), DecodeProblem> {
        if path.is_empty() {
            return Ok((Map::new(), value));
        }
        let mut place = Some(&mut value);
        for key in path {
            place = place.and_then(|at| match at {
                Value::Array(elements) => elements.get_mut(key.parse::<usize>().ok()?),
                at => at.get_mut(key),
            });
        }
        let found = place.map(Value::take).unwrap_or_default();
        if found.is_null() {
            let detail = format!(
                "nothing is at `{}`, where {option} says that the records are",
                path.join(".")
            );
            return Err(DecodeProblem::new(RejectReason::NotObject, detail));
        }
        let around = match value {
            Value::Object(mut around) => {
                around.retain(|key, _| self.around.contains(key));
                around
            }
            _ => Map::new(),
        };
        Ok((around, found))
    }

    fn row(&self, row: Value, around: &Map<String, Value>) -> Value {
        let mut row = match row {
            Value::Object(row) => row,
            element => Map::from_iter([(ELEMENT.to_owned(), element)]),
        };
        for (key, value) in around {
            if !row.contains_key(key) {
                row.insert(key.clone(), value.clone());
            }
        }
        Value::Object(row)
    }

    /// The record of several tags.
    fn joined(&self, tags: Value, mut record: Map<String, Value>) -> Part {
        match tags {
            Value::Array(tags) => {
                for tag in tags {
                    if let (Some(path), value) = self.tag(&tag)? {
                        insert(&mut record, path, value);
                    }
                }
            }
            Value::Object(tags) => {
                for (name, tag) in tags {
                    if let Some(path) = self.named.get(&name) {
                        insert(&mut record, path, self.value(&tag));
                    }
                }
            }
            other => return Err(no_tag(&other, &self.tags.name)),
        }
        Ok(Value::Object(record))
    }

    /// The record of one tag; `None` where it is not configured.
    fn single(&self, tag: Value, around: &Map<String, Value>) -> Option<Part> {
        match self.tag(&tag) {
            Ok((Some(path), value)) => {
                let mut record = around.clone();
                if let Value::Object(tag) = tag {
                    record.extend(tag.into_iter().filter(|(key, _)| self.around.contains(key)));
                }
                insert(&mut record, path, value);
                Some(Ok(Value::Object(record)))
            }
            Ok((None, _)) => None,
            Err(problem) => Some(Err(problem)),
        }
    }

    /// The path that reads a tag, where it is configured, and its value.
    fn tag(&self, tag: &Value) -> Result<(Option<&[String]>, Value), DecodeProblem> {
        let path = match at(tag, &self.tags.name) {
            Some(Value::String(name)) => self.named.get(name),
            Some(Value::Number(name)) => self.named.get(&name.to_string()),
            _ => return Err(no_tag(tag, &self.tags.name)),
        };
        Ok((path.map(Vec::as_slice), self.value(tag)))
    }

    fn value(&self, tag: &Value) -> Value {
        let is_bad = at(tag, &self.tags.quality).is_some_and(is_bad);
        match tag {
            _ if is_bad => BAD.into(),
            Value::Object(_) => at(tag, &self.tags.value).cloned().unwrap_or_default(),
            // An object of tags may hold their values as they are.
            value => value.clone(),
        }
    }
}

fn no_tag(found: &Value, name: &[String]) -> DecodeProblem {
    let detail = format!(
        "{} is no tag: its name should be text or a number at `{}`; see record.tags",
        quoted(&found.to_string()),
        name.join(".")
    );
    DecodeProblem::new(RejectReason::NotObject, detail)
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    let found = path.iter().try_fold(value, |value, key| value.get(key));
    found.filter(|_| !path.is_empty())
}

/// Whether a quality is bad: false, text that does not begin like "good", or a number that is a good
/// one neither in OPC Data Access nor, where it is 0, in OPC UA.
fn is_bad(quality: &Value) -> bool {
    match quality {
        Value::Bool(is_good) => !is_good,
        Value::String(text) => {
            let good = text.get(..4);
            !good.is_some_and(|text| text.eq_ignore_ascii_case("good"))
        }
        Value::Number(number) => number.as_u64().is_some_and(|n| n != 0 && n < GOOD_MIN),
        _ => false,
    }
}

/// Puts a value to a place of a record, inside of objects.
fn insert(record: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        record.insert(first.clone(), value);
        return;
    }
    let below = record
        .entry(first.clone())
        .or_insert_with(|| Value::Object(Map::new()));
    if !below.is_object() {
        *below = Value::Object(Map::new());
    }
    if let Value::Object(below) = below {
        insert(below, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fixtures::format;
    use serde_json::json;

    fn reader(layout: Layout, change: impl FnOnce(&mut RecordFormat)) -> LayoutReader {
        let mut format = format(&[("load", "load"), ("Line1.temp", "temp")]);
        format.key = KeyFrom::Field(vec!["gateway".to_owned()]);
        format.time = TimeFrom::Field(vec!["ts".to_owned()]);
        format.layout = layout;
        change(&mut format);
        LayoutReader::new(&format)
    }

    fn split(reader: &LayoutReader, value: Value) -> Result<Vec<Value>, DecodeProblem> {
        let mut parts = Vec::new();
        reader.split(value, &mut parts)?;
        parts.into_iter().collect()
    }

    #[test]
    fn each_row_has_what_is_around_the_array_unless_it_has_its_own() {
        let rows = reader(Layout::Rows, |format| {
            format.rows = vec!["d".into(), "0".into()]
        });
        let value = json!({"gateway": "g", "ts": 1, "x": 2, "d": [[{"ts": 5, "load": 1}, 7]]});
        let expected = [
            json!({"gateway": "g", "ts": 5, "load": 1}),
            json!({"gateway": "g", "ts": 1, "value": 7}),
        ];
        assert_eq!(split(&rows, value).expect("rows"), expected);
        let problem = split(&rows, json!({"e": []})).expect_err("no array");
        assert!(
            problem.detail.contains("nothing is at `d.0`"),
            "{problem:?}"
        );

        let whole = reader(Layout::Rows, |_| {});
        let array = json!([{"load": 1}, {"load": 2}]);
        assert_eq!(split(&whole, array).expect("rows").len(), 2);
        assert_eq!(split(&whole, json!({"load": 1})).expect("a row").len(), 1);
    }

    #[test]
    fn tags_are_found_by_name_whatever_their_order() {
        let tags = reader(Layout::Tags, |format| {
            format.tags.path = vec!["values".into()];
            format.tags.name = vec!["id".into()];
            format.tags.value = vec!["v".into()];
            format.tags.quality = vec!["q".into()];
        });
        let expected = json!({"gateway": "g", "load": 3, "Line1": {"temp": "NaN"}});
        for values in [
            json!([{"id": "load", "v": 3, "q": true}, {"id": "x", "v": 1}, {"id": "Line1.temp", "v": 5, "q": false}]),
            json!([{"id": "Line1.temp", "v": 5, "q": "Bad"}, {"id": "load", "v": 3, "q": 192}]),
            json!({"Line1.temp": {"v": 5, "q": 24}, "load": 3}),
        ] {
            let value = json!({"gateway": "g", "values": values});
            assert_eq!(
                split(&tags, value).expect("tags"),
                std::slice::from_ref(&expected)
            );
        }
        for values in [json!([{"v": 3}]), json!([5]), json!("x")] {
            let problem = split(&tags, json!({"values": values})).expect_err("no tags");
            assert_eq!(problem.reason, RejectReason::NotObject);
        }
    }

    #[test]
    fn a_single_tag_keeps_its_time_and_an_unknown_one_is_no_record() {
        let tag = reader(Layout::Tag, |_| {});
        let value = json!({"name": "Line1.temp", "value": 4, "ts": 7, "x": 1});
        let expected = json!({"ts": 7, "Line1": {"temp": 4}});
        assert_eq!(split(&tag, value).expect("a tag"), [expected]);
        assert_eq!(
            split(&tag, json!({"name": "other", "value": 4})),
            Ok(vec![])
        );
        let several = json!([{"name": "load", "value": 4}, {"name": "other"}, {"name": "load"}]);
        let expected = [json!({"load": 4}), json!({"load": null})];
        assert_eq!(split(&tag, several).expect("tags"), expected);
    }
}
