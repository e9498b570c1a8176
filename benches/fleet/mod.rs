//! What several benchmarks share: a stream with the built-in settings and eight fields, its
//! records, and a bundle of it.

// Each benchmark uses a part of it.
#![allow(dead_code)]

use std::ops::ControlFlow;

use outlierd::config::settings::StreamSettings;
use outlierd::config::{ConfigSources, load};
use outlierd::model::bundle::Bundle;
use outlierd::record::EventTime;
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::{TrainingRow, TrainingSet};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Readings of a record.
pub const FIELDS: usize = 8;
/// Series that the records come from in turn.
pub const SERIES: usize = 100;

/// A `dense` stream with `dspot` thresholds.
pub fn stream() -> StreamSettings {
    let fields: Vec<String> = (0..FIELDS).map(|field| format!("\"f{field}\"")).collect();
    let overrides = vec![
        "streams.bench.input.topic=\"bench\"".to_owned(),
        "streams.bench.threshold.kind=\"dspot\"".to_owned(),
        format!("streams.bench.record.fields=[{}]", fields.join(",")),
    ];
    let sources = ConfigSources {
        file: None,
        environment: Vec::new(),
        overrides,
    };
    load(&sources)
        .expect("the settings are valid")
        .streams
        .remove(0)
}

/// Readings of `records` records, row-major: two common causes and noise.
pub fn readings(records: usize, seed: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || -> f64 { StandardNormal.sample(&mut random) };
    (0..records)
        .flat_map(|_| {
            let (load, weather) = (normal(), normal());
            let noise: [f64; FIELDS] = std::array::from_fn(|_| normal());
            (0..FIELDS)
                .map(move |field| 10.0 + load + 0.3 * field as f64 * weather + 0.3 * noise[field])
        })
        .collect()
}

/// Event time of a record: its series sends one a second.
pub fn time(record: usize) -> EventTime {
    EventTime((record / SERIES) as i64 * 1_000_000)
}

/// Name of a record's series.
pub fn series(record: usize) -> String {
    format!("pump-{:03}", record % SERIES)
}

/// A training set of `records` records.
pub fn training_set(records: usize) -> TrainingSet {
    let readings = readings(records, 0);
    TrainingSet::new(
        readings
            .chunks_exact(FIELDS)
            .enumerate()
            .map(|(record, values)| TrainingRow {
                series: series(record),
                time: time(record),
                values: values.to_vec(),
                image: None,
            }),
    )
}

/// A bundle: how long it was trained does not matter for how long it takes to score.
pub fn bundle(stream: &StreamSettings) -> Bundle {
    let mut stream = stream.clone();
    stream.training.epochs = 2;
    learn(&stream, &training_set(2_000), None, &mut |_| {
        ControlFlow::Continue(())
    })
    .expect("enough normal records")
}
