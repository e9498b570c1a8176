//! Avro, Protobuf and framed JSON against a real schema registry: schemas that change, a registry that
//! is away, and a restart in the middle.

use std::fs;
use std::thread;
use std::time::Duration;

use outlierd::schema_registry::SchemaType;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use crate::support::own_registry::OwnRegistry;
use crate::support::stream::{FIELDS, Stream, TRAIN, records};
use crate::support::{Daemon, PATIENCE, wait_for};

/// Records of the test in all.
const RECORDS: usize = TRAIN + 400;
/// The first records of each schema after the first one.
const CHANGES: [usize; 2] = [TRAIN + 100, TRAIN + 250];

/// How the records of a test are written.
trait Encoder {
    /// `record.format`.
    fn format(&self) -> &'static str;

    /// Registers the schemas and returns their ids.
    fn register(&self, registry: &OwnRegistry, subject: &str) -> Vec<u32>;

    /// A record in one of the schemas, with what follows the id in the frame.
    fn encode(&self, version: usize, record: &Value) -> Vec<u8>;
}

/// The version of a record.
fn version(number: usize) -> usize {
    CHANGES.iter().filter(|&&first| number >= first).count()
}

fn reading(record: &Value, field: &str) -> f64 {
    record["sensors"][field].as_f64().unwrap()
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

struct Avro;

impl Avro {
    fn text(text: &str, bytes: &mut Vec<u8>) {
        varint(2 * text.len() as u64, bytes);
        bytes.extend(text.as_bytes());
    }

    fn sensor(field: &str, kind: &str) -> String {
        format!(r#"{{"name":"{field}","type":"{kind}"}}"#)
    }

    /// The first schema; one with a field more and one less, and a promoted type; one with a renamed
    /// field and a union.
    fn schema(version: usize) -> String {
        let mut sensors: Vec<String> = FIELDS.iter().map(|f| Self::sensor(f, "double")).collect();
        let mut before = String::from(r#"{"name":"site","type":"string","default":""},"#);
        if version == 0 {
            sensors[7] = Self::sensor("flow", "float");
        } else {
            before = r#"{"name":"batch","type":["null","long"],"default":null},"#.to_owned();
        }
        if version == 2 {
            sensors[0] =
                r#"{"name":"acceleration","aliases":["a1"],"type":["null","double"]}"#.to_owned();
        }
        format!(
            r#"{{"type":"record","name":"Reading","namespace":"plant","fields":[{before}
            {{"name":"rig","type":"string"}},{{"name":"time","type":"string"}},
            {{"name":"sensors","type":{{"type":"record","name":"Sensors","fields":[{}]}}}}]}}"#,
            sensors.join(",")
        )
    }
}

impl Encoder for Avro {
    fn format(&self) -> &'static str {
        "avro"
    }

    fn register(&self, registry: &OwnRegistry, subject: &str) -> Vec<u32> {
        (0..3)
            .map(|version| registry.register(subject, SchemaType::Avro, &Self::schema(version)))
            .collect()
    }

    fn encode(&self, version: usize, record: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        match version {
            0 => Self::text("north", &mut bytes),
            _ => bytes.extend([2, 14]),
        }
        for key in ["rig", "time"] {
            Self::text(record[key].as_str().unwrap(), &mut bytes);
        }
        for (at, field) in FIELDS.iter().enumerate() {
            let value = reading(record, field);
            match (version, at) {
                (0, 7) => bytes.extend((value as f32).to_le_bytes()),
                (2, 0) => bytes.extend([&[2][..], &value.to_le_bytes()].concat()),
                _ => bytes.extend(value.to_le_bytes()),
            }
        }
        bytes
    }
}

struct Protobuf;

impl Encoder for Protobuf {
    fn format(&self) -> &'static str {
        "protobuf"
    }

    fn register(&self, registry: &OwnRegistry, subject: &str) -> Vec<u32> {
        let schema = |version: usize| {
            let flow = if version == 0 { "float" } else { "double" };
            let more = [
                "string site = 4;",
                "optional int64 batch = 5;",
                "map<string, string> tags = 6;",
            ];
            let sensors: Vec<String> = FIELDS
                .iter()
                .zip(1..)
                .map(|(field, number)| {
                    let kind = if *field == "flow" { flow } else { "double" };
                    // Another number: the wire type is another one.
                    let number = if *field == "flow" && version > 0 {
                        9
                    } else {
                        number
                    };
                    format!("{kind} {field} = {number};")
                })
                .collect();
            let text = format!(
                "syntax = \"proto3\"; package plant; message Reading {{ {} string rig = 1; string time = 2; \
                 Sensors sensors = 3; message Sensors {{ {} }} }}",
                more[version],
                sensors.join(" ")
            );
            // A subject for each: the number of a field changes.
            registry.register(&format!("{subject}-{version}"), SchemaType::Protobuf, &text)
        };
        (0..3).map(schema).collect()
    }

    fn encode(&self, version: usize, record: &Value) -> Vec<u8> {
        let mut sensors = Vec::new();
        for (field, number) in FIELDS.iter().zip(1_u8..) {
            let value = reading(record, field);
            match (*field, version) {
                ("flow", 0) => {
                    sensors.push(number << 3 | 5);
                    sensors.extend((value as f32).to_le_bytes());
                }
                _ => {
                    sensors.push((if *field == "flow" { 9 } else { number }) << 3 | 1);
                    sensors.extend(value.to_le_bytes());
                }
            }
        }
        // The first message of the schema.
        let mut bytes = vec![0];
        for (number, part) in [
            (1, record["rig"].as_str().unwrap().as_bytes()),
            (2, record["time"].as_str().unwrap().as_bytes()),
            (3, &sensors),
        ] {
            bytes.push(number << 3 | 2);
            varint(part.len() as u64, &mut bytes);
            bytes.extend(part);
        }
        bytes
    }
}

/// JSON in the same frame: the ids lead nowhere.
struct Json;

impl Encoder for Json {
    fn format(&self) -> &'static str {
        "json"
    }

    fn register(&self, _: &OwnRegistry, _: &str) -> Vec<u32> {
        vec![1_000_000, 1_000_001, 1_000_002]
    }

    fn encode(&self, _: usize, record: &Value) -> Vec<u8> {
        record.to_string().into_bytes()
    }
}

/// A stream of an encoding whose registry has two URLs, the first of which nobody answers.
fn stream(encoder: &dyn Encoder, registry: &OwnRegistry) -> Stream {
    let stream = Stream::delivered(encoder.format(), "exactly_once");
    let text = fs::read_to_string(&stream.config).unwrap();
    let format = encoder.format();
    let record = format!("record = {{ format = \"{format}\", key =");
    let text = text.replace("record = { key =", &record);
    let (url, ca) = (registry.tls_url(), registry.certificate("ca.pem"));
    let registry = format!(
        "\n[registry]\nurls = [\"http://127.0.0.1:9\", \"{url}\"]\nca_file = {ca:?}\ntimeout = \"2s\"\n"
    );
    fs::write(&stream.config, text + &registry).unwrap();
    stream
}

fn frame(id: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), bytes].concat()
}

fn send(stream: &Stream, payloads: impl Iterator<Item = Vec<u8>>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &stream.broker)
        .create()
        .unwrap();
    for payload in payloads {
        let record = BaseRecord::<(), [u8]>::to(&stream.topic).payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// How long the registry stays away at least, beside what the test waits for: none, or
/// `OUTLIERD_TEST_OUTAGE` seconds.
fn outage() -> Duration {
    let seconds = std::env::var("OUTLIERD_TEST_OUTAGE").ok();
    Duration::from_secs(seconds.and_then(|s| s.parse().ok()).unwrap_or(0))
}

/// The test of one encoding: how many records were scored in all.
fn nothing_is_lost(encoder: &dyn Encoder, registry: &OwnRegistry) {
    let stream = stream(encoder, registry);
    let ids = encoder.register(registry, &stream.topic);
    let mut records: Vec<Value> = records()[..RECORDS]
        .iter()
        .map(|record| serde_json::from_str(record).unwrap())
        .collect();
    for record in &mut records[..CHANGES[0]] {
        let flow = reading(record, "flow");
        record["sensors"]["flow"] = f64::from(flow as f32).into();
    }
    let payloads = |range: std::ops::Range<usize>| {
        let numbered = records[range.clone()].iter().zip(range);
        let encoded = numbered.map(|(record, number)| {
            let version = version(number);
            frame(ids[version], &encoder.encode(version, record))
        });
        encoded.collect::<Vec<_>>().into_iter()
    };
    let before = CHANGES[0] + 50;
    send(&stream, payloads(0..before));
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(before);

    registry.kill();
    send(&stream, payloads(before..RECORDS));
    thread::sleep(outage());
    if encoder.format() == "json" {
        stream.await_count(RECORDS);
    } else {
        // Those of the third schema wait, with all behind them; the lane stays where it is.
        await_registry(&daemon);
        let known = stream.count_scores();
        assert!((before..=CHANGES[1]).contains(&known), "{known}");
        assert_eq!(daemon.metric("outlierd_lane_restarts_total", ""), 0.0);
        daemon.stop();
        daemon = Daemon::start(&stream.config, "restarted");
        await_registry(&daemon);
        assert_eq!(stream.count_scores(), known);
    }
    registry.start_again();
    stream.await_count(RECORDS);
    wait_for("readiness", || {
        daemon.page("/readyz")?.contains(" 200 ").then_some(())
    });
    assert!(stream.read("dead").is_empty());
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    stream.assert_same_as_replay(&lines);
    daemon.stop();
}

/// Waits until the daemon says that it waits for the registry.
fn await_registry(daemon: &Daemon) {
    wait_for("the registry in /readyz", || {
        let page = daemon.page("/readyz")?;
        let is_named =
            page.contains(" 503 ") && page.contains("schema registry") && page.contains("refused");
        is_named.then_some(())
    });
    let log = daemon.log();
    let warnings = log.matches(" WARN records wait for their schemas").count();
    // Once a minute.
    let most = 1 + outage().as_secs() / 60;
    assert!((1..=most).contains(&(warnings as u64)), "{warnings}");
}

#[test]
fn records_of_changing_schemas_wait_for_the_registry_and_none_is_lost() {
    let registry = OwnRegistry::start();
    for encoder in [&Avro as &dyn Encoder, &Protobuf, &Json] {
        nothing_is_lost(encoder, &registry);
    }
}

#[test]
fn what_no_schema_reads_is_rejected_with_its_reason() {
    let registry = OwnRegistry::start();
    let stream = stream(&Avro, &registry);
    let ids = Avro.register(&registry, &stream.topic);
    let other = r#"{"type":"record","name":"Other","fields":[{"name":"level","type":"double"}]}"#;
    let other = registry.register("other", SchemaType::Avro, other);
    let records = records();
    let record = |at: usize| serde_json::from_str::<Value>(&records[at]).unwrap();
    let good = |at: usize| frame(ids[0], &Avro.encode(0, &record(at)));
    let mut payloads: Vec<Vec<u8>> = (0..TRAIN + 10).map(good).collect();
    let cut = good(0)[..30].to_vec();
    let bad = [
        frame(4_000_000_000, b"x"),
        frame(7_000_000, b"x"),
        frame(other, &[0; 8]),
        cut,
        records[0].clone().into_bytes(),
    ];
    payloads.splice(TRAIN + 5..TRAIN + 5, bad);
    send(&stream, payloads.into_iter());
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(TRAIN + 10);
    let letters = stream.read("dead");
    // kcat separates headers with commas: of a detail, what is before its first one is seen.
    let found: Vec<(&str, &str)> = letters
        .iter()
        .map(|letter| {
            (
                &*letter.headers["outlierd-reason"],
                &*letter.headers["outlierd-detail"],
            )
        })
        .collect();
    for ((reason, detail), (due, parts)) in found.iter().zip([
        ("unknown_schema", &["4000000000", "beyond"][..]),
        ("unknown_schema", &["7000000", "404"]),
        ("unusable_schema", &["Other", "`sensors.a1`"]),
        ("not_decodable", &["plant.Reading", "truncated"]),
        (
            "not_decodable",
            &["frame of a schema registry", "record.schema.file"],
        ),
    ]) {
        assert_eq!(*reason, due, "{detail}");
        assert!(parts.iter().all(|part| detail.contains(part)), "{detail}");
    }
    assert_eq!(found.len(), 5, "{found:?}");
    daemon.stop();
}
