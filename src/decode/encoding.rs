//! The encodings of a message: what turns its bytes into values.
//!
//! [`Encoding::read`] streams the one record of a message into its row, without a value in between;
//! [`Encoding::values`] makes the values of a message for a layout or a transform.

mod influx;
mod json_value;
mod msgpack;
mod schema;
mod table;

use serde_json::Value;

use self::schema::SchemaEncoding;
use self::table::TableLines;
use super::reader::RecordReader;
use super::schemas::{SchemaUse, StreamSchemas};
use super::walk::Row;
use super::{DecodeProblem, json};
use crate::record::format::{Format, RecordFormat};

/// See the module.
#[derive(Clone, Debug)]
pub(super) enum Encoding {
    Json,
    MsgPack,
    /// Lines of CSV.
    Csv(TableLines),
    Influx,
    /// Avro and Protobuf.
    Schema(SchemaEncoding),
}

impl Encoding {
    /// That of a format; images have none. Messages that are read by a schema have none to be read by.
    pub(super) fn new(format: &RecordFormat) -> Self {
        match format.format {
            Format::Msgpack => Self::MsgPack,
            Format::Csv => Self::Csv(TableLines::new(format)),
            Format::Influx => Self::Influx,
            Format::Json | Format::Image => Self::Json,
            Format::Avro | Format::Protobuf => {
                let (uses, none) = (SchemaUse::of(format), StreamSchemas::default());
                Self::Schema(SchemaEncoding::of_registry(uses, none))
            }
        }
    }

    /// That of a format whose schemas are in its file or in a registry.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn with_schemas(
        format: &RecordFormat,
        schemas: &StreamSchemas,
    ) -> Result<Self, String> {
        if !format.format.has_schema() {
            return Ok(Self::new(format));
        }
        let uses = SchemaUse::of(format);
        Ok(Self::Schema(match uses.open(&format.schema)? {
            Some(schema) => SchemaEncoding::of_file(uses, schema),
            None => SchemaEncoding::of_registry(uses, schemas.clone()),
        }))
    }

    /// Whether each message is one value, which can be streamed.
    pub(super) fn is_streamed(&self) -> bool {
        matches!(self, Self::Json | Self::MsgPack | Self::Schema(_))
    }

    /// What a message should be, in words.
    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Self::Json => "a JSON object",
            Self::MsgPack => "a map in MessagePack",
            Self::Csv(_) => "lines of CSV",
            Self::Influx => "line protocol",
            Self::Schema(schema) => schema.allowed(),
        }
    }

    /// Streams the record of a message into its row.
    ///
    /// # Errors
    /// Bytes in another encoding, and what the reader does not take.
    pub(super) fn read<'r, 'x>(
        &self,
        payload: &'x [u8],
        reader: &'r RecordReader,
        row: &mut Row<'r, 'x>,
    ) -> Result<(), DecodeProblem> {
        match self {
            Self::MsgPack => msgpack::read(payload, reader, row),
            Self::Schema(schema) => schema.read(payload, reader, row),
            _ => json::read(payload, reader, row),
        }
    }

    /// The values of a message.
    ///
    /// # Errors
    /// Bytes in another encoding.
    pub(super) fn values(
        &self,
        payload: &[u8],
    ) -> Result<Vec<Result<Value, DecodeProblem>>, DecodeProblem> {
        match self {
            Self::Json => json::values(payload),
            Self::MsgPack => msgpack::values(payload),
            Self::Csv(table) => table.values(payload),
            Self::Influx => influx::values(payload),
            Self::Schema(schema) => Ok(vec![schema.value(payload)]),
        }
    }
}
