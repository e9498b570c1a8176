//! The published schemas are those of the types: `UPDATE_SCHEMAS=1 cargo test --test schemas`
//! writes them anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

#[path = "schemas/avsc.rs"]
mod avsc;

use std::path::{Path, PathBuf};

use outlierd::events::published::PublishedEvent;
use outlierd::record::alert::{
    Alert, AlertEvent, AlertKind, ChartKind, DeadLetter, FieldFault, FieldShare, InputPosition,
    Severity,
};
use outlierd::record::image::Region;
use outlierd::record::score::RecordScore;
use outlierd::record::{FaultKind, RejectReason};
use outlierd::share::control::ControlMessage;
use outlierd::sink::avro::{ALERT_SCHEMA, SCORE_SCHEMA};
use schemars::JsonSchema;
use serde_json::json;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("schemas")
        .join(name)
}

fn validator<T: JsonSchema>() -> jsonschema::Validator {
    let schema = serde_json::to_value(schemars::schema_for!(T)).expect("a schema is JSON");
    jsonschema::validator_for(&schema).expect("a valid schema")
}

fn assert_is_schema_of<T: JsonSchema>(name: &str) {
    let text = serde_json::to_string_pretty(&schemars::schema_for!(T)).expect("a schema is JSON");
    assert_is_file(&format!("{name}.schema.json"), &text);
}

fn assert_is_avro_schema_of<T: JsonSchema>(name: &str, compiled_in: &str) {
    let schema = avsc::avro_schema::<T>();
    let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    assert_is_file(&format!("{name}.avsc"), &text);
    let compiled_in: serde_json::Value = serde_json::from_str(compiled_in).expect("JSON");
    assert!(compiled_in == schema, "build again");
    apache_avro::Schema::parse_str(&schema.to_string()).expect("a schema of Avro");
}

/// The text of the file must be equal, so that a change shows in the review.
fn assert_is_file(name: &str, text: &str) {
    let text = text.to_owned() + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(path(name), &text).expect("the schema is written");
    }
    let stored = std::fs::read_to_string(path(name)).unwrap_or_default();
    assert!(
        stored == text,
        "schemas/{name} is out of date: run UPDATE_SCHEMAS=1 cargo test --test schemas"
    );
}

fn position() -> InputPosition {
    InputPosition {
        topic: "plant.pumps".into(),
        partition: 4,
        offset: 17,
    }
}

fn alert() -> Alert {
    Alert {
        id: "0123456789abcdef0123456789abcdef".into(),
        sequence: 2,
        event: AlertEvent::Close,
        kind: AlertKind::Anomaly,
        severity: Severity::Critical,
        stream: "pumps".into(),
        series: "pump-7".into(),
        time: "2026-03-09T10:14:33.5Z".into(),
        summary: String::new(),
        since: Some("2026-03-09T10:13:58Z".into()),
        opened_at: "2026-03-09T10:14:03Z".into(),
        closed_at: Some("2026-03-09T10:14:33.5Z".into()),
        records: 12,
        score: Some(1.5),
        threshold: Some(2.0),
        ratio: Some(0.75),
        peak_ratio: Some(3.0),
        chart: Some(ChartKind::T2),
        close_reason: None,
        fields: vec![FieldShare {
            name: "temp".into(),
            unit: Some("degC".into()),
            value: 90.0,
            expected: 70.0,
            share: 0.8,
        }],
        regions: vec![Region {
            x: 40,
            y: 12,
            width: 16,
            height: 9,
            share: 1.0,
        }],
        faults: vec![FieldFault {
            name: "flow".into(),
            kind: FaultKind::Missing,
            unit: None,
            value: None,
            repeats: None,
        }],
        trained_on: 400,
        bundle: "b1".into(),
        outside: Vec::new(),
        not_scored: false,
        incident: None,
        provisional: false,
        missing_records: 0,
        spans_gap: false,
        position: position(),
    }
}

#[test]
fn the_alert_schema_is_that_of_the_type() {
    assert_is_schema_of::<Alert>("alert");
}

#[test]
fn the_schemas_of_scores_and_those_in_avro_are_those_of_the_types() {
    assert_is_schema_of::<RecordScore>("score");
    assert_is_avro_schema_of::<Alert>("alert", ALERT_SCHEMA);
    assert_is_avro_schema_of::<RecordScore>("score", SCORE_SCHEMA);
}

#[test]
fn the_dead_letter_schema_is_that_of_the_type() {
    assert_is_schema_of::<DeadLetter>("dead-letter");
}

#[test]
fn the_schemas_of_control_and_events_are_those_of_the_types() {
    assert_is_schema_of::<ControlMessage>("control");
    assert_is_schema_of::<PublishedEvent>("event");
}

#[test]
fn feedback_is_valid_and_what_is_none_is_not() {
    let feedback = json!({
        "type": "feedback", "stream": "pumps", "label": "mark_range", "series": "pump-7",
        "from": "2026-03-09T06:00:00Z", "until": "2026-03-09T14:00:00Z", "at": "2026-03-10T08:00:00Z",
    });
    let validator = validator::<ControlMessage>();
    assert!(validator.is_valid(&feedback));
    assert!(serde_json::from_value::<ControlMessage>(feedback.clone()).is_ok());
    for (key, value) in [
        ("label", json!("perhaps")),
        ("from", json!(12)),
        ("type", json!("rumour")),
    ] {
        let mut wrong = feedback.clone();
        wrong[key] = value;
        assert!(!validator.is_valid(&wrong), "{key}");
        assert!(
            serde_json::from_value::<ControlMessage>(wrong).is_err(),
            "{key}"
        );
    }
}

#[test]
fn alerts_are_valid_and_what_is_none_is_not() {
    let validator = validator::<Alert>();
    let full = serde_json::to_value(alert()).expect("an alert is JSON");
    assert_eq!(
        validator
            .iter_errors(&full)
            .map(|error| error.to_string())
            .collect::<Vec<_>>(),
        Vec::<String>::new()
    );

    let fault = Alert {
        closed_at: None,
        score: None,
        threshold: None,
        ratio: None,
        peak_ratio: None,
        chart: None,
        close_reason: None,
        ..alert()
    };
    let fault = serde_json::to_value(fault).expect("an alert is JSON");
    assert!(validator.is_valid(&fault), "what a sensor fault leaves out");
    assert_eq!(fault.get("score"), None, "left out, not null");

    for (key, value) in [
        ("severity", json!("fatal")),
        ("sequence", json!(-1)),
        ("unknown", json!(1)),
    ] {
        let mut wrong = full.clone();
        wrong[key] = value;
        assert!(!validator.is_valid(&wrong), "{key}");
    }
}

#[test]
fn dead_letters_are_valid_and_what_is_none_is_not() {
    let validator = validator::<DeadLetter>();
    let letter = DeadLetter {
        stream: "pumps".into(),
        reason: RejectReason::Late,
        detail: "event time 1970-01-01T00:00:00Z lies 12s behind its series".into(),
        position: position(),
        part: Some(3),
        payload_bytes: 120,
        payload_omitted: false,
        key_omitted: false,
        headers_omitted: false,
    };
    let letter = serde_json::to_value(letter).expect("a dead letter is JSON");
    assert!(validator.is_valid(&letter));
    let mut wrong = letter.clone();
    wrong["reason"] = json!("lost");
    assert!(!validator.is_valid(&wrong));
}
