//! The input topic and the group's offsets change behind the daemon's back: it says so, and never skips
//! or repeats a record without a word.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::stream::{Stream, TRAIN, records};
use crate::support::topics::{
    add_partitions, delete_group, delete_records, delete_topic, set_offset,
};
use crate::support::{Daemon, Read, create_topic, wait_for};

/// Finds changes of a topic quickly.
const QUICK: [&str; 2] = [
    "--set",
    "kafka.consumer={\"topic.metadata.refresh.interval.ms\"=1000}",
];

/// Longer than the brokers wait for records before they answer a consumer.
const FETCH_WAIT: Duration = Duration::from_secs(1);

const CHANGES: &str = "outlierd_position_changes_total";

/// Series, time, event and kind of alerts: their positions and ids depend on the offsets of the records.
fn events(alerts: &[Value]) -> Vec<[String; 4]> {
    let of = |alert: &Value| ["series", "time", "event", "kind"].map(|key| alert[key].to_string());
    alerts.iter().map(of).collect()
}

/// Every record is scored once, and with the states of all records before it: the alerts are those of
/// one replay.
fn assert_scored_once(stream: &Stream, records: &[String]) {
    stream.await_count(records.len());
    let (expected, _) = stream.replay(records);
    assert!(!expected.is_empty());
    let (alerts, total) = stream.alerts();
    assert_eq!(events(&alerts), events(&expected));
    assert_eq!(total, expected.len(), "no alert is published twice");
    assert!(stream.read("dead").is_empty());
}

fn assert_changed(daemon: &Daemon, cause: &str, message: &str) {
    let label = format!("cause=\"{cause}\"");
    assert_eq!(daemon.metric(CHANGES, &label), 1.0, "{}", daemon.log());
    assert_eq!(daemon.metric(CHANGES, ""), 1.0, "{}", daemon.log());
    assert!(daemon.log().contains(message), "{}", daemon.log());
}

fn recreate(stream: &Stream) {
    delete_topic(&stream.broker, &stream.topic);
    create_topic(&stream.broker, &stream.topic, 1);
}

#[test]
fn a_topic_that_is_created_again_while_the_daemon_is_down_is_read_from_its_beginning() {
    // The new topic is longer than the position, or shorter.
    for (name, delivery, until) in [
        ("longer", "exactly_once", TRAIN + 50),
        ("shorter", "exactly_once", TRAIN + 400),
        ("longer-alo", "at_least_once", TRAIN + 50),
    ] {
        let stream = Stream::delivered(name, delivery);
        let records = records();
        stream.send(&records[..until]);
        let mut daemon = Daemon::start(&stream.config, "daemon");
        stream.await_scores(until);
        daemon.stop();
        recreate(&stream);
        stream.send(&records[until..]);
        let mut daemon = Daemon::start(&stream.config, "daemon-last");
        assert_scored_once(&stream, &records);
        assert_changed(&daemon, "topic_replaced", "deleted and created again");
        daemon.stop();
    }
}

#[test]
fn a_topic_that_is_created_again_while_the_daemon_runs_is_read_from_its_beginning() {
    // The new topic ends before the position.
    let stream = Stream::delivered("runs-shorter", "exactly_once");
    let (records, until) = (records(), TRAIN + 400);
    stream.send(&records[..until]);
    let mut daemon = Daemon::start_with(&stream.config, "daemon", &QUICK);
    stream.await_scores(until);
    recreate(&stream);
    stream.send(&records[until..]);
    assert_scored_once(&stream, &records);
    assert_changed(&daemon, "topic_replaced", "deleted and created again");
    daemon.stop();
}

#[test]
fn a_longer_topic_that_is_created_again_while_the_daemon_runs_is_found() {
    for delivery in ["exactly_once", "at_least_once"] {
        let stream = Stream::delivered("runs-longer", delivery);
        let (records, until) = (records(), TRAIN + 50);
        stream.send(&records[..until]);
        let mut daemon = Daemon::start_with(&stream.config, "daemon", &QUICK);
        stream.await_scores(until);
        // So quickly that librdkafka may continue at the old offset, and the lane does too.
        recreate(&stream);
        stream.send(&records[until..]);
        let scored = || {
            let scores = stream.read("scores").into_iter();
            let time = |read: Read| {
                let score: Value = serde_json::from_slice(&read.value.unwrap()).unwrap();
                score["time"].to_string()
            };
            scores.map(time).collect::<BTreeSet<_>>()
        };
        wait_for("every record to be scored", || {
            (scored().len() == records.len()).then_some(())
        });
        assert_changed(&daemon, "topic_replaced", "deleted and created again");
        assert!(stream.read("dead").is_empty(), "none is late");
        daemon.stop();
        let mut daemon = Daemon::start(&stream.config, "daemon-last");
        daemon.await_metric("outlierd_partitions", "", 1.0);
        assert_eq!(daemon.metric(CHANGES, ""), 0.0, "{}", daemon.log());
        daemon.stop();
    }
}

#[test]
fn offsets_that_an_operator_sets_are_followed() {
    for delivery in ["exactly_once", "at_least_once"] {
        let stream = Stream::delivered("reset", delivery);
        let records = records();
        let until = TRAIN + 200;
        stream.send(&records[..until]);
        let mut daemon = Daemon::start(&stream.config, "daemon");
        stream.await_scores(until);
        daemon.stop();

        set_offset(
            &stream.broker,
            &stream.topic,
            &stream.topic,
            until as i64 - 150,
        );
        stream.send(&records[until..until + 50]);
        let mut daemon = Daemon::start(&stream.config, "daemon-back");
        stream.await_count(until + 200);
        assert_changed(&daemon, "offsets_reset", "set back");
        assert!(daemon.log().contains(" records=150"), "{}", daemon.log());
        assert!(stream.read("dead").is_empty(), "none is late");
        // From the second on it is the usual position.
        daemon.stop();
        let mut daemon = Daemon::start(&stream.config, "daemon-usual");
        stream.send(&records[until + 50..until + 60]);
        stream.await_count(until + 210);
        assert_eq!(daemon.metric(CHANGES, ""), 0.0, "{}", daemon.log());
        daemon.stop();

        set_offset(
            &stream.broker,
            &stream.topic,
            &stream.topic,
            until as i64 + 100,
        );
        stream.send(&records[until + 60..until + 110]);
        let mut daemon = Daemon::start(&stream.config, "daemon-forward");
        stream.await_count(until + 220);
        assert_changed(&daemon, "offsets_reset", "set forward");
        assert!(daemon.log().contains(" records=40"), "{}", daemon.log());
        daemon.stop();
    }
}

#[test]
fn a_deleted_group_and_a_lost_machine_score_nothing_twice() {
    for lost in [true, false] {
        let stream = Stream::delivered("group", "exactly_once");
        let records = records();
        let until = TRAIN + 350;
        stream.send(&records[..until]);
        let mut daemon = Daemon::start(&stream.config, "daemon");
        stream.await_scores(until);
        daemon.stop();
        delete_group(&stream.broker, &stream.topic);
        if lost {
            fs::remove_dir_all(stream.folder.path().join("state")).unwrap();
        }
        stream.send(&records[until..]);
        let mut daemon = Daemon::start(&stream.config, "daemon-last");
        assert_scored_once(&stream, &records);
        assert_changed(&daemon, "group_offset_missing", "no committed offset");
        daemon.stop();
    }
}

#[test]
fn records_that_were_deleted_before_they_were_read_are_counted() {
    for delivery in ["exactly_once", "at_least_once"] {
        let stream = Stream::delivered("retention", delivery);
        let records = records();
        stream.send(&records[..TRAIN + 50]);
        let mut daemon = Daemon::start(&stream.config, "daemon");
        stream.await_scores(TRAIN + 50);
        daemon.stop();
        stream.send(&records[TRAIN + 50..TRAIN + 150]);
        delete_records(&stream.broker, &stream.topic, TRAIN as i64 + 90);
        let mut daemon = Daemon::start(&stream.config, "daemon-down");
        stream.await_count(TRAIN + 110);
        assert_changed(&daemon, "records_lost", "deleted before outlierd read them");
        assert_eq!(daemon.metric("outlierd_records_lost_total", ""), 40.0);

        // While it runs and is slow: it asks for nothing, and what it asked for has been answered.
        daemon.signal("STOP");
        std::thread::sleep(FETCH_WAIT);
        stream.send(&records[TRAIN + 150..TRAIN + 250]);
        delete_records(&stream.broker, &stream.topic, TRAIN as i64 + 180);
        daemon.signal("CONT");
        daemon.await_metric("outlierd_records_lost_total", "", 70.0);
        stream.await_count(TRAIN + 180);
        daemon.stop();
    }
}

#[test]
fn partitions_that_are_added_are_read_from_their_first_record() {
    for delivery in ["exactly_once", "at_least_once"] {
        let stream = Stream::delivered("added", delivery);
        let text = fs::read_to_string(&stream.config).unwrap();
        let latest = text.replace("input = {", "input = { start = \"latest\",");
        fs::write(&stream.config, latest).unwrap();
        let records = records();
        let other = |range: std::ops::Range<usize>| -> Vec<String> {
            let of = |text: &String| text.replace("\"valve\"", "\"pump\"");
            records[range].iter().map(of).collect()
        };
        // Before the first start: not to be read.
        stream.send(&records[..5]);
        let mut daemon = Daemon::start_with(&stream.config, "daemon", &QUICK);
        daemon.await_metric("outlierd_partitions", "", 1.0);
        stream.send(&records[5..TRAIN + 50]);
        stream.await_count(TRAIN + 45);
        add_partitions(&stream.broker, &stream.topic, 2);
        stream.send_to(1, &other(0..20));
        stream.send_to(0, &records[TRAIN + 50..TRAIN + 60]);
        stream.await_count(TRAIN + 75);
        daemon.stop();
        add_partitions(&stream.broker, &stream.topic, 3);
        stream.send_to(2, &other(20..30));
        stream.send_to(1, &other(20..40));
        let mut daemon = Daemon::start_with(&stream.config, "daemon-last", &QUICK);
        stream.await_count(TRAIN + 105);
        assert_eq!(daemon.metric(CHANGES, ""), 0.0, "{}", daemon.log());
        daemon.stop();
    }
}

#[test]
fn a_partition_that_got_no_record_yet_is_read_from_where_the_stream_was_first_started() {
    let stream = Stream::partitioned("idle", "exactly_once", 2);
    let text = fs::read_to_string(&stream.config).unwrap();
    let latest = text.replace("input = {", "input = { start = \"latest\",");
    fs::write(&stream.config, latest).unwrap();
    let records = records();
    stream.send_to(1, &records[..10]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    daemon.await_metric("outlierd_partitions", "", 2.0);
    daemon.await_metric("outlierd_commits_total", "", 1.0);
    stream.send_to(0, &records[..TRAIN]);
    stream.await_count(TRAIN);
    daemon.stop();
    // Written while the daemon is down.
    stream.send_to(1, &records[10..30]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    stream.await_count(TRAIN + 20);
    daemon.stop();
}
