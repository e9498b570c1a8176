//! The denoiser: an autoencoder with memory, which reconstructs the newest record of a series.
//!
//! Its input is the newest record, the last records before it and their running means, in training
//! with noise on them: it has to use all of them to tell the record from the noise (denoising
//! autoencoder: Vincent et al., "Extracting and Composing Robust Features with Denoising
//! Autoencoders", ICML 2008). Its output is `B' u + net(u)`: the best linear denoiser in closed
//! form, and a network that begins at zero and learns what is left.
//!
//! A linear model of the charted readings changes nothing, because the charts whiten what it leaves.
//! So the denoiser is used only where the network is far ahead of its own linear part on held-out
//! records: where normal operation has several modes, or bends.
//!
//! Contract: the result has the same bits on every processor, as those of [`super::kernels`].

mod fit;

use pulp::Arch;
use tch::Tensor;

pub use self::fit::{DenoiserRows, Fitted, fit};
use super::kernels::tanh;
use super::memory::{CLIP, PAST};
use super::weights::NamedTensors;
use super::{ModelError, take_weight};

/// Values of the input for each field: its reading, and what memory keeps of it.
const INPUTS: usize = 1 + PAST;
/// Widths of the network's hidden layers.
const HIDDEN: [usize; 2] = [32, 32];

/// A trained denoiser of records with k fields.
#[derive(Clone, PartialEq, Debug)]
pub struct Denoiser {
    k: usize,
    /// The linear part, inputs x k, row-major.
    linear: Vec<f32>,
    /// The networks whose mean is added: one for each fold.
    networks: Vec<[DenoiserLayer; 3]>,
}

/// An affine map of one record.
#[derive(Clone, PartialEq, Debug, Default)]
struct DenoiserLayer {
    /// Inputs x outputs, row-major.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl DenoiserLayer {
    /// Adds the map of `x` to `y`, from the first input to the last.
    #[inline(always)]
    fn add(&self, x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(&self.bias).for_each(|(y, b)| *y += b);
        add_product(&self.weight, x, y);
    }
}

#[inline(always)]
fn add_product(weight: &[f32], x: &[f32], y: &mut [f32]) {
    for (x, row) in x.iter().zip(weight.chunks_exact(y.len().max(1))) {
        y.iter_mut().zip(row).for_each(|(y, w)| *y += x * w);
    }
}

/// The input of the denoiser for a record `z` (length k) and what is kept of the records before it
/// ([`super::memory::Memory::past`]).
fn input(z: &[f32], past: &[f32]) -> Vec<f32> {
    let newest = z.iter().map(|z| z.clamp(-CLIP, CLIP));
    newest.chain(past.iter().copied()).collect()
}

impl Denoiser {
    /// What the denoiser leaves of a record `z` (length k, scaled), given what is kept of those
    /// before it.
    pub fn residual(&self, z: &[f32], past: &[f32]) -> Vec<f32> {
        let input = input(z, past);
        let mut y = vec![0.0; self.k];
        Arch::new().dispatch(
            #[inline(always)]
            || self.reconstruct(&input, &mut y),
        );
        y.iter_mut().zip(z).for_each(|(y, z)| *y = z - *y);
        y
    }

    #[inline(always)]
    fn reconstruct(&self, input: &[f32], y: &mut [f32]) {
        let mut hidden = [[0.0; HIDDEN[0]], [0.0; HIDDEN[1]]];
        for [first, second, last] in &self.networks {
            let [a, b] = &mut hidden;
            a.fill(0.0);
            b.fill(0.0);
            first.add(input, a);
            a.iter_mut().for_each(|x| *x = tanh(*x));
            second.add(a, b);
            b.iter_mut().for_each(|x| *x = tanh(*x));
            last.add(b, y);
        }
        let networks = self.networks.len().max(1) as f32;
        y.iter_mut().for_each(|y| *y /= networks);
        add_product(&self.linear, input, y);
    }

    /// Its weights by name.
    pub fn weights(&self) -> Vec<(String, Tensor)> {
        let matrix = |values: &[f32], width: usize| {
            Tensor::from_slice(values).view([-1, width.max(1) as i64])
        };
        let mut all = vec![("denoiser.linear".to_owned(), matrix(&self.linear, self.k))];
        for (number, network) in self.networks.iter().enumerate() {
            for (layer, map) in network.iter().enumerate() {
                let name = |part: &str| format!("denoiser.{number}.{layer}.{part}");
                all.push((name("weight"), matrix(&map.weight, map.bias.len())));
                all.push((name("bias"), Tensor::from_slice(&map.bias)));
            }
        }
        all
    }

    /// Takes the denoiser for records of k fields out of named weights; `None` where there is none.
    ///
    /// # Errors
    /// A weight that is missing, of the wrong size or not finite.
    pub(super) fn take(weights: &mut NamedTensors, k: usize) -> Result<Option<Self>, ModelError> {
        let own = |name: &&String| name.starts_with("denoiser.") && name.ends_with(".0.bias");
        let networks = weights.keys().filter(own).count();
        if networks == 0 {
            return Ok(None);
        }
        let widths = [INPUTS * k, HIDDEN[0], HIDDEN[1], k];
        let mut take = |name: &str, size: &[usize]| -> Result<Vec<f32>, ModelError> {
            Ok(Vec::try_from(
                &take_weight(weights, name, size)?.f_reshape([-1])?,
            )?)
        };
        let linear = take("denoiser.linear", &[INPUTS * k, k])?;
        let mut network = |number: usize| -> Result<[DenoiserLayer; 3], ModelError> {
            let mut layer = |layer: usize| -> Result<DenoiserLayer, ModelError> {
                let name = |part: &str| format!("denoiser.{number}.{layer}.{part}");
                Ok(DenoiserLayer {
                    weight: take(&name("weight"), &widths[layer..layer + 2])?,
                    bias: take(&name("bias"), &widths[layer + 1..layer + 2])?,
                })
            };
            Ok([layer(0)?, layer(1)?, layer(2)?])
        };
        let networks = (0..networks).map(&mut network).collect::<Result<_, _>>()?;
        Ok(Some(Self {
            k,
            linear,
            networks,
        }))
    }
}

#[cfg(test)]
mod tests;
