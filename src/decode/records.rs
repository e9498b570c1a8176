//! The decoder of a stream's readings: messages become records.
//!
//! A message passes these steps: it is unpacked ([`super::unpack`]), its encoding is read
//! ([`super::encoding`]), `record.transform` runs ([`super::transform`]), the layout finds the records
//! ([`super::layout`]), and each is read at its configured places ([`super::reader`]). Where a message is
//! one record as it is, its encoding is streamed into the row in one pass.
//!
//! Where a message holds several records, each has its number in the message, also in alert ids and
//! dead letters, and a bad one among good ones is rejected alone.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::encoding::Encoding;
use super::layout::{LayoutReader, Part};
use super::reader::{BatchBuilder, DecodedRecord, RecordReader};
use super::schemas::StreamSchemas;
use super::transform::Transform;
use super::unpack::unpacked;
use super::walk::Row;
use super::{DecodeProblem, meta};
use crate::record::format::{Layout, RecordFormat};
use crate::record::{Batch, Message, PARTS_MAX, RejectReason};

/// Records of a batch after which the next one begins.
const BATCH_RECORDS: usize = 20_000;

/// How often [`Decoder::await_schemas`] looks whether the registry has answered.
const REGISTRY_PACE: Duration = Duration::from_millis(5);

/// Reads the messages of one stream.
pub struct Decoder {
    reader: RecordReader,
    encoding: Encoding,
    /// How a message is more than one record as it is.
    shape: Option<Shape>,
    /// Longest payload that is read, packed or not.
    max_payload_bytes: usize,
}

struct Shape {
    layout: LayoutReader,
    transform: Option<Transform>,
    /// Whether each message is one record.
    is_single: bool,
}

impl Shape {
    /// Adds the records of a value to those of its message.
    fn split(&self, value: Value, parts: &mut Vec<Part>) -> Result<(), DecodeProblem> {
        let values = match &self.transform {
            Some(transform) => transform.run(value)?,
            None => vec![value],
        };
        let mut values = values.into_iter();
        values.try_for_each(|value| self.layout.split(value, parts))
    }
}

impl Decoder {
    /// A decoder of records of `format`, which was checked and has no schema.
    pub fn new(format: &RecordFormat) -> Self {
        Self::of(format, Encoding::new(format))
    }

    /// The same of any format; its schemas are in its file or in a registry.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn with_schemas(format: &RecordFormat, schemas: &StreamSchemas) -> Result<Self, String> {
        Encoding::with_schemas(format, schemas).map(|encoding| Self::of(format, encoding))
    }

    fn of(format: &RecordFormat, encoding: Encoding) -> Self {
        let transform = Transform::new(&format.transform);
        let is_row = format.layout == Layout::Row && encoding.is_streamed();
        let is_streamed = is_row && transform.is_none();
        Self {
            reader: RecordReader::new(format),
            shape: (!is_streamed).then(|| Shape {
                layout: LayoutReader::new(format),
                is_single: format.has_single_records(),
                transform,
            }),
            encoding,
            max_payload_bytes: format.max_payload_bytes,
        }
    }

    /// Whether messages name their schemas in a registry.
    pub fn needs_registry(&self) -> bool {
        matches!(&self.encoding, Encoding::Schema(schema) if schema.needs_registry())
    }

    /// Looks up the schemas of the messages that are to be decoded next. Returns whether the registry
    /// has answered for all of them; only then may they be.
    pub fn resolve(&mut self, messages: &[Message<'_>]) -> bool {
        let bytes_max = self.max_payload_bytes;
        let Encoding::Schema(encoding) = &mut self.encoding else {
            return true;
        };
        encoding.begin_batch();
        let mut is_complete = true;
        for message in messages {
            let payload = meta::payload(message, bytes_max, encoding.allowed());
            if let Ok(payload) = payload.and_then(|payload| unpacked(payload, bytes_max)) {
                // All are looked up at once, so that the registry is asked for all of them.
                is_complete &= encoding.resolve(&payload);
            }
        }
        is_complete
    }

    /// The same, and waits for the registry for as long as `patience`.
    ///
    /// # Errors
    /// Why the registry does not answer.
    pub fn await_schemas(
        &mut self,
        messages: &[Message<'_>],
        patience: Duration,
    ) -> Result<(), String> {
        let began = Instant::now();
        while !self.resolve(messages) {
            if began.elapsed() > patience {
                return Err(match &self.encoding {
                    Encoding::Schema(schema) => schema.trouble().unwrap_or_default(),
                    _ => String::new(),
                });
            }
            std::thread::sleep(REGISTRY_PACE);
        }
        Ok(())
    }

    /// Decodes all of some messages.
    pub fn decode<'a>(&self, messages: &[Message<'a>]) -> Batch<'a> {
        let mut batch = BatchBuilder::new(&self.reader, messages.len());
        for (index, message) in messages.iter().enumerate() {
            self.decode_one(message, index, &mut batch);
        }
        batch.finish()
    }

    /// Decodes the messages from `first` on, as many as a batch should hold: each becomes records and
    /// rejections, in their order. The indices are those in `messages`. Returns the first message that
    /// was not looked at.
    pub fn decode_from<'a>(&self, messages: &[Message<'a>], first: usize) -> (Batch<'a>, usize) {
        let left = messages.len().saturating_sub(first);
        let mut batch = BatchBuilder::new(&self.reader, left);
        for (index, message) in messages.iter().enumerate().skip(first) {
            if batch.len() >= BATCH_RECORDS {
                return (batch.finish(), index);
            }
            self.decode_one(message, index, &mut batch);
        }
        (batch.finish(), messages.len())
    }

    fn decode_one<'a>(
        &self,
        message: &Message<'a>,
        index: usize,
        batch: &mut BatchBuilder<'_, 'a>,
    ) {
        let Some(shape) = &self.shape else {
            batch.add(message, (index, None), |reader, row| {
                self.read(message, reader, row)
            });
            return;
        };
        match self.parts(message, shape) {
            Ok(parts) => {
                for (number, part) in (0..).zip(parts) {
                    let at = (index, (!shape.is_single).then_some(number));
                    match part {
                        Ok(value) => batch.add(message, at, |reader, row| {
                            read_value(message, value, reader, row)
                        }),
                        Err(problem) => batch.reject(at, problem),
                    }
                }
            }
            Err(problem) => batch.reject((index, None), problem),
        }
    }

    /// A message that is one record as it is.
    fn read<'r, 'a>(
        &self,
        message: &Message<'a>,
        reader: &'r RecordReader,
        mut row: Row<'r, 'a>,
    ) -> Result<DecodedRecord<'a>, DecodeProblem> {
        match self.payload(message)? {
            Cow::Borrowed(payload) => {
                self.encoding.read(payload, reader, &mut row)?;
                reader.finish(message, row)
            }
            Cow::Owned(payload) => self.read_unpacked(message, &payload, reader, row),
        }
    }

    fn read_unpacked<'r, 'a>(
        &self,
        message: &Message<'a>,
        payload: &[u8],
        reader: &'r RecordReader,
        row: Row<'r, 'a>,
    ) -> Result<DecodedRecord<'a>, DecodeProblem> {
        let mut row: Row<'_, '_> = row;
        self.encoding.read(payload, reader, &mut row)?;
        reader.finish(message, row).map(DecodedRecord::into_owned)
    }

    fn payload<'a>(&self, message: &Message<'a>) -> Result<Cow<'a, [u8]>, DecodeProblem> {
        let allowed = self.encoding.allowed();
        let payload = meta::payload(message, self.max_payload_bytes, allowed)?;
        unpacked(payload, self.max_payload_bytes)
    }

    /// The records of a message.
    fn parts(&self, message: &Message<'_>, shape: &Shape) -> Result<Vec<Part>, DecodeProblem> {
        let values = match (message.payload, &shape.transform) {
            // A filter decides what a tombstone is.
            (None, Some(_)) => vec![Ok(Value::Null)],
            _ => self.encoding.values(&self.payload(message)?)?,
        };
        let mut parts = Vec::new();
        for value in values {
            let value = match value {
                Ok(value) => value,
                Err(problem) => {
                    parts.push(Err(problem));
                    continue;
                }
            };
            if let Err(problem) = shape.split(value, &mut parts) {
                parts.push(Err(problem));
            }
            if parts.len() > PARTS_MAX as usize {
                let detail = format!("it holds more than {PARTS_MAX} records");
                return Err(DecodeProblem::new(RejectReason::TooLarge, detail));
            }
        }
        Ok(parts)
    }
}

fn read_value<'r, 'a>(
    message: &Message<'a>,
    value: Value,
    reader: &'r RecordReader,
    mut row: Row<'r, '_>,
) -> Result<DecodedRecord<'a>, DecodeProblem> {
    if let Err(error) = reader.walk(value, &mut row) {
        let other = || DecodeProblem::new(RejectReason::NotObject, error.to_string());
        return Err(row.problem_or(other));
    }
    reader.finish(message, row).map(DecodedRecord::into_owned)
}

#[cfg(test)]
mod tests;
