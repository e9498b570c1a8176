//! What is written, read by two other implementations: the library's reader, and the decoder of
//! destinations.

use std::time::Duration;

use apache_avro::schema_compatibility::SchemaCompatibility;
use serde_json::{Value, json};
use strum::VariantArray as _;

use super::*;
use crate::destination::decoder::AlertDecoder;
use crate::record::alert::{
    Alert, AlertEvent, AlertKind, ChartKind, CloseReason, FieldFault, FieldOutside, FieldShare,
    InputPosition, Severity,
};
use crate::record::image::Region;
use crate::record::score::{RecordScore, ScorePosition};
use crate::record::{FaultKind, RecordVerdict};

fn writer(text: &str) -> AvroWriter {
    AvroWriter::new(258, text).unwrap()
}

/// The least that an alert has.
fn bare(kind: AlertKind) -> Alert {
    Alert {
        id: "0123456789abcdef0123456789abcdef".into(),
        sequence: 0,
        event: AlertEvent::Open,
        kind,
        severity: Severity::Info,
        stream: "pumps".into(),
        series: String::new(),
        time: "2026-03-09T10:14:33.5Z".into(),
        summary: "Pumpe \u{df} deviates.".into(),
        since: None,
        opened_at: "2026-03-09T10:14:03Z".into(),
        closed_at: None,
        records: 0,
        score: None,
        threshold: None,
        ratio: None,
        peak_ratio: None,
        chart: None,
        close_reason: None,
        fields: Vec::new(),
        regions: Vec::new(),
        faults: Vec::new(),
        trained_on: 0,
        bundle: String::new(),
        outside: Vec::new(),
        not_scored: false,
        incident: None,
        provisional: false,
        missing_records: 0,
        spans_gap: false,
        position: InputPosition {
            topic: "plant.pumps".into(),
            partition: i32::MAX,
            offset: i64::MAX,
        },
    }
}

/// Everything that an alert can have.
fn full(kind: AlertKind) -> Alert {
    let unit = Some("degC".to_owned());
    let fault = |kind: FaultKind| FieldFault {
        name: "flow".into(),
        unit: unit.clone(),
        kind,
        value: Some(-9999.0),
        repeats: Some(u32::MAX),
    };
    Alert {
        sequence: u32::MAX,
        event: AlertEvent::Close,
        severity: Severity::Critical,
        since: Some("2026-03-09T10:13:58Z".into()),
        closed_at: Some("2026-03-09T10:14:33.5Z".into()),
        records: i64::MAX.unsigned_abs(),
        score: Some(1.0 / 3.0),
        threshold: Some(f64::MIN_POSITIVE),
        ratio: Some(-0.0),
        peak_ratio: Some(f64::MAX),
        chart: Some(ChartKind::Autoencoder),
        close_reason: Some(CloseReason::CalibrationDoubtful),
        fields: vec![
            FieldShare {
                name: "temp".into(),
                unit: unit.clone(),
                value: 90.1,
                expected: 70.0,
                share: 0.8,
            };
            3
        ],
        regions: vec![Region {
            x: u32::MAX,
            y: 12,
            width: 16,
            height: 9,
            share: 1.0,
        }],
        faults: [FaultKind::Missing, FaultKind::CalibrationDoubtful]
            .map(fault)
            .into(),
        trained_on: 400,
        bundle: "b1".into(),
        outside: vec![FieldOutside {
            name: "temp".into(),
            unit: None,
            value: 120.0,
            trained: [60.5, 80.25],
        }],
        not_scored: true,
        incident: Some("i1".into()),
        provisional: true,
        missing_records: 7,
        spans_gap: true,
        ..bare(kind)
    }
}

/// What the library reads of a value.
fn read(schema: &str, framed: &[u8]) -> apache_avro::types::Value {
    let (frame, mut datum) = framed.split_at(5);
    assert_eq!(frame, [0, 0, 0, 1, 2]);
    let schema = Schema::parse_str(schema).unwrap();
    let value = apache_avro::from_avro_datum(&schema, &mut datum, None).unwrap();
    assert_eq!(datum, b"");
    value
}

fn decoder(writer: &AvroWriter) -> AlertDecoder {
    let mut decoder = AlertDecoder::new(&RegistrySettings {
        urls: vec!["http://127.0.0.1:9".to_owned()],
        username: None,
        password: None,
        token: None,
        ca_file: None,
        timeout: Duration::from_millis(100),
    });
    decoder.insert(writer.registered()).unwrap();
    decoder
}

#[test]
fn every_kind_of_alert_is_read_as_it_was_written() {
    let writer = writer(ALERT_SCHEMA);
    let mut decoder = decoder(&writer);
    let kinds = AlertKind::ALL.iter().copied();
    for alert in kinds.flat_map(|kind| [bare(kind), full(kind)]) {
        let framed = writer.write(&alert).unwrap();
        let value = read(ALERT_SCHEMA, &framed);
        assert_eq!(apache_avro::from_value::<Alert>(&value).unwrap(), alert);
        let line = decoder.line(&framed, Duration::ZERO).unwrap();
        assert_eq!(line, serde_json::to_string(&alert).unwrap());
    }
}

#[test]
fn every_symbol_is_written_under_its_name() {
    let writer = writer(ALERT_SCHEMA);
    let schema: Value = serde_json::from_str(ALERT_SCHEMA).unwrap();
    let alert = serde_json::to_value(full(AlertKind::Anomaly)).unwrap();
    let mut enums = Vec::new();
    symbols_of(&schema, &mut Vec::new(), &mut enums);
    assert_eq!(enums.len(), 6);
    for (path, symbols) in enums {
        for symbol in symbols.iter().filter(|symbol| *symbol != "unknown") {
            let mut changed = alert.clone();
            *changed.pointer_mut(&path).unwrap() = symbol.clone();
            let changed: Alert = serde_json::from_value(changed).unwrap();
            let value = read(ALERT_SCHEMA, &writer.write(&changed).unwrap());
            assert_eq!(apache_avro::from_value::<Alert>(&value).unwrap(), changed);
        }
    }
}

/// The enums of a schema: where they are in a value in JSON, and their symbols.
fn symbols_of(schema: &Value, path: &mut Vec<String>, found: &mut Vec<(String, Vec<Value>)>) {
    if let Some(branches) = schema.as_array() {
        branches
            .iter()
            .for_each(|branch| symbols_of(branch, path, found));
    } else if let Some(symbols) = schema["symbols"].as_array() {
        found.push((format!("/{}", path.join("/")), symbols.clone()));
    } else if schema["type"] == "array" {
        path.push("0".to_owned());
        symbols_of(&schema["items"], path, found);
        path.pop();
    } else if let Some(fields) = schema["fields"].as_array() {
        for field in fields {
            path.push(field["name"].as_str().unwrap().to_owned());
            symbols_of(&field["type"], path, found);
            path.pop();
        }
    }
}

#[test]
fn numbers_that_json_does_not_have_are_written_as_they_are() {
    let writer = writer(ALERT_SCHEMA);
    for number in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let mut alert = full(AlertKind::Anomaly);
        alert.fields[0].value = number;
        let framed = writer.write(&alert).unwrap();
        let read: Alert = apache_avro::from_value(&read(ALERT_SCHEMA, &framed)).unwrap();
        assert_eq!(read.fields[0].value.to_bits(), number.to_bits());
        // Destinations are JSON, where it is null.
        let line = decoder(&writer).line(&framed, Duration::ZERO).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["fields"][0]["value"], Value::Null);
        assert_eq!(line["fields"][1]["value"], 90.1);
    }
}

#[test]
fn an_integer_that_a_long_does_not_hold_is_an_error() {
    let alert = Alert {
        records: u64::MAX,
        ..bare(AlertKind::Anomaly)
    };
    let error = writer(ALERT_SCHEMA).write(&alert).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
}

#[test]
fn scores_are_read_as_they_were_written() {
    let writer = writer(SCORE_SCHEMA);
    for verdict in RecordVerdict::ALL {
        for (score, part) in [(None, None), (Some(0.1), Some(3))] {
            let score = RecordScore {
                stream: "pumps",
                series: "pump-7",
                time: "2026-03-09T10:14:33.5Z".into(),
                score,
                raw_error: score,
                threshold: score,
                verdict,
                position: ScorePosition {
                    topic: "plant.pumps",
                    partition: 3,
                    offset: 1 << 40,
                    part,
                },
            };
            let value = read(SCORE_SCHEMA, &writer.write(&score).unwrap());
            let read = Value::try_from(value).unwrap();
            let mut due = serde_json::to_value(&score).unwrap();
            due["position"]["part"] = json!(part);
            assert_eq!(read, due);
        }
    }
}

/// A schema before a field was added, for each field that may be absent.
fn without_each_optional_field(schema: &Value) -> Vec<(String, Value)> {
    let fields = schema["fields"].as_array().unwrap();
    let optional = fields.iter().enumerate();
    let optional = optional.filter(|(_, field)| field.get("default").is_some());
    optional
        .map(|(at, field)| {
            let mut earlier = schema.clone();
            earlier["fields"].as_array_mut().unwrap().remove(at);
            (field["name"].to_string(), earlier)
        })
        .collect()
}

#[test]
fn a_field_can_be_added_without_a_break_in_either_direction() {
    for text in [ALERT_SCHEMA, SCORE_SCHEMA] {
        let schema: Value = serde_json::from_str(text).unwrap();
        let now = Schema::parse_str(text).unwrap();
        let earlier = without_each_optional_field(&schema);
        assert!(earlier.len() >= 3);
        for (name, earlier) in earlier {
            let earlier = Schema::parse_str(&earlier.to_string()).unwrap();
            let mutual = SchemaCompatibility::mutual_read(&earlier, &now);
            assert!(mutual.is_ok(), "{name}: {mutual:?}");
        }
    }
}

#[test]
fn a_reader_of_an_earlier_release_reads_a_later_kind_as_unknown() {
    let mut earlier: Value = serde_json::from_str(ALERT_SCHEMA).unwrap();
    let fields = earlier["fields"].as_array_mut().unwrap();
    let kind = fields.iter_mut().find(|field| field["name"] == "kind");
    kind.unwrap()["type"]["symbols"] = json!(["anomaly", "unknown"]);
    let earlier = Schema::parse_str(&earlier.to_string()).unwrap();
    let now = Schema::parse_str(ALERT_SCHEMA).unwrap();
    let framed = writer(ALERT_SCHEMA)
        .write(&bare(AlertKind::Silence))
        .unwrap();
    let value = apache_avro::from_avro_datum(&now, &mut &framed[5..], Some(&earlier)).unwrap();
    assert_eq!(Value::try_from(value).unwrap()["kind"], "unknown");
    assert_eq!(AlertKind::ALL.len(), AlertKind::VARIANTS.len());
}
