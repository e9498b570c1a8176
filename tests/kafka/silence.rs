//! A topic that stands still, told from one that is only read slowly.

use std::fs;

use serde_json::Value;

use crate::support::stream::{Stream, TRAIN, steady};
use crate::support::{Daemon, wait_for};

#[test]
fn a_topic_that_stands_still_is_announced_and_closed_by_the_next_record() {
    let stream = Stream::delivered("still", "exactly_once");
    let text = fs::read_to_string(&stream.config).unwrap();
    fs::write(&stream.config, text + "silence = { at_least = \"2s\" }\n").unwrap();
    let mut daemon = Daemon::start(&stream.config, "daemon");
    wait_for("the partition", || {
        daemon.log().contains("assigned").then_some(())
    });
    // One by one, however slow the machine is: the topic's own cadence has to be known.
    for i in 0..40 {
        stream.send(&[steady(i, 0.0)]);
        wait_for("its commit", || {
            (stream.read("states").len() > i).then_some(())
        });
    }
    let silences = || -> Vec<Value> {
        stream
            .alerts()
            .0
            .into_iter()
            .filter(|alert| alert["kind"] == "silence")
            .collect()
    };
    let open = wait_for("the silence", || silences().pop());
    assert_eq!(
        (&open["series"], &open["event"], &open["severity"]),
        (&"*".into(), &"open".into(), &"critical".into())
    );
    // Over a restart the alert stays open until a record comes.
    daemon.stop();
    let mut daemon = Daemon::start(&stream.config, "again");
    stream.send(&(40..TRAIN + 20).map(|i| steady(i, 0.0)).collect::<Vec<_>>());
    let close = wait_for("its end", || {
        silences()
            .into_iter()
            .find(|alert| alert["event"] == "close")
    });
    assert_eq!(close["id"], open["id"]);
    stream.await_scores(TRAIN + 20);
    assert_eq!(silences().len(), 2, "{:#?}", silences());
    daemon.stop();
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
