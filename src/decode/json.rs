//! JSON: Kafka messages (or lines of a file) become the records of a stream.
//!
//! A payload is one JSON object (RFC 8259) in UTF-8, after a byte order mark or the frame of a schema
//! registry if there is one. Where a message is one record, it is read in one streaming pass: no value
//! is built, and a record allocates nothing that its batch does not keep. Text that is borrowed from the message stays borrowed.
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

use serde_json::{Deserializer, Value};

use super::DecodeProblem;
use super::bare;
use super::meta;
use super::reader::RecordReader;
use super::text::quoted;
use super::unpack::without_frame;
use super::walk::Row;
use crate::record::RejectReason;

/// Bytes on either side of a syntax error that a detail quotes.
const QUOTED_BYTES: usize = 12;

/// Streams the record of a message into its row.
///
/// # Errors
/// Bytes that are not JSON, and what the reader does not take.
pub(super) fn read<'r, 'x>(
    payload: &'x [u8],
    reader: &'r RecordReader,
    row: &mut Row<'r, 'x>,
) -> Result<(), DecodeProblem> {
    let text = meta::text(without_frame(payload))?;
    let mut json = Deserializer::from_str(text);
    let read = reader.walk(&mut json, row).and_then(|()| json.end());
    let Err(error) = read else {
        return Ok(());
    };
    let is_readable = row.problem.is_none();
    let Some(text) = is_readable.then(|| bare::quoted(text)).flatten() else {
        return Err(row.problem_or(|| not_json(text, &error)));
    };
    row.read_again();
    let mut json = Deserializer::from_reader(text.as_bytes());
    let read = reader.walk(&mut json, row).and_then(|()| json.end());
    read.map_err(|error| row.problem_or(|| not_json(&text, &error)))
}

/// The values of a message: JSON values, one behind the other.
///
/// # Errors
/// Bytes that are not JSON.
pub(super) fn values(payload: &[u8]) -> Result<Vec<Result<Value, DecodeProblem>>, DecodeProblem> {
    let text = meta::text(without_frame(payload))?;
    match stream(text) {
        Ok(values) => Ok(values),
        Err(error) => {
            let text = bare::quoted(text).ok_or_else(|| not_json(text, &error))?;
            stream(&text).map_err(|error| not_json(&text, &error))
        }
    }
}

fn stream(text: &str) -> Result<Vec<Result<Value, DecodeProblem>>, serde_json::Error> {
    let values = Deserializer::from_str(text).into_iter::<Value>();
    values.map(|value| Ok(Ok(value?))).collect()
}

/// The rejection that follows from a failed pass.
#[cold]
fn not_json(text: &str, error: &serde_json::Error) -> DecodeProblem {
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
        "; one JSON object for each message is allowed, several with record.layout = \"rows\""
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
