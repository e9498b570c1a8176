//! The decode step: bytes become [`Record`](crate::record::Record)s by a stream's
//! [`RecordFormat`](crate::record::format::RecordFormat).
//!
//! A message is either exactly one record or exactly one [`Rejected`](crate::record::Rejected),
//! never both and never neither; message order is kept; nothing here panics or touches a network,
//! and only the decoding of images has a time limit. [`batch`] chooses the decoder of a stream. [`json`] reads Kafka messages and
//! [`lines`] of files, [`mod@image`] messages that are images, [`mod@csv`] reads CSV files for
//! `replay` and `train`, [`mod@file`] distinguishes the two kinds of file, and [`schema`]
//! describes an accepted JSON record as a JSON Schema.
//!
//! What a value means is the same in JSON and in CSV:
//!
//! | written | read as |
//! |---|---|
//! | a number | the nearest 64-bit float; integers above 2^53 are rounded |
//! | absent, `null`, text without any character but spaces | [`MISSING`](crate::record::MISSING) |
//! | `"12.5"`, also with spaces around it | 12.5, counted in `coerced` (JSON only) |
//! | `NaN`, `Infinity`, in quotes or not, `"inf"`, in any case, with or without a sign | [`NON_FINITE`](crate::record::NON_FINITE) |
//! | any other text, a number beyond the range of a 64-bit float, an object, an array (JSON only), where the record has a reading besides | the same |
//! | `true`, `false` (JSON only) | 1, 0 |
//! | `"12,5"` with `record.decimal_comma` | 12.5 |
//! | one of these where the record has no reading besides | rejected, `wrong_type` |
//!
//! Event times are described in [`time`], series keys in [`text`].

pub mod avro;
pub mod batch;
pub mod csv;
mod encoding;
pub mod file;
mod filter;
pub mod image;
pub mod infer;
pub mod json;
mod layout;
pub mod lines;
mod protobuf;
mod reader;
pub mod records;
pub mod schema;
pub mod schemas;
pub mod transform;
mod unpack;
mod worker;

pub mod text;
pub mod time;

mod bare;
#[cfg(test)]
mod fixtures;
mod meta;
mod tree;
mod walk;

use crate::record::RejectReason;

/// Why a message is no record, before it is known which message it was.
#[derive(Clone, PartialEq, Eq, Debug)]
struct DecodeProblem {
    reason: RejectReason,
    detail: String,
}

impl DecodeProblem {
    fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}
