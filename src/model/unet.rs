//! The U-Net of tiles (Ronneberger, Fischer, Brox, MICCAI 2015): an encoder and a decoder that sees
//! each of its sizes once more.
//!
//! Contract: as [`Network`](super::network::Network), but for the code: what is learned goes past
//! it through the skip connections, and nothing keeps such a network from copying. It is kept from
//! that by its training, which takes masks out of the tiles (see `train/masks.rs`): what does not
//! belong into a tile is what it replaces.

use tch::{TchError, Tensor};

use super::architecture::{Architecture, Parameter};
use super::conv2d::{TileLayers, sides};
use super::shape::ModelShape;

/// The sizes of its layers.
#[derive(Debug)]
pub(super) struct Unet {
    layers: TileLayers,
    /// Of the tile, and after each halving.
    sides: Vec<i64>,
}

impl Unet {
    /// `shape` is valid.
    pub(super) fn new(shape: &ModelShape) -> Self {
        let layers = TileLayers::new(shape);
        let sides = sides(shape.tile, layers.count() - 1);
        Self { layers, sides }
    }
}

impl Architecture for Unet {
    fn parameters(&self) -> Vec<Parameter> {
        let n = self.layers.count();
        let channels = &self.layers.channels;
        let mut all = Vec::with_capacity(4 * n);
        for i in 0..n {
            all.extend(
                self.layers
                    .kernels(&format!("encoder.{i}"), channels[i], channels[i + 1]),
            );
        }
        for (layer, i) in (1..n).rev().enumerate() {
            all.extend(self.layers.kernels(
                &format!("decoder.{layer}"),
                channels[i + 1] + channels[i],
                channels[i],
            ));
        }
        all.extend(self.layers.kernels("out", channels[1], channels[0]));
        all
    }

    fn reconstruct(&self, weights: &[Tensor], x: &Tensor) -> Result<Tensor, TchError> {
        let n = self.layers.count();
        let mut h = x.f_view([
            -1,
            self.layers.channels[0] as i64,
            self.sides[0],
            self.sides[0],
        ])?;
        let mut seen = Vec::with_capacity(n);
        for layer in 0..n {
            h = self
                .layers
                .convolve(weights, 2 * layer, &h, if layer == 0 { 1 } else { 2 })?
                .f_relu_()?;
            seen.push(h.shallow_clone());
        }
        seen.pop();
        for (layer, (skip, side)) in seen.iter().zip(&self.sides).rev().enumerate() {
            let up = h.f_upsample_nearest2d([*side, *side], None, None)?;
            h = self
                .layers
                .convolve(
                    weights,
                    2 * (n + layer),
                    &Tensor::f_cat(&[&up, skip], 1)?,
                    1,
                )?
                .f_relu_()?;
        }
        self.layers
            .convolve(weights, 2 * (2 * n - 1), &h, 1)?
            .f_flatten(1, 3)
    }
}
