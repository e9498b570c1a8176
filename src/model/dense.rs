//! The dense autoencoder: fully connected layers, the decoder mirroring the encoder.
//!
//! Contract: every layer but the last is followed by tanh, the code included. A bounded code bounds what the decoder can
//! draw, so that a reading far outside the training data cannot be reconstructed however far out it lies.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{TchError, Tensor};

use super::shape::ModelShape;
use super::weights::NamedTensors;
use super::{Autoencoder, ModelError, infer, take_weight};

/// A mirrored multi-layer perceptron: `inputs - hidden.. - latent - ..hidden - inputs`.
#[derive(Debug)]
pub struct Dense {
    shape: ModelShape,
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
}

/// One affine map: `y = x weight' + bias`.
#[derive(Debug)]
struct Layer {
    /// `[outputs, inputs]`.
    weight: Tensor,
    /// `[outputs]`.
    bias: Tensor,
}

impl Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.weight, Some(&self.bias))
    }
}

impl Dense {
    /// A model with random weights: uniform on +-sqrt(6 / (inputs + outputs)) of each layer (Glorot and Bengio, AISTATS
    /// 2010, which keeps tanh layers out of saturation), biases 0. The same `rng` gives the same weights.
    ///
    /// # Errors
    /// A bad shape or a failure inside libtorch.
    pub fn initialised(shape: &ModelShape, rng: &mut ChaCha8Rng) -> Result<Self, ModelError> {
        shape.validate()?;
        let encoder = encoder_layers(shape);
        let mut layers = |widths: &[(usize, usize)]| -> Result<Vec<Layer>, ModelError> {
            widths.iter().map(|&(inputs, outputs)| random_layer(inputs, outputs, rng)).collect()
        };
        Ok(Self { shape: shape.clone(), encoder: layers(&encoder)?, decoder: layers(&mirrored(&encoder))? })
    }

    /// The model with these weights; they are taken out of `weights`.
    pub(super) fn from_weights(shape: &ModelShape, weights: &mut NamedTensors) -> Result<Self, ModelError> {
        let encoder = encoder_layers(shape);
        let mut layers = |part: &str, widths: &[(usize, usize)]| -> Result<Vec<Layer>, ModelError> {
            widths
                .iter()
                .enumerate()
                .map(|(i, &(inputs, outputs))| {
                    Ok(Layer {
                        weight: take_weight(weights, &format!("{part}.{i}.weight"), &[outputs, inputs])?,
                        bias: take_weight(weights, &format!("{part}.{i}.bias"), &[outputs])?,
                    })
                })
                .collect()
        };
        Ok(Self {
            shape: shape.clone(),
            encoder: layers("encoder", &encoder)?,
            decoder: layers("decoder", &mirrored(&encoder))?,
        })
    }

    /// The same model with each weight replaced by what `f` makes of it: variables for training, copies for keeping.
    pub(super) fn map_weights(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor, TchError>) -> Result<Self, TchError> {
        let mut layers = |layers: &[Layer]| -> Result<Vec<Layer>, TchError> {
            layers.iter().map(|layer| Ok(Layer { weight: f(&layer.weight)?, bias: f(&layer.bias)? })).collect()
        };
        Ok(Self { shape: self.shape.clone(), encoder: layers(&self.encoder)?, decoder: layers(&self.decoder)? })
    }

    /// Reconstruction of `x`, `[n, inputs]`, through which gradients flow.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.decode(&self.code(x)?)
    }

    fn code(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.encoder.iter().try_fold(x.shallow_clone(), |x, layer| layer.forward(&x)?.f_tanh())
    }

    fn decode(&self, code: &Tensor) -> Result<Tensor, TchError> {
        let last = self.decoder.len().saturating_sub(1);
        self.decoder.iter().enumerate().try_fold(code.shallow_clone(), |x, (i, layer)| {
            let y = layer.forward(&x)?;
            if i == last { Ok(y) } else { y.f_tanh() }
        })
    }
}

impl Autoencoder for Dense {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn reconstruct(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        infer(&self.shape, x, |x| self.forward(x))
    }

    fn encode(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        infer(&self.shape, x, |x| self.code(x))
    }

    fn member(&self, number: usize) -> Option<&dyn Autoencoder> {
        (number == 0).then_some(self)
    }

    fn weights(&self) -> Vec<(String, Tensor)> {
        let named = |part: &'static str, layers: &[Layer]| -> Vec<(String, Tensor)> {
            let named = |(i, layer): (usize, &Layer)| {
                [
                    (format!("{part}.{i}.weight"), layer.weight.shallow_clone()),
                    (format!("{part}.{i}.bias"), layer.bias.shallow_clone()),
                ]
            };
            layers.iter().enumerate().flat_map(named).collect()
        };
        let mut weights = named("encoder", &self.encoder);
        weights.extend(named("decoder", &self.decoder));
        weights
    }
}

/// `(inputs, outputs)` of each layer of the encoder.
fn encoder_layers(shape: &ModelShape) -> Vec<(usize, usize)> {
    let widths = shape.encoder_widths();
    widths.iter().copied().zip(widths.iter().copied().skip(1)).collect()
}

/// The decoder's layers of these encoder layers.
fn mirrored(encoder: &[(usize, usize)]) -> Vec<(usize, usize)> {
    encoder.iter().rev().map(|&(inputs, outputs)| (outputs, inputs)).collect()
}

fn random_layer(inputs: usize, outputs: usize, rng: &mut ChaCha8Rng) -> Result<Layer, ModelError> {
    let bound = (6.0 / (inputs + outputs) as f64).sqrt() as f32;
    let values: Vec<f32> = (0..inputs * outputs).map(|_| rng.random_range(-bound..=bound)).collect();
    Ok(Layer {
        weight: Tensor::f_from_slice(&values)?.f_view([outputs as i64, inputs as i64])?,
        bias: Tensor::f_from_slice(&vec![0.0f32; outputs])?,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use serde_json::Value;
    use tch::Kind;

    use super::*;
    use crate::config::settings::ModelKind;

    /// Worked out by `tests/golden/dense_forward.py` without any tensor library.
    const GOLDEN: &str = include_str!("../../tests/golden/dense_forward.json");

    fn tensor(value: &Value) -> Tensor {
        let list = value.as_array().unwrap();
        if list[0].is_array() {
            return Tensor::stack(&list.iter().map(tensor).collect::<Vec<_>>(), 0);
        }
        Tensor::from_slice(&list.iter().map(|x| x.as_f64().unwrap() as f32).collect::<Vec<_>>())
    }

    fn golden() -> (Value, Dense) {
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        let shape = ModelShape { kind: ModelKind::Dense, window: 1, fields: 3, hidden: vec![4], latent: 2, members: 1 };
        let mut weights: NamedTensors =
            golden["weights"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), tensor(value))).collect();
        let model = Dense::from_weights(&shape, &mut weights).unwrap();
        assert!(weights.is_empty());
        (golden, model)
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.size(), b.size());
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn forward_gives_the_golden_numbers() {
        let (golden, model) = golden();
        let x = tensor(&golden["inputs"]);
        assert!(largest_difference(&model.encode(&x).unwrap(), &tensor(&golden["codes"])) < 2e-6);
        assert!(largest_difference(&model.reconstruct(&x).unwrap(), &tensor(&golden["outputs"])) < 2e-6);
    }

    #[test]
    fn gradients_are_the_golden_ones() {
        let (golden, model) = golden();
        let model = model.map_weights(|weight| Ok(weight.set_requires_grad(true))).unwrap();
        let x = tensor(&golden["inputs"]).narrow(0, 0, 3);
        let loss = (model.forward(&x).unwrap() - &x).square().mean(Kind::Float);
        assert!((loss.double_value(&[]) - golden["loss_of_first_three"].as_f64().unwrap()).abs() < 1e-6);
        loss.backward();
        for (name, weight) in model.weights() {
            if let Some(expected) = golden["gradients"].get(&name) {
                assert!(largest_difference(&weight.grad(), &tensor(expected)) < 1e-5, "{name}");
            }
        }
    }

    #[test]
    fn initial_weights_follow_the_seed_and_stay_in_their_bounds() {
        let shape =
            ModelShape { kind: ModelKind::Dense, window: 2, fields: 8, hidden: vec![16], latent: 2, members: 1 };
        let weights = |seed| Dense::initialised(&shape, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap().weights();
        let (a, b, c) = (weights(1), weights(1), weights(2));
        assert!(a.iter().zip(&b).all(|(a, b)| a == b));
        assert_ne!(a[0].1, c[0].1);
        let largest = a[0].1.abs().max().double_value(&[]);
        let bound = (6.0f64 / 32.0).sqrt();
        assert!(largest <= bound && largest > 0.9 * bound, "{largest} of {bound}");
    }
}
