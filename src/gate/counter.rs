//! Counters: fields that only rise, such as an energy meter or pieces made, but for resets.
//!
//! A counter leaves every range that it was trained on, so that its readings say nothing to a model:
//! a model gets what it rose by since the record before, for one typical period.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Differences of readings that are needed to call a field a counter.
const DIFFERENCES_MIN: usize = 64;
/// Part of them that must be rises: a counter may rest, but a field of few steps is none.
const RISES_MIN: f64 = 0.25;
/// Part of them that resets may be.
const RESETS_MAX: f64 = 0.05;
/// Part of the largest reading that a reset leaves at most.
const RESET_TO: f64 = 0.02;
/// Mean rises that lie between the least and the largest reading at least.
const REACH: f64 = 16.0;
/// Mean rises that a counter falls by at least when it is reset: records out of order fall by less.
const FALL: f64 = 100.0;

/// A field that only rises.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Whether it fell to about 0 in normal operation, such as a meter of the day.
    pub resets: bool,
}

impl Counter {
    /// What the readings of a field say, in stretches of consecutive records of a series; `None` for a
    /// field that is no counter.
    pub fn of<'r>(stretches: impl Iterator<Item = &'r [f64]> + Clone) -> Option<Self> {
        let readings = || stretches.clone().flatten().copied();
        let least = readings().fold(f64::INFINITY, f64::min);
        let largest = readings().fold(f64::NEG_INFINITY, f64::max);
        let pairs = || stretches.clone().flat_map(|stretch| stretch.windows(2));
        let rises: Vec<f64> = pairs()
            .map(|p| p[1] - p[0])
            .filter(|rise| *rise > 0.0)
            .collect();
        let falls = pairs().filter(|p| p[1] < p[0]);
        let (count, resets) = (pairs().count(), falls.clone().count());
        let is_reset = |pair: &[f64]| pair[1] <= RESET_TO * largest;
        let mean_rise = rises.iter().sum::<f64>() / rises.len().max(1) as f64;
        let rising = count >= DIFFERENCES_MIN
            && least >= 0.0
            && rises.len() as f64 >= RISES_MIN * count as f64
            && largest - least >= REACH * mean_rise;
        let reset = resets as f64 <= RESETS_MAX * count as f64 && falls.clone().all(is_reset);
        (rising && reset).then_some(Self { resets: resets > 0 })
    }

    /// Whether a reading after `last` is a reset that normal operation does not have; `movement` is
    /// the mean rise of a record.
    pub fn is_fault(self, last: f64, x: f64, movement: f64) -> bool {
        !self.resets && last - x > FALL * movement
    }
}

/// What a counter rose by from `last` to `x` in `elapsed` microseconds, for one `period`; NaN where
/// it did not rise or stay.
pub fn increment(last: f64, x: f64, elapsed: i64, period: i64) -> f64 {
    let periods = match period > 0 {
        true => (elapsed as f64 / period as f64).max(1.0),
        false => 1.0,
    };
    match x >= last {
        true => (x - last) / periods,
        false => f64::NAN,
    }
}

/// Rows (row-major) whose `counters` are replaced by their increments, each for a period in
/// microseconds (0: from record to record); `runs` are rows that follow each other in a series, at
/// `times` in microseconds. Where there is none (the first row of a run, a
/// reset) it is the field's mean increment.
pub fn increments(
    rows: &[f64],
    counters: &[Option<i64>],
    runs: &[Range<usize>],
    times: &[i64],
) -> Vec<f64> {
    let k = counters.len();
    let mut out = rows.to_vec();
    let counters = counters.iter().enumerate();
    for (field, period) in counters.filter_map(|(field, period)| Some((field, (*period)?))) {
        let (mut sum, mut found) = (0.0, 0.0f64);
        for run in runs {
            for row in run.clone() {
                let before = row.checked_sub(1).filter(|before| run.contains(before));
                let rise = before.map_or(f64::NAN, |before| {
                    let elapsed = times[row].saturating_sub(times[before]);
                    increment(
                        rows[before * k + field],
                        rows[row * k + field],
                        elapsed,
                        period,
                    )
                });
                if rise.is_finite() {
                    (sum, found) = (sum + rise, found + 1.0);
                }
                out[row * k + field] = rise;
            }
        }
        let mean = sum / found.max(1.0);
        let column = out.iter_mut().skip(field).step_by(k);
        column
            .filter(|rise| !rise.is_finite())
            .for_each(|rise| *rise = mean);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(readings: &[f64]) -> Option<Counter> {
        Counter::of([readings].into_iter())
    }

    #[test]
    fn meters_are_counters_and_levels_are_not() {
        let total: Vec<f64> = (0..200).map(|i| 48_211.0 + 1.5 * f64::from(i)).collect();
        assert_eq!(of(&total), Some(Counter { resets: false }));
        let day: Vec<f64> = (0..200).map(|i| f64::from(i % 40) * 0.7).collect();
        assert_eq!(of(&day), Some(Counter { resets: true }));
        let rests: Vec<f64> = (0..200).map(|i| f64::from((i / 2).min(60))).collect();
        assert_eq!(of(&rests), Some(Counter { resets: false }));
        let noisy: Vec<f64> = (0..200)
            .map(|i| f64::from(i) + f64::from(i * 7 % 5))
            .collect();
        assert_eq!(of(&noisy), None);
        let tank: Vec<f64> = (0..200).map(|i| 20.0 + f64::from(i % 40)).collect();
        assert_eq!(of(&tank), None, "it is not emptied");
        let steps: Vec<f64> = (0..200).map(|i| f64::from(i / 50)).collect();
        assert_eq!(of(&steps), None);
        assert_eq!(of(&total[..40]), None, "too few to say");
    }

    #[test]
    fn a_reset_is_a_fault_where_there_was_none() {
        let meter = Counter { resets: false };
        assert!(meter.is_fault(48_500.0, 0.0, 1.5));
        assert!(!meter.is_fault(48_500.0, 48_490.0, 1.5), "out of order");
        assert!(!Counter { resets: true }.is_fault(500.0, 0.0, 1.5));
    }

    #[test]
    fn increments_are_those_of_one_period() {
        let rows = [7.0, 10.0, 8.0, 12.0, 9.0, 18.0, 9.0, 0.0, 5.0, 100.0];
        let times = [0, 10, 40, 50, 0];
        let of = |period| increments(&rows, &[None, period], &[0..4, 4..5], &times);
        let found = of(Some(10));
        assert_eq!(found, [7.0, 2.0, 8.0, 2.0, 9.0, 2.0, 9.0, 2.0, 5.0, 2.0]);
        // From record to record the time between them does not count.
        let found = of(Some(0));
        assert_eq!(found, [7.0, 4.0, 8.0, 2.0, 9.0, 6.0, 9.0, 4.0, 5.0, 4.0]);
        assert_eq!(of(None), rows);
    }
}
