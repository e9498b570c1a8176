//! Straight through, or stopped and resumed at every k-th record, in batches of any size, with
//! series leaving memory in between: the same outcomes and alerts, those of silence included.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod test_stream;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use outlierd::config::settings::StreamSettings;
use outlierd::model::bundle::Bundle;
use outlierd::pipeline::series::{SeriesState, SeriesTable, StoredSeries};
use outlierd::pipeline::{BatchOutput, Pipeline};
use outlierd::record::alert::{Alert, AlertKind};
use outlierd::record::{EventTime, Message, RecordOutcome};
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::{TrainingRow, TrainingSet};
use outlierd::state::codec;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Series of three gateways, and the partition of each.
const SERIES: [(&str, i32); 9] = [
    ("g/a", 0),
    ("g/b", 0),
    ("i/i", 0),
    ("h/c", 0),
    ("h/d", 0),
    ("g/e", 1),
    ("h/f", 1),
    ("h/g", 1),
    ("i/h", 2),
];

/// Four readings of one load, and their own noise.
fn reading(rng: &mut ChaCha8Rng, step: usize) -> [f64; 4] {
    let load = (step as f64 / 17.0).sin();
    [50.0, 6.0, 20.0, 1.0].map(|mean| {
        mean * (1.0 + 0.1 * load + 0.02 * rng.sample::<f64, _>(rand_distr::StandardNormal))
    })
}

fn stream(kind: &str, window: usize, latent: usize, more: &[&str]) -> Arc<StreamSettings> {
    let own: [&str; 8] = [
        "record.fields=[\"w\", \"x\", \"y\", \"z\"]",
        "record.time=\"field:time\"",
        &format!("model.kind={kind}"),
        "episode.update_every=\"20s\"",
        "silence.at_least=\"15s\"",
        "silence.gateway=\"/\"",
        &format!("window={window}"),
        &format!("model.latent={latent}"),
    ];
    test_stream::stream(&[&own, more].concat())
}

/// A stream of each kind of model, and the folder of a bundle for it.
static TRAINED: LazyLock<Vec<(Arc<StreamSettings>, PathBuf, tempfile::TempDir)>> =
    LazyLock::new(|| {
        let trained = |kind, window, latent, more: &[&str]| {
            let stream = stream(kind, window, latent, more);
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let row = |step: usize| TrainingRow {
                series: SERIES[0].0.into(),
                time: EventTime(step as i64 * 1_000_000),
                values: reading(&mut rng, step).to_vec(),
                image: None,
            };
            let set = TrainingSet::new((0..400).map(row).collect::<Vec<_>>());
            let bundle = learn(&stream, &set, None, &mut |_| ControlFlow::Continue(())).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let saved = bundle.save(folder.path()).unwrap();
            (stream, saved, folder)
        };
        let short = ["model.hidden=[6]", "training.epochs=3"];
        vec![
            trained("linear", 1, 1, &[]),
            trained("linear", 1, 2, &[]),
            trained("linear", 3, 2, &[]),
            trained("dense", 1, 2, &[]),
            trained("conv", 8, 2, &[short[0], short[1], "stride=3"]),
            trained("lstm", 5, 2, &short),
            trained("vae", 1, 2, &short),
            trained(
                "linear",
                4,
                2,
                &["resample.period=\"2s\"", "model.context=[\"time_of_day\"]"],
            ),
            trained(
                "conv_vae",
                6,
                2,
                &[short[0], short[1], "score.scope=window", "stride=6"],
            ),
        ]
    });

/// A record: partition, key and payload.
type Sent = (i32, &'static str, String);

/// Steps that are sent.
const STEPS: std::ops::Range<usize> = 400..600;

/// When each series is silent: the first one always at some time, two that show that never, the
/// others now and then, whole gateways too.
fn silences(rng: &mut ChaCha8Rng) -> Vec<std::ops::Range<usize>> {
    let gateway = rng.random_bool(0.3).then(|| rng.random_range(450..500));
    SERIES
        .iter()
        .enumerate()
        .map(|(index, (series, _))| {
            let begin = rng.random_range(450..530);
            match gateway {
                _ if index == 0 => begin..begin + 60,
                _ if index <= 2 => 0..0,
                Some(begin) if series.starts_with('h') => begin..begin + 50,
                _ if rng.random_bool(0.3) => begin..begin + rng.random_range(5..70),
                _ => 0..0,
            }
        })
        .collect()
}

/// Faults of the machine, stuck and missing sensors, spikes, late and broken records, and series
/// that fall silent.
fn payloads(seed: u64) -> Vec<Sent> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let silences = silences(&mut rng);
    let mut shift = [0usize; SERIES.len()];
    let mut payloads = Vec::new();
    for step in STEPS {
        for (index, (series, partition)) in SERIES.into_iter().enumerate() {
            let mut values = reading(&mut rng, step).map(Some);
            shift[index] = if rng.random_bool(0.01) {
                40
            } else {
                shift[index].saturating_sub(1)
            };
            if shift[index] > 0 {
                values[index % 4] = values[index % 4].map(|v| 1.4 * v);
            }
            match rng.random_range(0..200) {
                0 => values[3] = None,
                1 => values[3] = values[3].map(|v| 100.0 * v),
                _ => {}
            }
            let time = if rng.random_bool(0.01) {
                step - 5
            } else {
                step
            };
            if silences[index].contains(&step) {
                continue;
            }
            let [w, x, y, z] = values;
            let text =
                serde_json::json!({ "time": 1_767_225_600 + time, "w": w, "x": x, "y": y, "z": z })
                    .to_string();
            let broken = rng.random_bool(0.005);
            let text = if broken { text[1..].to_owned() } else { text };
            payloads.push((partition, series, text));
        }
    }
    payloads
}

/// What a lane does around the pipeline: it keeps states and clocks, and lets series leave memory.
struct Lane {
    stream: Arc<StreamSettings>,
    bundle: PathBuf,
    pipeline: Pipeline,
    table: SeriesTable,
    /// States, encoded.
    stored: HashMap<(i32, String), Vec<u8>>,
    /// Clocks of silence, encoded.
    clocks: HashMap<i32, Vec<u8>>,
    batches: u64,
}

impl Lane {
    fn new(stream: &Arc<StreamSettings>, bundle: &Path) -> Self {
        let mut lane = Self {
            stream: stream.clone(),
            bundle: bundle.to_owned(),
            pipeline: Pipeline::new(stream.clone(), None).unwrap(),
            table: SeriesTable::new(10),
            stored: HashMap::new(),
            clocks: HashMap::new(),
            batches: 0,
        };
        lane.start();
        lane
    }

    /// Starts from what is kept, and nothing else.
    fn start(&mut self) {
        let bundle = Bundle::load(&self.bundle).unwrap();
        self.pipeline = Pipeline::new(self.stream.clone(), Some(bundle)).unwrap();
        self.table = SeriesTable::new(10);
        self.table.keep_stored();
        let mut known: HashMap<i32, usize> = HashMap::new();
        for ((partition, series), bytes) in &self.stored {
            let state: SeriesState = codec::decode(bytes).unwrap();
            self.table
                .set_stored(*partition, series, StoredSeries::from(&state));
            *known.entry(*partition).or_default() += 1;
        }
        for (partition, known) in known {
            self.table.set_known(partition, known);
        }
        for (&partition, bytes) in &self.clocks {
            let silence = self.pipeline.silence.as_mut().unwrap();
            silence.set_clock(partition, codec::decode(bytes).unwrap());
        }
    }

    fn commit(&mut self) {
        for slot in self.table.take_dirty() {
            let key = (slot.partition, slot.series.to_string());
            self.stored.insert(key, codec::encode(&slot.state).unwrap());
        }
        drop(self.table.take_unstored());
        for (_, partition) in SERIES {
            let silence = self.pipeline.silence.as_ref();
            if let Some(clock) = silence.and_then(|silence| silence.clock(partition)) {
                self.clocks.insert(partition, codec::encode(clock).unwrap());
            }
        }
    }

    fn run(&mut self, messages: &[Message<'_>]) -> BatchOutput {
        self.batches += 1;
        self.table.set_now(Duration::from_secs(self.batches));
        let stored = &self.stored;
        let mut load = |partition, series: &str| {
            let bytes = stored.get(&(partition, series.to_owned()));
            Ok(bytes.map(|bytes| codec::decode(bytes).unwrap()))
        };
        self.pipeline
            .run(messages, &mut self.table, &mut load)
            .unwrap()
    }
}

/// How a run is broken up.
#[derive(Clone, Copy, Debug)]
struct Broken {
    /// Records of a batch.
    batch: usize,
    /// After every how many records all is forgotten but what is kept.
    resume: usize,
    /// How many series stay in memory after each batch.
    max_series_in_memory: usize,
}

fn message<'s>((offset, (partition, key, payload)): &(i64, &'s Sent)) -> Message<'s> {
    Message {
        partition: *partition,
        offset: *offset,
        key: Some(key.as_bytes()),
        payload: Some(payload.as_bytes()),
        timestamp: None,
        arrival: None,
        headers: None,
    }
}

/// Records of a batch of the run that is not broken up. The size does not matter: the kernels score
/// each window by itself, those of all kinds over readings.
const WHOLE: usize = 800;

/// What became of the payloads, in large batches, or broken up.
fn run(
    stream: &Arc<StreamSettings>,
    bundle: &Path,
    payloads: &[Sent],
    broken: Option<Broken>,
) -> (Vec<RecordOutcome>, Vec<Alert>) {
    let mut lane = Lane::new(stream, bundle);
    let (mut outcomes, mut alerts) = (Vec::new(), Vec::new());
    let all: Vec<(i64, &Sent)> = (0..).zip(payloads).collect();
    let (resume, batch) = broken.map_or((all.len(), WHOLE), |b| (b.resume, b.batch));
    for part in all.chunks(resume) {
        for chunk in part.chunks(batch) {
            let messages: Vec<Message<'_>> = chunk.iter().map(message).collect();
            let done = lane.run(&messages);
            // The index of the message is that inside its batch.
            outcomes.extend(done.outcomes.into_iter().map(|outcome| RecordOutcome {
                message: 0,
                ..outcome
            }));
            alerts.extend(done.alerts);
            if let Some(broken) = broken {
                lane.commit();
                lane.table
                    .evict(Duration::from_secs(3), broken.max_series_in_memory);
            }
        }
        if broken.is_some() {
            lane.start();
        }
    }
    (outcomes, alerts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(45))]
    #[test]
    fn stopped_and_resumed_is_straight_through(
        seed: u64, batch in 1..80usize, resume in 1..300usize, max_series_in_memory in 0..9usize, which in 0..9usize,
    ) {
        let (stream, bundle, _) = &TRAINED[which];
        let payloads = payloads(seed);
        let straight = run(stream, bundle, &payloads, None);
        let of = |kind: AlertKind| straight.1.iter().filter(|alert| alert.kind == kind).count();
        prop_assert!(of(AlertKind::Anomaly) + of(AlertKind::SensorFault) > 0, "the payloads hold faults");
        prop_assert!(of(AlertKind::Silence) > 0, "and a series that falls silent");
        let broken = Broken { batch, resume, max_series_in_memory };
        let resumed = run(stream, bundle, &payloads, Some(broken));
        prop_assert_eq!(straight.0.len(), resumed.0.len());
        for (a, b) in straight.0.iter().zip(&resumed.0) {
            prop_assert_eq!(a, b);
        }
        prop_assert_eq!(straight.1, resumed.1);
    }
}
