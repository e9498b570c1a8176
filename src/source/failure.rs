//! What the errors of librdkafka mean for whoever meets them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::failure::{Failure, FailureClass};

impl Failure for KafkaError {
    fn class(&self) -> FailureClass {
        match self {
            // The properties of a client.
            Self::ClientConfig(..) | Self::ClientCreation(_) | Self::Nul(_) => FailureClass::USER,
            // A call that outlierd must not make so.
            Self::AdminOpCreation(_)
            | Self::Canceled
            | Self::PauseResume(_)
            | Self::Subscription(_) => FailureClass::INTERNAL,
            Self::Seek(_) | Self::NoMessageReceived | Self::PartitionEOF(_) => {
                FailureClass::EXTERNAL.retryable()
            }
            Self::Transaction(error) if error.is_retriable() => FailureClass::EXTERNAL.retryable(),
            Self::Transaction(error) => lasting(error.code()),
            // The client is of no use after it.
            Self::MessageConsumptionFatal(code) => lasting(*code),
            Self::AdminOp(code)
            | Self::ConsumerCommit(code)
            | Self::ConsumerQueueClose(code)
            | Self::Flush(code)
            | Self::Global(code)
            | Self::GroupListFetch(code)
            | Self::MessageConsumption(code)
            | Self::MessageProduction(code)
            | Self::MetadataFetch(code)
            | Self::OffsetFetch(code)
            | Self::Rebalance(code)
            | Self::SetPartitionOffset(code)
            | Self::StoreOffset(code)
            | Self::MockCluster(code) => of_code(*code),
            // `KafkaError` is not exhaustive.
            _ => FailureClass::EXTERNAL,
        }
    }
}

/// Codes of what passes without anybody's doing, such as a broker that is unreachable for a while;
/// where librdkafka reports one to a consumer, it retries.
fn of_code(code: RDKafkaErrorCode) -> FailureClass {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, CoordinatorLoadInProgress, CoordinatorNotAvailable,
        LeaderNotAvailable, NotLeaderForPartition, OperationTimedOut, RequestTimedOut, Resolve,
        UnknownTopicOrPartition,
    };
    match code {
        AllBrokersDown
        | BrokerTransportFailure
        | CoordinatorLoadInProgress
        | CoordinatorNotAvailable
        | LeaderNotAvailable
        | NotLeaderForPartition
        | OperationTimedOut
        | RequestTimedOut
        | Resolve
        | UnknownTopicOrPartition => FailureClass::EXTERNAL.retryable(),
        code => lasting(code),
    }
}

/// Who has to act on a code that does not pass.
fn lasting(code: RDKafkaErrorCode) -> FailureClass {
    use RDKafkaErrorCode::{
        Authentication, ClusterAuthorizationFailed, Conflict, GroupAuthorizationFailed,
        InvalidArgument, InvalidConfig, InvalidGroupId, InvalidReplicationFactor, InvalidTopic,
        MessageSizeTooLarge, NotImplemented, PolicyViolation, SaslAuthenticationFailed, State,
        TopicAuthorizationFailed, TransactionalIdAuthorizationFailed, UnsupportedSASLMechanism,
    };
    match code {
        // Credentials, ACLs, names, limits.
        Authentication
        | ClusterAuthorizationFailed
        | GroupAuthorizationFailed
        | InvalidConfig
        | InvalidGroupId
        | InvalidReplicationFactor
        | InvalidTopic
        | MessageSizeTooLarge
        | PolicyViolation
        | SaslAuthenticationFailed
        | TopicAuthorizationFailed
        | TransactionalIdAuthorizationFailed
        | UnsupportedSASLMechanism => FailureClass::USER,
        // Calls that librdkafka refuses.
        Conflict | InvalidArgument | NotImplemented | State => FailureClass::INTERNAL,
        // `RDKafkaErrorCode` is not exhaustive.
        _ => FailureClass::EXTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_broker_passes() {
        for code in [
            RDKafkaErrorCode::AllBrokersDown,
            RDKafkaErrorCode::BrokerTransportFailure,
            RDKafkaErrorCode::CoordinatorNotAvailable,
            RDKafkaErrorCode::OperationTimedOut,
        ] {
            for error in [
                KafkaError::MessageConsumption(code),
                KafkaError::MetadataFetch(code),
            ] {
                assert_eq!(error.class(), FailureClass::EXTERNAL.retryable(), "{error}");
            }
        }
    }

    #[test]
    fn a_fatal_error_does_not_pass_whatever_its_code() {
        let code = RDKafkaErrorCode::BrokerTransportFailure;
        let error = KafkaError::MessageConsumptionFatal(code);
        assert_eq!(error.class(), FailureClass::EXTERNAL);
    }

    #[test]
    fn what_the_brokers_do_not_allow_is_the_users() {
        for code in [
            RDKafkaErrorCode::SaslAuthenticationFailed,
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed,
        ] {
            let error = KafkaError::MessageConsumption(code);
            assert_eq!(error.class(), FailureClass::USER, "{error}");
        }
    }

    #[test]
    fn a_refused_call_is_a_bug() {
        let error = KafkaError::MessageProduction(RDKafkaErrorCode::InvalidArgument);
        assert_eq!(error.class(), FailureClass::INTERNAL);
    }

    #[test]
    fn a_refused_property_is_the_users() {
        let config = rdkafka::ClientConfig::new().set("no.such", "1").create();
        let error = config
            .map(|_: rdkafka::consumer::BaseConsumer| ())
            .unwrap_err();
        assert_eq!(error.class(), FailureClass::USER, "{error}");
    }
}
