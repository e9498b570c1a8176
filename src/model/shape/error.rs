//! Why a shape is that of no model.

use thiserror::Error;

use super::{HIDDEN_LAYERS_MAX, MEMBERS_MAX, WIDTH_MAX};
use crate::model::ModelKind;

/// A shape that no model can have.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ShapeError {
    /// `window` or `fields` is 0, or their product too large.
    #[error(
        "window {window} x fields {fields} gives {inputs} inputs; allowed are 1 to {most}: shorten the window or choose fewer fields",
        inputs = .window.saturating_mul(*.fields)
    )]
    Inputs {
        /// Records in a window.
        window: usize,
        /// Fields of a record.
        fields: usize,
        /// Most inputs of the kind.
        most: usize,
    },
    /// Tiles that are none, or too small for the layers.
    #[error(
        "{values} values do not form a square tile of side {tile} with 1 or 3 channels that {halvings} layers can halve"
    )]
    Tile {
        /// Values of a tile.
        values: usize,
        /// Its side.
        tile: usize,
        /// How often it is halved.
        halvings: usize,
    },
    /// A feature map where the kind has none, none where it has one, or one whose numbers contradict
    /// each other.
    #[error("the feature map of a {} model does not fit it: train a new bundle", .kind.as_str())]
    Features {
        /// The kind of autoencoder.
        kind: ModelKind,
    },
    /// A feature map of so many cells that the model of it would be too large.
    #[error(
        "{cells} cells and a code of {latent} make too large a frame model: lower model.input or model.latent"
    )]
    Cells {
        /// Cells of the map.
        cells: usize,
        /// Width of the code.
        latent: usize,
    },
    /// The code is as wide as the input (the model could copy it), or of width 0 where that is not
    /// allowed.
    #[error("latent {latent} of a {kind} model with {inputs} inputs; allowed are {least} to {most}{hint}",
        kind = .kind.as_str(), most = .inputs.saturating_sub(1),
        hint = if *.inputs == 1 { ": give the stream a window of 2 or more, or kind linear with latent 0" } else { "" })]
    Latent {
        /// The kind of autoencoder.
        kind: ModelKind,
        /// The width found.
        latent: usize,
        /// Inputs of the model.
        inputs: usize,
        /// Narrowest code of the kind.
        least: usize,
    },
    /// A hidden layer of width 0 or too wide.
    #[error("hidden layer {layer} has width {width}; allowed are 1 to {WIDTH_MAX}")]
    HiddenWidth {
        /// Which layer, from 0.
        layer: usize,
        /// The width found.
        width: usize,
    },
    /// More hidden layers than allowed.
    #[error("{found} hidden layers; allowed are 0 to {HIDDEN_LAYERS_MAX}")]
    HiddenLayers {
        /// How many.
        found: usize,
    },
    /// No model, or too many.
    #[error("{found} members; allowed are 1 to {MEMBERS_MAX}: choose fewer training.folds")]
    Members {
        /// How many.
        found: usize,
    },
    /// A record has no values beside its time features.
    #[error("the {fields} values of a record are all time features: at least one must be a field")]
    NothingScored {
        /// Values of a record.
        fields: usize,
    },
    /// A torchscript model without a module.
    #[error("a torchscript model has no module: set model.script and model.sha256")]
    NoScript,
    /// No hidden layer in a kind that is made of them.
    #[error("a {} model has no hidden layers; give it 1 to {HIDDEN_LAYERS_MAX}", .kind.as_str())]
    NoHidden {
        /// The kind of autoencoder.
        kind: ModelKind,
    },
    /// A kind that looks along the window, and a window of one record.
    #[error("a {} model needs a window of 2 records or more, and the window is one record: raise window", .kind.as_str())]
    Window {
        /// The kind of autoencoder.
        kind: ModelKind,
    },
    /// A kernel or a number of samples that the kind cannot have.
    #[error("{name} {found} of a {} model; allowed is {allowed}", .kind.as_str())]
    Size {
        /// Which size.
        name: &'static str,
        /// What was found.
        found: usize,
        /// What is allowed.
        allowed: String,
        /// The kind of autoencoder.
        kind: ModelKind,
    },
    /// Hidden layers of a kind that has none.
    #[error(
        "a linear or torchscript model has no hidden layers, found {found}: leave `hidden` empty or choose kind dense"
    )]
    HiddenOfLinear {
        /// How many.
        found: usize,
    },
}
