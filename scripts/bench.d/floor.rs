//! `bench-floor`: the least that any program of outlierd's kind has to do: consume, parse, the same
//! forward pass. It has outlierd's consumers, batches, decoder and bundle, one thread a lane, and
//! nothing behind the forward pass: no gate, no chart, no thresholds, no states, no commits. Prints
//! `<seconds> <records so far>` every 50 ms.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use outlierd::config::settings::{Settings, StreamSettings};
use outlierd::config::{ConfigSources, load};
use outlierd::decode::records::Decoder;
use outlierd::model::registry::Registry;
use outlierd::score::Scorer;
use outlierd::source::{BatchBounds, consumer_config, poll_batch, view};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

const SAMPLE_EVERY: Duration = Duration::from_millis(50);

#[derive(Parser)]
struct Flags {
    /// outlierd's configuration file; its only stream is read
    #[arg(long)]
    config: PathBuf,
    /// As outlierd's --set
    #[arg(long)]
    set: Vec<String>,
    /// Stop after this many records
    #[arg(long)]
    records: u64,
    /// Stop after this many seconds
    #[arg(long)]
    seconds: u64,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let settings = load(&ConfigSources::of_process(Some(flags.config), flags.set))?;
    let stream = settings
        .streams
        .first()
        .context("the configuration has no stream")?;
    ensure!(
        stream.window == 1,
        "a floor of row models only: its windows are the records"
    );
    let (count, stop, started) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..stream.input.lanes)
            .map(|number| {
                let (settings, count, stop) = (&settings, &count, &stop);
                scope.spawn(move || {
                    let ended = lane(settings, stream, number, count, stop);
                    stop.store(true, Ordering::Release);
                    ended
                })
            })
            .collect();
        while !stop.load(Ordering::Acquire) {
            let records = count.load(Ordering::Acquire);
            println!("{:.3} {records}", started.elapsed().as_secs_f64());
            if records >= flags.records || started.elapsed().as_secs() >= flags.seconds {
                stop.store(true, Ordering::Release);
            }
            std::thread::sleep(SAMPLE_EVERY);
        }
        lanes.into_iter().try_for_each(|lane| {
            lane.join()
                .map_err(|_| anyhow::anyhow!("a lane panicked"))?
        })
    })
}

fn lane(
    settings: &Settings,
    stream: &StreamSettings,
    number: usize,
    count: &AtomicU64,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let registry = Registry::open(&settings.service.model_dir)?;
    let bundle = registry
        .load_current(&stream.name)?
        .context("the stream has no bundle: train one first")?;
    let scorer = Scorer::new(bundle, &stream.score)?;
    let decoder = Decoder::new(&stream.record);
    let consumer: BaseConsumer = consumer_config(
        &settings.kafka,
        &stream.input,
        &format!("bench-floor-{number}"),
    )
    .create()?;
    consumer.subscribe(&[&stream.input.topic])?;
    let bounds = BatchBounds::of(&stream.input);
    while !stop.load(Ordering::Acquire) {
        let batch = poll_batch(&consumer, bounds, || false, |_| false)?;
        let messages: Vec<_> = batch.iter().map(view).collect();
        let decoded = decoder.decode(&messages);
        ensure!(
            decoded.rejected.is_empty(),
            "a record of the benchmark was rejected: {:?}",
            decoded.rejected
        );
        black_box(scorer.forward(scorer.bundle().calibration.scaler.scaled(&decoded.values))?);
        count.fetch_add(batch.len() as u64, Ordering::AcqRel);
    }
    Ok(())
}
