//! The stored state of a series with eight fields, as the pipeline leaves it after 200 records:
//! what it takes to encode and to decode one, and how many bytes it is. Run with `cargo bench
//! --bench codec`.

mod fleet;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::{SeriesState, SeriesTable};
use outlierd::record::{Batch, Record};
use outlierd::state::codec;

use fleet::{FIELDS, SERIES};

const RECORDS: usize = 200 * SERIES;

/// The states of all series after their records.
fn states() -> Vec<SeriesState> {
    let stream = Arc::new(fleet::stream());
    let mut pipeline = Pipeline::new(stream.clone(), Some(fleet::bundle(&stream)))
        .expect("a bundle of the stream");
    let mut table = SeriesTable::new(SERIES);
    let record = |record| Record {
        message: record,
        partition: 0,
        offset: record as i64,
        part: None,
        series: fleet::series(record).into(),
        time: fleet::time(record),
        second_time: None,
        arrival: None,
    };
    let batch = Batch {
        records: (0..RECORDS).map(record).collect(),
        values: fleet::readings(RECORDS, 1),
        ..Batch::default()
    };
    pipeline
        .run_decoded(batch, &mut table, &mut |_, _| Ok(None))
        .expect("a scored batch");
    table.take_dirty().map(|slot| slot.state.clone()).collect()
}

fn codec(c: &mut Criterion) {
    let states = states();
    assert_eq!(states.len(), SERIES);
    let encoded: Vec<Vec<u8>> = states
        .iter()
        .map(|state| codec::encode(state).expect("a state"))
        .collect();
    let bytes: usize = encoded.iter().map(Vec::len).sum();
    println!(
        "codec: a state of {FIELDS} fields has {:.0} bytes (mean of {SERIES})",
        bytes as f64 / SERIES as f64
    );
    let mut group = c.benchmark_group("codec_8_fields");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("encode", |b| {
        b.iter(|| {
            states
                .iter()
                .map(|state| codec::encode(black_box(state)).expect("a state").len())
                .sum::<usize>()
        })
    });
    group.bench_function("decode", |b| {
        b.iter(|| {
            for bytes in &encoded {
                black_box(codec::decode::<SeriesState>(black_box(bytes)).expect("a state"));
            }
        })
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
