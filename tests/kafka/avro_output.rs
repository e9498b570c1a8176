//! Alerts and scores in Avro: read by another implementation with the schemas of a real registry, and by
//! the daemon itself for `output.file` and feedback.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use apache_avro::Schema;
use apache_avro::types::Value as AvroValue;
use outlierd::record::alert::Alert;
use outlierd::schema_registry::SchemaType;
use outlierd::sink::avro::{ALERT_SCHEMA, SCORE_SCHEMA};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use crate::support::guarded_registry::GuardedRegistry;
use crate::support::own_registry::OwnRegistry;
use crate::support::stream::{Stream, records};
use crate::support::{Daemon, OUTLIERD, PATIENCE, Read, create_topic, outlierd, wait_for};

/// Records that are sent before the registry is taken away; the fault comes later.
const BEFORE: usize = 600;

/// A stream whose output is Avro and goes to a file too.
fn stream(registry: &OwnRegistry) -> Stream {
    stream_with(&registry.url(), "")
}

/// With further keys of `[registry]`.
fn stream_with(url: &str, keys: &str) -> Stream {
    let stream = Stream::delivered("avro-output", "exactly_once");
    let text = fs::read_to_string(&stream.config).unwrap();
    let file = stream.folder.path().join("delivered.jsonl");
    let output = format!("output = {{ format = \"avro\", file = {file:?}, alerts =");
    let text = text.replace("output = { alerts =", &output);
    let registry = format!("\n[registry]\nurls = [{url:?}]\ntimeout = \"5s\"\n{keys}");
    fs::write(&stream.config, text + &registry).unwrap();
    stream
}

/// Publishes what other programs have written to the alerts topic.
fn publish(stream: &Stream, payloads: &[&[u8]]) {
    let topic = format!("{}.alerts", stream.topic);
    create_topic(&stream.broker, &topic, 1);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &stream.broker)
        .create()
        .unwrap();
    for payload in payloads {
        let record = BaseRecord::<(), [u8]>::to(&topic).payload(payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// The lines of the file.
fn lines(stream: &Stream) -> Vec<Value> {
    let text = fs::read_to_string(stream.folder.path().join("delivered.jsonl")).unwrap_or_default();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Reads by the schemas of a registry, as consumers do.
struct Consumer<'r> {
    registry: &'r OwnRegistry,
    schemas: HashMap<[u8; 4], Schema>,
}

impl<'r> Consumer<'r> {
    fn new(registry: &'r OwnRegistry) -> Self {
        Self {
            registry,
            schemas: HashMap::new(),
        }
    }

    fn read(&mut self, message: &Read) -> AvroValue {
        let value = message.value.as_deref().unwrap();
        let (&[0, a, b, c, d], mut datum) = value.split_first_chunk::<5>().unwrap() else {
            panic!("{value:?} has no frame");
        };
        let schema = self.schemas.entry([a, b, c, d]).or_insert_with_key(|id| {
            let id = u32::from_be_bytes(*id);
            let registered = self.registry.client().schema(id).unwrap();
            Schema::parse_str(&registered.text).unwrap()
        });
        let value = apache_avro::from_avro_datum(schema, &mut datum, None).unwrap();
        assert!(datum.is_empty());
        value
    }
}

fn await_ready(daemon: &Daemon) {
    wait_for("readiness", || {
        daemon.page("/readyz")?.contains(" 200 ").then_some(())
    });
}

/// What `check --connect` prints, and its exit code.
fn check(stream: &Stream) -> (String, Option<i32>) {
    let mut command = Command::new(OUTLIERD);
    command.args(["check", "--connect", "--config"]);
    let out = command.arg(&stream.config).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    (text, out.status.code())
}

/// A consumer reads the alerts behind the first two messages and all scores by the registry's schemas.
fn assert_read_as(
    stream: &Stream,
    registry: &OwnRegistry,
    expected: &[Value],
    replayed: &[csv::StringRecord],
) {
    let mut consumer = Consumer::new(registry);
    let published = stream.read("alerts");
    let alerts = published.iter().skip(2).map(|message| {
        assert_eq!(message.headers["content-type"], "application/avro");
        let alert: Alert = apache_avro::from_value(&consumer.read(message)).unwrap();
        assert_eq!(message.key, alert.series);
        let id = format!("{}-{}", alert.id, alert.sequence);
        assert_eq!(message.headers["ce_id"], id);
        serde_json::to_value(&alert).unwrap()
    });
    assert_eq!(alerts.collect::<Vec<_>>(), expected);
    assert_eq!(lines(stream).len(), 1 + expected.len(), "none twice");
    let scores = stream.read("scores");
    for (offset, (message, line)) in scores.iter().zip(replayed).enumerate() {
        let score = Value::try_from(consumer.read(message)).unwrap();
        assert_eq!(score["position"]["offset"], offset);
        assert_eq!(score["verdict"], line[3]);
        let text = score["score"].as_f64().map(|score| score.to_string());
        assert_eq!(text.unwrap_or_default(), line[1]);
    }
}

#[test]
fn alerts_and_scores_in_avro_are_those_in_json_and_need_the_registry_at_the_start_only() {
    let registry = OwnRegistry::start();
    let stream = stream(&registry);
    // An alert from before the change of the format, and what no schema reads.
    publish(&stream, &[br#"{"id":"in-json"}"#, b"\0\x7f\0\0\0x"]);
    let records = records();
    stream.send(&records[..BEFORE]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    await_ready(&daemon);
    stream.await_count(BEFORE);
    daemon.await_metric("outlierd_destination_skipped_total", "", 1.0);

    registry.kill();
    stream.send(&records[BEFORE..]);
    stream.await_count(records.len());
    let (expected, replayed) = stream.replay(&records);
    assert!(expected.len() > 1, "a fault opens and closes alerts");
    let in_file = wait_for("the alerts in the file", || {
        let lines = lines(&stream);
        (lines.len() > expected.len()).then_some(lines)
    });
    assert_eq!(in_file[0]["id"], "in-json");
    assert_eq!(in_file[1..], expected);
    assert_eq!(
        daemon.metric("outlierd_destination_failures_total", ""),
        0.0
    );
    daemon.stop();

    let mut daemon = Daemon::start(&stream.config, "restarted");
    let subject = format!("{}.alerts-value", stream.topic);
    wait_for("the registry in /readyz", || {
        let page = daemon.page("/readyz")?;
        let is_named = page.contains(" 503 ") && page.contains(&subject);
        (is_named && page.contains("refused")).then_some(())
    });
    assert!(daemon.log().contains("waiting for the schema registry"));
    registry.start_again();
    await_ready(&daemon);
    assert_eq!(stream.count_scores(), records.len());

    assert_read_as(&stream, &registry, &expected, &replayed);
    let client = registry.client();
    let find = |ending: &str, text| {
        let subject = format!("{}.{ending}-value", stream.topic);
        client.find(&subject, SchemaType::Avro, text).unwrap()
    };
    let ids = [find("alerts", ALERT_SCHEMA), find("scores", SCORE_SCHEMA)];
    let (found, _) = check(&stream);
    for id in ids {
        assert!(
            found.contains(&format!("has the schema, id {id}")),
            "{found}"
        );
    }

    let id = expected[0]["id"].as_str().unwrap();
    let config = stream.config.display().to_string();
    outlierd(&["feedback", "--config", &config, id, "confirmed"]);
    daemon.await_metric("outlierd_feedback_total", "confirmed", 1.0);
    daemon.stop();
}

#[test]
fn a_schema_that_the_registry_refuses_is_named_and_nothing_starts() {
    let registry = OwnRegistry::start();
    let stream = stream(&registry);
    let subject = format!("{}.alerts-value", stream.topic);
    let other = r#"{"type":"record","name":"Alert","namespace":"io.outlierd","fields":[{"name":"level","type":"double"}]}"#;
    registry.register(&subject, SchemaType::Avro, other);
    registry.require_compatibility(&subject);

    let (found, code) = check(&stream);
    let problem = format!("PROBLEM rig: the subject {subject:?} has a schema");
    assert!(found.contains(&problem), "{found}");
    let note = format!(
        "rig: the schema will be registered at start as \"{}.scores-value\"",
        stream.topic
    );
    assert!(found.contains(&note), "{found}");
    assert_eq!(code, Some(1));

    let mut daemon = Daemon::start(&stream.config, "daemon");
    assert_eq!(daemon.wait(), 1);
    let log = daemon.log();
    for part in ["stream rig", &subject, "HTTP 409", &registry.url()] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[test]
fn a_registry_with_a_password_lets_in_who_has_it_and_the_refusal_is_reported() {
    let registry = OwnRegistry::start();
    let guarded = GuardedRegistry::start(registry.port());
    for (keys, says) in [
        (
            "",
            "HTTP 401: Unauthorized (no username or token is configured)",
        ),
        (
            "username = \"outlierd\"\npassword = \"wrong\"\n",
            "HTTP 401: Unauthorized",
        ),
    ] {
        let stream = stream_with(&guarded.url(), keys);
        let (found, code) = check(&stream);
        assert!(
            found.contains("PROBLEM rig: ") && found.contains(says),
            "{found}"
        );
        assert_eq!(code, Some(1));
        let mut daemon = Daemon::start(&stream.config, "refused");
        wait_for("the refusal in /readyz", || {
            let page = daemon.page("/readyz")?;
            (page.contains(" 503 ") && page.contains(says)).then_some(())
        });
        assert!(daemon.log().contains(says), "{}", daemon.log());
        daemon.stop();
        assert_eq!(guarded.let_in(), 0);
    }
    assert!(guarded.refused() > 0);

    let stream = stream_with(&guarded.url(), &GuardedRegistry::credentials());
    let records = records();
    stream.send(&records[..BEFORE]);
    let mut daemon = Daemon::start(&stream.config, "let-in");
    await_ready(&daemon);
    stream.await_count(BEFORE);
    daemon.stop();
    let mut consumer = Consumer::new(&registry);
    for message in stream.read("scores") {
        consumer.read(&message);
    }
    assert_eq!(
        guarded.let_in(),
        4,
        "each schema is looked up and registered"
    );
}
