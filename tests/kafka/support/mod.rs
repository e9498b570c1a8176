//! What the tests against a real broker share: unique topics, kcat as the independent client, the
//! daemon as a process.

pub mod guarded_registry;
pub mod own_broker;
pub mod own_realm;
pub mod own_registry;
pub mod process;
pub mod stream;
pub mod token_endpoint;
pub mod topics;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
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

/// Kafka's own limit of a message.
pub const DEFAULT_MESSAGE_BYTES: usize = 1_048_588;

pub fn create_topic(broker: &str, topic: &str, partitions: i32) {
    create_limited_topic(broker, topic, partitions, 12_582_912);
}

/// A topic of messages of at most `bytes_max` bytes.
pub fn create_limited_topic(broker: &str, topic: &str, partitions: i32, bytes_max: usize) {
    let bytes_max = bytes_max.to_string();
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1))
        .set("max.message.bytes", &bytes_max);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let created = block_on(admin(broker).create_topics(&[new], &options)).unwrap();
    created.into_iter().for_each(|topic| drop(topic.unwrap()));
}

/// Changes the limit of the messages of a topic.
pub fn limit_topic(broker: &str, topic: &str, bytes_max: usize) {
    let bytes_max = bytes_max.to_string();
    let new =
        AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &bytes_max);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let changed = block_on(admin(broker).alter_configs(&[new], &options)).unwrap();
    changed.into_iter().for_each(|topic| drop(topic.unwrap()));
}

fn admin(broker: &str) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).create().unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A program of the system. It gets its own libraries: cargo puts the folder where it built librdkafka first in the search path,
/// and kcat would load that one.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// Produces the lines of `text` with kcat, a separate process; `flags` are its own.
pub fn produce(broker: &str, topic: &str, text: &[u8], flags: &[&str]) {
    let mut command = program("kcat");
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
        let out = program("kcat").args(args).output().unwrap();
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
