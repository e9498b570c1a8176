//! The daemon on its way from records to alerts, as `outlierd replay` would find them, and what an
//! operator does to it.

use std::fs;
use std::io::Write as _;

use serde_json::Value;

use crate::support::stream::{Stream, TRAIN, records, steady};
use crate::support::{Daemon, OUTLIERD, Read, outlierd, wait_for};

#[test]
fn alerts_from_kafka_are_those_of_replay() {
    let stream = Stream::new("e2e");
    let records = records();
    stream.send(&records);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    let total = stream.assert_same_as_replay(&records);
    daemon.stop();
    assert_eq!(
        stream.alerts().0.len(),
        total,
        "without a crash no alert is published twice"
    );
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
    daemon.stop();
}

#[test]
fn exactly_once_repeats_nothing_however_often_it_is_killed() {
    let stream = Stream::delivered("once", "exactly_once");
    let records = records();
    stream.send(&records);
    let small = [
        "--set",
        "streams.rig.input.batch_records=10",
        "--set",
        "streams.rig.input.batch_wait=1ms",
    ];
    // Each is killed at whatever it does when so many scores are there.
    for (number, scores) in [100, TRAIN + 1, TRAIN + 150, TRAIN + 300, TRAIN + 450]
        .into_iter()
        .enumerate()
    {
        let mut daemon = Daemon::start_with(&stream.config, &format!("daemon-{number}"), &small);
        stream.await_scores(scores);
        daemon.signal("KILL");
        daemon.wait();
    }
    let mut daemon = Daemon::start_with(&stream.config, "daemon-last", &small);
    let total = stream.assert_same_as_replay(&records);
    daemon.stop();
    assert_eq!(
        stream.alerts().0.len(),
        total,
        "no alert is published twice"
    );
    assert_eq!(stream.read("scores").len(), records.len(), "and no score");
}

#[test]
fn windows_survive_kills_whatever_the_kind_and_the_stride() {
    for kind in ["conv", "lstm", "vae"] {
        let stream = Stream::delivered(kind, "exactly_once");
        let mut config = fs::OpenOptions::new()
            .append(true)
            .open(&stream.config)
            .unwrap();
        let model = format!(
            "window = 8\nstride = 2\nmodel = {{ kind = \"{kind}\", hidden = [8], latent = 4 }}\n\
                             threshold = {{ budget = \"20 per series per hour\" }}\n"
        );
        config.write_all(model.as_bytes()).unwrap();
        let records = records();
        stream.send(&records);
        // The window is not at its begin when it dies.
        for (number, scores) in [TRAIN + 101, TRAIN + 302].into_iter().enumerate() {
            let mut daemon = Daemon::start(&stream.config, &format!("daemon-{number}"));
            stream.await_scores(scores);
            daemon.signal("KILL");
            daemon.wait();
        }
        let mut daemon = Daemon::start(&stream.config, "daemon-last");
        let total = stream.assert_same_as_replay(&records);
        daemon.stop();
        assert_eq!(
            stream.alerts().0.len(),
            total,
            "{kind}: no alert is published twice"
        );
    }
}

#[test]
fn another_machine_goes_on_with_the_states_of_a_lost_one() {
    let stream = Stream::delivered("lost", "exactly_once");
    let records = records();
    for (number, until) in [TRAIN + 50, TRAIN + 200, TRAIN + 350]
        .into_iter()
        .enumerate()
    {
        let from = [0, TRAIN + 50, TRAIN + 200][number];
        stream.send(&records[from..until]);
        let mut daemon = Daemon::start(&stream.config, &format!("daemon-{number}"));
        stream.await_scores(until);
        let restored = daemon.metric("outlierd_restored_states_total", "");
        daemon.signal("KILL");
        daemon.wait();
        assert_eq!(restored > 0.0, number > 0, "{}", daemon.log());
        fs::remove_dir_all(stream.folder.path().join("state")).unwrap();
    }
    stream.send(&records[TRAIN + 350..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    let total = stream.assert_same_as_replay(&records);
    daemon.stop();
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
    let huge = format!(
        "{{\"rig\":\"valve\",\"pad\":\"{}\"}}",
        "x".repeat(10_000_000)
    );
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
        let dead = stream.read("dead");
        (dead.len() >= bad.len()).then_some(dead)
    });
    assert_eq!(dead.len(), bad.len());
    for (index, (Read { headers, value, .. }, (line, reason))) in dead.iter().zip(bad).enumerate() {
        assert_eq!(headers["outlierd-reason"], reason);
        assert_eq!(headers["outlierd-offset"], (200 + index).to_string());
        let value = value.as_deref().unwrap_or_default();
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
    let second = std::process::Command::new(OUTLIERD)
        .args(["run", "--config"])
        .arg(&stream.config)
        .output()
        .unwrap();
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
    fs::write(
        &wrong,
        text.replacen(&format!("topic = \"{}\"", stream.topic), &typo, 1),
    )
    .unwrap();
    let out = std::process::Command::new(OUTLIERD)
        .args(["run", "--config"])
        .arg(&wrong)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(
        text.contains("does not exist")
            && text.contains(&format!("did you mean {}?", stream.topic)),
        "{text}"
    );
}

#[test]
fn train_learns_from_a_range_of_the_topic() {
    let stream = Stream::new("train");
    let records = records();
    stream.send(&records[..TRAIN]);
    // Later records, which the range leaves out: the producer's clock is this one, in whole
    // milliseconds.
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(2);
    wait_for("a later time", || {
        (jiff::Timestamp::now() > until).then_some(())
    });
    let until = until.to_string();
    stream.send(&records[TRAIN..]);
    let config = stream.config.display().to_string();
    let trained = outlierd(&[
        "train",
        "--config",
        &config,
        "--from-topic",
        "--until",
        &until,
    ]);
    let text = String::from_utf8_lossy(&trained.stdout);
    let whole = outlierd(&["train", "--config", &config, "--from-topic", "--no-promote"]);
    let whole = String::from_utf8_lossy(&whole.stdout);
    assert!(
        whole.contains(&format!("{} training records", records.len())),
        "to the topic's end: {whole}"
    );
    assert!(
        text.contains(&format!("{TRAIN} training records")),
        "{text}"
    );
    assert!(text.contains("promoted: stream rig"), "{text}");
    // The daemon starts with that bundle: every record is scored, the first ones too.
    let mut daemon = Daemon::start(&stream.config, "daemon");
    let scores = stream.await_scores(records.len());
    assert!(
        scores.values().all(|score| score["score"].is_number()),
        "nothing is left to learn"
    );
    daemon.stop();
    let nothing = std::process::Command::new(OUTLIERD)
        .args([
            "train",
            "--config",
            &config,
            "--from-topic",
            "--until",
            "2000-01-01T00:00:00Z",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&nothing.stderr);
    assert!(
        !nothing.status.success() && text.contains("no valid record in that range"),
        "{text}"
    );
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
    assert!(
        text.contains("kafka.consumer.\"fetch.wait.max.ms\" is rejected by librdkafka"),
        "{text}"
    );
    assert!(
        text.contains("kafka.producer.\"linger.mss\" is rejected by librdkafka"),
        "{text}"
    );
}

#[test]
fn sighup_takes_over_new_mutes() {
    let stream = Stream::new("reload");
    let records = records();
    stream.send(&records[..TRAIN]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    daemon.await_metric("outlierd_bundle_info", "", 1.0);
    let mut text = fs::read_to_string(&stream.config).unwrap();
    text.push_str("mutes = [{ series = \"*\", from = \"2000-01-01T00:00:00Z\", until = \"2100-01-01T00:00:00Z\", reason = \"test\" }]\n");
    fs::write(&stream.config, text).unwrap();
    daemon.signal("HUP");
    daemon.await_metric("outlierd_config_reloads_total", "outcome=\"applied\"", 1.0);
    stream.send(&records[TRAIN..]);
    let scores = stream.await_scores(records.len());
    assert!(
        scores.values().any(|score| score["verdict"] == "outlier"),
        "there is something to mute"
    );
    assert_eq!(stream.alerts().1, 0);
    daemon.stop();
}

#[test]
fn a_new_stream_warms_up_on_its_history_and_publishes_nothing_of_it() {
    let stream = Stream::delivered("warm", "exactly_once");
    let text = fs::read_to_string(&stream.config).unwrap();
    fs::write(
        &stream.config,
        text.replace(
            "commit_interval",
            "start = \"latest\", warm_up = \"1h\", commit_interval",
        ),
    )
    .unwrap();
    let part = |rows: std::ops::Range<usize>, shift: f64| {
        rows.map(|i| steady(i, shift)).collect::<Vec<_>>()
    };
    let quiet = TRAIN + 600;
    stream.send(&part(0..quiet, 0.0));
    stream.send(&part(quiet..quiet + 60, 3.0));
    stream.send(&part(quiet + 60..quiet + 300, 0.0));
    let mut daemon = Daemon::start(&stream.config, "first");
    stream.await_scores(quiet + 300);
    daemon.stop();
    assert_eq!(
        stream.alerts().0,
        [Value::Null; 0],
        "of what happened before the start"
    );
    let mut daemon = Daemon::start_with(
        &stream.config,
        "again",
        &["--set", "service.http_listen=127.0.0.1:0"],
    );
    stream.send(&part(quiet + 300..quiet + 360, 3.0));
    let alert = wait_for("the alert", || stream.alerts().0.into_iter().next());
    assert_eq!(
        (&alert["event"], &alert["provisional"]),
        (&Value::from("open"), &Value::from(false))
    );
    let (found, status) = get(&daemon, "/series/rig/valve");
    assert!(
        found && status[0]["missing_records"] == 0 && status[0]["gap_s"] == 1.0,
        "{status}"
    );
    assert!(!get(&daemon, "/series/rig/pump").0);
    daemon.stop();
}

/// What the daemon's status page answers.
pub fn get(daemon: &Daemon, path: &str) -> (bool, Value) {
    let text = daemon.page(path).unwrap();
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    (
        text.starts_with("HTTP/1.1 200"),
        serde_json::from_str(body).unwrap_or_default(),
    )
}
