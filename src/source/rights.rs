//! The rights that the brokers' ACLs give, in the words of `kafka-acls`: docs/kafka.md lists those
//! that outlierd needs.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::KafkaSettings;
use crate::failure::{Failure, FailureClass};

/// To consume a topic, or to be a member of a group.
pub const READ: &str = "READ";
/// To produce to a topic, or to use a transactional id.
pub const WRITE: &str = "WRITE";
/// To add partitions to a topic.
pub const ALTER: &str = "ALTER";
/// To create a topic.
pub const CREATE: &str = "CREATE";

/// A right that the brokers refuse.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the brokers refuse {operation} on {resource} {name:?}{}: grant it; docs/kafka.md has the commands",
    principal.as_ref().map_or(String::new(), |principal| format!(" to {principal}"))
)]
pub struct MissingRight {
    operation: &'static str,
    resource: &'static str,
    name: String,
    principal: Option<String>,
}

impl Failure for MissingRight {
    fn class(&self) -> FailureClass {
        FailureClass::USER
    }
}

/// What a client uses. The brokers' answer says what kind of resource they refuse, and not which.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// What is done to the topic.
    pub operation: &'static str,
    /// The topic.
    pub topic: &'a str,
    /// The consumer group.
    pub group: &'a str,
    /// The transactional id; empty where there is none.
    pub transactional_id: &'a str,
}

impl<'a> Access<'a> {
    /// What is done to a topic alone.
    pub fn of_topic(operation: &'static str, topic: &'a str) -> Self {
        Self {
            operation,
            topic,
            group: "",
            transactional_id: "",
        }
    }

    /// The right that the brokers refuse; `None` where the error has another cause.
    pub fn missing(&self, error: &KafkaError, kafka: &KafkaSettings) -> Option<MissingRight> {
        self.missing_of_code(error.rdkafka_error_code()?, kafka)
    }

    /// The same of the code that an administrative request was answered with.
    pub fn missing_of_code(
        &self,
        code: RDKafkaErrorCode,
        kafka: &KafkaSettings,
    ) -> Option<MissingRight> {
        use RDKafkaErrorCode::{
            ClusterAuthorizationFailed, GroupAuthorizationFailed, TopicAuthorizationFailed,
            TransactionalIdAuthorizationFailed,
        };
        let (operation, resource, name) = match code {
            TopicAuthorizationFailed => (self.operation, "topic", self.topic),
            GroupAuthorizationFailed => (READ, "group", self.group),
            TransactionalIdAuthorizationFailed => {
                (WRITE, "transactional-id", self.transactional_id)
            }
            // Brokers before 2.8 ask a producer for it.
            ClusterAuthorizationFailed => ("IDEMPOTENT_WRITE", "cluster", "kafka-cluster"),
            _ => return None,
        };
        Some(MissingRight {
            operation,
            resource,
            name: name.to_owned(),
            principal: kafka.principal(),
        })
    }
}

/// Whether the brokers do not let the client find its group. One that joins no group does not need
/// it: librdkafka asks all the same.
pub fn is_of_group(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(code: RDKafkaErrorCode, user: Option<&str>) -> Option<String> {
        let mut kafka = KafkaSettings::to("b:1");
        let user = user.map(|user| ("sasl.username".to_owned(), user.to_owned()));
        kafka.properties.extend(user);
        let access = Access {
            operation: READ,
            topic: "plant.pumps",
            group: "outlierd-pumps",
            transactional_id: "outlierd-pumps-7f-0",
        };
        let right = access.missing(&KafkaError::MessageConsumption(code), &kafka)?;
        assert_eq!(right.class(), FailureClass::USER);
        Some(right.to_string())
    }

    #[test]
    fn a_missing_right_names_operation_resource_and_principal() {
        let topic = text(RDKafkaErrorCode::TopicAuthorizationFailed, Some("anna"));
        assert_eq!(
            topic.unwrap(),
            "the brokers refuse READ on topic \"plant.pumps\" to User:anna: grant it; docs/kafka.md has the commands"
        );
        let group = text(RDKafkaErrorCode::GroupAuthorizationFailed, None).unwrap();
        assert!(
            group.contains("READ on group \"outlierd-pumps\": grant"),
            "{group}"
        );
        let id = text(RDKafkaErrorCode::TransactionalIdAuthorizationFailed, None).unwrap();
        assert!(
            id.contains("WRITE on transactional-id \"outlierd-pumps-7f-0\""),
            "{id}"
        );
    }

    #[test]
    fn another_error_is_no_missing_right() {
        assert_eq!(text(RDKafkaErrorCode::AllBrokersDown, None), None);
        assert_eq!(text(RDKafkaErrorCode::SaslAuthenticationFailed, None), None);
    }
}
