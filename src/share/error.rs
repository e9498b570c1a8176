//! Why something could not be shared.

use rdkafka::error::KafkaError;

use super::history::HistoryError;
use super::sync::SyncError;
use crate::failure::{Failure, FailureClass};
use crate::signature::KeyError;
use crate::source::rights::MissingRight;
use crate::state::StoreError;

/// Why the clients could not be made, or the topics not be read.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Kafka.
    #[error("sharing: {0}")]
    Kafka(#[from] KafkaError),
    /// The brokers refuse a right on a shared topic.
    #[error("sharing: {0}")]
    Right(MissingRight),
    /// The private key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Folder or store.
    #[error("sharing: {0}")]
    Mirror(#[from] SyncError),
    /// A message could not be sent.
    #[error("topic {topic}: {source}")]
    Send {
        /// The topic.
        topic: String,
        /// librdkafka's error.
        source: KafkaError,
    },
    /// The system has no thread for it.
    #[error("cannot start the sharing thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why feedback could not be handed to the retraining now.
#[derive(Debug, thiserror::Error)]
pub(super) enum TeachError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Failure for ShareError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Kafka(error) => error.class(),
            Self::Right(right) => right.class(),
            Self::Key(error) => error.class(),
            Self::Mirror(error) => error.class(),
            Self::Send { source, .. } => source.class(),
            Self::Thread(error) => error.class(),
        }
    }
}

impl Failure for TeachError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Store(error) => error.class(),
            Self::History(error) => error.class(),
        }
    }
}
