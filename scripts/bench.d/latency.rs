//! Record-to-alert latency: arrival of an alert, read committed, minus the event time of the record
//! that made it, which is the time at which that record was handed to the producer. Both are told
//! by the clock of this machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::kafka;
use super::plant::{self, Plant};

/// Records of a shift: enough to open an episode, few enough that it soon closes again.
const SHIFT_RECORDS: u8 = 6;
/// How long the sender's client gathers records: librdkafka's default. Part of every latency that
/// is measured here.
const LINGER: Duration = Duration::from_millis(5);
/// How often the sender looks how many records are due.
const TICK: Duration = Duration::from_millis(1);
/// What was caused by the last records is waited for so long.
const DRAIN: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct Args {
    /// host:port
    #[arg(long)]
    brokers: String,
    /// Where the records go
    #[arg(long)]
    topic: String,
    /// Where the alerts come from
    #[arg(long)]
    alerts: String,
    /// Records a second
    #[arg(long)]
    rate: f64,
    /// Series, which take turns
    #[arg(long)]
    series: usize,
    /// Readings of a record
    #[arg(long, default_value_t = 8)]
    fields: usize,
    /// Partitions of the topic
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Alert events a second that the shifts are to cause: each opens an episode and closes it
    #[arg(long, default_value_t = 20.0)]
    events: f64,
    /// Seconds before the measurement; shifts begin half-way
    #[arg(long, default_value_t = 20.0)]
    warm_up: f64,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Measure the records themselves instead: `--alerts` is then the topic that they go to
    #[arg(long)]
    echo: bool,
}

/// The moment that an alert, or a record, was caused.
#[derive(Deserialize)]
struct Caused {
    /// Of an alert: RFC 3339.
    time: Option<String>,
    /// Of a record: microseconds.
    ts: Option<i64>,
}

fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}

pub fn main(args: &Args) -> anyhow::Result<()> {
    let reader = kafka::reader(&args.brokers, &args.alerts)?;
    kafka::assign_all(&reader, &args.alerts)?;
    let done = AtomicBool::new(false);
    let from = now_micros() + (args.warm_up * 1e6) as i64;
    let until = from + (args.seconds * 1e6) as i64;
    let (sent, latencies) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let sent = send(args);
            done.store(true, Ordering::Release);
            sent
        });
        let latencies = receive(&reader, &done, from..until);
        (sender.join(), latencies)
    });
    let (records, took) = sent.map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let mut latencies = latencies?;
    latencies.sort_unstable();
    println!(
        "{}",
        summary(args, &latencies, records as f64 / took.as_secs_f64())
    );
    Ok(())
}

fn summary(args: &Args, sorted: &[i64], rate: f64) -> Value {
    let millis = |part: f64| {
        let index = (part * sorted.len() as f64).ceil() as usize;
        sorted
            .get(index.saturating_sub(1))
            .map(|micros| *micros as f64 / 1e3)
    };
    json!({
        "rate_wanted": args.rate, "rate": rate, "events": sorted.len(), "events_a_second": sorted.len() as f64 / args.seconds,
        "p50_ms": millis(0.5), "p90_ms": millis(0.9), "p99_ms": millis(0.99), "p999_ms": millis(0.999), "max_ms": millis(1.0),
    })
}

/// Sends at the rate; returns how many records, and in what time.
fn send(args: &Args) -> anyhow::Result<(u64, Duration)> {
    let producer = kafka::producer(&args.brokers, LINGER)?;
    let mut plant = Plant::new(args.fields, 2);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let names: Vec<String> = (0..args.series).map(plant::name).collect();
    let mut shifted = vec![0u8; args.series];
    let chance = (args.events / 2.0 / args.rate).min(1.0);
    let (started, mut sent, mut payload) = (Instant::now(), 0u64, Vec::new());
    let wanted = args.warm_up + args.seconds;
    while started.elapsed().as_secs_f64() < wanted {
        let elapsed = started.elapsed().as_secs_f64();
        let due = (elapsed * args.rate) as u64;
        while sent < due {
            let series = sent as usize % args.series;
            if shifted[series] > 0 {
                shifted[series] -= 1;
            } else if elapsed > args.warm_up / 2.0 && random.random_bool(chance) {
                shifted[series] = SHIFT_RECORDS;
            }
            plant.write(
                &mut payload,
                &names[series],
                now_micros(),
                shifted[series] > 0,
            );
            let partition = (series % args.partitions as usize) as i32;
            kafka::send(&producer, &args.topic, partition, &names[series], &payload)?;
            sent += 1;
        }
        producer.poll(Duration::ZERO);
        std::thread::sleep(TICK);
    }
    kafka::finish(&producer)?;
    Ok((sent, started.elapsed()))
}

/// Latencies, in microseconds, of what was caused in `window`, until the sender is done and what it
/// caused has come.
fn receive(
    reader: &rdkafka::consumer::BaseConsumer,
    done: &AtomicBool,
    window: std::ops::Range<i64>,
) -> anyhow::Result<Vec<i64>> {
    let mut latencies = Vec::new();
    let mut ended = None;
    loop {
        if done.load(Ordering::Acquire) && ended.get_or_insert_with(Instant::now).elapsed() > DRAIN
        {
            return Ok(latencies);
        }
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let arrival = now_micros();
                let caused: Caused = serde_json::from_slice(message.payload().unwrap_or_default())?;
                let caused = match (caused.time, caused.ts) {
                    (Some(time), _) => time.parse::<jiff::Timestamp>()?.as_microsecond(),
                    (None, ts) => ts.context("neither an alert nor a record")?,
                };
                if window.contains(&caused) {
                    latencies.push(arrival - caused);
                }
            }
            // A broker that a busy machine keeps waiting is asked again by librdkafka itself.
            Some(Err(KafkaError::PartitionEOF(_) | KafkaError::MessageConsumption(_))) | None => {}
            Some(Err(error)) => return Err(error.into()),
        }
    }
}
