//! The JSON Schema (draft 2020-12) of the records that a stream accepts: for producers, who can
//! hold their messages against it before they send them.
//!
//! It describes what [`super::json`] accepts, as far as a schema can: not that a place occurs once,
//! nor the length of the payload, nor the years of an event time; a key's length is counted in
//! characters where the decoder counts bytes. Text that is not a number is a faulty reading to the
//! decoder, and to the schema a mistake of the producer.

use serde_json::{Map, Value, json};

use super::text::KEY_BYTES_MAX;
use super::time::TimeReader;
use super::tree::{Node, Target};
use crate::record::format::{FieldSettings, RecordFormat, States, TimeFormat};

/// Largest array index that is described; a schema needs an entry for each element before it.
const INDEX_MAX: usize = 63;

/// A number as text, a word for a number that is not finite, or nothing, with spaces around.
const READING_TEXT: &str = r"^\s*([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?([Nn][Aa][Nn]|[Ii][Nn][Ff]([Ii][Nn][Ii][Tt][Yy])?))?\s*$";

/// The schema of an input record of `format`.
///
/// Only the series key and the event time are required, where they are fields: an absent reading is
/// a missing one, which the gate deals with. A field's unit and physical range are in its
/// description, because a reading outside the range is accepted too and becomes a sensor fault.
pub fn record_schema(format: &RecordFormat) -> Value {
    let (root, _) = Node::of(format);
    let mut schema = place(&root, format);
    if let Value::Object(schema) = &mut schema {
        schema.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        schema.insert("title".to_owned(), json!("Input record"));
        schema.insert("type".to_owned(), json!("object"));
        let reading = json!({
            "type": ["number", "boolean", "string", "null"],
            "pattern": READING_TEXT,
        });
        schema.insert("$defs".to_owned(), json!({ "reading": reading }));
    }
    schema
}

/// The schema of one place and all below it.
fn place(node: &Node, format: &RecordFormat) -> Value {
    let targets: Vec<Value> = node
        .targets
        .iter()
        .map(|target| scalar(*target, format))
        .collect();
    let below = if node.is_leaf() {
        None
    } else {
        Some(parent(node, format))
    };
    match (targets.as_slice(), below) {
        ([only], None) => only.clone(),
        ([], Some(below)) => below,
        (_, None) => json!({ "allOf": targets }),
        (_, Some(below)) => json!({ "anyOf": [{ "allOf": targets }, below] }),
    }
}

/// The schema of a place with others below it: an object, an array where keys are indices, or null.
fn parent(node: &Node, format: &RecordFormat) -> Value {
    let properties: Map<String, Value> = node
        .children()
        .map(|(key, child)| (key.to_owned(), place(child, format)))
        .collect();
    let required: Vec<&str> = node
        .children()
        .filter(|(_, child)| is_required(child))
        .map(|(key, _)| key)
        .collect();
    let mut schema = Map::new();
    // Without a required place below, nothing at all may stand here; with one, an array would need
    // `minItems`.
    let types = if required.is_empty() {
        json!(["object", "array", "null"])
    } else {
        json!(["object", "array"])
    };
    schema.insert("type".to_owned(), types);
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    let elements: Vec<_> = node
        .elements()
        .take_while(|&(index, _)| index <= INDEX_MAX)
        .collect();
    if let Some(&(last, _)) = elements.last() {
        let mut items = vec![Value::Bool(true); last + 1];
        for (index, child) in elements.iter() {
            if let Some(item) = items.get_mut(*index) {
                *item = place(child, format);
            }
        }
        schema.insert("prefixItems".to_owned(), Value::Array(items));
    }
    let needed = node
        .elements()
        .filter(|(_, child)| is_required(child))
        .map(|(index, _)| index + 1)
        .max();
    match (needed, required.is_empty()) {
        (Some(needed), _) => drop(schema.insert("minItems".to_owned(), json!(needed))),
        // A required key that is no index cannot stand in an array.
        (None, false) => drop(schema.insert("type".to_owned(), json!("object"))),
        (None, true) => {}
    }
    Value::Object(schema)
}

/// Whether a record is rejected that has nothing here: the key or the time stands here or below.
fn is_required(node: &Node) -> bool {
    node.targets
        .iter()
        .any(|target| !matches!(target, Target::Reading(_) | Target::State(_)))
        || node.children().any(|(_, child)| is_required(child))
}

fn scalar(target: Target, format: &RecordFormat) -> Value {
    match target {
        Target::Reading(index) => {
            let description = format.fields.get(index).map(describe).unwrap_or_default();
            json!({ "$ref": "#/$defs/reading", "description": description })
        }
        Target::State(index) => {
            let field = format.fields.get(index);
            let states = field.and_then(|field| field.states.as_ref());
            let mut allowed: Vec<Value> = states.map_or_else(Vec::new, States::in_json);
            allowed.push(Value::Null);
            let description = field.map(describe).unwrap_or_default();
            json!({ "description": description, "enum": allowed })
        }
        Target::Key => json!({
            "description": format!("Series key; text of 1 to {KEY_BYTES_MAX} bytes of UTF-8, or an integer"),
            "type": ["string", "integer"],
            "minLength": 1,
            "maxLength": KEY_BYTES_MAX,
        }),
        Target::Time => json!({
            "description": format!("Event time: {}; years 1970 to 2199", TimeReader::of(format).allowed()),
            "type": if matches!(format.time_format, TimeFormat::Rfc3339) { json!("string") } else { json!(["string", "number"]) },
            "pattern": r"\S",
        }),
    }
}

fn describe(field: &FieldSettings) -> String {
    let mut description = format!("Field `{}`", field.name);
    if let Some(unit) = &field.unit {
        description += &format!(" in {unit}");
    }
    match (field.min.is_finite(), field.max.is_finite()) {
        (true, true) => description += &format!("; physically {} to {}", field.min, field.max),
        (true, false) => description += &format!("; physically {} or more", field.min),
        (false, true) => description += &format!("; physically {} or less", field.max),
        (false, false) => {}
    }
    description
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fixtures::{example, format};
    use crate::decode::records::Decoder;
    use crate::record::format::{KeyFrom, TimeFrom};
    use crate::record::{EventTime, Message};

    #[test]
    fn the_stored_schema_is_that_of_the_example_stream() {
        let stored: Value =
            serde_json::from_str(include_str!("../../schemas/record.schema.json")).expect("JSON");
        let due = record_schema(&example());
        assert!(
            stored == due,
            "schemas/record.schema.json has to be:\n{due:#}"
        );
    }

    /// The decoder and the schema have to be of one opinion about each payload.
    #[track_caller]
    fn assert_agree(format: &RecordFormat, payload: &str, is_accepted: bool) {
        let key = Some(&b"k"[..]);
        let timestamp = Some(EventTime(0));
        let message = Message {
            partition: 0,
            offset: 0,
            key,
            payload: Some(payload.as_bytes()),
            timestamp,
            arrival: None,
            headers: None,
        };
        let batch = Decoder::new(format).decode(&[message]);
        assert_eq!(
            batch.records.len() == 1,
            is_accepted,
            "decoder: {payload}: {:?}",
            batch.rejected
        );
        assert_eq!(is_valid(format, payload), is_accepted, "schema: {payload}");
    }

    fn is_valid(format: &RecordFormat, payload: &str) -> bool {
        let value: Value = serde_json::from_str(payload).expect(payload);
        let schema = record_schema(format);
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        validator.is_valid(&value)
    }

    #[test]
    fn the_schema_accepts_what_the_decoder_accepts() {
        let example = example();
        for (rest, is_accepted) in [
            ("", true),
            (
                r#","flow":1.5,"pressure":-1e300,"motor":{"temp":true,"rpm":{}}"#,
                true,
            ),
            (r#","flow":null,"pressure":"","motor":null"#, true),
            (
                r#","flow":" 12.5 ","pressure":"-INF","motor":{"temp":"nan"}"#,
                true,
            ),
            (r#","flow":"+.5e-3","pressure":"7.","motor":[]"#, true),
            (r#","flow":"n/a""#, false),
            (r#","flow":"1,5""#, false),
            (r#","flow":".""#, false),
            (r#","flow":[1]"#, false),
            (r#","flow":{}"#, false),
            (r#","motor":5"#, false),
            (r#","motor":"""#, false),
            (r#","motor":{"temp":{}}"#, false),
        ] {
            assert_agree(
                &example,
                &format!(r#"{{"pump":"p1","ts":1773051273{rest}}}"#),
                is_accepted,
            );
        }
        for (payload, is_accepted) in [
            (r#"{"pump":7,"ts":"2026-03-09 10:14:33"}"#, true),
            (r#"{"pump":"","ts":1}"#, false),
            (r#"{"pump":1.5,"ts":1}"#, false),
            (r#"{"pump":null,"ts":1}"#, false),
            (r#"{"ts":1}"#, false),
            (r#"{"pump":"p"}"#, false),
            (r#"{"pump":"p","ts":null}"#, false),
            (r#"{"pump":"p","ts":"  "}"#, false),
            (r#"{"pump":"p","ts":true}"#, false),
            ("[]", false),
            ("1", false),
        ] {
            assert_agree(&example, payload, is_accepted);
        }
    }

    #[test]
    fn indices_nested_keys_and_shared_places_are_described() {
        let mut format = format(&[
            ("r.1.value", "one"),
            ("both", "both"),
            ("both.x", "x"),
            ("meta.n", "n"),
        ]);
        format.key = KeyFrom::Field(vec!["meta".into(), "n".into()]);
        for (payload, is_accepted) in [
            (r#"{"meta":{"n":5}}"#, true),
            (r#"{"meta":{"n":"5"},"r":[0,{"value":2}],"both":1}"#, true),
            (
                r#"{"meta":{"n":5},"r":{"1":{"value":2}},"both":{"x":1}}"#,
                true,
            ),
            (r#"{"meta":{"n":"five"}}"#, false),
            (r#"{"meta":null}"#, false),
            (r#"{"meta":[]}"#, false),
            (r#"{"meta":{}}"#, false),
            ("{}", false),
        ] {
            assert_agree(&format, payload, is_accepted);
        }
        // A faulty sensor costs no record, but no record should have one.
        for payload in [
            r#"{"meta":{"n":5},"r":[0,1]}"#,
            r#"{"meta":{"n":5},"r":[0,{"value":[]}]}"#,
        ] {
            let message = Message {
                key: Some(b"k"),
                payload: Some(payload.as_bytes()),
                timestamp: Some(EventTime(0)),
                ..Message::default()
            };
            let batch = Decoder::new(&format).decode(&[message]);
            assert_eq!(batch.rejected, []);
            assert_eq!(batch.values[0], crate::record::NON_FINITE);
            assert!(!is_valid(&format, payload), "{payload}");
        }
        let mut at_index = super::super::fixtures::format(&[("x", "x")]);
        at_index.time = TimeFrom::Field(vec!["t".into(), "0".into()]);
        at_index.time_format = TimeFormat::Rfc3339;
        assert_agree(&at_index, r#"{"t":["2026-03-09T10:14:33Z"]}"#, true);
        assert_agree(&at_index, r#"{"t":[]}"#, false);
        assert_agree(&at_index, r#"{"t":[5]}"#, false);
    }
}
