//! The record of one document, whatever its encoding: the configured places are read in one pass of
//! the document's deserializer, then series and time are found.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer};

use super::text::check_readable;
use super::time::TimeReader;
use super::tree::Node;
use super::walk::{RecordVisitor, Row};
use super::{DecodeProblem, meta};
use crate::record::format::{KeyFrom, RecordFormat, States, TimeFrom};
use crate::record::{Batch, MISSING, Message, ReadTime, Record, Rejected};

/// Reads the documents of one stream; it never changes.
#[derive(Clone, Debug)]
pub(super) struct RecordReader {
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
    /// The states of each field that names one.
    states: Vec<Option<States>>,
}

/// What one document gave beside its readings.
pub(super) struct DecodedRecord<'a> {
    series: Cow<'a, str>,
    time: ReadTime,
    coerced: u64,
}

impl DecodedRecord<'_> {
    /// The same without a borrow of the document.
    pub(super) fn into_owned(self) -> DecodedRecord<'static> {
        DecodedRecord {
            series: Cow::Owned(self.series.into_owned()),
            time: self.time,
            coerced: self.coerced,
        }
    }
}

impl RecordReader {
    pub(super) fn new(format: &RecordFormat) -> Self {
        let (tree, nodes) = Node::of(format);
        Self {
            tree,
            nodes,
            fields: format.fields.len(),
            key: format.key.clone(),
            time: format.time.clone(),
            times: TimeReader::of(format),
            decimal_comma: format.decimal_comma,
            states: format.states(),
        }
    }

    /// What reads a document into a row, as a seed.
    pub(super) fn seed<'w, 'r, 'x>(
        &'r self,
        row: &'w mut Row<'r, 'x>,
    ) -> RecordVisitor<'w, 'r, 'x> {
        let node = &self.tree;
        RecordVisitor { node, row }
    }

    /// One pass over a document.
    ///
    /// # Errors
    /// Of the deserializer; the problem is in the row where it is ours.
    pub(super) fn walk<'r, 'x, D: Deserializer<'x>>(
        &'r self,
        document: D,
        row: &mut Row<'r, 'x>,
    ) -> Result<(), D::Error> {
        self.seed(row).deserialize(document)
    }

    /// What a document gave that was read to its end.
    ///
    /// # Errors
    /// A record without a usable reading, key or time.
    pub(super) fn finish<'x>(
        &self,
        message: &Message<'x>,
        row: Row<'_, 'x>,
    ) -> Result<DecodedRecord<'x>, DecodeProblem> {
        check_readable(row.values, row.unreadable)?;
        let series = meta::series(&self.key, message, row.key)?;
        let time = meta::time(&self.time, &self.times, message, row.time)?;
        Ok(DecodedRecord {
            series,
            time,
            coerced: row.coerced,
        })
    }
}

/// The batch that a decoder fills, record by record.
pub(super) struct BatchBuilder<'r, 'a> {
    reader: &'r RecordReader,
    batch: Batch<'a>,
    /// By node of the tree, the stamp of the last document that held it.
    seen: Vec<u32>,
    stamp: u32,
}

impl<'r, 'a> BatchBuilder<'r, 'a> {
    pub(super) fn new(reader: &'r RecordReader, records: usize) -> Self {
        Self {
            reader,
            batch: Batch {
                records: Vec::with_capacity(records),
                values: Vec::with_capacity(records * reader.fields),
                ..Batch::default()
            },
            seen: vec![0; reader.nodes],
            stamp: 0,
        }
    }

    /// Records and rejections so far.
    pub(super) fn len(&self) -> usize {
        self.batch.records.len() + self.batch.rejected.len()
    }

    /// Adds the record that `read` finds, or why there is none; `at` is the index of the message, and
    /// which of its records it is.
    pub(super) fn add<'x>(
        &mut self,
        message: &Message<'_>,
        at: (usize, Option<u32>),
        read: impl for<'w> FnOnce(
            &'w RecordReader,
            Row<'w, 'x>,
        ) -> Result<DecodedRecord<'a>, DecodeProblem>,
    ) {
        let start = self.batch.values.len();
        let end = start + self.reader.fields;
        self.batch.values.resize(end, MISSING);
        // 0 is what `seen` starts with; no batch comes near 2^31 records.
        self.stamp += 1;
        let row = Row {
            values: self.batch.values.get_mut(start..).unwrap_or_default(),
            seen: &mut self.seen,
            stamp: self.stamp,
            key: None,
            time: None,
            times: &self.reader.times,
            decimal_comma: self.reader.decimal_comma,
            states: &self.reader.states,
            coerced: 0,
            unreadable: None,
            problem: None,
        };
        match read(self.reader, row) {
            Ok(found) => {
                let record = Record::of(message, at, found.series, found.time);
                self.batch.records.push(record);
                self.batch.coerced += found.coerced;
            }
            Err(problem) => {
                self.batch.values.truncate(start);
                self.reject(at, problem);
            }
        }
    }

    /// Adds why a message, or one of its records, is none.
    pub(super) fn reject(&mut self, (index, part): (usize, Option<u32>), problem: DecodeProblem) {
        let rejected = Rejected::new(index, problem.reason, problem.detail);
        self.batch.rejected.push(rejected.of_part(part));
    }

    pub(super) fn finish(self) -> Batch<'a> {
        self.batch
    }
}
