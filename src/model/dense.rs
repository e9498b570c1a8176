//! The dense architecture: fully connected layers on the flattened window, the decoder mirroring
//! the encoder.
//!
//! Contract: as [`Network`](super::network::Network): `inputs - hidden.. - codes` and `latent -
//! ..hidden - inputs`, tanh after every layer but the last.

use tch::{TchError, Tensor};

use super::architecture::{Architecture, Parameter, WeightValues, affine, mean_of};
use super::kernels::{Layer, Program};
use super::shape::ModelShape;

/// The sizes of its layers.
#[derive(Debug)]
pub(super) struct Dense {
    /// `(inputs, outputs)` of the encoder's layers.
    encoder: Vec<(usize, usize)>,
    /// Of the decoder's.
    decoder: Vec<(usize, usize)>,
}

impl Dense {
    /// `shape` is valid.
    pub(super) fn new(shape: &ModelShape) -> Self {
        let pairs = |widths: &[usize]| {
            widths
                .iter()
                .copied()
                .zip(widths.iter().copied().skip(1))
                .collect()
        };
        let mut widths = shape.encoder_widths();
        let encoder = pairs(&widths);
        widths.reverse();
        widths[0] = shape.latent;
        Self {
            encoder,
            decoder: pairs(&widths),
        }
    }
}

impl Architecture for Dense {
    fn parameters(&self) -> Vec<Parameter> {
        let named = |part: &'static str, layers: &[(usize, usize)]| -> Vec<Parameter> {
            let layer = |(i, &(inputs, outputs))| {
                Parameter::affine(&format!("{part}.{i}"), inputs, outputs)
            };
            layers.iter().enumerate().flat_map(layer).collect()
        };
        let mut all = named("encoder", &self.encoder);
        all.extend(named("decoder", &self.decoder));
        all
    }

    fn program(&self, weights: &mut WeightValues) -> Option<Program> {
        let mut layers = |sizes: &[(usize, usize)]| {
            let mut layers = Vec::with_capacity(2 * sizes.len());
            for &(inputs, _) in sizes {
                layers.extend([Layer::Affine(weights.affine(inputs)), Layer::Tanh]);
            }
            // No tangent follows the last one.
            layers.pop();
            layers
        };
        let encoder = layers(&self.encoder);
        let mut decoder = layers(&self.decoder);
        let output = decoder.split_off(decoder.len() - 1);
        Some(Program {
            encoder,
            decoder,
            output,
            ..Program::default()
        })
    }

    fn encode(&self, weights: &[Tensor], x: &Tensor) -> Result<Tensor, TchError> {
        layers(&weights[..2 * self.encoder.len()], x, 1)
    }

    fn decode(&self, weights: &[Tensor], code: &Tensor, draws: usize) -> Result<Tensor, TchError> {
        layers(&weights[2 * self.encoder.len()..], code, draws)
    }
}

/// All layers of one side, tanh between them; before the last one the mean of each `draws` rows.
fn layers(weights: &[Tensor], x: &Tensor, draws: usize) -> Result<Tensor, TchError> {
    let last = weights.len() - 2;
    let mut h = x.shallow_clone();
    for at in (0..last).step_by(2) {
        h = affine(weights, at, &h)?.f_tanh()?;
    }
    affine(weights, last, &mean_of(h, draws)?)
}
