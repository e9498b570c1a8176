//! `bench-load`: makes the records of scripts/bench, and measures what comes back. Written in Rust
//! so that it leaves the machine to what is measured.

mod kafka;
mod latency;
mod plant;

use std::io::{BufWriter, Write as _};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use rdkafka::error::KafkaError;
use serde_json::json;

use self::plant::Plant;

/// Event time of the first record: far enough in the past that no record of a filled topic is from
/// the future.
const FIRST_MICROS: i64 = 1_700_000_000_000_000;
/// Between two records of a series.
const PERIOD_MICROS: i64 = 1_000_000;
/// A topic that stands still for so long is at its end, or broken.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write records to stdout, one a line, to train on
    Sample(Fleet),
    /// Create a topic where it is missing, and fill it as fast as it goes
    Fill {
        #[command(flatten)]
        fleet: Fleet,
        #[command(flatten)]
        to: Topic,
        /// Number of the first record: a second call goes on behind the first one
        #[arg(long, default_value_t = 0)]
        from: usize,
    },
    /// Send records at a steady rate, stamped with the time of sending, and measure how long their
    /// alerts take
    Latency(latency::Args),
    /// Tell how large the entries of a topic are
    Sizes(Topic),
}

/// Who sends how much.
#[derive(Args)]
struct Fleet {
    /// Records
    #[arg(long)]
    records: usize,
    /// Series, which take turns
    #[arg(long)]
    series: usize,
    /// Readings of a record
    #[arg(long, default_value_t = 8)]
    fields: usize,
}

/// Where records are.
#[derive(Args)]
struct Topic {
    /// host:port
    #[arg(long)]
    brokers: String,
    /// Its name
    #[arg(long)]
    topic: String,
    /// Partitions of a topic that is created
    #[arg(long, default_value_t = 4)]
    partitions: i32,
}

fn main() -> anyhow::Result<()> {
    match Flags::parse().command {
        Command::Sample(fleet) => sample(&fleet),
        Command::Fill { fleet, to, from } => fill(&fleet, &to, from),
        Command::Latency(args) => latency::main(&args),
        Command::Sizes(of) => sizes(&of),
    }
}

/// Series and event time of the record with this number.
fn turn(fleet: &Fleet, number: usize) -> (usize, i64) {
    (
        number % fleet.series,
        FIRST_MICROS + (number / fleet.series) as i64 * PERIOD_MICROS,
    )
}

fn sample(fleet: &Fleet) -> anyhow::Result<()> {
    let mut plant = Plant::new(fleet.fields, 0);
    let (mut out, mut line) = (BufWriter::new(std::io::stdout().lock()), Vec::new());
    for number in 0..fleet.records {
        let (series, micros) = turn(fleet, number);
        plant.write(&mut line, &plant::name(series), micros, false);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(out.flush()?)
}

fn fill(fleet: &Fleet, to: &Topic, from: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    kafka::create_topic(&to.brokers, &to.topic, to.partitions)?;
    let producer = kafka::producer(&to.brokers, Duration::from_millis(20))?;
    // Not the records of the training, and not those of the call before.
    let mut plant = Plant::new(fleet.fields, 1 + from as u64);
    let (mut payload, mut bytes) = (Vec::new(), 0);
    for number in from..from + fleet.records {
        let (series, micros) = turn(fleet, number);
        let name = plant::name(series);
        plant.write(&mut payload, &name, micros, false);
        bytes += payload.len();
        kafka::send(
            &producer,
            &to.topic,
            (series % to.partitions as usize) as i32,
            &name,
            &payload,
        )?;
    }
    kafka::finish(&producer)?;
    println!(
        "{}",
        json!({ "records": fleet.records, "bytes": bytes, "seconds": started.elapsed().as_secs_f64() })
    );
    Ok(())
}

/// Reads a topic from its start to its end.
fn sizes(of: &Topic) -> anyhow::Result<()> {
    let consumer = kafka::reader(&of.brokers, &of.topic)?;
    let mut left = kafka::assign_all(&consumer, &of.topic)?;
    let (mut entries, mut key, mut value) = (0u64, 0u64, 0u64);
    let mut progress = Instant::now();
    while left > 0 && progress.elapsed() < PATIENCE {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                progress = Instant::now();
                entries += 1;
                key += message.key_len() as u64;
                value += message.payload_len() as u64;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
    }
    anyhow::ensure!(
        left == 0,
        "{} partitions of {} have no end: is a transaction open?",
        left,
        of.topic
    );
    println!(
        "{}",
        json!({ "entries": entries, "key_bytes": key, "value_bytes": value })
    );
    Ok(())
}
