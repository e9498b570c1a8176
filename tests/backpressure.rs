//! A slow output: the input is paused, not buffered, and everything arrives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

const RECORDS: usize = 60_000;
const PATIENCE: Duration = Duration::from_secs(120);
/// What a produce request to the broker of the scores takes.
const ROUND_TRIP: Duration = Duration::from_millis(700);

/// A broker of the input, and a slow one that holds the scores.
fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(2).unwrap();
    for (topic, leader) in [("in", 1), ("in.scores", 2), ("in.alerts", 1), ("in.dead", 1)] {
        cluster.create_topic(topic, 1, 1).unwrap();
        cluster.partition_leader(topic, 0, Some(leader)).unwrap();
    }
    cluster
}

fn fill(brokers: &str) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    for number in 0..RECORDS {
        let (load, time) = ((number as f64 / 20.0).sin(), 1_767_225_600 + number);
        let payload = format!("{{\"t\":{time},\"x\":{load:.3},\"y\":{:.3}}}", 3.0 + load + (number % 7) as f64 / 10.0);
        let mut record = BaseRecord::to("in").key("rig").payload(&payload);
        while let Err((_, back)) = producer.send(record) {
            record = back;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(PATIENCE).unwrap();
}

fn config(folder: &Path, brokers: &str) -> std::path::PathBuf {
    let text = format!(
        r#"
[service]
state_dir = "{dir}/state"
model_dir = "{dir}/models"
http_listen = ""
log_filter = "info"
[kafka]
brokers = "{brokers}"
consumer = {{ "fetch.wait.max.ms" = 10 }}
[streams.rig]
input = {{ topic = "in", delivery = "at_least_once" }}
output = {{ alerts = "in.alerts", dead_letters = "in.dead", scores = "in.scores" }}
record = {{ time = "field:t", fields = ["x", "y"] }}
model = {{ kind = "linear", latent = 1 }}
"#,
        dir = folder.display()
    );
    let path = folder.join("outlierd.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_input_is_paused_while_the_output_is_slow() {
    let cluster = cluster();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers);
    cluster.broker_round_trip_time(2, ROUND_TRIP).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_outlierd"))
        .args(["run", "--config"])
        .arg(config(folder.path(), &brokers))
        .stderr(std::fs::File::create(&log).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();

    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", "reader")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    reader.subscribe(&["in.scores"]).unwrap();
    let (mut offsets, deadline) = (std::collections::BTreeSet::new(), Instant::now() + PATIENCE);
    while offsets.len() < RECORDS && Instant::now() < deadline {
        if let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) {
            let score: serde_json::Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
            offsets.insert(score["position"]["offset"].as_i64().unwrap());
        }
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(offsets.len(), RECORDS, "{log}");
    assert!(log.contains("the output is slower than the input: input paused"), "{log}");
    assert!(log.contains("input goes on"), "{log}");
    assert!(!log.contains("lane goes back to its last commit"), "{log}");
}
