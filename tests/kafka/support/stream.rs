//! A stream of its own for a test: topics, folders, a configuration, and its records.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    Read, broker, consume, create_topic, outlierd, produce, program, unique, wait_for, write_config,
};

/// The readings of its records.
pub const FIELDS: [&str; 8] = [
    "a1",
    "a2",
    "current",
    "pressure",
    "temperature",
    "thermocouple",
    "voltage",
    "flow",
];
/// Records that a stream learns from.
pub const TRAIN: usize = 400;

/// One series of records as JSON lines, with a shift.
pub fn records() -> Vec<String> {
    (0..1_100).map(simulated).collect()
}

/// Coupled sine waves with a level shift from record 700 on.
fn simulated(i: usize) -> String {
    waves(i, |j| 20.0 + j, |_| 0.0, if i >= 700 { 1.5 } else { 0.0 })
}

/// A machine that does the same again and again, and reads higher by `shift`.
pub fn steady(i: usize, shift: f64) -> String {
    waves(i, |_| 20.0, |j| j, shift)
}

/// Sine waves with noise; plain arithmetic, the same on every machine.
fn waves(i: usize, period: fn(f64) -> f64, phase: fn(f64) -> f64, shift: f64) -> String {
    let t = i as f64;
    let values: Vec<f64> = (0..8)
        .map(|j| {
            let j = j as f64;
            let noise = ((t * 12.9898 + j * 78.233).sin() * 43_758.545).fract();
            10.0 * (j + 1.0) + (t / period(j) + phase(j)).sin() + 0.3 * noise + shift
        })
        .collect();
    let (hour, minute, second) = (i / 3_600, i / 60 % 60, i % 60);
    record(
        &format!("2026-01-01T{hour:02}:{minute:02}:{second:02}Z"),
        &values,
    )
}

fn record(time: &str, values: &[f64]) -> String {
    let sensors: BTreeMap<&str, f64> = FIELDS.into_iter().zip(values.iter().copied()).collect();
    serde_json::json!({ "rig": "valve", "time": time, "sensors": sensors }).to_string()
}

/// A stream with topics, folders and a configuration of its own.
pub struct Stream {
    pub folder: tempfile::TempDir,
    pub topic: String,
    pub config: PathBuf,
    pub broker: String,
}

impl Stream {
    pub fn new(name: &str) -> Self {
        Self::delivered(name, "at_least_once")
    }

    pub fn delivered(name: &str, delivery: &str) -> Self {
        Self::on(&broker(), name, delivery)
    }

    pub fn on(broker: &str, name: &str, delivery: &str) -> Self {
        Self::with(broker, name, delivery, 1)
    }

    /// With several partitions.
    pub fn partitioned(name: &str, delivery: &str, partitions: i32) -> Self {
        Self::with(&broker(), name, delivery, partitions)
    }

    fn with(broker: &str, name: &str, delivery: &str, partitions: i32) -> Self {
        let topic = unique(name);
        create_topic(broker, &topic, partitions);
        let folder = tempfile::tempdir().unwrap();
        let fields: Vec<String> = FIELDS
            .iter()
            .map(|f| format!("{{ name = \"{f}\", path = \"sensors.{f}\" }}"))
            .collect();
        let text = format!(
            r#"
service.http_listen = "127.0.0.1:0"
[share]
bundles = "{topic}.bundles"
control = "{topic}.control"
events = "{topic}.events"
[streams.rig]
input = {{ topic = "{topic}", group = "{topic}", commit_interval = "100ms", delivery = "{delivery}" }}
output = {{ alerts = "{topic}.alerts", dead_letters = "{topic}.dead", scores = "{topic}.scores", states = "{topic}.states" }}
record = {{ key = "field:rig", time = "field:time", fields = [{fields}] }}
training = {{ records = {TRAIN}, effective_records = 0 }}
"#,
            fields = fields.join(", "),
        );
        let config = write_config(folder.path(), broker, &text);
        Self {
            folder,
            topic,
            config,
            broker: broker.to_owned(),
        }
    }

    /// The configuration with other brokers, these librdkafka properties (the inside of a table) and an
    /// alert file, in a folder of this name of its own.
    pub fn config_with(&self, name: &str, brokers: &str, properties: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        let text = fs::read_to_string(&self.config).unwrap();
        let old = format!("{}/", self.folder.path().display());
        let text = text
            .replace(&old, &format!("{}/", folder.display()))
            .replace(&self.broker, brokers)
            .replace(
                "service.http_listen",
                &format!("kafka.properties = {{ {properties} }}\nservice.http_listen"),
            )
            .replace(
                "states = ",
                &format!("file = {:?}, states = ", folder.join("alerts.jsonl")),
            );
        let path = folder.join("outlierd.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// Waits until the file of a configuration of [`Self::config_with`] has all alerts.
    pub fn await_delivered(&self, config: &Path) {
        wait_for("the delivered alerts", || {
            let delivered = fs::read_to_string(config.with_file_name("alerts.jsonl")).unwrap();
            (delivered.lines().count() >= self.alerts().0.len()).then_some(())
        });
    }

    pub fn send(&self, records: &[String]) {
        produce(
            &self.broker,
            &self.topic,
            (records.join("\n") + "\n").as_bytes(),
            &[],
        );
    }

    /// Sends records to one partition.
    pub fn send_to(&self, partition: i32, records: &[String]) {
        let text = records.join("\n") + "\n";
        let partition = partition.to_string();
        produce(
            &self.broker,
            &self.topic,
            text.as_bytes(),
            &["-p", &partition],
        );
    }

    /// How many scores were published, those of records that were scored twice included.
    pub fn count_scores(&self) -> usize {
        self.read("scores").len()
    }

    /// Waits until so many scores are published in all.
    pub fn await_count(&self, count: usize) {
        wait_for(&format!("{count} scores in all"), || {
            (self.count_scores() >= count).then_some(())
        });
        assert_eq!(self.count_scores(), count);
    }

    /// Everything in the topic of the stream with that ending: `alerts`, `dead`, `scores` or
    /// `states`.
    pub fn read(&self, ending: &str) -> Vec<Read> {
        consume(&self.broker, &format!("{}.{ending}", self.topic))
    }

    /// Published scores by offset of their record: a record that was read twice counts once.
    pub fn scores(&self) -> BTreeMap<i64, Value> {
        let of = |read: Read| {
            let score: Value = serde_json::from_slice(&read.value.unwrap()).unwrap();
            (score["position"]["offset"].as_i64().unwrap(), score)
        };
        self.read("scores").into_iter().map(of).collect()
    }

    pub fn await_scores(&self, count: usize) -> BTreeMap<i64, Value> {
        let mut seen = None;
        wait_for(&format!("{count} scores"), || {
            // The topic is made by the daemon and may not be there yet.
            let exists = program("kcat")
                .args([
                    "-L",
                    "-b",
                    &self.broker,
                    "-t",
                    &format!("{}.scores", self.topic),
                ])
                .output()
                .is_ok_and(|out| !String::from_utf8_lossy(&out.stdout).contains("Unknown topic"));
            let scores = if exists {
                self.scores()
            } else {
                BTreeMap::new()
            };
            if seen.replace(scores.len()) != Some(scores.len()) {
                // Shown where the test fails: how far the scores came.
                println!("{} of {count} scores", scores.len());
            }
            (scores.len() >= count).then_some(scores)
        })
    }

    /// Published alerts, each event once, in order; and how many were read in all.
    pub fn alerts(&self) -> (Vec<Value>, usize) {
        let all = self.read("alerts");
        let total = all.len();
        let mut seen = std::collections::HashSet::new();
        let mut alerts = Vec::new();
        for Read { headers, value, .. } in all {
            let alert: Value = serde_json::from_slice(&value.unwrap()).unwrap();
            assert_eq!(headers["ce_specversion"], "1.0");
            assert_eq!(
                headers["ce_id"],
                format!("{}-{}", alert["id"].as_str().unwrap(), alert["sequence"])
            );
            if seen.insert(headers["ce_id"].clone()) {
                alerts.push(alert);
            }
        }
        (alerts, total)
    }

    /// What `outlierd replay` finds for the same records: its alerts, and its lines.
    pub fn replay(&self, records: &[String]) -> (Vec<Value>, Vec<csv::StringRecord>) {
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
        let lines = csv::Reader::from_path(at("out.csv"))
            .unwrap()
            .into_records()
            .collect::<Result<_, _>>()
            .unwrap();
        (
            alerts
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            lines,
        )
    }

    pub fn assert_same_as_replay(&self, records: &[String]) -> usize {
        let scores = self.await_scores(records.len());
        let (expected, lines) = self.replay(records);
        assert_eq!(scores.len(), lines.len());
        for (score, line) in scores.values().zip(&lines) {
            assert_eq!(score["verdict"], line[3], "{score} {line:?}");
            for (name, cell) in [("score", &line[1]), ("threshold", &line[2])] {
                let text = score[name]
                    .as_f64()
                    .map_or(String::new(), |value| value.to_string());
                assert_eq!(text, cell, "{name} of {score}");
            }
        }
        let (alerts, total) = self.alerts();
        assert!(
            !expected.is_empty(),
            "the records hold a fault, so there must be an alert"
        );
        assert_eq!(alerts, expected);
        total
    }
}
