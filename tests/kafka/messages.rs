//! Messages that hold several records, in several encodings, and the commands that look at a topic.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{Daemon, OUTLIERD, outlierd, wait_for};

/// Records of one message.
const TOGETHER: usize = 8;

/// Messages that hold so many records each, in a layout and an encoding.
fn together(records: &[String], message: impl Fn(Vec<Value>) -> String) -> Vec<String> {
    let value = |record: &String| serde_json::from_str(record).unwrap();
    let chunks = records.chunks(TOGETHER);
    chunks
        .map(|chunk| message(chunk.iter().map(value).collect()))
        .collect()
}

fn set(stream: &Stream, options: &str) {
    let config = fs::read_to_string(&stream.config).unwrap();
    let changed = config.replace("record = { ", &format!("record = {{ {options}, "));
    assert_ne!(config, changed);
    fs::write(&stream.config, changed).unwrap();
}

/// The records that have a score, by place; and how many scores there are.
fn scored(stream: &Stream) -> (BTreeSet<(i64, i64)>, usize) {
    let scores = stream.read("scores");
    let place = |score: &Value| {
        let position = &score["position"];
        (
            position["offset"].as_i64().unwrap(),
            position["part"].as_i64().unwrap(),
        )
    };
    let values = scores
        .iter()
        .map(|read| serde_json::from_slice(read.value.as_ref().unwrap()).unwrap());
    (values.map(|score| place(&score)).collect(), scores.len())
}

/// Runs the messages with a kill in the middle: each record is scored once, and the alerts are those of
/// one record a message.
fn killed_in_the_middle(name: &str, options: &str, message: impl Fn(Vec<Value>) -> String) {
    let stream = Stream::delivered(name, "exactly_once");
    let records = records();
    let (expected, _) = stream.replay(&records);
    set(&stream, options);
    let messages = together(&records, message);
    let (first, half) = (TRAIN / TOGETHER, messages.len() * 3 / 4);
    stream.send(&messages[..first]);
    let daemon = Daemon::start(&stream.config, "first");
    wait_for("a model", || {
        let status = daemon.page("/status")?;
        status.contains("\"phase\":\"live\"").then_some(())
    });
    stream.send(&messages[first..half]);
    wait_for("half of the records", || {
        (scored(&stream).1 >= half * TOGETHER).then_some(())
    });
    daemon.signal("KILL");
    drop(daemon);
    stream.send(&messages[half..]);
    let _second = Daemon::start(&stream.config, "second");
    wait_for("all records", || {
        (scored(&stream).1 >= records.len()).then_some(())
    });
    let (places, count) = scored(&stream);
    assert_eq!(
        (places.len(), count),
        (records.len(), records.len()),
        "each is scored once"
    );
    let (alerts, total) = stream.alerts();
    assert_eq!(alerts.len(), total);
    assert!(!expected.is_empty(), "the records hold a fault");
    let told = |alerts: &[Value]| -> Vec<Value> {
        let events = alerts.iter();
        events
            .map(|alert| {
                json!([
                    alert["kind"],
                    alert["event"],
                    alert["time"],
                    alert["fields"]
                ])
            })
            .collect()
    };
    assert_eq!(told(&alerts), told(&expected));
}

#[test]
fn an_array_of_records_is_the_same_as_its_records() {
    killed_in_the_middle("rows", "layout = \"rows\", rows = \"batch\"", |records| {
        json!({"gateway": "g", "batch": records}).to_string()
    });
}

#[test]
fn a_filter_gives_the_same_records() {
    let filter = "transform = '.events[] | select(.op == \"c\") | .after'";
    killed_in_the_middle("filter", filter, |records| {
        let events = records
            .into_iter()
            .map(|record| json!({"op": "c", "after": record}));
        let deleted = json!({"op": "d", "after": null});
        json!({"events": events.chain([deleted]).collect::<Vec<_>>()}).to_string()
    });
}

#[test]
fn a_bad_record_among_good_ones_is_a_dead_letter_of_its_own() {
    let stream = Stream::delivered("parts", "exactly_once");
    set(&stream, "layout = \"rows\"");
    let records = records();
    let mut messages = together(&records[..80], |records| Value::Array(records).to_string());
    messages[3] = messages[3].replacen("\"rig\":\"valve\"", "\"rig\":7.5", 2);
    stream.send(&messages);
    let _daemon = Daemon::start(&stream.config, "daemon");
    wait_for("the records", || (scored(&stream).1 >= 78).then_some(()));
    let letters = wait_for("the dead letters", || {
        Some(stream.read("dead")).filter(|all| all.len() == 2)
    });
    for (letter, part) in letters.iter().zip(["0", "1"]) {
        assert_eq!(letter.headers["outlierd-reason"], "bad_key");
        assert_eq!(letter.headers["outlierd-offset"], "3");
        assert_eq!(letter.headers["outlierd-part"], part);
    }
    let payloads: Vec<bool> = letters
        .iter()
        .map(|letter| letter.value.is_some())
        .collect();
    assert_eq!(payloads, [true, false], "the message comes once");
    assert_eq!(scored(&stream).0.len(), 78);
}

#[test]
fn init_check_and_tap_look_at_a_topic() {
    let stream = Stream::new("init");
    stream.send(&together(&records()[..240], |records| {
        json!({"batch": records}).to_string()
    }));
    let out = stream
        .folder
        .path()
        .join("found.toml")
        .display()
        .to_string();
    outlierd(&[
        "init",
        "--topic",
        &stream.topic,
        "--brokers",
        &stream.broker,
        "--stream",
        "rig",
        "--out",
        &out,
    ]);
    let text = fs::read_to_string(&out).unwrap();
    assert!(
        text.contains("layout = \"rows\"\nrows = \"batch\"\n"),
        "{text}"
    );
    assert!(
        text.contains("time = \"field:time\"") && text.contains("path = \"sensors.a1\"")
            || text.contains("\"a1\""),
        "{text}"
    );
    let again = Command::new(OUTLIERD)
        .args([
            "init",
            "--topic",
            &stream.topic,
            "--brokers",
            &stream.broker,
            "--out",
            &out,
        ])
        .output()
        .unwrap();
    assert!(!again.status.success(), "it overwrites no file");

    check_and_tap(&out);
}

/// What `check --connect` and `tap` say of a configuration that reads its topic.
fn check_and_tap(out: &str) {
    let checked = outlierd(&["check", "--connect", "--config", out]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        said.contains("records can be read") && said.contains("will be created"),
        "{said}"
    );
    let wrong = Command::new(OUTLIERD)
        .args([
            "check",
            "--connect",
            "--config",
            out,
            "--set",
            "streams.rig.record.fields=[\"nosuch\"]",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&wrong.stdout).into_owned();
    assert!(
        !wrong.status.success() && said.contains("\"nosuch\" has no reading"),
        "{said}"
    );

    let tapped = outlierd(&["tap", "--config", out, "rig", "--newest", "2", "--stop"]);
    let lines = String::from_utf8_lossy(&tapped.stdout).into_owned();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2 * TOGETHER);
    assert_eq!(lines[0]["part"], 0);
    assert!(
        lines[0]["readings"]
            .as_object()
            .is_some_and(|readings| readings.len() == 8),
        "{}",
        lines[0]
    );
}
