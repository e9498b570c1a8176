//! The JSON decoder: Kafka messages (or lines of a file) become the records of a stream.
//!
//! A payload is one JSON object (RFC 8259) in UTF-8, after a byte order mark if there is one. It is
//! read in one streaming pass: no document is built, and a record allocates nothing that [`Batch`]
//! does not keep. Text that is borrowed from the message stays borrowed.
//!
//! Defined outcomes, beside those of single values in [`crate::decode`]:
//! - a configured place that occurs twice is rejected; other repeated keys are skipped like all
//!   that is unconfigured;
//! - a path through `null` or nothing is missing; a place that is both a reading and the parent of
//!   others may hold either;
//! - bare `NaN` and `Infinity`, which Python and JavaScript write, are readings that are not numbers;
//!   numbers that RFC 8259 does not know, such as `007` and `.5`, are read as such;
//! - a reading that is text, but not of a number, an object, an array, a number beyond the range of a
//!   64-bit float, or below something that is neither object nor array, counts like NaN where the
//!   record has another reading; without any the record is rejected;
//! - skipped parts have to be well-formed JSON, of any depth: they are skipped without recursion.
//!   Inside configured places depth is bounded by the longest path;
//! - the payload's length, then its UTF-8, then its syntax and values from front to back, then the
//!   series key, then the time are looked at in this order, and the first problem is the one
//!   reported.

use std::borrow::Cow;

use serde::de::DeserializeSeed;
use serde_json::Deserializer;

use super::DecodeProblem;
use super::bare;
use super::meta;
use super::text::{check_readable, quoted};
use super::time::TimeReader;
use super::tree::Node;
use super::walk::{RecordVisitor, Row};
use crate::record::format::{KeyFrom, RecordFormat, TimeFrom};
use crate::record::{Batch, MISSING, Message, ReadTime, Record, RejectReason, Rejected};

/// Bytes on either side of a syntax error that a detail quotes.
const QUOTED_BYTES: usize = 12;
/// Added to the stamp of a document that is read a second time.
const SECOND_PASS: u32 = 1 << 31;

/// Reads the messages of one stream. It is built once and never changes, so that lanes may share
/// it.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The configured paths; walked beside each document.
    tree: Node,
    /// Nodes of the tree.
    nodes: usize,
    /// Readings of a record.
    fields: usize,
    /// Where the series key is, if not in the document.
    key: KeyFrom,
    /// Where the event time is, if not in the document.
    time: TimeFrom,
    /// What reads it.
    times: TimeReader,
    /// Whether a comma is the decimal mark of numbers in text.
    decimal_comma: bool,
    /// Longest payload that is read.
    max_payload_bytes: usize,
}

/// What one message gave beside its readings.
struct DecodedRecord<'a> {
    series: Cow<'a, str>,
    time: ReadTime,
    coerced: u64,
}

impl Decoder {
    /// A decoder of records of `format`.
    pub fn new(format: &RecordFormat) -> Self {
        let (tree, nodes) = Node::of(format);
        Self {
            tree,
            nodes,
            fields: format.fields.len(),
            key: format.key.clone(),
            time: format.time.clone(),
            times: TimeReader::of(format),
            decimal_comma: format.decimal_comma,
            max_payload_bytes: format.max_payload_bytes,
        }
    }

    /// Decodes a micro-batch: each message becomes one record or one rejection, in the order of the
    /// messages.
    pub fn decode<'a>(&self, messages: &[Message<'a>]) -> Batch<'a> {
        let mut batch = Batch {
            records: Vec::with_capacity(messages.len()),
            values: Vec::with_capacity(messages.len() * self.fields),
            ..Batch::default()
        };
        let mut seen = vec![0; self.nodes];
        for (index, message) in messages.iter().enumerate() {
            let start = batch.values.len();
            batch.values.resize(start + self.fields, MISSING);
            let row = Row {
                values: batch.values.get_mut(start..).unwrap_or_default(),
                seen: &mut seen,
                // 0 is what `seen` starts with; no micro-batch comes near 2^31 messages.
                stamp: index as u32 + 1,
                key: None,
                time: None,
                times: &self.times,
                decimal_comma: self.decimal_comma,
                coerced: 0,
                unreadable: None,
                problem: None,
            };
            match self.decode_one(message, row) {
                Ok(DecodedRecord {
                    series,
                    time,
                    coerced,
                }) => {
                    batch.records.push(Record::of(message, index, series, time));
                    batch.coerced += coerced;
                }
                Err(problem) => {
                    batch.values.truncate(start);
                    batch
                        .rejected
                        .push(Rejected::new(index, problem.reason, problem.detail));
                }
            }
        }
        batch
    }

    fn decode_one<'r, 'a>(
        &'r self,
        message: &Message<'a>,
        mut row: Row<'r, 'a>,
    ) -> Result<DecodedRecord<'a>, DecodeProblem> {
        let text = self.payload_text(message)?;
        if let Err(error) = self.walk(Deserializer::from_str(text), &mut row) {
            let is_readable = row.problem.is_none();
            let Some(text) = is_readable.then(|| bare::quoted(text)).flatten() else {
                return Err(syntax_problem(text, &error, row));
            };
            row.restart(row.stamp | SECOND_PASS);
            let reader = Deserializer::from_reader(text.as_bytes());
            if let Err(error) = self.walk(reader, &mut row) {
                return Err(syntax_problem(&text, &error, row));
            }
        }
        check_readable(row.values, row.unreadable)?;
        let series = meta::series(&self.key, message, row.key)?;
        let time = meta::time(&self.time, &self.times, message, row.time)?;
        Ok(DecodedRecord {
            series,
            time,
            coerced: row.coerced,
        })
    }

    /// One pass over a document.
    fn walk<'r, 'a, R: serde_json::de::Read<'a>>(
        &'r self,
        mut reader: Deserializer<R>,
        row: &mut Row<'r, 'a>,
    ) -> Result<(), serde_json::Error> {
        let node = &self.tree;
        RecordVisitor { node, row }.deserialize(&mut reader)?;
        reader.end()
    }

    fn payload_text<'a>(&self, message: &Message<'a>) -> Result<&'a str, DecodeProblem> {
        meta::text(meta::payload(
            message,
            self.max_payload_bytes,
            "a JSON object",
        )?)
    }
}

/// The rejection that follows from a failed pass.
#[cold]
fn syntax_problem(text: &str, error: &serde_json::Error, row: Row<'_, '_>) -> DecodeProblem {
    if let Some(problem) = row.problem {
        return problem;
    }
    let message = error.to_string();
    let at = byte_offset(text, error);
    let near = {
        let from = (0..=at.saturating_sub(QUOTED_BYTES))
            .rev()
            .find(|&i| text.is_char_boundary(i))
            .unwrap_or(0);
        let rest = text.get(from..).unwrap_or_default();
        quoted(
            rest.char_indices()
                .nth(2 * QUOTED_BYTES)
                .and_then(|(end, _)| rest.get(..end))
                .unwrap_or(rest),
        )
    };
    let hint = if message.starts_with("trailing characters") {
        "; one JSON object for each message is allowed"
    } else {
        ""
    };
    DecodeProblem::new(
        RejectReason::NotJson,
        format!("not JSON: {message}, near {near}{hint}"),
    )
}

/// Position of a syntax error in `text`: the reader counts lines and, inside the line, bytes, both
/// from 1.
fn byte_offset(text: &str, error: &serde_json::Error) -> usize {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    (line_start + error.column().saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests;
