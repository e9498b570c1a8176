//! The state baseline: what the state of a machine, such as its mode, lets expect of each field.
//!
//! Contract: a model and its charts get readings less the offset of their state, and 0 in place of the
//! state itself. So a pump that is off deviates from pumps that are off, and a switch from one state
//! to another is no jump. A state is context: it has no share in a score. Where a record names none,
//! or one that training had not, nothing is subtracted.
//!
//! A cell is one combination of the states of all fields that name one. Its offset is the median of a
//! field's training readings in it, less the level of their series; levels and offsets are found in
//! turn. An offset of few records is shrunk towards 0 by the variance inside of cells against that
//! between them (empirical Bayes: Efron and Morris, "Data Analysis Using Stein's Estimator and its
//! Generalizations", JASA 70, 1975).

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Combinations of states at most.
pub const CELLS_MAX: usize = 1024;
/// Rounds in which levels and offsets are found in turn.
const ROUNDS: usize = 4;

/// What each combination of states adds to each field.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateBaseline {
    /// By field: how many states it has; 0 for one that has readings.
    counts: Vec<usize>,
    /// Row-major, cells x fields, in the units of the sensors.
    offsets: Vec<f64>,
}

impl StateBaseline {
    /// The baseline of rows (row-major, n x fields, whose states are their indices); each segment is a
    /// series. `None` where no field names a state.
    pub fn fit(rows: &[f64], counts: &[usize], segments: &[Range<usize>]) -> Option<Self> {
        let k = counts.len();
        if counts.iter().all(|&count| count == 0) {
            return None;
        }
        let cells = cells(counts);
        let mut baseline = Self {
            counts: counts.to_vec(),
            offsets: vec![0.0; cells * k],
        };
        let cell_of: Vec<Option<usize>> =
            rows.chunks_exact(k).map(|row| baseline.cell(row)).collect();
        for field in (0..k).filter(|&field| counts[field] == 0) {
            let readings = Readings {
                of: rows.iter().skip(field).step_by(k).copied().collect(),
                cells: &cell_of,
                segments,
            };
            for (cell, offset) in readings.offsets(cells).into_iter().enumerate() {
                baseline.offsets[cell * k + field] = offset;
            }
        }
        Some(baseline)
    }

    /// Whether it is one of fields with these numbers of states, and finite.
    pub fn is_of(&self, counts: usize) -> bool {
        self.counts.len() == counts
            && cells(&self.counts) <= CELLS_MAX
            && self.offsets.len() == cells(&self.counts) * counts
            && self.offsets.iter().all(|offset| offset.is_finite())
    }

    /// Fields of a row.
    pub fn fields(&self) -> usize {
        self.counts.len()
    }

    /// What the state of a row adds to each field; `None` where it is not known.
    pub fn offsets(&self, row: &[f64]) -> Option<&[f64]> {
        let k = self.counts.len();
        let cell = self.cell(row)?;
        self.offsets.get(cell * k..(cell + 1) * k)
    }

    /// Takes off a row what its state adds to it, and its state.
    pub fn settle(&self, row: &mut [f64]) {
        let offsets = self.offsets(row).unwrap_or_default();
        row.iter_mut().zip(offsets).for_each(|(x, add)| *x -= add);
        let states = row.iter_mut().zip(&self.counts);
        states
            .filter(|(_, count)| **count > 0)
            .for_each(|(state, _)| *state = 0.0);
    }

    /// The cell of a row; `None` where a state is missing.
    fn cell(&self, row: &[f64]) -> Option<usize> {
        let states = row
            .iter()
            .zip(&self.counts)
            .filter(|(_, count)| **count > 0);
        states.into_iter().try_fold(0, |cell, (&state, &count)| {
            let known = state >= 0.0 && state < count as f64;
            known.then(|| cell * count + state as usize)
        })
    }
}

/// How many combinations of states there are.
pub fn cells(counts: &[usize]) -> usize {
    let counts = counts.iter().filter(|count| **count > 0);
    counts.fold(1, |cells, &count| cells.saturating_mul(count))
}

/// One field of training rows.
struct Readings<'a> {
    of: Vec<f64>,
    cells: &'a [Option<usize>],
    segments: &'a [Range<usize>],
}

impl Readings<'_> {
    fn offsets(&self, cells: usize) -> Vec<f64> {
        let mut offsets = vec![0.0; cells];
        let mut by_cell: Vec<Vec<f64>> = vec![Vec::new(); cells];
        for _ in 0..ROUNDS {
            by_cell.iter_mut().for_each(Vec::clear);
            for segment in self.segments {
                let level = self.level(segment, &offsets);
                for row in segment.clone() {
                    if let (Some(cell), true) = (self.cells[row], self.of[row].is_finite()) {
                        by_cell[cell].push(self.of[row] - level);
                    }
                }
            }
            for (offset, found) in offsets.iter_mut().zip(&mut by_cell) {
                *offset = median(found);
            }
        }
        shrink(&mut offsets, &by_cell);
        offsets
    }

    /// The mean of a series' readings less the offsets of their cells.
    fn level(&self, segment: &Range<usize>, offsets: &[f64]) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for row in segment.clone() {
            if let (Some(cell), true) = (self.cells[row], self.of[row].is_finite()) {
                (sum, count) = (sum + self.of[row] - offsets[cell], count + 1.0);
            }
        }
        sum / f64::max(count, 1.0)
    }
}

/// Takes each offset towards 0, the more the fewer readings it rests on.
fn shrink(offsets: &mut [f64], by_cell: &[Vec<f64>]) {
    let (mut squares, mut freedom) = (0.0, 0.0);
    let (mut spread, mut inverse, mut count) = (0.0, 0.0, 0.0);
    for (offset, found) in offsets.iter().zip(by_cell) {
        if found.is_empty() {
            continue;
        }
        squares += found.iter().map(|x| (x - offset).powi(2)).sum::<f64>();
        freedom += found.len() as f64 - 1.0;
        spread += offset.powi(2);
        inverse += 1.0 / found.len() as f64;
        count += 1.0;
    }
    let within = squares / f64::max(freedom, 1.0);
    let between = (spread - within * inverse).max(0.0) / f64::max(count, 1.0);
    for (offset, found) in offsets.iter_mut().zip(by_cell) {
        let noise = within / found.len().max(1) as f64;
        let part = if between > 0.0 {
            between / (between + noise)
        } else {
            0.0
        };
        *offset *= part;
    }
}

/// The median, as it is sorted; 0 of nothing.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two machines of different levels: a mode of three states that takes 20 rows each, and a reading
    /// that is at `levels` in them.
    fn rows(levels: [f64; 3]) -> (Vec<f64>, Vec<Range<usize>>) {
        let mut rows = Vec::new();
        for machine in [0.0, 7.0] {
            for row in 0..120 {
                let mode = row / 20 % 3;
                let noise = f64::from(u8::try_from(row * 7 % 5).unwrap()) - 2.0;
                rows.extend([mode as f64, levels[mode] + machine + 0.1 * noise]);
            }
        }
        (rows, vec![0..120, 120..240])
    }

    #[test]
    fn what_a_state_adds_is_taken_off() {
        let (mut all, segments) = rows([0.0, 40.0, 90.0]);
        let baseline = StateBaseline::fit(&all, &[3, 0], &segments).unwrap();
        assert!(baseline.is_of(2) && !baseline.is_of(3));
        all.chunks_exact_mut(2).for_each(|row| baseline.settle(row));
        for (machine, segment) in segments.iter().enumerate() {
            let own = &all[segment.start * 2..segment.end * 2];
            let level = 130.0 / 3.0 + 7.0 * machine as f64;
            for row in own.chunks_exact(2) {
                assert_eq!(row[0], 0.0);
                assert!((row[1] - level).abs() < 4.0, "{row:?} is not near {level}");
            }
            let spread = |mode: usize| own[mode * 40 + 1];
            assert!((spread(0) - spread(1)).abs() < 0.5, "{own:?}");
        }
    }

    #[test]
    fn an_unknown_state_takes_nothing_off() {
        let (all, segments) = rows([0.0, 40.0, 90.0]);
        let baseline = StateBaseline::fit(&all, &[3, 0], &segments).unwrap();
        for state in [f64::NAN, f64::INFINITY, 3.0, -1.0] {
            let mut row = [state, 12.0];
            baseline.settle(&mut row);
            assert_eq!(row, [0.0, 12.0]);
        }
        assert!(StateBaseline::fit(&all, &[0, 0], &segments).is_none());
    }

    #[test]
    fn a_state_that_changes_nothing_has_hardly_an_offset() {
        let (all, segments) = rows([5.0, 5.0, 5.0]);
        let baseline = StateBaseline::fit(&all, &[3, 0], &segments).unwrap();
        let offsets = (0..3).map(|mode| baseline.offsets(&[f64::from(mode), 0.0]).unwrap()[1]);
        assert!(offsets.into_iter().all(|offset| offset.abs() < 0.05));
    }
}
