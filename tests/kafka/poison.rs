//! Records that a topic does not take, as they are or for what they cause: the stream steps over
//! them, and says so.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{
    DEFAULT_MESSAGE_BYTES, Daemon, PATIENCE, Read, create_limited_topic, limit_topic, wait_for,
};

/// How long records may wait that come behind the ones that no topic takes.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Random bytes: compression must not make them fit.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(bytes).collect()
}

/// A message of the input.
struct Message {
    key: Vec<u8>,
    value: Vec<u8>,
    headers: OwnedHeaders,
}

impl Message {
    fn new(key: &[u8], value: Vec<u8>) -> Self {
        Self {
            key: key.to_vec(),
            value,
            headers: OwnedHeaders::new(),
        }
    }
}

fn send(stream: &Stream, messages: &[Message]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &stream.broker)
        .set("message.max.bytes", "12000000")
        .create()
        .unwrap();
    for message in messages {
        let record = BaseRecord::to(&stream.topic)
            .key(&message.key)
            .payload(&message.value)
            .headers(message.headers.clone());
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// A stream whose dead letters' topic has Kafka's own limit, and its daemon once that scores.
fn start(name: &str, delivery: &str) -> (Stream, Vec<String>, Daemon) {
    let stream = Stream::delivered(name, delivery);
    let dead = format!("{}.dead", stream.topic);
    create_limited_topic(&stream.broker, &dead, 1, DEFAULT_MESSAGE_BYTES);
    let records = records();
    stream.send(&records[..TRAIN + 50]);
    let daemon = Daemon::start(&stream.config, "daemon");
    stream.await_scores(TRAIN + 50);
    (stream, records, daemon)
}

/// What is left out of a dead letter: payload, key, headers.
fn left_out(letter: &Read) -> [bool; 3] {
    ["payload", "key", "headers"]
        .map(|part| letter.headers[&format!("outlierd-{part}-omitted")] == "true")
}

fn restarts(daemon: &Daemon) -> f64 {
    daemon.metric("outlierd_lane_restarts_total", "")
}

#[test]
fn parts_of_a_record_that_its_dead_letter_has_no_room_for_are_left_out() {
    let (stream, records, mut daemon) = start("left-out", "exactly_once");
    let mut many_headers = Message::new(b"k", b"{}".to_vec());
    for number in 0..1_000 {
        let value = noise(1_400);
        many_headers.headers = many_headers.headers.insert(Header {
            key: &format!("h{number}"),
            value: Some(&value),
        });
    }
    let mut messages = vec![
        Message::new(&noise(1_048_300), b"{}".to_vec()),
        Message::new(&noise(1_500_000), noise(1_500_000)),
        many_headers,
    ];
    // Each a byte shorter than the one before.
    messages.extend((0..12).map(|number| Message::new(b"k", noise(1_500_000 - number))));
    let sent = Instant::now();
    send(&stream, &messages);
    stream.send(&records[TRAIN + 50..TRAIN + 150]);
    stream.await_scores(TRAIN + 150);
    assert!(sent.elapsed() < DELAY_MAX, "{:?}", sent.elapsed());
    let letters = stream.read("dead");
    let found: Vec<[bool; 3]> = letters.iter().map(left_out).collect();
    let payload = [true, false, false];
    let mut due = vec![
        [false, true, false],
        [true, true, false],
        [false, false, true],
    ];
    due.extend([payload; 12]);
    assert_eq!(found, due);
    assert_eq!(letters[0].value.as_deref(), Some(b"{}".as_slice()));
    assert_eq!(letters[3].key, "k");
    assert_eq!(restarts(&daemon), 0.0, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_limit_that_is_lowered_while_outlierd_runs_does_not_stop_the_stream() {
    for delivery in ["exactly_once", "at_least_once"] {
        a_limit_is_lowered(delivery);
    }
}

fn a_limit_is_lowered(delivery: &str) {
    let (stream, records, mut daemon) = start("lowered", delivery);
    let dead = format!("{}.dead", stream.topic);
    limit_topic(&stream.broker, &dead, 100_000);
    send(&stream, &[Message::new(b"k", noise(600_000))]);
    stream.send(&records[TRAIN + 50..TRAIN + 150]);
    stream.await_scores(TRAIN + 150);
    let letters = stream.read("dead");
    assert_eq!(
        letters.iter().map(left_out).collect::<Vec<_>>(),
        [[true, false, false]]
    );
    wait_for("ready", || {
        daemon.page("/readyz")?.contains(" 200 ").then_some(())
    });
    daemon.stop();
}

/// The name of a series as long as one may be, that compression makes no shorter.
fn long_name() -> String {
    let mut name = String::new();
    for byte in noise(128) {
        write!(name, "{byte:02x}").unwrap();
    }
    name
}

#[test]
fn a_record_whose_alert_no_topic_takes_is_stepped_over() {
    let stream = Stream::delivered("refused-alert", "exactly_once");
    let plain = "kafka.producer = { \"compression.type\" = \"none\" }\n";
    let text = fs::read_to_string(&stream.config).unwrap();
    fs::write(&stream.config, plain.to_owned() + &text).unwrap();
    let records = records();
    let (alerts, _) = stream.replay(&records);
    let longest = alerts.iter().map(|alert| alert.to_string().len()).max();
    // Headers, key and what Kafka adds have room, and not a name that is longer by 250 bytes and
    // occurs three times.
    let alerts = format!("{}.alerts", stream.topic);
    create_limited_topic(&stream.broker, &alerts, 1, longest.unwrap() + 800);
    // Records of the other series between those of the first: the level shift of both begins with
    // record 700.
    let name = long_name();
    let mut all = records[..690].to_vec();
    let other = |record: &String| record.replace("\"valve\"", &format!("\"{name}\""));
    all.extend(records[600..640].iter().map(other));
    all.extend(records[700..708].iter().map(other));
    all.extend_from_slice(&records[690..]);
    stream.send(&all);
    let mut daemon = Daemon::start(&stream.config, "daemon");
    daemon.await_metric("outlierd_records_stepped_over_total", "", 1.0);
    let stepped_over = wait_for("the last record", || {
        let stepped_over = daemon.metric("outlierd_records_stepped_over_total", "") as usize;
        (stream.scores().len() + stepped_over >= all.len()).then_some(stepped_over)
    });
    let failed = |letter: &Read| letter.headers["outlierd-reason"] == "failed";
    let letters = stream.read("dead");
    assert_eq!(letters.iter().filter(|l| failed(l)).count(), stepped_over);
    let of_first = |score: &serde_json::Value| score["series"] == "valve";
    let scores = stream.scores();
    let first = scores.values().filter(|score| of_first(score)).count();
    assert_eq!(first, records.len(), "{}", daemon.log());
    assert!(daemon.log().contains("ERROR"), "{}", daemon.log());
    wait_for("ready", || {
        daemon.page("/readyz")?.contains(" 200 ").then_some(())
    });
    daemon.stop();
}
