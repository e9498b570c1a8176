//! The shape of an autoencoder: everything that fixes the sizes of its weights.
//!
//! Contract: a shape that passed [`ModelShape::validate`] can be built, trained and loaded without
//! a size being refused later on. Bounds keep a configuration (or a damaged manifest) from asking
//! for more memory than a machine has.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{INPUTS_MAX, ModelKind, ModelSettings, TimeFeature};

/// Most inputs of a model over tiles: 512 x 512 pixels in three colours.
pub const TILE_INPUTS_MAX: usize = 512 * 512 * 3;
/// Widest hidden layer.
pub const WIDTH_MAX: usize = 4096;
/// Most models of an ensemble.
pub const MEMBERS_MAX: usize = 16;
/// Most hidden layers of the encoder.
pub const HIDDEN_LAYERS_MAX: usize = 8;
/// Widest kernel of a convolution.
pub const KERNEL_MAX: usize = 63;
/// Most codes that are drawn for a window.
pub const SAMPLES_MAX: usize = 64;

/// What fixes the sizes of a model's weights.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// The kind of autoencoder.
    pub kind: ModelKind,
    /// Records in a window, 1 for row models.
    pub window: usize,
    /// Values of a record: its fields, and behind them its time features.
    pub fields: usize,
    /// The time features of each record; see [`super::context`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<TimeFeature>,
    /// Widths of the encoder's hidden layers, mirrored in the decoder: units, or channels of
    /// convolutions; empty for `linear`.
    pub hidden: Vec<usize>,
    /// Width of the code. A `linear` model of width 0 is the mean of the training rows: a chart
    /// without a model.
    pub latent: usize,
    /// Models of these sizes whose reconstructions are averaged, 1 for a single one.
    pub members: usize,
    /// Records or pixels that a kernel spans, odd; 0 for kinds without convolutions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kernel: usize,
    /// Pixels of a tile's side; its values are the fields, channel by channel, row by row. 0 for
    /// records of readings.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tile: usize,
    /// SHA-256 of a torchscript model's module; `None` for the other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Codes that are drawn for each window; 0 for kinds that draw none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub samples: usize,
}

/// Manifests of kinds without a size do not mention it: their ids are what they were before there
/// was one.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_zero(size: &usize) -> bool {
    *size == 0
}

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

impl ModelShape {
    /// A single model of a kind; kernel and samples are those of `config/default.toml` where the
    /// kind has them.
    pub fn new(
        kind: ModelKind,
        window: usize,
        fields: usize,
        hidden: &[usize],
        latent: usize,
    ) -> Self {
        let (hidden, context, time_zone) = (hidden.to_vec(), Vec::new(), TimeZone::UTC);
        let sizes = ModelSettings {
            kind,
            linear_unless_better: false,
            hidden,
            latent,
            kernel: 5,
            samples: 8,
            context,
            time_zone,
            holidays: Vec::new(),
            script: None,
            sha256: String::new(),
        };
        Self::of(&sizes, window, fields)
    }

    /// The shape of a single model for records of `fields` fields with the settings' sizes, of
    /// which it takes those that its kind has.
    pub fn of(model: &ModelSettings, window: usize, fields: usize) -> Self {
        let kind = model.kind;
        let hidden = if kind.has_layers() {
            model.hidden.clone()
        } else {
            Vec::new()
        };
        let script = model.module().map(|module| module.sha256);
        let latent = if kind.has_code() { model.latent } else { 0 };
        let kernel = if kind.is_convolutional() {
            model.kernel
        } else {
            0
        };
        let samples = if kind.is_variational() {
            model.samples
        } else {
            0
        };
        let context = model.context.clone();
        let fields = fields + TimeFeature::inputs(&context);
        Self {
            kind,
            window,
            fields,
            context,
            hidden,
            latent,
            members: 1,
            kernel,
            tile: 0,
            script,
            samples,
        }
    }

    /// The shape of a model for tiles of `side` x `side` pixels.
    pub fn of_tiles(model: &ModelSettings, side: usize, channels: usize) -> Self {
        Self {
            tile: side,
            ..Self::of(model, 1, side.saturating_mul(side).saturating_mul(channels))
        }
    }

    /// Channels of a tile; 0 for records of readings.
    pub fn channels(&self) -> usize {
        self.fields.checked_div(self.tile * self.tile).unwrap_or(0)
    }

    /// Inputs of the model: `window * fields` (saturating). A window is flattened record by record,
    /// oldest first.
    pub fn inputs(&self) -> usize {
        self.window.saturating_mul(self.fields)
    }

    /// Readings of a record: its scored fields; of an image there is one, its brightness.
    pub fn readings(&self) -> usize {
        if self.tile > 0 { 1 } else { self.scored() }
    }

    /// Fields of a record that are scored: the first ones of its values.
    pub fn scored(&self) -> usize {
        self.fields
            .saturating_sub(TimeFeature::inputs(&self.context))
    }

    /// Checks that a model can have this shape.
    ///
    /// # Errors
    /// The first size that is outside its allowed range, named with that range.
    pub fn validate(&self) -> Result<(), ShapeError> {
        let inputs = self.inputs();
        let is_large = self.kind.is_spatial() || (self.kind.is_script() && self.tile > 0);
        let most = if is_large {
            TILE_INPUTS_MAX
        } else {
            INPUTS_MAX
        };
        if !(1..=most).contains(&inputs) {
            return Err(ShapeError::Inputs {
                window: self.window,
                fields: self.fields,
                most,
            });
        }
        self.validate_tile()?;
        if self.scored() == 0 {
            return Err(ShapeError::NothingScored {
                fields: self.fields,
            });
        }
        if self.hidden.len() > HIDDEN_LAYERS_MAX {
            return Err(ShapeError::HiddenLayers {
                found: self.hidden.len(),
            });
        }
        if let Some((layer, &width)) = self
            .hidden
            .iter()
            .enumerate()
            .find(|(_, width)| !(1..=WIDTH_MAX).contains(*width))
        {
            return Err(ShapeError::HiddenWidth { layer, width });
        }
        if !(1..=MEMBERS_MAX).contains(&self.members) {
            return Err(ShapeError::Members {
                found: self.members,
            });
        }
        self.validate_kind()?;
        let least = self.kind.code_min_of(inputs).unwrap_or(0);
        if !(least..inputs).contains(&self.latent) {
            return Err(ShapeError::Latent {
                kind: self.kind,
                latent: self.latent,
                inputs,
                least,
            });
        }
        Ok(())
    }

    /// Tiles are square, and large enough to be halved by each layer.
    fn validate_tile(&self) -> Result<(), ShapeError> {
        if self.tile == 0 && !self.kind.is_spatial() {
            return Ok(());
        }
        let halvings = self.kind.halvings(self.hidden.len());
        let is_square = matches!(self.channels(), 1 | 3)
            && self.tile * self.tile * self.channels() == self.fields;
        match is_square && self.window == 1 && self.tile >> halvings >= 2 {
            true => Ok(()),
            false => Err(ShapeError::Tile {
                values: self.fields,
                tile: self.tile,
                halvings,
            }),
        }
    }

    /// What the kind asks for.
    fn validate_kind(&self) -> Result<(), ShapeError> {
        let kind = self.kind;
        match kind {
            _ if !kind.has_layers() && !self.hidden.is_empty() => {
                return Err(ShapeError::HiddenOfLinear {
                    found: self.hidden.len(),
                });
            }
            _ if kind.is_script() && self.script.is_none() => return Err(ShapeError::NoScript),
            _ if kind.needs_layers() && self.hidden.is_empty() => {
                return Err(ShapeError::NoHidden { kind });
            }
            _ => {}
        }
        if kind.is_windowed() && self.window < 2 {
            return Err(ShapeError::Window { kind });
        }
        let fits = |has: bool, value: usize, most: usize| {
            if has {
                (1..=most).contains(&value)
            } else {
                value == 0
            }
        };
        let allowed = |has: bool, range: String| if has { range } else { "none".to_owned() };
        let (convolves, draws) = (kind.is_convolutional(), kind.is_variational());
        if !fits(convolves, self.kernel, KERNEL_MAX) || (convolves && self.kernel.is_multiple_of(2))
        {
            let allowed = allowed(convolves, format!("an odd one, 1 to {KERNEL_MAX}"));
            return Err(ShapeError::Size {
                name: "kernel",
                found: self.kernel,
                allowed,
                kind,
            });
        }
        if !fits(draws, self.samples, SAMPLES_MAX) {
            let allowed = allowed(draws, format!("1 to {SAMPLES_MAX}"));
            return Err(ShapeError::Size {
                name: "samples",
                found: self.samples,
                allowed,
                kind,
            });
        }
        Ok(())
    }

    /// Widths of the encoder's layers from the input to the code, both included.
    ///
    /// Of a variational model the last one is the mean and the logarithm of the variance of its
    /// code.
    pub fn encoder_widths(&self) -> Vec<usize> {
        let mut widths = vec![self.inputs()];
        widths.extend(&self.hidden);
        widths.push(self.codes());
        widths
    }

    /// What the encoder gives: the code, or the mean and the logarithm of the variance of a
    /// variational one.
    pub fn codes(&self) -> usize {
        if self.kind.is_variational() {
            2 * self.latent
        } else {
            self.latent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(
        kind: ModelKind,
        window: usize,
        fields: usize,
        hidden: &[usize],
        latent: usize,
    ) -> ModelShape {
        ModelShape {
            hidden: hidden.to_vec(),
            ..ModelShape::new(kind, window, fields, hidden, latent)
        }
    }

    #[test]
    fn reference_shapes_are_valid() {
        shape(ModelKind::Dense, 1, 8, &[16], 2).validate().unwrap();
        shape(ModelKind::Dense, 20, 8, &[64, 32], 4)
            .validate()
            .unwrap();
        shape(ModelKind::Linear, 1, 8, &[], 7).validate().unwrap();
        shape(ModelKind::Linear, 1, 1, &[], 0).validate().unwrap();
        assert_eq!(
            shape(ModelKind::Dense, 1, 8, &[16, 5], 2).encoder_widths(),
            [8, 16, 5, 2]
        );
    }

    #[test]
    fn each_bad_size_is_named_with_what_is_allowed() {
        let cases = [
            (
                shape(ModelKind::Dense, 0, 8, &[], 1),
                "gives 0 inputs; allowed are 1 to 4096",
            ),
            (
                shape(ModelKind::Dense, usize::MAX, 2, &[], 1),
                "allowed are 1 to 4096",
            ),
            (
                shape(ModelKind::Dense, 1, 8, &[16, 0], 2),
                "hidden layer 1 has width 0; allowed are 1 to 4096",
            ),
            (
                shape(ModelKind::Dense, 1, 8, &[1; 9], 2),
                "9 hidden layers; allowed are 0 to 8",
            ),
            (
                shape(ModelKind::Dense, 1, 8, &[16], 0),
                "latent 0 of a dense model with 8 inputs; allowed are 1 to 7",
            ),
            (
                shape(ModelKind::Dense, 1, 8, &[16], 8),
                "allowed are 1 to 7",
            ),
            (
                shape(ModelKind::Dense, 1, 1, &[16], 1),
                "window of 2 or more",
            ),
            (
                shape(ModelKind::Linear, 1, 8, &[], 8),
                "latent 8 of a linear model with 8 inputs; allowed are 0 to 7",
            ),
            (
                shape(ModelKind::Linear, 1, 8, &[16], 2),
                "choose kind dense",
            ),
        ];
        for (shape, part) in cases {
            let message = shape.validate().unwrap_err().to_string();
            assert!(
                message.contains(part),
                "{message:?} does not contain {part:?}"
            );
        }
    }
}
