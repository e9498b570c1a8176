//! Upgrades with two processes: forward, back, and rolling. No alert is lost or published twice.
//!
//! `OUTLIERD_TEST_OLDER=FILE` names an executable of the release before, of state format 7. Without
//! it this one stands in for it, told to write that format.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::daemon::get;
use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{Daemon, OUTLIERD, wait_for};

/// The format of the release before, and what makes this release write it.
const OLDER: u8 = 7;
const WRITES_OLDER: &str = "service.state_format=7";
/// The format of this release.
const NEWER: u8 = 8;

/// A daemon of the release before, with a state folder and models of its own.
fn start_older(stream: &Stream, machine: &str) -> Daemon {
    match std::env::var("OUTLIERD_TEST_OLDER") {
        Ok(executable) => start(stream, &executable, machine, &[]),
        Err(_) => start(stream, OUTLIERD, machine, &[WRITES_OLDER]),
    }
}

/// A daemon of this release, on the machine of that name.
fn start_newer(stream: &Stream, machine: &str, set: &[&str]) -> Daemon {
    start(stream, OUTLIERD, machine, set)
}

fn start(stream: &Stream, executable: &str, machine: &str, set: &[&str]) -> Daemon {
    let folder = stream.folder.path().join(machine);
    let mut command = Command::new(executable);
    command.args(["run", "--config"]).arg(&stream.config);
    for (key, name) in [("state_dir", "state"), ("model_dir", "models")] {
        let path = folder.join(name);
        let value = format!("service.{key}={}", path.display());
        command.args(["--set", &value]);
    }
    for set in set {
        command.args(["--set", set]);
    }
    // Each start has a log of its own.
    fs::create_dir_all(&folder).unwrap();
    let number = fs::read_dir(&folder).unwrap().count();
    Daemon::spawn(command, folder.join(format!("{number}.log")))
}

/// The newest state of each series in the changelog, by its name.
fn states(stream: &Stream) -> BTreeMap<String, Vec<u8>> {
    let mut states = BTreeMap::new();
    for read in stream.read("states") {
        let is_note = read.key.starts_with('\u{fffd}');
        if let Some(value) = read.value.filter(|_| !is_note) {
            states.insert(read.key, value);
        }
    }
    states
}

fn assert_format(stream: &Stream, format: u8) {
    let found = states(stream);
    let formats: BTreeMap<&String, u8> = found.iter().map(|(key, bytes)| (key, bytes[0])).collect();
    assert!(!formats.is_empty());
    assert!(
        formats.values().all(|found| *found == format),
        "{formats:?}"
    );
}

/// Waits until the lane of a daemon owns the one partition.
fn await_owner(daemon: &Daemon) {
    wait_for("the partition", || {
        daemon.page("/status")?;
        let lane = &get(daemon, "/status").1[0]["lanes"][0];
        (lane["partitions"].as_u64() == Some(1)).then_some(())
    });
}

/// Records of another series at the beginning, which sends nothing after that.
fn with_idle(records: &[String]) -> Vec<String> {
    let idle = records[..20]
        .iter()
        .map(|record| record.replace("\"valve\"", "\"idle\""));
    let mut all: Vec<String> = records[..TRAIN].to_vec();
    all.extend(idle);
    all.extend_from_slice(&records[TRAIN..]);
    all
}

#[test]
fn an_upgrade_takes_up_the_states_of_the_release_before() {
    for keeps_state in [true, false] {
        let stream = Stream::delivered("forward", "exactly_once");
        let records = with_idle(&records());
        stream.send(&records[..TRAIN + 150]);
        let mut older = start_older(&stream, "a");
        stream.await_scores(TRAIN + 150);
        older.signal("KILL");
        older.wait();
        assert_format(&stream, OLDER);
        if !keeps_state {
            fs::remove_dir_all(stream.folder.path().join("a/state")).unwrap();
        }
        stream.send(&records[TRAIN + 150..]);
        let mut newer = start_newer(&stream, "a", &[]);
        let total = stream.assert_same_as_replay(&records);
        newer.stop();
        assert_eq!(
            stream.alerts().0.len(),
            total,
            "no alert is published twice"
        );
        // The idle series too: the release after this one reads nothing older.
        assert_format(&stream, NEWER);
        assert_eq!(states(&stream).len(), 2);
    }
}

#[test]
fn an_upgrade_is_undone_once_the_states_are_in_the_format_before() {
    let stream = Stream::delivered("back", "exactly_once");
    let records = with_idle(&records());
    stream.send(&records[..TRAIN + 150]);
    let mut newer = start_newer(&stream, "a", &[]);
    stream.await_scores(TRAIN + 150);
    newer.stop();
    assert_format(&stream, NEWER);
    let mut newer = start_newer(&stream, "a", &[WRITES_OLDER]);
    wait_for("the states in the format before", || {
        let states = states(&stream);
        states.values().all(|state| state[0] == OLDER).then_some(())
    });
    stream.send(&records[TRAIN + 150..TRAIN + 300]);
    stream.await_scores(TRAIN + 300);
    newer.stop();
    assert_format(&stream, OLDER);
    stream.send(&records[TRAIN + 300..]);
    let mut older = start_older(&stream, "a");
    let total = stream.assert_same_as_replay(&records);
    older.stop();
    assert_eq!(
        stream.alerts().0.len(),
        total,
        "no alert is published twice"
    );
}

#[test]
fn a_rolling_upgrade_moves_partitions_between_the_releases_and_loses_nothing() {
    let stream = Stream::delivered("rolling", "exactly_once");
    let records = with_idle(&records());
    let mut sent = 0;
    let mut send_until = |until: usize| {
        stream.send(&records[sent..until]);
        stream.await_scores(until);
        sent = until;
    };
    let mut owner = start_older(&stream, "a");
    await_owner(&owner);
    send_until(TRAIN + 100);
    // The partition goes to the other machine each time that its owner is replaced: to this release
    // while it writes the format before, back to the release before, and so on.
    type Start<'s> = &'s dyn Fn(&str) -> Daemon;
    let older: Start<'_> = &|machine| start_older(&stream, machine);
    let between: Start<'_> = &|machine| start_newer(&stream, machine, &[WRITES_OLDER]);
    let newer: Start<'_> = &|machine| start_newer(&stream, machine, &[]);
    let steps: [(&str, Start<'_>); 6] = [
        ("b", between),
        ("a", older),
        ("b", between),
        ("a", between),
        ("b", newer),
        ("a", newer),
    ];
    for (number, (machine, start)) in steps.into_iter().enumerate() {
        let next = start(machine);
        wait_for("the next machine", || next.page("/status"));
        owner.stop();
        await_owner(&next);
        owner = next;
        send_until(TRAIN + 200 + 100 * number);
        assert_format(&stream, if number < 4 { OLDER } else { NEWER });
    }
    send_until(records.len());
    let total = stream.assert_same_as_replay(&records);
    owner.stop();
    assert_eq!(
        stream.alerts().0.len(),
        total,
        "no alert is published twice"
    );
}

#[test]
fn what_another_release_wrote_is_refused_and_kept() {
    // A newer release, and one before the release before.
    for version in [NEWER + 1, OLDER - 1] {
        for is_note in [false, true] {
            is_refused_and_kept(version, is_note);
        }
    }
}

fn is_refused_and_kept(version: u8, is_note: bool) {
    let stream = Stream::delivered("other", "exactly_once");
    let records = records();
    stream.send(&records[..TRAIN + 10]);
    let mut daemon = start_newer(&stream, "a", &[]);
    stream.await_scores(TRAIN + 10);
    daemon.stop();
    // The key of a note begins with a byte that no text has.
    let key: &[u8] = if is_note { b"\xffposition" } else { b"valve" };
    let newest = || {
        let mut all = stream.read("states");
        all.retain(|read| read.key == String::from_utf8_lossy(key));
        all.pop().unwrap().value.unwrap()
    };
    let other = of_version(version, &newest());
    write_entry(&stream, key, &other);
    let entries = || stream.read("states").len();
    let before = entries();
    fs::remove_dir_all(stream.folder.path().join("a/state")).unwrap();
    // Another series too: nothing of the partition is scored without its notes.
    let other_series = records[TRAIN + 10].replace("\"valve\"", "\"other\"");
    stream.send(&[other_series, records[TRAIN + 11].clone()]);
    let mut daemon = start_newer(&stream, "a", &[]);
    // The error says what to do, and the status page who has to.
    let lane = wait_for("the refusal", || {
        daemon.page("/healthz")?;
        let lane = get(&daemon, "/status").1[0]["lanes"][0].clone();
        lane["failure"].is_string().then_some(lane)
    });
    assert_eq!(lane["domain"], "user", "{lane}");
    let text = lane["failure"].as_str().unwrap();
    let versions =
        format!("it has format version {version}, but this outlierd reads versions 7 to");
    assert!(text.contains(&versions), "{text}");
    assert!(text.contains("docs/upgrading.md"), "{text}");
    let ready = daemon.page("/readyz").unwrap();
    assert!(
        ready.contains("503") && ready.contains("format version"),
        "{ready}"
    );
    daemon.stop();
    assert_eq!(
        stream.scores().len(),
        TRAIN + 10,
        "nothing is scored without its state"
    );
    assert_eq!(newest(), other, "and it is not overwritten");
    assert_eq!(entries(), before, "nothing else is written");
}

/// Writes an entry of the changelog, from a file: any byte may be in it, a delimiter too.
fn write_entry(stream: &Stream, key: &[u8], value: &[u8]) {
    let topic = format!("{}.states", stream.topic);
    let producer: rdkafka::producer::BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &stream.broker)
        .create()
        .unwrap();
    let record = rdkafka::producer::BaseRecord::to(&topic)
        .key(key)
        .payload(value);
    producer.send(record.partition(0)).unwrap();
    rdkafka::producer::Producer::flush(&producer, crate::support::PATIENCE).unwrap();
}

/// The same value with another format version, checksum and all.
fn of_version(version: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = value.to_vec();
    bytes[0] = version;
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[..1]);
    sum.update(&bytes[5..]);
    bytes[1..5].copy_from_slice(&sum.finalize().to_le_bytes());
    bytes
}
