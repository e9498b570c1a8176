use std::marker::PhantomData;

use apache_avro::types::Value as AvroValue;
use serde_json::{Value, json};

use super::*;
use random::WithBytes;

mod random;

const ALL: &dyn Fn(&str) -> bool = &|_| true;

fn schema(text: &str) -> AvroSchema {
    AvroSchema::parse(text, &[], ALL).unwrap()
}

/// The record as a tree.
fn read(schema: &AvroSchema, bytes: &[u8]) -> Result<Value, String> {
    let value = schema.deserialize(bytes, PhantomData::<Value>);
    value.map_err(|error| error.to_string())
}

/// Bytes by another implementation.
fn encode(text: &str, value: AvroValue) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(text).unwrap();
    apache_avro::to_avro_datum(&schema, value).unwrap()
}

const PUMP: &str = r#"{"type": "record", "name": "Pump", "namespace": "plant.a", "doc": "x", "fields": [
    {"name": "id", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "note", "type": ["null", "string"], "default": null},
    {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["off", "run"]}},
    {"name": "flow", "type": ["null", "double"]},
    {"name": "temp", "type": "float"},
    {"name": "tags", "type": {"type": "array", "items": {"type": "record", "name": "Tag", "fields": [
        {"name": "name", "type": "string"}, {"name": "value", "type": "double"}]}}},
    {"name": "more", "type": {"type": "map", "values": "int"}},
    {"name": "last", "type": ["null", "Tag"]},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "ok", "type": "boolean"}]}"#;

fn pump() -> AvroValue {
    let tag = |name: &str, value| {
        AvroValue::Record(vec![
            ("name".into(), AvroValue::String(name.into())),
            ("value".into(), AvroValue::Double(value)),
        ])
    };
    let union = |at, value| AvroValue::Union(at, Box::new(value));
    let more = [("b".to_owned(), AvroValue::Int(-7))];
    AvroValue::Record(vec![
        ("id".into(), AvroValue::String("p1".into())),
        (
            "at".into(),
            AvroValue::TimestampMicros(1_773_051_273_000_000),
        ),
        ("note".into(), union(1, AvroValue::String("ä".into()))),
        ("state".into(), AvroValue::Enum(1, "run".into())),
        ("flow".into(), union(0, AvroValue::Null)),
        ("temp".into(), AvroValue::Float(0.5)),
        (
            "tags".into(),
            AvroValue::Array(vec![tag("t", 1.5), tag("u", f64::MIN)]),
        ),
        ("more".into(), AvroValue::Map(more.into())),
        ("last".into(), union(1, tag("l", -0.25))),
        ("price".into(), AvroValue::Decimal(vec![0xFF, 0x85].into())),
        ("ok".into(), AvroValue::Boolean(true)),
    ])
}

fn pump_bytes() -> Vec<u8> {
    encode(PUMP, pump())
}

#[test]
fn each_type_is_visited_as_documented() {
    let schema = schema(PUMP);
    let due = json!({
        "id": "p1", "at": 1_773_051_273_000_000_i64, "note": "ä", "state": "run", "flow": null, "temp": 0.5,
        "tags": [{"name": "t", "value": 1.5}, {"name": "u", "value": f64::MIN}],
        "more": {"b": -7}, "last": {"name": "l", "value": -0.25}, "price": -1.23, "ok": true
    });
    assert_eq!(read(&schema, &pump_bytes()), Ok(due));
    assert_eq!(schema.name(), "plant.a.Pump");
    assert_eq!(schema.fields().len(), 11);
    assert_eq!(schema.fields()[9], "price");
}

#[test]
fn what_is_not_wanted_is_skipped() {
    let wanted = |name: &str| matches!(name, "last" | "value" | "ok");
    let schema = AvroSchema::parse(PUMP, &[], &wanted).unwrap();
    let due = json!({"last": {"value": -0.25}, "ok": true});
    assert_eq!(read(&schema, &pump_bytes()), Ok(due));
    let of = |path: &[&str]| schema.has_path(path);
    assert!(of(&["last", "value"]) && of(&["ok"]) && of(&["last"]));
    assert!(!of(&["last", "name"]) && !of(&["ok", "value"]) && !of(&["flow"]));
    let schema = AvroSchema::parse(PUMP, &[], ALL).unwrap();
    assert!(schema.has_path(&["tags", "1", "value"]) && schema.has_path(&["more", "x"]));
    assert!(!schema.has_path(&["tags", "first"]) && !schema.has_path(&["more", "x", "y"]));
}

#[test]
fn a_wanted_alias_is_the_name_of_a_renamed_field() {
    let text = r#"{"type": "record", "name": "R", "fields": [
        {"name": "a2", "aliases": ["a1", "a"], "type": "int"},
        {"name": "x", "aliases": ["b", "a"], "type": "int"},
        {"name": "b", "type": "int"}]}"#;
    let of = |wanted: &'static [&str]| {
        let wanted = |name: &str| wanted.contains(&name);
        read(&AvroSchema::parse(text, &[], &wanted).unwrap(), &[2, 4, 6]).unwrap()
    };
    assert_eq!(of(&["a"]), json!({"a": 1}), "given once");
    assert_eq!(
        of(&["a", "b"]),
        json!({"a": 1, "b": 3}),
        "a field of that name is there"
    );
    assert_eq!(
        of(&["a2", "a"]),
        json!({"a2": 1, "a": 2}),
        "its own name comes first"
    );
    assert_eq!(of(&["a1"]), json!({"a1": 1}));
}

#[test]
fn numbers_are_those_of_the_specification() {
    let long = schema(r#""long""#);
    for (bytes, value) in [
        (&[0][..], 0_i64),
        (&[1], -1),
        (&[2], 1),
        (&[0x7F], -64),
        (&[0x80, 1], 64),
        (
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            i64::MIN,
        ),
        (
            &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            i64::MAX,
        ),
        (&[0x80, 0x80, 0], 0),
    ] {
        assert_eq!(read(&long, bytes), Ok(json!(value)), "{bytes:?}");
    }
    let int = schema(r#"{"type": "int", "logicalType": "date"}"#);
    assert_eq!(
        read(&int, &[0xFF, 0xFF, 0xFF, 0xFF, 0xF]),
        Ok(json!(i32::MIN))
    );
    assert!(
        read(&int, &[0xFF, 0xFF, 0xFF, 0xFF, 0x1F])
            .unwrap_err()
            .contains("32 bits")
    );
}

#[test]
fn decimals_and_uuids_are_numbers_and_text() {
    let decimal = |scale: u32, bytes: &[u8]| {
        let text = format!(
            r#"{{"type":"fixed","name":"D","size":{},"logicalType":"decimal","precision":40,"scale":{scale}}}"#,
            bytes.len()
        );
        read(&schema(&text), bytes).unwrap()
    };
    assert_eq!(decimal(2, &[0x30, 0x39]), json!(123.45));
    assert_eq!(decimal(0, &[0xFF; 20]), json!(-1.0));
    assert_eq!(decimal(3, &[]), json!(0.0));
    let mut wide = [0; 20];
    wide[0] = 1;
    assert_eq!(decimal(0, &wide), json!(2f64.powi(152)));
    let invalid = schema(r#"{"type":"fixed","name":"D","size":2,"logicalType":"decimal"}"#);
    assert_eq!(
        invalid.deserialize(&[0, 1], WithBytes),
        Ok(json!([0, 1])),
        "as bytes"
    );
    let uuid = schema(r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#);
    let bytes: Vec<u8> = (0..16).map(|n| n * 16 + n).collect();
    assert_eq!(
        read(&uuid, &bytes),
        Ok(json!("00112233-4455-6677-8899-aabbccddeeff"))
    );
}

#[test]
fn blocks_with_sizes_are_read_and_skipped() {
    let text = r#"{"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "array", "items": "string"}},
        {"name": "m", "type": {"type": "map", "values": "null"}},
        {"name": "d", "type": {"type": "array", "items": "double"}},
        {"name": "z", "type": "int"}]}"#;
    let mut bytes = vec![3, 8, 2, b'x', 2, b'y', 2, 0, 0]; // two of 4 bytes, then one
    bytes.extend([1, 4, 2, b'k', 0]);
    bytes.extend([4]);
    bytes.extend([1.5_f64, -2.0].iter().flat_map(|value| value.to_le_bytes()));
    bytes.extend([0, 10]);
    let due = json!({"a": ["x", "y", ""], "m": {"k": null}, "d": [1.5, -2.0], "z": 5});
    assert_eq!(read(&schema(text), &bytes), Ok(due));
    let last = AvroSchema::parse(text, &[], &|name| name == "z").unwrap();
    assert_eq!(read(&last, &bytes), Ok(json!({"z": 5})));
}

#[test]
fn faults_of_the_data_name_the_field() {
    let whole = pump_bytes();
    let all = schema(PUMP);
    let few = AvroSchema::parse(PUMP, &[], &|name| name == "ok").unwrap();
    for length in 0..whole.len() {
        for schema in [&all, &few] {
            let fault = read(schema, &whole[..length]).unwrap_err();
            assert!(fault.starts_with("field `"), "{length}: {fault}");
            assert!(
                fault.contains("truncated") || fault.contains("left"),
                "{fault}"
            );
        }
    }
}

#[test]
fn bytes_that_are_no_value_are_named() {
    let all = schema(PUMP);
    let mut more = pump_bytes();
    more.push(0);
    assert_eq!(
        read(&all, &more).unwrap_err(),
        "1 bytes are left behind the record"
    );
    let long = [0xFF; 11];
    assert!(
        read(&schema(r#""long""#), &long)
            .unwrap_err()
            .contains("64 bits")
    );
    for (text, bytes, part) in [
        (r#""string""#, &[2, 0xFF][..], "UTF-8"),
        (r#""string""#, &[1], "-1 is no length"),
        (
            r#""bytes""#,
            &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            "truncated",
        ),
        (r#""boolean""#, &[2], "0x02 is no boolean"),
        (r#"["null", "int"]"#, &[4], "2 is no branch"),
        (
            r#"{"type": "enum", "name": "E", "symbols": ["a"]}"#,
            &[2],
            "1 is no symbol",
        ),
        (
            r#"{"type": "array", "items": "int"}"#,
            &[20, 0],
            "10 elements do not fit",
        ),
        (
            r#"{"type": "array", "items": "int"}"#,
            &[1, 100, 0],
            "longer than",
        ),
        (
            r#"{"type": "array", "items": "int"}"#,
            &[1, 1, 0],
            "longer than",
        ),
        (
            r#"{"type": "array", "items": "null"}"#,
            &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0],
            "values without data",
        ),
    ] {
        let fault = read(&schema(text), bytes).unwrap_err();
        assert!(fault.contains(part), "{text}: {fault}");
    }
}

#[test]
fn nesting_is_bounded_in_data_and_schema() {
    let text =
        r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}"#;
    let list = schema(text);
    let deep = |levels| [vec![2; levels], vec![0]].concat();
    assert!(read(&list, &deep(100)).is_ok());
    assert!(
        read(&list, &deep(1 << 20))
            .unwrap_err()
            .contains("128 values")
    );
    let skipped =
        format!(r#"{{"type":"record","name":"R","fields":[{{"name":"l","type":{text}}}]}}"#);
    let skipped = AvroSchema::parse(&skipped, &[], &|_| false).unwrap();
    assert_eq!(read(&skipped, &deep(100)), Ok(json!({})));
    assert!(
        read(&skipped, &deep(1 << 20))
            .unwrap_err()
            .contains("128 values")
    );
    let nested = |levels| {
        let open = r#"{"type":"array","items":"#.repeat(levels);
        AvroSchema::parse(&format!("{open}\"int\"{}", "}".repeat(levels)), &[], ALL)
    };
    assert!(nested(100).is_ok());
    assert!(nested(100_000).unwrap_err().contains("not JSON"));
    // Twice as many values at each level, and not a byte of data.
    let mut fields = r#""null""#.to_owned();
    for level in 0..40 {
        fields = format!(
            r#"{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":{fields}}},{{"name":"b","type":"{}"}}]}}"#,
            if level == 0 {
                "null".to_owned()
            } else {
                format!("R{}", level - 1)
            }
        );
    }
    assert!(
        read(&schema(&fields), &[])
            .unwrap_err()
            .contains("values without data")
    );
    let skipped = AvroSchema::parse(&fields, &[], &|_| false).unwrap();
    assert_eq!(read(&skipped, &[]), Ok(json!({})));
}

#[test]
fn names_are_looked_for_in_their_namespace_and_in_references() {
    let tag =
        r#"{"type":"record","name":"Tag","namespace":"x","fields":[{"name":"v","type":"int"}]}"#;
    let outer = r#"{"type":"record","name":"O","namespace":"x","fields":[
        {"name":"a","type":"Tag"},{"name":"b","type":"x.Tag"},{"name":"c","type":"o"}]}"#;
    let other = r#"{"type":"enum","name":"o","symbols":["s"]}"#;
    let compiled = AvroSchema::parse(outer, &[("tag", tag), ("o", other)], ALL).unwrap();
    let due = json!({"a": {"v": 1}, "b": {"v": 2}, "c": "s"});
    assert_eq!(read(&compiled, &[2, 4, 0]), Ok(due));
    let fault = AvroSchema::parse(outer, &[("o", other)], ALL).unwrap_err();
    assert_eq!(
        fault,
        r#"field "a" of "x.O": the type "x.Tag" is nowhere defined"#
    );
    let fault = AvroSchema::parse(outer, &[("tag", "{")], ALL).unwrap_err();
    assert!(
        fault.starts_with(r#"in the referenced schema "tag": the schema is not JSON"#),
        "{fault}"
    );
    let union = AvroSchema::parse(r#"["null", "x.Tag", "int"]"#, &[("t", tag)], ALL).unwrap();
    assert_eq!(
        (union.name(), union.fields()),
        ("union of null, x.Tag, int", &["v".to_owned()][..])
    );
}

#[test]
fn faults_of_a_schema_are_named() {
    for (text, part) in [
        ("", "not JSON"),
        ("3", "3 is no type"),
        ("{}", "no \"type\""),
        (r#""nothing""#, "\"nothing\" is nowhere defined"),
        ("[]", "no branches"),
        (r#"["null", ["int"]]"#, "branch of a union"),
        (r#"{"type": "array"}"#, "no \"items\""),
        (r#"{"type": "record", "name": "R"}"#, "no \"fields\""),
        (r#"{"type": "record", "fields": []}"#, "no \"name\""),
        (
            r#"{"type": "record", "name": "R", "fields": [{"name": "a"}]}"#,
            "field \"a\" of \"R\"",
        ),
        (
            r#"{"type": "record", "name": "R", "fields": [{"type": "int"}]}"#,
            "no \"name\"",
        ),
        (
            r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}"#,
            "two fields of one name",
        ),
        (
            r#"{"type": "fixed", "name": "F", "size": -1}"#,
            "no \"size\"",
        ),
        (
            r#"{"type": "enum", "name": "E", "symbols": [1]}"#,
            "not text",
        ),
        (
            r#"[{"type": "fixed", "name": "F", "size": 1}, {"type": "fixed", "name": "F", "size": 2}]"#,
            "twice",
        ),
    ] {
        let fault = AvroSchema::parse(text, &[], ALL).unwrap_err();
        assert!(fault.contains(part), "{text}: {fault}");
    }
}
