//! Wild records among those learned from: sentinels and spikes that no gate knew yet.
//!
//! They would widen the covariances until these hide faults. A record is wild where a field is far
//! from its median in robust units, and further from all usual readings than these are apart, and
//! its neighbours are not: a state that the machine stays in is no wild record, however rare it is,
//! and neither is the peak of a start.

use std::ops::Range;

use super::calibrate::CalibrationGap;

/// Robust standard deviations from the median beyond which a record is wild.
const WILD: f32 = 5.0;
/// Times the width of the usual readings, from their 5th to their 95th percentile, that a wild one lies
/// beyond them.
const BEYOND: f32 = 1.5;
/// Wild records in a row that are a state of the machine.
const RUN: usize = 3;

/// The records of a training set that are not wild.
pub struct Tame {
    /// The rows that are kept, in their order.
    pub rows: Vec<usize>,
    /// The kept rows of each series.
    pub segments: Vec<Range<usize>>,
    /// Where records are missing among the kept rows.
    pub gaps: Vec<CalibrationGap>,
    /// The parts of each series.
    pub folds: Vec<Vec<Range<usize>>>,
}

impl Tame {
    /// Those of readings (row-major, n x k); each segment is one series. Of a single field the tail
    /// is all that there is to learn, and every record is kept.
    pub fn of(
        readings: &[f32],
        k: usize,
        segments: &[Range<usize>],
        gaps: &[CalibrationGap],
        folds: &[Vec<Range<usize>>],
    ) -> Self {
        let n = readings.len() / k.max(1);
        let mut wild = vec![false; n];
        for field in (0..k).filter(|_| k > 1) {
            mark(&mut wild, readings, k, field);
        }
        for segment in segments {
            keep_states(&mut wild[segment.clone()]);
        }
        // How many rows before each are kept: where a range of rows begins among those.
        let mut before = Vec::with_capacity(n + 1);
        before.push(0);
        for wild in &wild {
            before.push(before[before.len() - 1] + usize::from(!wild));
        }
        let moved = |range: &Range<usize>| before[range.start]..before[range.end];
        let rows = (0..n).filter(|&row| !wild[row]).collect();
        let mut missing = vec![0u64; n + 1];
        gaps.iter().for_each(|gap| missing[gap.row] += gap.missing);
        let gaps = merged(&wild, &missing, &before);
        Self {
            rows,
            segments: segments.iter().map(moved).collect(),
            gaps,
            folds: folds
                .iter()
                .map(|fold| fold.iter().map(moved).collect())
                .collect(),
        }
    }

    /// The kept rows of vectors of length k.
    pub fn take(&self, vectors: &[f32], k: usize) -> Vec<f32> {
        let rows = self.rows.iter();
        rows.flat_map(|row| &vectors[row * k..(row + 1) * k])
            .copied()
            .collect()
    }
}

/// The gaps among the kept rows: those that there were, and one for each wild record.
fn merged(wild: &[bool], missing: &[u64], before: &[usize]) -> Vec<CalibrationGap> {
    let mut gaps = Vec::new();
    let mut open = 0;
    for (row, wild) in wild.iter().enumerate() {
        open += missing[row];
        if *wild {
            open += 1;
        } else if open > 0 {
            let row = before[row];
            gaps.push(CalibrationGap { row, missing: open });
            open = 0;
        }
    }
    gaps
}

/// Marks the records at which a field is far from its median.
fn mark(wild: &mut [bool], readings: &[f32], k: usize, field: usize) {
    let column = || readings.iter().skip(field).step_by(k).copied();
    let mut sorted: Vec<f32> = column().collect();
    let median = quantile(&mut sorted, 0.5);
    let [low, high] = [0.05, 0.95].map(|p| quantile(&mut sorted, p));
    let range = high - low;
    let mut off: Vec<f32> = sorted.iter().map(|x| (x - median).abs()).collect();
    // Of a normal distribution both are its standard deviation.
    let sd = (quantile(&mut off, 0.5) * 1.4826).max(range / 3.29);
    // A field that hardly ever moves has no scale.
    if sd > 0.0 {
        let is_wild = |x: f32| {
            let beyond = (x - high).max(low - x);
            (x - median).abs() > WILD * sd && beyond > BEYOND * range
        };
        let marked = wild.iter_mut().zip(column());
        marked.for_each(|(wild, x)| *wild |= is_wild(x));
    }
}

/// Unmarks runs of records that are a state of the machine.
fn keep_states(wild: &mut [bool]) {
    for run in wild.chunk_by_mut(|a, b| a == b) {
        if run.len() >= RUN {
            run.fill(false);
        }
    }
}

/// A quantile of unordered values; 0 where there is none.
fn quantile(values: &mut [f32], probability: f64) -> f32 {
    let place = (probability * values.len().saturating_sub(1) as f64) as usize;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(place, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_are_left_out_and_states_are_kept() {
        // Two series of 50 records; the second field of the second one has a state of five records.
        let mut readings: Vec<f32> = (0..200u8).map(|i| f32::from(i % 7)).collect();
        readings[2 * 10] = -999.0;
        (70..75).for_each(|row| readings[2 * row + 1] = 100.0);
        let segments = [0..50, 50..100];
        let gap = CalibrationGap {
            row: 11,
            missing: 4,
        };
        let folds = [vec![0..25, 50..75], vec![25..50, 75..100]];
        let tame = Tame::of(&readings, 2, &segments, &[gap], &folds);
        assert_eq!(tame.segments, [0..49, 49..99]);
        assert_eq!(tame.folds[1], [24..49, 74..99]);
        assert_eq!(
            tame.gaps,
            [CalibrationGap {
                row: 10,
                missing: 5
            }]
        );
        let kept = tame.take(&readings, 2);
        assert_eq!(kept.len(), 198);
        assert!(!kept.contains(&-999.0) && kept.contains(&100.0));
        let single = Tame::of(&readings[..100], 1, &segments, &[], &folds);
        assert_eq!(single.rows.len(), 100);
    }
}
