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
    wait_for("the partition", || daemon.log().contains("assigned").then_some(()));
    // One by one: the topic's own cadence has to be known.
    for i in 0..40 {
        stream.send(&[steady(i, 0.0)]);
    }
    let silences =
        || -> Vec<Value> { stream.alerts().0.into_iter().filter(|alert| alert["kind"] == "silence").collect() };
    let open = wait_for("the silence", || silences().pop());
    assert_eq!((&open["series"], &open["event"], &open["severity"]), (&"*".into(), &"open".into(), &"critical".into()));
    // Over a restart the alert stays open until a record comes.
    daemon.stop();
    let mut daemon = Daemon::start(&stream.config, "again");
    stream.send(&(40..TRAIN + 20).map(|i| steady(i, 0.0)).collect::<Vec<_>>());
    let close = wait_for("its end", || silences().into_iter().find(|alert| alert["event"] == "close"));
    assert_eq!(close["id"], open["id"]);
    stream.await_scores(TRAIN + 20);
    assert_eq!(silences().len(), 2, "{:#?}", silences());
    daemon.stop();
}
