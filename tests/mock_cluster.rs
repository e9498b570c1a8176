//! Faults that a mock cluster can have at an exact moment: an output that is slow, a commit that is
//! refused, and offsets that are not told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

#[path = "kafka/support/process.rs"]
mod process;
#[path = "kafka/support/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use process::{Daemon, PATIENCE, wait_for};

/// What a produce request to the broker of the scores takes where the output is slow.
const ROUND_TRIP: Duration = Duration::from_millis(700);

/// A broker of the input, and one that holds the scores.
fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(2).unwrap();
    for (topic, leader) in [
        ("in", 1),
        ("in.scores", 2),
        ("in.alerts", 1),
        ("in.dead", 1),
        ("outlierd.rig.state", 1),
    ] {
        cluster.create_topic(topic, 1, 1).unwrap();
        cluster.partition_leader(topic, 0, Some(leader)).unwrap();
    }
    cluster
}

fn fill(brokers: &str, numbers: Range<usize>) {
    let payload = |number: usize| {
        let (load, time) = ((number as f64 / 20.0).sin(), 1_767_225_600 + number);
        format!(
            "{{\"t\":{time},\"x\":{load:.3},\"y\":{:.3}}}",
            3.0 + load + (number % 7) as f64 / 10.0
        )
    };
    rig::fill(brokers, numbers.map(payload));
}

/// A running outlierd, and what it has published.
struct Run {
    daemon: Daemon,
    /// Goes when the daemon has gone.
    _folder: tempfile::TempDir,
    reader: BaseConsumer,
    /// By the offset of its record, each score, those of aborted transactions included.
    scores: BTreeMap<i64, Vec<String>>,
}

impl Run {
    fn start(brokers: &str, delivery: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = rig::config(folder.path(), brokers, delivery, Some("in.scores"));
        let daemon = Daemon::start(&config, "daemon");
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "reader")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_uncommitted")
            .create()
            .unwrap();
        reader.subscribe(&["in.scores"]).unwrap();
        Self {
            daemon,
            _folder: folder,
            reader,
            scores: BTreeMap::new(),
        }
    }

    /// Reads scores until there are those of `records` records, and the lane has gone back so
    /// often.
    fn read_until(&mut self, records: usize, gone_back: usize) {
        let deadline = Instant::now() + PATIENCE;
        while (self.scores.len() < records || self.gone_back() < gone_back)
            && Instant::now() < deadline
        {
            if let Some(Ok(message)) = self.reader.poll(Duration::from_millis(100)) {
                let text = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
                let score: serde_json::Value = serde_json::from_str(&text).unwrap();
                self.scores
                    .entry(score["position"]["offset"].as_i64().unwrap())
                    .or_default()
                    .push(text);
            }
        }
        assert_eq!(
            (self.scores.len(), self.gone_back()),
            (records, gone_back),
            "{}",
            self.daemon.log()
        );
    }

    fn gone_back(&self) -> usize {
        self.daemon.metric("outlierd_lane_restarts_total", "") as usize
    }
}

#[test]
fn the_input_is_paused_while_the_output_is_slow() {
    let cluster = cluster();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers, 0..60_000);
    cluster.broker_round_trip_time(2, ROUND_TRIP).unwrap();
    let mut run = Run::start(&brokers, "at_least_once");
    run.read_until(60_000, 0);
    let pauses = run.daemon.metric("outlierd_input_pauses_total", "");
    assert!(pauses >= 1.0, "{}", run.daemon.log());
    wait_for("the input to be resumed", || {
        (run.daemon.metric("outlierd_input_paused", "") == 0.0).then_some(())
    });
}

#[test]
fn a_commit_of_an_ended_generation_is_repeated_from_inside_the_group() {
    let cluster = cluster();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers, 0..5_000);
    let mut run = Run::start(&brokers, "exactly_once");
    run.read_until(5_000, 0);
    let refusal = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION; 2];
    cluster.request_errors(RDKafkaApiKey::TxnOffsetCommit, &refusal);
    fill(&brokers, 5_000..10_000);
    run.read_until(10_000, 2);
    // Behind everything that was published again.
    fill(&brokers, 10_000..10_001);
    run.read_until(10_001, 2);

    let restarts = |label| run.daemon.metric("outlierd_lane_restarts_total", label);
    let restarts = ["left_group=\"false\"", "left_group=\"true\""].map(restarts);
    assert_eq!(restarts, [2.0, 0.0], "{}", run.daemon.log());
    // With the same scores: that the faults of scripts/chaos show, since this cluster hands out
    // aborted states too.
    let repeated = run
        .scores
        .values()
        .filter(|scores| scores.len() > 1)
        .count();
    assert!(repeated > 0, "nothing was scored again");
}

#[test]
fn a_stop_does_not_wait_for_offsets_that_are_not_told() {
    let cluster = cluster();
    let brokers = cluster.bootstrap_servers();
    let undecided = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 10_000];
    cluster.request_errors(RDKafkaApiKey::OffsetFetch, &undecided);
    let mut run = Run::start(&brokers, "exactly_once");
    run.daemon
        .await_metric("outlierd_offsets_awaited_total", "", 1.0);
    run.daemon.stop();
    // The test's own reader has to close.
    cluster.clear_request_errors(RDKafkaApiKey::OffsetFetch);
}

#[test]
fn a_lane_whose_output_takes_nothing_is_not_ready_and_says_why() {
    let cluster = cluster();
    let brokers = cluster.bootstrap_servers();
    fill(&brokers, 0..5_000);
    let mut run = Run::start(&brokers, "at_least_once");
    run.read_until(5_000, 0);
    let await_answer = |status: &str, reasons: &[&str]| {
        wait_for(status, || {
            let page = run.daemon.page("/readyz")?;
            let has_reason = reasons.iter().any(|reason| page.contains(reason));
            (page.contains(status) && has_reason).then_some(())
        });
    };
    await_answer(" 200 ", &["ready"]);
    let longer_than_the_limit = Duration::from_secs(40);
    cluster
        .broker_round_trip_time(2, longer_than_the_limit)
        .unwrap();
    fill(&brokers, 5_000..40_000);
    // It waits for the output, before a commit or for room.
    await_answer(" 503 ", &["its loop hangs", "records wait"]);
    cluster.broker_round_trip_time(2, Duration::ZERO).unwrap();
    await_answer(" 200 ", &["ready"]);
}

#[test]
fn an_address_that_is_taken_ends_the_start_before_any_broker_is_asked() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    // No broker: the start would wait for one.
    let config = rig::config(folder.path(), "127.0.0.1:1", "exactly_once", None);
    let address = taken.local_addr().unwrap().to_string();
    let flag = format!("service.http_listen={address:?}");
    let mut daemon = Daemon::start_with(&config, "daemon", &["--set", &flag]);
    assert_eq!(daemon.wait(), 1, "{}", daemon.log());
    assert!(daemon.log().contains(&address), "{}", daemon.log());
}

#[test]
fn http_that_is_open_to_the_network_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let config = rig::config(folder.path(), "127.0.0.1:1", "exactly_once", None);
    for (address, warnings) in [("127.0.0.1:0", 0), ("0.0.0.0:0", 1)] {
        let flag = format!("service.http_listen={address:?}");
        let mut daemon = Daemon::start_with(&config, "daemon", &["--set", &flag]);
        // The warning comes before it listens.
        let log = wait_for("HTTP", || {
            let log = daemon.log();
            log.contains("http listening").then_some(log)
        });
        let of_address = format!("address={address}");
        let is_warning = |line: &&str| line.contains("WARN") && line.contains(&of_address);
        assert_eq!(log.lines().filter(is_warning).count(), warnings, "{log}");
        daemon.stop();
    }
}

#[test]
fn a_start_without_a_broker_is_not_ready_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = rig::config(folder.path(), "127.0.0.1:1", "exactly_once", None);
    let mut daemon = Daemon::start(&config, "daemon");
    let page = wait_for("the reason", || {
        let page = daemon.page("/readyz")?;
        page.contains("no broker").then_some(page)
    });
    assert!(page.starts_with("HTTP/1.1 503"), "{page}");
    assert!(daemon.page("/healthz").unwrap().contains(" 200 "));
    daemon.stop();
}

#[test]
fn requests_that_never_end_do_not_keep_others_from_being_answered() {
    let folder = tempfile::tempdir().unwrap();
    let config = rig::config(folder.path(), "127.0.0.1:1", "exactly_once", None);
    let mut daemon = Daemon::start(&config, "daemon");
    wait_for("HTTP", || daemon.page("/healthz"));
    let address = daemon.log();
    let address = address.split(" address=").nth(1).unwrap();
    let address = address.split_whitespace().next().unwrap();
    let unfinished: Vec<_> = (0..500)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHo").unwrap();
            stream
        })
        .collect();
    let asked = Instant::now();
    let page = daemon.page("/healthz").unwrap();
    assert!(page.contains(" 200 "), "{page}");
    assert!(
        asked.elapsed() < Duration::from_secs(60),
        "{:?}",
        asked.elapsed()
    );
    drop(unfinished);
    daemon.stop();
}
