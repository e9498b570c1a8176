//! Straight through, or stopped and resumed at every k-th record, in batches of any size: the same outcomes and alerts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use outlierd::config::settings::Stream;
use outlierd::config::{Sources, load};
use outlierd::model::bundle::Bundle;
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::SeriesTable;
use outlierd::record::alert::Alert;
use outlierd::record::{EventTime, Message, Outcome};
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::{TrainingRow, TrainingSet};
use outlierd::state::codec;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SERIES: [&str; 3] = ["a", "b", "c"];

/// Four readings of one load, and their own noise.
fn reading(rng: &mut ChaCha8Rng, step: usize) -> [f64; 4] {
    let load = (step as f64 / 17.0).sin();
    [50.0, 6.0, 20.0, 1.0].map(|mean| {
        mean * (1.0 + 0.1 * load + 0.02 * rng.sample::<f64, _>(rand_distr::StandardNormal))
    })
}

fn stream(kind: &str, window: usize, latent: usize, more: &[&str]) -> Stream {
    let overrides = [
        "streams.s.input.topic=t".to_owned(),
        "streams.s.record.fields=[\"w\", \"x\", \"y\", \"z\"]".to_owned(),
        "streams.s.record.time=\"field:time\"".to_owned(),
        format!("streams.s.model.kind={kind}"),
        "streams.s.episode.update_every=\"20s\"".to_owned(),
        format!("streams.s.window={window}"),
        format!("streams.s.model.latent={latent}"),
    ];
    let more = more.iter().map(|&setting| format!("streams.s.{setting}"));
    let overrides = overrides.into_iter().chain(more).collect();
    load(&Sources {
        overrides,
        ..Sources::default()
    })
    .unwrap()
    .streams
    .remove(0)
}

/// A stream of each kind of model, and the folder of a bundle for it.
static TRAINED: LazyLock<Vec<(Arc<Stream>, PathBuf, tempfile::TempDir)>> = LazyLock::new(|| {
    let trained = |kind, window, latent, more: &[&str]| {
        let stream = stream(kind, window, latent, more);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let row = |step: usize| TrainingRow {
            series: SERIES[0].into(),
            time: EventTime(step as i64 * 1_000_000),
            values: reading(&mut rng, step).to_vec(),
            image: None,
        };
        let set = TrainingSet::new((0..400).map(row).collect::<Vec<_>>());
        let bundle = learn(&stream, &set, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let saved = bundle.save(folder.path()).unwrap();
        (Arc::new(stream), saved, folder)
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
            &[short[0], short[1], "score.over=window", "stride=6"],
        ),
    ]
});

/// Keys and payloads: faults of the machine, stuck and missing sensors, spikes, late and broken records.
fn payloads(seed: u64) -> Vec<(&'static str, String)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut shift = [0usize; 3];
    let mut payloads = Vec::new();
    for step in 400..700 {
        for (index, series) in SERIES.into_iter().enumerate() {
            let mut values = reading(&mut rng, step).map(Some);
            shift[index] = if rng.random_bool(0.01) {
                40
            } else {
                shift[index].saturating_sub(1)
            };
            if shift[index] > 0 {
                values[index] = values[index].map(|v| 1.4 * v);
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
            let [w, x, y, z] = values;
            let text =
                serde_json::json!({ "time": 1_767_225_600 + time, "w": w, "x": x, "y": y, "z": z })
                    .to_string();
            payloads.push((
                series,
                if rng.random_bool(0.005) {
                    text[1..].to_owned()
                } else {
                    text
                },
            ));
        }
    }
    payloads
}

/// What became of the payloads, in batches of `batch`, with everything forgotten but the encoded states after every
/// `resume`-th.
fn run(
    stream: &Arc<Stream>,
    bundle: &std::path::Path,
    payloads: &[(&str, String)],
    batch: usize,
    resume: Option<usize>,
) -> (Vec<Outcome>, Vec<Alert>) {
    let fresh = || Pipeline::new(stream.clone(), Some(Bundle::load(bundle).unwrap())).unwrap();
    let (mut pipeline, mut table) = (fresh(), SeriesTable::new(10));
    let mut stored: HashMap<String, Vec<u8>> = HashMap::new();
    let (mut outcomes, mut alerts) = (Vec::new(), Vec::new());
    let all: Vec<(i64, &(&str, String))> = payloads
        .iter()
        .enumerate()
        .map(|(i, p)| (i as i64, p))
        .collect();
    for part in all.chunks(resume.unwrap_or(all.len())) {
        for chunk in part.chunks(batch) {
            let messages: Vec<Message<'_>> = chunk
                .iter()
                .map(|&(offset, (key, payload))| Message {
                    partition: 0,
                    offset,
                    key: Some(key.as_bytes()),
                    payload: Some(payload.as_bytes()),
                    timestamp: None,
                    headers: None,
                })
                .collect();
            let mut load = |_, series: &str| {
                stored
                    .get(series)
                    .map(|bytes| codec::decode(bytes).unwrap())
            };
            let done = pipeline.run(&messages, &mut table, &mut load).unwrap();
            // The index of the message is that inside its batch.
            outcomes.extend(done.outcomes.into_iter().map(|outcome| Outcome {
                message: 0,
                ..outcome
            }));
            alerts.extend(done.alerts);
        }
        if resume.is_some() {
            stored.extend(
                table
                    .take_dirty()
                    .map(|slot| (slot.series.to_string(), codec::encode(&slot.state).unwrap())),
            );
            (pipeline, table) = (fresh(), SeriesTable::new(10));
        }
    }
    (outcomes, alerts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(45))]
    #[test]
    fn stopped_and_resumed_is_straight_through(seed: u64, batch in 1..80usize, every in 1..200usize, which in 0..9usize) {
        let (stream, bundle, _) = &TRAINED[which];
        let payloads = payloads(seed);
        let straight = run(stream, bundle, &payloads, payloads.len(), None);
        prop_assert!(!straight.1.is_empty(), "the payloads hold faults, so there must be alerts");
        let resumed = run(stream, bundle, &payloads, batch, Some(every));
        prop_assert_eq!(straight.0.len(), resumed.0.len());
        for (a, b) in straight.0.iter().zip(&resumed.0) {
            prop_assert_eq!(a, b);
        }
        prop_assert_eq!(straight.1, resumed.1);
    }
}
