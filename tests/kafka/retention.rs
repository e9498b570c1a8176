//! Series that leave memory, and those that are forgotten.

use serde_json::Value;

use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{Daemon, wait_for};

/// The record of another rig, at a later time.
fn of(rig: &str, record: &str, later: jiff::SignedDuration) -> String {
    let mut record: Value = serde_json::from_str(record).unwrap();
    record["rig"] = rig.into();
    let time: jiff::civil::DateTime = record["time"]
        .as_str()
        .unwrap()
        .trim_end_matches('Z')
        .parse()
        .unwrap();
    record["time"] = format!("{}Z", time + later).into();
    record.to_string()
}

#[test]
fn series_come_back_from_the_store_as_they_left_memory() {
    let stream = Stream::delivered("idle", "exactly_once");
    // A silence is told in another moment of a series that is not in memory.
    let text = std::fs::read_to_string(&stream.config).unwrap();
    std::fs::write(&stream.config, text + "silence = { after = 0 }\n").unwrap();
    let normal = records();
    let mut all = normal[..TRAIN].to_vec();
    let rigs: Vec<String> = (0..5).map(|number| format!("rig-{number}")).collect();
    let now = jiff::SignedDuration::ZERO;
    all.extend(
        normal[TRAIN + 100..TRAIN + 350]
            .iter()
            .flat_map(|record| rigs.iter().map(move |rig| of(rig, record, now))),
    );
    stream.send(&all);
    // Two of the five, and those of a batch: all others come from the store with each of their
    // records.
    let sets = [
        "streams.rig.retention.max_series_in_memory=2",
        "streams.rig.retention.evict_after=\"1s\"",
        "streams.rig.input.batch_records=4",
    ];
    let flags: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let mut daemon = Daemon::start_with(&stream.config, "daemon", &flags);
    let total = stream.assert_same_as_replay(&all);
    daemon.stop();
    assert_eq!(stream.alerts().0.len(), total);
}

#[test]
fn a_series_that_stays_silent_is_forgotten() {
    let stream = Stream::delivered("expire", "exactly_once");
    let normal = records();
    let text = std::fs::read_to_string(&stream.config).unwrap();
    std::fs::write(
        &stream.config,
        text + "retention = { evict_after = \"1s\", forget_after = \"2m\" }\n",
    )
    .unwrap();
    let mut all = normal[..TRAIN + 50].to_vec();
    stream.send(&all);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(all.len());
    // Another rig goes on, two hours later; a look at all stored series is due every 7.5 s.
    let hours = jiff::SignedDuration::from_hours;
    let mut rest = normal[TRAIN + 50..].iter();
    let forgotten = |stream: &Stream| {
        stream
            .read("states")
            .iter()
            .any(|r| r.key == "valve" && r.value.is_none())
    };
    wait_for("the tombstone", || {
        if let Some(record) = rest.next() {
            all.push(of("other", record, hours(2)));
            stream.send(&all[all.len() - 1..]);
        }
        forgotten(&stream).then_some(())
    });
    daemon.await_metric("outlierd_expired_series_total", "", 1.0);
    let back: Vec<String> = normal[TRAIN + 50..]
        .iter()
        .map(|record| of("valve", record, hours(3)))
        .collect();
    stream.send(&back);
    all.extend(back);
    stream.assert_same_as_replay(&all);
    daemon.stop();
    let newest = stream
        .read("states")
        .into_iter()
        .rfind(|read| read.key == "valve")
        .unwrap();
    assert!(newest.value.is_some(), "it is known anew");
}
