//! A panic outside of the steps of a record: the process ends, and the next one resumes.

use std::fs;
use std::process::Command;

use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{Daemon, OUTLIERD};

#[test]
fn a_thread_that_panics_ends_the_process_and_the_next_start_resumes() {
    let stream = Stream::delivered("panics", "exactly_once");
    let records = records();
    let mut sent = TRAIN + 50;
    stream.send(&records[..sent]);
    for thread in ["rig-0", "rig-topic", "share"] {
        let now = stream.folder.path().join(format!("now-{thread}"));
        let mut command = Command::new(OUTLIERD);
        command.args(["run", "--config"]).arg(&stream.config);
        command.env("OUTLIERD_TEST_PANIC", format!("{thread}={}", now.display()));
        let log = stream.config.with_file_name(format!("{thread}.log"));
        let mut daemon = Daemon::spawn(command, log);
        stream.await_scores(sent);
        stream.send(&records[sent..sent + 50]);
        sent += 50;
        fs::write(&now, "").unwrap();
        assert_eq!(daemon.wait(), 1, "{}", daemon.log());
        let error = format!("{thread} panicked: {thread} was asked to");
        assert!(daemon.log().contains(&error), "{}", daemon.log());
    }
    stream.send(&records[sent..]);
    let mut daemon = Daemon::start(&stream.config, "daemon-last");
    let alerts = stream.assert_same_as_replay(&records);
    daemon.stop();
    assert_eq!(stream.count_scores(), records.len(), "no record twice");
    assert_eq!(stream.alerts().0.len(), alerts, "no alert twice");
}
