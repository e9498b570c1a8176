//! A network: an architecture and its weights, the part that all kinds trained by gradient descent
//! share.
//!
//! Contract: the code of a plain autoencoder goes through tanh. A bounded code bounds what the
//! decoder can draw, so that a reading far outside the training data cannot be reconstructed
//! however far out it lies. A variational one (Kingma and Welling, "Auto-Encoding Variational
//! Bayes", ICLR 2014) has a normal distribution as its code, and reconstructs with the mean over
//! several draws from it (as the reconstruction probability of An and Cho, SNU Data Mining Center,
//! 2015, does). The draws are a part of the model: the same for every window and on every machine.

mod trained;

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Kind, TchError, Tensor};

use self::trained::TrainedNetwork;
use super::architecture::{Architecture, WeightValues};
use super::kernels::{Draws, LOG_VARIANCE_MAX, Layer, Program};
use super::kinds::Recipe;
use super::shape::ModelShape;
use super::weights::NamedTensors;
use super::{Autoencoder, ModelError, TENSOR_ROWS, take_weight};

fn architecture(shape: &ModelShape) -> Result<Arc<dyn Architecture>, ModelError> {
    match Recipe::of(shape.kind) {
        Recipe::Network(architecture) => Ok(architecture(shape)),
        _ => Err(ModelError::NoNetwork { kind: shape.kind }),
    }
}

/// An autoencoder that is trained by gradient descent.
#[derive(Debug)]
pub struct Network {
    shape: ModelShape,
    architecture: Arc<dyn Architecture>,
    /// In the order of the architecture's parameters.
    weights: Vec<Tensor>,
    /// `[samples, latent]`, standard normal: where codes are drawn, in units of each code's
    /// distribution.
    draws: Option<Tensor>,
}

/// The name of [`Network::draws`] among the weights.
const DRAWS: &str = "draws";
/// Values of the reconstructions of a block, all draws counted: 1 MiB.
const BLOCK_VALUES: usize = 1 << 18;
/// The variance of the reconstruction is taken for at least this, in scaled units.
const VARIANCE_MIN: f64 = 1e-4;

impl Network {
    /// A network with random weights; the same `rng` gives the same ones.
    ///
    /// # Errors
    /// A bad shape or a failure inside libtorch.
    pub fn initialised(shape: &ModelShape, rng: &mut ChaCha8Rng) -> Result<Self, ModelError> {
        shape.validate()?;
        let architecture = architecture(shape)?;
        let weights = architecture
            .parameters()
            .iter()
            .map(|p| p.initialised(rng))
            .collect::<Result<_, _>>()?;
        let draws = if shape.samples == 0 {
            None
        } else {
            Some(draws(shape, rng)?)
        };
        Ok(Self {
            shape: shape.clone(),
            architecture,
            weights,
            draws,
        })
    }

    /// The network with these weights; they are taken out of `weights`.
    pub(super) fn from_weights(
        shape: &ModelShape,
        weights: &mut NamedTensors,
    ) -> Result<Self, ModelError> {
        let architecture = architecture(shape)?;
        let parameters = architecture.parameters();
        let taken = parameters
            .iter()
            .map(|p| take_weight(weights, &p.name, &p.size))
            .collect::<Result<_, _>>()?;
        let draws = match shape.samples {
            0 => None,
            samples => Some(take_weight(weights, DRAWS, &[samples, shape.latent])?),
        };
        Ok(Self {
            shape: shape.clone(),
            architecture,
            weights: taken,
            draws,
        })
    }

    /// The same network with each weight replaced by what `f` makes of it: variables for training,
    /// copies for keeping.
    pub(super) fn map_weights(
        &self,
        f: impl FnMut(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<Self, TchError> {
        Ok(Self {
            shape: self.shape.clone(),
            architecture: self.architecture.clone(),
            weights: self.weights.iter().map(f).collect::<Result<_, _>>()?,
            draws: self.draws.as_ref().map(Tensor::f_detach_copy).transpose()?,
        })
    }

    /// What training makes small, for each row of `noisy`, `[n, inputs]`, held against `clean`;
    /// gradients flow through it.
    ///
    /// The mean square error, and for a variational network what its code costs: the
    /// Kullback-Leibler divergence from the standard normal, in units of twice the reconstruction's
    /// variance, which is the present error (sigma-VAE: Rybkin, Daniilidis, Levine, ICML 2021), so
    /// that no weight between the two has to be chosen. `normal` gives standard normal numbers.
    pub(super) fn row_losses(
        &self,
        noisy: &Tensor,
        clean: &Tensor,
        normal: impl FnOnce(usize) -> Vec<f32>,
    ) -> Result<Tensor, TchError> {
        let error = |y: &Tensor| {
            y.f_sub(clean)?
                .f_square()?
                .f_mean_dim([1i64].as_slice(), false, None::<Kind>)
        };
        if self.draws.is_none() {
            return error(&self.architecture.reconstruct(&self.weights, noisy)?);
        }
        let (mean, log_variance) = self.distribution(noisy)?;
        let draw = Tensor::f_from_slice(&normal(mean.numel()))?.f_view_as(&mean)?;
        let code = mean.f_add(&log_variance.f_mul_scalar(0.5)?.f_exp()?.f_mul(&draw)?)?;
        let error = error(&self.architecture.decode(&self.weights, &code, 1)?)?;
        let variance = error
            .f_detach()?
            .f_mean(None::<Kind>)?
            .f_clamp_min(VARIANCE_MIN)?;
        let terms = mean
            .f_square()?
            .f_add(&log_variance.f_exp()?)?
            .f_sub(&log_variance)?
            .f_sub_scalar(1.0)?;
        let divergence = terms
            .f_sum_dim_intlist([1i64].as_slice(), false, None::<Kind>)?
            .f_mul_scalar(0.5)?;
        let cost = divergence
            .f_mul(&variance)?
            .f_mul_scalar(2.0 / self.shape.inputs() as f64)?;
        error.f_add(&cost)
    }

    /// The code; the mean of a variational network's.
    fn code(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self.draws {
            None => self.architecture.encode(&self.weights, x)?.f_tanh(),
            Some(_) => Ok(self.distribution(x)?.0),
        }
    }

    /// Mean and logarithm of the variance of the code, `[n, latent]` each.
    fn distribution(&self, x: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let encoded = self.architecture.encode(&self.weights, x)?;
        let latent = self.shape.latent as i64;
        let log_variance = encoded
            .f_narrow(1, latent, latent)?
            .f_clamp(-f64::from(LOG_VARIANCE_MAX), f64::from(LOG_VARIANCE_MAX))?;
        Ok((encoded.f_narrow(1, 0, latent)?, log_variance))
    }

    /// [`Network::forward`] part by part: what a layer leaves behind is still in the cache for the
    /// next one.
    fn in_blocks(&self, x: &Tensor) -> Result<Tensor, TchError> {
        // A picture's layers have several channels of its size.
        let channels = if self.shape.kind.is_spatial() { 4 } else { 1 };
        let values = self.shape.inputs() * self.shape.samples.max(1) * channels;
        let rows = x.size()[0];
        let most = (BLOCK_VALUES / values).max(1).next_multiple_of(TENSOR_ROWS) as i64;
        if rows <= most {
            return self.forward(x);
        }
        let block = |start: i64| self.forward(&x.f_narrow(0, start, most.min(rows - start))?);
        let blocks = (0..rows)
            .step_by(most as usize)
            .map(block)
            .collect::<Result<Vec<_>, _>>()?;
        Tensor::f_cat(&blocks, 0)
    }

    /// Reconstruction of `x`, `[n, inputs]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let Some(draws) = &self.draws else {
            return self.architecture.reconstruct(&self.weights, x);
        };
        let (mean, log_variance) = self.distribution(x)?;
        let spread = log_variance
            .f_mul_scalar(0.5)?
            .f_exp()?
            .f_unsqueeze(1)?
            .f_mul(draws)?;
        let codes = mean
            .f_unsqueeze(1)?
            .f_add(&spread)?
            .f_view([-1, self.shape.latent as i64])?;
        self.architecture
            .decode(&self.weights, &codes, self.shape.samples)
    }

    /// The model that reconstructs with the present weights.
    ///
    /// # Errors
    /// A failure inside libtorch.
    pub fn into_model(self) -> Result<Box<dyn Autoencoder>, ModelError> {
        let program = self.program()?;
        Ok(Box::new(TrainedNetwork {
            network: self,
            program,
        }))
    }

    /// The forward pass over rows of readings; `None` over tiles of images.
    fn program(&self) -> Result<Option<Program>, ModelError> {
        let values = |tensor: &Tensor| Vec::<f32>::try_from(&tensor.f_detach()?.f_reshape([-1])?);
        let weights: Vec<Vec<f32>> = self.weights.iter().map(values).collect::<Result<_, _>>()?;
        let mut weights = WeightValues::new(weights);
        let Some(mut program) = self.architecture.program(&mut weights) else {
            return Ok(None);
        };
        program.inputs = self.shape.inputs();
        match &self.draws {
            None => program.encoder.push(Layer::Tanh),
            Some(draws) => {
                program.draws = Some(Draws {
                    latent: self.shape.latent,
                    values: values(draws)?,
                });
            }
        }
        Ok(Some(program))
    }

    /// Its weights by name; [`Network::from_weights`] makes the same network of them.
    fn named_weights(&self) -> Vec<(String, Tensor)> {
        let names = self
            .architecture
            .parameters()
            .into_iter()
            .map(|parameter| parameter.name);
        let mut named: Vec<(String, Tensor)> = names
            .zip(self.weights.iter().map(Tensor::shallow_clone))
            .collect();
        named.extend(
            self.draws
                .iter()
                .map(|draws| (DRAWS.to_owned(), draws.shallow_clone())),
        );
        named
    }
}

/// Standard normal draws in pairs of opposite sign, whose mean is the middle of the distribution.
fn draws(shape: &ModelShape, rng: &mut ChaCha8Rng) -> Result<Tensor, TchError> {
    let mut values: Vec<f32> = Vec::with_capacity(shape.samples * shape.latent);
    for sample in 0..shape.samples {
        let before = values.len().saturating_sub(shape.latent);
        match sample % 2 {
            1 => values.extend_from_within(before..),
            _ => values.extend((0..shape.latent).map(|_| -> f32 { StandardNormal.sample(rng) })),
        }
        if sample % 2 == 1 {
            values
                .iter_mut()
                .skip(before + shape.latent)
                .for_each(|x| *x = -*x);
        }
    }
    Tensor::f_from_slice(&values)?.f_view([shape.samples as i64, shape.latent as i64])
}

#[cfg(test)]
mod golden;
