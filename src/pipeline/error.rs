//! Failures of the pipeline for which no record is to blame.

use super::series::LoadError;
use crate::decode::batch::NoImageSettings;
use crate::failure::{Failure, FailureClass};
use crate::score::ScoreError;

/// A step failed in a way that no record can be blamed for.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The forward pass, or a bundle that cannot score.
    #[error("score: {0}")]
    Score(#[from] ScoreError),
    /// A stored state could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The messages of the stream cannot be decoded.
    #[error(transparent)]
    Decoder(#[from] NoImageSettings),
    /// The bundle was made for another context.
    #[error(
        "bundle {bundle} was trained with time features {found}, but stream {stream} is configured with {wanted}: train a new bundle, or correct model.context"
    )]
    Context {
        /// The bundle.
        bundle: String,
        /// The stream.
        stream: String,
        /// Context of the bundle.
        found: String,
        /// Context of the stream.
        wanted: String,
    },
    /// The bundle was made for another stream configuration.
    #[error(
        "bundle {bundle} has the fields [{found}], but stream {stream} has [{wanted}]: train a new bundle, or configure the fields that it was trained on"
    )]
    Fields {
        /// The bundle.
        bundle: String,
        /// The stream.
        stream: String,
        /// Fields of the bundle.
        found: String,
        /// Fields of the stream.
        wanted: String,
    },
}

impl Failure for PipelineError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Score(error) => error.class(),
            Self::Load(error) => error.class(),
            Self::Decoder(error) => error.class(),
            Self::Context { .. } | Self::Fields { .. } => FailureClass::USER,
        }
    }
}
