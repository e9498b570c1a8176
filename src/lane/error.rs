//! Why a lane has to go back to its last commit, and how far.

use rdkafka::error::KafkaError;

use crate::model::registry::RegistryError;
use crate::pipeline::PipelineError;
use crate::pipeline::series::LoadError;
use crate::sink::SinkError;
use crate::state::StoreError;
use crate::state::changelog::ChangelogError;
use crate::state::codec::CodecError;

/// Why a lane has to go back to its last commit.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The consumer failed.
    #[error("consumer: {0}")]
    Consumer(#[from] KafkaError),
    /// Results could not be made durable.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The state could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored state could not be loaded.
    #[error(transparent)]
    Load(LoadError),
    /// A state could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The live bundle could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A step failed.
    #[error(transparent)]
    Pipeline(PipelineError),
    /// States could not be restored.
    #[error(transparent)]
    Changelog(#[from] ChangelogError),
    /// The consumer is in no group that could commit.
    #[error("the consumer is not in a consumer group")]
    NoGroup,
}

impl From<PipelineError> for LaneError {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Load(error) => error.into(),
            error => Self::Pipeline(error),
        }
    }
}

impl From<LoadError> for LaneError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => Self::Store(error),
            error => Self::Load(error),
        }
    }
}

impl LaneError {
    /// Whether the brokers ask for the transaction to be aborted, and the producer may go on after
    /// that: the group has a new generation, for one.
    pub(super) fn is_abortable(&self) -> bool {
        let Self::Sink(SinkError::Transaction {
            source: KafkaError::Transaction(error),
            ..
        }) = self
        else {
            return false;
        };
        error.txn_requires_abort()
    }

    /// The store's own failure, which does not pass while the process has it open.
    pub fn store_failure(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) | Self::Changelog(ChangelogError::Store(error)) => Some(error),
            _ => None,
        }
    }
}
