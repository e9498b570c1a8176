//! The metrics page of a running daemon, and what moves the counters.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

#[path = "kafka/support/process.rs"]
mod process;
#[path = "kafka/support/rig.rs"]
mod rig;
mod test_stream;

use std::collections::BTreeSet;
use std::process::Command;

use outlierd::events::metric::{ALL, Metric};
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::SeriesTable;
use outlierd::record::{Batch, EventTime, Record};
use rdkafka::mocking::MockCluster;

use process::{Daemon, OUTLIERD, wait_for};

const RECORDS: usize = 200;

fn payloads() -> impl Iterator<Item = String> {
    (0..RECORDS).map(|number| {
        let time = 1_767_225_600 + number;
        format!("{{\"t\":{time},\"x\":{},\"y\":3}}", number % 7)
    })
}

/// Counters by topic, destination, access or entry, of which each appears with its first event; and those
/// whose causes are few.
const BEGIN_LATER: [&str; 10] = [
    "outlierd_destination_alerts_total",
    "outlierd_destination_failures_total",
    "outlierd_destination_skipped_total",
    "outlierd_position_changes_total",
    "outlierd_stored_entries_ignored_total",
    "outlierd_store_failures_total",
    "outlierd_trainings_total",
    "outlierd_thresholds_corrected_total",
    "outlierd_shared_messages_skipped_total",
    "outlierd_shared_messages_refused_total",
];

/// What `outlierd status --json` says of a daemon, and whether it calls it ready.
fn status(daemon: &Daemon) -> (bool, serde_json::Value) {
    let address = daemon.address().unwrap();
    let mut command = Command::new(OUTLIERD);
    let out = command
        .args(["status", "--json", "--address", &address])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    (out.status.success(), serde_json::from_str(&text).unwrap())
}

/// The names that follow `mark` at the starts of lines.
fn names<'p>(page: &'p str, mark: &str) -> BTreeSet<&'p str> {
    page.lines()
        .filter_map(|line| line.strip_prefix(mark)?.split_whitespace().next())
        .collect()
}

#[test]
fn each_metric_of_a_running_daemon_has_a_help_line() {
    let cluster = MockCluster::new(1).unwrap();
    for topic in ["in", "in.alerts", "in.dead"] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    let brokers = cluster.bootstrap_servers();
    rig::fill(&brokers, payloads());
    let folder = tempfile::tempdir().unwrap();
    let config = rig::config(folder.path(), &brokers, "at_least_once", None);
    let mut daemon = Daemon::start(&config, "daemon");
    let read = format!("outlierd_records_total{{stream=\"rig\"}} {RECORDS}");
    let page = wait_for("the records to be counted", || {
        daemon.page("/metrics").filter(|page| page.contains(&read))
    });
    let (ready, found) = status(&daemon);
    assert!(ready, "{found}");
    daemon.stop();
    let stream = &found["streams"][0];
    assert_eq!(stream["stream"], "rig");
    assert_eq!(stream["model"]["phase"], "learning");
    assert_eq!(stream["lanes"][0]["open_alerts"], 0);
    assert!(stream["last_record"].as_str().unwrap().ends_with('Z'));

    let (described, shown) = (names(&page, "# HELP "), names(&page, "# TYPE "));
    assert_eq!(described, shown, "{page}");
    // Those that move before the HTTP server listens are there too.
    assert!(shown.contains("outlierd_training_buffer_records"), "{page}");
    assert!(shown.contains("outlierd_muted_total"), "{page}");
    // A rate needs a value before the first event.
    let has_none =
        |metric: &&Metric| matches!(metric, Metric::Counter(_)) && !shown.contains(metric.name());
    let none: Vec<&str> = ALL.iter().filter(has_none).map(Metric::name).collect();
    assert_eq!(none, BEGIN_LATER);
    let phase = "outlierd_stream_phase{stream=\"rig\",phase=\"learning\"} 1";
    assert!(page.contains(phase), "{page}");
    assert!(page.contains("process_resident_memory_bytes "), "{page}");
}

/// Records of two series, of which one sensor is missing all the time.
fn faulty() -> Batch<'static> {
    let mut batch = Batch::default();
    for second in 0..20 {
        for (place, series) in ["pump-1", "pump-2"].into_iter().enumerate() {
            let message = batch.records.len();
            batch.records.push(Record {
                message,
                partition: 0,
                offset: message as i64,
                part: None,
                series: series.into(),
                time: EventTime((second + place as i64) * 1_000_000),
                second_time: None,
                arrival: None,
            });
            batch
                .values
                .extend([second as f64, (second % 7) as f64, f64::NAN]);
        }
    }
    batch
}

#[test]
fn an_episode_that_opens_under_a_mute_is_counted_once() {
    let mute = "{ series = \"pump-1\", from = \"1970-01-01T00:00:00Z\", until = \"1970-01-02T00:00:00Z\", reason = \"repair\" }";
    let stream = test_stream::stream(&[
        "record.fields=[\"x\", \"y\", \"z\"]",
        &format!("mutes=[{mute}]"),
    ]);
    let mut pipeline = Pipeline::new(stream, None).unwrap();
    let done = pipeline
        .run_decoded(faulty(), &mut SeriesTable::new(10), &mut |_, _| Ok(None))
        .unwrap();
    let alerting: Vec<&str> = done.alerts.iter().map(|a| a.series.as_str()).collect();
    assert_eq!(alerting, ["pump-2"]);
    assert_eq!(done.counts.muted, 1);
}
