//! Configuration, bundle and stored state that do not agree: what runs keeps running, and a start
//! that cannot score ends with an error that says what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{Daemon, OUTLIERD, produce, wait_for};

/// A stream over windows of eight records.
fn windowed(name: &str) -> (Stream, String) {
    let stream = Stream::delivered(name, "exactly_once");
    let text = fs::read_to_string(&stream.config).unwrap() + "window = 8\n";
    fs::write(&stream.config, &text).unwrap();
    (stream, text)
}

/// The configuration with one field more.
fn with_one_field_more(text: &str) -> String {
    let more = "{ name = \"extra\", path = \"sensors.extra\" }, { name = \"flow\"";
    text.replace("{ name = \"flow\"", more)
}

/// The same with one field less.
fn with_one_field_less(text: &str) -> String {
    text.replace(", { name = \"flow\", path = \"sensors.flow\" }", "")
}

/// Runs `outlierd` until it ends: its exit code, and what it logged.
fn run(args: &[&str], config: &Path) -> (Option<i32>, String) {
    let out = Command::new(OUTLIERD)
        .args(args)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code(), text)
}

fn await_reloads(daemon: &Daemon, count: usize) {
    daemon.await_metric(
        "outlierd_config_reloads_total",
        "outcome=\"applied\"",
        count as f64,
    );
}

#[test]
fn a_reload_puts_no_key_in_force_that_needs_a_restart() {
    let (stream, text) = windowed("reload");
    let records = records();
    stream.send(&records[..TRAIN + 100]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(TRAIN + 100);
    let other = with_one_field_more(&text).replace("window = 8", "window = 4");
    assert_ne!(other, text);
    fs::write(&stream.config, &other).unwrap();
    for (number, until) in [TRAIN + 200, TRAIN + 300].into_iter().enumerate() {
        daemon.signal("HUP");
        await_reloads(&daemon, number + 1);
        stream.send(&records[until - 100..until]);
        stream.await_scores(until);
        // The second time too: outlierd compares with what runs.
        let reported = daemon.log().matches("streams.rig.window").count();
        assert_eq!(reported, number + 1, "{}", daemon.log());
    }
    fs::write(&stream.config, &text).unwrap();
    daemon.signal("HUP");
    await_reloads(&daemon, 3);
    stream.send(&records[TRAIN + 300..]);
    stream.assert_same_as_replay(&records);
    assert_eq!(daemon.log().matches("streams.rig.window").count(), 2);
    assert!(daemon.page("/readyz").unwrap().contains(" 200 "));
    daemon.stop();
}

#[test]
fn a_start_with_a_bundle_that_does_not_fit_ends_and_says_what_to_do() {
    let (stream, text) = windowed("unfit");
    let records = records();
    stream.send(&records[..TRAIN + 50]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(TRAIN + 50);
    daemon.stop();
    for other in [
        with_one_field_more(&text),
        text.replace("window = 8", "window = 4"),
        text.clone() + "model.context = [\"time_of_day\"]\n",
    ] {
        assert_ne!(other, text);
        fs::write(&stream.config, other).unwrap();
        let (code, log) = run(&["run"], &stream.config);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("train a new bundle"), "{log}");
    }
    fs::write(&stream.config, &text).unwrap();
    stream.send(&records[TRAIN + 50..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    stream.assert_same_as_replay(&records);
    daemon.stop();
}

/// A bundle of records with one field less, in the model folder of the stream, not live; its id.
fn bundle_of_other_fields(stream: &Stream, text: &str, records: &[String]) -> String {
    let folder = stream.folder.path().join("other");
    fs::create_dir(&folder).unwrap();
    let config = folder.join("outlierd.toml");
    let models = |folder: &Path| format!("{:?}", folder.join("models"));
    let other = with_one_field_less(text);
    assert_ne!(other, text);
    let other = other.replace(&models(stream.folder.path()), &models(&folder));
    fs::write(&config, other).unwrap();
    let lines = folder.join("records.jsonl");
    fs::write(&lines, records.join("\n") + "\n").unwrap();
    let (code, log) = run(&["train", lines.to_str().unwrap()], &config);
    assert_eq!(code, Some(0), "{log}");
    let id = fs::read_to_string(current(&folder)).unwrap();
    let id = id.trim().to_owned();
    let from = folder.join("models/rig").join(&id);
    let to = stream.folder.path().join("models/rig").join(&id);
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    id
}

/// The file that names the live bundle.
fn current(folder: &Path) -> PathBuf {
    folder.join("models/rig/current")
}

#[test]
fn a_bundle_of_other_fields_never_takes_over() {
    let (stream, text) = windowed("other-fields");
    let records = records();
    stream.send(&records[..TRAIN + 50]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(TRAIN + 50);
    let live = fs::read_to_string(current(stream.folder.path())).unwrap();
    let other = bundle_of_other_fields(&stream, &text, &records[..TRAIN]);

    // By hand: the command says so.
    let (code, log) = run(&["model", "promote", "rig", &other], &stream.config);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("has the fields"), "{log}");
    assert_eq!(
        fs::read_to_string(current(stream.folder.path())).unwrap(),
        live
    );
    // By another instance.
    let at = "2099-01-01T00:00:00Z";
    let message = format!(
        r#"live/rig|{{"type":"live","stream":"rig","bundle":"{other}","why":"x","at":"{at}"}}"#
    );
    let control = format!("{}.control", stream.topic);
    produce(&stream.broker, &control, message.as_bytes(), &["-K", "|"]);
    let refused = "outcome=\"rejected\"";
    daemon.await_metric("outlierd_bundles_received_total", refused, 1.0);
    // By whatever else writes the model folder.
    fs::write(current(stream.folder.path()), format!("{other}\n")).unwrap();
    daemon.await_metric("outlierd_bundles_refused_total", "", 1.0);
    assert!(daemon.log().contains("keeping the live bundle"));

    stream.send(&records[TRAIN + 50..]);
    stream.assert_same_as_replay(&records);
    assert!(daemon.page("/readyz").unwrap().contains(" 200 "));
    daemon.stop();
    let (code, log) = run(&["run"], &stream.config);
    assert_eq!(code, Some(1), "{log}");
    fs::write(current(stream.folder.path()), live).unwrap();
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    wait_for("the last start", || {
        let page = daemon.page("/readyz")?;
        page.contains(" 200 ").then_some(())
    });
    daemon.stop();
}
