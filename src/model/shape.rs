//! The shape of an autoencoder: everything that fixes the sizes of its weights.
//!
//! Contract: a shape that passed [`ModelShape::validate`] can be built, trained and loaded without
//! a size being refused later on. Bounds keep a configuration (or a damaged manifest) from asking
//! for more memory than a machine has.

mod error;
mod features;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub use self::error::ShapeError;
pub use self::features::{FEATURES_MAX, FeatureShape};

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
    /// The features that the model looks at; `None` for the kinds over readings and pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureShape>,
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
            input: 256,
            backbone: None,
            backbone_sha256: String::new(),
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
            features: None,
        }
    }

    /// The shape of a model for tiles of `side` x `side` pixels.
    pub fn of_tiles(model: &ModelSettings, side: usize, channels: usize) -> Self {
        Self {
            tile: side,
            ..Self::of(model, 1, side.saturating_mul(side).saturating_mul(channels))
        }
    }

    /// The shape of a model over features of images.
    pub fn of_features(model: &ModelSettings, features: FeatureShape) -> Self {
        let inputs = features.channels.saturating_mul(features.places());
        Self {
            features: Some(features),
            ..Self::of(model, 1, inputs)
        }
    }

    /// Whether it is of images.
    pub fn is_of_images(&self) -> bool {
        self.tile > 0 || self.features.is_some()
    }

    /// Places that a row of the model's inputs has, each with all channels: pixels of a tile, or
    /// cells of a feature map; 0 for records of readings.
    pub fn places(&self) -> usize {
        match &self.features {
            Some(features) => features.places(),
            None => self.tile * self.tile,
        }
    }

    /// Channels of a tile or of a cell; 0 for records of readings.
    pub fn channels(&self) -> usize {
        self.fields.checked_div(self.places()).unwrap_or(0)
    }

    /// Inputs of the model: `window * fields` (saturating). A window is flattened record by record,
    /// oldest first.
    pub fn inputs(&self) -> usize {
        self.window.saturating_mul(self.fields)
    }

    /// Readings of a record: its scored fields; of an image there is one, its brightness.
    pub fn readings(&self) -> usize {
        if self.is_of_images() {
            1
        } else {
            self.scored()
        }
    }

    /// Fields of a record that have charts; none of an image.
    pub fn charted(&self) -> usize {
        if self.is_of_images() {
            0
        } else {
            self.scored()
        }
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
        let most = if self.kind.is_of_features() {
            FEATURES_MAX
        } else if is_large {
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
        self.validate_features()?;
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

    /// The kinds over features have a feature map, the others none.
    fn validate_features(&self) -> Result<(), ShapeError> {
        let is_sound = match &self.features {
            None => !self.kind.is_of_features(),
            Some(features) => {
                self.kind.is_of_features()
                    && (self.window, self.tile, self.members) == (1, 0, 1)
                    && features.is_sound(self.inputs())
            }
        };
        match is_sound {
            true => Ok(()),
            false => Err(ShapeError::Features { kind: self.kind }),
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
mod tests;
