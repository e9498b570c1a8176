//! Avro and Protobuf: messages that are read by a schema, from a file or from a registry. Those of a
//! registry begin with Confluent's frame: a zero byte, the id of the schema in four bytes (big-endian),
//! and for Protobuf the message in the schema.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::json_value::JsonSeed;
use crate::decode::DecodeProblem;
use crate::decode::avro::AvroSchema;
use crate::decode::protobuf::ProtobufMessage;
use crate::decode::reader::RecordReader;
use crate::decode::schemas::{Compiled, SchemaUse, StreamSchema, StreamSchemas};
use crate::decode::walk::Row;
use crate::record::RejectReason;
use crate::record::format::Format;
use crate::schema_registry::cache::SchemaLookup;

/// What the single-object encoding of Avro begins with; the fingerprint of the schema follows in eight
/// bytes (little-endian).
const SINGLE_OBJECT: [u8; 2] = [0xC3, 0x01];

/// A schema of the registry, for the messages of one batch.
#[derive(Clone, Debug)]
enum ResolvedSchema {
    Known(Arc<Compiled>),
    Unknown(Arc<str>),
}

#[derive(Clone, Debug)]
enum SchemaSource {
    File(Arc<StreamSchema>),
    Registry {
        schemas: StreamSchemas,
        /// By id, those that the messages of the present batch name, and those of earlier ones.
        resolved: HashMap<u32, ResolvedSchema>,
    },
}

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::decode) struct SchemaEncoding {
    uses: SchemaUse,
    source: SchemaSource,
}

/// A message with what it is read by.
enum SchemaPart<'s, 'x> {
    Avro(&'s AvroSchema, &'x [u8]),
    Protobuf(ProtobufMessage, &'x [u8]),
}

impl SchemaEncoding {
    /// Messages of a schema file.
    pub(super) fn of_file(uses: SchemaUse, schema: StreamSchema) -> Self {
        let source = SchemaSource::File(Arc::new(schema));
        Self { uses, source }
    }

    /// Messages that name their schema in the registry.
    pub(super) fn of_registry(uses: SchemaUse, schemas: StreamSchemas) -> Self {
        let resolved = HashMap::new();
        let source = SchemaSource::Registry { schemas, resolved };
        Self { uses, source }
    }

    /// What a message should be, in words.
    pub(in crate::decode) fn allowed(&self) -> &'static str {
        match self.uses.format() {
            Format::Protobuf => "a message in Protobuf",
            _ => "a record in Avro",
        }
    }

    /// Whether messages name their schemas in a registry.
    pub(in crate::decode) fn needs_registry(&self) -> bool {
        matches!(self.source, SchemaSource::Registry { .. })
    }

    /// Why the registry does not answer, while it does not.
    pub(in crate::decode) fn trouble(&self) -> Option<String> {
        match &self.source {
            SchemaSource::Registry { schemas, .. } => schemas.trouble(),
            SchemaSource::File(_) => None,
        }
    }

    /// Begins a batch: ids that were unknown may be known by now.
    pub(in crate::decode) fn begin_batch(&mut self) {
        if let SchemaSource::Registry { resolved, .. } = &mut self.source {
            resolved.retain(|_, schema| matches!(schema, ResolvedSchema::Known(_)));
        }
    }

    /// Looks up the schema of a message of the batch. Returns whether the registry has answered.
    pub(in crate::decode) fn resolve(&mut self, payload: &[u8]) -> bool {
        let SchemaSource::Registry { schemas, resolved } = &mut self.source else {
            return true;
        };
        let Some((id, _)) = frame(payload) else {
            return true;
        };
        if resolved.contains_key(&id) {
            return true;
        }
        let found = match schemas.lookup(id, &self.uses) {
            SchemaLookup::Known(schema) => ResolvedSchema::Known(schema),
            SchemaLookup::Unknown(reason) => ResolvedSchema::Unknown(reason),
            SchemaLookup::Pending => return false,
        };
        resolved.insert(id, found);
        true
    }

    /// The schema of a message, and its bytes behind the frame.
    fn part<'s, 'x>(&'s self, payload: &'x [u8]) -> Result<SchemaPart<'s, 'x>, DecodeProblem> {
        let (schema, bytes) = match &self.source {
            SchemaSource::File(schema) => (&**schema, payload),
            SchemaSource::Registry { resolved, .. } => registered(resolved, payload)?,
        };
        Ok(match schema {
            StreamSchema::Avro(schema) => match &self.source {
                SchemaSource::File(_) => {
                    SchemaPart::Avro(schema, without_fingerprint(schema, bytes))
                }
                SchemaSource::Registry { .. } => SchemaPart::Avro(schema, bytes),
            },
            StreamSchema::Message(message) => SchemaPart::Protobuf(message.clone(), bytes),
            StreamSchema::Protobuf(schema) => {
                let (message, bytes) = schema.framed(bytes).map_err(not_decodable)?;
                SchemaPart::Protobuf(message, bytes)
            }
        })
    }

    /// Streams the record of a message into its row.
    ///
    /// # Errors
    /// A message of another schema, a schema that is not known, and what the reader does not take.
    pub(super) fn read<'r, 'x>(
        &self,
        payload: &'x [u8],
        reader: &'r RecordReader,
        row: &mut Row<'r, 'x>,
    ) -> Result<(), DecodeProblem> {
        match self.part(payload)? {
            SchemaPart::Avro(schema, bytes) => {
                let read = schema.deserialize(bytes, reader.seed(row));
                read.map_err(|error| {
                    row.problem_or(|| not_decodable(format!("not a {}: {error}", schema.name())))
                })
            }
            SchemaPart::Protobuf(message, bytes) => {
                let value = message.decode(bytes).map_err(not_decodable)?;
                if let Err(error) = reader.walk(value, row) {
                    return Err(row.problem_or(|| not_decodable(error.to_string())));
                }
                if row.values.iter().all(|value| value.is_nan()) {
                    let has_path = |path: &[String]| message.has_path(path);
                    let checked = self.uses.check(message.name(), &message.fields(), has_path);
                    return checked.map_err(unusable);
                }
                Ok(())
            }
        }
    }

    /// The value of a message.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn value(&self, payload: &[u8]) -> Result<Value, DecodeProblem> {
        match self.part(payload)? {
            SchemaPart::Avro(schema, bytes) => {
                let read = schema.deserialize(bytes, JsonSeed);
                read.map_err(|error| not_decodable(format!("not a {}: {error}", schema.name())))
            }
            SchemaPart::Protobuf(message, bytes) => message.decode(bytes).map_err(not_decodable),
        }
    }
}

/// The id of the schema and what follows, if the message has a frame.
fn frame(payload: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = payload.split_first_chunk::<5>()?;
    let [0, id @ ..] = *head else { return None };
    Some((u32::from_be_bytes(id), rest))
}

/// The schema that a message names in its frame.
fn registered<'s, 'x>(
    resolved: &'s HashMap<u32, ResolvedSchema>,
    payload: &'x [u8],
) -> Result<(&'s StreamSchema, &'x [u8]), DecodeProblem> {
    let (id, bytes) = frame(payload).ok_or_else(|| {
        not_decodable(
            "it does not begin with the frame of a schema registry: a zero byte and the id of its schema; \
             record.schema.file reads messages without one"
                .to_owned(),
        )
    })?;
    match resolved.get(&id) {
        Some(ResolvedSchema::Known(schema)) => match &**schema {
            Ok(schema) => Ok((schema, bytes)),
            Err(fault) => Err(unusable(format!("schema {id}: {fault}"))),
        },
        found => {
            let reason = match found {
                Some(ResolvedSchema::Unknown(reason)) => reason,
                _ => "it was not looked up",
            };
            let detail = format!("schema {id} is not known to the registry: {reason}");
            Err(DecodeProblem::new(RejectReason::UnknownSchema, detail))
        }
    }
}

/// The datum of a message in Avro's single-object encoding; other messages are data as they are.
fn without_fingerprint<'x>(schema: &AvroSchema, bytes: &'x [u8]) -> &'x [u8] {
    let rest = bytes.strip_prefix(&SINGLE_OBJECT);
    let rest = rest.and_then(|rest| rest.strip_prefix(&schema.fingerprint().to_le_bytes()));
    rest.unwrap_or(bytes)
}

fn unusable(detail: String) -> DecodeProblem {
    DecodeProblem::new(RejectReason::UnusableSchema, detail)
}

fn not_decodable(detail: String) -> DecodeProblem {
    DecodeProblem::new(RejectReason::NotDecodable, detail)
}

#[cfg(test)]
mod tests;
