//! MessagePack (its specification of 2013-08): one value a message.

use rmp_serde::Deserializer;
use serde::Deserialize as _;
use serde_json::Value;

use crate::decode::DecodeProblem;
use crate::decode::reader::RecordReader;
use crate::decode::walk::Row;
use crate::record::RejectReason;

/// Streams the record of a message into its row.
///
/// # Errors
/// Bytes that are no MessagePack, and what the reader does not take.
pub(super) fn read<'r, 'x>(
    payload: &'x [u8],
    reader: &'r RecordReader,
    row: &mut Row<'r, 'x>,
) -> Result<(), DecodeProblem> {
    let mut rest = Deserializer::new(payload);
    match reader.walk(&mut rest, row) {
        Ok(()) => at_end(rest.get_ref()),
        Err(error) => Err(row.problem_or(|| problem(&error))),
    }
}

/// The value of a message.
///
/// # Errors
/// Bytes that are no MessagePack.
pub(super) fn values(payload: &[u8]) -> Result<Vec<Result<Value, DecodeProblem>>, DecodeProblem> {
    let mut rest = Deserializer::new(payload);
    let value = Value::deserialize(&mut rest).map_err(|error| problem(&error))?;
    at_end(rest.get_ref())?;
    Ok(vec![Ok(value)])
}

fn at_end(rest: &[u8]) -> Result<(), DecodeProblem> {
    if rest.is_empty() {
        return Ok(());
    }
    let left = rest.len();
    let detail = format!("{left} bytes follow its value; one value for each message is allowed");
    Err(DecodeProblem::new(RejectReason::NotDecodable, detail))
}

fn problem(error: &rmp_serde::decode::Error) -> DecodeProblem {
    let detail = format!("not MessagePack: {error}");
    DecodeProblem::new(RejectReason::NotDecodable, detail)
}
