//! The convolutional autoencoder: kernels along the window, each layer of the encoder halving it.
//!
//! Contract: as [`Network`](super::network::Network). The decoder repeats each value to the length before and then
//! convolves, which leaves none of the checkerboards of transposed convolutions (Odena, Dumoulin, Olah, "Deconvolution
//! and Checkerboard Artifacts", Distill, 2016). tanh follows every layer but the last.

use tch::{TchError, Tensor};

use super::network::{Architecture, Parameter, affine, mean_of};
use super::shape::ModelShape;

/// The sizes of its layers.
#[derive(Debug)]
pub(super) struct Conv {
    /// Of the record and of each hidden layer.
    channels: Vec<usize>,
    /// Records of the window, and what is left of them after each hidden layer.
    lengths: Vec<usize>,
    kernel: usize,
    codes: usize,
    latent: usize,
}

impl Conv {
    /// `shape` is valid.
    pub(super) fn new(shape: &ModelShape) -> Self {
        let mut channels = vec![shape.fields];
        channels.extend(&shape.hidden);
        let lengths = std::iter::successors(Some(shape.window), |length| Some(length.div_ceil(2)));
        let lengths = lengths.take(channels.len()).collect();
        Self {
            channels,
            lengths,
            kernel: shape.kernel,
            codes: shape.codes(),
            latent: shape.latent,
        }
    }

    /// Hidden layers.
    fn layers(&self) -> usize {
        self.channels.len() - 1
    }

    /// Values of the last hidden layer.
    fn deepest(&self) -> usize {
        self.channels[self.layers()] * self.lengths[self.layers()]
    }

    /// Weight and bias of a convolution.
    fn kernels(&self, part: &str, layer: usize, inputs: usize, outputs: usize) -> [Parameter; 2] {
        let (name, k) = (format!("{part}.{layer}"), self.kernel);
        [
            Parameter::glorot(
                format!("{name}.weight"),
                &[outputs, inputs, k],
                inputs * k,
                outputs * k,
            ),
            Parameter::zero(format!("{name}.bias"), outputs),
        ]
    }

    fn convolve(
        &self,
        weights: &[Tensor],
        at: usize,
        x: &Tensor,
        stride: i64,
    ) -> Result<Tensor, TchError> {
        x.f_conv1d(
            &weights[at],
            Some(&weights[at + 1]),
            stride,
            (self.kernel / 2) as i64,
            1,
            1,
        )
    }
}

impl Architecture for Conv {
    fn parameters(&self) -> Vec<Parameter> {
        let n = self.layers();
        let mut all = Vec::with_capacity(4 * n + 4);
        for i in 0..n {
            all.extend(self.kernels("encoder", i, self.channels[i], self.channels[i + 1]));
        }
        all.extend(Parameter::affine("code", self.deepest(), self.codes));
        all.extend(Parameter::affine("expand", self.latent, self.deepest()));
        for (layer, i) in (0..n).rev().enumerate() {
            all.extend(self.kernels("decoder", layer, self.channels[i + 1], self.channels[i]));
        }
        all
    }

    fn encode(&self, weights: &[Tensor], x: &Tensor) -> Result<Tensor, TchError> {
        let mut h = x
            .f_view([-1, self.lengths[0] as i64, self.channels[0] as i64])?
            .f_transpose(1, 2)?;
        for layer in 0..self.layers() {
            h = self.convolve(weights, 2 * layer, &h, 2)?.f_tanh()?;
        }
        affine(weights, 2 * self.layers(), &h.f_flatten(1, 2)?)
    }

    fn decode(&self, weights: &[Tensor], code: &Tensor, draws: usize) -> Result<Tensor, TchError> {
        let n = self.layers();
        let deepest = affine(weights, 2 * n + 2, code)?.f_tanh()?;
        let mut h = deepest.f_view([-1, self.channels[n] as i64, self.lengths[n] as i64])?;
        for (layer, i) in (0..n).rev().enumerate() {
            if i == 0 {
                h = mean_of(h, draws)?;
            }
            h = h.f_upsample_nearest1d([self.lengths[i] as i64], None)?;
            h = self.convolve(weights, 2 * (n + 2 + layer), &h, 1)?;
            if i > 0 {
                h = h.f_tanh()?;
            }
        }
        h.f_transpose(1, 2)?.f_flatten(1, 2)
    }
}
