//! A small stream with a quick model, and the machine that it reads: two readings that follow one
//! cause, once a second.

use std::ops::ControlFlow;
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::model::bundle::Bundle;
use outlierd::record::EventTime;
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::{TrainingRow, TrainingSet};

use crate::test_stream;

/// The stream `s`, with `more` settings.
pub fn stream(more: &[&str]) -> Arc<StreamSettings> {
    let base = [
        "record.fields=[\"x\", \"y\"]",
        "model.kind=linear",
        "model.latent=1",
    ];
    test_stream::stream(&[&base, more].concat())
}

/// The readings of the series of that number, with a bit of noise of their own, and `shift` on the
/// second.
pub fn values(series: usize, second: i64, shift: f64) -> Vec<f64> {
    let noise = |salt: i64| {
        (((second * 7_919 + (salt + 5 * series as i64) * 104_729) % 1_009) as f64 / 1_009.0 - 0.5)
            * 0.4
    };
    let cause = (second as f64 / 40.0 + series as f64).sin() + noise(1);
    vec![cause + noise(2), 2.0 * cause + noise(3) + shift]
}

pub fn time(second: i64) -> EventTime {
    EventTime(second * 1_000_000)
}

/// A bundle that has learned from the first 1,000 seconds of `series`.
pub fn bundle(stream: &StreamSettings, series: &[&str]) -> Bundle {
    let all = (0..1_000).flat_map(|second| {
        series
            .iter()
            .enumerate()
            .map(move |(number, name)| (number, name, second))
    });
    let row = |(number, name, second): (usize, &&str, i64)| TrainingRow {
        series: (*name).into(),
        time: time(second),
        values: values(number, second, 0.0),
        image: None,
    };
    learn(stream, &TrainingSet::new(all.map(row)), None, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap()
}
