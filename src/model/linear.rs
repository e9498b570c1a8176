//! The linear autoencoder: principal components, in closed form. The baseline that a network has to
//! beat.
//!
//! Contract: code = (x - mean) components', reconstruction = mean + code components, with
//! orthonormal components by falling variance; each component's largest entry is positive, which
//! fixes the sign that is free in the mathematics.

use tch::{Kind, TchError, Tensor};

use super::kernels::{Affine, Layer, Program};
use super::shape::ModelShape;
use super::weights::NamedTensors;
use super::{Autoencoder, ModelError, take_weight, whole_rows};

/// Refits at most; the kept rows are the same again after a few.
const REFITS_MAX: usize = 20;
/// In units of the scaler: a field's median deviation counts as at least this in the first
/// selection, so that a field that mostly stands still does not rule out every row in which it
/// moves.
const DEVIATION_MIN: f64 = 0.1;

/// Mean and principal components of the training rows.
#[derive(Debug)]
pub struct Linear {
    shape: ModelShape,
    /// `[inputs]`.
    mean: Tensor,
    /// `[latent, inputs]`.
    components: Tensor,
    program: Program,
}

impl Linear {
    /// Fits `rows`, `[n, inputs]` f32 in scaled units, leaving out the `trim` part (0 to 0.5) that
    /// fits worst.
    ///
    /// The trimmed fit is orthogonal regression by least trimmed squares: refits on the rows of
    /// smallest residual until these stay the same (concentration steps: Maronna, Technometrics
    /// 2005; Rousseeuw and Van Driessen, 2006). Residuals alone do not see an outlier that drew a
    /// component to itself, so the first selection is by distance from the median.
    ///
    /// # Errors
    /// A bad shape, rows of another width, or a failure inside libtorch.
    pub fn fit(rows: &Tensor, shape: &ModelShape, trim: f64) -> Result<Self, ModelError> {
        shape.validate()?;
        let count = match rows.size()[..] {
            [count, width] if width == shape.inputs() as i64 => count as usize,
            _ => {
                return Err(ModelError::Input {
                    inputs: shape.inputs(),
                    found: rows.size(),
                    kind: rows.f_kind()?,
                });
            }
        };
        let keep = count - (trim * count as f64).floor() as usize;
        let fitted = tch::no_grad(|| {
            let x = rows.f_to_kind(Kind::Double)?;
            if keep == count {
                principal(&x, shape.latent)
            } else {
                trimmed_principal(&x, shape.latent, keep)
            }
        });
        let (mean, components) = fitted?;
        Self::new(
            shape,
            mean.f_to_kind(Kind::Float)?,
            components.f_to_kind(Kind::Float)?.f_contiguous()?,
        )
    }

    /// The model with these weights; they are taken out of `weights`.
    pub(super) fn from_weights(
        shape: &ModelShape,
        weights: &mut NamedTensors,
    ) -> Result<Self, ModelError> {
        Self::new(
            shape,
            take_weight(weights, "mean", &[shape.inputs()])?,
            take_weight(weights, "components", &[shape.latent, shape.inputs()])?,
        )
    }

    fn new(shape: &ModelShape, mean: Tensor, components: Tensor) -> Result<Self, ModelError> {
        Ok(Self {
            program: Self::program(&mean, &components)?,
            shape: shape.clone(),
            mean,
            components,
        })
    }

    /// The forward pass by the kernels.
    fn program(mean: &Tensor, components: &Tensor) -> Result<Program, TchError> {
        let values = |tensor: &Tensor| Vec::<f32>::try_from(&tensor.f_reshape([-1])?);
        let (mean, inputs) = (values(mean)?, mean.numel());
        let latent = components.size()[0] as usize;
        let to_codes = Affine::new(values(components)?, vec![0.0; latent], inputs);
        let from_codes = values(&components.f_transpose(0, 1)?)?;
        let from_codes = Affine::new(from_codes, mean.clone(), latent);
        Ok(Program {
            inputs,
            encoder: vec![Layer::Subtract(mean), Layer::Affine(to_codes)],
            output: vec![Layer::Affine(from_codes)],
            ..Program::default()
        })
    }
}

impl Autoencoder for Linear {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn reconstruct(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        whole_rows(rows, self.shape.inputs())?;
        Ok(self.program.reconstruct(rows))
    }

    fn encode(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        whole_rows(rows, self.shape.inputs())?;
        Ok(self.program.encode(rows, self.shape.latent))
    }

    fn member(&self, number: usize) -> Option<&dyn Autoencoder> {
        (number == 0).then_some(self)
    }

    fn weights(&self) -> Vec<(String, Tensor)> {
        vec![
            ("mean".to_owned(), self.mean.shallow_clone()),
            ("components".to_owned(), self.components.shallow_clone()),
        ]
    }
}

/// Mean `[d]` and the `latent` eigenvectors `[latent, d]` of largest variance of `x`, `[n, d]` f64.
fn principal(x: &Tensor, latent: usize) -> Result<(Tensor, Tensor), TchError> {
    let (rows, inputs) = x.size2()?;
    let mean = x.f_mean_dim([0i64].as_slice(), false, None::<Kind>)?;
    let centred = x.f_sub(&mean)?;
    let covariance = centred
        .f_transpose(0, 1)?
        .f_mm(&centred)?
        .f_div_scalar(rows as f64)?;
    let (_, vectors) = covariance.f_linalg_eigh("L")?;
    let latent = latent as i64;
    let components = vectors
        .f_narrow(1, inputs - latent, latent)?
        .f_flip([1i64])?
        .f_transpose(0, 1)?;
    let largest = components.f_abs()?.f_argmax(1, true)?;
    let sign = components.f_gather(1, &largest, false)?.f_sign()?;
    Ok((mean, components.f_mul(&sign)?))
}

/// [`principal`] of the `keep` rows that fit best.
fn trimmed_principal(x: &Tensor, latent: usize, keep: usize) -> Result<(Tensor, Tensor), TchError> {
    let mut kept = smallest(&median_distances(x)?, keep);
    let mut fitted = principal(&x.f_index_select(0, &Tensor::f_from_slice(&kept)?)?, latent)?;
    for _ in 0..REFITS_MAX {
        let next = smallest(&residuals(x, &fitted)?, keep);
        if next == kept {
            break;
        }
        kept = next;
        fitted = principal(&x.f_index_select(0, &Tensor::f_from_slice(&kept)?)?, latent)?;
    }
    Ok(fitted)
}

/// Squared distance of each row from the median, each field in units of its median absolute
/// deviation.
fn median_distances(x: &Tensor) -> Result<Vec<f64>, TchError> {
    let from_median = x.f_sub(&x.f_median_dim(0, false)?.0)?.f_abs()?;
    let deviation = from_median
        .f_median_dim(0, false)?
        .0
        .f_clamp_min(DEVIATION_MIN)?;
    let distances = from_median
        .f_div(&deviation)?
        .f_square()?
        .f_sum_dim_intlist([1i64].as_slice(), false, None::<Kind>)?;
    Vec::try_from(&distances)
}

/// Squared residual of each row.
fn residuals(x: &Tensor, (mean, components): &(Tensor, Tensor)) -> Result<Vec<f64>, TchError> {
    let centred = x.f_sub(mean)?;
    let fitted = centred
        .f_mm(&components.f_transpose(0, 1)?)?
        .f_mm(components)?;
    let squares = centred.f_sub(&fitted)?.f_square()?.f_sum_dim_intlist(
        [1i64].as_slice(),
        false,
        None::<Kind>,
    )?;
    Vec::try_from(&squares)
}

/// Indices of the `keep` smallest values, in rising order of index; of equal values the earlier
/// ones.
fn smallest(values: &[f64], keep: usize) -> Vec<i64> {
    let mut order: Vec<(f64, i64)> = values.iter().copied().zip(0..).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut kept: Vec<i64> = order
        .into_iter()
        .take(keep)
        .map(|(_, index)| index)
        .collect();
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelKind;
    use crate::model::rows_tensor;

    fn shape(fields: usize, latent: usize) -> ModelShape {
        ModelShape::new(ModelKind::Linear, 1, fields, &[], latent)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.view(-1)).unwrap()
    }

    #[test]
    fn known_case_of_two_dimensions() {
        // Along (3, 4) / 5 the deviations from (1, 2) are +-10, across it +-1.
        let rows = [7.0, 10.0, -5.0, -6.0, 0.2, 2.6, 1.8, 1.4];
        let model = Linear::fit(&rows_tensor(&rows, 2).unwrap(), &shape(2, 1), 0.0).unwrap();
        let close = |found: Vec<f32>, expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            assert!(
                found
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 1e-6),
                "{found:?} {expected:?}"
            );
        };
        close(values(&model.mean), &[1.0, 2.0]);
        close(values(&model.components), &[0.6, 0.8]);
        let x = [7.0, 10.0, 0.2, 2.6];
        close(model.encode(&x).unwrap(), &[10.0, 0.0]);
        close(model.reconstruct(&x).unwrap(), &[7.0, 10.0, 1.0, 2.0]);
    }

    #[test]
    fn latent_0_is_the_mean() {
        let rows = rows_tensor(&[1.0, 5.0, 3.0, 7.0], 2).unwrap();
        let model = Linear::fit(&rows, &shape(2, 0), 0.0).unwrap();
        let rows = [1.0, 5.0, 3.0, 7.0];
        assert_eq!(model.reconstruct(&rows).unwrap(), [2.0, 6.0, 2.0, 6.0]);
        assert!(model.encode(&rows).unwrap().is_empty());
    }

    #[test]
    fn outliers_that_lie_in_line_do_not_turn_the_component() {
        // 95 rows along (1, 0) with little across it; 5 far out along (0, 1), which a plain fit
        // would follow.
        let mut rows: Vec<f32> = (0..95)
            .flat_map(|i| [(i as f32 - 47.0) / 30.0, 0.05 * (i as f32).sin()])
            .collect();
        rows.extend((0..5).flat_map(|i| [0.0, 20.0 + i as f32]));
        let rows = rows_tensor(&rows, 2).unwrap();
        let plain = values(&Linear::fit(&rows, &shape(2, 1), 0.0).unwrap().components);
        let trimmed = values(&Linear::fit(&rows, &shape(2, 1), 0.1).unwrap().components);
        assert!(plain[1] > 0.99, "the case is too easy: {plain:?}");
        assert!(trimmed[0] > 0.999, "{trimmed:?}");
    }

    #[test]
    fn constant_fields_are_fitted() {
        let rows: Vec<f32> = (0..60)
            .flat_map(|i| [(i as f32 * 0.3).sin(), 0.0, 0.0])
            .collect();
        let model = Linear::fit(&rows_tensor(&rows, 3).unwrap(), &shape(3, 1), 0.1).unwrap();
        let y = model.reconstruct(&[0.5, 0.0, 2.0]).unwrap();
        assert!((y[0] - 0.5).abs() < 1e-5 && y[2].abs() < 1e-5, "{y:?}");
    }

    #[test]
    fn smallest_prefers_earlier_rows() {
        assert_eq!(smallest(&[2.0, 1.0, 2.0, f64::NAN, 0.0], 3), [0, 1, 4]);
    }
}
