//! The records of a training set, each with what a series' memory keeps when it comes.

use std::ops::Range;

use super::calibrate::CalibrationGap;
use crate::model::memory::Memory;

/// Scaled records, and where they are cut.
pub struct Rows<'a> {
    /// Row-major.
    values: Vec<f32>,
    /// Fields.
    pub k: usize,
    segments: &'a [Range<usize>],
    gaps: &'a [CalibrationGap],
    /// The fold of each row.
    pub fold: Vec<usize>,
    /// How many there are.
    pub folds: usize,
}

/// Which memory a regression of a record looks at.
#[derive(Clone, Copy, PartialEq)]
pub enum Memories {
    /// Of the records before it.
    Before,
    /// Of these and the record.
    After,
}

impl<'a> Rows<'a> {
    /// Records (row-major, n x k); each segment is a series in time order, and `folds` cut all of
    /// them.
    pub fn new(
        z: &[f32],
        k: usize,
        segments: &'a [Range<usize>],
        gaps: &'a [CalibrationGap],
        folds: &[Vec<Range<usize>>],
    ) -> Self {
        let mut fold = vec![0; z.len() / k.max(1)];
        for (number, ranges) in folds.iter().enumerate() {
            let rows = ranges.iter().flat_map(Clone::clone);
            rows.for_each(|row| fold[row] = number);
        }
        Self {
            values: z.to_vec(),
            k,
            segments,
            gaps,
            fold,
            folds: folds.len(),
        }
    }

    /// The same records, each series less its mean.
    pub fn centred(mut self) -> Self {
        let k = self.k;
        for segment in self.segments {
            let rows = &mut self.values[segment.start * k..segment.end * k];
            for field in 0..k {
                let level = rows.iter().skip(field).step_by(k.max(1));
                let level = level.map(|&z| f64::from(z)).sum::<f64>() / segment.len().max(1) as f64;
                let own = rows.iter_mut().skip(field).step_by(k.max(1));
                own.for_each(|z| *z -= level as f32);
            }
        }
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.fold.len()
    }

    /// Calls `each` with every row, the number of its segment and its own, and its memory.
    pub fn walk(&self, memories: Memories, mut each: impl FnMut(usize, usize, &Memory, &[f32])) {
        let mut gaps = self.gaps.iter().peekable();
        for (number, segment) in self.segments.iter().enumerate() {
            let mut memory = Memory::default();
            for row in segment.clone() {
                let z = &self.values[row * self.k..(row + 1) * self.k];
                if let Some(gap) = gaps.next_if(|gap| gap.row == row) {
                    memory.interrupt(gap.missing);
                }
                if memories == Memories::Before {
                    each(number, row, &memory, z);
                }
                memory.take(z, true);
                if memories == Memories::After {
                    each(number, row, &memory, z);
                }
            }
        }
    }

    /// What `of` leaves of each row by the coefficients of its fold, where it leaves something, and
    /// the rows of each series among these.
    pub fn left(
        &self,
        memories: Memories,
        of: impl Fn(usize, &Memory, &[f32]) -> Option<Vec<f32>>,
    ) -> (Vec<f32>, Vec<Range<usize>>) {
        let mut left = Vec::with_capacity(self.values.len());
        let mut counts = vec![0; self.segments.len()];
        self.walk(memories, |segment, row, memory, z| {
            if let Some(row) = of(self.fold[row], memory, z) {
                left.extend(row);
                counts[segment] += 1;
            }
        });
        let mut start = 0;
        let range = |count: usize| {
            start += count;
            start - count..start
        };
        let ranges = counts.into_iter().map(range).collect();
        (left, ranges)
    }
}
