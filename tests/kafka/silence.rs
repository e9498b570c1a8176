//! A topic that stands still, told from one that is only read slowly.

use std::fs;
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use crate::support::own_broker::OwnBroker;
use crate::support::stream::{Stream, TRAIN, steady};
use crate::support::{Daemon, PATIENCE, produce, wait_for};

/// Looks for silence after `at_least`.
fn at_least(stream: &Stream, at_least: &str) {
    let text = fs::read_to_string(&stream.config).unwrap();
    let silence = format!("silence = {{ at_least = \"{at_least}\" }}\n");
    fs::write(&stream.config, text + &silence).unwrap();
}

/// Sends records one by one, however slow the machine is: the topic's own cadence has to be known.
fn send_slowly(stream: &Stream, daemon: &Daemon) {
    daemon.await_metric("outlierd_partitions", "", 1.0);
    for i in 0..40 {
        stream.send(&[steady(i, 0.0)]);
        stream.await_scores(i + 1);
    }
}

fn silences(stream: &Stream) -> Vec<Value> {
    let mut alerts = Vec::new();
    for read in stream.read("alerts") {
        let alert: Value = serde_json::from_slice(&read.value.unwrap()).unwrap();
        if alert["kind"] == "silence" {
            alerts.push(alert);
        }
    }
    alerts
}

fn events<'a>(alerts: &'a [Value], event: &str) -> Vec<&'a Value> {
    alerts
        .iter()
        .filter(|alert| alert["event"] == event)
        .collect()
}

#[test]
fn a_topic_that_stands_still_is_announced_and_closed_by_the_next_record() {
    let stream = Stream::delivered("still", "exactly_once");
    at_least(&stream, "2s");
    let mut daemon = Daemon::start(&stream.config, "daemon");
    send_slowly(&stream, &daemon);
    let open = wait_for("the silence", || silences(&stream).pop());
    assert_eq!(
        (&open["series"], &open["event"], &open["severity"]),
        (&"*".into(), &"open".into(), &"critical".into())
    );
    // Over a restart the alert stays open until a record comes.
    daemon.stop();
    let mut daemon = Daemon::start(&stream.config, "again");
    stream.send(&(40..TRAIN + 20).map(|i| steady(i, 0.0)).collect::<Vec<_>>());
    let close = wait_for("its end", || {
        silences(&stream)
            .into_iter()
            .find(|alert| alert["event"] == "close")
    });
    assert_eq!(close["id"], open["id"]);
    stream.await_scores(TRAIN + 20);
    assert_eq!(silences(&stream).len(), 2, "{:#?}", silences(&stream));
    daemon.stop();
}

/// Kills a daemon after it has sent an alert and before that is committed, and in the course of
/// closing it.
fn killed_between_opening_and_committing(delivery: &str) -> Vec<Value> {
    let broker = OwnBroker::start();
    let stream = Stream::on(&broker.address(), "cut", delivery);
    at_least(&stream, "6s");
    let start = |name: &str| {
        let debug = ["--set", "service.log_filter=\"info,outlierd=debug\""];
        Daemon::start_with(&stream.config, name, &debug)
    };
    let mut daemon = start("opens");
    send_slowly(&stream, &daemon);
    thread::sleep(Duration::from_secs(2));
    broker.freeze();
    wait_for("an alert that cannot be committed", || {
        daemon
            .log()
            .contains("alert waits for its commit")
            .then_some(())
    });
    daemon.signal("KILL");
    daemon.wait();
    broker.thaw();
    assert_eq!(silences(&stream), [Value::Null; 0], "nothing is committed");

    let mut daemon = start("opens-again");
    wait_for("the silence", || silences(&stream).pop());
    daemon.signal("KILL");
    daemon.wait();
    stream.send(&(40..60).map(|i| steady(i, 0.0)).collect::<Vec<_>>());
    for number in 1..=5 {
        let mut daemon = start(&format!("closes-{number}"));
        daemon.await_metric("outlierd_partitions", "", 1.0);
        thread::sleep(Duration::from_millis(30 * number));
        daemon.signal("KILL");
        daemon.wait();
    }
    let mut daemon = start("last");
    stream.await_scores(60);
    wait_for("its end", || {
        (!events(&silences(&stream), "close").is_empty()).then_some(())
    });
    daemon.stop();
    silences(&stream)
}

#[test]
fn a_topics_silence_is_neither_lost_nor_doubled_by_kills() {
    let found = killed_between_opening_and_committing("exactly_once");
    let (opened, closed) = (events(&found, "open"), events(&found, "close"));
    assert_eq!((opened.len(), closed.len()), (1, 1), "{found:#?}");
    assert_eq!(opened[0]["id"], closed[0]["id"]);
}

#[test]
fn with_at_least_once_delivery_a_topics_silence_may_come_twice_as_the_same_alert() {
    let found = killed_between_opening_and_committing("at_least_once");
    let (opened, closed) = (events(&found, "open"), events(&found, "close"));
    assert!(!opened.is_empty() && !closed.is_empty(), "{found:#?}");
    let id = &opened[0]["id"];
    assert!(found.iter().all(|alert| alert["id"] == *id), "{found:#?}");
}

#[test]
fn a_series_that_falls_silent_among_others_is_announced_and_closed() {
    let stream = Stream::delivered("silent", "exactly_once");
    let of = |rig: &str, i: usize| steady(i, 0.0).replace("\"valve\"", &format!("\"{rig}\""));
    // Three rigs; the second one rests for ten minutes.
    let sends = |rig: &str, i: usize| rig != "b" || !(600..1_200).contains(&i);
    let rigs = || ["a", "b", "c"].into_iter();
    let records: Vec<String> = (0..1_400)
        .flat_map(|i| {
            rigs()
                .filter(move |rig| sends(rig, i))
                .map(move |rig| of(rig, i))
        })
        .collect();
    stream.send(&records);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(records.len());
    daemon.stop();
    let told: Vec<(Value, Value, Value)> = stream
        .alerts()
        .0
        .into_iter()
        .filter(|alert| alert["kind"] == "silence")
        .map(|mut alert| {
            (
                alert["series"].take(),
                alert["event"].take(),
                alert["time"].take(),
            )
        })
        .collect();
    // A minute after its last record, which is silence.at_least.
    let expected = [
        ("b", "open", "2026-01-01T00:10:59Z"),
        ("b", "close", "2026-01-01T00:20:00Z"),
    ];
    assert_eq!(
        told,
        expected.map(|(series, event, time)| (series.into(), event.into(), time.into()))
    );
}

#[test]
fn a_topic_that_is_written_with_transactions_is_read_to_its_end() {
    let stream = Stream::delivered("transactions", "exactly_once");
    at_least(&stream, "2s");
    let mut daemon = Daemon::start(&stream.config, "daemon");
    daemon.await_metric("outlierd_partitions", "", 1.0);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &stream.broker)
        .set("transactional.id", &stream.topic)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for i in 0..40 {
        let payload = steady(i, 0.0);
        producer.begin_transaction().unwrap();
        producer
            .send(BaseRecord::<str, str>::to(&stream.topic).payload(&payload))
            .unwrap();
        producer.commit_transaction(PATIENCE).unwrap();
        stream.await_scores(i + 1);
    }
    // The offset of a commit is that of no record.
    let open = wait_for("the silence", || silences(&stream).pop());
    assert_eq!(
        (&open["series"], &open["event"]),
        (&"*".into(), &"open".into())
    );
    let lag = daemon.metric("outlierd_consumer_lag_records", "");
    assert!(lag == 0.0, "{lag}");
    daemon.stop();
}

const RIGS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Sends the `i`-th records of the rigs: the last one's to partition 1, the others' to partition 0.
fn send_rigs(stream: &Stream, i: usize, rigs: &[&str]) {
    for partition in ["0", "1"] {
        let of_partition = |rig: &&&str| (**rig == "h") == (partition == "1");
        let of = |rig: &&str| steady(i, 0.0).replace("\"valve\"", &format!("\"{rig}\""));
        let lines: Vec<String> = rigs.iter().filter(of_partition).map(of).collect();
        if !lines.is_empty() {
            let text = lines.join("\n") + "\n";
            produce(
                &stream.broker,
                &stream.topic,
                text.as_bytes(),
                &["-p", partition],
            );
        }
    }
}

#[test]
fn seven_of_eight_machines_that_fall_silent_are_announced_where_the_eighth_is_in_another_partition()
{
    let stream = Stream::partitioned("seven", "exactly_once", 2);
    at_least(&stream, "2s");
    let flags = ["--set", "kafka.consumer={\"statistics.interval.ms\" = 500}"];
    let mut daemon = Daemon::start_with(&stream.config, "daemon", &flags);
    daemon.await_metric("outlierd_partitions", "", 2.0);
    let mut i = 0;
    while i < 40 {
        send_rigs(&stream, i, &RIGS);
        i += 1;
        // By offset: those of partition 1 are among them.
        stream.await_scores(7 * i);
    }
    let mut opened = wait_for("the silence of seven", || {
        send_rigs(&stream, i, &["h"]);
        i += 1;
        let found = silences(&stream);
        (found.len() >= 7).then_some(found)
    });
    opened.sort_by_key(|alert| alert["series"].to_string());
    let series: Vec<&str> = opened
        .iter()
        .filter_map(|alert| alert["series"].as_str())
        .collect();
    assert_eq!(series, RIGS[..7]);
    let summary = opened[0]["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("Series a has sent no record since 00:00:39 UTC; a record was due by"),
        "{summary}"
    );
    // Over a restart they stay open, and nothing is announced twice.
    daemon.stop();
    let mut daemon = Daemon::start_with(&stream.config, "again", &flags);
    (0..3).for_each(|more| send_rigs(&stream, i + more, &["h"]));
    let back = i + 3;
    send_rigs(&stream, back, &RIGS);
    let all = wait_for("their end", || {
        let found = silences(&stream);
        (events(&found, "close").len() >= 7).then_some(found)
    });
    assert_eq!(all.len(), 14, "{all:#?}");
    daemon.stop();
}
