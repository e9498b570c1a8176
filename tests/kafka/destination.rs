//! Alerts beside Kafka: a file and the standard output, at least once whatever fails.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use crate::daemon::get;
use crate::support::stream::{Stream, records};
use crate::support::{Daemon, OUTLIERD, PATIENCE, create_topic, produce, wait_for};

const FAILING: &str = "outlierd_destination_failing";
/// Alerts in a test of faults: 6 MB of them, twelve flushes and more.
const MANY: usize = 10_000;

/// Log lines about alerts that were not delivered, by their fields.
fn reports(daemon: &Daemon) -> usize {
    daemon.log().matches(" destination=\"file\" error=").count()
}

/// Alert number `n` of a test, as other tests find real ones: 600 bytes.
fn alert(n: usize) -> String {
    let pad = "x".repeat(550);
    format!("{{\"id\":\"{n:08}\",\"sequence\":0,\"pad\":\"{pad}\"}}")
}

fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| format!("{n:08}")).collect()
}

/// A stream whose alerts topic is there and has so many partitions.
fn stream(name: &str, partitions: i32) -> Stream {
    let stream = Stream::delivered(name, "exactly_once");
    create_topic(&stream.broker, &alerts_topic(&stream), partitions);
    stream
}

fn alerts_topic(stream: &Stream) -> String {
    format!("{}.alerts", stream.topic)
}

fn publish(stream: &Stream, numbers: std::ops::Range<usize>) {
    let lines: Vec<String> = numbers.map(alert).collect();
    let text = lines.join("\n") + "\n";
    produce(&stream.broker, &alerts_topic(stream), text.as_bytes(), &[]);
}

fn file(stream: &Stream) -> PathBuf {
    stream.folder.path().join("out/alerts.jsonl")
}

/// The flags that make the stream write to its file, in a folder that is there.
fn to_file(stream: &Stream) -> [String; 2] {
    let path = file(stream);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let set = format!("streams.rig.output.file={}", path.display());
    ["--set".to_owned(), set]
}

fn start(stream: &Stream, name: &str, flags: &[String]) -> Daemon {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Daemon::start_with(&stream.config, name, &flags)
}

/// The daemon under a limit of the size of its files: writing fails as on a full disk.
fn start_limited(stream: &Stream, name: &str, kib: u64) -> Daemon {
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"");
    let mut command = Command::new("bash");
    command
        .args(["-c", &script, "bash", OUTLIERD, "run", "--config"])
        .arg(&stream.config)
        .args(to_file(stream));
    Daemon::spawn(command, stream.folder.path().join(format!("{name}.log")))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Every alert of a file, in order, repeats included. A line that a kill cut is no JSON.
fn delivered(path: &Path) -> Vec<Value> {
    text(path)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The ids of alerts without the repeats, by id and sequence.
fn distinct(alerts: &[Value]) -> Vec<String> {
    let mut seen = HashSet::new();
    alerts
        .iter()
        .filter(|alert| seen.insert((alert["id"].to_string(), alert["sequence"].to_string())))
        .map(|alert| alert["id"].as_str().unwrap().to_owned())
        .collect()
}

fn await_alerts(path: &Path, count: usize) -> Vec<Value> {
    let mut seen = None;
    wait_for(&format!("{count} alerts in the file"), || {
        let alerts = delivered(path);
        let distinct = distinct(&alerts).len();
        if seen.replace(distinct) != Some(distinct) {
            println!("{distinct} of {count} alerts");
        }
        (distinct >= count).then_some(alerts)
    })
}

#[test]
fn the_file_holds_the_alerts_of_the_topic_in_order() {
    for delivery in ["exactly_once", "at_least_once"] {
        let stream = Stream::delivered("file", delivery);
        let flags = to_file(&stream);
        let records = records();
        stream.send(&records);
        let mut daemon = start(&stream, "first", &flags);
        stream.await_scores(records.len());
        let due = stream.alerts().0;
        assert!(!due.is_empty(), "the records hold a fault");
        assert_eq!(await_alerts(&file(&stream), due.len()), due);
        daemon.stop();
        // The next start resumes behind them.
        let mut daemon = start(&stream, "second", &flags);
        publish(&stream, 0..1);
        let all = await_alerts(&file(&stream), due.len() + 1);
        assert_eq!(all[..due.len()], due);
        assert_eq!(distinct(&all[due.len()..]), ids(0..1));
        daemon.stop();
    }
}

#[test]
fn a_kill_while_the_disk_is_full_loses_no_alert() {
    let stream = stream("full-killed", 1);
    publish(&stream, 0..MANY);
    let mut daemon = start_limited(&stream, "full", 4 << 10);
    daemon.await_metric(FAILING, "", 1.0);
    daemon.signal("KILL");
    daemon.wait();
    let before = distinct(&delivered(&file(&stream))).len();
    assert!((1..MANY).contains(&before), "{before}: full in the middle");
    let mut daemon = start(&stream, "freed", &to_file(&stream));
    let all = await_alerts(&file(&stream), MANY);
    assert_eq!(distinct(&all), ids(0..MANY));
    daemon.stop();
}

#[test]
fn kills_between_flushes_lose_no_alert() {
    let stream = stream("killed", 1);
    let (flags, path) = (to_file(&stream), file(&stream));
    publish(&stream, 0..MANY);
    for kill in 0..3 {
        let before = text(&path).len();
        let mut daemon = start(&stream, &format!("daemon-{kill}"), &flags);
        let deadline = std::time::Instant::now() + PATIENCE;
        // Not wait_for: between two of its looks all of them would be delivered.
        while text(&path).len() == before {
            assert!(std::time::Instant::now() < deadline, "{}", daemon.log());
            std::thread::park_timeout(Duration::from_millis(1));
        }
        daemon.signal("KILL");
        daemon.wait();
        // After the last kill there is something left to deliver.
        publish(&stream, MANY + kill..MANY + kill + 1);
    }
    let mut daemon = start(&stream, "daemon-last", &flags);
    let all = await_alerts(&path, MANY + 3);
    assert_eq!(distinct(&all), ids(0..MANY + 3));
    daemon.stop();
}

#[test]
fn a_full_file_that_is_rotated_away_ends_the_failure() {
    let stream = stream("rotated", 1);
    publish(&stream, 0..MANY);
    let mut daemon = start_limited(&stream, "limited", 4 << 10);
    daemon.await_metric(FAILING, "", 1.0);
    let (path, rotated) = (file(&stream), file(&stream).with_extension("1"));
    fs::rename(&path, &rotated).unwrap();
    wait_for("the rest", || {
        (delivered(&rotated).len() + delivered(&path).len() >= MANY).then_some(())
    });
    wait_for("the recovery", || {
        (daemon.metric(FAILING, "") == 0.0).then_some(())
    });
    daemon.stop();
    let whole = text(&rotated) + &text(&path);
    let due: Vec<String> = (0..MANY).map(alert).collect();
    assert!(
        whole.lines().eq(due.iter().map(String::as_str)),
        "each alert once, and no part of a line"
    );
    assert_eq!(reports(&daemon), 1, "{}", daemon.log());
}

#[test]
fn a_failing_destination_is_reported_and_recovers() {
    let stream = stream("failing", 1);
    let mut daemon = start(&stream, "daemon", &to_file(&stream));
    publish(&stream, 0..1);
    await_alerts(&file(&stream), 1);
    let destination = || get(&daemon, "/status").1[0]["destinations"][0].clone();
    let failure = || destination()["failure"].clone();
    assert_eq!(failure(), Value::Null);
    let folder = file(&stream).parent().unwrap().to_owned();
    let away = folder.with_extension("away");
    fs::rename(&folder, &away).unwrap();
    publish(&stream, 1..3);
    let text = wait_for("the failure", || failure().as_str().map(str::to_owned));
    assert!(
        text.contains("output.file") && text.contains("cannot be opened"),
        "{text}"
    );
    // Its folder is gone: the user's to create.
    assert_eq!(destination()["domain"], "user");
    let label = "destination=\"file\"";
    assert_eq!(daemon.metric(FAILING, label), 1.0);
    daemon.await_metric("outlierd_destination_failures_total", label, 2.0);
    assert_eq!(reports(&daemon), 1, "{}", daemon.log());
    fs::rename(&away, &folder).unwrap();
    assert_eq!(distinct(&await_alerts(&file(&stream), 3)), ids(0..3));
    wait_for("the recovery", || {
        (daemon.metric(FAILING, label) == 0.0).then_some(())
    });
    assert_eq!(failure(), Value::Null);
    daemon.stop();
}

#[test]
fn aborted_and_foreign_messages_are_not_delivered() {
    let stream = stream("aborted", 1);
    let topic = alerts_topic(&stream);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &stream.broker)
        .set("transactional.id", &topic)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let send = |n: usize| {
        let payload = alert(n);
        let record = BaseRecord::<str, str>::to(&topic).payload(&payload);
        producer.begin_transaction().unwrap();
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
    };
    let mut daemon = start(&stream, "daemon", &to_file(&stream));
    send(0);
    producer.commit_transaction(PATIENCE).unwrap();
    send(1);
    producer.abort_transaction(PATIENCE).unwrap();
    produce(&stream.broker, &topic, b"not an alert\n", &[]);
    send(2);
    producer.commit_transaction(PATIENCE).unwrap();
    let all = await_alerts(&file(&stream), 2);
    let found: Vec<_> = all
        .iter()
        .map(|alert| alert["id"].as_str().unwrap())
        .collect();
    assert_eq!(found, ["00000000", "00000002"]);
    // One that is not committed yet waits.
    send(3);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(
        distinct(&await_alerts(&file(&stream), 3)).last(),
        ids(3..4).last()
    );
    assert_eq!(text(&file(&stream)).lines().count(), 3);
    let skipped = daemon.metric("outlierd_destination_skipped_total", "");
    assert_eq!(skipped, 1.0, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn the_standard_output_has_alerts_only() {
    let stream = stream("stdout", 1);
    publish(&stream, 0..600);
    let out = stream.folder.path().join("stdout");
    let mut command = Command::new(OUTLIERD);
    command
        .args(["run", "--set", "streams.rig.output.file=-", "--config"])
        .arg(&stream.config)
        .stdout(fs::File::create(&out).unwrap());
    let mut daemon = Daemon::spawn(command, stream.folder.path().join("daemon.log"));
    await_alerts(&out, 600);
    daemon.stop();
    let due: Vec<String> = (0..600).map(alert).collect();
    assert_eq!(text(&out).lines().collect::<Vec<_>>(), due);
    assert!(daemon.log().contains("stopped"), "{}", daemon.log());
}

#[test]
fn instances_share_the_alerts_and_take_over_from_a_killed_one() {
    let stream = stream("instances", 2);
    let instance = |name: &str| {
        let folder = stream.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        let at = |key: &str, file: &str| format!("{key}={}", folder.join(file).display());
        let flags = [
            at("service.state_dir", "state"),
            at("service.model_dir", "models"),
            at("streams.rig.output.file", "alerts"),
        ];
        let flags: Vec<String> = flags
            .into_iter()
            .flat_map(|set| ["--set".to_owned(), set])
            .collect();
        (start(&stream, name, &flags), folder.join("alerts"))
    };
    let (mut first, a) = instance("a");
    let (mut second, b) = instance("b");
    let mut sent = 0;
    let mut more = || {
        publish(&stream, sent..sent + 100);
        sent += 100;
        sent
    };
    wait_for("both to deliver", || {
        more();
        (!text(&a).is_empty() && !text(&b).is_empty()).then_some(())
    });
    first.signal("KILL");
    first.wait();
    let sent = more();
    wait_for("all alerts", || {
        let all = [delivered(&a), delivered(&b)].concat();
        (distinct(&all).len() == sent).then_some(())
    });
    second.stop();
}

#[test]
fn a_file_that_cannot_be_opened_ends_the_start() {
    let stream = Stream::new("unopened");
    let path = stream.folder.path().join("none/alerts.jsonl");
    let out = Command::new(OUTLIERD)
        .args(["run", "--set"])
        .arg(format!("streams.rig.output.file={}", path.display()))
        .arg("--config")
        .arg(&stream.config)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stderr);
    let due = format!("stream rig: output.file = {path:?} cannot be opened: No such file");
    assert!(text.contains(&due), "{text}");
}
