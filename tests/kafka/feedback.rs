//! Feedback holds whenever it is given: while the daemon is down, while its partition moves, when
//! more of it comes than fits into any queue, and when the daemon is killed right after.

use std::sync::Arc;

use outlierd::config::{ConfigSources, load};
use outlierd::record::feedback::RecordRange;
use outlierd::share::history;
use serde_json::Value;

use crate::share::{command, events, start};
use crate::support::stream::{Stream, TRAIN, steady};
use crate::support::{Daemon, produce, wait_for};

/// Normal records after the first training.
const NORMAL: usize = 600;

/// A stream with two disturbances that were told as alerts, which are false alarms.
struct Disturbed {
    stream: Stream,
    /// Records so far.
    sent: usize,
    /// Ids of the alerts.
    alerts: Vec<String>,
    daemon: Daemon,
}

impl Disturbed {
    fn new(name: &str) -> Self {
        let stream = crate::share::stream(name);
        let daemon = start(&stream, "a");
        let mut of = Self {
            stream,
            sent: 0,
            alerts: Vec::new(),
            daemon,
        };
        of.send(0.0, TRAIN + NORMAL);
        for _ in 0..2 {
            of.send(0.6, 60);
            of.send(0.0, 200);
        }
        of.alerts = of.opened();
        assert!(
            of.alerts.len() >= 2,
            "the second one is told like the first"
        );
        of
    }

    fn send(&mut self, shift: f64, rows: usize) {
        let rows = self.sent..self.sent + rows;
        self.sent = rows.end;
        self.stream
            .send(&rows.map(|i| steady(i, shift)).collect::<Vec<_>>());
        self.stream.await_scores(self.sent);
    }

    fn opened(&self) -> Vec<String> {
        let is_opening = |alert: &Value| alert["kind"] == "anomaly" && alert["event"] == "open";
        let alerts = self.stream.alerts().0.into_iter().filter(is_opening);
        alerts
            .map(|a| a["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Says of all alerts that they were false.
    fn say(&self) {
        for alert in &self.alerts {
            command(&self.stream, "a", &["feedback", alert, "false-alarm"]);
        }
    }

    /// What was committed as applied, with the states: once for each.
    fn applied(&self) -> Vec<String> {
        let states = self.stream.read("states").into_iter();
        let subject = |key: String| Some(key.split_once("feedback/")?.1.to_owned());
        states.filter_map(|read| subject(read.key)).collect()
    }

    fn await_applied(&self) {
        wait_for("it to be applied", || {
            (self.applied().len() >= self.alerts.len()).then_some(())
        });
    }

    fn kill(&mut self) {
        self.daemon.signal("KILL");
        self.daemon.wait();
    }

    /// The same disturbance again raises nothing any more, and each word was applied once.
    fn assert_holds(mut self) {
        self.await_applied();
        self.send(0.0, 100);
        self.send(0.6, 60);
        self.send(0.0, 150);
        assert_eq!(self.opened(), self.alerts, "the false alarm came again");
        let (mut applied, mut said) = (self.applied(), self.alerts.clone());
        applied.sort();
        said.sort();
        assert_eq!(applied, said, "each once");
    }
}

#[test]
fn it_is_given_while_the_daemon_is_down() {
    let mut of = Disturbed::new("down");
    of.daemon.stop();
    of.say();
    of.daemon = start(&of.stream, "a");
    of.assert_holds();
}

#[test]
fn the_daemon_is_killed_right_after_it_was_applied() {
    let mut of = Disturbed::new("applied");
    of.say();
    of.await_applied();
    of.kill();
    of.daemon = start(&of.stream, "a");
    of.assert_holds();
}

#[test]
fn the_daemon_is_killed_while_it_may_be_applying_it() {
    let mut of = Disturbed::new("applying");
    for alert in of.alerts.clone() {
        command(&of.stream, "a", &["feedback", &alert, "false-alarm"]);
        of.kill();
        of.daemon = start(&of.stream, "a");
    }
    of.assert_holds();
}

#[test]
fn it_is_given_while_the_partition_moves_to_another_machine() {
    let mut of = Disturbed::new("moves");
    let b = start(&of.stream, "b");
    wait_for("b's part of the group", || b.page("/healthz").map(drop));
    of.kill();
    // The group notices after some seconds that a machine is gone.
    of.say();
    of.daemon = b;
    of.assert_holds();
}

#[test]
fn more_comes_than_fits_into_any_queue() {
    let of = Disturbed::new("queue");
    // The lane and the retraining take nothing meanwhile.
    of.daemon.signal("STOP");
    let of_others: Vec<String> = (0..150)
        .map(|number| {
            let word = serde_json::json!({
                "type": "feedback", "stream": "rig", "label": "expected", "series": "valve",
                "alert": format!("other-{number}"), "from": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:01Z",
                "records": { "partition": 0, "first": 1, "last": 2 }, "at": "2026-01-01T00:00:02Z",
            });
            format!("feedback/rig/other-{number}\t{word}\n")
        })
        .collect();
    let topic = format!("{}.control", of.stream.topic);
    produce(
        &of.stream.broker,
        &topic,
        of_others.concat().as_bytes(),
        &["-K", "\t"],
    );
    of.say();
    of.daemon.signal("CONT");
    let all = of_others.len() + of.alerts.len();
    wait_for("all of it to be applied", || {
        (of.applied().len() == all).then_some(())
    });
    wait_for("all of it to be learned from", || {
        (events(&of.stream, "feedback_applied").len() == all).then_some(())
    });
    let mut of = of;
    of.send(0.0, 100);
    of.send(0.6, 60);
    of.send(0.0, 150);
    assert_eq!(of.opened(), of.alerts);
}

/// The records before an alert are looked for further and further back, with one consumer.
#[test]
fn records_of_a_rare_series_before_an_alert_are_read_from_far_back() {
    const EVERY: usize = 40;
    const BEFORE: usize = 150;
    let stream = Stream::delivered("rare", "exactly_once");
    let record = |i: usize| match i % EVERY {
        0 => steady(i, 0.0),
        _ => steady(i, 0.0).replace("\"valve\"", &format!("\"other-{}\"", i % EVERY)),
    };
    let records: Vec<String> = (0..12_001).map(record).collect();
    stream.send(&records);
    let sources = ConfigSources {
        file: Some(stream.config.clone()),
        ..ConfigSources::default()
    };
    let mut settings = load(&sources).unwrap();
    let settings_of_stream = Arc::new(settings.streams.remove(0));
    let last = records.len() as i64 - 1;
    let at = RecordRange {
        partition: 0,
        first: last - EVERY as i64,
        last,
    };
    // Some 6,000 records before the alert: more than the first try reads.
    let found = history::read(&settings.kafka, &settings_of_stream, "valve", at, BEFORE).unwrap();
    let offsets: Vec<i64> = found.iter().map(|(offset, _)| *offset).collect();
    let due = (0..BEFORE + 2).rev().map(|n| last - (n * EVERY) as i64);
    assert_eq!(offsets, due.collect::<Vec<_>>());
}
