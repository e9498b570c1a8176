//! Messages in Avro and Protobuf through the whole decoder, by the schema of a file.

use std::fs;

use serde_json::json;

use super::*;
use crate::decode::encoding::Encoding;
use crate::decode::fixtures::format;
use crate::decode::records::Decoder;
use crate::record::format::{Format, KeyFrom, RecordFormat, TimeFrom};
use crate::record::{Message, NON_FINITE};

const AVRO: &str = r#"{"type": "record", "name": "Reading", "namespace": "plant", "fields": [
    {"name": "site", "type": "string"},
    {"name": "pump", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "debit", "aliases": ["flow"], "type": ["null", "double"]},
    {"name": "motor", "type": {"type": "record", "name": "Motor", "fields": [
        {"name": "temp", "type": "float"}, {"name": "on", "type": "boolean"}]}}]}"#;

const PROTOBUF: &str = "syntax = \"proto3\"; package plant;
    message Other { string s = 1; }
    message Reading { string pump = 1; int64 at = 2; double flow = 3; Motor motor = 4; }
    message Motor { float temp = 1; bool on = 2; }";

const AT: i64 = 1_773_051_273_000_000;

/// A stream of readings in a language whose schema is a file with `text`.
fn stream(of: Format, text: &str) -> (tempfile::TempDir, RecordFormat) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema");
    fs::write(&file, text).unwrap();
    let mut format = format(&[("flow", "flow"), ("motor.temp", "temp"), ("motor.on", "on")]);
    format.format = of;
    format.key = KeyFrom::Field(vec!["pump".to_owned()]);
    format.time = TimeFrom::Field(vec!["at".to_owned()]);
    format.schema.file = Some(file);
    (folder, format)
}

fn decoder(format: &RecordFormat) -> Decoder {
    Decoder::with_schemas(format, &StreamSchemas::default()).unwrap()
}

/// The series, the time and the readings of a message, or why it is rejected.
fn decoded(decoder: &Decoder, payload: &[u8]) -> Result<(String, i64, Vec<f64>), String> {
    let message = Message {
        payload: Some(payload),
        ..Message::default()
    };
    let batch = decoder.decode(&[message]);
    match batch.rejected.first() {
        Some(rejected) => Err(format!("{}: {}", rejected.reason.as_str(), rejected.detail)),
        None => {
            let record = &batch.records[0];
            Ok((record.series.to_string(), record.time.0, batch.values))
        }
    }
}

/// A record with a flow and a temperature.
fn avro(flow: Option<f64>, temp: f32) -> Vec<u8> {
    let mut bytes = vec![10];
    bytes.extend(b"north\x04p1");
    let mut at = (AT as u64) << 1;
    while at >= 0x80 {
        bytes.push(at as u8 | 0x80);
        at >>= 7;
    }
    bytes.push(at as u8);
    match flow {
        Some(flow) => bytes.extend([&[2][..], &flow.to_le_bytes()].concat()),
        None => bytes.push(0),
    }
    bytes.extend(temp.to_le_bytes());
    bytes.push(1);
    bytes
}

fn record(values: [f64; 3]) -> Result<(String, i64, Vec<f64>), String> {
    Ok(("p1".to_owned(), AT, values.to_vec()))
}

#[test]
fn an_avro_record_streams_into_its_row() {
    let (_folder, format) = stream(Format::Avro, AVRO);
    let decoder = decoder(&format);
    assert_eq!(
        decoded(&decoder, &avro(Some(1.5), 60.5)),
        record([1.5, 60.5, 1.0])
    );
    let (_, _, values) = decoded(&decoder, &avro(None, f32::NAN)).unwrap();
    assert!(values[0].is_nan(), "missing");
    assert_eq!(values[1], NON_FINITE, "NaN is no missing reading");
    let schema = AvroSchema::parse(AVRO, &[], &|_| true).unwrap();
    let fingerprint = schema.fingerprint().to_le_bytes();
    let single = [&SINGLE_OBJECT[..], &fingerprint, &avro(Some(1.5), 60.5)].concat();
    assert_eq!(decoded(&decoder, &single), record([1.5, 60.5, 1.0]));
    let cut = &avro(Some(1.5), 60.5)[..20];
    let rejected = decoded(&decoder, cut).unwrap_err();
    assert!(
        rejected.starts_with("not_decodable: not a plant.Reading: field `flow`: "),
        "{rejected}"
    );
}

#[test]
fn a_message_in_protobuf_becomes_a_row() {
    let (_folder, mut format) = stream(Format::Protobuf, PROTOBUF);
    format.schema.message = Some("plant.Reading".to_owned());
    let decoder = decoder(&format);
    let mut bytes = b"\x0A\x02p1\x10".to_vec();
    let mut at = AT as u64;
    while at >= 0x80 {
        bytes.push(at as u8 | 0x80);
        at >>= 7;
    }
    bytes.push(at as u8);
    let head = bytes.clone();
    bytes.push(3 << 3 | 1);
    bytes.extend(1.5_f64.to_le_bytes());
    bytes.extend([4 << 3 | 2, 5, 1 << 3 | 5]);
    bytes.extend(60.5_f32.to_le_bytes());
    assert_eq!(decoded(&decoder, &bytes), record([1.5, 60.5, 0.0]));
    // What is 0 is not on the wire.
    let (_, _, values) = decoded(&decoder, &head).unwrap();
    assert_eq!(values[0], 0.0);
    assert!(values[1].is_nan() && values[2].is_nan(), "no motor");
    let rejected = decoded(&decoder, &bytes[..20]).unwrap_err();
    assert!(
        rejected.starts_with("not_decodable: not a plant.Reading: "),
        "{rejected}"
    );
}

#[test]
fn a_transform_gets_all_of_a_record_as_json() {
    let (_folder, mut format) = stream(Format::Avro, AVRO);
    format.transform = ".flow = .debit * 2 | select(.site == \"north\")".to_owned();
    let found = decoded(&decoder(&format), &avro(Some(1.5), 60.5));
    assert_eq!(found, record([3.0, 60.5, 1.0]));
    let encoding = Encoding::with_schemas(&format, &StreamSchemas::default()).unwrap();
    let Encoding::Schema(encoding) = encoding else {
        panic!("a schema");
    };
    let value = encoding.value(&avro(None, f32::INFINITY)).unwrap();
    let motor = json!({"temp": "Infinity", "on": true});
    let due = json!({"site": "north", "pump": "p1", "at": AT, "debit": null, "motor": motor});
    assert_eq!(value, due);
}

#[test]
fn a_schema_that_no_reading_can_come_from_is_refused_with_both_names() {
    let other = AVRO
        .replace("\"flow\"", "\"x\"")
        .replace("\"temp\"", "\"y\"")
        .replace("\"on\"", "\"z\"");
    for (of, text, parts) in [
        (
            Format::Avro,
            other.as_str(),
            ["plant.Reading", "`motor.temp`", "`debit`"],
        ),
        (
            Format::Protobuf,
            PROTOBUF,
            ["plant.Other", "`motor.temp`", "`s`"],
        ),
        (Format::Avro, "{", ["schema", "not JSON", "line 1"]),
        (
            Format::Protobuf,
            "message {",
            ["schema", "1:9", "identifier"],
        ),
    ] {
        let (_folder, format) = stream(of, text);
        let fault = SchemaUse::of(&format).open(&format.schema).unwrap_err();
        assert!(parts.iter().all(|part| fault.contains(part)), "{fault}");
    }
    let (_folder, mut format) = stream(Format::Protobuf, PROTOBUF);
    format.schema.message = Some("plant.None".to_owned());
    let fault = SchemaUse::of(&format).open(&format.schema).unwrap_err();
    assert!(
        fault.contains("\"plant.None\"") && fault.contains("`plant.Motor`"),
        "{fault}"
    );
}

#[test]
fn without_its_schema_a_message_is_rejected() {
    let (_folder, mut format) = stream(Format::Avro, AVRO);
    format.schema.file = None;
    let decoder = decoder(&format);
    assert!(decoder.needs_registry());
    for (payload, part) in [
        (
            &b"\x00\x00\x00\x00\x07x"[..],
            "unknown_schema: schema 7 is not known to the registry",
        ),
        (
            b"{\"flow\": 1}",
            "not_decodable: it does not begin with the frame",
        ),
        (
            b"\x00\x00",
            "not_decodable: it does not begin with the frame",
        ),
    ] {
        let rejected = decoded(&decoder, payload).unwrap_err();
        assert!(rejected.starts_with(part), "{rejected}");
    }
}
