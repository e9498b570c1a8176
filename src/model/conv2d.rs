//! The convolutional autoencoder of tiles: kernels over the picture, each layer of the encoder
//! halving its sides.
//!
//! Contract: as [`Network`](super::network::Network); a tile is `[channels, side, side]`,
//! flattened. The decoder repeats each pixel to the size before and then convolves, as
//! [`super::conv`] does along a window. A rectifier follows every layer but the code and the last:
//! tanh takes longer than the convolution before it.

use tch::{TchError, Tensor};

use super::architecture::{Architecture, Parameter, affine, mean_of};
use super::shape::ModelShape;

/// What all networks over tiles have.
#[derive(Debug)]
pub(super) struct TileLayers {
    /// Of the tile and of each hidden layer.
    pub(super) channels: Vec<usize>,
    pub(super) kernel: usize,
}

impl TileLayers {
    pub(super) fn new(shape: &ModelShape) -> Self {
        let mut channels = vec![shape.channels()];
        channels.extend(&shape.hidden);
        Self {
            channels,
            kernel: shape.kernel,
        }
    }

    /// Hidden layers.
    pub(super) fn count(&self) -> usize {
        self.channels.len() - 1
    }

    /// Weight and bias of a convolution from `inputs` channels to `outputs`.
    pub(super) fn kernels(&self, name: &str, inputs: usize, outputs: usize) -> [Parameter; 2] {
        let k = self.kernel;
        let area = self.kernel * self.kernel;
        [
            Parameter::rectified(
                format!("{name}.weight"),
                &[outputs, inputs, k, k],
                inputs * area,
            ),
            Parameter::zero(format!("{name}.bias"), outputs),
        ]
    }

    /// Convolves with the weight and bias at `at`, and keeps the size, or halves it with a `stride`
    /// of 2.
    pub(super) fn convolve(
        &self,
        weights: &[Tensor],
        at: usize,
        x: &Tensor,
        stride: i64,
    ) -> Result<Tensor, TchError> {
        let margin = (self.kernel / 2) as i64;
        // A kernel whose channels lie side by side makes oneDNN go through the picture in that
        // order, which takes half the time.
        let kernel = weights[at]
            .f_permute([0, 2, 3, 1])?
            .f_contiguous()?
            .f_permute([0, 3, 1, 2])?;
        x.f_conv2d(
            &kernel,
            Some(&weights[at + 1]),
            [stride, stride],
            [margin, margin],
            [1, 1],
            1,
        )
    }
}

/// Sides of a tile and of what is left of it after each of `halvings`.
pub(super) fn sides(tile: usize, halvings: usize) -> Vec<i64> {
    std::iter::successors(Some(tile), |side| Some(side.div_ceil(2)))
        .take(halvings + 1)
        .map(|side| side as i64)
        .collect()
}

/// The sizes of its layers.
#[derive(Debug)]
pub(super) struct Conv2d {
    layers: TileLayers,
    sides: Vec<i64>,
    codes: usize,
    latent: usize,
}

impl Conv2d {
    /// `shape` is valid.
    pub(super) fn new(shape: &ModelShape) -> Self {
        let layers = TileLayers::new(shape);
        let sides = sides(shape.tile, layers.count());
        Self {
            layers,
            sides,
            codes: shape.codes(),
            latent: shape.latent,
        }
    }

    /// Values of the last hidden layer.
    fn deepest(&self) -> usize {
        let n = self.layers.count();
        let side = self.sides[self.layers.count()] as usize;
        self.layers.channels[n] * side * side
    }
}

impl Architecture for Conv2d {
    fn parameters(&self) -> Vec<Parameter> {
        let n = self.layers.count();
        let channels = &self.layers.channels;
        let mut all = Vec::with_capacity(4 * n + 4);
        for i in 0..n {
            all.extend(
                self.layers
                    .kernels(&format!("encoder.{i}"), channels[i], channels[i + 1]),
            );
        }
        all.extend(Parameter::affine("code", self.deepest(), self.codes));
        all.extend(Parameter::affine("expand", self.latent, self.deepest()));
        for (layer, i) in (0..n).rev().enumerate() {
            all.extend(self.layers.kernels(
                &format!("decoder.{layer}"),
                channels[i + 1],
                channels[i],
            ));
        }
        all
    }

    fn encode(&self, weights: &[Tensor], x: &Tensor) -> Result<Tensor, TchError> {
        let mut h = x.f_view([
            -1,
            self.layers.channels[0] as i64,
            self.sides[0],
            self.sides[0],
        ])?;
        for layer in 0..self.layers.count() {
            h = self.layers.convolve(weights, 2 * layer, &h, 2)?.f_relu_()?;
        }
        affine(weights, 2 * self.layers.count(), &h.f_flatten(1, 3)?)
    }

    fn decode(&self, weights: &[Tensor], code: &Tensor, draws: usize) -> Result<Tensor, TchError> {
        let n = self.layers.count();
        let channels = &self.layers.channels;
        let deepest = affine(weights, 2 * n + 2, code)?.f_relu_()?;
        let mut h = deepest.f_view([-1, channels[n] as i64, self.sides[n], self.sides[n]])?;
        for (layer, i) in (0..n).rev().enumerate() {
            if i == 0 {
                h = mean_of(h, draws)?;
            }
            h = h.f_upsample_nearest2d([self.sides[i], self.sides[i]], None, None)?;
            h = self.layers.convolve(weights, 2 * (n + 2 + layer), &h, 1)?;
            if i > 0 {
                h = h.f_relu_()?;
            }
        }
        h.f_flatten(1, 3)
    }
}
