//! Records a second of the JSON decoder on 8-field records, beside a struct derived for exactly
//! these records and beside building a `serde_json::Value`; of the same with filters; and of the Avro
//! decoder on the same records. Run with `cargo bench --bench decode`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use outlierd::decode::records::Decoder;
use outlierd::decode::schemas::StreamSchemas;
use outlierd::record::format::{FieldSettings, Format, KeyFrom, RecordFormat, TimeFrom};
use outlierd::record::{EventTime, Message};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Deserialize;

const RECORDS: usize = 1024;
const FIELDS: [&str; 8] = [
    "accel_1",
    "accel_2",
    "current",
    "pressure",
    "temperature",
    "thermocouple",
    "voltage",
    "flow",
];

/// What a programmer would write who knows the fields at compile time: the least work that yields
/// the same numbers.
#[derive(Deserialize)]
struct Derived<'a> {
    pump: &'a str,
    ts: f64,
    accel_1: f64,
    accel_2: f64,
    current: f64,
    pressure: f64,
    temperature: f64,
    thermocouple: f64,
    voltage: f64,
    flow: f64,
}

fn payloads() -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let record = |index| {
        let readings: Vec<String> = FIELDS
            .iter()
            .map(|name| format!("\"{name}\":{:.6}", rng.random_range(-250.0..250.0)))
            .collect();
        format!(
            "{{\"pump\":\"p{}\",\"ts\":{},{}}}",
            index % 100,
            1_773_051_273 + index,
            readings.join(",")
        )
        .into_bytes()
    };
    (0..RECORDS).map(record).collect()
}

fn format(key: KeyFrom, time: TimeFrom) -> RecordFormat {
    let field = |name: &&str| FieldSettings::named(name);
    RecordFormat {
        key,
        time,
        ..RecordFormat::json(FIELDS.iter().map(field).collect())
    }
}

/// The same records in Avro, with four fields more that nobody reads.
fn avro_payloads() -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let record = |index: usize| {
        let pump = format!("p{}", index % 100);
        let mut bytes = vec![2 * pump.len() as u8];
        bytes.extend(pump.as_bytes());
        let mut time = (1_773_051_273 + index as u64) << 1;
        while time >= 0x80 {
            bytes.push(time as u8 | 0x80);
            time >>= 7;
        }
        bytes.push(time as u8);
        for _ in FIELDS {
            bytes.push(2);
            bytes.extend(rng.random_range(-250.0_f64..250.0).to_le_bytes());
        }
        bytes.extend(b"\x0Anorth");
        bytes.extend([0; 17]);
        bytes
    };
    (0..RECORDS).map(record).collect()
}

fn avro_schema() -> String {
    let optional = |name: &&str| format!(r#"{{"name":"{name}","type":["null","double"]}}"#);
    let fields: Vec<String> = FIELDS.iter().map(optional).collect();
    format!(
        r#"{{"type":"record","name":"Reading","fields":[{{"name":"pump","type":"string"}},
        {{"name":"ts","type":"long"}},{},{{"name":"site","type":"string"}},
        {{"name":"x","type":"double"}},{{"name":"y","type":"double"}},{{"name":"n","type":["null","int"]}}]}}"#,
        fields.join(",")
    )
}

fn decode_avro(c: &mut Criterion) {
    let file = std::env::temp_dir().join(format!("outlierd-bench-{}.avsc", std::process::id()));
    std::fs::write(&file, avro_schema()).expect("a file");
    let time = TimeFrom::Field(vec!["ts".to_owned()]);
    let mut format = format(KeyFrom::Field(vec!["pump".to_owned()]), time);
    format.format = Format::Avro;
    format.schema.file = Some(file.clone());
    let decoder = Decoder::with_schemas(&format, &StreamSchemas::default()).expect("a decoder");
    std::fs::remove_file(file).expect("the file");
    let payloads = avro_payloads();
    let message = |payload| Message {
        payload: Some(Vec::as_slice(payload)),
        ..Message::default()
    };
    let messages: Vec<Message<'_>> = payloads.iter().map(message).collect();
    assert_eq!(decoder.decode(&messages).records.len(), RECORDS);
    let mut group = c.benchmark_group("decode_avro_8_fields");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("decoder", |b| {
        b.iter(|| decoder.decode(black_box(&messages)))
    });
    group.finish();
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn decode(c: &mut Criterion) {
    let payloads = payloads();
    let message = |payload| Message {
        partition: 0,
        offset: 0,
        key: Some(b"p1"),
        payload: Some(Vec::as_slice(payload)),
        timestamp: Some(EventTime(0)),
        arrival: None,
        headers: None,
    };
    let messages: Vec<Message<'_>> = payloads.iter().map(message).collect();
    let from_kafka = Decoder::new(&format(KeyFrom::Kafka, TimeFrom::Kafka));
    let time = TimeFrom::Field(vec!["ts".to_owned()]);
    let in_order = format(KeyFrom::Field(vec!["pump".to_owned()]), time);
    let from_fields = Decoder::new(&in_order);
    // The decoder bets on the configured order of keys; this is what a lost bet costs.
    let mut other_order = in_order;
    other_order.fields.reverse();
    let from_other_order = Decoder::new(&other_order);

    let mut group = c.benchmark_group("decode_json_8_fields");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("decoder", |b| {
        b.iter(|| from_fields.decode(black_box(&messages)))
    });
    group.bench_function("decoder_keys_in_another_order", |b| {
        b.iter(|| from_other_order.decode(black_box(&messages)))
    });
    group.bench_function("decoder_key_and_time_from_kafka", |b| {
        b.iter(|| from_kafka.decode(black_box(&messages)))
    });
    group.bench_function("derived_struct", |b| {
        b.iter(|| {
            let mut values = Vec::with_capacity(RECORDS * 8);
            for payload in black_box(&payloads) {
                let r: Derived<'_> = serde_json::from_slice(payload).expect("a record");
                black_box((r.pump, r.ts));
                values.extend([
                    r.accel_1,
                    r.accel_2,
                    r.current,
                    r.pressure,
                    r.temperature,
                    r.thermocouple,
                    r.voltage,
                    r.flow,
                ]);
            }
            values
        })
    });
    group.bench_function("serde_json_value", |b| {
        b.iter(|| {
            let mut values = Vec::with_capacity(RECORDS * 8);
            for payload in black_box(&payloads) {
                let document: serde_json::Value =
                    serde_json::from_slice(payload).expect("a record");
                values.extend(
                    FIELDS
                        .iter()
                        .map(|name| document[*name].as_f64().expect("a number")),
                );
            }
            values
        })
    });
    group.finish();
}

/// What `record.transform` costs: a filter that changes nothing, and one that takes a change of
/// Debezium out of its envelope.
fn decode_with_a_filter(c: &mut Criterion) {
    let time = TimeFrom::Field(vec!["ts".to_owned()]);
    let plain = format(KeyFrom::Field(vec!["pump".to_owned()]), time);
    let payloads = payloads();
    let wrapped = payloads.iter().map(|payload| {
        let row = String::from_utf8_lossy(payload);
        format!("{{\"op\":\"c\",\"before\":null,\"after\":{row}}}").into_bytes()
    });
    let wrapped: Vec<Vec<u8>> = wrapped.collect();
    let mut group = c.benchmark_group("decode_json_8_fields_by_filter");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (name, transform, payloads) in [
        ("none", "", &payloads),
        ("identity", ".", &payloads),
        (
            "envelope",
            "select(.op != \"d\") | .after // empty",
            &wrapped,
        ),
    ] {
        let decoder = Decoder::new(&RecordFormat {
            transform: transform.to_owned(),
            ..plain.clone()
        });
        let message = |payload| Message {
            payload: Some(Vec::as_slice(payload)),
            ..Message::default()
        };
        let messages: Vec<Message<'_>> = payloads.iter().map(message).collect();
        assert_eq!(decoder.decode(&messages).records.len(), RECORDS);
        group.bench_function(name, |b| b.iter(|| decoder.decode(black_box(&messages))));
    }
    group.finish();
}

criterion_group!(benches, decode, decode_avro, decode_with_a_filter);
criterion_main!(benches);
