//! The changelog is lost: the states of the state folder are written to it again, nothing is scored twice,
//! and what cannot be restored is reported.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::stream::{Stream, TRAIN, records};
use crate::support::topics::{add_partitions, delete_topic, partitions};
use crate::support::{Daemon, create_topic, wait_for};

const LOST: &str = "outlierd_changelog_lost_total";

fn lose_machine(stream: &Stream) {
    fs::remove_dir_all(stream.folder.path().join("state")).unwrap();
}

#[test]
fn a_changelog_that_is_deleted_is_filled_again_from_the_state_folder() {
    // Deleted while the daemon is down, and its store is behind; or while it runs.
    for while_down in [true, false] {
        let stream = Stream::delivered("changelog", "exactly_once");
        let states = format!("{}.states", stream.topic);
        let records = records();
        let until = TRAIN + 250;
        stream.send(&records[..until]);
        let mut daemon = Daemon::start(&stream.config, "daemon");
        stream.await_scores(until);
        if while_down {
            daemon.signal("KILL");
            daemon.wait();
        }
        delete_topic(&stream.broker, &states);
        stream.send(&records[until..until + 200]);
        if while_down {
            daemon = Daemon::start(&stream.config, "daemon-again");
        }
        stream.await_scores(until + 200);
        assert_eq!(daemon.metric(LOST, ""), 1.0, "{}", daemon.log());
        let log = daemon.log();
        assert!(log.contains("the changelog has lost entries"), "{log}");
        daemon.stop();
        // All that there is of the states is in the new changelog.
        lose_machine(&stream);
        stream.send(&records[until + 200..]);
        let mut daemon = Daemon::start(&stream.config, "daemon-last");
        let total = stream.assert_same_as_replay(&records);
        assert_eq!(daemon.metric(LOST, ""), 0.0, "{}", daemon.log());
        daemon.stop();
        assert_eq!(stream.count_scores(), records.len(), "no record twice");
        assert_eq!(stream.alerts().0.len(), total, "no alert twice");
    }
}

#[test]
fn a_changelog_that_somebody_creates_again_while_the_daemon_runs_is_found() {
    let stream = Stream::delivered("creates", "exactly_once");
    let states = format!("{}.states", stream.topic);
    let records = records();
    let until = TRAIN + 250;
    stream.send(&records[..until]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(until);
    delete_topic(&stream.broker, &states);
    // As brokers do that create topics: not compacted.
    create_topic(&stream.broker, &states, 1);
    stream.send(&records[until..until + 200]);
    stream.await_scores(until + 200);
    assert_eq!(daemon.metric(LOST, ""), 1.0, "{}", daemon.log());
    let uncompacted = daemon.metric("outlierd_changelog_not_compacted_total", "");
    assert_eq!(uncompacted, 1.0, "{}", daemon.log());
    assert!(daemon.log().contains("cleanup.policy=compact"));
    daemon.signal("KILL");
    daemon.wait();
    lose_machine(&stream);
    stream.send(&records[until + 200..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    stream.assert_same_as_replay(&records);
    assert_eq!(daemon.metric(LOST, ""), 0.0, "{}", daemon.log());
    daemon.stop();
    assert_eq!(stream.count_scores(), records.len(), "no record twice");
}

#[test]
fn states_that_are_nowhere_any_more_are_reported() {
    let stream = Stream::delivered("nowhere", "exactly_once");
    let states = format!("{}.states", stream.topic);
    let records = records();
    let until = TRAIN + 100;
    stream.send(&records[..until]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(until);
    daemon.stop();
    lose_machine(&stream);
    delete_topic(&stream.broker, &states);
    create_topic(&stream.broker, &states, 1);
    stream.send(&records[until..until + 10]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    stream.await_count(until + 10);
    assert_eq!(daemon.metric(LOST, ""), 1.0, "{}", daemon.log());
    let log = daemon.log();
    assert!(
        log.contains("ERROR") && log.contains("its series begin again"),
        "{log}"
    );
    daemon.stop();
}

#[test]
fn the_changelog_gets_the_partitions_of_its_input() {
    let stream = Stream::delivered("extended", "exactly_once");
    let states = format!("{}.states", stream.topic);
    stream.send(&records()[..TRAIN]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_count(TRAIN);
    daemon.stop();
    add_partitions(&stream.broker, &stream.topic, 4);
    let forbidden = ["--set", "kafka.create_topics=false"];
    let mut daemon = Daemon::start_with(&stream.config, "daemon-forbidden", &forbidden);
    assert_eq!(daemon.wait(), 1, "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("--partitions 4"), "{log}");
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    daemon.await_metric("outlierd_partitions", "", 4.0);
    assert_eq!(partitions(&stream.broker, &states), 4);
    daemon.stop();
}

/// The same stream on another machine, which gets the bundle from the shared topics.
fn second_machine(stream: &Stream) -> PathBuf {
    let folder = stream.folder.path().join("second");
    fs::create_dir(&folder).unwrap();
    let text = fs::read_to_string(&stream.config).unwrap();
    let path = format!("{}/", stream.folder.path().display());
    let config = folder.join("outlierd.toml");
    let text = text.replace(&path, &format!("{}/", folder.display()));
    fs::write(&config, text).unwrap();
    config
}

#[test]
fn another_instance_fills_the_changelog_with_the_states_that_it_has() {
    let stream = Stream::delivered("elsewhere", "exactly_once");
    let states = format!("{}.states", stream.topic);
    let records = records();
    let until = TRAIN + 250;
    stream.send(&records[..until]);
    let mut first = Daemon::start(&stream.config, "daemon");
    stream.await_scores(until);
    first.stop();
    delete_topic(&stream.broker, &states);
    stream.send(&records[until..until + 100]);
    // The partition goes to an instance without any state, and stays there.
    let mut second = Daemon::start(&second_machine(&stream), "second");
    wait_for("the second instance to wait", || {
        let page = second.page("/readyz")?;
        (page.contains(" 503 ") && page.contains("has lost the states")).then_some(())
    });
    assert_eq!(
        stream.count_scores(),
        until,
        "nothing is scored without them"
    );
    let mut first = Daemon::start(&stream.config, "daemon-again");
    stream.await_scores(until + 100);
    assert!(
        first.log().contains("the changelog was empty"),
        "{}",
        first.log()
    );
    stream.send(&records[until + 100..]);
    let total = stream.assert_same_as_replay(&records);
    assert_eq!(second.metric(LOST, "") + first.metric(LOST, ""), 1.0);
    second.stop();
    first.stop();
    assert_eq!(stream.count_scores(), records.len(), "no record twice");
    assert_eq!(stream.alerts().0.len(), total, "no alert twice");
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Sends records, and appends them to those that were sent before.
fn send_more(stream: &Stream, sent: &mut Vec<String>, more: &[String]) {
    stream.send(more);
    sent.extend_from_slice(more);
}

#[test]
fn states_that_are_older_than_a_filled_changelog_are_all_replaced() {
    let stream = Stream::delivered("filled", "exactly_once");
    let states = format!("{}.states", stream.topic);
    let valve = records();
    let other: Vec<String> = valve.iter().map(|r| r.replace("valve", "other")).collect();
    let [now, old] = ["state", "old"].map(|name| stream.folder.path().join(name));
    let mut sent = Vec::new();
    send_more(&stream, &mut sent, &valve[..TRAIN]);
    send_more(&stream, &mut sent, &other[..60]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(sent.len());
    daemon.stop();
    copy(&now, &old);
    let entries = stream.read("states").len();
    send_more(&stream, &mut sent, &other[60..120]);
    let mut daemon = Daemon::start(&stream.config, "daemon-again");
    stream.await_scores(sent.len());
    daemon.stop();
    delete_topic(&stream.broker, &states);
    // The new changelog becomes longer than the old one was, and only its beginning has the other series.
    let mut daemon = Daemon::start(&stream.config, "daemon-filled");
    for of_valve in valve[TRAIN..].chunks(10).take(60) {
        send_more(&stream, &mut sent, of_valve);
        stream.await_scores(sent.len());
        if stream.read("states").len() > 3 * entries {
            break;
        }
    }
    assert!(stream.read("states").len() > 2 * entries, "{entries}");
    assert_eq!(daemon.metric(LOST, ""), 1.0, "{}", daemon.log());
    daemon.stop();
    fs::remove_dir_all(&now).unwrap();
    copy(&old, &now);
    send_more(&stream, &mut sent, &other[120..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    stream.assert_same_as_replay(&sent);
    daemon.stop();
    assert_eq!(stream.count_scores(), sent.len(), "no record twice");
}
