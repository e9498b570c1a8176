//! Why the daemon could not start, or did not stop well.

use std::path::PathBuf;
use std::time::Duration;

use crate::destination::DestinationError;
use crate::failure::{Failure, FailureClass};
use crate::model::registry::RegistryError;
use crate::retrain::error::RetrainError;
use crate::retrain::learn::LearnError;
use crate::share::error::ShareError;
use crate::sink::SinkError;
use crate::sink::avro::RegisterError;
use crate::sink::topics::TopicError;
use crate::sink::transaction::Fenced;
use crate::state::StoreError;

/// Why the daemon could not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The state folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model folder.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A stream's first model.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// The retraining.
    #[error(transparent)]
    Retrain(#[from] RetrainError),
    /// What machines share.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The topics.
    #[error(transparent)]
    Topics(#[from] TopicError),
    /// An alert destination beside Kafka.
    #[error("stream {stream}: {source}")]
    Destination {
        /// The stream.
        stream: String,
        /// Why it takes no alerts.
        source: DestinationError,
    },
    /// The schema registry refuses the schemas of alerts and scores in Avro.
    #[error(
        "stream {stream}: {source}; let the registry accept it (the subject's compatibility), name other topics, or set output.format = \"json\""
    )]
    Register {
        /// The stream.
        stream: String,
        /// What the registry refuses, and why.
        source: RegisterError,
    },
    /// The system has no thread for an alert destination.
    #[error("cannot start the thread of an alert destination: {0}")]
    Thread(std::io::Error),
    /// The Kafka properties.
    #[error("librdkafka rejected [kafka.properties]: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The brokers have no transactions.
    #[error(
        "stream {stream}: exactly-once delivery needs transactions: {source}; allow them, or set input.delivery = \"at_least_once\""
    )]
    Transactions {
        /// The stream.
        stream: String,
        /// What the brokers say.
        source: SinkError,
    },
    /// Another instance starts with the same transactional id.
    #[error("stream {stream}: {source}")]
    Fenced {
        /// The stream.
        stream: String,
        /// Why.
        source: Fenced,
    },
    /// The HTTP address.
    #[error("service.http_listen = {address}: {source}; choose a free address, or \"\" for none")]
    Http {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The store failed while the daemon ran.
    #[error(
        "the state folder {} failed: {error}; free or repair its disk and restart: committed states are not lost",
        folder.display()
    )]
    StateLost {
        /// `service.state_dir`.
        folder: PathBuf,
        /// The store's error.
        error: StoreError,
    },
    /// A thread ended before the daemon was stopped.
    #[error(
        "thread {thread} {}: this is a bug of outlierd; committed results are not lost, and a restart resumes from them",
        panic.as_ref().map_or("ended unexpectedly".to_owned(), |text| format!("panicked: {text}"))
    )]
    ThreadEnded {
        /// Its name; see [`AppError::Drain`].
        thread: String,
        /// The message of its panic; `None` where it did not panic.
        panic: Option<String>,
    },
    /// Threads still ran at the end of the grace period.
    #[error(
        "these threads did not stop within service.drain_timeout = {} s: {}; uncommitted records are processed again after the next start",
        timeout.as_secs(), threads.join(", ")
    )]
    Drain {
        /// Their names: `STREAM-N` is a lane, `retrain-STREAM` and `train-STREAM` train models,
        /// `share` syncs bundles and feedback, `file-STREAM` delivers alerts to `output.file`.
        threads: Vec<String>,
        /// `service.drain_timeout`.
        timeout: Duration,
    },
}

impl Failure for AppError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Store(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Learn(error) => error.class(),
            Self::Retrain(error) => error.class(),
            Self::Share(error) => error.class(),
            Self::Topics(error) => error.class(),
            Self::Destination { source, .. } => source.class(),
            Self::Register { source, .. } => source.class(),
            Self::Thread(error) => error.class(),
            Self::Kafka(error) => error.class(),
            Self::Transactions { source, .. } => source.class(),
            Self::Fenced { source, .. } => source.class(),
            Self::Http { source, .. } => source.class(),
            Self::StateLost { error, .. } => error.class(),
            Self::ThreadEnded { .. } => FailureClass::INTERNAL,
            // Most wait for brokers; the next start processes the records again.
            Self::Drain { .. } => FailureClass::EXTERNAL.retryable(),
        }
    }
}
