use prost_reflect::DynamicMessage;
use prost_reflect::prost::Message as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;

const PUMP: &str = r#"
    syntax = "proto3";
    package plant.a;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    import "google/protobuf/struct.proto";
    import "google/protobuf/any.proto";
    import "other/tag.proto";
    import "confluent/meta.proto";
    enum State { OFF = 0; RUN = 1; }
    message Pump {
        map<string, double> more = 1;
        message Inner { sint32 z = 1; message Deep { bool d = 1; } }
        message Second { fixed64 f = 1; }
        string id = 2;
        google.protobuf.Timestamp at = 3;
        double temp_c = 4 [(confluent.field_meta).doc = "in degrees"];
        optional double flow = 5;
        State state = 6;
        repeated other.Tag tags = 7;
        google.protobuf.DoubleValue wrapped = 8;
        uint64 big = 9;
        bytes raw = 10;
        repeated float packed = 11;
        oneof one { int32 a = 12; string b = 13; }
        Inner inner = 14;
        google.protobuf.Struct open = 15;
        google.protobuf.Any any = 16;
        Pump next = 17;
        repeated Pump all = 18;
    }
    message Other { int32 x = 1; }
"#;

const TAG: &str =
    r#"syntax = "proto3"; package other; message Tag { string name = 1; double value = 2; }"#;

fn schema() -> ProtobufSchema {
    ProtobufSchema::parse(PUMP, &[("other/tag.proto", TAG)]).unwrap()
}

fn pump() -> ProtobufMessage {
    schema().message(Some("plant.a.Pump")).unwrap()
}

/// The bytes of a message that JSON describes.
fn encode(message: &ProtobufMessage, json: &Value) -> Vec<u8> {
    let message = DynamicMessage::deserialize(message.0.clone(), json).unwrap();
    message.encode_to_vec()
}

fn example() -> Value {
    json!({
        "more": {"x": 1.5}, "id": "p1", "at": "2026-03-09T10:14:33.500Z", "temp_c": 21.25, "flow": 0.0,
        "state": "RUN", "tags": [{"name": "t", "value": 2.5}, {"name": "", "value": 0.0}], "wrapped": 0.0,
        "big": u64::MAX, "raw": "AQI=", "packed": [0.5, 1.0], "b": "text", "inner": {"z": -3},
        "open": {"k": [1.0, "v", null]}, "all": [],
    })
}

#[test]
fn each_type_is_written_as_documented() {
    let pump = pump();
    let due = example();
    assert_eq!(pump.decode(&encode(&pump, &due)), Ok(due));
    // Scalars without presence have their default; the rest is absent.
    let due = json!({
        "more": {}, "id": "", "temp_c": 0.0, "state": "OFF", "tags": [], "big": 0, "raw": "",
        "packed": [], "all": [],
    });
    assert_eq!(pump.decode(&[]), Ok(due));
    assert_eq!(pump.name(), "plant.a.Pump");
    assert_eq!(pump.fields()[3], "temp_c");
    // Field 4 is NaN, field 6 a state without a name.
    let bytes = [&[4 << 3 | 1][..], &f64::NAN.to_le_bytes(), &[6 << 3, 9]].concat();
    let value = pump.decode(&bytes).unwrap();
    assert_eq!(
        (&value["temp_c"], &value["state"]),
        (&json!("NaN"), &json!(9))
    );
    // An impossible time costs itself only.
    let seconds = [
        3 << 3 | 2,
        10,
        1 << 3,
        0xFF,
        0xFF,
        0xFF,
        0xFF,
        0xFF,
        0xFF,
        0xFF,
        0xFF,
        0x7F,
    ];
    assert_eq!(pump.decode(&seconds).unwrap()["at"], Value::Null);
}

#[test]
fn messages_are_found_by_name_and_by_index() {
    let schema = schema();
    assert_eq!(schema.messages(), ["plant.a.Pump", "plant.a.Other"]);
    assert_eq!(schema.message(None).unwrap().name(), "plant.a.Pump");
    assert!(schema.message(Some("other.Tag")).is_some(), "imported");
    assert!(schema.message(Some("Pump")).is_none());
    for (bytes, name) in [
        (&[0, 7][..], "plant.a.Pump"),
        (&[2, 0, 7], "plant.a.Pump"),
        (&[2, 2, 7], "plant.a.Other"),
        // The entry of the map comes before them.
        (&[4, 0, 0, 7], "plant.a.Pump.Inner"),
        (&[4, 0, 2, 7], "plant.a.Pump.Second"),
        (&[6, 0, 0, 0, 7], "plant.a.Pump.Inner.Deep"),
    ] {
        let (message, rest) = schema.framed(bytes).unwrap();
        assert_eq!((message.name(), rest), (name, &[7][..]));
    }
    for (bytes, part) in [
        (&[][..], "truncated"),
        (&[2], "truncated"),
        (&[0x80; 12], "truncated"),
        (&[1], "-1 is no length"),
        (&[0xFE, 0xFF, 3], "is no length"),
        (&[2, 4], "no message with the index 2"),
        (&[4, 2, 0], "plant.a.Other has no message with the index 0"),
    ] {
        let fault = schema.framed(bytes).unwrap_err();
        assert!(fault.contains(part), "{bytes:?}: {fault}");
    }
    let empty = ProtobufSchema::parse("syntax = \"proto3\";", &[]).unwrap();
    assert!(empty.framed(&[0]).is_err() && empty.message(None).is_none());
}

#[test]
fn paths_are_looked_for_in_the_schema() {
    let pump = pump();
    for path in [
        &["id"][..],
        &["inner", "z"],
        &["tags", "0", "value"],
        &["more", "any"],
        &["open", "x", "y"],
        &["next", "next", "all", "3", "id"],
        &["wrapped"],
        &["at"],
        &["tags"],
    ] {
        assert!(pump.has_path(path), "{path:?}");
    }
    for path in [
        &["x"][..],
        &["inner", "y"],
        &["tags", "value"],
        &["more", "any", "x"],
        &["id", "x"],
        &["at", "seconds"],
        &["wrapped", "value"],
    ] {
        assert!(!pump.has_path(path), "{path:?}");
    }
}

#[test]
fn a_file_on_disk_is_read_with_its_imports() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("other")).unwrap();
    std::fs::write(folder.path().join("other/tag.proto"), TAG).unwrap();
    std::fs::write(folder.path().join("pump.proto"), PUMP).unwrap();
    let schema = ProtobufSchema::open(&folder.path().join("pump.proto"), folder.path()).unwrap();
    assert_eq!(schema.messages(), ["plant.a.Pump", "plant.a.Other"]);
    std::fs::remove_file(folder.path().join("other/tag.proto")).unwrap();
    let fault = ProtobufSchema::open(&folder.path().join("pump.proto"), folder.path()).unwrap_err();
    assert!(fault.contains("other/tag.proto"), "{fault}");
    let fault = ProtobufSchema::open(&folder.path().join("none.proto"), folder.path()).unwrap_err();
    assert!(fault.contains("none.proto"), "{fault}");
}

#[test]
fn faults_of_a_schema_are_named() {
    let deep = format!(
        "message M {{{}{}}}",
        "message M {".repeat(200),
        "}".repeat(200)
    );
    for (text, part) in [
        ("message", "expected"),
        (
            "syntax = \"proto3\"; message M { int32 x = 1; Nothing y = 2; }",
            "Nothing",
        ),
        ("import \"none.proto\";", "none.proto"),
        (&deep, "64 brackets"),
        ("import \"schema.proto\";", "schema.proto"),
    ] {
        let fault = ProtobufSchema::parse(text, &[]).unwrap_err();
        assert!(fault.contains(part), "{text}: {fault}");
    }
    let fault = ProtobufSchema::parse("import \"a\";", &[("a", "message")]).unwrap_err();
    assert!(fault.contains("a:"), "{fault}");
    let comments = format!(
        "// {{{}\nmessage M {{ optional string s = 1; }} /* {0} */",
        "<".repeat(99)
    );
    assert!(ProtobufSchema::parse(&comments, &[]).is_ok());
    let chain: Vec<(String, String)> = (0..256)
        .map(|at| {
            (
                format!("f{at}"),
                if at < 255 {
                    format!("import \"f{}\";", at + 1)
                } else {
                    String::new()
                },
            )
        })
        .collect();
    let chain: Vec<(&str, &str)> = chain
        .iter()
        .map(|(name, text)| (&**name, &**text))
        .collect();
    assert!(ProtobufSchema::parse("import \"f0\";", &chain).is_ok());
}

#[test]
fn nothing_grows_far_beyond_its_bytes() {
    let wide: String = (1..1000)
        .map(|at| format!("double f{at} = {at};"))
        .collect();
    let text = format!(
        "syntax = \"proto3\"; message W {{ {wide} }} message M {{ repeated W w = 1; M m = 2; }}"
    );
    let schema = ProtobufSchema::parse(&text, &[]).unwrap();
    let message = schema.message(Some("M")).unwrap();
    let fault = message.decode(&[10, 0].repeat(1 << 19)).unwrap_err();
    assert!(fault.contains("262144 fields"), "{fault}");
    assert!(message.decode(&[10, 0].repeat(100)).is_ok());
    let mut deep = Vec::new();
    for _ in 0..500 {
        let mut length = Vec::new();
        prost_reflect::prost::encoding::encode_varint(deep.len() as u64, &mut length);
        deep = [&[18][..], &length, &deep].concat();
    }
    let fault = message.decode(&deep).unwrap_err();
    assert!(fault.contains("recursion limit"), "{fault}");
    // An `Any` inside of an `Any`, and so on, stays bytes.
    let pump = pump();
    let url = "type.googleapis.com/google.protobuf.Any";
    let mut any = Vec::new();
    for _ in 0..2000 {
        let mut next = vec![10, url.len() as u8];
        next.extend(url.as_bytes());
        next.push(18);
        prost_reflect::prost::encoding::encode_varint(any.len() as u64, &mut next);
        next.extend(any);
        any = next;
    }
    let mut bytes = vec![0x82, 1];
    prost_reflect::prost::encoding::encode_varint(any.len() as u64, &mut bytes);
    bytes.extend(any);
    assert_eq!(pump.decode(&bytes).unwrap()["any"]["type_url"], url);
}

#[test]
fn mutated_messages_give_errors_and_no_panic() {
    let schema = schema();
    let pump = pump();
    let mut nested = example();
    nested["next"] = example();
    nested["all"] = json!([example(), example()]);
    let whole = encode(&pump, &nested);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut accepted = 0;
    for _ in 0..100_000 {
        let mut bytes = [&[0][..], &whole].concat();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..=bytes.len());
            match rng.random_range(0..5) {
                0 => bytes.insert(at, rng.random()),
                1 if rng.random_ratio(1, 4) => bytes.truncate(at),
                2 => bytes.extend([0xFF; 9]),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = rng.random();
                    }
                }
            }
        }
        if let Ok((message, rest)) = schema.framed(&bytes) {
            accepted += usize::from(message.decode(rest).is_ok());
        }
    }
    assert!(accepted > 1000 && accepted < 99_000, "{accepted}");
}

#[test]
fn mutated_schemas_give_errors_and_no_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let signs = br#"{}[]()<>"';=.,/*-a19 "#;
    for _ in 0..5_000 {
        let mut bytes = PUMP.as_bytes().to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            let sign = signs[rng.random_range(0..signs.len())];
            match rng.random_range(0..3) {
                0 => drop(bytes.remove(at)),
                1 => bytes[at] = sign,
                _ => bytes.insert(at, sign),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let _ = ProtobufSchema::parse(&text, &[("other/tag.proto", TAG)]);
    }
}
