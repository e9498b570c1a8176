//! A running daemon that trains a challenger, makes it live, and goes back.

use std::fs;

use serde_json::Value;

use crate::support::stream::{Stream, TRAIN, steady};
use crate::support::{Daemon, outlierd, wait_for};

/// Normal records after the first training.
const NORMAL: usize = 1_600;

fn model(stream: &Stream, command: &[&str]) -> String {
    let config = stream.config.to_str().unwrap();
    let done = outlierd(&[&["model"], command, &["--config", config]].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{command:?}: {}", text(&done.stderr));
    text(&done.stdout)
}

fn live(stream: &Stream) -> String {
    fs::read_to_string(stream.folder.path().join("models/rig/current"))
        .unwrap()
        .trim_end()
        .to_owned()
}

fn verdict(stream: &Stream, bundle: &str) -> Option<Value> {
    let path = stream
        .folder
        .path()
        .join("models/rig")
        .join(bundle)
        .join("verdict.json");
    Some(serde_json::from_slice(&fs::read(path).ok()?).unwrap())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn a_challenger_is_asked_for_proves_itself_goes_live_and_is_rolled_back() {
    let stream = Stream::delivered("retrain", "exactly_once");
    let text = fs::read_to_string(&stream.config).unwrap();
    let retrain =
        "retrain = { guard = \"20s\", records = 2000, on_drift = false, every = \"0s\" }\n";
    fs::write(&stream.config, text + retrain).unwrap();
    let normal: Vec<String> = (0..TRAIN + NORMAL).map(|i| steady(i, 0.0)).collect();
    stream.send(&normal);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(normal.len());
    let first = live(&stream);
    // What was kept outlives a stop.
    daemon.stop();
    let mut daemon = Daemon::start(&stream.config, "again");
    model(&stream, &["challenge", "rig"]);
    daemon.await_metric("outlierd_trainings_total", "outcome=\"promoted\"", 1.0);
    let second = wait_for("it to be live", || {
        Some(live(&stream)).filter(|id| *id != first)
    });
    assert_eq!(
        verdict(&stream, &second).unwrap()["champion"],
        Value::from(first.as_str())
    );
    assert!(
        verdict(&stream, &first).is_none(),
        "the first one had nobody to stand against"
    );
    daemon.await_metric("outlierd_bundle_info", &second, 1.0);

    let more: Vec<String> = (normal.len()..normal.len() + 300)
        .map(|i| steady(i, 0.0))
        .collect();
    // A lane takes the bundle between two batches: it may run one more with the old one. Were all
    // records of that batch, the fault would be the first that the new bundle sees.
    let (one_more, others) = more.split_at(20);
    stream.send(one_more);
    stream.await_scores(normal.len() + one_more.len());
    stream.send(others);
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
    let end = normal.len() + more.len();
    let fault: Vec<String> = (end..end + 60).map(|i| steady(i, 3.0)).collect();
    stream.send(&fault);
    let alert = wait_for("an alert", || {
        stream
            .alerts()
            .0
            .into_iter()
            .find(|alert| alert["kind"] == "anomaly")
    });
    assert_eq!(alert["bundle"], Value::from(second.as_str()));

    let shown = model(&stream, &["show", "rig"]);
    assert!(
        shown.contains("tests      passed") && shown.contains("level shift"),
        "{shown}"
    );
    assert!(model(&stream, &["diff", "rig", &first]).contains("training data until"));
    model(&stream, &["rollback", "rig"]);
    assert_eq!(live(&stream), first);
    daemon.await_metric("outlierd_bundle_info", &first, 1.0);
    assert!(model(&stream, &["history", "rig"]).contains("rolled back by hand"));
    daemon.stop();
}
