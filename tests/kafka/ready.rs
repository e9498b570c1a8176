//! `/readyz` says that outlierd scores nothing, and why.

use std::fs;

use crate::support::own_broker::OwnBroker;
use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{Daemon, wait_for};

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
    await_answer(&daemon, " 503 ", "no broker is connected");
    broker.start_again();
    await_answer(&daemon, " 200 ", "ready");
    // It answers nothing and breaks no connection.
    broker.freeze();
    await_answer(&daemon, " 503 ", "consumer group");
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
