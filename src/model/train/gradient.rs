//! Training by gradient descent: AdamW on the trimmed loss of noisy inputs, with early stopping.
//!
//! Contract: as [`super::fit`]. The inputs carry Gaussian noise and the loss is held against the
//! clean rows (denoising autoencoder: Vincent et al., ICML 2008). Of each batch the rows with the
//! largest loss get no gradient (trimmed loss: Shen and Sanghavi, ICML 2019), so that anomalies
//! among the rows are not learned. AdamW: Loshchilov and Hutter, ICLR 2019.

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

use super::masks;
use super::schedule::learning_rate;
use super::{Epoch, TrainError, Trained, TrainingInput, trimmed_loss};
use crate::model::TrainingSettings;
use crate::model::network::Network;
use crate::model::shape::ModelShape;
use crate::model::{Autoencoder, rows_tensor};

/// Trains a network; the arguments are those of [`super::fit`], checked.
pub(super) fn fit(
    data: &TrainingInput<'_>,
    shape: &ModelShape,
    start: Option<&dyn Autoencoder>,
    settings: &TrainingSettings,
    on_epoch: &mut dyn FnMut(&Epoch) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let mut descent = GradientDescent::new(data, shape, start, settings)?;
    let mut best = BestWeights {
        epoch: 0,
        loss: f64::INFINITY,
        model: descent.copy()?,
    };
    let mut epochs = 0;
    for number in 1..=settings.epochs.max(1) {
        epochs = number;
        let train_loss = descent.epoch(number)?;
        let model = descent.copy()?;
        let holdout_loss = data
            .holdout()
            .map(|starts| trimmed_loss(&*model, data, starts, settings.trim))
            .transpose()?;
        if holdout_loss.is_some_and(|loss| !loss.is_finite()) {
            return Err(descent.diverged(number));
        }
        // Without held-out rows the last epoch is the best: the training loss says nothing about
        // new rows.
        if holdout_loss.is_none_or(|loss| loss < best.loss) {
            best = BestWeights {
                epoch: number,
                loss: holdout_loss.unwrap_or(f64::INFINITY),
                model,
            };
        }
        if on_epoch(&Epoch {
            number,
            of: settings.epochs.max(1),
            train_loss,
            holdout_loss,
        })
        .is_break()
        {
            return Err(TrainError::Cancelled { epoch: number });
        }
        if number - best.epoch >= settings.patience.max(1) {
            break;
        }
    }
    let train_loss = trimmed_loss(&*best.model, data, data.train, settings.trim)?;
    if !train_loss.is_finite() {
        // The last step itself went too far, and no later loss and no held-out row could tell.
        return Err(descent.diverged(epochs));
    }
    let holdout_loss = data.holdout().map(|_| best.loss);
    Ok(Trained {
        model: best.model,
        epochs,
        best_epoch: best.epoch,
        train_loss,
        holdout_loss,
    })
}

/// The weights that did best on the held-out rows so far.
struct BestWeights {
    epoch: usize,
    loss: f64,
    model: Box<dyn Autoencoder>,
}

/// A model in training, with everything that changes from step to step.
struct GradientDescent<'a> {
    data: &'a TrainingInput<'a>,
    shape: &'a ModelShape,
    settings: &'a TrainingSettings,
    model: Network,
    optimiser: nn::Optimizer,
    /// Where the rows to train on begin, in the order of the present epoch.
    order: Vec<usize>,
    shuffle: ChaCha8Rng,
    noise: ChaCha8Rng,
    /// For the codes of variational networks.
    draws: ChaCha8Rng,
    /// For what covers fields, or parts of tiles.
    masks: ChaCha8Rng,
    step: usize,
    /// Rows owed to the trim: a small part of a small batch is less than a row, and is carried to
    /// the next batch.
    trim_owed: f64,
    /// One batch of clean rows, and the same with noise; kept to spare an allocation a step.
    clean: Vec<f32>,
    noisy: Vec<f32>,
}

impl<'a> GradientDescent<'a> {
    fn new(
        data: &'a TrainingInput<'a>,
        shape: &'a ModelShape,
        start: Option<&dyn Autoencoder>,
        settings: &'a TrainingSettings,
    ) -> Result<Self, TrainError> {
        // One generator for each use, so that a change in one does not shift the others.
        let stream = |number: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
            rng.set_stream(number);
            rng
        };
        let variables = nn::VarStore::new(Device::Cpu);
        let mut count = 0;
        let first = match start {
            Some(model) => {
                Network::from_weights(shape, &mut model.weights().into_iter().collect())?
            }
            None => Network::initialised(shape, &mut stream(0))?,
        };
        let model = first.map_weights(|weight| {
            count += 1;
            variables.root().f_var_copy(&format!("w{count}"), weight)
        })?;
        let adamw = nn::AdamW {
            wd: settings.weight_decay,
            ..nn::AdamW::default()
        };
        let optimiser = adamw.build(&variables, settings.learning_rate)?;
        Ok(Self {
            data,
            shape,
            settings,
            model,
            optimiser,
            order: data.train.to_vec(),
            shuffle: stream(1),
            noise: stream(2),
            draws: stream(3),
            masks: stream(4),
            step: 0,
            trim_owed: 0.0,
            clean: Vec::new(),
            noisy: Vec::new(),
        })
    }

    /// One pass over the rows in a new order; gives the mean of the batches' losses.
    fn epoch(&mut self, number: usize) -> Result<f64, TrainError> {
        self.order.shuffle(&mut self.shuffle);
        let order = std::mem::take(&mut self.order);
        let size = self.settings.batch.max(1);
        let steps = order.len().div_ceil(size);
        let mut sum = 0.0;
        for batch in order.chunks(size) {
            let rate = learning_rate(
                self.settings.learning_rate,
                self.step,
                steps * self.settings.epochs.max(1),
            );
            let loss = self.step(batch, rate)?;
            if !loss.is_finite() {
                return Err(self.diverged(number));
            }
            self.step += 1;
            sum += loss;
        }
        self.order = order;
        Ok(sum / steps as f64)
    }

    /// One optimiser step on the rows `batch`; gives their trimmed loss before the step.
    fn step(&mut self, batch: &[usize], rate: f64) -> Result<f64, TrainError> {
        self.fill(batch);
        let clean = rows_tensor(&self.clean, self.data.inputs)?;
        let noisy = rows_tensor(&self.noisy, self.data.inputs)?;
        let keep = self.keep(batch.len());
        let draws = &mut self.draws;
        let losses = self.model.row_losses(&noisy, &clean, |n| {
            (0..n)
                .map(|_| -> f32 { StandardNormal.sample(draws) })
                .collect()
        })?;
        let kept = if keep < batch.len() {
            losses.f_topk(keep as i64, 0, false, false)?.0
        } else {
            losses
        };
        let loss = kept.f_mean(None::<Kind>)?;
        let value = loss.f_double_value(&[])?;
        if value.is_finite() {
            self.optimiser.set_lr(rate);
            self.optimiser.zero_grad();
            loss.f_backward()?;
            self.optimiser.step();
        }
        Ok(value)
    }

    /// Gathers the rows of a batch, clean and noisy.
    fn fill(&mut self, batch: &[usize]) {
        let inputs = self.data.inputs;
        self.clean.clear();
        for &start in batch {
            self.clean
                .extend_from_slice(&self.data.values[start..start + inputs]);
        }
        let scale = self.settings.noise as f32;
        let rng = &mut self.noise;
        self.noisy.clear();
        let shape = self.shape;
        self.noisy.extend(self.clean.iter().map(|value| {
            let noise: f32 = StandardNormal.sample(rng);
            value + scale * noise
        }));
        if shape.kind.is_spatial() {
            let side = shape.tile;
            let channels = shape.channels();
            masks::cover(
                &mut self.noisy,
                &self.clean,
                side,
                channels,
                self.settings.masks,
                &mut self.masks,
            );
        } else {
            let (width, scored) = (shape.fields, shape.scored());
            masks::cover_fields(&mut self.noisy, inputs, width, scored, &mut self.masks);
        }
    }

    /// How many of `rows` rows get a gradient, at least 1.
    fn keep(&mut self, rows: usize) -> usize {
        self.trim_owed += self.settings.trim * rows as f64;
        let drop = (self.trim_owed.floor() as usize).min(rows - 1);
        self.trim_owed -= drop as f64;
        rows - drop
    }

    /// The model as it is now, apart from the training.
    fn copy(&self) -> Result<Box<dyn Autoencoder>, TrainError> {
        let copy = tch::no_grad(|| self.model.map_weights(Tensor::f_detach_copy))?;
        Ok(copy.into_model()?)
    }

    fn diverged(&self, epoch: usize) -> TrainError {
        TrainError::Diverged {
            epoch,
            learning_rate: self.settings.learning_rate,
        }
    }
}
