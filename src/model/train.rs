//! Training: scaled rows of normal data to an autoencoder.
//!
//! Contract: the same rows, shape and settings give the same weights, byte for byte, whatever else
//! the process trains meanwhile: all randomness comes from the seed of the settings, none from
//! libtorch, which runs one thread. (Another CPU or libtorch may round differently.) Some
//! contamination of the rows is tolerated: the worst part is trimmed.

mod gradient;
mod masks;
mod schedule;

use std::ops::ControlFlow;

use tch::TchError;
use thiserror::Error;

use super::frame::Frame;
use super::kinds::Recipe;
use super::linear::Linear;
use super::patch::Patch;
use super::script::ScriptModel;
use super::shape::{ModelShape, ShapeError};
use super::{Autoencoder, ModelError, part_rows, rows_tensor, use_one_thread};
use crate::model::TrainingSettings;

/// Rows that a training needs at least, besides those held out.
pub const ROWS_MIN: usize = 16;
/// How far a training has come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Epoch {
    /// Which pass over the rows has ended, from 1.
    pub number: usize,
    /// Passes at most.
    pub of: usize,
    /// Trimmed mean square error per input during the pass, noise included.
    pub train_loss: f64,
    /// Trimmed mean square error per input of the held-out rows; `None` where none are held out.
    pub holdout_loss: Option<f64>,
}

/// A trained model and how well it reconstructs.
pub struct Trained {
    /// The model, of the best epoch.
    pub model: Box<dyn Autoencoder>,
    /// Epochs that were run; 1 for closed forms.
    pub epochs: usize,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Trimmed mean square error per input of the rows trained on, without noise.
    pub train_loss: f64,
    /// The same of the held-out rows; `None` where none are held out.
    pub holdout_loss: Option<f64>,
}

/// Why a training gave no model.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Too few rows.
    #[error("{rows} training rows; at least {ROWS_MIN} are needed: collect more records")]
    TooFewRows {
        /// Rows to train on.
        rows: usize,
    },
    /// A scaled value that is NaN or infinite.
    #[error(
        "row {row} has a value that is not finite; remove rows with missing readings from the training data"
    )]
    NotFinite {
        /// Which row, from 0.
        row: usize,
    },
    /// The loss stopped being a finite number.
    #[error(
        "the loss is no longer finite in epoch {epoch} at a learning rate of {learning_rate}; \
         lower training.learning_rate, or check the training records for extreme readings"
    )]
    Diverged {
        /// In which epoch, from 1.
        epoch: usize,
        /// Peak learning rate of the settings.
        learning_rate: f64,
    },
    /// The caller asked to stop.
    #[error("training was cancelled after epoch {epoch}")]
    Cancelled {
        /// After which epoch, from 1.
        epoch: usize,
    },
    /// The model could not be built or run.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<ShapeError> for TrainError {
    fn from(error: ShapeError) -> Self {
        Self::Model(error.into())
    }
}

impl From<TchError> for TrainError {
    fn from(error: TchError) -> Self {
        Self::Model(error.into())
    }
}

/// What a training gets: scaled values in time order, and where in them each row of
/// `shape.inputs()` values begins. Rows may overlap, as the windows of a series do: none is copied
/// before it is trained on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TrainingWindows<'a> {
    /// The values that the rows are parts of.
    pub values: &'a [f32],
    /// Where the rows begin that the weights are fitted to.
    pub train: &'a [usize],
    /// Where those begin that only tell when to stop; may be empty.
    pub held_out: &'a [usize],
}

/// Trains a model of `shape`.
///
/// The weights begin as those of `start`, a model of the same shape, or at random; a closed form
/// has no beginning. `on_epoch` hears of each epoch and stops the training by `Break`. Libtorch is
/// set to one thread, see [`use_one_thread`]: a step of a small network is too short to be worth
/// sharing, and lanes keep their cores.
///
/// # Errors
/// A bad shape, too few rows, values that are not finite, a diverging loss, or a break.
pub fn fit(
    rows: TrainingWindows<'_>,
    shape: &ModelShape,
    start: Option<&dyn Autoencoder>,
    settings: &TrainingSettings,
    on_epoch: &mut dyn FnMut(&Epoch) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    shape.validate()?;
    use_one_thread();
    let inputs = shape.inputs();
    if let Some(&start) = rows
        .train
        .iter()
        .chain(rows.held_out)
        .find(|&&start| start + inputs > rows.values.len())
    {
        return Err(ModelError::Rows {
            values: rows.values.len().saturating_sub(start),
            inputs,
        }
        .into());
    }
    if let Some(at) = rows.values.iter().position(|value| !value.is_finite()) {
        return Err(TrainError::NotFinite {
            row: at / shape.fields,
        });
    }
    let data = TrainingInput {
        inputs,
        values: rows.values,
        train: rows.train,
        held_out: rows.held_out,
    };
    if data.train.len() < ROWS_MIN {
        return Err(TrainError::TooFewRows {
            rows: data.train.len(),
        });
    }
    match Recipe::of(shape.kind) {
        Recipe::Linear => {
            let model = Linear::fit(
                &rows_tensor(&data.rows(data.train), inputs)?,
                shape,
                settings.trim,
            )?;
            at_once(Box::new(model), &data, settings, on_epoch)
        }
        Recipe::Frame => {
            let model = Frame::fit(&rows_tensor(&data.rows(data.train), inputs)?, shape)?;
            at_once(Box::new(model), &data, settings, on_epoch)
        }
        Recipe::Patch => {
            let model = Patch::fit(&rows_tensor(&data.rows(data.train), inputs)?, shape)?;
            at_once(Box::new(model), &data, settings, on_epoch)
        }
        Recipe::Script => at_once(
            Box::new(ScriptModel::load(shape)?),
            &data,
            settings,
            on_epoch,
        ),
        Recipe::Network(_) => gradient::fit(&data, shape, start, settings, on_epoch),
    }
}

/// [`TrainingWindows`] that were checked.
struct TrainingInput<'a> {
    inputs: usize,
    values: &'a [f32],
    train: &'a [usize],
    held_out: &'a [usize],
}

impl TrainingInput<'_> {
    /// The rows that begin at `starts`, row-major.
    fn rows(&self, starts: &[usize]) -> Vec<f32> {
        let mut values = Vec::with_capacity(starts.len() * self.inputs);
        for &start in starts {
            values.extend_from_slice(&self.values[start..start + self.inputs]);
        }
        values
    }

    /// `None` where no rows are held out.
    fn holdout(&self) -> Option<&[usize]> {
        (!self.held_out.is_empty()).then_some(self.held_out)
    }
}

/// Mean of the squared differences; not finite where one of them is beyond f32, as a loss in
/// training would be.
fn mean_square(x: &[f32], y: &[f32]) -> f64 {
    let squares = x.iter().zip(y).map(|(x, y)| f64::from((x - y).powi(2)));
    squares.sum::<f64>() / x.len() as f64
}

/// The training metrics of a model that was made without epochs.
fn at_once(
    model: Box<dyn Autoencoder>,
    data: &TrainingInput<'_>,
    settings: &TrainingSettings,
    on_epoch: &mut dyn FnMut(&Epoch) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let train_loss = trimmed_loss(&*model, data, data.train, settings.trim)?;
    let holdout_loss = data
        .holdout()
        .map(|starts| trimmed_loss(&*model, data, starts, settings.trim))
        .transpose()?;
    if on_epoch(&Epoch {
        number: 1,
        of: 1,
        train_loss,
        holdout_loss,
    })
    .is_break()
    {
        return Err(TrainError::Cancelled { epoch: 1 });
    }
    Ok(Trained {
        model,
        epochs: 1,
        best_epoch: 1,
        train_loss,
        holdout_loss,
    })
}

/// Mean square error per input over the rows, less the `trim` part of them with the largest error;
/// NaN where any is.
fn trimmed_loss(
    model: &dyn Autoencoder,
    data: &TrainingInput<'_>,
    starts: &[usize],
    trim: f64,
) -> Result<f64, ModelError> {
    let mut losses = Vec::with_capacity(starts.len());
    for part in starts.chunks(part_rows(data.inputs)) {
        let rows = data.rows(part);
        let found = model.reconstruct(&rows)?;
        let pairs = rows
            .chunks_exact(data.inputs)
            .zip(found.chunks_exact(data.inputs));
        losses.extend(pairs.map(|(x, y)| mean_square(x, y)));
    }
    losses.sort_unstable_by(f64::total_cmp);
    let keep = (losses.len() - (trim * losses.len() as f64).floor() as usize).max(1);
    // The sum over all is only for its NaN, which sorting has moved into the part that is left out.
    if !losses.iter().sum::<f64>().is_finite() {
        return Ok(f64::NAN);
    }
    Ok(losses.iter().take(keep).sum::<f64>() / keep as f64)
}
