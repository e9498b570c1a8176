//! Fitting a denoiser: one for each fold of the records, on the records outside it.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};
use tch::nn::{self, OptimizerConfig as _};
use tch::{Device, Kind, TchError, Tensor, no_grad};

use super::{Denoiser, DenoiserLayer, HIDDEN, INPUTS, input};
use crate::model::architecture::Parameter;
use crate::model::memory::LAGS;

/// Standard deviation of the noise on readings, in scaled units.
const NOISE: f32 = 0.3;
/// The same on running means.
const MEANS_NOISE: f32 = 0.09;
/// Optimiser steps of each fold.
const STEPS: usize = 500;
/// Records of a step.
const BATCH: usize = 256;
/// Learning rate of the first step; it falls to 0 by half a cosine.
const LEARNING_RATE: f64 = 5e-3;
/// Weight decay.
const DECAY: f64 = 1e-3;
/// Keeps the closed form solvable where a value never changes.
const FLOOR: f64 = 1e-6;

/// Records to fit a denoiser to: inputs and the fold of each.
pub struct DenoiserRows {
    k: usize,
    /// Row-major, n x inputs.
    inputs: Vec<f32>,
    fold: Vec<usize>,
}

/// The denoisers of all folds.
pub struct Fitted {
    /// The one of each fold, which did not see its records; only the first where that is no better than
    /// its linear part.
    pub folds: Vec<Denoiser>,
    /// Mean squared error on noisy held-out records, as a part of that of the linear part alone.
    pub error_ratio: f64,
}

impl DenoiserRows {
    /// No record yet, of k fields.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            inputs: Vec::new(),
            fold: Vec::new(),
        }
    }

    /// Values of an input for records of k fields.
    pub fn inputs(k: usize) -> usize {
        INPUTS * k
    }

    /// Adds a record and what is kept of those before it.
    pub fn push(&mut self, z: &[f32], past: &[f32], fold: usize) {
        self.inputs.extend(input(z, past));
        self.fold.push(fold);
    }

    /// Inputs of the records inside or outside a fold, `[n, inputs]`.
    fn of(&self, fold: usize, inside: bool) -> Result<Tensor, TchError> {
        let width = INPUTS * self.k;
        let rows = self.inputs.chunks_exact(width).zip(&self.fold);
        let chosen = rows.filter(|(_, of)| (**of == fold) == inside);
        let values: Vec<f32> = chosen.flat_map(|(row, _)| row).copied().collect();
        Tensor::f_from_slice(&values)?.f_view([-1, width as i64])
    }

    /// Standard deviation of the noise on each value of an input.
    fn noise(&self) -> Result<Tensor, TchError> {
        let readings = (1 + LAGS) * self.k;
        let all = (0..INPUTS * self.k).map(|at| if at < readings { NOISE } else { MEANS_NOISE });
        Tensor::f_from_slice(&all.collect::<Vec<f32>>())
    }
}

/// Fits a denoiser for each of `folds` folds, and says how well they do on held-out records. It stops
/// after the first one where that is no better there than its linear part; `None` where a fold has
/// too few records. The same rows and seed give the same weights.
///
/// # Errors
/// A failure inside libtorch.
pub fn fit(rows: &DenoiserRows, folds: usize, seed: u64) -> Result<Option<Fitted>, TchError> {
    let noise = rows.noise()?;
    let mut fitted = Vec::with_capacity(folds);
    let mut errors = [0.0; 2];
    for fold in 0..folds {
        let (outside, inside) = (rows.of(fold, false)?, rows.of(fold, true)?);
        let (k, least) = (rows.k as i64, (2 * INPUTS * rows.k) as i64);
        if outside.size()[0] < least || inside.size()[0] == 0 {
            return Ok(None);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(fold as u64);
        let linear = linear(&outside, k, &noise)?;
        let network = DenoiserTraining::fit(&outside, &linear, &noise, &mut rng)?;
        let noisy = noisy(&inside, &noise, &mut rng)?;
        let target = inside.f_narrow(1, 0, k)?;
        let by_linear = noisy.f_matmul(&linear)?;
        let both = by_linear.f_add(&no_grad(|| network.forward(&noisy))?)?;
        let squares = |y: &Tensor| y.f_sub(&target)?.f_square()?.f_sum(Kind::Double);
        errors[0] += squares(&both)?.f_double_value(&[])?;
        errors[1] += squares(&by_linear)?.f_double_value(&[])?;
        fitted.push(Denoiser {
            k: rows.k,
            linear: Vec::try_from(&linear.f_reshape([-1])?)?,
            networks: vec![network.maps()?],
        });
        // Each further fold costs as much time again.
        if errors[0] >= errors[1] {
            break;
        }
    }
    Ok(Some(Fitted {
        folds: fitted,
        error_ratio: errors[0] / errors[1],
    }))
}

impl Fitted {
    /// The denoiser for new records: the mean of those of the folds.
    pub fn mean(&self) -> Option<Denoiser> {
        let mut mean = self.folds.first()?.clone();
        for other in &self.folds[1..] {
            let pairs = mean.linear.iter_mut().zip(&other.linear);
            pairs.for_each(|(sum, b)| *sum += b);
            mean.networks.extend(other.networks.iter().cloned());
        }
        let folds = self.folds.len() as f32;
        mean.linear.iter_mut().for_each(|b| *b /= folds);
        Some(mean)
    }
}

/// The best linear denoiser: `(G + N)^-1 G_z`, with the mean products G of the inputs, the variances
/// N of their noise, and the columns z of the newest record.
fn linear(rows: &Tensor, k: i64, noise: &Tensor) -> Result<Tensor, TchError> {
    let x = rows.f_to_kind(Kind::Double)?;
    let products = x.f_tr()?.f_matmul(&x)?.f_div_scalar(x.size()[0] as f64)?;
    let noise = noise.f_to_kind(Kind::Double)?.f_square()?;
    let penalty = noise.f_add_scalar(FLOOR)?.f_diag(0)?;
    let by = Tensor::f_linalg_solve(
        &products.f_add(&penalty)?,
        &products.f_narrow(1, 0, k)?,
        true,
    )?;
    by.f_to_kind(Kind::Float)
}

/// The inputs with new noise.
fn noisy(rows: &Tensor, noise: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor, TchError> {
    let draws: Vec<f32> = (0..rows.numel())
        .map(|_| StandardNormal.sample(rng))
        .collect();
    rows.f_add(
        &Tensor::f_from_slice(&draws)?
            .f_view_as(rows)?
            .f_mul(noise)?,
    )
}

/// The network in training: weights `[inputs, outputs]` and biases, layer by layer.
struct DenoiserTraining(Vec<[Tensor; 2]>);

impl DenoiserTraining {
    fn fit(
        rows: &Tensor,
        linear: &Tensor,
        noise: &Tensor,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self, TchError> {
        let variables = nn::VarStore::new(Device::Cpu);
        let network = Self::initialised(
            &variables,
            rows.size()[1] as usize,
            linear.size()[1] as usize,
            rng,
        )?;
        let adamw = nn::AdamW {
            wd: DECAY,
            ..nn::AdamW::default()
        };
        let mut optimiser = adamw.build(&variables, LEARNING_RATE)?;
        for step in 0..STEPS {
            let chosen: Vec<i64> = (0..BATCH)
                .map(|_| rng.random_range(0..rows.size()[0]))
                .collect();
            let clean = rows.f_index_select(0, &Tensor::f_from_slice(&chosen)?)?;
            let noisy = noisy(&clean, noise, rng)?;
            let y = noisy.f_matmul(linear)?.f_add(&network.forward(&noisy)?)?;
            let target = clean.f_narrow(1, 0, linear.size()[1])?;
            let loss = y.f_sub(&target)?.f_square()?.f_mean(None::<Kind>)?;
            let turn = std::f64::consts::PI * step as f64 / STEPS as f64;
            optimiser.set_lr(LEARNING_RATE * 0.5 * (1.0 + libm::cos(turn)));
            optimiser.zero_grad();
            loss.f_backward()?;
            optimiser.step();
        }
        Ok(network)
    }

    /// Uniform on +-1 / sqrt(inputs), and zero in the last layer: the network begins as nothing.
    fn initialised(
        variables: &nn::VarStore,
        inputs: usize,
        outputs: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self, TchError> {
        let widths = [inputs, HIDDEN[0], HIDDEN[1], outputs];
        let root = variables.root();
        let mut layer = |at: usize| -> Result<[Tensor; 2], TchError> {
            let (from, to) = (widths[at], widths[at + 1]);
            let bound = if at == HIDDEN.len() {
                0.0
            } else {
                (from as f32).sqrt().recip()
            };
            let mut variable = |part: &str, size: &[usize]| {
                let start = Parameter::uniform(format!("{part}{at}"), size, bound);
                root.f_var_copy(&start.name, &start.initialised(rng)?)
            };
            Ok([variable("weight", &[from, to])?, variable("bias", &[to])?])
        };
        let layers = (0..=HIDDEN.len()).map(&mut layer);
        Ok(Self(layers.collect::<Result<_, _>>()?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let mut x = x.shallow_clone();
        for (at, [weight, bias]) in self.0.iter().enumerate() {
            x = x.f_matmul(weight)?.f_add(bias)?;
            if at < HIDDEN.len() {
                x = x.f_tanh()?;
            }
        }
        Ok(x)
    }

    /// Its trained maps.
    fn maps(&self) -> Result<[DenoiserLayer; 3], TchError> {
        let values = |of: &Tensor| Vec::try_from(&of.f_detach()?.f_reshape([-1])?);
        let mut maps: [DenoiserLayer; 3] = Default::default();
        for (map, [weight, bias]) in maps.iter_mut().zip(&self.0) {
            map.weight = values(weight)?;
            map.bias = values(bias)?;
        }
        Ok(maps)
    }
}
