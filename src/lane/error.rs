//! Why a lane has to go back to its last commit, and how far.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::settings::StreamSettings;
use crate::failure::{Failure, FailureClass};
use crate::model::registry::RegistryError;
use crate::pipeline::PipelineError;
use crate::pipeline::series::LoadError;
use crate::sink::SinkError;
use crate::sink::topics::TopicError;
use crate::sink::transaction::Fenced;
use crate::source::cluster::{Unreachable, is_of_credentials};
use crate::source::rights::{Access, MissingRight, READ};
use crate::source::{KafkaSettings, TokenError};
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
    /// The changelog does not have the partitions of the input.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The system does not give what a request to the brokers needs.
    #[error("cannot ask the brokers for a topic: {0}")]
    Runtime(std::io::Error),
    /// The changelog lost entries while the lane ran.
    #[error("the changelog has lost entries: the lane starts again and writes the states to it")]
    ChangelogLost,
    /// The changelog lost its entries of a partition while nobody here has them.
    #[error(
        "the changelog {topic} has lost the states of partition {partition}, and this instance has not all of them: it waits for one that has"
    )]
    StatesAwaited {
        /// The changelog.
        topic: String,
        /// The first partition.
        partition: i32,
    },
    /// The broker does not have the offset that the consumer asks for.
    #[error(
        "the next offset of a partition is outside of its topic: the lane starts again and compares the two"
    )]
    OffsetOutOfRange,
    /// A step panicked.
    #[error("a step panicked, which is a bug of outlierd: {0}")]
    Panicked(String),
    /// The brokers refuse a right.
    #[error(transparent)]
    Right(MissingRight),
    /// The credentials or the certificates are not accepted.
    #[error(transparent)]
    Unreachable(Unreachable),
    /// The brokers do not accept the producer any more.
    #[error(transparent)]
    Fenced(Fenced),
    /// The consumer is in no group that could commit.
    #[error("the consumer is not in a consumer group")]
    NoGroup,
}

impl Failure for LaneError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Consumer(error) => error.class(),
            Self::Sink(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Load(error) => error.class(),
            Self::Codec(error) => error.class(),
            Self::Pipeline(error) => error.class(),
            Self::Changelog(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Topic(error) => error.class(),
            Self::Runtime(error) => error.class(),
            Self::ChangelogLost | Self::OffsetOutOfRange | Self::StatesAwaited { .. } => {
                FailureClass::EXTERNAL.retryable()
            }
            Self::Right(right) => right.class(),
            Self::Unreachable(error) => error.class(),
            Self::Fenced(error) => error.class(),
            Self::Panicked(_) => FailureClass::INTERNAL,
            // A lane that starts again joins its group again.
            Self::NoGroup => FailureClass::INTERNAL.retryable(),
        }
    }
}

impl From<TokenError> for LaneError {
    fn from(error: TokenError) -> Self {
        Self::Unreachable(error.into())
    }
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
    /// An error that ends a poll.
    pub(super) fn of_poll(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset) => Self::OffsetOutOfRange,
            _ => error.into(),
        }
    }

    /// The cause that librdkafka's error does not name: a right, with the topic, group or
    /// transactional id; the `reason` for a connection that failed; a second instance with the same
    /// id. Another error is returned as it is.
    pub(super) fn with_cause(
        self,
        kafka: &KafkaSettings,
        stream: &StreamSettings,
        transactional_id: &str,
        reason: Option<String>,
    ) -> Self {
        let read = |topic: &str, source: &KafkaError| {
            let access = Access {
                operation: READ,
                topic,
                group: &stream.input.group,
                transactional_id,
            };
            access.missing(source, kafka)
        };
        let right = match &self {
            Self::Consumer(source) => read(&stream.input.topic, source),
            Self::Changelog(ChangelogError::Read { topic, source }) => read(topic, source),
            Self::Sink(error) => error.missing_right(kafka, stream, transactional_id),
            _ => None,
        };
        let fenced = match &self {
            Self::Sink(error) => error.fenced(transactional_id).map(Self::Fenced),
            _ => None,
        };
        match (right.map(Self::Right).or(fenced), self, reason) {
            (Some(cause), _, _) => cause,
            (_, Self::Consumer(source), Some(reason)) if is_of_credentials(&source) => {
                Self::Unreachable(Unreachable::new(&kafka.brokers, reason, source))
            }
            (_, error, _) => error,
        }
    }

    /// Whether a record may be the cause, so that the same records fail again.
    pub(super) fn is_of_records(&self) -> bool {
        match self {
            Self::Sink(error) => error.is_of_message(),
            Self::Pipeline(PipelineError::Score(_)) | Self::Panicked(_) => true,
            _ => false,
        }
    }

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

    /// The store's own failure, where it does not pass while the process has the store open; else
    /// the error itself.
    ///
    /// # Errors
    /// One after which the lane can start again.
    pub fn into_store_failure(self) -> Result<StoreError, Self> {
        match self {
            Self::Store(error) | Self::Changelog(ChangelogError::Store(error))
                if !error.is_retryable() =>
            {
                Ok(error)
            }
            error => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rdkafka::error::RDKafkaErrorCode;

    use super::*;
    use crate::failure::Domain;

    fn lost() -> StoreError {
        StoreError::Access {
            stream: "pumps".into(),
            action: "written",
            domain: Domain::External,
            detail: "no space left".into(),
        }
    }

    #[test]
    fn only_a_store_that_stays_failed_ends_the_daemon() {
        let read = ChangelogError::Store(lost());
        for error in [LaneError::from(lost()), read.into()] {
            assert!(error.into_store_failure().is_ok());
        }
        let code = RDKafkaErrorCode::BrokerTransportFailure;
        let locked = StoreError::Locked {
            path: PathBuf::from("state"),
        };
        for error in [
            KafkaError::MessageConsumptionFatal(code).into(),
            LaneError::NoGroup,
            locked.into(),
        ] {
            assert!(error.into_store_failure().is_err());
        }
    }

    #[test]
    fn an_error_answers_as_the_one_that_it_wraps() {
        let delivery = |code| {
            LaneError::from(SinkError::Delivery {
                topic: "alerts".into(),
                source: KafkaError::MessageProduction(code),
            })
        };
        assert_eq!(
            delivery(RDKafkaErrorCode::AllBrokersDown).class(),
            FailureClass::EXTERNAL.retryable()
        );
        assert_eq!(
            delivery(RDKafkaErrorCode::TopicAuthorizationFailed).class(),
            FailureClass::USER
        );
        assert_eq!(LaneError::from(lost()).class(), FailureClass::EXTERNAL);
    }
}
