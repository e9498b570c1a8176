//! The linear autoencoder of a whole feature map: principal components, in closed form.
//!
//! ```text
//! z  = the scaled features of an image, [channels, cells]
//! D  = the first directions of the channels, over all cells of all images   [d, channels]
//! V  = the first components of D (z - m), over all images                   [k, d x cells]
//! AE(z) = m + D' V' V D (z - m)
//! ```
//! m is the mean map. The components come from the matrix of the scalar products of the images,
//! which are fewer than a map has values (Sirovich and Kirby, J. Opt. Soc. Am. A 4(3), 1987). Each
//! place has its own normal appearance: for parts that always lie at the same place.

use tch::{Kind, TchError, Tensor};

use super::shape::{ModelShape, ShapeError};
use super::weights::NamedTensors;
use super::{Autoencoder, ModelError, rows_tensor, take_weight};

/// See the module.
#[derive(Debug)]
pub struct Frame {
    shape: ModelShape,
    /// `[inputs]`.
    mean: Tensor,
    /// `[d, channels]`; `None` where all channels are kept.
    directions: Option<Tensor>,
    /// `[latent, d x cells]`.
    components: Tensor,
}

/// Sizes of a model's weights.
#[derive(Debug)]
struct FrameSizes {
    channels: usize,
    cells: usize,
    directions: usize,
}

impl FrameSizes {
    fn of(shape: &ModelShape) -> Result<Self, ShapeError> {
        let (latent, cells) = (shape.latent, shape.places());
        let features = shape.features.as_ref();
        let directions = features.and_then(|features| features.directions(latent));
        Ok(Self {
            channels: shape.channels(),
            cells,
            directions: directions.ok_or(ShapeError::Cells { cells, latent })?,
        })
    }

    fn are_reduced(&self) -> bool {
        self.directions < self.channels
    }
}

impl Frame {
    /// Fits `rows`, `[n, inputs]` f32 in scaled units, one for each image.
    ///
    /// # Errors
    /// A bad shape, fewer rows than the code has values, or a failure inside libtorch.
    pub(super) fn fit(rows: &Tensor, shape: &ModelShape) -> Result<Self, ModelError> {
        shape.validate()?;
        let sizes = FrameSizes::of(shape)?;
        tch::no_grad(|| {
            let mean = rows.f_mean_dim([0i64].as_slice(), false, None::<Kind>)?;
            let mut centred = rows.f_sub(&mean)?;
            let directions = match sizes.are_reduced() {
                true => Some(directions(&centred, &sizes)?),
                false => None,
            };
            if let Some(directions) = &directions {
                centred = along(directions, &centred, sizes.cells)?;
            }
            let components = components(&centred, shape.latent)?;
            Ok(Self {
                shape: shape.clone(),
                mean,
                directions,
                components,
            })
        })
    }

    /// The model with these weights; they are taken out of `weights`.
    pub(super) fn from_weights(
        shape: &ModelShape,
        weights: &mut NamedTensors,
    ) -> Result<Self, ModelError> {
        let sizes = FrameSizes::of(shape)?;
        let inside = sizes.directions * sizes.cells;
        let directions = match sizes.are_reduced() {
            true => {
                let size = [sizes.directions, sizes.channels];
                Some(take_weight(weights, "directions", &size)?)
            }
            false => None,
        };
        Ok(Self {
            mean: take_weight(weights, "mean", &[shape.inputs()])?,
            directions,
            components: take_weight(weights, "components", &[shape.latent, inside])?,
            shape: shape.clone(),
        })
    }

    /// The codes of `[n, inputs]`: `[n, latent]`.
    fn codes(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let mut centred = x.f_sub(&self.mean)?;
        if let Some(directions) = &self.directions {
            centred = along(directions, &centred, self.shape.places())?;
        }
        centred.f_mm(&self.components.f_transpose(0, 1)?)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let mut found = self.codes(x)?.f_mm(&self.components)?;
        if let Some(directions) = &self.directions {
            found = along(&directions.f_transpose(0, 1)?, &found, self.shape.places())?;
        }
        found.f_add(&self.mean)
    }
}

impl Autoencoder for Frame {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn reconstruct(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        tch::no_grad(|| {
            let y = self.forward(&rows_tensor(rows, self.shape.inputs())?)?;
            Ok(Vec::try_from(&y.f_reshape([-1])?)?)
        })
    }

    fn encode(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        tch::no_grad(|| {
            let codes = self.codes(&rows_tensor(rows, self.shape.inputs())?)?;
            Ok(Vec::try_from(&codes.f_reshape([-1])?)?)
        })
    }

    fn member(&self, number: usize) -> Option<&dyn Autoencoder> {
        (number == 0).then_some(self)
    }

    fn weights(&self) -> Vec<(String, Tensor)> {
        let directions = self.directions.as_ref();
        let directions = directions.map(|tensor| ("directions".to_owned(), tensor.shallow_clone()));
        [
            ("mean".to_owned(), self.mean.shallow_clone()),
            ("components".to_owned(), self.components.shallow_clone()),
        ]
        .into_iter()
        .chain(directions)
        .collect()
    }
}

/// The channels of maps, `[n, channels x cells]`, turned by `[d, channels]`: `[n, d x cells]`.
fn along(directions: &Tensor, maps: &Tensor, cells: usize) -> Result<Tensor, TchError> {
    let n = maps.size()[0];
    let maps = maps.f_view([n, -1, cells as i64])?;
    directions.f_matmul(&maps)?.f_reshape([n, -1])
}

/// The directions of the channels of largest variance over all cells of all maps, `[d, channels]`.
fn directions(centred: &Tensor, sizes: &FrameSizes) -> Result<Tensor, TchError> {
    let (channels, cells) = (sizes.channels as i64, sizes.cells as i64);
    let by_channel = centred
        .f_view([-1, channels, cells])?
        .f_transpose(0, 1)?
        .f_reshape([channels, -1])?;
    let products = by_channel.f_mm(&by_channel.f_transpose(0, 1)?)?;
    let (_, vectors) = products.f_to_kind(Kind::Double)?.f_linalg_eigh("L")?;
    let first = largest(&vectors, sizes.directions)?;
    signed(&first)?.f_to_kind(Kind::Float)?.f_contiguous()
}

/// The `latent` unit vectors of largest variance of `rows`, `[n, d]`: `[latent, d]`.
fn components(rows: &Tensor, latent: usize) -> Result<Tensor, TchError> {
    let products = rows.f_mm(&rows.f_transpose(0, 1)?)?;
    let (_, vectors) = products.f_to_kind(Kind::Double)?.f_linalg_eigh("L")?;
    let first = largest(&vectors, latent)?.f_to_kind(Kind::Float)?;
    let found = first.f_mm(rows)?;
    // Of images that are all alike nothing is left to scale.
    let length = found
        .f_square()?
        .f_sum_dim_intlist([1i64].as_slice(), true, None::<Kind>)?
        .f_sqrt()?
        .f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
    signed(&found.f_div(&length)?)?.f_contiguous()
}

/// The last `count` columns, the last one first, as rows.
fn largest(vectors: &Tensor, count: usize) -> Result<Tensor, TchError> {
    let all = vectors.size()[1];
    let count = (count as i64).min(all);
    vectors
        .f_narrow(1, all - count, count)?
        .f_flip([1i64])?
        .f_transpose(0, 1)
}

/// Each row with the sign that makes its largest entry positive, which mathematics leaves open.
fn signed(rows: &Tensor) -> Result<Tensor, TchError> {
    let largest = rows.f_abs()?.f_argmax(1, true)?;
    let sign = rows.f_gather(1, &largest, false)?.f_sign()?;
    rows.f_mul(&sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shape::FeatureShape;
    use crate::model::{ModelKind, from_weights};

    /// Maps of 3 channels and so many cells, of two sources that each place mixes in its own way.
    fn maps(count: usize, cells: usize) -> Vec<f32> {
        let value = |image: usize, at: usize| {
            let source = |k: usize| ((image * 7 + k * 13) as f32 * 0.9).sin();
            let part = |k: usize| ((at * (k + 2)) as f32 * 0.7).cos();
            1.0 + source(0) * part(0) + source(1) * part(1)
        };
        (0..count)
            .flat_map(|image| (0..3 * cells).map(move |at| value(image, at)))
            .collect()
    }

    fn shape(cells: [usize; 2], latent: usize) -> ModelShape {
        let features = FeatureShape {
            input: [256, 256],
            colours: 1,
            backbone: None,
            channels: 3,
            cells,
        };
        ModelShape {
            kind: ModelKind::Frame,
            latent,
            fields: 3 * cells[0] * cells[1],
            features: Some(features),
            ..ModelShape::new(ModelKind::Linear, 1, 1, &[], 0)
        }
    }

    fn largest_error(model: &dyn Autoencoder, rows: &[f32]) -> f32 {
        let found = model.reconstruct(rows).unwrap();
        let errors = rows.iter().zip(&found).map(|(x, y)| (x - y).abs());
        errors.fold(0.0, f32::max)
    }

    #[test]
    fn what_the_images_have_in_common_is_reconstructed_and_a_defect_is_not() {
        let shape = shape([4, 5], 2);
        let rows = maps(30, 20);
        let model = Frame::fit(&rows_tensor(&rows[..20 * 60], 60).unwrap(), &shape).unwrap();
        assert!(largest_error(&model, &rows[20 * 60..]) < 1e-4);
        let mut defective = rows[25 * 60..26 * 60].to_vec();
        defective[31] += 3.0;
        let found = model.reconstruct(&defective).unwrap();
        let errors: Vec<f32> = defective.iter().zip(&found).map(|(x, y)| x - y).collect();
        assert!(errors[31] > 2.0, "{errors:?}");
        assert!(errors.iter().filter(|error| error.abs() > 1.0).count() == 1);
        assert_eq!(model.encode(&defective).unwrap().len(), 2);
    }

    #[test]
    fn the_weights_make_the_same_model() {
        let shape = shape([4, 5], 2);
        let rows = maps(20, 20);
        let model = Frame::fit(&rows_tensor(&rows, 60).unwrap(), &shape).unwrap();
        let weights = model.weights().into_iter().collect();
        let again = from_weights(&shape, weights).unwrap();
        assert_eq!(
            again.reconstruct(&rows).unwrap(),
            model.reconstruct(&rows).unwrap()
        );
    }

    #[test]
    fn a_large_frame_keeps_the_directions_that_matter() {
        // Two of three channels are the same: two directions hold all.
        let shape = shape([64, 64], 255);
        let sizes = FrameSizes::of(&shape).unwrap_err();
        assert_eq!(
            sizes.to_string(),
            "4096 cells and a code of 255 make too large a frame model: lower model.input or model.latent"
        );
        let turn = Tensor::from_slice(&[0.0f32, 1.0, 0.0, 1.0, 0.0, 0.0]).view([2, 3]);
        let maps = Tensor::arange(6, (Kind::Float, tch::Device::Cpu)).view([1, 6]);
        let turned = along(&turn, &maps, 2).unwrap();
        assert_eq!(
            Vec::<f32>::try_from(turned.view(-1)).unwrap(),
            [2.0, 3.0, 0.0, 1.0]
        );
        let sizes = FrameSizes {
            channels: 3,
            cells: 2,
            directions: 1,
        };
        let maps = Tensor::from_slice(&[1.0f32, -1.0, 2.0, -2.0, 0.0, 0.0]).view([1, 6]);
        let found = directions(&maps, &sizes).unwrap();
        let found = Vec::<f32>::try_from(found.view(-1)).unwrap();
        let expected = [0.2f32.sqrt(), 0.8f32.sqrt(), 0.0];
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
        assert!(found.iter().zip(&expected).all(close), "{found:?}");
    }
}
