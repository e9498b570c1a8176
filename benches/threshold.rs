//! One threshold step of each kind: the goal is below 100 ns.
//!
//! `one_step` is one series in the cache. `many_series` takes turns over 10,000 series, 50 million
//! steps for each kind, as a lane does: what it measures is mostly memory. Both run on scores of a
//! chart of eight fields, with their clusters, faults and the peaks' fits that these cause.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use outlierd::threshold::{AlertBudget, ThresholdKind, ThresholdSettings};
use outlierd::threshold::{ThresholdParams, ThresholdState};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KINDS: [ThresholdKind; 4] = [
    ThresholdKind::Sigma,
    ThresholdKind::Quantile,
    ThresholdKind::Spot,
    ThresholdKind::Dspot,
];
const SERIES: usize = 10_000;
const STEPS: usize = 50_000_000;

fn plan(kind: ThresholdKind) -> ThresholdParams {
    let settings = ThresholdSettings {
        kind,
        budget: AlertBudget {
            alerts: 2.0,
            period: Duration::from_secs(604_800),
        },
        period: None,
        margin: 2.0,
        level: 0.99,
        min_records: 400,
        memory: 10_000,
        level_shift_after: Duration::from_secs(3_600),
    };
    ThresholdParams::new(&settings, Duration::from_secs(1), 1)
}

/// Scores of a smoothed chart; every 5,000th begins a fault of 50 records.
fn scores(n: usize) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut fields = [0.0; 8];
    (0..n)
        .map(|i| {
            for field in &mut fields {
                // A sum of three uniform numbers is near enough to a normal one.
                let noise: f64 = (0..3).map(|_| random.random_range(-1.0..1.0)).sum();
                *field += 0.1 * (noise - *field);
            }
            let length = fields
                .iter()
                .map(|field| 19.0 * field * field)
                .sum::<f64>()
                .sqrt();
            if i % 5_000 >= 4_950 {
                length + 20.0
            } else {
                length
            }
        })
        .collect()
}

fn one_step(c: &mut Criterion) {
    let scores = scores(100_000);
    let mut group = c.benchmark_group("threshold/one_step");
    group.throughput(Throughput::Elements(scores.len() as u64));
    for kind in KINDS {
        let plan = plan(kind);
        let mut state = ThresholdState::calibrated(&plan, &scores[..4_900]);
        group.bench_function(format!("{kind:?}"), |b| {
            b.iter(|| {
                scores
                    .iter()
                    .filter(|&&score| state.step(&plan, black_box(score), 1.0).above)
                    .count()
            })
        });
    }
    group.finish();
}

fn many_series(_: &mut Criterion) {
    let scores = scores(STEPS / SERIES);
    for kind in KINDS {
        let plan = plan(kind);
        let template = ThresholdState::calibrated(&plan, &scores[..4_900]);
        let mut states = vec![template; SERIES];
        let start = Instant::now();
        let mut above = 0;
        for &score in &scores {
            for (i, state) in states.iter_mut().enumerate() {
                // Each series has its own size, so that they do not all fit their peaks at one
                // record.
                above += u64::from(
                    state
                        .step(&plan, score * (1.0 + i as f64 / SERIES as f64), 1.0)
                        .above,
                );
            }
        }
        let ns = start.elapsed().as_secs_f64() * 1e9 / STEPS as f64;
        println!(
            "threshold/many_series/{kind:?}: {ns:.1} ns a step ({STEPS} steps, {SERIES} series, {above} outliers)"
        );
    }
}

criterion_group!(benches, one_step, many_series);
criterion_main!(benches);
