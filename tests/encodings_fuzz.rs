//! Damaged messages in each encoding and layout: a hundred thousand of each give records or rejections,
//! never a panic, no more records than a message may have, and memory stays flat.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

mod resident;

use std::time::{Duration, Instant};

use outlierd::decode::records::Decoder;
use outlierd::record::format::{FieldSettings, Format, KeyFrom, Layout, RecordFormat, TimeFrom};
use outlierd::record::{EventTime, Message, PARTS_MAX};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const PAYLOADS: usize = 100_000;
/// Messages that are decoded at a time.
const BATCH: usize = 500;
/// What all of them may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What memory may grow by once a tenth of them is decoded, in KiB: the tests run side by side.
const GROWTH_MAX: u64 = 48 << 10;

fn format(change: impl FnOnce(&mut RecordFormat)) -> RecordFormat {
    let mut format = RecordFormat::json(["flow", "temp"].map(FieldSettings::named).to_vec());
    format.time = TimeFrom::Field(vec!["ts".to_owned()]);
    format.key = KeyFrom::Field(vec!["pump".to_owned()]);
    format.max_payload_bytes = 4_096;
    change(&mut format);
    format
}

/// A few changes of one message: bytes turned, taken out, put in, repeated, or cut off.
fn damaged(rng: &mut ChaCha8Rng, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.random()),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 if at < bytes.len() => bytes[at] = rng.random(),
            4 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            _ => {
                let piece = bytes[at.min(bytes.len())..].to_vec();
                bytes.extend(piece);
            }
        }
    }
    bytes
}

fn survives(name: &str, format: &RecordFormat, seeds: &[Vec<u8>]) {
    let decoder = Decoder::new(format);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let began = Instant::now();
    let (mut records, mut rejected, mut before) = (0, 0, 0);
    for number in 0..PAYLOADS / BATCH {
        if number == PAYLOADS / BATCH / 10 {
            before = resident::kibibytes();
        }
        let payloads: Vec<Vec<u8>> = (0..BATCH)
            .map(|_| {
                let seed = &seeds[rng.random_range(0..seeds.len())];
                damaged(&mut rng, seed)
            })
            .collect();
        let message = |payload| Message {
            payload: Some(payload),
            timestamp: Some(EventTime(1_773_051_273_000_000)),
            ..Message::default()
        };
        let messages: Vec<Message<'_>> = payloads.iter().map(|bytes| message(bytes)).collect();
        let batch = decoder.decode(&messages);
        assert_eq!(batch.values.len(), 2 * batch.records.len(), "{name}");
        assert!(batch.records.len() <= BATCH * PARTS_MAX as usize, "{name}");
        let is_known = |value: &f64| value.is_finite() || value.is_nan() || *value == f64::INFINITY;
        assert!(batch.values.iter().all(is_known), "{name}");
        records += batch.records.len();
        rejected += batch.rejected.len();
    }
    let after = resident::kibibytes();
    assert!(
        after < before + GROWTH_MAX,
        "{name}: {before} to {after} KiB"
    );
    // Whole ones are among them, and damaged ones.
    assert!(records > PAYLOADS / 20, "{name}: {records} records");
    assert!(rejected > PAYLOADS / 100, "{name}: {rejected} rejected");
    assert!(began.elapsed() < PATIENCE, "{name}: {:?}", began.elapsed());
}

fn row() -> serde_json::Value {
    json!({"pump": "p1", "ts": 1_773_051_273, "flow": 12.5, "temp": "60", "x": [1, {"y": null}]})
}

#[test]
fn message_pack_survives() {
    let packed = format(|format| format.format = Format::Msgpack);
    let seed = rmp_serde::to_vec(&row()).unwrap();
    survives("msgpack", &packed, &[seed]);
}

#[test]
fn csv_survives() {
    let csv = format(|format| {
        format.format = Format::Csv;
        format.columns = ["pump", "ts", "flow", "temp"].map(str::to_owned).to_vec();
    });
    let seed = b"p1,1773051273,12.5,60\n\"p,2\",1773051274,\"13\",61\r\n".to_vec();
    survives("csv", &csv, &[seed]);
}

#[test]
fn line_protocol_survives() {
    let influx = format(|format| {
        format.format = Format::Influx;
        format.time = TimeFrom::Field(vec!["time".to_owned()]);
    });
    let seed = b"m,pump=p1 flow=12.5,temp=60i,note=\"a b\" 1773051273000000000\nm,pump=p\\ 2 flow=1 1773051274000000000".to_vec();
    survives("influx", &influx, &[seed]);
}

#[test]
fn rows_and_tags_survive() {
    let rows = format(|format| {
        format.layout = Layout::Rows;
        format.rows = vec!["d".to_owned()];
    });
    let seed = json!({"pump": "p1", "d": [row(), row(), 5]})
        .to_string()
        .into_bytes();
    survives("rows", &rows, &[seed]);
    let tags = format(|format| {
        format.layout = Layout::Tags;
        format.tags.path = vec!["v".to_owned()];
        format.tags.quality = vec!["q".to_owned()];
    });
    let tag = |name, value| json!({"name": name, "value": value, "q": true});
    let seed = json!({"pump": "p1", "ts": 1_773_051_273, "v": [tag("flow", 1.5), tag("temp", 60.0), tag("x", 0.0)]});
    survives("tags", &tags, &[seed.to_string().into_bytes()]);
}

#[test]
fn a_filter_and_packed_values_survive() {
    let filtered = format(|format| {
        format.transform =
            "select(.op != \"d\") | .rows[]? // . | .flow |= (tonumber? // .)".to_owned();
    });
    let plain = json!({"op": "c", "rows": [row(), row()]})
        .to_string()
        .into_bytes();
    let packed = zstd::encode_all(&*plain, 1).unwrap();
    survives(
        "filter",
        &filtered,
        &[plain, packed, row().to_string().into_bytes()],
    );
}
