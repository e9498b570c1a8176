//! The score step: windows become residuals in one forward pass, and each series' residuals become its score.

pub mod calibrate;
pub mod chart;

use tch::{Kind, Tensor};

use self::chart::{Chart, ChartState, NotPositiveDefinite};
use crate::config::settings;
use crate::model::bundle::Bundle;
use crate::model::scaler::Scaler;
use crate::model::{Autoencoder, ModelError};
use crate::record::Scored;

/// Why a bundle cannot score.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The forward pass failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The calibration is unusable.
    #[error(transparent)]
    Covariance(#[from] NotPositiveDefinite),
    /// libtorch refused a tensor.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

/// A bundle that scores: its model and its chart.
pub struct Scorer {
    bundle: Bundle,
    chart: Chart,
}

/// What one forward pass left over, for the newest record of each window: row-major, n x fields, in scaled units.
pub struct Residuals {
    fields: usize,
    residual: Vec<f32>,
    raw_errors: Vec<f64>,
}

/// The same of one window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Residual<'r> {
    /// `z - AE(z) / 2` of each field, in scaled units.
    pub values: &'r [f32],
    /// Root mean square of `z - AE(z)` over the fields, in scaled units.
    pub raw_error: f64,
}

impl Residuals {
    /// All rows, one after the other.
    pub fn all(&self) -> &[f32] {
        &self.residual
    }

    /// The residual of one window's newest record.
    pub fn row(&self, window: usize) -> Residual<'_> {
        let values = &self.residual[window * self.fields..(window + 1) * self.fields];
        Residual { values, raw_error: self.raw_errors[window] }
    }
}

/// The part of the reconstruction that is taken off. The whole residual of a model with a narrow code has next to no
/// variance along what the code holds, and a chart on it is blind there; half of it keeps every direction, so that one
/// chart holds the squared prediction error and T-squared at once (Jackson and Mudholkar, Technometrics 21(3), 1979, keep
/// two).
const GAIN: f64 = 0.5;

/// `AE(z)` of a field, from its residual.
fn reconstructed(z: f64, residual: f32) -> f64 {
    (z - f64::from(residual)) / GAIN
}

/// Windows go through the model in multiples of this many, filled up with zeros: libtorch's matrix products round in another
/// way at other numbers of rows, and a score must not depend on how the records were batched.
const ROWS: usize = 16;

/// Reconstructs windows (row-major, n x inputs, plain readings) and returns the residual `z - AE(z) / 2` of their newest records.
///
/// # Errors
/// Where libtorch refuses the tensors.
pub fn residuals(model: &dyn Autoencoder, scaler: &Scaler, windows: &[f64]) -> Result<Residuals, ScoreError> {
    let (inputs, fields) = (model.shape().inputs(), model.shape().fields);
    let rows = windows.len() / inputs;
    let mut scaled = vec![0.0f32; rows.next_multiple_of(ROWS) * inputs];
    for (raw, z) in windows.chunks_exact(fields).zip(scaled.chunks_exact_mut(fields)) {
        scaler.scale_into(raw, z);
    }
    if scaled.is_empty() {
        return Ok(Residuals { fields, residual: scaled, raw_errors: Vec::new() });
    }
    let x = Tensor::f_from_slice(&scaled)?.f_view([-1, inputs as i64])?;
    let rest = x.f_sub(&model.reconstruct(&x)?.f_mul_scalar(GAIN)?)?;
    let newest = rest.f_narrow(1, (inputs - fields) as i64, fields as i64)?.f_contiguous()?;
    let mut residual = vec![0.0f32; rows * fields];
    let elements = residual.len();
    newest.f_to_kind(Kind::Float)?.f_copy_data(&mut residual, elements)?;
    scaled.truncate(rows * inputs);
    let raw_errors = scaled.chunks_exact(inputs).zip(residual.chunks_exact(fields)).map(|(window, rest)| {
        let error = |(&z, &r): (&f32, &f32)| f64::from(z) - reconstructed(f64::from(z), r);
        let squares = window[inputs - fields..].iter().zip(rest).map(|pair| error(pair).powi(2)).sum::<f64>();
        (squares / fields as f64).sqrt()
    });
    Ok(Residuals { fields, raw_errors: raw_errors.collect(), residual })
}

/// Mean over the fields of the squared error of each window's newest record, where an error is in units of `unit`, one for
/// each field in the field's own unit: models with different scalers can be compared by it.
///
/// # Errors
/// As [`residuals`].
pub fn squared_errors(
    model: &dyn Autoencoder,
    scaler: &Scaler,
    windows: &[f64],
    unit: &[f64],
) -> Result<Vec<f64>, ScoreError> {
    let (inputs, fields) = (model.shape().inputs(), model.shape().fields);
    let mut errors = Vec::with_capacity(windows.len() / inputs);
    let mut z = vec![0.0f32; fields];
    for part in windows.chunks(inputs * PART) {
        let found = residuals(model, scaler, part)?;
        for (window, rest) in part.chunks_exact(inputs).zip(found.all().chunks_exact(fields)) {
            let newest = &window[inputs - fields..];
            scaler.scale_into(newest, &mut z);
            let expected = (0..fields).map(|i| scaler.unscale(i, reconstructed(f64::from(z[i]), rest[i])));
            let squares = expected.zip(newest).zip(unit).map(|((expected, x), unit)| ((x - expected) / unit).powi(2));
            errors.push(squares.sum::<f64>() / fields as f64);
        }
    }
    Ok(errors)
}

/// Windows of one forward pass of [`squared_errors`].
const PART: usize = 4_096;

impl Scorer {
    /// Makes a bundle ready to score.
    ///
    /// # Errors
    /// Where its covariance is singular.
    pub fn new(bundle: Bundle, settings: &settings::Score) -> Result<Self, ScoreError> {
        let c = &bundle.calibration;
        let chart =
            Chart::new(&chart::paced(settings, c.series_rows), &c.residual_mean, &c.residual_sd, &c.covariance)?;
        Ok(Self { bundle, chart })
    }

    /// The bundle that scores.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// One forward pass over all windows of a batch (row-major, n x inputs, plain readings).
    ///
    /// # Errors
    /// Where libtorch refuses the tensors.
    pub fn forward(&self, windows: &[f64]) -> Result<Residuals, ScoreError> {
        residuals(&*self.bundle.model, &self.bundle.calibration.scaler, windows)
    }

    /// Takes the residual of a series' newest record; `alerting` slows the baseline down.
    pub fn step(&self, state: &mut ChartState, residual: Residual<'_>, alerting: bool) -> Scored {
        Scored { score: self.chart.step(state, residual.values, alerting), raw_error: residual.raw_error }
    }

    /// Each field's share of the series' present score; they add up to 1.
    pub fn shares(&self, state: &ChartState) -> Vec<f64> {
        self.chart.shares(state)
    }

    /// What the model expected of a field, in the field's unit, given what was read and the residual there.
    pub fn expected(&self, field: usize, residual: f32, reading: f64) -> f64 {
        let scaler = &self.bundle.calibration.scaler;
        let mut z = vec![0.0f32; scaler.mean.len()];
        let mut raw = scaler.mean.clone();
        raw[field] = reading;
        scaler.scale_into(&raw, &mut z);
        scaler.unscale(field, reconstructed(f64::from(z[field]), residual))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::seq::SliceRandom as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::config::settings::ModelKind;
    use crate::model::dense::Dense;
    use crate::model::shape::ModelShape;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_residual_depends_on_nothing_but_its_window(
            fields in 2..20usize, hidden in 1..20usize, rows in 1..200usize, batch in 1..70usize, seed: u64,
        ) {
            use rand::Rng as _;
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let latent = rng.random_range(1..fields);
            let shape = ModelShape { kind: ModelKind::Dense, window: 1, fields, hidden: vec![hidden], latent, members: 1 };
            let model = Dense::initialised(&shape, &mut rng).unwrap();
            let scaler = Scaler { mean: vec![0.0; fields], sd: vec![1.0; fields] };
            let mut windows: Vec<Vec<f64>> =
                (0..rows).map(|_| (0..fields).map(|_| rng.random_range(-3.0..3.0)).collect()).collect();
            let whole = residuals(&model, &scaler, &windows.concat()).unwrap();
            let mut order: Vec<usize> = (0..rows).collect();
            order.shuffle(&mut rng);
            windows = order.iter().map(|&row| windows[row].clone()).collect();
            for (numbers, part) in order.chunks(batch).zip(windows.chunks(batch)) {
                let some = residuals(&model, &scaler, &part.concat()).unwrap();
                for (window, &row) in numbers.iter().enumerate() {
                    prop_assert_eq!(some.row(window).values, whole.row(row).values);
                    prop_assert_eq!(some.row(window).raw_error.to_bits(), whole.row(row).raw_error.to_bits());
                }
            }
        }
    }
}
