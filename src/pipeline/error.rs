//! Failures of the pipeline for which no record is to blame.

use super::series::LoadError;
use crate::decode::batch::DecoderError;
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
    Decoder(#[from] DecoderError),
    /// The schemas of the messages cannot be had.
    #[error("the schema registry does not answer: {0}")]
    Registry(String),
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
    /// The bundle was made for windows of another length.
    #[error(
        "bundle {bundle} was trained on windows of {found} records, but stream {stream} has window = {wanted}: train a new bundle, or set window = {found}"
    )]
    Window {
        /// The bundle.
        bundle: String,
        /// The stream.
        stream: String,
        /// Records in a window of the bundle.
        found: usize,
        /// Records in a window of the stream.
        wanted: usize,
    },
    /// The bundle is one of images and the stream one of readings, or the reverse.
    #[error(
        "bundle {bundle} was trained on {}, and stream {stream} has {}: train a new bundle, or correct record.format",
        records(*.is_of_images), records(!*.is_of_images)
    )]
    Records {
        /// The bundle.
        bundle: String,
        /// The stream.
        stream: String,
        /// What the bundle is of.
        is_of_images: bool,
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

/// What a stream has, in words.
fn records(is_of_images: bool) -> &'static str {
    if is_of_images { "images" } else { "readings" }
}

impl Failure for PipelineError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Score(error) => error.class(),
            Self::Load(error) => error.class(),
            Self::Decoder(error) => error.class(),
            Self::Registry(_) => FailureClass::EXTERNAL.retryable(),
            Self::Context { .. }
            | Self::Window { .. }
            | Self::Records { .. }
            | Self::Fields { .. } => FailureClass::USER,
        }
    }
}
