//! Regressions: what a reading should be, by the past of its series and by the other fields.
//!
//! - The *innovation* is what the past does not explain: `z - B' [z(t-1..t-3), M10, M50, M200]`, the
//!   one-step prediction error of a vector autoregression with long memory (Box, Jenkins, "Time
//!   Series Analysis", 1970; Corsi, "A Simple Approximate Long-Memory Model", Journal of Financial
//!   Econometrics 7(2), 2009, for the running means M).
//! - The *regression-adjusted variable* is what the other fields do not explain: `z_j - b_j' [z_i,
//!   M10_i, M50_i, M200_i]` over all i but j (Hawkins, "Multivariate Quality Control Based on
//!   Regression-Adjusted Variables", Technometrics 33(1), 1991). The field's own past is left out:
//!   it would explain a slow fault away.
//!
//! Both are ridge regressions (Hoerl, Kennard, Technometrics 12(1), 1970), fitted over all series
//! together, each less its own level; folds that were held out choose the penalty.

use std::ops::Range;

use super::calibrate::CalibrationGap;
use super::matrix::{NotPositiveDefinite, add_outer, dot, inverse, times};
use super::rows::{Memories, Rows};
use crate::model::memory::{CLIP, Memory, NOW, PAST, SPANS};

/// Penalties, for inputs of variance 1.
const PENALTIES: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];
/// Fields from which on nothing is regressed: the matrices grow with their square.
pub const FIELDS_MAX: usize = 128;
/// The other fields explain a field where the mean R^2 of held-out records is at least this: below,
/// what they leave is the reading once more, and its chart would only share the budget.
const R2_MIN: f64 = 0.6;
/// Records for each field below which R^2 says nothing.
const ROWS_MIN: usize = 10;

/// The fitted coefficients, input by input: inputs x k.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Coefficients(pub Vec<f32>);

impl Coefficients {
    /// Those of a calibration; `None` where it has none.
    pub fn stored(coefficients: &[f32]) -> Option<Self> {
        (!coefficients.is_empty()).then(|| Self(coefficients.to_vec()))
    }

    /// Takes off `left` (length k) what the inputs explain by the coefficients from input `from` on.
    fn take_off(&self, left: &mut [f32], inputs: &[f32], from: usize) {
        let k = left.len().max(1);
        let rows = self.0.chunks_exact(k).skip(from);
        for (&input, row) in inputs.iter().zip(rows) {
            for (left, coefficient) in left.iter_mut().zip(row) {
                *left -= input * coefficient;
            }
        }
    }
}

/// What is left of a record by its series' past; `None` while there is too little of it.
pub fn innovation(by: &Coefficients, memory: &Memory, z: &[f32]) -> Option<Vec<f32>> {
    let mut left = z.to_vec();
    by.take_off(&mut left, memory.past()?, 0);
    Some(left)
}

/// What is left of the newest record of `memory` by its other fields; `None` while there are too few
/// records for their means.
pub fn adjusted(by: &Coefficients, memory: &Memory, z: &[f32]) -> Option<Vec<f32>> {
    let mut left = z.to_vec();
    by.take_off(&mut left, memory.means()?, 0);
    by.take_off(&mut left, memory.newest()?, SPANS.len() * z.len());
    Some(left)
}

/// Both regressions of a training set, and what each leaves of its records.
#[derive(Default)]
pub struct Regressions {
    /// Of the past: `PAST` k x k.
    pub innovation: Coefficients,
    /// Of the other fields, 4 k x k, their means first; `None` where they explain too little.
    pub adjusted: Option<Coefficients>,
    /// What the past leaves of each record that the coefficients were not fitted to, row-major, n x
    /// k.
    pub innovations: Vec<f32>,
    /// The same of the other fields, of the records that have whole means; empty where they explain
    /// too little.
    pub adjusteds: Vec<f32>,
    /// The rows of `adjusteds` of each series.
    pub adjusted_segments: Vec<Range<usize>>,
}

/// Fits both regressions to scaled records (row-major, n x k); each segment is a series in time
/// order, and `folds` cut all of them.
///
/// # Errors
/// [`NotPositiveDefinite`], which the penalty makes impossible for finite records.
pub fn fit(
    z: &[f32],
    k: usize,
    segments: &[Range<usize>],
    gaps: &[CalibrationGap],
    folds: &[Vec<Range<usize>>],
) -> Result<Regressions, NotPositiveDefinite> {
    let rows = Rows::new(z, k, segments, gaps, folds).centred();
    let past = grams(&rows, Memories::Before, PAST * k, Memory::past);
    let (by_past, _) = past.choose(|gram, n, penalty| ridge(gram, PAST * k, k, n, penalty))?;
    let innovations = rows.left(Memories::Before, |fold, memory, z| {
        let left = innovation(&by_past.of[fold], memory, z);
        // A row of its own for every record, also for the first ones, of which nothing is known.
        Some(left.unwrap_or_else(|| vec![0.0; z.len()]))
    });
    let mut found = Regressions {
        innovations: innovations.0,
        innovation: by_past.all,
        ..Regressions::default()
    };
    let now = grams(&rows, Memories::After, NOW * k - k, Memory::means);
    if k == 1 || now.rows.iter().sum::<usize>() < ROWS_MIN * k {
        return Ok(found);
    }
    let (by_others, r2) = now.choose(|gram, n, penalty| leave_own_out(gram, k, n, penalty))?;
    if r2 >= R2_MIN {
        (found.adjusteds, found.adjusted_segments) = rows
            .left(Memories::After, |fold, memory, z| {
                adjusted(&by_others.of[fold], memory, z)
            });
        found.adjusted = Some(by_others.all);
    }
    Ok(found)
}

/// The Gram matrices of each fold's rows: the `inputs` values that `of` finds in the memory of a
/// record and its k readings, cut.
fn grams(
    rows: &Rows<'_>,
    memories: Memories,
    inputs: usize,
    of: impl Fn(&Memory) -> Option<&[f32]>,
) -> Grams {
    let width = inputs + rows.k;
    let mut grams = Grams {
        of: vec![vec![0.0; width * width]; rows.folds],
        rows: vec![0; rows.folds],
        inputs,
        k: rows.k,
    };
    rows.walk(memories, |_, row, memory, z| {
        if let Some(found) = of(memory) {
            let values = found.iter().chain(z);
            let values: Vec<f64> = values.map(|x| f64::from(x.clamp(-CLIP, CLIP))).collect();
            grams.rows[rows.fold[row]] += 1;
            add_outer(&mut grams.of[rows.fold[row]], &values);
        }
    });
    grams
}

/// Sums of products of inputs and outputs, fold by fold.
struct Grams {
    /// (inputs + k) x (inputs + k), row-major.
    of: Vec<Vec<f64>>,
    rows: Vec<usize>,
    inputs: usize,
    k: usize,
}

/// Coefficients of all rows, and of all but each fold.
struct Chosen {
    all: Coefficients,
    of: Vec<Coefficients>,
}

impl Grams {
    /// The coefficients whose penalty has the least error on held-out folds, and the R^2 there.
    /// `solve` makes the coefficients (inputs x k, row-major) from a Gram matrix of so many rows and
    /// a penalty.
    fn choose(
        &self,
        solve: impl Fn(&[f64], usize, f64) -> Result<Vec<f64>, NotPositiveDefinite>,
    ) -> Result<(Chosen, f64), NotPositiveDefinite> {
        let trainings: Vec<(Vec<f64>, usize)> = (0..self.of.len())
            .map(|fold| self.sum(Some(fold)))
            .collect();
        let mut best: Option<(f64, f64, Vec<Vec<f64>>)> = None;
        for penalty in PENALTIES {
            let solved = trainings
                .iter()
                .map(|(gram, rows)| solve(gram, *rows, penalty));
            let by: Vec<Vec<f64>> = solved.collect::<Result<_, _>>()?;
            let errors = by.iter().zip(&self.of);
            let error: f64 = errors.map(|(by, gram)| self.error(by, gram)).sum();
            if best
                .as_ref()
                .is_none_or(|(least, ..)| error.total_cmp(least).is_lt())
            {
                best = Some((error, penalty, by));
            }
        }
        let (error, penalty, by) = best.unwrap_or_default();
        let (all, rows) = self.sum(None);
        let width = self.inputs + self.k;
        let variance: f64 = (self.inputs..width).map(|at| all[at * (width + 1)]).sum();
        let narrow = |by: &[f64]| Coefficients(by.iter().map(|&b| b as f32).collect());
        let chosen = Chosen {
            all: narrow(&solve(&all, rows, penalty)?),
            of: by.iter().map(|by| narrow(by)).collect(),
        };
        Ok((chosen, 1.0 - error / variance.max(f64::MIN_POSITIVE)))
    }

    /// The Gram matrix of all folds but one, and its rows.
    fn sum(&self, left_out: Option<usize>) -> (Vec<f64>, usize) {
        let mut total = vec![0.0; (self.inputs + self.k).pow(2)];
        let mut rows = 0;
        for (fold, gram) in self.of.iter().enumerate() {
            if Some(fold) != left_out {
                total.iter_mut().zip(gram).for_each(|(t, g)| *t += g);
                rows += self.rows[fold];
            }
        }
        (total, rows)
    }

    /// Sum of squared errors of the rows of a Gram matrix: `zz - 2 b' uz + b' uu b` for each output.
    fn error(&self, by: &[f64], gram: &[f64]) -> f64 {
        let (width, inputs) = (self.inputs + self.k, by.len() / self.k.max(1));
        let mut sum = 0.0;
        for output in 0..self.k {
            let column = self.inputs + output;
            let b: Vec<f64> = (0..inputs)
                .map(|input| by[input * self.k + output])
                .collect();
            sum += gram[column * width + column];
            for (input, &b_i) in b.iter().enumerate().filter(|(_, b)| **b != 0.0) {
                let row = &gram[input * width..][..width];
                sum += b_i * (dot(&row[..inputs], &b) - 2.0 * row[column]);
            }
        }
        sum
    }
}

/// `(uu + penalty n I)^-1 uz`, inputs x k, row-major.
fn ridge(
    gram: &[f64],
    inputs: usize,
    k: usize,
    rows: usize,
    penalty: f64,
) -> Result<Vec<f64>, NotPositiveDefinite> {
    let width = inputs + k;
    let mut uu: Vec<f64> = gram
        .chunks_exact(width)
        .take(inputs)
        .flat_map(|row| &row[..inputs])
        .copied()
        .collect();
    (0..inputs).for_each(|at| uu[at * (inputs + 1)] += penalty * rows.max(1) as f64);
    let inverse = inverse(&uu, inputs)?;
    let mut by = vec![0.0; inputs * k];
    for (row, by) in inverse.chunks_exact(inputs).zip(by.chunks_exact_mut(k)) {
        for (&p, gram) in row.iter().zip(gram.chunks_exact(width)) {
            by.iter_mut()
                .zip(&gram[inputs..])
                .for_each(|(b, uz)| *b += p * uz);
        }
    }
    Ok(by)
}

/// The ridge regression of each field on all inputs but its own ones; 4 k x k, row-major, the means
/// first. The outputs are among the inputs: the last k.
///
/// One inverse serves all fields: that of a part of a matrix follows from the whole one's by the
/// Schur complement.
fn leave_own_out(
    gram: &[f64],
    k: usize,
    rows: usize,
    penalty: f64,
) -> Result<Vec<f64>, NotPositiveDefinite> {
    let inputs = NOW * k;
    let mut a = gram.to_vec();
    (0..inputs).for_each(|at| a[at * (inputs + 1)] += penalty * rows.max(1) as f64);
    let p = inverse(&a, inputs)?;
    let mut by = vec![0.0; inputs * k];
    for field in 0..k {
        let own: Vec<usize> = (0..NOW).map(|block| block * k + field).collect();
        let mut target = gram[(inputs - k + field) * inputs..][..inputs].to_vec();
        own.iter().for_each(|&at| target[at] = 0.0);
        let y = times(&p, &target);
        let pick =
            |row: usize| -> Vec<f64> { own.iter().map(|&at| p[row * inputs + at]).collect() };
        let p_own: Vec<f64> = own.iter().flat_map(|&row| pick(row)).collect();
        let y_own: Vec<f64> = own.iter().map(|&at| y[at]).collect();
        let own_part = times(&inverse(&p_own, NOW)?, &y_own);
        for input in (0..inputs).filter(|input| !own.contains(input)) {
            by[input * k + field] = y[input] - dot(&pick(input), &own_part);
        }
    }
    Ok(by)
}
