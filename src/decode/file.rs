//! A file of records: which kind it is, and what can be wrong with it as a whole.
//!
//! What is wrong with one row is a [`Rejected`](crate::record::Rejected) and never ends the reading
//! of a file; a [`ReadError`] does.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::{Failure, FailureClass};

/// The kinds of file that hold records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A table with a header, read by [`super::csv`].
    Csv,
    /// One JSON object a line, read by [`super::lines`].
    JsonLines,
}

/// Why a file cannot be read to its end. No repetition helps.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there, or may not be read.
    #[error("cannot open {file}: {source}; check the path and its permissions")]
    Open {
        /// The file.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// Reading stopped in the middle.
    #[error("cannot read {file} after line {line}: {source}")]
    Read {
        /// The file.
        file: String,
        /// The last line that was read, from 1.
        line: u64,
        /// The system's error.
        source: io::Error,
    },
    /// The file begins like one of gzip or zstd.
    #[error("{file} is compressed; plain text is allowed: decompress it first (gzip -dk, zstd -d)")]
    Compressed {
        /// The file.
        file: String,
    },
    /// Nothing in it.
    #[error("{file} is empty; expected a header line and rows")]
    Empty {
        /// The file.
        file: String,
    },
    /// The first line holds only numbers.
    #[error(
        "{file} has no header: its first line starts with the number {found}; add a line with the names of the columns"
    )]
    NoHeader {
        /// The file.
        file: String,
        /// The first cell.
        found: String,
    },
    /// The header is not text.
    #[error("the header of {file} is not UTF-8; save the file as UTF-8")]
    HeaderNotUtf8 {
        /// The file.
        file: String,
    },
    /// One column where another delimiter would give several.
    #[error(
        "the header of {file} is one column, {header}, with the delimiter {used}; is the delimiter {likely}?"
    )]
    Delimiter {
        /// The file.
        file: String,
        /// The only column.
        header: String,
        /// The delimiter that was used, quoted.
        used: String,
        /// The one that the header contains, quoted.
        likely: String,
    },
    /// Two columns of one name.
    #[error("{file} has two columns named `{column}` (number {first} and {second}); rename one")]
    DuplicateColumn {
        /// The file.
        file: String,
        /// Their name.
        column: String,
        /// Number of the one, from 1.
        first: usize,
        /// Number of the other.
        second: usize,
    },
    /// A requested column does not exist.
    #[error("{file} has no column `{column}`; it has {known}")]
    UnknownColumn {
        /// The file.
        file: String,
        /// The requested column.
        column: String,
        /// Those that there are.
        known: String,
    },
    /// Every column is ignored, or is the key or the time.
    #[error("all columns of {file} are ignored; it has {known}: ignore fewer")]
    NoFields {
        /// The file.
        file: String,
        /// Those that there are.
        known: String,
    },
    /// A row that does not end.
    #[error(
        "the row after line {line} of {file} is longer than {bytes_max} bytes; is a quote unclosed?"
    )]
    RowTooLong {
        /// The file.
        file: String,
        /// The last line before it, from 1.
        line: u64,
        /// How long a row may be.
        bytes_max: u64,
    },
}

impl Failure for ReadError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Read { source, .. } => FailureClass::lasting(source.domain()),
            Self::Open { .. }
            | Self::Compressed { .. }
            | Self::Empty { .. }
            | Self::NoHeader { .. }
            | Self::HeaderNotUtf8 { .. }
            | Self::Delimiter { .. }
            | Self::DuplicateColumn { .. }
            | Self::UnknownColumn { .. }
            | Self::NoFields { .. }
            | Self::RowTooLong { .. } => FailureClass::USER,
        }
    }
}

/// Opens a file to read.
///
/// # Errors
/// [`ReadError::Open`].
pub(super) fn open(path: &Path) -> Result<File, ReadError> {
    let fail = |source| ReadError::Open {
        file: path.display().to_string(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    // A directory opens like a file and fails only at the first read, with an error that does not
    // name it.
    if file.metadata().map_err(fail)?.is_dir() {
        return Err(fail(io::ErrorKind::IsADirectory.into()));
    }
    Ok(file)
}

/// The name of the only series of a file without keys: the file's name without folder and
/// extension.
pub fn series_of(path: &Path) -> String {
    path.file_stem().map_or_else(
        || "file".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

/// Tells the kind of a file by its extension (`csv`, `tsv`, `txt`; `jsonl`, `ndjson`, `json`), else
/// by its first character: a `{` begins JSON lines.
///
/// # Errors
/// [`ReadError::Open`], [`ReadError::Read`], or [`ReadError::Compressed`] whatever the extension.
pub fn kind(path: &Path) -> Result<FileKind, ReadError> {
    let mut start = Vec::new();
    (open(path)?.take(64).read_to_end(&mut start)).map_err(|source| ReadError::Read {
        file: path.display().to_string(),
        line: 0,
        source,
    })?;
    if start.starts_with(b"\x1F\x8B") || start.starts_with(b"\x28\xB5\x2F\xFD") {
        return Err(ReadError::Compressed {
            file: path.display().to_string(),
        });
    }
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    Ok(match extension.as_deref() {
        Some("csv" | "tsv" | "txt") => FileKind::Csv,
        Some("jsonl" | "ndjson" | "json") => FileKind::JsonLines,
        _ => {
            let text = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&start);
            if text.trim_ascii_start().starts_with(b"{") {
                FileKind::JsonLines
            } else {
                FileKind::Csv
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_goes_before_the_first_character() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content, kind_due) in [
            ("a.csv", "{", FileKind::Csv),
            ("a.TSV", "x\ty", FileKind::Csv),
            ("a.jsonl", "x,y", FileKind::JsonLines),
            ("a.ndjson", "", FileKind::JsonLines),
            ("a", "\u{FEFF} \n{\"x\":1}", FileKind::JsonLines),
            ("b.dat", "x;y", FileKind::Csv),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            assert_eq!(kind(&path).expect(name), kind_due, "{name}");
        }
        assert_eq!(series_of(Path::new("/data/pump 7.csv")), "pump 7");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let absent = folder.path().join("absent.csv");
        let said = kind(&absent).expect_err("absent").to_string();
        assert!(
            said.contains("absent.csv") && said.contains("check the path"),
            "{said}"
        );
        assert!(
            matches!(kind(folder.path()), Err(ReadError::Open { .. })),
            "a folder is no file"
        );
        let zipped = folder.path().join("a.csv");
        std::fs::write(&zipped, b"\x1F\x8B\x08\x00").expect("written");
        assert!(
            kind(&zipped)
                .expect_err("gzip")
                .to_string()
                .contains("decompress")
        );
    }
}
