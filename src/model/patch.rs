//! The Gaussian of the cells of feature maps, wherever on the image they are.
//!
//! ```text
//! z     = the scaled features of a cell, [channels]
//! S     = their covariance, (1 - a) S + a diag(S)              a = 0.1
//! AE(z) = z - S^(-1/2) (z - m)
//! ```
//! What this linear map of a cell to itself leaves, squared and summed, is the Mahalanobis distance
//! of the cell: what normal cells vary in is reconstructed, what they never do is not. Shrinkage
//! towards the diagonal keeps directions that hardly vary from outweighing all others. For webs and
//! surfaces, and parts that do not lie still.

use tch::{Kind, TchError, Tensor};

use super::shape::ModelShape;
use super::weights::NamedTensors;
use super::{Autoencoder, ModelError, rows_tensor, take_weight};

/// Weight of the diagonal in the covariance.
const SHRINKAGE: f64 = 0.1;
/// Least variance, of features in units of their standard deviation.
const VARIANCE_MIN: f64 = 1e-6;

/// See the module.
#[derive(Debug)]
pub struct Patch {
    shape: ModelShape,
    /// `[channels]`.
    mean: Tensor,
    /// S^(-1/2), `[channels, channels]`.
    whitening: Tensor,
}

impl Patch {
    /// Fits `rows`, `[n, channels]` f32 in scaled units, one for each cell.
    ///
    /// # Errors
    /// A bad shape, or a failure inside libtorch.
    pub(super) fn fit(rows: &Tensor, shape: &ModelShape) -> Result<Self, ModelError> {
        shape.validate()?;
        tch::no_grad(|| {
            let mean = rows.f_mean_dim([0i64].as_slice(), false, None::<Kind>)?;
            let centred = rows.f_sub(&mean)?;
            let covariance = centred
                .f_transpose(0, 1)?
                .f_mm(&centred)?
                .f_to_kind(Kind::Double)?
                .f_div_scalar(rows.size()[0].max(1) as f64)?;
            let whitening = whitening(&covariance)?;
            Ok(Self {
                shape: shape.clone(),
                mean,
                whitening: whitening.f_to_kind(Kind::Float)?.f_contiguous()?,
            })
        })
    }

    /// The model with these weights; they are taken out of `weights`.
    pub(super) fn from_weights(
        shape: &ModelShape,
        weights: &mut NamedTensors,
    ) -> Result<Self, ModelError> {
        let channels = shape.channels();
        Ok(Self {
            shape: shape.clone(),
            mean: take_weight(weights, "mean", &[channels])?,
            whitening: take_weight(weights, "whitening", &[channels, channels])?,
        })
    }
}

/// S^(-1/2) of a covariance that is shrunk first.
fn whitening(covariance: &Tensor) -> Result<Tensor, TchError> {
    let diagonal = covariance.f_diagonal(0, 0, 1)?.f_diag_embed(0, -2, -1)?;
    let shrunk = covariance
        .f_mul_scalar(1.0 - SHRINKAGE)?
        .f_add(&diagonal.f_mul_scalar(SHRINKAGE)?)?;
    let (variances, vectors) = shrunk.f_linalg_eigh("L")?;
    let scales = variances.f_clamp_min(VARIANCE_MIN)?.f_rsqrt()?;
    vectors.f_mul(&scales)?.f_mm(&vectors.f_transpose(0, 1)?)
}

impl Autoencoder for Patch {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn reconstruct(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        tch::no_grad(|| {
            let x = rows_tensor(rows, self.shape.inputs())?;
            let left = x.f_sub(&self.mean)?.f_mm(&self.whitening)?;
            Ok(Vec::try_from(&x.f_sub(&left)?.f_reshape([-1])?)?)
        })
    }

    fn member(&self, number: usize) -> Option<&dyn Autoencoder> {
        (number == 0).then_some(self)
    }

    fn weights(&self) -> Vec<(String, Tensor)> {
        vec![
            ("mean".to_owned(), self.mean.shallow_clone()),
            ("whitening".to_owned(), self.whitening.shallow_clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shape::FeatureShape;
    use crate::model::{ModelKind, from_weights};

    fn shape() -> ModelShape {
        let features = FeatureShape {
            input: [0, 0],
            colours: 1,
            backbone: None,
            channels: 2,
            cells: [1, 1],
        };
        ModelShape {
            kind: ModelKind::Patch,
            fields: 2,
            features: Some(features),
            ..ModelShape::new(ModelKind::Linear, 1, 1, &[], 0)
        }
    }

    #[test]
    fn what_is_left_is_the_mahalanobis_distance() {
        // Variances of 6.25 and 2.5, a covariance of 3.25 that shrinks by a tenth.
        let rows = [3.5f32, 2.0, 0.5, -1.0, -0.5, 1.0, -3.5, -2.0].map(|x| x + 1.0);
        let (a, b, c): (f64, f64, f64) = (6.25, 2.5, 0.9 * 3.25);
        let model = Patch::fit(&rows_tensor(&rows, 2).unwrap(), &shape()).unwrap();
        let found = model.reconstruct(&[2.0, 3.0]).unwrap();
        let left = f64::from((2.0 - found[0]).powi(2) + (3.0 - found[1]).powi(2));
        let (x, y) = (1.0, 2.0);
        let expected = (b * x * x - 2.0 * c * x * y + a * y * y) / (a * b - c * c);
        assert!((left - expected).abs() < 1e-4, "{left} {expected}");
        let again = from_weights(&shape(), model.weights().into_iter().collect()).unwrap();
        assert_eq!(again.reconstruct(&[2.0, 3.0]).unwrap(), found);
        assert!(matches!(
            model.encode(&[0.0, 0.0]),
            Err(ModelError::NoCode { .. })
        ));
    }
}
