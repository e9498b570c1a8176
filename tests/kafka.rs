//! The whole daemon against a real Apache Kafka: records from a separate client, alerts read back by an independent one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Daemon, OUTLIERD, consume, create_topic, outlierd, produce, unique, wait_for};

const FIELDS: [&str; 8] = ["a1", "a2", "current", "pressure", "temperature", "thermocouple", "voltage", "flow"];
const TRAIN: usize = 400;

/// One series of records as JSON lines: a run of SKAB where the data is there, else a simulated one with a shift.
fn records() -> Vec<String> {
    let skab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/skab/valve1/0.csv");
    match fs::read_to_string(&skab) {
        Ok(text) => text.lines().skip(1).map(from_skab).collect(),
        Err(_) => (0..1_100).map(simulated).collect(),
    }
}

fn from_skab(row: &str) -> String {
    let cells: Vec<&str> = row.split(';').collect();
    let values: Vec<f64> = cells[1..9].iter().map(|cell| cell.parse().unwrap()).collect();
    record(&cells[0].replace(' ', "T"), &values)
}

/// Coupled sine waves with a level shift from record 700 on; plain arithmetic, the same on every machine.
fn simulated(i: usize) -> String {
    let t = i as f64;
    let shift = if i >= 700 { 1.5 } else { 0.0 };
    let values: Vec<f64> = (0..8)
        .map(|j| {
            let j = j as f64;
            let noise = ((t * 12.9898 + j * 78.233).sin() * 43_758.545).fract();
            10.0 * (j + 1.0) + (t / (20.0 + j)).sin() + 0.3 * noise + shift
        })
        .collect();
    record(&format!("2026-01-01T00:{:02}:{:02}Z", i / 60 % 60, i % 60), &values)
}

fn record(time: &str, values: &[f64]) -> String {
    let sensors: BTreeMap<&str, f64> = FIELDS.into_iter().zip(values.iter().copied()).collect();
    serde_json::json!({ "rig": "valve", "time": time, "sensors": sensors }).to_string()
}

/// A stream with topics, folders and a configuration of its own.
struct Stream {
    folder: tempfile::TempDir,
    topic: String,
    config: PathBuf,
}

impl Stream {
    fn new(name: &str) -> Self {
        Self::delivered(name, "at_least_once")
    }

    fn delivered(name: &str, delivery: &str) -> Self {
        let topic = unique(name);
        create_topic(&topic, 1);
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("outlierd.toml");
        let fields: Vec<String> =
            FIELDS.iter().map(|f| format!("{{ name = \"{f}\", path = \"sensors.{f}\" }}")).collect();
        let text = format!(
            r#"
[service]
state_dir = "{dir}/state"
model_dir = "{dir}/models"
http_listen = ""
[kafka]
brokers = "{broker}"
[streams.rig]
input = {{ topic = "{topic}", group = "{topic}", commit_interval = "100ms", delivery = "{delivery}" }}
output = {{ alerts = "{topic}.alerts", dead_letters = "{topic}.dead", scores = "{topic}.scores", states = "{topic}.states" }}
record = {{ key = "field:rig", time = "field:time", fields = [{fields}] }}
training = {{ records = {TRAIN} }}
"#,
            dir = folder.path().display(),
            broker = support::broker(),
            fields = fields.join(", "),
        );
        fs::write(&config, text).unwrap();
        Self { folder, topic, config }
    }

    fn send(&self, records: &[String]) {
        produce(&self.topic, (records.join("\n") + "\n").as_bytes(), false);
    }

    /// Published scores by offset of their record: a record that was read twice counts once.
    fn scores(&self) -> BTreeMap<i64, Value> {
        let of = |(_, value): (_, Vec<u8>)| {
            let score: Value = serde_json::from_slice(&value).unwrap();
            (score["position"]["offset"].as_i64().unwrap(), score)
        };
        consume(&format!("{}.scores", self.topic)).into_iter().map(of).collect()
    }

    fn await_scores(&self, count: usize) -> BTreeMap<i64, Value> {
        wait_for(&format!("{count} scores"), || {
            // The topic is made by the daemon and may not be there yet.
            let exists = std::process::Command::new("kcat")
                .args(["-L", "-b", &support::broker(), "-t", &format!("{}.scores", self.topic)])
                .output()
                .is_ok_and(|out| !String::from_utf8_lossy(&out.stdout).contains("Unknown topic"));
            let scores = if exists { self.scores() } else { BTreeMap::new() };
            (scores.len() >= count).then_some(scores)
        })
    }

    /// Published alerts, each event once, in order; and how many were read in all.
    fn alerts(&self) -> (Vec<Value>, usize) {
        let all = consume(&format!("{}.alerts", self.topic));
        let total = all.len();
        let mut seen = std::collections::HashSet::new();
        let mut alerts = Vec::new();
        for (headers, value) in all {
            let alert: Value = serde_json::from_slice(&value).unwrap();
            assert_eq!(headers["ce_specversion"], "1.0");
            assert_eq!(headers["ce_id"], format!("{}-{}", alert["id"].as_str().unwrap(), alert["sequence"]));
            if seen.insert(headers["ce_id"].clone()) {
                alerts.push(alert);
            }
        }
        (alerts, total)
    }

    /// What `outlierd replay` finds for the same records: its alerts, and its lines.
    fn replay(&self, records: &[String]) -> (Vec<Value>, Vec<csv::StringRecord>) {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        fs::write(at("records.jsonl"), records.join("\n") + "\n").unwrap();
        let (config, train) = (self.config.display().to_string(), TRAIN.to_string());
        outlierd(&[
            "replay",
            "--config",
            &config,
            "--stream",
            "rig",
            "--train-rows",
            &train,
            &at("records.jsonl"),
            "--out",
            &at("out.csv"),
            "--alerts",
            &at("alerts.jsonl"),
        ]);
        let alerts = fs::read_to_string(at("alerts.jsonl")).unwrap();
        let lines = csv::Reader::from_path(at("out.csv")).unwrap().into_records().collect::<Result<_, _>>().unwrap();
        (alerts.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), lines)
    }

    fn assert_same_as_replay(&self, records: &[String]) -> usize {
        let scores = self.await_scores(records.len());
        let (expected, lines) = self.replay(records);
        assert_eq!(scores.len(), lines.len());
        for (score, line) in scores.values().zip(&lines) {
            assert_eq!(score["verdict"], line[3], "{score} {line:?}");
            for (name, cell) in [("score", &line[1]), ("threshold", &line[2])] {
                let text = score[name].as_f64().map_or(String::new(), |value| format!("{value:.6}"));
                assert_eq!(text, cell, "{name} of {score}");
            }
        }
        let (alerts, total) = self.alerts();
        assert!(!expected.is_empty(), "the records hold a fault, so there must be an alert");
        assert_eq!(alerts, expected);
        total
    }
}

#[test]
fn alerts_from_kafka_are_those_of_replay() {
    let stream = Stream::new("e2e");
    let records = records();
    stream.send(&records);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    let total = stream.assert_same_as_replay(&records);
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), 0, "{}", daemon.log());
    assert_eq!(stream.alerts().0.len(), total, "without a crash no alert is published twice");
}

#[test]
fn a_killed_daemon_goes_on_where_it_was() {
    let stream = Stream::new("kill");
    let records = records();
    // Kills in the middle of learning, and twice while scoring.
    for (number, until) in [150, 550, 800].into_iter().enumerate() {
        let from = [0, 150, 550][number];
        stream.send(&records[from..until]);
        let mut daemon = Daemon::start(&stream.config, &format!("daemon-{number}"));
        stream.await_scores(until);
        daemon.signal("KILL");
        daemon.wait();
    }
    stream.send(&records[800..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    stream.assert_same_as_replay(&records);
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), 0, "{}", daemon.log());
}

#[test]
fn exactly_once_repeats_nothing_however_often_it_is_killed() {
    let stream = Stream::delivered("once", "exactly_once");
    let records = records();
    stream.send(&records);
    let small = ["--set", "streams.rig.input.batch_records=10", "--set", "streams.rig.input.batch_wait=1ms"];
    // Each is killed at whatever it does when so many scores are there.
    for (number, scores) in [100, TRAIN + 1, TRAIN + 150, TRAIN + 300, TRAIN + 450].into_iter().enumerate() {
        let mut daemon = Daemon::start_with(&stream.config, &format!("daemon-{number}"), &small);
        stream.await_scores(scores);
        daemon.signal("KILL");
        daemon.wait();
    }
    let mut daemon = Daemon::start_with(&stream.config, "daemon-last", &small);
    let total = stream.assert_same_as_replay(&records);
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), 0, "{}", daemon.log());
    assert_eq!(stream.alerts().0.len(), total, "no alert is published twice");
    assert_eq!(consume(&format!("{}.scores", stream.topic)).len(), records.len(), "and no score");
}

#[test]
fn another_machine_goes_on_with_the_states_of_a_lost_one() {
    let stream = Stream::delivered("lost", "exactly_once");
    let records = records();
    for (number, until) in [TRAIN + 50, TRAIN + 200, TRAIN + 350].into_iter().enumerate() {
        let from = [0, TRAIN + 50, TRAIN + 200][number];
        stream.send(&records[from..until]);
        let mut daemon = Daemon::start(&stream.config, &format!("daemon-{number}"));
        stream.await_scores(until);
        daemon.signal("KILL");
        daemon.wait();
        assert_eq!(daemon.log().contains("states restored from the changelog"), number > 0, "{}", daemon.log());
        fs::remove_dir_all(stream.folder.path().join("state")).unwrap();
    }
    stream.send(&records[TRAIN + 350..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    let total = stream.assert_same_as_replay(&records);
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), 0, "{}", daemon.log());
    assert_eq!(stream.alerts().0.len(), total);
}

#[test]
fn bad_records_are_dead_lettered_and_the_lane_goes_on() {
    for delivery in ["at_least_once", "exactly_once"] {
        bad_records_are_dead_lettered(delivery);
    }
}

fn bad_records_are_dead_lettered(delivery: &str) {
    let stream = Stream::delivered("bad", delivery);
    let good = records();
    let huge = format!("{{\"rig\":\"valve\",\"pad\":\"{}\"}}", "x".repeat(10_000_000));
    let bad = [
        ("not json at all", "not_json"),
        ("[1,2]", "not_object"),
        ("{\"rig\":\"valve\",\"sensors\":{}}", "missing_time"),
        ("{\"time\":\"2026-01-01T00:00:00Z\"}", "missing_key"),
        ("{\"rig\":\"valve\",\"time\":\"yesterday\"}", "bad_time"),
        (huge.as_str(), "too_large"),
    ];
    let mut lines = good[..200].to_vec();
    lines.extend(bad.iter().map(|(line, _)| (*line).to_owned()));
    lines.extend_from_slice(&good[200..600]);
    stream.send(&lines);
    let _daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(600);
    let dead = wait_for("the dead letters", || {
        let dead = consume(&format!("{}.dead", stream.topic));
        (dead.len() >= bad.len()).then_some(dead)
    });
    assert_eq!(dead.len(), bad.len());
    for (index, ((headers, value), (line, reason))) in dead.iter().zip(bad).enumerate() {
        assert_eq!(headers["outlierd-reason"], reason);
        assert_eq!(headers["outlierd-offset"], (200 + index).to_string());
        assert_eq!(value.len(), line.len());
        assert_eq!(value, line.as_bytes());
    }
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let stream = Stream::new("second");
    stream.send(&records()[..10]);
    let _first = Daemon::start(&stream.config, "first");
    stream.await_scores(10);
    let second = std::process::Command::new(OUTLIERD).args(["run", "--config"]).arg(&stream.config).output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("in use by another outlierd"), "{text}");
}

#[test]
fn an_input_topic_that_does_not_exist_is_named() {
    let stream = Stream::new("missing");
    let text = fs::read_to_string(&stream.config).unwrap();
    let wrong = stream.folder.path().join("wrong.toml");
    let typo = format!("topic = \"{}x\"", stream.topic);
    fs::write(&wrong, text.replacen(&format!("topic = \"{}\"", stream.topic), &typo, 1)).unwrap();
    let out = std::process::Command::new(OUTLIERD).args(["run", "--config"]).arg(&wrong).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("does not exist") && text.contains(&format!("did you mean {}?", stream.topic)), "{text}");
}

#[test]
fn train_learns_from_a_range_of_the_topic() {
    let stream = Stream::new("train");
    let records = records();
    stream.send(&records[..TRAIN]);
    // Later records, which the range leaves out: the producer's clock is this one, in whole milliseconds.
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(2);
    wait_for("a later time", || (jiff::Timestamp::now() > until).then_some(()));
    let until = until.to_string();
    stream.send(&records[TRAIN..]);
    let config = stream.config.display().to_string();
    let trained = outlierd(&["train", "--config", &config, "--from-topic", "--until", &until]);
    let text = String::from_utf8_lossy(&trained.stdout);
    let whole = outlierd(&["train", "--config", &config, "--from-topic", "--no-promote"]);
    let whole = String::from_utf8_lossy(&whole.stdout);
    assert!(whole.contains(&format!("{} records to learn from", records.len())), "to the topic's end: {whole}");
    assert!(text.contains(&format!("{TRAIN} records to learn from")), "{text}");
    assert!(text.contains("promoted: stream rig"), "{text}");
    // The daemon starts with that bundle: every record is scored, the first ones too.
    let mut daemon = Daemon::start(&stream.config, "daemon");
    let scores = stream.await_scores(records.len());
    assert!(scores.values().all(|score| score["score"].is_number()), "nothing is left to learn");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), 0, "{}", daemon.log());
    let nothing = std::process::Command::new(OUTLIERD)
        .args(["train", "--config", &config, "--from-topic", "--until", "2000-01-01T00:00:00Z"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&nothing.stderr);
    assert!(!nothing.status.success() && text.contains("no usable record in that range"), "{text}");
}

#[test]
fn a_property_that_librdkafka_refuses_ends_the_start() {
    let stream = Stream::new("property");
    let out = std::process::Command::new(OUTLIERD)
        .args([
            "run",
            "--set",
            "kafka.consumer.fetch.wait.max.ms=soon",
            "--set",
            "kafka.producer.linger.mss=1",
            "--config",
        ])
        .arg(&stream.config)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(64));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("kafka.consumer.\"fetch.wait.max.ms\" is refused by librdkafka"), "{text}");
    assert!(text.contains("kafka.producer.\"linger.mss\" is refused by librdkafka"), "{text}");
}

#[test]
fn sighup_takes_over_new_mutes() {
    let stream = Stream::new("reload");
    let records = records();
    stream.send(&records[..TRAIN]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    wait_for("the bundle", || daemon.log().contains(" live ").then_some(()));
    let mut text = fs::read_to_string(&stream.config).unwrap();
    text.push_str("mutes = [{ series = \"*\", from = \"2000-01-01T00:00:00Z\", until = \"2100-01-01T00:00:00Z\", reason = \"test\" }]\n");
    fs::write(&stream.config, text).unwrap();
    daemon.signal("HUP");
    wait_for("the reload", || daemon.log().contains("configuration reloaded").then_some(()));
    stream.send(&records[TRAIN..]);
    let scores = stream.await_scores(records.len());
    assert!(scores.values().any(|score| score["verdict"] == "outlier"), "there is something to mute");
    assert_eq!(stream.alerts().1, 0);
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), 0);
}
