//! Flags of commands that read record files, and the reading itself: CSV tables and JSON lines look
//! the same from here on.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use jiff::tz::TimeZone;

use super::image_files::{self, ImageFiles};
use crate::config::settings::StreamSettings;
use crate::decode::csv::{Columns, CsvTable, TableOptions};
use crate::decode::file::{self, FileKind};
use crate::decode::lines::Lines;
use crate::decode::time::TimeReader;
use crate::pipeline::series::SeriesTable;
use crate::pipeline::{BatchOutput, Pipeline, PipelineError};
use crate::record::format::TimeFormat;

/// Rows that are read and scored at a time.
pub(super) const CHUNK_ROWS: usize = 4_096;

/// How record files are laid out.
#[derive(clap::Args, Clone)]
pub(super) struct InputArgs {
    /// Column of the event time [default: the stream's, else the row number in seconds]
    #[arg(long, value_name = "NAME")]
    time_column: Option<String>,
    /// Column that names the series [default: one series for each file]
    #[arg(long, value_name = "NAME")]
    key_column: Option<String>,
    /// Character between two cells of a CSV file
    #[arg(long, value_name = "CHAR", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// Numbers of a CSV file have a decimal comma
    #[arg(long)]
    decimal_comma: bool,
    /// Columns that are no sensors, comma-separated
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ignore: Vec<String>,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text {
        "\\t" | "tab" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [one] => Ok(*one),
            _ => Err("one character, such as ';', or 'tab'".into()),
        },
    }
}

impl InputArgs {
    /// The character between two cells.
    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Whether any flag is about the columns of a table.
    pub(super) fn names_columns(&self) -> bool {
        self.time_column.is_some() || self.key_column.is_some() || !self.ignore.is_empty()
    }

    /// The same, with one more column that is no sensor.
    pub(super) fn ignoring(&self, column: &str) -> Self {
        let mut ignore = self.ignore.clone();
        ignore.push(column.to_owned());
        Self {
            ignore,
            ..self.clone()
        }
    }

    fn options(&self, path: &Path, stream: Option<&StreamSettings>) -> TableOptions {
        let series = file::series_of(path);
        let mut options = match stream {
            Some(stream) => TableOptions::for_stream(&stream.record, self.delimiter, series),
            None => TableOptions {
                delimiter: self.delimiter,
                decimal_comma: false,
                time: None,
                key: None,
                series,
                columns: Columns::Except(self.ignore.clone()),
                states: HashMap::new(),
            },
        };
        options.decimal_comma |= self.decimal_comma;
        if let Some(column) = &self.time_column {
            let times = stream.map(|stream| TimeReader::of(&stream.record));
            let times = times.unwrap_or_else(|| TimeReader::new(TimeFormat::Auto, TimeZone::UTC));
            options.time = Some((column.clone(), times));
        }
        if self.key_column.is_some() {
            options.key = self.key_column.clone();
        }
        options
    }

    /// The sensor columns of a CSV file.
    pub(super) fn fields(&self, path: &Path) -> anyhow::Result<Vec<String>> {
        if file::kind(path)? == FileKind::JsonLines {
            bail!(
                "{} holds JSON lines: name its fields in a configuration (--config, --stream)",
                path.display()
            );
        }
        Ok(CsvTable::open(path, &self.options(path, None))?
            .fields()
            .to_vec())
    }

    /// Opens a file of records of a stream. `configured` says that the stream comes from a
    /// configuration, which then also names the columns of the time and of the key.
    pub(super) fn open(
        &self,
        path: &Path,
        stream: &StreamSettings,
        configured: bool,
    ) -> anyhow::Result<Records> {
        if stream.image.is_some() {
            return Records::images(path);
        }
        Ok(match file::kind(path)? {
            FileKind::JsonLines => Records::Lines(Lines::open(path, &stream.record)?),
            FileKind::Csv => Records::Table(Box::new(CsvTable::open(
                path,
                &self.options(path, configured.then_some(stream)),
            )?)),
        })
    }
}

/// An open file of records.
pub(super) enum Records {
    Table(Box<CsvTable<File>>),
    Lines(Lines<File>),
    Images(ImageFiles),
}

/// A chunk of rows that went through the pipeline.
pub(super) struct Chunk {
    /// How many rows there were.
    pub(super) rows: usize,
    /// Their results; `message` counts from the first row of the chunk.
    pub(super) done: BatchOutput,
}

impl Records {
    /// The images of a folder, or one of them.
    pub(super) fn images(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self::Images(ImageFiles::open(folder)?))
    }

    /// Runs the next rows, at most `rows`, through a pipeline; `None` at the end.
    pub(super) fn run(
        &mut self,
        rows: usize,
        pipeline: &mut Pipeline,
        table: &mut SeriesTable,
    ) -> anyhow::Result<Option<Chunk>> {
        let mut load = |_: i32, _: &str| Ok(None);
        let done: Result<BatchOutput, PipelineError>;
        let read: usize;
        match self {
            Self::Table(file) => {
                let Some(batch) = file.next_chunk(rows)? else {
                    return Ok(None);
                };
                read = batch.records.len() + batch.rejected.len();
                done = pipeline.run_decoded(batch, table, &mut load);
            }
            Self::Lines(file) => {
                let Some(chunk) = file.next_chunk(rows)? else {
                    return Ok(None);
                };
                let messages = chunk.messages();
                read = messages.len();
                done = pipeline.run(&messages, table, &mut load);
            }
            Self::Images(files) => {
                let Some(chunk) = files.next_chunk(rows)? else {
                    return Ok(None);
                };
                let messages = chunk.messages();
                read = messages.len();
                done = pipeline.run(&messages, table, &mut load);
            }
        }
        Ok(Some(Chunk {
            rows: read,
            done: done?,
        }))
    }
}

/// The inputs of a stream: its files, or the folders of its images.
pub(super) fn inputs(input: &Path, stream: &StreamSettings) -> anyhow::Result<Vec<PathBuf>> {
    if stream.image.is_some() {
        image_files::folders(input)
    } else {
        files(input)
    }
}

/// The files that are meant: a file itself, or all CSV and JSON-lines files below a folder, in
/// order.
pub(super) fn files(input: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let meta = fs::metadata(input).with_context(|| format!("cannot read {}", input.display()))?;
    if meta.is_file() {
        return Ok(vec![input.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![input.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
            if path.is_dir() {
                folders.push(path);
            } else if extension.is_some_and(|e| matches!(&*e, "csv" | "tsv" | "jsonl" | "ndjson")) {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        bail!(
            "{} has no .csv, .tsv, .jsonl or .ndjson file",
            input.display()
        );
    }
    found.sort();
    Ok(found)
}
