//! Ten differently shaped topics, and what is found of them.

use serde_json::json;

use super::*;
use crate::decode::records::Decoder;
use crate::record::EventTime;
use crate::record::format::{Layout, TimeFormat};

const TAGS: [&str; 4] = ["load", "current", "temp", "vib"];
const SECONDS: i64 = 1_773_051_273;

/// Payloads with a Kafka key each, one a second.
fn messages<'a>(payloads: &'a [Vec<u8>], key: Option<&'a [u8]>) -> Vec<Message<'a>> {
    let message = |(offset, payload): (i64, &'a Vec<u8>)| Message {
        offset,
        key,
        payload: Some(payload),
        timestamp: Some(EventTime((SECONDS + offset) * 1_000_000)),
        arrival: Some(EventTime((SECONDS + offset) * 1_000_000)),
        ..Message::default()
    };
    (0..).zip(payloads).map(message).collect()
}

fn of(payload: impl Fn(i64) -> String) -> Vec<Vec<u8>> {
    (0..200)
        .map(|number| payload(number).into_bytes())
        .collect()
}

fn flow(number: i64) -> f64 {
    12.0 + (number as f64 / 7.0).sin()
}

/// What is found of messages, after all of them were read with it.
fn found(payloads: &[Vec<u8>], key: Option<&[u8]>) -> InferredFormat {
    let messages = messages(payloads, key);
    let found = infer(&messages).expect("a format");
    let batch = Decoder::new(&found.record).decode(&messages);
    assert_eq!(batch.rejected, []);
    for (index, field) in found.record.fields.iter().enumerate() {
        let has_reading = batch.rows().any(|row| row.values[index].is_finite());
        assert!(has_reading, "{} has no reading", field.name);
    }
    found
}

fn fields(found: &InferredFormat) -> Vec<&str> {
    found
        .record
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect()
}

fn path(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn a_flat_object_has_key_time_readings_and_states() {
    let payloads = of(|i| {
        json!({"pump": format!("p{}", i % 3), "ts": SECONDS + i / 3, "seq": i, "flow": flow(i),
        "temp": format!("{:.1}", 60.0 + flow(i)), "state": if i % 50 < 40 { "run" } else { "off" }})
        .to_string()
    });
    let found = found(&payloads, None);
    assert_eq!(found.record.key, KeyFrom::Field(path(&["pump"])));
    assert_eq!(found.record.time, TimeFrom::Field(path(&["ts"])));
    assert_eq!(fields(&found), ["flow", "temp", "state"]);
    let states = found.record.fields[2].states.clone().expect("states");
    assert_eq!(states.names().collect::<Vec<_>>(), ["off", "run"]);
    let text = found.to_toml("localhost:9092", "pumps", "plant.pumps");
    assert!(text.contains("{ name = \"state\", path = \"state\", values = [\"off\", \"run\"] }"));
    assert_eq!(found.period_s, Some(1.0));
}

#[test]
fn a_state_that_the_sample_hardly_has_is_a_comment_and_a_flag_is_one_of_two() {
    let payloads = of(|i| {
        let mode = if i == 70 {
            "cleaning"
        } else if i % 50 < 40 {
            "run"
        } else {
            "off"
        };
        json!({"ts": SECONDS + i, "flow": flow(i), "mode": mode, "door": i % 20 < 3}).to_string()
    });
    let found = found(&payloads, Some(b"mixer-1"));
    assert_eq!(fields(&found), ["flow", "door"]);
    assert_eq!(found.states, ["mode: cleaning, off, run"]);
    let states = found.record.fields[1].states.clone().expect("states");
    assert_eq!(states.names().collect::<Vec<_>>(), ["false", "true"]);
}

#[test]
fn the_kafka_key_is_the_series_unless_each_message_has_its_own() {
    let payloads = of(|i| {
        json!({"time": format!("09.03.2026 {:02}:{:02}:{:02}", 10 + i / 3600, i / 60 % 60, i % 60), "flow": flow(i)}).to_string()
    });
    let found = found(&payloads, Some(b"pump-1"));
    assert_eq!(found.record.key, KeyFrom::Kafka);
    assert_eq!(
        found.record.time_format,
        TimeFormat::Pattern("%d.%m.%Y %H:%M:%S".to_owned())
    );
    let names: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    let mut each = messages(&payloads, None);
    each.iter_mut()
        .zip(&names)
        .for_each(|(message, name)| message.key = Some(name.as_bytes()));
    assert_eq!(
        infer(&each).expect("a format").record.key,
        KeyFrom::Partition
    );
}

#[test]
fn nested_readings_are_named_by_what_tells_them_apart() {
    let payloads = of(|i| {
        json!({"device": {"id": "d1"}, "timestamp": (SECONDS + i) * 1000,
        "sensors": {"flow": {"value": flow(i), "unit": "l/min"}, "temp": {"value": 60.5 + flow(i), "unit": "degC"}}}).to_string()
    });
    let found = found(&payloads, None);
    assert_eq!(found.record.key, KeyFrom::Field(path(&["device", "id"])));
    assert_eq!(fields(&found), ["sensors.flow", "sensors.temp"]);
}

#[test]
fn arrays_are_rows_or_tags() {
    let rows = of(|i| {
        json!([{"ts": SECONDS + 2 * i, "flow": flow(i)}, {"ts": SECONDS + 2 * i + 1, "flow": flow(i)}]).to_string()
    });
    assert_eq!(found(&rows, None).record.layout, Layout::Rows);
    let batch = of(|i| {
        json!({"press": "P2", "data": [{"value": flow(i), "timeStamp": format!("2026-03-09T10:{:02}:{:02}Z", i / 60, i % 60)}]}).to_string()
    });
    let batch = found(&batch, None);
    assert_eq!(
        (batch.record.layout, &batch.record.rows),
        (Layout::Rows, &path(&["data"]))
    );
    assert_eq!(batch.record.time, TimeFrom::Field(path(&["timeStamp"])));
    let tags = of(|i| {
        json!({"timestamp": (SECONDS + i) * 1000, "values": [
        {"id": "Line1.flow", "v": flow(i), "q": true, "t": SECONDS * 1000}, {"id": "Line1.temp", "v": 60, "q": true, "t": SECONDS * 1000}]}).to_string()
    });
    let tags = found(&tags, None);
    assert_eq!(tags.record.layout, Layout::Tags);
    assert_eq!(fields(&tags), ["Line1.flow", "Line1.temp"]);
    assert_eq!(tags.record.tags.quality, path(&["q"]));
}

#[test]
fn tags_that_come_one_by_one_are_joined() {
    let payloads = of(|i| {
        json!({"NodeId": format!("ns=2;s={}", i % 4), "DisplayName": TAGS[(i % 4) as usize],
        "Value": flow(i), "SourceTimestamp": format!("2026-03-09T10:{:02}:{:02}Z", i / 4 / 6, i / 4 % 6 * 10)}).to_string()
    });
    let found = found(&payloads, None);
    assert_eq!(
        (found.record.layout, found.resample_s.is_some()),
        (Layout::Tag, true)
    );
    assert_eq!(fields(&found), ["load", "current", "temp", "vib"]);
    assert_eq!(found.resample_s, Some(10.0));
}

#[test]
fn envelopes_and_texts_are_taken_apart() {
    let debezium = of(|i| {
        match i % 10 {
        9 => json!({"schema": {}, "payload": {"before": {"id": i}, "after": null, "op": "d", "source": {}}}),
        _ => json!({"schema": {}, "payload": {"before": null, "op": "c", "source": {"ts_ms": 1},
            "after": {"machine": "M4", "taken": (SECONDS + i) * 1000, "flow": flow(i)}}}),
    }.to_string()
    });
    let debezium = found(&debezium, None);
    assert_eq!(debezium.record.transform, ".payload.after // empty");
    assert_eq!(debezium.record.time, TimeFrom::Field(path(&["taken"])));
    let text = of(|i| {
        json!({"topic": "plant/p1", "payload": json!({"ts": SECONDS + i, "flow": flow(i)}).to_string()}).to_string()
    });
    let text = found(&text, None);
    assert!(text.record.transform.contains("fromjson"));
    assert_eq!(
        (fields(&text), &text.record.key),
        (vec!["flow"], &KeyFrom::Field(path(&["topic"])))
    );
}

#[test]
fn other_encodings_are_recognised() {
    let packed: Vec<Vec<u8>> = (0..200)
        .map(|i| rmp_serde::to_vec(&json!({"ts": SECONDS + i, "flow": flow(i)})).expect("bytes"))
        .collect();
    assert_eq!(found(&packed, None).record.format, Format::Msgpack);
    let influx = of(|i| {
        format!(
            "pump,host=p{} flow={},temp=60i {}",
            i % 2,
            flow(i),
            (SECONDS + i) * 1_000_000_000
        )
    });
    let influx = found(&influx, None);
    assert_eq!(
        (influx.record.format, fields(&influx)),
        (Format::Influx, vec!["flow", "temp"])
    );
    assert_eq!(influx.record.key, KeyFrom::Field(path(&["host"])));
    let csv = of(|i| {
        format!(
            "2026-03-09 10:{:02}:{:02};M4;{}",
            i / 60,
            i % 60,
            format!("{:.2}", flow(i)).replace('.', ",")
        )
    });
    let csv = found(&csv, None);
    assert_eq!(
        (
            csv.record.format,
            csv.record.delimiter,
            csv.record.decimal_comma
        ),
        (Format::Csv, b';', true)
    );
    assert_eq!(csv.record.time, TimeFrom::Field(path(&["c1"])));
}

#[test]
fn fields_that_come_by_exception_are_held() {
    let payloads = of(|i| match i % 5 {
        0 => json!({"ts": SECONDS + i, "flow": flow(i), "temp": 60.5}).to_string(),
        _ => json!({"ts": SECONDS + i, "flow": flow(i)}).to_string(),
    });
    let found = found(&payloads, None);
    assert_eq!(found.record.hold.as_secs(), 60);
    let text = found.to_toml("localhost:9092", "pumps", "plant.pumps");
    assert!(
        text.contains("hold = \"1m\"") && text.contains("\"flow\", # 1"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_read_is_said() {
    let wrong = |payloads: &[&[u8]]| {
        let payloads: Vec<Vec<u8>> = payloads.iter().map(|payload| payload.to_vec()).collect();
        infer(&messages(&payloads, None)).err().expect("no format")
    };
    assert!(wrong(&[]).contains("no message"));
    assert!(wrong(&[b"\xC1\xFF\x00", b"\xC1"]).contains("no encoding"));
    assert!(wrong(&[b"{\"a\": \"x\"}"]).contains("no place of the records holds numbers"));
}
