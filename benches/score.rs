//! The score, per record of eight fields: the forward pass of a real `dense` bundle (the mean of
//! its fold models) for a batch of 1, 32 or 1,000 records, the chart behind it, and both together.
//! Run with `cargo bench --bench score`.

mod fleet;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use outlierd::score::Scorer;
use outlierd::score::charts::ChartsState;

use fleet::FIELDS;

const BATCHES: [usize; 3] = [1, 32, 1_000];
const SERIES: usize = 10_000;

fn score(c: &mut Criterion) {
    let stream = fleet::stream();
    let scorer = Scorer::new(fleet::bundle(&stream), &stream.score).expect("a bundle that scores");
    let scaler = &scorer.bundle().calibration.scaler;
    let mut states = vec![ChartsState::default(); SERIES];
    let mut group = c.benchmark_group("score_8_fields");
    for batch in BATCHES {
        let windows = scaler.scaled(&fleet::readings(batch, 1));
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("forward", batch), |b| {
            b.iter(|| {
                scorer
                    .forward(black_box(windows.clone()))
                    .expect("a forward pass")
            })
        });
        let residuals = scorer.forward(windows.clone()).expect("a forward pass");
        let mut next = 0;
        let mut chart = |residuals: &outlierd::score::Residuals| -> f64 {
            let step = |window| {
                next = (next + 1) % SERIES;
                scorer
                    .step(&mut states[next], residuals.row(window), None, &[], false)
                    .all()
                    .iter()
                    .sum::<f64>()
            };
            (0..batch).map(step).sum()
        };
        group.bench_function(BenchmarkId::new("chart", batch), |b| {
            b.iter(|| chart(black_box(&residuals)))
        });
        group.bench_function(BenchmarkId::new("forward_and_chart", batch), |b| {
            b.iter(|| {
                chart(
                    &scorer
                        .forward(black_box(windows.clone()))
                        .expect("a forward pass"),
                )
            })
        });
    }
    // The rows must be those of the stream, or the figures are of something else.
    assert_eq!(
        scorer
            .forward(scaler.scaled(&fleet::readings(1, 1)))
            .expect("a forward pass")
            .all()
            .len(),
        FIELDS
    );
    group.finish();
}

criterion_group!(benches, score);
criterion_main!(benches);
