//! Errors of retraining.

use super::learn::LearnError;
use crate::failure::{Failure, FailureClass};
use crate::model::bundle::BundleError;
use crate::model::registry::RegistryError;
use crate::pipeline::PipelineError;
use crate::state::StoreError;
use crate::state::codec::CodecError;

/// Why a challenge failed. The live bundle stays.
#[derive(Debug, thiserror::Error)]
pub enum RetrainError {
    /// The stream has no bundle to challenge.
    #[error(
        "stream {stream} has no live bundle yet: it is still collecting the training records of the first one"
    )]
    NoChampion {
        /// The stream.
        stream: String,
    },
    /// Too little normal traffic.
    #[error(
        "too few records of normal traffic: {records} in the buffer, {held_out} of them held out for the promotion tests; the next training tries again"
    )]
    TooFew {
        /// Kept records.
        records: usize,
        /// Those of them that would be held out.
        held_out: usize,
    },
    /// The training gave the live bundle again.
    #[error("the training gave the live bundle {bundle} again: its records are the same")]
    Unchanged {
        /// Its id.
        bundle: String,
    },
    /// The training took too long.
    #[error("the training exceeded retrain.time_limit or was cancelled")]
    Cancelled,
    /// The training.
    #[error(transparent)]
    Learn(LearnError),
    /// The tests.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The model folder.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A note that cannot be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The system has no thread for it.
    #[error("cannot start the retraining thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A verdict that cannot be written.
    #[error("the verdict cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

impl Failure for RetrainError {
    fn class(&self) -> FailureClass {
        match self {
            // The next training has more records.
            Self::NoChampion { .. } | Self::TooFew { .. } => FailureClass::USER.retryable(),
            Self::Cancelled | Self::Unchanged { .. } => FailureClass::USER.retryable(),
            Self::Learn(error) => error.class(),
            Self::Pipeline(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Bundle(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Codec(error) => error.class(),
            Self::Thread(error) => error.class(),
            Self::Json(_) => FailureClass::INTERNAL,
        }
    }
}

impl From<LearnError> for RetrainError {
    fn from(error: LearnError) -> Self {
        match error {
            LearnError::Cancelled => Self::Cancelled,
            other => Self::Learn(other),
        }
    }
}
