//! Schemas by their id, and their registration, in a registry with Confluent's REST API (Confluent Schema
//! Registry, Apicurio under `/apis/ccompat/v7`, Karapace, Redpanda).
//!
//! [`client`] makes the requests, which block; [`cache`] asks in a thread and never blocks a caller.

use crate::failure::{Failure, FailureClass};

pub mod cache;
pub mod client;
mod settings;

#[cfg(test)]
mod tests;

pub use self::settings::RegistrySettings;

/// The language of a schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchemaType {
    /// Avro, in JSON.
    Avro,
    /// A `.proto` file.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl SchemaType {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
            Self::Json => "JSON",
        }
    }

    fn of(name: &str) -> Option<Self> {
        let all = [Self::Avro, Self::Protobuf, Self::Json];
        all.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A schema as the registry has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisteredSchema {
    /// Its id, which messages carry.
    pub id: u32,
    /// Its language.
    pub schema_type: SchemaType,
    /// Its text.
    pub text: String,
    /// Names (as the text uses them) and texts of the schemas that it uses, each after those that it
    /// needs itself.
    pub references: Vec<(String, String)>,
}

/// Why there is no answer, or not the one that was hoped for. No message has a secret in it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaRegistryError {
    /// No URL answers, or none lets us in: the same request may succeed later.
    #[error("{0}")]
    Unreachable(String),
    /// The registry does not have it.
    #[error("{0}")]
    Unknown(String),
    /// The registry refuses it, or its answer is of no use: repeating the request changes nothing.
    #[error("{0}")]
    Refused(String),
}

impl Failure for SchemaRegistryError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Unreachable(_) => FailureClass::EXTERNAL.retryable(),
            Self::Unknown(_) | Self::Refused(_) => FailureClass::USER,
        }
    }
}
