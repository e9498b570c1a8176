//! The alert of a detector that would catch nothing any more.

use std::fs;

use serde_json::Value;

use crate::support::stream::{Stream, TRAIN, steady};
use crate::support::{Daemon, wait_for};

const RIGS: [&str; 4] = ["a", "b", "c", "d"];

/// Records of all rigs, one of each a second.
fn records(seconds: std::ops::Range<usize>) -> Vec<String> {
    let of = |rig: &str, i: usize| steady(i, 0.0).replace("\"valve\"", &format!("\"{rig}\""));
    seconds
        .flat_map(|i| RIGS.iter().map(move |rig| of(rig, i)))
        .collect()
}

fn degraded(stream: &Stream) -> Vec<(Value, Value)> {
    let alerts = stream.read("alerts").into_iter();
    alerts
        .map(|read| serde_json::from_slice::<Value>(&read.value.unwrap()).unwrap())
        .filter(|alert| alert["kind"] == "detector_degraded")
        .map(|mut alert| (alert["event"].take(), alert["id"].take()))
        .collect()
}

#[test]
fn a_blind_detector_is_announced_once_whatever_is_killed() {
    let stream = Stream::delivered("detector_degraded", "exactly_once");
    let sighted = fs::read_to_string(&stream.config).unwrap()
        + "retrain = { guard = \"20s\", records = 2000, on_drift = false, every = \"0s\", self_test = \"1m\" }\n";
    let no_alert_ever = "threshold = { kind = \"quantile\", margin = 1000 }\n";
    fs::write(&stream.config, sighted + no_alert_ever).unwrap();
    let mut sent = TRAIN / RIGS.len() + 600;
    stream.send(&records(0..sent));
    let mut daemon = Daemon::start(&stream.config, "detector_degraded");
    stream.await_scores(sent * RIGS.len());
    // The self-test tries states as they are stored, which follows every few seconds: a minute
    // later by the records.
    let mut next = |daemon: &Daemon| {
        assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
        stream.send(&records(sent..sent + 61));
        sent += 61;
        stream.await_scores(sent * RIGS.len());
    };
    let open = wait_for("the alert", || {
        next(&daemon);
        degraded(&stream).pop()
    });
    assert_eq!(open.0, "open");
    for number in 0..2 {
        daemon.signal("KILL");
        daemon.wait();
        daemon = Daemon::start(&stream.config, &format!("blind-{number}"));
        next(&daemon);
        next(&daemon);
    }
    assert_eq!(
        degraded(&stream),
        std::slice::from_ref(&open),
        "it is open already"
    );
    daemon.signal("KILL");
    daemon.wait();
}
