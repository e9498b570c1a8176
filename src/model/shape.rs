//! The shape of an autoencoder: everything that fixes the sizes of its weights.
//!
//! Contract: a shape that passed [`ModelShape::validate`] can be built, trained and loaded without a size being refused
//! later on. Bounds keep a configuration (or a damaged manifest) from asking for more memory than a machine has.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::settings::ModelKind;

/// Most inputs of a model. The covariance that `linear` decomposes is `inputs x inputs` f64: 128 MiB at the bound.
pub const INPUTS_MAX: usize = 4096;
/// Widest hidden layer.
pub const WIDTH_MAX: usize = 4096;
/// Most models of an ensemble.
pub const MEMBERS_MAX: usize = 16;
/// Most hidden layers of the encoder.
pub const HIDDEN_LAYERS_MAX: usize = 8;

/// What fixes the sizes of a model's weights.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// The kind of autoencoder.
    pub kind: ModelKind,
    /// Records in a window, 1 for row models.
    pub window: usize,
    /// Fields of a record.
    pub fields: usize,
    /// Widths of the encoder's hidden layers, mirrored in the decoder; empty for `linear`.
    pub hidden: Vec<usize>,
    /// Width of the code. A `linear` model of width 0 is the mean of the training rows: a chart without a model.
    pub latent: usize,
    /// Models of these sizes whose reconstructions are averaged, 1 for a single one.
    pub members: usize,
}

/// A shape that no model can have.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ShapeError {
    /// `window` or `fields` is 0, or their product too large.
    #[error(
        "window {window} x fields {fields} gives {inputs} inputs; allowed are 1 to {INPUTS_MAX}: shorten the window or choose fewer fields",
        inputs = .window.saturating_mul(*.fields)
    )]
    Inputs {
        /// Records in a window.
        window: usize,
        /// Fields of a record.
        fields: usize,
    },
    /// The code is as wide as the input (the model could copy it), or of width 0 where that is not allowed.
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
    /// Hidden layers of a kind that has none.
    #[error("a linear model has no hidden layers, {found} found: leave `hidden` empty or choose kind dense")]
    HiddenOfLinear {
        /// How many.
        found: usize,
    },
}

impl ModelShape {
    /// Inputs of the model: `window * fields` (saturating). A window is flattened record by record, oldest first.
    pub fn inputs(&self) -> usize {
        self.window.saturating_mul(self.fields)
    }

    /// Checks that a model can have this shape.
    ///
    /// # Errors
    /// The first size that is outside its allowed range, named with that range.
    pub fn validate(&self) -> Result<(), ShapeError> {
        let inputs = self.inputs();
        if !(1..=INPUTS_MAX).contains(&inputs) {
            return Err(ShapeError::Inputs { window: self.window, fields: self.fields });
        }
        if self.hidden.len() > HIDDEN_LAYERS_MAX {
            return Err(ShapeError::HiddenLayers { found: self.hidden.len() });
        }
        if let Some((layer, &width)) =
            self.hidden.iter().enumerate().find(|(_, width)| !(1..=WIDTH_MAX).contains(*width))
        {
            return Err(ShapeError::HiddenWidth { layer, width });
        }
        if !(1..=MEMBERS_MAX).contains(&self.members) {
            return Err(ShapeError::Members { found: self.members });
        }
        let least = match self.kind {
            ModelKind::Linear if !self.hidden.is_empty() => {
                return Err(ShapeError::HiddenOfLinear { found: self.hidden.len() });
            }
            ModelKind::Linear => 0,
            ModelKind::Dense => 1,
        };
        if !(least..inputs).contains(&self.latent) {
            return Err(ShapeError::Latent { kind: self.kind, latent: self.latent, inputs, least });
        }
        Ok(())
    }

    /// Widths of the encoder's layers from the input to the code, both included.
    pub fn encoder_widths(&self) -> Vec<usize> {
        let mut widths = vec![self.inputs()];
        widths.extend(&self.hidden);
        widths.push(self.latent);
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(kind: ModelKind, window: usize, fields: usize, hidden: &[usize], latent: usize) -> ModelShape {
        ModelShape { kind, window, fields, hidden: hidden.to_vec(), latent, members: 1 }
    }

    #[test]
    fn reference_shapes_are_valid() {
        shape(ModelKind::Dense, 1, 8, &[16], 2).validate().unwrap();
        shape(ModelKind::Dense, 20, 8, &[64, 32], 4).validate().unwrap();
        shape(ModelKind::Linear, 1, 8, &[], 7).validate().unwrap();
        shape(ModelKind::Linear, 1, 1, &[], 0).validate().unwrap();
        assert_eq!(shape(ModelKind::Dense, 1, 8, &[16, 5], 2).encoder_widths(), [8, 16, 5, 2]);
    }

    #[test]
    fn each_bad_size_is_named_with_what_is_allowed() {
        let cases = [
            (shape(ModelKind::Dense, 0, 8, &[], 1), "gives 0 inputs; allowed are 1 to 4096"),
            (shape(ModelKind::Dense, usize::MAX, 2, &[], 1), "allowed are 1 to 4096"),
            (shape(ModelKind::Dense, 1, 8, &[16, 0], 2), "hidden layer 1 has width 0; allowed are 1 to 4096"),
            (shape(ModelKind::Dense, 1, 8, &[1; 9], 2), "9 hidden layers; allowed are 0 to 8"),
            (shape(ModelKind::Dense, 1, 8, &[16], 0), "latent 0 of a dense model with 8 inputs; allowed are 1 to 7"),
            (shape(ModelKind::Dense, 1, 8, &[16], 8), "allowed are 1 to 7"),
            (shape(ModelKind::Dense, 1, 1, &[16], 1), "window of 2 or more"),
            (shape(ModelKind::Linear, 1, 8, &[], 8), "latent 8 of a linear model with 8 inputs; allowed are 0 to 7"),
            (shape(ModelKind::Linear, 1, 8, &[16], 2), "choose kind dense"),
        ];
        for (shape, part) in cases {
            let message = shape.validate().unwrap_err().to_string();
            assert!(message.contains(part), "{message:?} does not contain {part:?}");
        }
    }
}
