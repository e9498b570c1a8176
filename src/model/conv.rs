//! The convolutional autoencoder: kernels along the window, each layer of the encoder halving it.
//!
//! Contract: as [`Network`](super::network::Network). The decoder repeats each value to the length
//! before and then convolves, which leaves none of the checkerboards of transposed convolutions
//! (Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill, 2016). tanh follows
//! every layer but the last.

use tch::{TchError, Tensor};

use super::architecture::{Architecture, Parameter, WeightValues, affine, mean_of};
use super::kernels::{Affine, Layer, Program};
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
        let name = format!("{part}.{layer}");
        let k = self.kernel;
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

    /// The convolution over records of `channels[at]` values, by the kernels.
    fn layer(&self, weights: &mut WeightValues, at: usize, stride: usize) -> Layer {
        let channels = self.channels[at];
        let weight = swap_inner(&weights.one(), channels, self.kernel);
        Layer::Convolution {
            map: Affine::new(weight, weights.one(), channels * self.kernel),
            channels,
            stride,
        }
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

/// `[n, outer, inner]` as `[n, inner, outer]`.
fn swap_inner(values: &[f32], outer: usize, inner: usize) -> Vec<f32> {
    let rows = values.chunks_exact(outer * inner);
    rows.flat_map(|row| (0..outer * inner).map(|at| row[at % outer * inner + at / outer]))
        .collect()
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

    fn program(&self, weights: &mut WeightValues) -> Option<Program> {
        let n = self.layers();
        let deepest = self.deepest();
        let mut encoder = Vec::new();
        for i in 0..n {
            encoder.extend([self.layer(weights, i, 2), Layer::Tanh]);
        }
        // libtorch flattens channel by channel, the kernels record by record.
        let channels = self.channels[n];
        let length = self.lengths[n];
        let code = swap_inner(&weights.one(), channels, length);
        encoder.push(Layer::Affine(Affine::new(code, weights.one(), deepest)));
        let expand = weights.one();
        let rows: Vec<&[f32]> = expand.chunks_exact(self.latent).collect();
        let swapped = (0..deepest).map(|at| at % channels * length + at / channels);
        let expand = swapped.clone().flat_map(|row| rows[row].to_vec()).collect();
        let bias = weights.one();
        let bias = swapped.map(|row| bias[row]).collect();
        let expand = Affine::new(expand, bias, self.latent);
        let mut decoder = vec![Layer::Affine(expand), Layer::Tanh];
        for i in (0..n).rev() {
            let channels = self.channels[i + 1];
            let length = self.lengths[i];
            decoder.push(Layer::Stretch { channels, length });
            decoder.extend([self.layer(weights, i + 1, 1), Layer::Tanh]);
        }
        decoder.pop();
        let output = decoder.split_off(decoder.len() - 2);
        Some(Program {
            encoder,
            decoder,
            output,
            ..Program::default()
        })
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
