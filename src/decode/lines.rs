//! JSON lines of a file as the messages of a topic: one line is one payload, for `replay` and
//! `train`.
//!
//! A line's offset is its number from 0. The messages have the key and the timestamps that a file
//! lacks: its name, and the line's number in seconds after the epoch; so streams that take them
//! from Kafka can be replayed too. Blank lines are no messages, but are counted. Memory is bounded
//! by the chunk: of a line that is longer than a payload may be, only so much is kept that the
//! decoder finds it too long.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::Path;

use super::file::{self, ReadError};
use crate::record::format::RecordFormat;
use crate::record::{EventTime, Message};

/// Bytes after which a chunk is returned even if it has fewer lines than requested.
const CHUNK_BYTES: usize = 8 << 20;

/// Reads a file of JSON lines in chunks.
#[derive(Debug)]
pub struct Lines<R> {
    /// The file's name, for errors.
    file: String,
    reader: BufReader<R>,
    /// The key of all messages.
    series: String,
    /// Longest line that is kept whole.
    payload_bytes_max: usize,
    /// Number of the next line, from 0.
    next: i64,
}

/// Some lines, which own their bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Chunk {
    series: String,
    bytes: Vec<u8>,
    /// Each line's number and place in `bytes`.
    lines: Vec<(i64, Range<usize>)>,
}

impl Chunk {
    /// The lines as messages of partition 0, to be handed to [`super::json::Decoder::decode`].
    pub fn messages(&self) -> Vec<Message<'_>> {
        let message = |(number, place): &(i64, Range<usize>)| Message {
            partition: 0,
            offset: *number,
            key: Some(self.series.as_bytes()),
            payload: self.bytes.get(place.clone()),
            timestamp: Some(EventTime(number.saturating_mul(1_000_000))),
            arrival: None,
            headers: None,
        };
        self.lines.iter().map(message).collect()
    }
}

impl Lines<File> {
    /// Opens the file at `path` for records of `format`.
    ///
    /// # Errors
    /// [`ReadError::Open`].
    pub fn open(path: &Path, format: &RecordFormat) -> Result<Self, ReadError> {
        let reader = file::open(path)?;
        Ok(Self::from_reader(
            path.display(),
            reader,
            file::series_of(path),
            format.max_payload_bytes,
        ))
    }
}

impl<R: Read> Lines<R> {
    /// Reads from `reader`; `file` names it in errors, `series` is the key of its messages.
    pub fn from_reader(
        file: impl ToString,
        reader: R,
        series: String,
        payload_bytes_max: usize,
    ) -> Self {
        Self {
            file: file.to_string(),
            reader: BufReader::new(reader),
            series,
            payload_bytes_max,
            next: 0,
        }
    }

    /// The next lines, `lines_max` at most; `None` at the end of the file.
    ///
    /// # Errors
    /// [`ReadError::Read`].
    pub fn next_chunk(&mut self, lines_max: usize) -> Result<Option<Chunk>, ReadError> {
        let mut chunk = Chunk {
            series: self.series.clone(),
            ..Chunk::default()
        };
        while chunk.lines.len() < lines_max && chunk.bytes.len() < CHUNK_BYTES {
            let start = chunk.bytes.len();
            if !self.read_line(&mut chunk.bytes)? {
                break;
            }
            let line = chunk.bytes.get(start..).unwrap_or_default();
            // A line that was cut may have its text behind the cut.
            let is_blank = line.len() <= self.payload_bytes_max && line.trim_ascii().is_empty();
            if is_blank {
                chunk.bytes.truncate(start);
            } else {
                chunk.lines.push((self.next, start..chunk.bytes.len()));
            }
            self.next += 1;
        }
        Ok((!chunk.lines.is_empty()).then_some(chunk))
    }

    /// Appends one line without its end to `bytes`, no more than one byte above the longest
    /// payload; `false` at the end of the file.
    fn read_line(&mut self, bytes: &mut Vec<u8>) -> Result<bool, ReadError> {
        let keep = bytes
            .len()
            .saturating_add(self.payload_bytes_max)
            .saturating_add(1);
        let mut is_started = false;
        loop {
            let found = match self.reader.fill_buf() {
                Ok(found) => found,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(ReadError::Read {
                        file: self.file.clone(),
                        line: self.next.unsigned_abs(),
                        source,
                    });
                }
            };
            if found.is_empty() {
                return Ok(is_started);
            }
            is_started = true;
            let end = found.iter().position(|&byte| byte == b'\n');
            let part = found.get(..end.unwrap_or(found.len())).unwrap_or_default();
            let room = keep.saturating_sub(bytes.len()).min(part.len());
            bytes.extend_from_slice(part.get(..room).unwrap_or_default());
            let consumed = end.map_or(part.len(), |end| end + 1);
            self.reader.consume(consumed);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fixtures::format;
    use crate::decode::records::Decoder;
    use crate::record::RejectReason;

    fn lines(content: &str, payload_bytes_max: usize) -> Lines<&[u8]> {
        Lines::from_reader(
            "test",
            content.as_bytes(),
            "pump".to_owned(),
            payload_bytes_max,
        )
    }

    #[test]
    fn lines_keep_their_numbers_across_chunks_and_blank_lines() {
        let mut lines = lines(
            "\u{FEFF}{\"x\":0}\r\n\n  \n{\"x\":3}\n{\"x\":4}\n{\"x\":5}",
            100,
        );
        let decoder = Decoder::new(&format(&[("x", "x")]));
        let mut found = Vec::new();
        let mut chunks = 0;
        while let Some(chunk) = lines.next_chunk(2).expect("readable") {
            let batch = decoder.decode(&chunk.messages());
            assert_eq!(batch.rejected, []);
            for (record, value) in batch.records.iter().zip(&batch.values) {
                assert_eq!(
                    (record.series.as_ref(), record.time.0),
                    ("pump", record.offset * 1_000_000)
                );
                found.push((record.offset, *value));
            }
            chunks += 1;
        }
        assert_eq!(found, [(0, 0.0), (3, 3.0), (4, 4.0), (5, 5.0)]);
        assert_eq!(chunks, 2);
        assert_eq!(
            lines.next_chunk(2).expect("readable"),
            None,
            "the end stays the end"
        );
    }

    #[test]
    fn a_line_beyond_the_payload_limit_is_cut_and_found_too_large() {
        let mut format = format(&[("x", "x")]);
        format.max_payload_bytes = 10;
        let content = format!("{{\"x\":1}}\n{}\n{{\"x\":2}}\n", "y".repeat(100_000));
        let chunk = lines(&content, 10)
            .next_chunk(10)
            .expect("readable")
            .expect("a chunk");
        assert_eq!(chunk.bytes.len(), 7 + 11 + 7);
        let batch = Decoder::new(&format).decode(&chunk.messages());
        assert_eq!(batch.values, [1.0, 2.0]);
        assert_eq!(
            batch
                .rejected
                .first()
                .map(|rejected| (rejected.message, rejected.reason)),
            Some((1, RejectReason::TooLarge))
        );
    }

    #[test]
    fn a_large_file_comes_in_bounded_chunks() {
        let line = format!("{{\"x\":1,\"note\":\"{}\"}}\n", "n".repeat(1 << 20));
        let content = line.repeat(20);
        let mut lines = lines(&content, 2 << 20);
        let mut found = 0;
        while let Some(chunk) = lines.next_chunk(1000).expect("readable") {
            assert!(chunk.bytes.len() < CHUNK_BYTES + line.len());
            found += chunk.lines.len();
        }
        assert_eq!(found, 20);
    }

    #[test]
    fn an_empty_file_has_no_chunk_and_an_absent_one_is_named() {
        assert_eq!(lines("\n\n", 10).next_chunk(5).expect("readable"), None);
        let said = Lines::open(Path::new("/absent/x.jsonl"), &format(&[("x", "x")]))
            .expect_err("absent")
            .to_string();
        assert!(said.contains("/absent/x.jsonl"), "{said}");
    }
}
