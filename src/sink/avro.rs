//! Alerts and scores in Avro. Each is behind the id of its schema in a registry: a zero byte, the id in
//! four bytes (big-endian), the record (Confluent's wire format).
//!
//! The schemas are compiled in, and are registered under the name of their topic and `-value`. Every
//! field that may be absent has a default, and every enum has the default `unknown`, which is never
//! written: a release may add fields and symbols, and readers of other releases still read.

use apache_avro::{Schema, to_avro_datum, to_value};
use serde::Serialize;

use crate::config::settings::OutputSettings;
use crate::failure::{Failure, FailureClass};
use crate::schema_registry::client::RegistryClient;
use crate::schema_registry::{RegisteredSchema, RegistrySettings, SchemaRegistryError, SchemaType};

#[cfg(test)]
mod tests;

/// The schema of alerts, that of `record::alert::Alert`.
pub const ALERT_SCHEMA: &str = include_str!("../../schemas/alert.avsc");
/// The schema of scores, that of `record::score::RecordScore`.
pub const SCORE_SCHEMA: &str = include_str!("../../schemas/score.avsc");

/// The first byte of a value in the frame of a registry.
const MAGIC: u8 = 0;

/// The registry does not have a schema, and does not take it.
#[derive(Debug, thiserror::Error)]
#[error("the schema of the messages cannot be registered as {subject:?}: {source}")]
pub struct RegisterError {
    subject: String,
    source: SchemaRegistryError,
}

impl Failure for RegisterError {
    fn class(&self) -> FailureClass {
        self.source.class()
    }
}

/// The subject of the values of a topic.
fn subject_of(topic: &str) -> String {
    format!("{topic}-value")
}

/// The subjects of a stream's outputs, each with its schema.
pub fn subjects(output: &OutputSettings) -> impl Iterator<Item = (String, &'static str)> {
    let scores = output.scores.as_deref().map(|topic| (topic, SCORE_SCHEMA));
    let all = [Some((output.alerts.as_str(), ALERT_SCHEMA)), scores];
    let all = all.into_iter().flatten();
    all.map(|(topic, schema)| (subject_of(topic), schema))
}

/// Writes values of one type.
pub struct AvroWriter {
    schema: Schema,
    registered: RegisteredSchema,
}

impl AvroWriter {
    /// A writer whose schema is registered under the subject of a topic: it is looked up first, which
    /// needs no right to register.
    fn register(client: &RegistryClient, topic: &str, text: &str) -> Result<Self, RegisterError> {
        let subject = subject_of(topic);
        let found = match client.find(&subject, SchemaType::Avro, text) {
            Err(SchemaRegistryError::Unknown(_)) => {
                client.register(&subject, SchemaType::Avro, text)
            }
            found => found,
        };
        found
            .and_then(|id| Self::new(id, text))
            .map_err(|source| RegisterError { subject, source })
    }

    fn new(id: u32, text: &str) -> Result<Self, SchemaRegistryError> {
        let schema = Schema::parse_str(text);
        Ok(Self {
            schema: schema.map_err(|error| SchemaRegistryError::Refused(error.to_string()))?,
            registered: RegisteredSchema {
                id,
                schema_type: SchemaType::Avro,
                text: text.to_owned(),
                references: Vec::new(),
            },
        })
    }

    /// The schema as the registry has it.
    pub fn registered(&self) -> &RegisteredSchema {
        &self.registered
    }

    /// A value in its frame.
    ///
    /// # Errors
    /// What of the value the schema does not hold, such as an integer of more than 63 bits.
    pub fn write(&self, value: &impl Serialize) -> Result<Vec<u8>, apache_avro::Error> {
        // By the names of fields: those that the value leaves out get their defaults.
        let tree = to_value(value)?.resolve(&self.schema)?;
        let datum = to_avro_datum(&self.schema, tree)?;
        let mut framed = Vec::with_capacity(datum.len() + 5);
        framed.push(MAGIC);
        framed.extend(self.registered.id.to_be_bytes());
        framed.extend(datum);
        Ok(framed)
    }
}

/// The writers of a stream.
pub struct AvroOutput {
    /// Of its alerts.
    pub alerts: AvroWriter,
    /// Of its scores, where it publishes them.
    pub scores: Option<AvroWriter>,
}

impl AvroOutput {
    /// Registers the schemas of a stream's outputs in a registry, where they are not there yet.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn register(
        registry: &RegistrySettings,
        output: &OutputSettings,
    ) -> Result<Self, RegisterError> {
        let client = RegistryClient::open(registry).map_err(|source| RegisterError {
            subject: subject_of(&output.alerts),
            source,
        })?;
        let scores = output.scores.as_deref();
        let scores = scores.map(|topic| AvroWriter::register(&client, topic, SCORE_SCHEMA));
        Ok(Self {
            alerts: AvroWriter::register(&client, &output.alerts, ALERT_SCHEMA)?,
            scores: scores.transpose()?,
        })
    }
}
