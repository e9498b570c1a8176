//! Several machines: bundles and commands travel, one trains; and operators say what alerts were.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::stream::{Stream, TRAIN, steady};
use crate::support::{Daemon, Read, outlierd, wait_for};

/// Normal records after the first training.
const NORMAL: usize = 1_600;

/// A stream that is trained again only on demand, and a folder for each of two machines.
pub fn stream(name: &str) -> Stream {
    let stream = Stream::delivered(name, "exactly_once");
    let text = fs::read_to_string(&stream.config).unwrap();
    let retrain =
        "retrain = { guard = \"20s\", records = 2000, on_drift = false, every = \"0s\" }\n";
    fs::write(&stream.config, text + retrain).unwrap();
    stream
}

/// Flags of a machine with folders of its own.
fn machine(stream: &Stream, name: &str) -> [String; 4] {
    let folder = stream.folder.path().join(name);
    let set = |key: &str, value: PathBuf| {
        [
            "--set".to_owned(),
            format!("service.{key}={:?}", value.display().to_string()),
        ]
    };
    let ([a, b], [c, d]) = (
        set("state_dir", folder.join("state")),
        set("model_dir", folder.join("models")),
    );
    [a, b, c, d]
}

/// Starts the daemon of a machine.
pub fn start(stream: &Stream, name: &str) -> Daemon {
    let flags = machine(stream, name);
    Daemon::start_with(&stream.config, name, &flags.each_ref().map(String::as_str))
}

/// Runs a command on a machine.
pub fn command(stream: &Stream, on: &str, args: &[&str]) -> String {
    let (config, flags) = (stream.config.to_str().unwrap(), machine(stream, on));
    let flags = flags.each_ref().map(String::as_str);
    let done = outlierd(&[args, &["--config", config], &flags].concat());
    String::from_utf8_lossy(&done.stdout).into_owned()
}

pub fn live(stream: &Stream, on: &str) -> Option<String> {
    let path = stream.folder.path().join(on).join("models/rig/current");
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

/// The published events of a type.
pub fn events(stream: &Stream, kind: &str) -> Vec<Value> {
    let of = |read: Read| serde_json::from_slice::<Value>(&read.value.unwrap()).unwrap();
    stream
        .read("events")
        .into_iter()
        .map(of)
        .filter(|event| event["type"] == kind)
        .collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn a_machine_that_joins_late_has_the_live_bundle_and_commands_reach_the_one_that_trains() {
    let stream = stream("machines");
    let normal: Vec<String> = (0..TRAIN + NORMAL).map(|i| steady(i, 0.0)).collect();
    stream.send(&normal);
    let mut a = start(&stream, "a");
    stream.await_scores(normal.len());
    let first = live(&stream, "a").unwrap();
    // What was kept of the normal traffic is in the store.
    a.stop();
    let mut a = start(&stream, "a");
    // Of two that start together either may get the partition; the one that has it keeps it.
    wait_for("a to own the partition", || {
        a.log().contains("partitions=[0] owned=1").then_some(())
    });
    let b = start(&stream, "b");
    wait_for("the bundle on b", || {
        (live(&stream, "b")? == first).then_some(())
    });
    assert_eq!(
        b.metric("outlierd_learning_records", ""),
        0.0,
        "b learned from nothing: {}",
        b.log()
    );

    command(&stream, "b", &["model", "challenge", "rig"]);
    let second = wait_for("a new bundle on b", || {
        live(&stream, "b").filter(|id| *id != first)
    });
    assert_eq!(live(&stream, "a").as_ref(), Some(&second));
    let promoted = "outcome=\"promoted\"";
    a.await_metric("outlierd_trainings_total", promoted, 1.0);
    assert_eq!(b.metric("outlierd_trainings_total", ""), 0.0);
    assert!(command(&stream, "b", &["model", "show", "rig"]).contains("tests      passed"));
    let judged = wait_for("the verdict on the events topic", || {
        events(&stream, "challenger_judged").pop()
    });
    assert_eq!(
        (&judged["outcome"], &judged["verdict"]["challenger"]),
        (&"promoted".into(), &second.clone().into())
    );

    command(&stream, "b", &["model", "rollback", "rig"]);
    wait_for("a to go back", || {
        (live(&stream, "a")? == first).then_some(())
    });
    a.await_metric("outlierd_bundle_info", &first, 1.0);

    // The one that trains is lost: the other goes on with the same bundle, and trains from now on.
    a.signal("KILL");
    a.wait();
    let more: Vec<String> = (normal.len()..normal.len() + 300)
        .map(|i| steady(i, 0.0))
        .collect();
    stream.send(&more);
    stream.await_scores(normal.len() + more.len());
    assert!(
        stream
            .alerts()
            .0
            .iter()
            .all(|alert| alert["kind"] != "anomaly"),
        "{:#?}",
        stream.alerts().0
    );
    command(&stream, "b", &["model", "challenge", "rig"]);
    b.await_metric("outlierd_trainings_total", "outcome=\"failed\"", 1.0);
    assert!(
        b.log().contains("too few records of normal traffic"),
        "it has seen 300 records: {}",
        b.log()
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn what_operators_say_of_alerts_is_taken_to_heart() {
    let stream = stream("feedback");
    let normal: Vec<String> = (0..TRAIN + NORMAL).map(|i| steady(i, 0.0)).collect();
    let at = |from: usize, shift: f64, rows: usize| -> Vec<String> {
        (from..from + rows).map(|i| steady(i, shift)).collect()
    };
    stream.send(&normal);
    // A disturbance, quiet, and a fault.
    let mut end = normal.len();
    for (shift, rows) in [(0.6, 60), (0.0, 200), (3.0, 60), (0.0, 100)] {
        stream.send(&at(end, shift, rows));
        end += rows;
    }
    let daemon = start(&stream, "a");
    stream.await_scores(end);
    let opened = |stream: &Stream| -> Vec<Value> {
        let is_opening = |alert: &Value| alert["kind"] == "anomaly" && alert["event"] == "open";
        stream.alerts().0.into_iter().filter(is_opening).collect()
    };
    let alerts = opened(&stream);
    let offset = |alert: &Value| alert["position"]["offset"].as_u64().unwrap() as usize;
    let disturbance = alerts
        .iter()
        .find(|alert| offset(alert) < normal.len() + 60)
        .unwrap();
    let fault = alerts
        .iter()
        .find(|alert| offset(alert) >= normal.len() + 260)
        .unwrap();
    let id = |alert: &Value| alert["id"].as_str().unwrap()[..12].to_owned();

    command(
        &stream,
        "a",
        &[
            "feedback",
            &id(disturbance),
            "false-alarm",
            "--note",
            "a test run",
        ],
    );
    command(&stream, "a", &["feedback", &id(fault), "confirmed"]);
    let told = wait_for("both to be taken to heart", || {
        Some(events(&stream, "feedback_applied")).filter(|told| told.len() == 2)
    });
    assert_eq!(told[0]["feedback"]["note"], "a test run");
    assert!(
        told[0]["done"]
            .as_str()
            .unwrap()
            .contains("records added to the training buffer"),
        "{told:#?}"
    );
    assert!(
        told[1]["done"]
            .as_str()
            .unwrap()
            .contains("every bundle promoted from now on must detect it"),
        "{told:#?}"
    );

    // The same disturbance again is none any more, and the fault still is one.
    let before = opened(&stream).len();
    for (shift, rows) in [(0.0, 100), (0.6, 60), (0.0, 150)] {
        stream.send(&at(end, shift, rows));
        end += rows;
    }
    stream.await_scores(end);
    assert_eq!(opened(&stream).len(), before, "{:#?}", opened(&stream));
    stream.send(&at(end, 9.0, 80));
    stream.send(&at(end + 80, 0.0, 100));
    end += 180;
    stream.await_scores(end);
    assert_eq!(opened(&stream).len(), before + 1);

    // Every challenger is tried on the confirmed fault.
    command(&stream, "a", &["model", "challenge", "rig"]);
    let judged = wait_for("a verdict", || events(&stream, "challenger_judged").pop());
    let label = judged["verdict"]["tests"][3]["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        label.starts_with("1 of 1 confirmed faults detected"),
        "{label}"
    );

    // Records that the first model has learned from are called faulty.
    let range = [
        "--series",
        "valve",
        "--from",
        "2026-01-01T00:01:00Z",
        "--until",
        "2026-01-01T00:02:00Z",
    ];
    command(
        &stream,
        "a",
        &[&["feedback", "-", "mark-range"], range.as_slice()].concat(),
    );
    wait_for("the mark", || {
        command(&stream, "a", &["model", "list"])
            .contains("trained on a range that is now excluded")
            .then_some(())
    });
    drop(daemon);
}
