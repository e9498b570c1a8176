//! 100,000 damaged messages in Avro and in Protobuf through the decoder: each is one record or one
//! rejection, and memory stays flat.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod resident;

use std::fs;

use outlierd::decode::records::Decoder;
use outlierd::decode::schemas::StreamSchemas;
use outlierd::record::format::{FieldSettings, Format, KeyFrom, RecordFormat};
use outlierd::record::{Message, RejectReason, Rejected};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const PAYLOADS: usize = 100_000;

const AVRO: &str = r#"{"type": "record", "name": "R", "fields": [
    {"name": "key", "type": "string"}, {"name": "raw", "type": "bytes"},
    {"name": "x", "type": ["null", "double"]}, {"name": "list", "type": {"type": "array", "items": "R"}},
    {"name": "map", "type": {"type": "map", "values": "long"}}, {"name": "nulls", "type": {"type": "array", "items": "null"}},
    {"name": "y", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}}]}"#;

const PROTOBUF: &str =
    "syntax = \"proto3\"; message R { string key = 1; bytes raw = 2; optional double x = 3;
    repeated R list = 4; map<string, int64> map = 5; repeated bool packed = 6; float y = 7; }";

/// One with another in its list.
const AVRO_RECORD: &[u8] =
    b"\x04k1\x06abc\x02\x00\x00\x00\x00\x00\x00\xF8\x3F\x02\x02k\x00\x00\x00\x00\x00\x02\x01\x00\
    \x02\x02m\x0A\x00\x04\x00\x04\x30\x39";
const PROTOBUF_RECORD: &[u8] =
    b"\x0A\x02k1\x12\x03abc\x19\x00\x00\x00\x00\x00\x00\xF8\x3F\x22\x03\x0A\x01k\
    \x2A\x05\x0A\x01m\x10\x05\x32\x02\x01\x00\x3D\x00\x00\x80\x3F";

fn damaged(whole: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..rng.random_range(0..5) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 => bytes.insert(at, rng.random()),
            1 if rng.random_ratio(1, 3) => bytes.truncate(at),
            2 => bytes.extend([0xFF; 9]),
            3 => drop(bytes.splice(at..at, whole.iter().copied())),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.random();
                }
            }
        }
    }
    bytes
}

#[test]
fn damaged_messages_are_records_or_rejections_and_memory_stays_flat() {
    let folder = tempfile::tempdir().unwrap();
    for (of, schema, whole) in [
        (Format::Avro, AVRO, AVRO_RECORD),
        (Format::Protobuf, PROTOBUF, PROTOBUF_RECORD),
    ] {
        let file = folder.path().join("schema");
        fs::write(&file, schema).unwrap();
        let mut format =
            RecordFormat::json(vec![FieldSettings::named("x"), FieldSettings::named("y")]);
        format.format = of;
        format.key = KeyFrom::Field(vec!["key".to_owned()]);
        format.schema.file = Some(file);
        let plain = Decoder::with_schemas(&format, &StreamSchemas::default()).unwrap();
        format.transform = ".".to_owned();
        let by_value = Decoder::with_schemas(&format, &StreamSchemas::default()).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(21);
        let (mut before, mut records, mut not_decodable) = (0, 0, 0);
        for number in 0..PAYLOADS {
            let payload = damaged(whole, &mut rng);
            let message = Message {
                payload: Some(&payload),
                timestamp: Some(outlierd::record::EventTime(1_773_051_273_000_000)),
                ..Message::default()
            };
            let decoder = if number % 2 == 0 { &plain } else { &by_value };
            let batch = decoder.decode(&[message]);
            assert_eq!(batch.records.len() + batch.rejected.len(), 1, "{payload:?}");
            records += batch.records.len();
            for rejected in &batch.rejected {
                assert!(
                    !rejected.detail.is_empty() && rejected.detail.len() <= Rejected::DETAIL_MAX
                );
                not_decodable += usize::from(rejected.reason == RejectReason::NotDecodable);
            }
            if number == PAYLOADS / 10 {
                before = resident::kibibytes();
            }
        }
        let after = resident::kibibytes();
        assert!(
            records > PAYLOADS / 5 && not_decodable > PAYLOADS / 5,
            "{records}, {not_decodable}"
        );
        assert!(after < before + (16 << 10), "{before} to {after} KiB");
    }
}
