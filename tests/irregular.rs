//! Records that come irregularly, records that are missing, and normal states that follow the
//! clock.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers included"
)]

mod test_stream;
#[expect(dead_code, reason = "only its stream is needed here")]
mod two_fields;

use std::ops::ControlFlow;
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::events::published::EventQueue;
use outlierd::lane::sampler::Sampler;
use outlierd::model::bundle::Bundle;
use outlierd::pipeline::series::SeriesTable;
use outlierd::pipeline::{BatchOutput, Pipeline};
use outlierd::record::alert::AlertEvent;
use outlierd::record::{Batch, EventTime, Record, RecordVerdict};
use outlierd::retrain::buffer::Admission;
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::TrainingSet;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::two_fields::stream;

/// Two readings that follow one cause, at a time in seconds.
fn reading(rng: &mut ChaCha8Rng, second: f64) -> [f64; 2] {
    let cause = (second / 60.0).sin() + rng.random_range(-0.2..0.2);
    [
        cause + rng.random_range(-0.2..0.2),
        2.0 * cause + rng.random_range(-0.2..0.2),
    ]
}

fn batch(records: &[(f64, [f64; 2])]) -> Batch<'static> {
    let mut batch = Batch::default();
    for (message, (second, values)) in records.iter().enumerate() {
        let (time, offset) = (EventTime((second * 1e6) as i64), message as i64);
        batch.records.push(Record {
            message,
            partition: 0,
            offset,
            part: None,
            series: "a".into(),
            time,
            second_time: None,
            arrival: None,
        });
        batch.values.extend(values);
    }
    batch
}

fn run(
    pipeline: &mut Pipeline,
    table: &mut SeriesTable,
    records: &[(f64, [f64; 2])],
) -> BatchOutput {
    pipeline
        .run_decoded(batch(records), table, &mut |_, _| Ok(None))
        .unwrap()
}

/// What a stream learns from records that come as they come, as it would live.
fn learned(stream: &Arc<StreamSettings>, records: &[(f64, [f64; 2])]) -> (TrainingSet, Bundle) {
    let mut pipeline = Pipeline::new(stream.clone(), None).unwrap();
    let done = run(&mut pipeline, &mut SeriesTable::new(10), records);
    let set = TrainingSet::new(done.training_rows().map(|(_, row)| row));
    let bundle = learn(stream, &set, None, &mut |_| ControlFlow::Continue(())).unwrap();
    (set, bundle)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn records_of_any_rate_become_rows_of_one_period_and_are_judged_by_them() {
    let stream = stream(&["resample.period=\"10s\"", "gate.spike=false"]);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut second = 0.0;
    let mut records = Vec::new();
    while second < 12_000.0 {
        // From several a second to one in nearly a slot.
        second += rng.random_range(
            0.2..if (second as i64 / 500) % 2 == 0 {
                1.0
            } else {
                9.0
            },
        );
        records.push((second, reading(&mut rng, second)));
    }
    let from = records.partition_point(|(second, _)| *second < 8_000.0);
    let (set, bundle) = learned(&stream, &records[..from]);
    assert_eq!(set.period_micros(), 10_000_000);
    assert!(
        set.times
            .windows(2)
            .all(|pair| pair[1].micros_since(pair[0]) == 10_000_000),
        "each slot had a record"
    );
    assert_eq!(set.len(), 800 - 1, "the last slot is not whole yet");

    // In the last part the second reading does not follow any more.
    for (second, values) in records.iter_mut().filter(|(second, _)| *second >= 11_000.0) {
        values[1] = 2.0 * (*second / 60.0).sin() + 3.0;
    }
    let mut pipeline = Pipeline::new(stream.clone(), Some(bundle)).unwrap();
    let admission = Arc::new(Admission::open());
    let mut sampler = Sampler::new(stream.clone(), admission, EventQueue::default());
    let done = run(&mut pipeline, &mut SeriesTable::new(10), &records[from..]);
    sampler.take(&pipeline, &done);
    let kept = sampler.take_runs();
    assert!(
        kept.iter().map(|run| run.times.len()).sum::<usize>() > 100,
        "normal rows are kept to learn from"
    );
    let steps = kept
        .iter()
        .flat_map(|run| run.times.windows(2))
        .map(|pair| pair[1].micros_since(pair[0]));
    assert!(
        steps.into_iter().all(|step| step == 10_000_000),
        "as rows, and not as the records that they are made of"
    );
    let scored: Vec<_> = done
        .outcomes
        .iter()
        .filter(|outcome| outcome.scored.is_some())
        .collect();
    assert_eq!(
        scored.len(),
        400,
        "one score a slot: the last record is the first of the next one"
    );
    assert!(
        scored
            .iter()
            .all(|outcome| outcome.time.0 % 10_000_000 == 0),
        "a row's time is the begin of its slot"
    );
    assert!(
        done.outcomes
            .iter()
            .filter(|o| o.scored.is_none())
            .all(|o| o.verdict == RecordVerdict::Between)
    );
    let opened: Vec<_> = done
        .alerts
        .iter()
        .filter(|alert| alert.event == AlertEvent::Open)
        .collect();
    assert_eq!(opened.len(), 1, "{opened:?}");
    let opened_at = (done
        .outcomes
        .iter()
        .find(|outcome| outcome.alerting)
        .unwrap()
        .time
        .0
        / 1_000_000) as f64;
    assert!((11_000.0..11_300.0).contains(&opened_at), "{opened_at}");
}

#[test]
fn a_window_over_a_gap_is_marked_and_a_training_has_none() {
    let stream = stream(&["window=4", "gate.spike=false"]);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut normal = |seconds: std::ops::Range<i64>| -> Vec<(f64, [f64; 2])> {
        seconds
            .map(|second| (second as f64, reading(&mut rng, second as f64)))
            .collect()
    };
    let records = [normal(0..500), normal(900..1_400)].concat();
    let (set, bundle) = learned(&stream, &records);
    assert_eq!(
        (set.len(), bundle.manifest.origin.rows),
        (1_000, 1_000 - 2 * 3),
        "three windows before each run are not whole"
    );

    let mut pipeline = Pipeline::new(stream, Some(bundle)).unwrap();
    let mut table = SeriesTable::new(10);
    let mut later = [normal(2_000..2_020), normal(2_100..2_110)].concat();
    // What is strange right behind the gap says so.
    later
        .iter_mut()
        .skip(20)
        .for_each(|(_, values)| values[1] += 40.0);
    let done = run(&mut pipeline, &mut table, &later);
    let marked: Vec<i64> = done
        .outcomes
        .iter()
        .filter(|outcome| outcome.spans_gap)
        .map(|outcome| outcome.time.0 / 1_000_000)
        .collect();
    assert_eq!(marked, [2_100, 2_101, 2_102]);
    let alert = done
        .alerts
        .iter()
        .find(|alert| alert.event == AlertEvent::Open)
        .unwrap();
    assert!(alert.spans_gap, "{alert:?}");
    let text = serde_json::to_string(&done.alerts.last().unwrap()).unwrap();
    assert_eq!(
        text.contains("spans_gap"),
        done.alerts.last().unwrap().spans_gap,
        "left out where it is not so: {text}"
    );
}

/// A plant that runs at 10 by day and at 0 by night: each is normal at its time only.
fn by_the_clock(rng: &mut ChaCha8Rng, minute: i64) -> (f64, [f64; 2]) {
    let day = if (6..18).contains(&(minute / 60 % 24)) {
        10.0
    } else {
        0.0
    };
    (
        minute as f64 * 60.0,
        [
            day + rng.random_range(-1.0..1.0),
            rng.random_range(-1.0..1.0),
        ],
    )
}

#[test]
fn a_night_by_day_is_strange_to_a_model_that_is_told_the_time() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let days = 1_440 * 6;
    let records: Vec<_> = (0..days)
        .map(|minute| by_the_clock(&mut rng, minute))
        .collect();
    // The seventh day stands still from 10 to 14 o'clock.
    let (from, until) = (days + 600, days + 840);
    let last: Vec<_> = (days..days + 1_440)
        .map(|minute| match by_the_clock(&mut rng, minute) {
            (second, [_, y]) if (from..until).contains(&minute) => {
                (second, [rng.random_range(-1.0..1.0), y])
            }
            normal => normal,
        })
        .collect();
    let found = |more: &[&str]| {
        let base = [
            "model.kind=dense",
            "threshold.budget=\"1 per series per day\"",
            "score.baseline_weight=0",
            "gate.spike=false",
        ];
        let stream = stream(&[base.as_slice(), more].concat());
        let (_, bundle) = learned(&stream, &records);
        let mut pipeline = Pipeline::new(stream, Some(bundle)).unwrap();
        let done = run(&mut pipeline, &mut SeriesTable::new(10), &last);
        let flagged: Vec<i64> = done
            .outcomes
            .iter()
            .filter(|outcome| outcome.verdict == RecordVerdict::Outlier)
            .map(|outcome| outcome.time.0 / 60_000_000)
            .collect();
        let inside = flagged
            .iter()
            .filter(|minute| (from..until).contains(minute))
            .count();
        (inside, flagged.len() - inside)
    };
    let (told, false_told) = found(&["model.context=[\"time_of_day\"]", "model.latent=3"]);
    let (untold, _) = found(&[]);
    assert!(
        told > 120,
        "{told} of 240 minutes are found, {false_told} others flagged; without the time {untold}"
    );
    assert!(
        untold < 24,
        "without the time nothing is strange about a night: {untold}"
    );
    assert!(false_told < 60, "{false_told} normal minutes are flagged");
}
