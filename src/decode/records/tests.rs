//! Whole messages in each encoding and layout.

use std::io::Write as _;

use serde_json::json;

use super::*;
use crate::decode::fixtures::format;
use crate::record::EventTime;
use crate::record::format::{Format, KeyFrom, TimeFormat, TimeFrom};

const AT: EventTime = EventTime(1_773_051_273_000_000);

fn message(payload: &[u8]) -> Message<'_> {
    Message {
        key: Some(b"p1"),
        payload: Some(payload),
        timestamp: Some(AT),
        arrival: Some(AT),
        ..Message::default()
    }
}

fn flow() -> RecordFormat {
    let mut format = format(&[("flow", "flow"), ("temp", "temp")]);
    format.time = TimeFrom::Field(vec!["ts".to_owned()]);
    format
}

/// The series, parts and readings of a message's records, and the rejections with their parts.
type Found = (
    Vec<(String, Option<u32>, [f64; 2])>,
    Vec<(RejectReason, Option<u32>)>,
);

fn decoded(format: &RecordFormat, payload: &[u8]) -> Found {
    let messages = [message(payload)];
    let batch = Decoder::new(format).decode(&messages);
    let records = batch.rows().map(|row| {
        let values = [row.values[0], row.values[1]];
        (row.record.series.to_string(), row.record.part, values)
    });
    let records = records.collect();
    let rejected = batch.rejected.iter();
    (
        records,
        rejected.map(|found| (found.reason, found.part)).collect(),
    )
}

fn one(part: Option<u32>) -> Found {
    (vec![("p1".to_owned(), part, [1.5, 60.0])], Vec::new())
}

const RECORD: &[u8] = br#"{"ts": 1773051273, "flow": 1.5, "temp": 60}"#;

#[test]
fn packed_and_framed_json_is_read_as_if_it_were_not() {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(RECORD).unwrap();
    let packed = writer.finish().unwrap();
    let framed = [b"\0\0\0\0\x07", RECORD].concat();
    let both = zstd::encode_all(&*framed, 1).unwrap();
    for payload in [RECORD, &packed, &framed, &both] {
        assert_eq!(decoded(&flow(), payload), one(None));
    }
}

#[test]
fn a_bad_record_among_good_ones_is_rejected_alone() {
    let mut rows = flow();
    rows.layout = Layout::Rows;
    let payload = br#"[{"ts": 1773051273, "flow": 1.5, "temp": 60}, {"flow": 1}, 5,
                      {"ts": 1773051274, "flow": 2, "temp": 61}]"#;
    let (records, rejected) = decoded(&rows, payload);
    let parts: Vec<_> = records.iter().map(|(_, part, _)| *part).collect();
    assert_eq!(parts, [Some(0), Some(3)]);
    let missing = RejectReason::MissingTime;
    assert_eq!(rejected, [(missing, Some(1)), (missing, Some(2))]);
    // Lines are as good as an array.
    let lines = [RECORD, RECORD].join(&b'\n');
    assert_eq!(decoded(&rows, &lines).0.len(), 2);
    // What is no JSON is one rejection of the message.
    assert_eq!(decoded(&rows, b"[1,").1, [(RejectReason::NotJson, None)]);
}

#[test]
fn a_message_has_at_most_so_many_records() {
    let mut rows = flow();
    rows.layout = Layout::Rows;
    let payload = format!("[{}0]", "0,".repeat(PARTS_MAX as usize));
    let (records, rejected) = decoded(&rows, payload.as_bytes());
    assert_eq!(
        (records.len(), rejected),
        (0, vec![(RejectReason::TooLarge, None)])
    );
}

#[test]
fn a_batch_ends_between_two_messages() {
    let mut rows = flow();
    rows.layout = Layout::Rows;
    let payload = [vec![RECORD; 9_000].join(&b'\n')];
    let messages = vec![message(&payload[0]); 5];
    let decoder = Decoder::new(&rows);
    let (first, next) = decoder.decode_from(&messages, 0);
    assert_eq!((first.records.len(), next), (27_000, 3));
    let (second, next) = decoder.decode_from(&messages, next);
    assert_eq!((second.records.len(), next), (18_000, 5));
    assert_eq!(second.records[0].message, 3);
}

#[test]
fn tags_are_one_record_and_a_tag_is_part_of_one() {
    let mut tags = flow();
    tags.layout = Layout::Tags;
    tags.tags.path = vec!["values".to_owned()];
    let payload = br#"{"ts": 1773051273, "values": [{"name": "temp", "value": 60}, {"name": "flow", "value": 1.5}]}"#;
    assert_eq!(decoded(&tags, payload), one(None));
    tags.layout = Layout::Tag;
    tags.tags.path = Vec::new();
    let (records, rejected) = decoded(&tags, br#"{"ts": 1773051273, "name": "temp", "value": 60}"#);
    assert!(records[0].2[0].is_nan() && records[0].2[1] == 60.0 && rejected.is_empty());
    let unknown = br#"{"ts": 1773051273, "name": "other", "value": 60}"#;
    assert_eq!(decoded(&tags, unknown), (Vec::new(), Vec::new()));
}

#[test]
fn a_filter_leaves_out_what_is_no_record() {
    let mut debezium = flow();
    debezium.transform = ".payload.after // empty".to_owned();
    let payload =
        br#"{"payload": {"op": "c", "after": {"ts": 1773051273, "flow": 1.5, "temp": 60}}}"#;
    assert_eq!(decoded(&debezium, payload), one(Some(0)));
    let deleted = br#"{"payload": {"op": "d", "after": null}}"#;
    assert_eq!(decoded(&debezium, deleted), (Vec::new(), Vec::new()));
    let tombstone = Message {
        payload: None,
        ..message(b"")
    };
    let batch = Decoder::new(&debezium).decode(&[tombstone]);
    assert!(batch.records.is_empty() && batch.rejected.is_empty());
    assert_eq!(
        decoded(&debezium, b"[1]").1,
        [(RejectReason::TransformFailed, Some(0))]
    );
}

#[test]
fn message_pack_is_read_like_json() {
    let mut packed = flow();
    packed.format = Format::Msgpack;
    let value: Value = serde_json::from_slice(RECORD).unwrap();
    let payload = rmp_serde::to_vec(&value).unwrap();
    assert_eq!(decoded(&packed, &payload), one(None));
    packed.transform = ".".to_owned();
    assert_eq!(decoded(&packed, &payload), one(Some(0)));
    packed.transform = String::new();
    // A point in time, bytes for a reading, a key that is a number, and something unconfigured.
    let mut payload = vec![0x84, 0xA2, b't', b's', 0xD6, 0xFF];
    payload.extend(1_773_051_273_u32.to_be_bytes());
    payload.extend(b"\xA4flow\xCB".iter().chain(&1.5_f64.to_be_bytes()));
    payload.extend(b"\xA4temp\xC4\x0260");
    payload.extend(b"\x05\x92\x01\xC0");
    assert_eq!(decoded(&packed, &payload), one(None));
    for damaged in [
        &payload[..payload.len() - 1],
        b"\xC1",
        &[&*payload, b"\x01"].concat(),
    ] {
        assert_eq!(
            decoded(&packed, damaged).1,
            [(RejectReason::NotDecodable, None)]
        );
    }
}

#[test]
fn each_line_of_csv_and_of_line_protocol_is_a_record() {
    let mut csv = flow();
    csv.format = Format::Csv;
    csv.columns = ["ts", "temp", "flow"].map(str::to_owned).to_vec();
    let lines = b"ts,temp,flow\r\n1773051273,60,1.5\r\n1773051274,x\r\n";
    let (records, rejected) = decoded(&csv, lines);
    assert_eq!(records, one(Some(0)).0);
    assert_eq!(rejected, [(RejectReason::NotDecodable, Some(1))]);

    let mut influx = flow();
    influx.format = Format::Influx;
    influx.time = TimeFrom::Field(vec!["time".to_owned()]);
    influx.key = KeyFrom::Field(vec!["host".to_owned()]);
    let lines = b"pump,host=p1 flow=1.5,temp=60i 1773051273000000000\npump,host=p2 flow=2 1773051273000000000";
    let (records, rejected) = decoded(&influx, lines);
    assert_eq!(records[0], one(Some(0)).0[0]);
    assert_eq!((records[1].0.as_str(), records[1].1), ("p2", Some(1)));
    assert!(rejected.is_empty());
}

#[test]
fn an_event_time_around_the_records_is_that_of_each() {
    let mut rows = flow();
    rows.layout = Layout::Rows;
    rows.rows = vec!["d".to_owned()];
    rows.time_format = TimeFormat::EpochS;
    rows.key = KeyFrom::Field(vec!["gw".to_owned()]);
    let payload = json!({"gw": "g", "ts": 1_773_051_273, "d": [{"flow": 1.5, "temp": 60}]});
    let (records, _) = decoded(&rows, payload.to_string().as_bytes());
    assert_eq!(records, [("g".to_owned(), Some(0), [1.5, 60.0])]);
}
