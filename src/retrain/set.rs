//! A training set: records of a stream that passed the gate, in series and time order.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::record::EventTime;

/// One record to learn from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrainingRow {
    /// Its series.
    pub series: String,
    /// Its event time.
    pub time: EventTime,
    /// Its readings, all finite.
    pub values: Vec<f64>,
}

/// Rows grouped by series.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TrainingSet {
    /// Readings, row-major, n x fields.
    pub rows: Vec<f64>,
    /// Event time of each row.
    pub times: Vec<EventTime>,
    /// The rows of each series, in the order of arrival.
    pub segments: Vec<Range<usize>>,
}

impl TrainingSet {
    /// Groups rows by series, and keeps their order inside each.
    pub fn new(rows: impl IntoIterator<Item = TrainingRow>) -> Self {
        let mut by_series: BTreeMap<String, Vec<TrainingRow>> = BTreeMap::new();
        for row in rows {
            by_series.entry(row.series.clone()).or_default().push(row);
        }
        let mut set = Self::default();
        for rows in by_series.into_values() {
            let start = set.times.len();
            for row in rows {
                set.rows.extend_from_slice(&row.values);
                set.times.push(row.time);
            }
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

    /// From the first to the last event time of each series.
    pub fn ranges(&self) -> Vec<(EventTime, EventTime)> {
        let of = |segment: &Range<usize>| {
            let times = &self.times[segment.clone()];
            Some((*times.iter().min()?, *times.iter().max()?))
        };
        self.segments.iter().filter_map(of).collect()
    }

    /// Median event time between two records of a series, in microseconds; 0 where no series has two.
    pub fn period_micros(&self) -> i64 {
        let mut steps: Vec<i64> = self
            .segments
            .iter()
            .flat_map(|segment| self.times[segment.clone()].windows(2))
            .map(|pair| pair[1].micros_since(pair[0]))
            .filter(|&step| step > 0)
            .collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).copied().unwrap_or(0)
    }

    /// All windows of `window` consecutive rows of one series (row-major, n x window x fields), and the windows of each
    /// series.
    pub fn windows(&self, window: usize, fields: usize) -> (Vec<f64>, Vec<Range<usize>>) {
        let mut windows = Vec::new();
        let mut segments = Vec::new();
        let mut n = 0;
        for segment in &self.segments {
            let start = n;
            for first in segment.start..(segment.end + 1).saturating_sub(window).max(segment.start) {
                windows.extend_from_slice(&self.rows[first * fields..(first + window) * fields]);
                n += 1;
            }
            segments.push(start..n);
        }
        (windows, segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(series: &str, second: i64, value: f64) -> TrainingRow {
        TrainingRow { series: series.into(), time: EventTime(second * 1_000_000), values: vec![value] }
    }

    #[test]
    fn windows_never_span_two_series() {
        let rows = [("b", 0, 1.0), ("a", 0, 5.0), ("b", 2, 2.0), ("a", 1, 6.0), ("b", 4, 3.0)];
        let set = TrainingSet::new(rows.map(|(s, t, v)| row(s, t, v)));
        assert_eq!(set.rows, [5.0, 6.0, 1.0, 2.0, 3.0]);
        assert_eq!(set.windows(2, 1), (vec![5.0, 6.0, 1.0, 2.0, 2.0, 3.0], vec![0..1, 1..3]));
        assert_eq!(set.windows(3, 1), (vec![1.0, 2.0, 3.0], vec![0..0, 0..1]));
        assert_eq!(set.period_micros(), 2_000_000);
    }
}
