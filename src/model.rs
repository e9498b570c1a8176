//! Autoencoders: one trait, its kinds, their training, and the bundles in which they are kept.
//!
//! Contract: a model is immutable after training, works on f32 on the CPU, and never tracks
//! gradients in [`Autoencoder`] calls. The result of a row does not depend on the other rows of the
//! call, so that a replay in other batches yields the same scores. The kinds over rows of readings
//! compute with [`kernels`], whose results have the same bits on every processor. Training, the
//! kinds over tiles of images and TorchScript modules compute with libtorch, whose results agree
//! within a tolerance only.

pub mod bundle;
pub mod calibration;
pub mod context;
pub mod denoiser;
pub mod encoder;
pub mod ensemble;
pub mod linear;
pub mod manifest;
pub mod memory;
pub mod network;
pub mod registry;
pub mod scaler;
pub mod script;
pub mod seasons;
pub mod shape;
pub mod states;
pub mod train;
pub mod weights;

mod architecture;
mod conv;
mod conv2d;
mod dense;
mod disk;
mod failure;
mod frame;
mod kernels;
mod kinds;
mod lstm;
mod patch;
mod settings;
mod unet;

use tch::{Kind, TchError, Tensor};
use thiserror::Error;

pub use self::disk::DiskError;
pub use self::settings::{
    DAY_SLOTS, INPUTS_MAX, ModelKind, ModelSettings, ResidualScope, ScriptSettings, TimeFeature,
    TrainingSettings,
};

use self::ensemble::Ensemble;
use self::frame::Frame;
use self::kinds::Recipe;
use self::linear::Linear;
use self::network::Network;
use self::patch::Patch;
use self::script::{ScriptError, ScriptModel};
use self::shape::{ModelShape, ShapeError};
use self::weights::NamedTensors;

/// A trained autoencoder. It may move between threads and is used by one at a time.
pub trait Autoencoder: Send {
    /// The sizes of the model.
    fn shape(&self) -> &ModelShape;

    /// Reconstructs `rows`, row-major, n x inputs, in scaled units: as many values; n may be 0.
    ///
    /// Over rows of readings the result of a row has the same bits in every batch and on every
    /// processor; over tiles of images and of TorchScript modules they agree within a tolerance.
    ///
    /// # Errors
    /// Values that are not whole rows, or a failure inside libtorch.
    fn reconstruct(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError>;

    /// The codes of `rows`, row-major, n x latent.
    ///
    /// # Errors
    /// As [`Self::reconstruct`]; [`ModelError::NoCode`] of a kind without a code, as all are that do
    /// not say how.
    fn encode(&self, _rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        let kind = self.shape().kind;
        Err(ModelError::NoCode { kind })
    }

    /// The weights by name; [`from_weights`] makes the same model of them.
    fn weights(&self) -> Vec<(String, Tensor)>;

    /// The `number`-th of the models that this one is the mean of, from 0; a single model is its
    /// own first.
    fn member(&self, number: usize) -> Option<&dyn Autoencoder>;
}

/// Why a model could not be built or run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The sizes are not those of a model.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// An input of the wrong size or kind.
    #[error("the model takes f32 rows of {inputs} inputs, found {kind:?} of size {found:?}")]
    Input {
        /// Inputs of the model.
        inputs: usize,
        /// Size of the tensor found.
        found: Vec<i64>,
        /// Its kind.
        kind: Kind,
    },
    /// Values that are not whole rows.
    #[error("{values} values do not form rows of {inputs} inputs")]
    Rows {
        /// Values found.
        values: usize,
        /// Inputs of the model.
        inputs: usize,
    },
    /// A kind that gradient descent does not train.
    #[error("a {} model is not a network", .kind.as_str())]
    NoNetwork {
        /// The kind of model.
        kind: ModelKind,
    },
    /// A weight that the kind needs is not there.
    #[error("weight {name} is missing")]
    WeightMissing {
        /// Its name.
        name: String,
    },
    /// A weight that the kind does not have.
    #[error("weight {name} does not belong to a {} model", .kind.as_str())]
    WeightUnknown {
        /// Its name.
        name: String,
        /// The kind of model.
        kind: ModelKind,
    },
    /// A weight of another size than the shape says.
    #[error("weight {name} has size {found:?}, but the shape needs {expected:?}")]
    WeightSize {
        /// Its name.
        name: String,
        /// Size found.
        found: Vec<i64>,
        /// Size that follows from the shape.
        expected: Vec<i64>,
    },
    /// A weight that is NaN or infinite.
    #[error("weight {name} has a number that is not finite")]
    WeightNotFinite {
        /// Its name.
        name: String,
    },
    /// A kind whose code is its own.
    #[error("a {} model has no readable code: choose another kind", .kind.as_str())]
    NoCode {
        /// The kind of model.
        kind: ModelKind,
    },
    /// A TorchScript module that is no model.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// An encoder gives NaN or infinity for an image.
    #[error("the features of an image are not finite: check model.backbone")]
    FeaturesNotFinite,
    /// An ensemble of nothing.
    #[error("an ensemble needs at least one member")]
    NoMembers,
    /// Members of different shapes.
    #[error("the members of an ensemble have different shapes: {first:?} and {other:?}")]
    Members {
        /// Shape of the first member.
        first: Box<ModelShape>,
        /// Shape of another one.
        other: Box<ModelShape>,
    },
    /// A failure inside libtorch.
    #[error("libtorch failed: {0}")]
    Torch(#[from] TchError),
}

/// Lets libtorch work on the calling thread alone, here and on threads started later.
///
/// Lanes are the parallelism of the program; and sums that are split over threads are rounded by
/// how many there are, so that one machine would score and train otherwise than the next.
/// [`train::fit`] and [`bundle::Bundle::load`] call it; a program calls it first thing, before
/// other threads touch libtorch.
pub fn use_one_thread() {
    tch::set_num_threads(1);
}

/// Rows of a call at most where there are many: bounds the memory of one call.
pub(crate) fn part_rows(inputs: usize) -> usize {
    const VALUES: usize = 1 << 20;
    (VALUES / inputs.max(1)).next_multiple_of(TENSOR_ROWS)
}

/// Makes a tensor `[n, inputs]` of row-major scaled values.
///
/// # Errors
/// Values that are not whole rows.
pub fn rows_tensor(values: &[f32], inputs: usize) -> Result<Tensor, ModelError> {
    whole_rows(values, inputs)?;
    Ok(Tensor::f_from_slice(values)?.f_view([(values.len() / inputs) as i64, inputs as i64])?)
}

/// Makes the model of `shape` whose [`Autoencoder::weights`] are `weights`.
///
/// # Errors
/// A bad shape; a weight that is missing, unknown, of the wrong size or not finite.
pub fn from_weights(
    shape: &ModelShape,
    mut weights: NamedTensors,
) -> Result<Box<dyn Autoencoder>, ModelError> {
    shape.validate()?;
    let model: Box<dyn Autoencoder> = match (shape.members, Recipe::of(shape.kind)) {
        (2.., _) => Box::new(Ensemble::from_weights(shape, &mut weights)?),
        (_, Recipe::Linear) => Box::new(Linear::from_weights(shape, &mut weights)?),
        (_, Recipe::Frame) => Box::new(Frame::from_weights(shape, &mut weights)?),
        (_, Recipe::Patch) => Box::new(Patch::from_weights(shape, &mut weights)?),
        (_, Recipe::Script) => Box::new(ScriptModel::load(shape)?),
        (_, Recipe::Network(_)) => Network::from_weights(shape, &mut weights)?.into_model()?,
    };
    match weights.pop_first() {
        Some((name, _)) => Err(ModelError::WeightUnknown {
            name,
            kind: shape.kind,
        }),
        None => Ok(model),
    }
}

/// Takes the weight `name` out of `weights` once its size and values are proven; the result is f32
/// and contiguous.
fn take_weight(
    weights: &mut NamedTensors,
    name: &str,
    expected: &[usize],
) -> Result<Tensor, ModelError> {
    let tensor = weights
        .remove(name)
        .ok_or_else(|| ModelError::WeightMissing {
            name: name.to_owned(),
        })?;
    let expected: Vec<i64> = expected.iter().map(|&size| size as i64).collect();
    let found = tensor.size();
    if found != expected {
        return Err(ModelError::WeightSize {
            name: name.to_owned(),
            found,
            expected,
        });
    }
    let finite = tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0;
    if !finite {
        return Err(ModelError::WeightNotFinite {
            name: name.to_owned(),
        });
    }
    Ok(tensor.f_to_kind(Kind::Float)?.f_contiguous()?)
}

/// Refuses values that are not whole rows of `inputs` values.
fn whole_rows(values: &[f32], inputs: usize) -> Result<(), ModelError> {
    if inputs > 0 && values.len().is_multiple_of(inputs) {
        return Ok(());
    }
    Err(ModelError::Rows {
        values: values.len(),
        inputs,
    })
}

/// Rows of readings go through libtorch in multiples of this many, filled up with zeros: its matrix
/// products choose kernels by the number of rows, and results would differ in more digits than they
/// have to.
const TENSOR_ROWS: usize = 16;

/// Runs `forward`, from `[n, inputs]` to a result for each row, without gradients. The tiles of an
/// image are as they are: their number is that of the image, and a filled-up tile costs as much as
/// a real one.
fn by_tensor(
    shape: &ModelShape,
    rows: &[f32],
    forward: impl FnOnce(&Tensor) -> Result<Tensor, TchError>,
) -> Result<Vec<f32>, ModelError> {
    let inputs = shape.inputs();
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let count = rows.len() / inputs;
    let padded = match shape.tile {
        0 => count.next_multiple_of(TENSOR_ROWS),
        _ => count,
    };
    tch::no_grad(|| {
        let x = rows_tensor(rows, inputs)?;
        let x = x.f_constant_pad_nd([0, 0, 0, (padded - count) as i64])?;
        let y = forward(&x)?.f_narrow(0, 0, count as i64)?;
        Ok(Vec::try_from(&y.f_to_kind(Kind::Float)?.f_reshape([-1])?)?)
    })
}
