//! The gate, per record of eight fields: clock, and every rule of every field, under a bundle.
//! `one_series` stays in the cache; `many_series` takes turns over 10,000 series, as a lane does.
//! Run with `cargo bench --bench gate`.

mod fleet;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use outlierd::gate::{GateRules, GateState, normals};
use outlierd::record::{EventTime, GateVerdict};

use fleet::FIELDS;

const RECORDS: usize = 10_000;

fn gate(c: &mut Criterion) {
    let stream = fleet::stream();
    let set = fleet::training_set(4_000);
    let plan = GateRules::new(
        &stream.gate,
        &stream.record.fields,
        Some(&normals(&set.rows, FIELDS, &set.segments)),
    );
    let readings = fleet::readings(RECORDS, 1);
    let mut group = c.benchmark_group("gate_8_fields");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (name, series) in [("one_series", 1), ("many_series", RECORDS)] {
        let mut states = vec![GateState::new(FIELDS); series];
        let (mut now, mut turn) = (0, 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut passed = 0;
                // Another reading for each series in each turn: one that repeats is a stuck sensor.
                turn += 1;
                for (record, values) in readings.chunks_exact(FIELDS).enumerate() {
                    now += 1_000_000;
                    let time = EventTime(now);
                    let checked = plan.check(
                        &mut states[(record + turn) % series],
                        time,
                        Some(time),
                        black_box(values),
                    );
                    passed += usize::from(checked.verdict == GateVerdict::Pass);
                }
                assert!(
                    passed > RECORDS * 9 / 10,
                    "normal records pass, found {passed}"
                );
            })
        });
    }
    group.finish();
}

criterion_group!(benches, gate);
criterion_main!(benches);
