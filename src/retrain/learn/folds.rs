//! Where the folds of a training set are.

use std::ops::Range;

use crate::retrain::set::WindowStarts;

/// The windows of a training set, and where each fold of them is.
pub(super) struct Folds {
    /// Row-major, n x fields, scaled, with their context: what the windows are parts of.
    pub(super) scaled: Vec<f32>,
    pub(super) windows: WindowStarts,
    /// Values of a row.
    pub(super) fields: usize,
    pub(super) count: usize,
    /// The windows of each fold, in their order.
    pub(super) of: Vec<Vec<Range<usize>>>,
}

/// The windows of each fold: the k-th part of each series. Of series with fewer windows than folds,
/// each as a whole belongs to one fold: the k-th part of these series.
pub(super) fn parts(segments: &[Range<usize>], count: usize) -> Vec<Vec<Range<usize>>> {
    let is_short = |segment: &&Range<usize>| segment.len() < count;
    let short = segments.iter().filter(is_short).count();
    let mut before = 0;
    let mut of = vec![Vec::with_capacity(segments.len()); count];
    for segment in segments {
        let own = before * count / short.max(1);
        before += usize::from(is_short(&segment));
        for (k, ranges) in of.iter_mut().enumerate() {
            let cut = |i: usize| segment.start + segment.len() * i / count;
            ranges.push(match is_short(&segment) {
                false => cut(k)..cut(k + 1),
                true if k == own => segment.clone(),
                true => segment.end..segment.end,
            });
        }
    }
    of
}

impl Folds {
    /// Where in `scaled` a window begins.
    pub(super) fn at(&self, window: usize) -> usize {
        self.windows.starts[window] * self.fields
    }

    /// The newest record of each window, without its context, row-major, n x `fields`.
    pub(super) fn newest(&self, window: usize, fields: usize) -> Vec<f32> {
        let starts = self.windows.starts.iter();
        let newest = starts.map(|start| (start + window - 1) * self.fields);
        newest
            .flat_map(|at| &self.scaled[at..at + fields])
            .copied()
            .collect()
    }

    /// Where all windows begin.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.windows.starts.len())
            .map(|window| self.at(window))
            .collect()
    }

    /// Where the windows of fold `k` begin.
    pub(super) fn inside(&self, k: usize) -> Vec<usize> {
        self.of[k]
            .iter()
            .flat_map(Clone::clone)
            .map(|window| self.at(window))
            .collect()
    }

    /// Where the windows outside fold `k` begin, without those that share a record with it:
    /// `overlap` on both sides.
    pub(super) fn outside(&self, k: usize, overlap: usize) -> Vec<usize> {
        let mut starts = Vec::with_capacity(self.windows.starts.len());
        for (segment, fold) in self.windows.segments.iter().zip(&self.of[k]) {
            let (before, after) = match fold.is_empty() {
                true => (segment.clone(), segment.end..segment.end),
                false => (
                    segment.start..fold.start.saturating_sub(overlap).max(segment.start),
                    (fold.end + overlap).min(segment.end)..segment.end,
                ),
            };
            starts.extend(before.chain(after).map(|window| self.at(window)));
        }
        starts
    }
}
