//! `/readyz` says that outlierd scores nothing, and why.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::own_broker::OwnBroker;
use crate::support::stream::{Stream, TRAIN, records};
use crate::support::topics::delete_topic;
use crate::support::{Daemon, create_topic, wait_for};

/// How long `/readyz` may answer 200 while records wait and none is scored; librdkafka reports what it
/// sees every 5 s.
const NOTICED: Duration = Duration::from_secs(15 + 5);

/// The same as [`await_answer`], and in time.
fn await_notice(daemon: &Daemon, reason: &str) {
    let began = Instant::now();
    await_answer(daemon, " 503 ", reason);
    let took = began.elapsed();
    println!("{reason:?} after {} ms", took.as_millis());
    assert!(took < NOTICED, "{took:?} until {reason:?}");
}

/// Waits until `/readyz` answers so: the status, and a part of the reason.
fn await_answer(daemon: &Daemon, status: &str, reason: &str) {
    wait_for(&format!("{status} with {reason:?}"), || {
        let page = daemon.page("/readyz")?;
        (page.contains(status) && page.contains(reason)).then_some(())
    });
}

#[test]
fn readiness_follows_the_broker() {
    let broker = OwnBroker::start();
    let stream = Stream::on(&broker.address(), "ready", "exactly_once");
    let records = records();
    stream.send(&records[..TRAIN + 50]);
    broker.stop();
    let mut daemon = Daemon::start(&stream.config, "daemon");
    // HTTP is there before the broker is.
    await_answer(&daemon, " 503 ", "no broker");
    broker.start_again();
    stream.await_scores(TRAIN + 50);
    await_answer(&daemon, " 200 ", "ready");
    assert_eq!(daemon.metric("outlierd_ready", ""), 1.0);
    broker.stop();
    await_notice(&daemon, "no broker is connected");
    broker.start_again();
    await_answer(&daemon, " 200 ", "ready");
    // It answers nothing and breaks no connection.
    broker.freeze();
    await_notice(&daemon, "none answers");
    broker.thaw();
    await_answer(&daemon, " 200 ", "ready");
    stream.send(&records[TRAIN + 50..]);
    stream.assert_same_as_replay(&records);
    daemon.stop();
}

#[test]
fn a_spare_instance_without_partitions_is_ready() {
    let stream = Stream::delivered("spare", "exactly_once");
    stream.send(&records()[..TRAIN + 10]);
    let mut first = Daemon::start(&stream.config, "daemon");
    stream.await_scores(TRAIN + 10);
    let text = fs::read_to_string(&stream.config).unwrap();
    let folder = stream.folder.path().join("spare");
    fs::create_dir(&folder).unwrap();
    let config = folder.join("outlierd.toml");
    let path = format!("{}/", stream.folder.path().display());
    fs::write(
        &config,
        text.replace(&path, &format!("{}/", folder.display())),
    )
    .unwrap();
    let mut spare = Daemon::start(&config, "spare");
    await_answer(&spare, " 200 ", "ready");
    first.stop();
    spare.stop();
}

#[test]
fn a_topic_that_is_deleted_while_outlierd_runs_is_reported() {
    let stream = Stream::delivered("deleted", "exactly_once");
    let records = records();
    let until = TRAIN + 50;
    stream.send(&records[..until]);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(until);
    await_answer(&daemon, " 200 ", "ready");
    // An output: records wait, and none can be scored.
    let scores = format!("{}.scores", stream.topic);
    delete_topic(&stream.broker, &scores);
    stream.send(&records[until..until + 50]);
    await_notice(&daemon, "failure");
    create_topic(&stream.broker, &scores, 1);
    wait_for("the records that waited", || {
        (stream.count_scores() >= 50).then_some(())
    });
    await_answer(&daemon, " 200 ", "ready");
    // The input: nothing is left to score.
    delete_topic(&stream.broker, &stream.topic);
    await_answer(&daemon, " 503 ", &stream.topic);
    create_topic(&stream.broker, &stream.topic, 1);
    stream.send(&records[until + 50..until + 100]);
    wait_for("the records of the new topic", || {
        (stream.count_scores() >= 100).then_some(())
    });
    await_answer(&daemon, " 200 ", "ready");
    daemon.stop();
}

#[test]
fn a_start_without_its_input_topic_ends_and_names_it() {
    let stream = Stream::delivered("missing", "exactly_once");
    delete_topic(&stream.broker, &stream.topic);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    assert_eq!(daemon.wait(), 1, "{}", daemon.log());
    let error = format!("its input topic {:?} does not exist", stream.topic);
    assert!(daemon.log().contains(&error), "{}", daemon.log());
}
