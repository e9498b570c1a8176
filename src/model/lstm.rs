//! The recurrent autoencoder: long short-term memory reads the window into a code, and another one
//! writes it back.
//!
//! Contract: as [`Network`](super::network::Network). The decoder is given the code at every step,
//! so that it cannot copy what it has written before (the unconditioned decoder of Srivastava,
//! Mansimov, Salakhutdinov, "Unsupervised Learning of Video Representations using LSTMs", ICML
//! 2015; for anomalies: Malhotra et al., "LSTM-based Encoder-Decoder for Multi-sensor Anomaly
//! Detection", 2016).

use tch::{TchError, Tensor};

use super::architecture::{Architecture, Parameter, WeightValues, affine};
use super::kernels::{Affine, Layer, Program};
use super::shape::ModelShape;

/// Weights of one layer of memory.
const LAYER: usize = 4;

/// The sizes of its layers.
#[derive(Debug)]
pub(super) struct Lstm {
    window: usize,
    fields: usize,
    /// Of the encoder's layers.
    hidden: Vec<usize>,
    codes: usize,
    latent: usize,
}

impl Lstm {
    /// `shape` is valid.
    pub(super) fn new(shape: &ModelShape) -> Self {
        let window = shape.window;
        let fields = shape.fields;
        let hidden = shape.hidden.clone();
        Self {
            window,
            fields,
            hidden,
            codes: shape.codes(),
            latent: shape.latent,
        }
    }

    /// `(inputs, outputs)` of the layers of one side.
    fn layers(inputs: usize, widths: impl Iterator<Item = usize> + Clone) -> Vec<(usize, usize)> {
        std::iter::once(inputs)
            .chain(widths.clone())
            .zip(widths)
            .collect()
    }

    fn encoder(&self) -> Vec<(usize, usize)> {
        Self::layers(self.fields, self.hidden.iter().copied())
    }

    fn decoder(&self) -> Vec<(usize, usize)> {
        Self::layers(self.latent, self.hidden.iter().rev().copied())
    }
}

/// The weights of one layer, in libtorch's order: of the input, of the layer itself, and their
/// biases; gates in the order input, forget, cell, output.
fn memory(part: &str, layer: usize, inputs: usize, outputs: usize) -> [Parameter; LAYER] {
    let (name, bound) = (
        |weight: &str| format!("{part}.{layer}.{weight}"),
        1.0 / (outputs as f32).sqrt(),
    );
    [
        Parameter::uniform(name("weight_ih"), &[4 * outputs, inputs], bound),
        Parameter::uniform(name("weight_hh"), &[4 * outputs, outputs], bound),
        Parameter::forget(name("bias_ih"), 4 * outputs),
        Parameter::zero(name("bias_hh"), 4 * outputs),
    ]
}

/// One layer over `x`, `[n, window, inputs]`: what it gives at each step, `[n, window, outputs]`,
/// and at last, `[n, outputs]`.
fn run(weights: &[Tensor], x: &Tensor, outputs: usize) -> Result<(Tensor, Tensor), TchError> {
    let zero = Tensor::f_zeros([1, x.size()[0], outputs as i64], (x.f_kind()?, x.device()))?;
    let (steps, last, _) = x.f_lstm(
        &[&zero, &zero],
        &weights.iter().collect::<Vec<_>>(),
        true,
        1,
        0.0,
        false,
        false,
        true,
    )?;
    Ok((steps, last.f_squeeze_dim(0)?))
}

/// One layer by the kernels: the weights of its inputs and of its own last output side by side, and
/// the sum of the biases.
fn layer(weights: &mut WeightValues, inputs: usize, outputs: usize, last: bool) -> Layer {
    let of_inputs = weights.one();
    let of_outputs = weights.one();
    let rows = of_inputs
        .chunks_exact(inputs)
        .zip(of_outputs.chunks_exact(outputs));
    let weight = rows.flat_map(|(a, b)| [a, b].concat()).collect();
    let a = weights.one();
    let b = weights.one();
    let bias = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    Layer::Lstm {
        gates: Affine::new(weight, bias, inputs + outputs),
        width: outputs,
        last,
    }
}

impl Architecture for Lstm {
    fn parameters(&self) -> Vec<Parameter> {
        let deepest = self.hidden.last().copied().unwrap_or(0);
        let mut all = Vec::new();
        for (layer, (inputs, outputs)) in self.encoder().into_iter().enumerate() {
            all.extend(memory("encoder", layer, inputs, outputs));
        }
        all.extend(Parameter::affine("code", deepest, self.codes));
        for (layer, (inputs, outputs)) in self.decoder().into_iter().enumerate() {
            all.extend(memory("decoder", layer, inputs, outputs));
        }
        all.extend(Parameter::affine(
            "output",
            self.hidden.first().copied().unwrap_or(0),
            self.fields,
        ));
        all
    }

    fn program(&self, weights: &mut WeightValues) -> Option<Program> {
        let mut encoder = Vec::new();
        let layers = self.encoder();
        for (at, &(inputs, outputs)) in layers.iter().enumerate() {
            encoder.push(layer(weights, inputs, outputs, at + 1 == layers.len()));
        }
        let deepest = self.hidden.last().copied().unwrap_or(0);
        encoder.push(Layer::Affine(weights.affine(deepest)));
        let mut decoder = vec![Layer::Repeat(self.window)];
        for (inputs, outputs) in self.decoder() {
            decoder.push(layer(weights, inputs, outputs, false));
        }
        let width = self.hidden.first().copied().unwrap_or(0);
        Some(Program {
            encoder,
            decoder,
            output: vec![Layer::Affine(weights.affine(width))],
            ..Program::default()
        })
    }

    fn encode(&self, weights: &[Tensor], x: &Tensor) -> Result<Tensor, TchError> {
        let mut steps = x.f_view([-1, self.window as i64, self.fields as i64])?;
        let mut last = steps.shallow_clone();
        for (layer, weights) in self.hidden.iter().zip(weights.chunks_exact(LAYER)) {
            (steps, last) = run(weights, &steps, *layer)?;
        }
        affine(weights, LAYER * self.hidden.len(), &last)
    }

    fn decode(&self, weights: &[Tensor], code: &Tensor, _draws: usize) -> Result<Tensor, TchError> {
        let after_encoder = &weights[LAYER * self.hidden.len() + 2..];
        let mut steps = code
            .f_unsqueeze(1)?
            .f_expand([-1, self.window as i64, -1], false)?;
        for (layer, weights) in self
            .hidden
            .iter()
            .rev()
            .zip(after_encoder.chunks_exact(LAYER))
        {
            steps = run(weights, &steps, *layer)?.0;
        }
        affine(after_encoder, LAYER * self.hidden.len(), &steps)?.f_flatten(1, 2)
    }
}
