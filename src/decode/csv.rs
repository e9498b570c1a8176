//! A CSV file (RFC 4180) as records, for `replay` and `train`: a header, then one record a row.
//!
//! Values mean the same as in JSON (see [`crate::decode`]); a cell is always text, so nothing
//! counts as coerced. A row's offset is its number from 0 behind the header. Rows come in chunks
//! that own their text and are bounded, so that a file may be larger than memory. A bad row is a
//! [`Rejected`] that names its line (from 1, as editors count) and never ends the file; blank lines
//! are no rows. Spaces around column names do not count, and columns without a name (the row
//! numbers that data frames write) are never fields.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ::csv::{ByteRecord, Reader, ReaderBuilder};

use super::DecodeProblem;
use super::file::{self, ReadError};
use super::text::{self, TextReading, check_key, check_readable, is_decimal_comma};
use super::time::TimeReader;
use crate::record::format::{KeyFrom, RecordFormat, States, TimeFrom};
use crate::record::{
    Batch, EventTime, MISSING, NON_FINITE, ReadTime, Record, RejectReason, Rejected,
};

mod header;
use header::Header;

/// Longest row, in bytes: an open quote would otherwise read the rest of the file into one cell.
const ROW_BYTES_MAX: u64 = 4 << 20;

/// How a table is read.
#[derive(Clone, PartialEq, Debug)]
pub struct TableOptions {
    /// Between the cells of a row.
    pub delimiter: u8,
    /// Whether a comma is the decimal mark.
    pub decimal_comma: bool,
    /// The column of the event time; without one, a row's time is its number in seconds after the
    /// epoch.
    pub time: Option<(String, TimeReader)>,
    /// The column of the series key; without one, all rows are of `series`.
    pub key: Option<String>,
    /// Name of the only series of a table without a key column.
    pub series: String,
    /// Which columns are fields.
    pub columns: Columns,
    /// Of the fields that name a state, their states by the name of the field.
    pub states: HashMap<String, States>,
}

/// Which columns of a table are its fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Columns {
    /// All but these, the time and the key, in the order of the header.
    Except(Vec<String>),
    /// These, in this order.
    Only(Vec<String>),
}

impl TableOptions {
    /// The options of a table that holds a stream's fields under their names, and its key and time
    /// (if they are fields of the record) under their dotted paths, or under the names of their
    /// headers.
    pub fn for_stream(format: &RecordFormat, delimiter: u8, series: String) -> Self {
        Self {
            delimiter,
            decimal_comma: format.decimal_comma,
            time: match &format.time {
                TimeFrom::Field(path) => Some((path.join("."), TimeReader::of(format))),
                TimeFrom::Header(name) => Some((name.clone(), TimeReader::of(format))),
                TimeFrom::Kafka => None,
            },
            key: match &format.key {
                KeyFrom::Field(path) => Some(path.join(".")),
                KeyFrom::Header(name) => Some(name.clone()),
                KeyFrom::Kafka | KeyFrom::Partition => None,
            },
            series,
            columns: Columns::Only(
                format
                    .fields
                    .iter()
                    .map(|field| field.name.clone())
                    .collect(),
            ),
            states: (format.fields.iter())
                .filter_map(|field| Some((field.name.clone(), field.states.clone()?)))
                .collect(),
        }
    }
}

/// An open table.
#[derive(Debug)]
pub struct CsvTable<R> {
    /// The file's name, for errors.
    file: String,
    reader: Reader<Bounded<R>>,
    header: Header,
    delimiter: u8,
    decimal_comma: bool,
    series: String,
    /// By field.
    states: Vec<Option<States>>,
    /// The row that is being read; kept so that its memory is used again.
    row: ByteRecord,
    /// Number of the next row, from 0.
    next: i64,
}

impl CsvTable<File> {
    /// Opens the file at `path` and reads its header.
    ///
    /// # Errors
    /// All of [`ReadError`].
    pub fn open(path: &Path, options: &TableOptions) -> Result<Self, ReadError> {
        // The kind itself is the caller's choice; asking for it refuses compressed files.
        file::kind(path)?;
        Self::from_reader(path.display(), file::open(path)?, options)
    }
}

impl<R: Read> CsvTable<R> {
    /// Reads the header from `reader`; `file` names it in errors.
    ///
    /// # Errors
    /// All of [`ReadError`] but `Open` and `Compressed`.
    pub fn from_reader(
        file: impl ToString,
        reader: R,
        options: &TableOptions,
    ) -> Result<Self, ReadError> {
        let file = file.to_string();
        let mut reader = ReaderBuilder::new()
            .delimiter(options.delimiter)
            .has_headers(false)
            // Ragged rows are ours to report: reading continues behind them.
            .flexible(true)
            .from_reader(Bounded {
                inner: reader,
                left: 0,
            });
        let mut row = ByteRecord::new();
        if !read_row(&file, &mut reader, &mut row)? {
            return Err(ReadError::Empty { file });
        }
        let header = Header::of(&file, &row, options)?;
        let fields = header.fields.iter();
        let states = fields
            .map(|field| options.states.get(field).cloned())
            .collect();
        Ok(Self {
            states,
            file,
            reader,
            header,
            delimiter: options.delimiter,
            decimal_comma: options.decimal_comma,
            series: options.series.clone(),
            row,
            next: 0,
        })
    }

    /// The names of the fields, in the order of a row of [`Batch::values`].
    pub fn fields(&self) -> &[String] {
        &self.header.fields
    }

    /// The next rows, `rows_max` at most; `None` at the end. `message` of records and rejections is
    /// the row's index in the chunk.
    ///
    /// # Errors
    /// [`ReadError::Read`] and [`ReadError::RowTooLong`]; the table ends there.
    pub fn next_chunk(&mut self, rows_max: usize) -> Result<Option<Batch<'static>>, ReadError> {
        let mut batch = Batch::default();
        let mut index = 0;
        while index < rows_max && read_row(&self.file, &mut self.reader, &mut self.row)? {
            let start = batch.values.len();
            match self.read_values(&mut batch.values) {
                Ok((series, read)) => {
                    let series = Cow::Owned(series);
                    batch.records.push(Record {
                        message: index,
                        partition: 0,
                        offset: self.next,
                        part: None,
                        series,
                        time: read.time,
                        second_time: read.second,
                        arrival: None,
                    });
                }
                Err(problem) => {
                    batch.values.truncate(start);
                    let line = self.row.position().map_or(0, ::csv::Position::line);
                    let detail = format!("line {line}{}", problem.detail);
                    batch
                        .rejected
                        .push(Rejected::new(index, problem.reason, detail));
                }
            }
            index += 1;
            self.next += 1;
        }
        Ok((index > 0).then_some(batch))
    }

    /// Appends the readings of the current row. A problem's detail begins behind the line's number.
    fn read_values(&self, values: &mut Vec<f64>) -> Result<(String, ReadTime), DecodeProblem> {
        let due = self.header.columns;
        if self.row.len() != due {
            return Err(DecodeProblem::new(
                RejectReason::WrongType,
                self.ragged(due),
            ));
        }
        let (start, mut unreadable) = (values.len(), None);
        let columns = self.header.fields.iter().zip(&self.header.field_columns);
        for ((name, &column), states) in columns.zip(&self.states) {
            let read = self.value(self.cell(name, column)?, states.as_ref());
            values.push(read.unwrap_or_else(|wrong| {
                unreadable.get_or_insert_with(|| format!(", column `{name}`: {wrong}"));
                NON_FINITE
            }));
        }
        check_readable(&values[start..], unreadable)?;
        Ok((self.series_of_row()?, self.time_of_row()?))
    }

    /// The reading or the state of a cell, or what is wrong with it.
    fn value(&self, cell: &str, states: Option<&States>) -> Result<f64, String> {
        if let Some(states) = states {
            let wrong = || text::no_state(&format!("the text {}", text::quoted(cell)), states);
            return text::state(cell, states).ok_or_else(wrong);
        }
        Ok(match text::reading(cell, self.decimal_comma)? {
            TextReading::Number(number) => number,
            TextReading::Blank => MISSING,
            TextReading::NonFinite => NON_FINITE,
        })
    }

    fn series_of_row(&self) -> Result<String, DecodeProblem> {
        let Some((name, column)) = &self.header.key else {
            return Ok(self.series.clone());
        };
        let key = self.cell(name, *column)?;
        if key.is_empty() {
            let detail = format!(", column `{name}`: the cell is empty; a series key is required");
            return Err(DecodeProblem::new(RejectReason::MissingKey, detail));
        }
        check_key(key, &format!(", column `{name}`: the series key"))?;
        Ok(key.to_owned())
    }

    fn time_of_row(&self) -> Result<ReadTime, DecodeProblem> {
        let Some((name, column, times)) = &self.header.time else {
            return Ok(EventTime(self.next.saturating_mul(1_000_000)).into());
        };
        let cell = self.cell(name, *column)?;
        if cell.trim().is_empty() {
            let detail = format!(
                ", column `{name}`: the cell is empty; expected {}",
                times.allowed()
            );
            return Err(DecodeProblem::new(RejectReason::MissingTime, detail));
        }
        times.read_text(cell).map_err(|wrong| {
            DecodeProblem::new(RejectReason::BadTime, format!(", column `{name}`: {wrong}"))
        })
    }

    fn cell(&self, name: &str, column: usize) -> Result<&str, DecodeProblem> {
        std::str::from_utf8(self.row.get(column).unwrap_or_default()).map_err(|_| {
            let detail =
                format!(", column `{name}`: the cell is not UTF-8; save the file as UTF-8");
            DecodeProblem::new(RejectReason::NotUtf8, detail)
        })
    }

    #[cold]
    fn ragged(&self, due: usize) -> String {
        let found = self.row.len();
        // Decimal commas under the delimiter `,` cut each number in two.
        let joined = self.row.iter().take(2).collect::<Vec<_>>().join(&b',');
        let is_cut = self.delimiter == b','
            && found > due
            && std::str::from_utf8(&joined).is_ok_and(is_decimal_comma);
        let hint = if is_cut {
            "; numbers with a decimal comma need another delimiter, and --decimal-comma"
        } else {
            ""
        };
        format!(": {found} cells where the header has {due}{hint}")
    }
}

/// Reads the next row; `false` at the end of the file.
fn read_row<R: Read>(
    file: &str,
    reader: &mut Reader<Bounded<R>>,
    row: &mut ByteRecord,
) -> Result<bool, ReadError> {
    reader.get_mut().left = ROW_BYTES_MAX;
    let line = reader.position().line().saturating_sub(1);
    reader.read_byte_record(row).map_err(|error| {
        let file = file.to_owned();
        if reader.get_ref().left == 0 {
            return ReadError::RowTooLong {
                file,
                line,
                bytes_max: ROW_BYTES_MAX,
            };
        }
        ReadError::Read {
            file,
            line,
            source: io::Error::other(error),
        }
    })
}

/// A reader that fails after `left` more bytes. It is reset for each row.
#[derive(Debug)]
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
