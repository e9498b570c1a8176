//! What a bundle knows of a field's normal readings, so that the gate can distinguish a dead sensor
//! from an idle machine.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::counter::Counter;

/// Part of the readings at each end that is drawn in to the next one before mean and spread are
/// taken, so that a few spikes in the training data do not widen what is normal.
const WINSOR: f64 = 0.005;

/// Runs from which on the longest one tells how long they become.
const RUNS_MIN: usize = 20;

/// Differences in one stretch of which the quietest sets the normal movement.
const STRETCH: usize = 256;

/// One field's normal readings, in the field's unit. Every number is finite and, except for the
/// mean, >= 0.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NormalRange {
    /// Mean, of the winsorised readings.
    pub mean: f64,
    /// Standard deviation, of the winsorised readings.
    pub sd: f64,
    /// Mean |difference| of consecutive readings in the quietest stretch in which the field moved;
    /// 0: it never did.
    pub movement: f64,
    /// Longest run of equal readings, in records.
    pub longest_run: u32,
    /// The reading of that run: where the machine rests.
    pub rest: f64,
    /// Longest run of another reading.
    pub moving_run: u32,
    /// Mean length of runs, where there are too few for the longest one to tell; 0 otherwise.
    pub mean_run: f64,
    /// Least and largest reading.
    pub range: [f64; 2],
    /// |difference| of consecutive readings that normal operation does not reach; `None` if it cannot be determined.
    pub step: Option<f64>,
    /// Of a field that only rises; such a field has neither a range nor a scale.
    #[serde(default)]
    pub counter: Option<Counter>,
}

/// Fits one [`NormalRange`] a field.
///
/// `rows` is row-major with `fields` readings a row; `segments` are ranges of rows, each of one
/// series in the order of time (parts beyond the end of `rows` are ignored). Readings that are not
/// finite are skipped. A field without any finite reading gets zeros, which switches its rules off.
pub fn normals(rows: &[f64], fields: usize, segments: &[Range<usize>]) -> Vec<NormalRange> {
    (0..fields)
        .map(|field| fit(rows, fields, field, segments))
        .collect()
}

fn fit(rows: &[f64], fields: usize, field: usize, segments: &[Range<usize>]) -> NormalRange {
    let mut readings = Vec::new();
    let mut movement = Movement::default();
    let mut runs = Vec::new();
    let mut stretches = Vec::new();
    for segment in segments {
        let from = readings.len();
        let row_values = rows
            .chunks_exact(fields)
            .skip(segment.start)
            .take(segment.len());
        readings.extend(
            row_values
                .filter_map(|row| row.get(field))
                .filter(|x| x.is_finite()),
        );
        let stretch = readings.get(from..).unwrap_or_default();
        movement.add(stretch);
        stretches.push(from..readings.len());
        let equal = stretch.chunk_by(|a, b| a == b);
        runs.extend(equal.map(|run| (run.len(), run[0])));
    }
    let (longest_run, rest) = longest(runs.iter().copied());
    let (moving_run, _) = longest(runs.iter().copied().filter(|(_, of)| *of != rest));
    let mean_run = match runs.len() < RUNS_MIN {
        true => readings.len() as f64 / runs.len().max(1) as f64,
        false => 0.0,
    };
    let range = range(&readings);
    let stretches = stretches.into_iter().map(|rows| &readings[rows]);
    let counter = Counter::of(stretches);
    let (mean, sd) = moments(readings);
    NormalRange {
        mean,
        sd,
        movement: movement.normal(),
        longest_run,
        rest,
        moving_run,
        mean_run,
        range,
        step: movement.step(),
        counter,
    }
}

/// The longest run, and its reading; none where there is no run.
fn longest(runs: impl Iterator<Item = (usize, f64)>) -> (u32, f64) {
    let (length, reading) = runs.max_by_key(|(length, _)| *length).unwrap_or_default();
    (u32::try_from(length).unwrap_or(u32::MAX), reading)
}

/// How far a reading lies outside a range; negative inside.
pub fn beyond([low, high]: [f64; 2], x: f64) -> f64 {
    (low - x).max(x - high)
}

#[derive(Default)]
struct Movement {
    /// |difference| of all consecutive readings; their sum may overflow.
    differences: Vec<f64>,
    /// Mean of the quietest stretch.
    quietest: Option<f64>,
}

impl Movement {
    fn add(&mut self, readings: &[f64]) {
        let from = self.differences.len();
        self.differences.extend(
            readings
                .iter()
                .zip(readings.iter().skip(1))
                .map(|(a, b)| (b - a).abs()),
        );
        for stretch in self
            .differences
            .get(from..)
            .unwrap_or_default()
            .chunks(STRETCH)
        {
            if stretch.len() * 2 >= STRETCH {
                let mean = mean(stretch);
                self.quietest = Some(self.quietest.map_or(mean, |quietest| quietest.min(mean)));
            }
        }
    }

    /// A machine that rests between its runs is quiet in each rest, and its sensors are well. Where
    /// whole stretches stand still, a part of zero could not be told; the mean over all serves
    /// then, with the long persistence that the longest run asks for.
    fn normal(&self) -> f64 {
        let movement = self
            .quietest
            .filter(|quietest| *quietest > 0.0)
            .unwrap_or_else(|| mean(&self.differences));
        if movement.is_finite() { movement } else { 0.0 }
    }

    /// What a tail by a power law through the largest of n differences (probability 1 / n) and the
    /// one of probability 1 / sqrt(n) reaches with probability 1 / n^2. A heavier tail puts it
    /// further off, so that a signal with spikes of its own has none that count.
    fn step(mut self) -> Option<f64> {
        self.differences.sort_by(f64::total_cmp);
        let n = self.differences.len();
        let largest = *self.differences.last()?;
        let common = *self
            .differences
            .get(n.checked_sub(1 + (n as f64).sqrt() as usize)?)?;
        let step = largest * (largest / common).powi(2);
        (common > 0.0 && step.is_finite()).then_some(step)
    }
}

/// 0 where there is none.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Least and largest reading; 0 where there is none, or where their difference overflows.
fn range(readings: &[f64]) -> [f64; 2] {
    let low = readings.iter().copied().fold(f64::INFINITY, f64::min);
    let high = readings.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if (high - low).is_finite() {
        [low, high]
    } else {
        [0.0; 2]
    }
}

/// Mean and standard deviation of the winsorised readings; 0 where they overflow.
fn moments(mut readings: Vec<f64>) -> (f64, f64) {
    readings.sort_by(f64::total_cmp);
    let count = readings.len();
    let cut = (count as f64 * WINSOR) as usize;
    let (Some(&low), Some(&high)) = (
        readings.get(cut),
        readings.get(count.saturating_sub(1 + cut)),
    ) else {
        return (0.0, 0.0);
    };
    if low == high {
        // The sums would leave a rounding error behind that is no spread.
        return (low, 0.0);
    }
    let drawn_in = || readings.iter().map(|x| x.clamp(low, high));
    let mean = drawn_in().map(|x| x / count as f64).sum::<f64>();
    let sd = (drawn_in().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64).sqrt();
    if mean.is_finite() && sd.is_finite() {
        (mean, sd)
    } else {
        (0.0, 0.0)
    }
}
