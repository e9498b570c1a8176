//! All stored state in an engine-neutral file, to move it to another machine or past another
//! storage engine.
//!
//! JSON lines. The first names the format; each further one is an entry of a stream: a position, a
//! changelog position, the state of a series, a record kept for the first training, or a note of
//! the retraining. States, records and notes stand there as the hexadecimal digits of their
//! versioned, checksummed bytes (see [`super::codec`]), so that what is imported is bit for bit
//! what was exported.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use super::codec::{self, CodecError};
use super::{Commit, Store, StoreError};
use crate::failure::{Failure, FailureClass};
use crate::record::TrainingRow;

const FORMAT: &str = "outlierd-state";
/// The version of the file that this program writes and reads.
const VERSION: u32 = 1;
/// Entries that are stored at a time.
const CHUNK: usize = 1_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportHeader {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ExportEntry {
    Position {
        stream: String,
        partition: i32,
        offset: i64,
    },
    Changelog {
        stream: String,
        partition: i32,
        offset: i64,
    },
    Series {
        stream: String,
        partition: i32,
        series: String,
        state: String,
    },
    Learned {
        stream: String,
        partition: i32,
        offset: i64,
        row: String,
    },
    Note {
        stream: String,
        key: String,
        value: String,
    },
}

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A line in another format.
    #[error("line {line}: {fault}; expected a file that `outlierd state export` wrote")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        fault: String,
    },
    /// The store holds something of a stream already.
    #[error(
        "stream {stream} already has stored states; remove them with `outlierd state clear {stream}`"
    )]
    Occupied {
        /// The stream.
        stream: String,
    },
}

impl Failure for TransferError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Io(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Line { .. } | Self::Occupied { .. } => FailureClass::USER,
        }
    }
}

/// Writes everything; returns the number of entries.
///
/// # Errors
/// Where the store cannot be read or the file not be written.
pub fn export(store: &dyn Store, out: &mut dyn Write) -> Result<usize, TransferError> {
    let mut entries = 0;
    let mut write = |value: serde_json::Result<String>| {
        entries += 1;
        writeln!(out, "{}", value.map_err(std::io::Error::from)?)
    };
    write(serde_json::to_string(&ExportHeader {
        format: FORMAT.into(),
        version: VERSION,
    }))?;
    for stream in store.streams()? {
        for (partition, offset) in store.positions(&stream)? {
            write(serde_json::to_string(&ExportEntry::Position {
                stream: stream.clone(),
                partition,
                offset,
            }))?;
            if let Some(offset) = store.changelog(&stream, partition)? {
                write(serde_json::to_string(&ExportEntry::Changelog {
                    stream: stream.clone(),
                    partition,
                    offset,
                }))?;
            }
            for series in store.series(&stream, partition)? {
                let Some(bytes) = store.state(&stream, partition, &series)? else {
                    continue;
                };
                let state = hex::encode(bytes);
                write(serde_json::to_string(&ExportEntry::Series {
                    stream: stream.clone(),
                    partition,
                    series,
                    state,
                }))?;
            }
        }
        for (partition, offset, bytes) in store.learned(&stream)? {
            let row = hex::encode(bytes);
            write(serde_json::to_string(&ExportEntry::Learned {
                stream: stream.clone(),
                partition,
                offset,
                row,
            }))?;
        }
        for (key, bytes) in store.notes(&stream, "")? {
            let value = hex::encode(bytes);
            write(serde_json::to_string(&ExportEntry::Note {
                stream: stream.clone(),
                key,
                value,
            }))?;
        }
    }
    Ok(entries - 1)
}

/// Says whether bytes are the encoded state of a series, which only the pipeline knows.
pub type StateCheck = fn(&[u8]) -> Result<(), CodecError>;

/// Reads everything into a store that holds nothing of the same streams; returns the number of
/// entries.
///
/// # Errors
/// See [`TransferError`]. The whole file is checked before anything is stored.
pub fn import(
    store: &dyn Store,
    file: &mut dyn BufRead,
    is_state: StateCheck,
) -> Result<usize, TransferError> {
    let mut commits: Vec<(String, Commit)> = Vec::new();
    let mut entries = 0;
    let taken = store.streams()?;
    for (index, text) in file.lines().enumerate() {
        let line = index + 1;
        let fail = |fault: String| TransferError::Line { line, fault };
        let text = text?;
        if index == 0 {
            check_head(&text).map_err(fail)?;
            continue;
        }
        let entry: ExportEntry =
            serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
        let stream = entry.stream();
        if taken.contains(stream) {
            let stream = stream.clone();
            return Err(TransferError::Occupied { stream });
        }
        if commits
            .last()
            .is_none_or(|(last, commit)| last != stream || size(commit) >= CHUNK)
        {
            commits.push((stream.clone(), Commit::default()));
        }
        if let Some((_, commit)) = commits.last_mut() {
            entry.add_to(commit, is_state).map_err(fail)?;
        }
        entries += 1;
    }
    for (stream, commit) in &commits {
        store.commit(stream, commit)?;
    }
    Ok(entries)
}

/// Whether the first line of a file names a format that can be read.
fn check_head(text: &str) -> Result<(), String> {
    let head: ExportHeader = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if head.format != FORMAT || head.version > VERSION {
        return Err(format!(
            "is {} of version {}, this outlierd reads {FORMAT} up to {VERSION}",
            head.format, head.version
        ));
    }
    Ok(())
}

impl ExportEntry {
    fn stream(&self) -> &String {
        match self {
            Self::Position { stream, .. }
            | Self::Changelog { stream, .. }
            | Self::Series { stream, .. }
            | Self::Learned { stream, .. }
            | Self::Note { stream, .. } => stream,
        }
    }

    /// Makes it a part of a commit, once its bytes are proved to be what they should be.
    fn add_to(self, commit: &mut Commit, is_state: StateCheck) -> Result<(), String> {
        match self {
            Self::Position {
                partition, offset, ..
            } => commit.positions.push((partition, offset)),
            Self::Changelog {
                partition, offset, ..
            } => commit.changelog.push((partition, offset)),
            Self::Series {
                partition,
                series,
                state,
                ..
            } => {
                let state = bytes(&state, is_state)?;
                commit.states.push((partition, series, Some(state)));
            }
            Self::Learned {
                partition,
                offset,
                row,
                ..
            } => {
                let is_row = |bytes: &[u8]| codec::decode::<TrainingRow>(bytes).map(drop);
                commit
                    .learned
                    .push((partition, offset, bytes(&row, is_row)?));
            }
            Self::Note { key, value, .. } => {
                let value = hex::decode(value).map_err(|error| error.to_string())?;
                commit.notes.push((key, Some(value)));
            }
        }
        Ok(())
    }
}

fn size(commit: &Commit) -> usize {
    commit.states.len() + commit.learned.len() + commit.notes.len()
}

/// The bytes of hexadecimal digits, which have to pass the check.
fn bytes(digits: &str, check: impl Fn(&[u8]) -> Result<(), CodecError>) -> Result<Vec<u8>, String> {
    let bytes = hex::decode(digits).map_err(|error| error.to_string())?;
    check(&bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryStore;
    use super::*;

    fn is_state(bytes: &[u8]) -> Result<(), CodecError> {
        codec::decode::<Vec<f64>>(bytes).map(drop)
    }

    fn filled() -> MemoryStore {
        let store = MemoryStore::default();
        let state = |fields| codec::encode(&vec![0.5; fields]).unwrap();
        for stream in ["a", "b"] {
            let states = (0..2_500)
                .map(|i| {
                    (
                        i % 3,
                        format!("pump \"{i}\""),
                        Some(state(i as usize % 4 + 1)),
                    )
                })
                .collect();
            let row = TrainingRow {
                series: "p".into(),
                time: crate::record::EventTime(7),
                values: vec![0.1, f64::MIN_POSITIVE],
                image: None,
            };
            let commit = Commit {
                positions: vec![(0, 5), (1, 7), (2, i64::MAX)],
                states,
                learned: vec![(0, 3, codec::encode(&row).unwrap())],
                changelog: vec![(1, 70)],
                notes: vec![("run/0/17".into(), Some(vec![1, 2, 3]))],
            };
            store.commit(stream, &commit).unwrap();
        }
        store
    }

    #[test]
    fn what_is_exported_is_imported_bit_for_bit() {
        let mut first = Vec::new();
        let entries = export(&filled(), &mut first).unwrap();
        let other = MemoryStore::default();
        assert_eq!(
            import(&other, &mut first.as_slice(), is_state).unwrap(),
            entries
        );
        assert_eq!(entries, 2 * (3 + 1 + 2_500 + 1 + 1));
        let mut second = Vec::new();
        export(&other, &mut second).unwrap();
        assert!(first == second, "the same file again");
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_damaged_is_taken() {
        let mut file = Vec::new();
        export(&filled(), &mut file).unwrap();
        let text = String::from_utf8(file).unwrap();
        let error = import(&filled(), &mut text.as_bytes(), is_state)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "stream a already has stored states; remove them with `outlierd state clear a`"
        );

        let store = MemoryStore::default();
        let at = text.find("\"state\":\"").unwrap() + 30;
        let mut damaged = text.clone().into_bytes();
        damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
        let error = import(&store, &mut damaged.as_slice(), is_state)
            .unwrap_err()
            .to_string();
        assert!(error.contains("checksum does not match"), "{error}");
        let error = import(
            &store,
            &mut "{\"format\":\"outlierd-state\",\"version\":2}".as_bytes(),
            is_state,
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.starts_with("line 1: is outlierd-state of version 2"),
            "{error}"
        );
        assert_eq!(
            store.streams().unwrap(),
            Vec::<String>::new(),
            "nothing was stored"
        );
    }
}
