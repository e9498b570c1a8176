//! What the tests against a real broker share: unique topics, kcat as the independent client, the
//! daemon as a process.

pub mod own_broker;
pub mod process;
pub mod stream;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

pub use self::process::{Daemon, OUTLIERD, PATIENCE, wait_for, write_config};

/// `host:port` of the broker that scripts/test started.
pub fn broker() -> String {
    std::env::var("OUTLIERD_TEST_KAFKA").expect(
        "OUTLIERD_TEST_KAFKA=host:port names the broker; scripts/test starts one and sets it",
    )
}

/// A name that no other test or run uses.
pub fn unique(name: &str) -> String {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    format!("{name}-{}-{nanos}", std::process::id())
}

pub fn create_topic(broker: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .create()
        .unwrap();
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1))
        .set("max.message.bytes", "12582912");
    let created = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(admin.create_topics(
            &[new],
            &AdminOptions::new().operation_timeout(Some(PATIENCE)),
        ))
        .unwrap();
    created.into_iter().for_each(|topic| drop(topic.unwrap()));
}

/// Produces the lines of `text` with kcat, a separate process; `flags` are its own.
pub fn produce(broker: &str, topic: &str, text: &[u8], flags: &[&str]) {
    let mut command = Command::new("kcat");
    command
        .args([
            "-P",
            "-q",
            "-b",
            broker,
            "-t",
            topic,
            "-X",
            "message.max.bytes=12000000",
        ])
        .args(flags);
    let mut kcat = command
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat is installed (scripts/setup --test)");
    kcat.stdin.take().unwrap().write_all(text).unwrap();
    assert!(kcat.wait().unwrap().success());
}

/// A message as it was read.
pub struct Read {
    pub headers: BTreeMap<String, String>,
    pub key: String,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Everything committed in a topic.
pub fn consume(broker: &str, topic: &str) -> Vec<Read> {
    // %S is the value's length (-1: none): values may hold any byte.
    let format = "%h\\n%k\\n%S\\n%s";
    let args = [
        "-C",
        "-q",
        "-e",
        "-b",
        broker,
        "-t",
        topic,
        "-o",
        "beginning",
        "-f",
        format,
    ];
    // A broker that a test stopped may still be on its way.
    let out = wait_for(&format!("kcat to read {topic}"), || {
        let out = Command::new("kcat").args(args).output().unwrap();
        out.status.success().then_some(out)
    });
    let mut rest = out.stdout.as_slice();
    let mut messages = Vec::new();
    while let Some((headers, after)) = line(rest) {
        let (key, after) = line(after).unwrap();
        let (length, value) = line(after).unwrap();
        let length = length.parse::<i64>().unwrap();
        let end = length.max(0) as usize;
        let pair = |pair: &str| {
            pair.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        let headers = headers.split(',').filter_map(pair).collect();
        messages.push(Read {
            headers,
            key,
            value: (length >= 0).then(|| value[..end].to_vec()),
        });
        rest = &value[end..];
    }
    messages
}

/// The first line, and what follows it.
fn line(text: &[u8]) -> Option<(String, &[u8])> {
    let end = text.iter().position(|&byte| byte == b'\n')?;
    Some((
        String::from_utf8_lossy(&text[..end]).into_owned(),
        &text[end + 1..],
    ))
}

/// Runs a command of outlierd and asserts that it succeeds.
pub fn outlierd(args: &[&str]) -> Output {
    let out = Command::new(OUTLIERD).args(args).output().unwrap();
    assert!(
        out.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out
}
