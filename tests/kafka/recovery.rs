//! What goes wrong around the daemon: each ends in service restored, or in one clear error with the
//! way out.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::own_broker::OwnBroker;
use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{Daemon, OUTLIERD, produce, wait_for};

/// Lines that a daemon may log while it cannot do its work: it must not retry at full speed.
const QUIET_LINES: usize = 150;

/// How long a broker is away, if the lane does not give up before.
const OUTAGE: Duration = Duration::from_secs(100);

fn run_to_its_end(stream: &Stream) -> (Option<i32>, String) {
    let out = Command::new(OUTLIERD)
        .args(["run", "--config"])
        .arg(&stream.config)
        .output()
        .unwrap();
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

fn cut_in_half(folder: &Path) {
    let db = fs::OpenOptions::new()
        .write(true)
        .open(folder.join("db"))
        .unwrap();
    db.set_len(db.metadata().unwrap().len() / 2).unwrap();
}

fn overwrite_the_middle(folder: &Path) {
    let path = folder.join("db");
    let mut bytes = fs::read(&path).unwrap();
    let (from, until) = (bytes.len() / 4, bytes.len() / 2);
    bytes[from..until].iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(path, bytes).unwrap();
}

fn break_the_header(folder: &Path) {
    fs::write(folder.join("conf"), b"not a sled configuration").unwrap();
}

#[test]
fn a_damaged_state_folder_is_made_good_from_the_changelog() {
    let stream = Stream::delivered("damaged", "exactly_once");
    let records = records();
    let damages: [fn(&Path); 3] = [cut_in_half, overwrite_the_middle, break_the_header];
    let (mut from, folder) = (0, stream.folder.path().join("state"));
    for (number, damage) in damages.into_iter().enumerate() {
        let until = TRAIN + 100 * (number + 1);
        stream.send(&records[from..until]);
        let mut daemon = Daemon::start(&stream.config, &format!("daemon-{number}"));
        stream.await_scores(until);
        daemon.stop();
        damage(&folder);
        from = until;
    }
    stream.send(&records[from..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    let total = stream.assert_same_as_replay(&records);
    for metric in [
        "outlierd_state_set_aside_total",
        "outlierd_restored_states_total",
    ] {
        let value = daemon.metric(metric, "");
        assert!(value > 0.0, "{metric}: {}", daemon.log());
    }
    daemon.stop();
    assert_eq!(
        stream.alerts().0.len(),
        total,
        "no alert is published twice"
    );
}

#[test]
fn a_full_disk_ends_the_daemon_and_a_freed_one_goes_on() {
    let stream = Stream::delivered("full", "exactly_once");
    let records = records();
    stream.send(&records[..TRAIN + 10]);
    let mut daemon = Daemon::start(&stream.config, "daemon-learns");
    stream.await_scores(TRAIN + 10);
    daemon.stop();
    // No file may grow beyond what the largest has now: writing fails as on a full disk.
    let largest = fs::read_dir(stream.folder.path().join("state")).unwrap();
    let largest = largest
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .max()
        .unwrap();
    let mut command = Command::new("bash");
    let script = format!(
        "trap '' XFSZ; ulimit -f {}; exec \"$@\"",
        largest.div_ceil(1024)
    );
    command
        .args(["-c", &script, "bash", OUTLIERD, "run", "--config"])
        .arg(&stream.config);
    let mut full = Daemon::spawn(command, stream.folder.path().join("full.log"));
    // The states of so many series find no room.
    let mut all = records[..TRAIN + 10].to_vec();
    all.extend(
        (0..4_000)
            .map(|number| records[TRAIN + 10].replace("\"valve\"", &format!("\"rig-{number}\""))),
    );
    stream.send(&all[TRAIN + 10..]);
    assert_eq!(full.wait(), 1, "{}", full.log());
    let log = full.log();
    // It stops for a reason that is neither the user's nor a bug.
    assert!(log.contains("domain=\"external\""), "{log}");
    assert!(log.contains("free or repair its disk and restart"), "{log}");
    assert!(log.lines().count() < QUIET_LINES, "{log}");
    stream.send(&records[TRAIN + 10..]);
    all.extend_from_slice(&records[TRAIN + 10..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    let total = stream.assert_same_as_replay(&all);
    daemon.stop();
    assert_eq!(
        stream.alerts().0.len(),
        total,
        "no alert is published twice"
    );
}

#[test]
fn a_missing_or_corrupt_bundle_ends_the_start() {
    let stream = Stream::delivered("bundle", "exactly_once");
    // Nobody else has it: a shared one is fetched again.
    let text = fs::read_to_string(&stream.config).unwrap();
    fs::write(
        &stream.config,
        text.replace(
            &format!("bundles = \"{}.bundles\"", stream.topic),
            "bundles = \"\"",
        ),
    )
    .unwrap();
    let records = records();
    stream.send(&records[..TRAIN + 10]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(TRAIN + 10);
    daemon.stop();
    let models = stream.folder.path().join("models/rig");
    let id = fs::read_to_string(models.join("current"))
        .unwrap()
        .trim()
        .to_owned();
    let weights = models.join(&id).join("weights.safetensors");
    let bytes = fs::read(&weights).unwrap();

    let mut bad = bytes.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    fs::write(&weights, bad).unwrap();
    let (code, log) = run_to_its_end(&stream);
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("weights.safetensors") && log.contains("outlierd model"),
        "{log}"
    );

    let aside = stream.folder.path().join("aside");
    fs::rename(models.join(&id), &aside).unwrap();
    let (code, log) = run_to_its_end(&stream);
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains(&id[..16]) && log.contains("outlierd model"),
        "{log}"
    );

    fs::rename(&aside, models.join(&id)).unwrap();
    fs::write(&weights, bytes).unwrap();
    stream.send(&records[TRAIN + 10..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    stream.assert_same_as_replay(&records);
    daemon.stop();
}

#[test]
fn a_broker_that_is_away_is_waited_for() {
    let broker = OwnBroker::start();
    let stream = Stream::on(&broker.address(), "away", "exactly_once");
    let records = records();
    stream.send(&records[..TRAIN + 100]);
    broker.stop();
    let rarely = ["--set", "streams.rig.input.commit_interval=20s"];
    let mut daemon = Daemon::start_with(&stream.config, "daemon", &rarely);
    // Before it serves metrics.
    let tries = |daemon: &Daemon| daemon.log().matches(" retry_s=").count();
    wait_for("two tries at the start", || {
        (tries(&daemon) >= 2).then_some(())
    });
    broker.start_again();
    stream.await_scores(TRAIN + 100);
    // With results that are not committed, and for so long that the lane gives them up and starts
    // anew.
    stream.send(&records[TRAIN + 100..TRAIN + 150]);
    let (before, left) = (daemon.log().lines().count(), Instant::now());
    broker.stop();
    let gave_up = |daemon: &Daemon| daemon.metric("outlierd_lane_restarts_total", "") > 0.0;
    wait_for("the lane's restart", || {
        (gave_up(&daemon) || left.elapsed() > OUTAGE).then_some(())
    });
    let lines = daemon.log().lines().count() - before;
    assert!(
        lines < QUIET_LINES,
        "{lines} lines while the broker was away: {}",
        daemon.log()
    );
    broker.start_again();
    stream.send(&records[TRAIN + 150..]);
    let total = stream.assert_same_as_replay(&records);
    daemon.stop();
    assert_eq!(
        stream.alerts().0.len(),
        total,
        "no alert is published twice"
    );
}

#[test]
fn an_unreadable_changelog_entry_is_said_and_the_others_hold() {
    let stream = Stream::delivered("entry", "exactly_once");
    let records = records();
    stream.send(&records[..TRAIN + 100]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(TRAIN + 100);
    daemon.stop();
    fs::remove_dir_all(stream.folder.path().join("state")).unwrap();
    let states = format!("{}.states", stream.topic);
    produce(
        &stream.broker,
        &states,
        b"\xff\xfe\tno name\n",
        &["-K", "\t"],
    );
    produce(
        &stream.broker,
        &states,
        b"somebody\tno state\n",
        &["-K", "\t"],
    );
    stream.send(&[records[TRAIN + 100].replace("\"valve\"", "\"somebody\"")]);
    stream.send(&records[TRAIN + 100..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    stream.await_scores(records.len() + 1);
    let (expected, _) = stream.replay(&records);
    // The entry for somebody is one more record in the topic, so that positions differ.
    let events = |alerts: &[serde_json::Value]| -> Vec<(String, String, String)> {
        let of = |a: &serde_json::Value| ["series", "time", "event"].map(|key| a[key].to_string());
        alerts
            .iter()
            .map(of)
            .map(|[series, time, event]| (series, time, event))
            .collect()
    };
    assert_eq!(events(&stream.alerts().0), events(&expected));
    let metrics = [
        "outlierd_changelog_skipped_total",
        "outlierd_state_unreadable_total",
    ];
    let counted = metrics.map(|metric| daemon.metric(metric, ""));
    assert_eq!(counted, [1.0, 1.0], "{}", daemon.log());
    daemon.stop();
    let log = daemon.log();
    assert!(log.contains("series=\"somebody\""), "{log}");
}
