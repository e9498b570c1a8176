//! Frozen encoders: an image to a map of features, cell by cell, which the kinds `frame` and `patch`
//! look at in place of pixels.
//!
//! Contract: nothing in an encoder is trained here. Each image goes through it by itself, so that
//! its features do not depend on other images. An image is resized to the size that the shape
//! names, or keeps its own, and is continued by its mirror image to sides that are multiples of
//! [`SIDES`].

mod backbone;
mod bank;

use tch::{TchError, Tensor};

use self::backbone::Backbone;
use self::bank::FilterBank;
use super::ModelError;
use super::shape::{FeatureShape, ModelShape};
use crate::record::Image;

/// The sides of what an encoder gets are multiples of this many pixels.
pub const SIDES: usize = 32;

/// See the module.
#[derive(Debug)]
pub enum Encoder {
    /// Built in.
    Bank(FilterBank),
    /// From a file.
    Backbone(Backbone),
}

/// The features of an image.
#[derive(Clone, PartialEq, Debug)]
pub struct FeatureMap {
    /// Channels of a cell.
    pub channels: usize,
    /// Columns and rows of cells.
    pub cells: [usize; 2],
    /// Width and height of a cell in pixels of the image.
    pub cell: [f64; 2],
    /// `[channels, rows, columns]`.
    pub values: Vec<f32>,
}

impl Encoder {
    /// The encoder of a model; `None` for the kinds that look at no features.
    ///
    /// # Errors
    /// A backbone that is not allowed, not the one that was configured, or none.
    pub fn of(shape: &ModelShape) -> Result<Option<Self>, ModelError> {
        let features = shape.features.as_ref();
        features
            .map(|features| Self::new(features.backbone.as_deref()))
            .transpose()
    }

    /// The filter bank, or the backbone with this SHA-256.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn new(backbone: Option<&str>) -> Result<Self, ModelError> {
        Ok(match backbone {
            None => Self::Bank(FilterBank::new()?),
            Some(sha256) => Self::Backbone(Backbone::load(sha256)?),
        })
    }

    /// The features of an image that is first resized to `input`, width and height in pixels; 0 x 0:
    /// it keeps its size.
    ///
    /// # Errors
    /// A failure inside libtorch, or numbers that are not finite.
    pub fn features(&self, image: &Image, input: [usize; 2]) -> Result<FeatureMap, ModelError> {
        tch::no_grad(|| {
            let original = [image.width, image.height];
            let [width, height] = if input[0] == 0 { original } else { input };
            let x = prepared(image, [width, height])?;
            let y = match self {
                Self::Bank(bank) => bank.forward(&x)?,
                Self::Backbone(backbone) => backbone.forward(&x)?,
            };
            let (_, channels, rows, columns) = y.size4()?;
            let padded = [width, height].map(|side| side.next_multiple_of(SIDES));
            let stride = [
                padded[0] as f64 / columns as f64,
                padded[1] as f64 / rows as f64,
            ];
            // Cells that show nothing but the mirror image are left out.
            let shown = |side: usize, stride: f64| (side as f64 / stride).ceil() as usize;
            let cells = [shown(width, stride[0]), shown(height, stride[1])];
            let y = y
                .f_narrow(2, 0, cells[1] as i64)?
                .f_narrow(3, 0, cells[0] as i64)?
                .f_contiguous()?
                .f_reshape([-1])?;
            let values = Vec::<f32>::try_from(&y)?;
            let by = |at: usize, side: usize| stride[at] * original[at] as f64 / side as f64;
            match values.iter().all(|value| value.is_finite()) {
                true => Ok(FeatureMap {
                    channels: channels as usize,
                    cells,
                    cell: [by(0, width), by(1, height)],
                    values,
                }),
                false => Err(ModelError::FeaturesNotFinite),
            }
        })
    }

    /// The shape of what a model looks at: maps of `cells`, or single cells where that is `None`.
    pub fn shape(
        &self,
        map: &FeatureMap,
        colours: usize,
        input: [usize; 2],
        cells: Option<[usize; 2]>,
    ) -> FeatureShape {
        let backbone = match self {
            Self::Bank(_) => None,
            Self::Backbone(backbone) => Some(backbone.sha256().to_owned()),
        };
        FeatureShape {
            input,
            colours,
            backbone,
            channels: map.channels,
            cells: cells.unwrap_or([1, 1]),
        }
    }
}

/// An image of this width and height, `[1, channels, height, width]`, continued to whole
/// multiples of [`SIDES`].
fn prepared(image: &Image, [width, height]: [usize; 2]) -> Result<Tensor, TchError> {
    let side = |side: usize| side as i64;
    let size = [
        1,
        side(image.channels),
        side(image.height),
        side(image.width),
    ];
    let mut x = Tensor::f_from_slice(&image.pixels)?.f_view(size)?;
    if [image.width, image.height] != [width, height] {
        let size = [side(height), side(width)];
        x = x.f_internal_upsample_bilinear2d_aa(size, false, None, None)?;
    }
    let missing = |side: usize| (side.next_multiple_of(SIDES) - side) as i64;
    let (right, bottom) = (missing(width), missing(height));
    let pads = [0, right, 0, bottom];
    match right + bottom {
        0 => Ok(x),
        // A mirror image is one pixel smaller than the image.
        _ if right < side(width) && bottom < side(height) => x.f_reflection_pad2d(pads),
        _ => x.f_replication_pad2d(pads),
    }
}

#[cfg(test)]
mod tests;
