//! Two machines that were started with copies of one state folder have one transactional id.

use std::fs;
use std::process::Command;

use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{Daemon, wait_for};

#[test]
fn a_copied_state_folder_is_named_as_the_cause() {
    let stream = Stream::partitioned("copied", "exactly_once", 2);
    let records = records();
    stream.send(&records[..TRAIN + 50]);
    let mut first = Daemon::start(&stream.config, "first");
    wait_for("the topics", || {
        first.log().contains("topics ready").then_some(())
    });
    // Offsets of two partitions: not by offset.
    wait_for("all scores", || {
        (stream.read("scores").len() >= TRAIN + 50).then_some(())
    });
    first.stop();
    // As an image of a machine that is started twice.
    let folder = stream.folder.path().join("copy");
    fs::create_dir(&folder).unwrap();
    for part in ["state", "models"] {
        let from = stream.folder.path().join(part);
        let copied = Command::new("cp").arg("-r").args([&from, &folder]).status();
        assert!(copied.unwrap().success());
    }
    let text = fs::read_to_string(&stream.config).unwrap();
    let old = format!("{}/", stream.folder.path().display());
    let config = folder.join("outlierd.toml");
    fs::write(
        &config,
        text.replace(&old, &format!("{}/", folder.display())),
    )
    .unwrap();
    // The second start finds the first one running; where they start at once, one ends.
    let first = Daemon::start(&stream.config, "again");
    wait_for("the first one", || {
        first.log().contains("running lanes").then_some(())
    });
    let daemons = [first, Daemon::start(&config, "copy")];
    let mut rest = records[TRAIN + 50..].chunks(5);
    wait_for("the cause in the log of one of them", || {
        // Each commits, so that the one with the older producer notices.
        rest.next()
            .into_iter()
            .for_each(|records| stream.send(records));
        let named = |daemon: &Daemon| {
            let log = daemon.log();
            log.contains("fenced the transactional id")
                && log.contains("a copy of its state folder")
        };
        daemons.iter().any(named).then_some(())
    });
}
