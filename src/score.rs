//! The score step: windows become residuals in one forward pass, and each series' residuals become
//! its score.

pub mod calibrate;
pub mod cells;
pub mod chart;
pub mod charts;
mod denoise;
pub mod error_map;
pub mod heat_map;
pub mod inspect;
mod matrix;
mod missing;
mod regression;
pub mod resolution;
pub mod rest;
mod rows;
mod settings;
pub mod tiles;
mod wild;

use tch::TchError;

pub use self::settings::ScoreSettings;

use self::charts::{ChartScores, Charts, ChartsState};
use self::matrix::NotPositiveDefinite;
use crate::failure::{Failure, FailureClass};
use crate::model::ResidualScope;
use crate::model::bundle::Bundle;
use crate::model::{Autoencoder, ModelError, part_rows};

/// Why a bundle cannot score.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The forward pass failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The calibration is unusable.
    #[error(transparent)]
    Covariance(#[from] NotPositiveDefinite),
    /// The denoiser could not be fitted.
    #[error("libtorch failed: {0}")]
    Torch(#[from] TchError),
    /// A bundle that was trained on readings.
    #[error("the bundle is not calibrated for images: train a new one")]
    NoPeaks,
}

impl Failure for ScoreError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Model(error) => error.class(),
            // The shrinkage of the calibration rules it out.
            Self::Covariance(_) | Self::Torch(_) => FailureClass::INTERNAL,
            Self::NoPeaks => FailureClass::USER,
        }
    }
}

/// A bundle that scores: its model and its charts.
pub struct Scorer {
    bundle: Bundle,
    charts: Charts,
}

/// What one forward pass left over of each window: row-major, n x scored fields, in scaled units.
pub struct Residuals {
    fields: usize,
    /// The newest record.
    readings: Vec<f32>,
    /// What the charts of readings look at; see [`ResidualScope`].
    residual: Vec<f32>,
    /// What the model expected of the newest record.
    expected: Vec<f32>,
    raw_errors: Vec<f64>,
}

/// The same of one window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Residual<'r> {
    /// The newest record.
    pub readings: &'r [f32],
    /// What the charts of readings look at: the newest record, or the root mean square of `z - AE(z)`
    /// over the window.
    pub values: &'r [f32],
    /// `AE(z)` of each field at the newest record.
    pub expected: &'r [f32],
    /// Root mean square of `z - AE(z)` over the fields, and over the window where that is what the
    /// chart looks at.
    pub raw_error: f64,
}

impl Residuals {
    /// All rows, one after the other.
    pub fn all(&self) -> &[f32] {
        &self.residual
    }

    /// What is left of one window.
    pub fn row(&self, window: usize) -> Residual<'_> {
        let row = window * self.fields..(window + 1) * self.fields;
        let readings = &self.readings[row.clone()];
        let values = &self.residual[row.clone()];
        let expected = &self.expected[row];
        Residual {
            readings,
            values,
            expected,
            raw_error: self.raw_errors[window],
        }
    }
}

/// Passes that fill missing values in: each brings them nearer to the model's own estimate.
const PASSES: usize = 3;

/// `vec![0.0; count]` asks the system for new pages of zeros each time; this writes them where
/// the last batch's were.
fn zeros<T: Copy + Default>(count: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    values.resize(count, T::default());
    values
}

/// Reconstructs scaled windows (row-major, n x inputs) and returns what is left of them.
///
/// # Errors
/// Where libtorch refuses the tensors.
pub fn residuals(
    model: &dyn Autoencoder,
    scope: ResidualScope,
    scaled: &[f32],
) -> Result<Residuals, ScoreError> {
    let inputs = model.shape().inputs();
    let width = model.shape().fields;
    let fields = model.shape().scored();
    let judged = judged(scope, model);
    let found = model.reconstruct(scaled)?;
    let rows = found.len() / inputs;
    let mut residual = Vec::with_capacity(rows * fields);
    let mut expected = Vec::with_capacity(rows * fields);
    let mut readings = Vec::with_capacity(rows * fields);
    let (mut raw_errors, mut squares) = (Vec::with_capacity(rows), vec![0.0; fields]);
    for (window, y) in scaled.chunks_exact(inputs).zip(found.chunks_exact(inputs)) {
        // Record by record the fields; the context behind them is not scored.
        let y = &y[inputs - judged..];
        let records = window[inputs - judged..]
            .chunks_exact(width)
            .zip(y.chunks_exact(width));
        let records = records.map(|(z, y)| z[..fields].iter().zip(&y[..fields]));
        squares.fill(0.0);
        for record in records.clone() {
            record
                .zip(&mut squares)
                .for_each(|((z, y), sum)| *sum += (f64::from(*z) - f64::from(*y)).powi(2));
        }
        let newest = judged - width;
        expected.extend_from_slice(&y[newest..newest + fields]);
        readings.extend_from_slice(&window[inputs - width..inputs - width + fields]);
        raw_errors.push((squares.iter().sum::<f64>() / (fields * judged / width) as f64).sqrt());
        match scope {
            // What a linear model explains comes back when the charts are whitened: they look at the
            // readings themselves.
            ResidualScope::Record => residual.extend(records.flatten().map(|(z, _)| z)),
            ResidualScope::Window => {
                residual.extend(
                    squares
                        .iter()
                        .map(|sum| (sum / (judged / width) as f64).sqrt() as f32),
                );
            }
        }
    }
    Ok(Residuals {
        fields,
        readings,
        residual,
        expected,
        raw_errors,
    })
}

/// Sets the missing values of windows (NaN) to the model's reconstruction of them: it begins with their
/// mean, and what comes out goes in again, [`PASSES`] times in all.
fn complete_windows(model: &dyn Autoencoder, windows: &mut [f32]) -> Result<(), ScoreError> {
    let inputs = model.shape().inputs().max(1);
    let is_incomplete = |window: &&mut [f32]| window.iter().any(|value| value.is_nan());
    let mut incomplete: Vec<&mut [f32]> = windows
        .chunks_exact_mut(inputs)
        .filter(is_incomplete)
        .collect();
    if incomplete.is_empty() {
        return Ok(());
    }
    let mut filled = incomplete
        .iter()
        .map(|window| &**window)
        .collect::<Vec<_>>()
        .concat();
    let missing: Vec<usize> = (0..filled.len())
        .filter(|&at| filled[at].is_nan())
        .collect();
    missing.iter().for_each(|&at| filled[at] = 0.0);
    for _ in 0..PASSES {
        let found = model.reconstruct(&filled)?;
        missing.iter().for_each(|&at| filled[at] = found[at]);
    }
    for (window, filled) in incomplete.iter_mut().zip(filled.chunks_exact(inputs)) {
        window.copy_from_slice(filled);
    }
    Ok(())
}

/// Values of a window that are judged, the last ones.
fn judged(scope: ResidualScope, model: &dyn Autoencoder) -> usize {
    match scope {
        ResidualScope::Record => model.shape().fields,
        ResidualScope::Window => model.shape().inputs(),
    }
}

/// The windows that begin at `starts` (rows of `values`, row-major, n x fields), part by part: `of`
/// gets each part's windows, row-major.
///
/// # Errors
/// Those of `of`.
pub fn by_part<E>(
    model: &dyn Autoencoder,
    values: &[f32],
    starts: &[usize],
    mut of: impl FnMut(Vec<f32>) -> Result<(), E>,
) -> Result<(), E> {
    let inputs = model.shape().inputs();
    let fields = model.shape().fields;
    starts.chunks(part_rows(inputs)).try_for_each(|part| {
        let mut windows = Vec::with_capacity(part.len() * inputs);
        for &start in part {
            windows.extend_from_slice(&values[start * fields..start * fields + inputs]);
        }
        of(windows)
    })
}

/// Mean of the squared errors of each window that begins at `starts` (rows of `rows`, row-major,
/// plain readings with their context), over what the bundle's chart looks at. An error is in units
/// of `unit`, one for each field in the field's own unit: models with different scalers can be
/// compared by it.
///
/// # Errors
/// As [`residuals`].
pub fn squared_errors(
    bundle: &Bundle,
    rows: &[f64],
    starts: &[usize],
    unit: &[f64],
) -> Result<Vec<f64>, ScoreError> {
    let model = &*bundle.model;
    let scaler = &bundle.calibration.scaler;
    let inputs = model.shape().inputs();
    let width = model.shape().fields;
    let fields = model.shape().scored();
    let judged = judged(bundle.calibration.scope, model);
    let scaled = scaler.scaled(rows);
    let mut errors = Vec::with_capacity(starts.len());
    let mut starts_left = starts.iter();
    by_part(
        model,
        &scaled,
        starts,
        |windows| -> Result<(), ScoreError> {
            let found = model.reconstruct(&windows)?;
            for (y, start) in found.chunks_exact(inputs).zip(starts_left.by_ref()) {
                let end = start * width + inputs;
                let records = rows[end - judged..end]
                    .chunks_exact(width)
                    .zip(y[inputs - judged..].chunks_exact(width));
                let squares = records.flat_map(|(x, y)| {
                    let error =
                        |at: usize| (x[at] - scaler.unscale(at, f64::from(y[at]))) / unit[at];
                    (0..fields).map(move |at| error(at).powi(2))
                });
                errors.push(squares.sum::<f64>() / (fields * judged / width) as f64);
            }
            Ok(())
        },
    )?;
    Ok(errors)
}

impl Scorer {
    /// Makes a bundle ready to score.
    ///
    /// # Errors
    /// Where its covariance is singular.
    pub fn new(bundle: Bundle, settings: &ScoreSettings) -> Result<Self, ScoreError> {
        let charts = Charts::new(settings, &bundle.calibration, bundle.denoiser.as_ref())?;
        Ok(Self { bundle, charts })
    }

    /// The bundle that scores.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Appends scaled readings (whole records) to the windows of a batch.
    pub fn scale_onto(&self, readings: &[f64], windows: &mut Vec<f32>) {
        let start = windows.len();
        windows.resize(start + readings.len(), 0.0);
        self.bundle
            .calibration
            .scaler
            .scale_into(readings, &mut windows[start..]);
    }

    /// One forward pass over all windows of a batch (row-major, n x inputs, scaled). Values that are
    /// missing (NaN) are what the model makes of the others.
    ///
    /// # Errors
    /// Where libtorch refuses the tensors.
    pub fn forward(&self, mut windows: Vec<f32>) -> Result<Residuals, ScoreError> {
        complete_windows(&*self.bundle.model, &mut windows)?;
        residuals(&*self.bundle.model, self.bundle.calibration.scope, &windows)
    }

    /// Takes a series' newest record, without its `missing` fields (ascending) and less what the
    /// `season` lets expect of it; `alerting` slows the baselines down.
    pub fn step(
        &self,
        state: &mut ChartsState,
        residual: Residual<'_>,
        season: Option<&[f32]>,
        missing: &[usize],
        alerting: bool,
    ) -> ChartScores {
        let (z, vector) = (residual.readings, residual.values);
        let Some(season) = season else {
            return self.charts.step(state, z, vector, missing, alerting);
        };
        let left: Vec<f32> = z.iter().zip(season).map(|(z, level)| z - level).collect();
        self.charts.step(state, &left, &left, missing, alerting)
    }

    /// The charts.
    pub fn charts(&self) -> &Charts {
        &self.charts
    }

    /// What the model expected of a field, in the field's unit, given the expectation in scaled
    /// units.
    pub fn expected(&self, field: usize, scaled: f32) -> f64 {
        self.bundle
            .calibration
            .scaler
            .unscale(field, f64::from(scaled))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::seq::SliceRandom as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::model::ModelKind;
    use crate::model::network::Network;
    use crate::model::shape::ModelShape;

    /// Rounding that depends on the batch would make a replay differ from life: each kind, in
    /// batches of any size.
    fn depends_on_its_window_alone(kind: ModelKind, scope: ResidualScope, cases: usize) {
        use rand::Rng as _;
        for case in 0..cases {
            let mut rng = ChaCha8Rng::seed_from_u64(case as u64);
            let fields = rng.random_range(2..20);
            let hidden = rng.random_range(1..20);
            let window = if kind.is_windowed() {
                rng.random_range(2..30)
            } else {
                rng.random_range(1..4)
            };
            let latent = rng.random_range(1..fields);
            let shape = ModelShape::new(kind, window, fields, &[hidden], latent);
            let model = Network::initialised(&shape, &mut rng)
                .and_then(Network::into_model)
                .unwrap();
            let rows = rng.random_range(1..200);
            let windows: Vec<Vec<f32>> = (0..rows)
                .map(|_| {
                    (0..window * fields)
                        .map(|_| rng.random_range(-3.0..3.0))
                        .collect()
                })
                .collect();
            let whole = residuals(&*model, scope, &windows.concat()).unwrap();
            let mut order: Vec<usize> = (0..rows).collect();
            order.shuffle(&mut rng);
            for part in order.chunks(rng.random_range(1..70)) {
                let some: Vec<f32> = part.iter().flat_map(|&row| windows[row].clone()).collect();
                let some = residuals(&*model, scope, &some).unwrap();
                for (window, &row) in part.iter().enumerate() {
                    assert_eq!(
                        some.row(window),
                        whole.row(row),
                        "{kind:?}, case {case}: {shape:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_residual_depends_on_nothing_but_its_window() {
        for scope in [ResidualScope::Record, ResidualScope::Window] {
            for kind in [
                ModelKind::Dense,
                ModelKind::Conv,
                ModelKind::Lstm,
                ModelKind::Vae,
                ModelKind::ConvVae,
            ] {
                depends_on_its_window_alone(kind, scope, 30);
            }
        }
    }

    #[test]
    fn what_is_left_of_a_window_is_what_the_formulas_say() {
        let shape = ModelShape::new(ModelKind::Dense, 2, 2, &[3], 1);
        let model = Network::initialised(&shape, &mut ChaCha8Rng::seed_from_u64(1))
            .and_then(Network::into_model)
            .unwrap();
        let z = [0.5f32, -1.0, 2.0, 0.25];
        let y = model.reconstruct(&z).unwrap();
        let record = residuals(&*model, ResidualScope::Record, &z).unwrap();
        assert_eq!(record.row(0).values, &z[2..]);
        assert_eq!(record.row(0).readings, &z[2..]);
        assert_eq!(record.row(0).expected, &y[2..]);
        let window = residuals(&*model, ResidualScope::Window, &z).unwrap();
        let squares: Vec<f64> = z
            .iter()
            .zip(&y)
            .map(|(z, y)| f64::from(z - y).powi(2))
            .collect();
        let rms = |a: f64, b: f64| f64::midpoint(a, b).sqrt();
        let found = window.row(0).values;
        assert!((f64::from(found[0]) - rms(squares[0], squares[2])).abs() < 1e-6);
        assert!((f64::from(found[1]) - rms(squares[1], squares[3])).abs() < 1e-6);
        assert!(
            (window.row(0).raw_error - (squares.iter().sum::<f64>() / 4.0).sqrt()).abs() < 1e-6
        );
        assert_eq!(window.row(0).expected, &y[2..]);
    }
}
