//! Whether the records collected for a first training cover what is normal.
//!
//! A number of records over all series says little: a minute of each of six pumps holds none of the
//! changes of load that come every two minutes. What counts is how often each series has been
//! through its normal behaviour: its effective records, by its autocorrelation and by how long the
//! smoothest chart remembers.

use std::fmt;
use std::time::Duration;

use super::learn::inputs::{inputs, normals};
use super::set::TrainingSet;
use crate::config::settings::StreamSettings;
use crate::model::scaler::Scaler;
use crate::score::calibrate::independent;

/// What is missing for a first training.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lacking {
    /// Series.
    pub series: usize,
    /// Event time that the median series covers.
    pub span: Duration,
    /// Effective records of the median series.
    pub effective: f64,
    /// Event time after which its readings no longer depend on each other.
    pub memory: Duration,
    /// Records after which it is worth looking again.
    pub wanted: usize,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |duration: Duration| {
            humantime::format_duration(Duration::from_secs(duration.as_secs().max(1)))
        };
        write!(
            f,
            "{} of each of {} series, whose readings take {} to change, are {:.1} effective records",
            whole(self.span),
            self.series,
            whole(self.memory),
            self.effective
        )
    }
}

/// What a set of records of a stream lacks for a first training; `None` where it is enough, or as
/// much as is collected at all.
pub fn lacking(stream: &StreamSettings, set: &TrainingSet) -> Option<Lacking> {
    let training = &stream.training;
    let needed = training.effective_records;
    if needed == 0 || stream.image.is_some() || at_bounds(stream, set) {
        return None;
    }
    let fields = stream.record.fields.len();
    let rows = inputs(stream, set, &normals(stream, set)).0.rows;
    let scaled = Scaler::fit(&rows, fields).ok()?.scaled(&rows);
    // The charts' own memory: (2 - alpha) / alpha records.
    let smoothing = 2.0 / stream.score.ewma_weight - 1.0;
    let of_series = |segment: &std::ops::Range<usize>| {
        let n = segment.len() as f64;
        let apart = n / independent(&scaled, fields, std::slice::from_ref(segment));
        (n / (apart + smoothing), apart, segment.clone())
    };
    let mut all: Vec<_> = set.segments.iter().map(of_series).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (effective, apart, segment) = all.get(all.len() / 2)?.clone();
    if effective >= needed as f64 {
        return None;
    }
    let span = span(set, &segment);
    let period = Duration::from_micros(set.period_micros().unsigned_abs());
    // A quarter more, or what the present measure asks for, whichever is less.
    let more = (needed as f64 / effective.max(0.1)).clamp(1.05, 1.25);
    let wanted = (set.len() as f64 * more) as usize + 1;
    Some(Lacking {
        series: set.segments.len(),
        span,
        effective,
        memory: period.mul_f64(apart),
        wanted: wanted.min(training.records_max),
    })
}

/// Whether a set of records is as much as is collected for a first training at all.
pub fn at_bounds(stream: &StreamSettings, set: &TrainingSet) -> bool {
    let mut spans: Vec<Duration> = set.segments.iter().map(|rows| span(set, rows)).collect();
    spans.sort_unstable();
    let median = spans.get(spans.len() / 2).copied().unwrap_or_default();
    set.len() >= stream.training.records_max || median >= stream.training.span_max
}

/// Event time that the rows of a series cover.
fn span(set: &TrainingSet, rows: &std::ops::Range<usize>) -> Duration {
    let times = &set.times[rows.clone()];
    let ends = times.iter().max().zip(times.iter().min());
    let micros = ends.map_or(0, |(last, first)| last.micros_since(*first));
    Duration::from_micros(micros.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EventTime, TrainingRow};
    use crate::test_stream::three_fields;
    use rand::{Rng as _, SeedableRng as _};

    /// Six series of so many seconds; each field takes another level every `hold` seconds.
    fn stepping(seconds: i64, hold: i64) -> TrainingSet {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut levels = [[0.0; 3]; 6];
        TrainingSet::new((0..seconds * 6).map(|i| {
            let (second, series) = (i / 6, (i % 6) as usize);
            if (second + 7 * series as i64) % hold == 0 || second == 0 {
                levels[series] = [(); 3].map(|()| rng.random_range(0.0..10.0));
            }
            TrainingRow {
                series: format!("p{series}"),
                time: EventTime(second * 1_000_000),
                values: levels[series]
                    .map(|x: f64| x + rng.random_range(0.0..0.5))
                    .to_vec(),
                image: None,
            }
        }))
    }

    #[test]
    fn a_minute_of_a_load_that_changes_every_two_is_not_enough() {
        let stream = three_fields();
        let lacks = |set: &TrainingSet| lacking(&stream, set);
        let minute = lacks(&stepping(66, 120)).unwrap();
        assert_eq!((minute.series, minute.span), (6, Duration::from_secs(65)));
        assert!(minute.effective < 2.0 && minute.wanted > 396, "{minute:?}");
        assert_eq!(lacks(&stepping(1_800, 120)), None);
        // What follows each other without memory is enough much sooner.
        assert_eq!(lacks(&stepping(300, 1)), None);
        assert!(
            lacks(&stepping(100, 1)).is_some(),
            "the chart remembers 39 records"
        );
    }

    #[test]
    fn learning_ends_at_its_bounds() {
        let mut stream = three_fields();
        let minute = stepping(66, 120);
        stream.training.records_max = 390;
        assert_eq!(lacking(&stream, &minute), None);
        stream.training.records_max = 40_000;
        stream.training.span_max = Duration::from_secs(60);
        assert_eq!(lacking(&stream, &minute), None);
        stream.training.span_max = Duration::from_secs(3_600);
        stream.training.effective_records = 0;
        assert_eq!(lacking(&stream, &minute), None);
    }
}
