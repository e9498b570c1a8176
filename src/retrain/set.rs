//! A training set: records of a stream that passed the gate, in series and time order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::manifest::Segment;
use crate::record::EventTime;
pub use crate::record::TrainingRow;
use crate::score::calibrate::CalibrationGap;

/// Records of one series that followed each other without a gap.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RecordRun {
    /// Their series.
    pub series: String,
    /// Partition of their messages.
    pub partition: i32,
    /// Offset of the first of them: with the partition, the run's name.
    pub offset: i64,
    /// The live bundle's tag when they were scored.
    pub bundle: u64,
    /// Their event times, in order.
    pub times: Vec<EventTime>,
    /// Their readings, all finite, row-major, n x fields.
    pub values: Vec<f64>,
    /// Their images, as PNG or JPEG files; empty for readings.
    pub images: Vec<Arc<[u8]>>,
    /// Their scores.
    pub scores: Vec<f32>,
    /// Whether an operator labelled them as normal.
    pub labeled_normal: bool,
}

impl RecordRun {
    /// The event time of the first record; the epoch where there is none.
    pub fn from(&self) -> EventTime {
        self.times.first().copied().unwrap_or_default()
    }

    /// The event time of the last record.
    pub fn until(&self) -> EventTime {
        self.times.last().copied().unwrap_or_default()
    }

    /// Leaves only the records for which `keeps` holds, as the runs without gaps that they make.
    pub fn split(self, keeps: impl Fn(EventTime) -> bool) -> Vec<Self> {
        let fields = self.values.len() / self.times.len().max(1);
        let mut parts: Vec<Self> = Vec::new();
        let mut follows = false;
        for (row, &time) in self.times.iter().enumerate() {
            let kept = keeps(time);
            if kept && !follows {
                let series = self.series.clone();
                let partition = self.partition;
                let bundle = self.bundle;
                let labeled_normal = self.labeled_normal;
                let offset = self.offset + row as i64;
                parts.push(Self {
                    series,
                    partition,
                    offset,
                    bundle,
                    labeled_normal,
                    ..Self::default()
                });
            }
            if let Some(part) = parts.last_mut().filter(|_| kept) {
                part.times.push(time);
                part.values
                    .extend_from_slice(&self.values[row * fields..(row + 1) * fields]);
                part.scores.extend(self.scores.get(row));
                part.images.extend(self.images.get(row).cloned());
            }
            follows = kept;
        }
        parts
    }
}

/// Event time from which on the rows are the newest `part` of all.
pub fn newest_from(rows: &[TrainingRow], part: f64) -> EventTime {
    let mut times: Vec<EventTime> = rows.iter().map(|row| row.time).collect();
    times.sort_unstable();
    let cut = (times.len() as f64 * (1.0 - part)) as usize;
    times.get(cut).copied().unwrap_or_default()
}

/// Rows grouped by series.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TrainingSet {
    /// Readings, row-major, n x fields.
    pub rows: Vec<f64>,
    /// The image of each row, as a PNG or JPEG file; empty for readings.
    pub images: Vec<Arc<[u8]>>,
    /// Event time of each row.
    pub times: Vec<EventTime>,
    /// The name of each series.
    pub names: Vec<String>,
    /// The rows of each series, in the order of arrival.
    pub segments: Vec<Range<usize>>,
    /// The rows without a gap between them, in their order: each segment is one or more of them.
    pub runs: Vec<Range<usize>>,
}

impl TrainingSet {
    /// Groups rows by series, and keeps their order inside each.
    pub fn new(rows: impl IntoIterator<Item = TrainingRow>) -> Self {
        let mut by_series: BTreeMap<String, RecordRun> = BTreeMap::new();
        for row in rows {
            let run = by_series.entry(row.series).or_default();
            run.times.push(row.time);
            run.values.extend_from_slice(&row.values);
            run.images.extend(row.image);
        }
        by_series
            .iter_mut()
            .for_each(|(series, run)| run.series.clone_from(series));
        Self::of_runs(by_series.values())
    }

    /// Groups runs by series, in the order of their times inside each.
    pub fn of_runs<'r>(runs: impl IntoIterator<Item = &'r RecordRun>) -> Self {
        let mut by_series: BTreeMap<&str, Vec<&RecordRun>> = BTreeMap::new();
        for run in runs {
            by_series.entry(&run.series).or_default().push(run);
        }
        let mut set = Self::default();
        for (series, mut runs) in by_series {
            runs.sort_by_key(|run| (run.from(), run.partition, run.offset));
            let start = set.times.len();
            for run in runs {
                let first = set.times.len();
                set.rows.extend_from_slice(&run.values);
                set.times.extend_from_slice(&run.times);
                set.images.extend_from_slice(&run.images);
                set.runs.push(first..set.times.len());
            }
            set.names.push(series.to_owned());
            set.segments.push(start..set.times.len());
        }
        set
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The same rows, in runs that end where more than `gap_us` microseconds pass to the next row
    /// (0: nowhere).
    pub fn cut(&self, gap_us: i64) -> Self {
        let mut set = self.clone();
        if gap_us <= 0 {
            return set;
        }
        set.runs.clear();
        for run in &self.runs {
            let mut start = run.start;
            for row in (run.start + 1..run.end)
                .filter(|&row| self.times[row].micros_since(self.times[row - 1]) > gap_us)
            {
                set.runs.push(start..row);
                start = row;
            }
            set.runs.push(start..run.end);
        }
        set
    }

    /// From the first to the last event time of each run, with its series.
    pub fn ranges(&self) -> Vec<Segment> {
        let mut ranges = Vec::with_capacity(self.runs.len());
        for (name, runs) in self.names.iter().zip(self.runs_by_series()) {
            for run in runs {
                let times = || self.times[run.clone()].iter().copied();
                if let Some((from, until)) = times().min().zip(times().max()) {
                    ranges.push(Segment {
                        series: name.clone(),
                        from,
                        until,
                    });
                }
            }
        }
        ranges
    }

    /// The runs of each series.
    fn runs_by_series(&self) -> impl Iterator<Item = &[Range<usize>]> {
        let mut rest = self.runs.as_slice();
        self.segments.iter().map(move |segment| {
            let (own, others) = rest.split_at(rest.partition_point(|run| run.end <= segment.end));
            rest = others;
            own
        })
    }

    /// Median event time between two records of a series, in microseconds; 0 where no series has
    /// two.
    pub fn period_micros(&self) -> i64 {
        let mut steps: Vec<i64> = self
            .runs
            .iter()
            .flat_map(|run| self.times[run.clone()].windows(2))
            .map(|pair| pair[1].micros_since(pair[0]))
            .filter(|&step| step > 0)
            .collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).copied().unwrap_or(0)
    }

    /// The windows of `window` consecutive rows of one run, one at every `stride` rows.
    pub fn windows(&self, window: usize, stride: usize) -> WindowStarts {
        let mut found = WindowStarts::default();
        let period = self
            .period_micros()
            .max(1)
            .saturating_mul(stride.max(1) as i64);
        for runs in self.runs_by_series() {
            let first_of_series = found.starts.len();
            let mut last: Option<EventTime> = None;
            // A run that is shorter than a window is missing too.
            for run in runs.iter().filter(|run| run.len() >= window.max(1)) {
                let times = &self.times[run.clone()];
                if let Some((last, &first)) = last.zip(times.first()) {
                    let missing =
                        u64::try_from((first.micros_since(last) / period).saturating_sub(1))
                            .ok()
                            .filter(|&m| m > 0);
                    found.gaps.extend(missing.map(|missing| CalibrationGap {
                        row: found.starts.len(),
                        missing,
                    }));
                }
                last = times.last().copied();
                let starts = run.start..(run.end + 1).saturating_sub(window).max(run.start);
                found.starts.extend(starts.step_by(stride.max(1)));
            }
            found.segments.push(first_of_series..found.starts.len());
        }
        found
    }
}

/// The windows of a set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WindowStarts {
    /// The first row of each.
    pub starts: Vec<usize>,
    /// Those of each series.
    pub segments: Vec<Range<usize>>,
    /// Where windows are missing before one.
    pub gaps: Vec<CalibrationGap>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(series: &str, second: i64, value: f64) -> TrainingRow {
        TrainingRow {
            series: series.into(),
            time: EventTime(second * 1_000_000),
            values: vec![value],
            image: None,
        }
    }

    #[test]
    fn windows_never_span_two_series() {
        let rows = [
            ("b", 0, 1.0),
            ("a", 0, 5.0),
            ("b", 2, 2.0),
            ("a", 1, 6.0),
            ("b", 4, 3.0),
        ];
        let set = TrainingSet::new(rows.map(|(s, t, v)| row(s, t, v)));
        assert_eq!(set.rows, [5.0, 6.0, 1.0, 2.0, 3.0]);
        assert_eq!(
            set.windows(2, 1),
            WindowStarts {
                starts: vec![0, 2, 3],
                segments: vec![0..1, 1..3],
                gaps: vec![]
            }
        );
        assert_eq!(
            set.windows(3, 1),
            WindowStarts {
                starts: vec![2],
                segments: vec![0..0, 0..1],
                gaps: vec![]
            }
        );
        assert_eq!(
            set.windows(1, 2),
            WindowStarts {
                starts: vec![0, 2, 4],
                segments: vec![0..1, 1..3],
                gaps: vec![]
            }
        );
        assert_eq!(set.period_micros(), 2_000_000);
    }

    fn run(series: &str, first: i64, values: &[f64]) -> RecordRun {
        let times = (0..values.len() as i64)
            .map(|row| EventTime((first + row) * 1_000_000))
            .collect();
        let scores = vec![1.0; values.len()];
        RecordRun {
            series: series.into(),
            offset: first,
            times,
            values: values.to_vec(),
            scores,
            ..RecordRun::default()
        }
    }

    #[test]
    fn windows_never_span_the_gap_between_two_runs() {
        let runs = [
            run("a", 100, &[3.0, 4.0]),
            run("b", 5, &[9.0, 8.0, 7.0]),
            run("a", 0, &[1.0, 2.0]),
        ];
        let set = TrainingSet::of_runs(&runs);
        assert_eq!(
            (set.rows.as_slice(), set.names.len()),
            ([1.0, 2.0, 3.0, 4.0, 9.0, 8.0, 7.0].as_slice(), 2)
        );
        let windows = set.windows(2, 1);
        assert_eq!(
            windows.gaps,
            [CalibrationGap {
                row: 1,
                missing: 98
            }]
        );
        assert_eq!(windows.starts, [0, 2, 4, 5]);
        assert_eq!(windows.segments, [0..2, 2..4]);
        assert_eq!(set.period_micros(), 1_000_000);
    }

    #[test]
    fn a_set_is_cut_where_records_are_missing() {
        let set =
            TrainingSet::new([0, 1, 2, 9, 10, 11].map(|second| row("a", second, second as f64)));
        assert_eq!(set.cut(0).runs.len(), 1);
        let cut = set.cut(3_000_000);
        assert_eq!(
            (cut.runs.as_slice(), cut.segments.len()),
            ([0..3, 3..6].as_slice(), 1)
        );
        assert_eq!(cut.windows(2, 1).starts, [0, 1, 3, 4]);
    }

    #[test]
    fn a_run_that_is_shorter_than_a_window_is_a_part_of_the_gap() {
        let runs = [
            ("a", 0, 5),
            ("a", 100, 2),
            ("a", 200, 5),
            ("b", 0, 4),
            ("b", 50, 4),
        ];
        let runs = runs.map(|(series, first, n)| run(series, first, &vec![0.0; n]));
        let WindowStarts { segments, gaps, .. } = TrainingSet::of_runs(&runs).windows(3, 1);
        assert_eq!(segments, [0..6, 6..10]);
        assert_eq!(
            gaps,
            [
                CalibrationGap {
                    row: 3,
                    missing: 195
                },
                CalibrationGap {
                    row: 8,
                    missing: 46
                }
            ]
        );
    }

    #[test]
    fn what_is_left_of_a_run_is_runs() {
        let whole = run("a", 10, &[0.0, 1.0, 2.0, 3.0, 4.0]);
        let parts = whole.split(|time| time != EventTime(12_000_000));
        let found: Vec<_> = parts
            .iter()
            .map(|part| (part.offset, part.values.clone(), part.scores.len()))
            .collect();
        assert_eq!(found, [(10, vec![0.0, 1.0], 2), (13, vec![3.0, 4.0], 2)]);
    }
}
