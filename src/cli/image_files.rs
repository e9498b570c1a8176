//! Folders of image files, read as the messages of one camera: the folder's name is the series, the
//! files' order their time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::config::settings::StreamSettings;
use crate::record::format::{Format, ImagePayload, KeyFrom, TimeFrom};
use crate::record::{EventTime, Message};

/// Images that are read at a time, and bytes after which they are enough.
const CHUNK_FILES: usize = 64;
const CHUNK_BYTES: usize = 64 << 20;

/// The same stream for files: series and times of images are those of [`ImageFiles`]; files have no
/// messages in Avro or Protobuf, but JSON.
pub(super) fn stream_of_files(mut stream: StreamSettings) -> StreamSettings {
    if let Some(image) = &mut stream.image {
        (stream.record.key, stream.record.time) = (KeyFrom::Kafka, TimeFrom::Kafka);
        image.payload = ImagePayload::Image;
        stream.record.max_payload_bytes = image.max_file_bytes;
    }
    if stream.record.format.has_schema() {
        stream.record.format = Format::Json;
    }
    stream
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    path.is_file() && extension.is_some_and(|e| matches!(&*e, "png" | "jpg" | "jpeg"))
}

/// What a folder has of one kind, in the order of the names.
pub(super) fn entries(
    folder: &Path,
    is_meant: impl Fn(&Path) -> bool,
) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    found.retain(|path| is_meant(path));
    found.sort();
    Ok(found)
}

/// The folders that hold images, the one given and all below it, in order; or the file itself.
pub(super) fn folders(input: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if is_image(input) {
        return Ok(vec![input.to_owned()]);
    }
    let mut found = BTreeSet::new();
    let mut waiting = vec![input.to_owned()];
    while let Some(folder) = waiting.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if is_image(&path) {
                found.insert(folder.clone());
            }
        }
    }
    if found.is_empty() {
        bail!("{} has no .png, .jpg or .jpeg file", input.display());
    }
    Ok(found.into_iter().collect())
}

/// The images of one folder, in the order of their names, or the one file.
pub(super) fn in_folder(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if is_image(path) {
        return Ok(vec![path.to_owned()]);
    }
    let found = entries(path, is_image)?;
    if found.is_empty() {
        bail!("{} has no .png, .jpg or .jpeg file", path.display());
    }
    Ok(found)
}

/// See the module.
pub(super) struct ImageFiles {
    paths: Vec<PathBuf>,
    series: String,
    next: usize,
}

/// Some files, which own their bytes.
pub(super) struct Chunk {
    series: String,
    first: usize,
    files: Vec<Vec<u8>>,
}

impl ImageFiles {
    /// The images of a folder.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let series = folder.file_name().map_or_else(
            || "images".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        Ok(Self {
            paths: in_folder(folder)?,
            series,
            next: 0,
        })
    }

    /// The next images, `most` at most; `None` at the end.
    pub(super) fn next_chunk(&mut self, most: usize) -> anyhow::Result<Option<Chunk>> {
        let mut chunk = Chunk {
            series: self.series.clone(),
            first: self.next,
            files: Vec::new(),
        };
        let mut bytes = 0;
        while let Some(path) = self.paths.get(self.next)
            && chunk.files.len() < most.min(CHUNK_FILES)
            && bytes < CHUNK_BYTES
        {
            let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            bytes += file.len();
            chunk.files.push(file);
            self.next += 1;
        }
        Ok((!chunk.files.is_empty()).then_some(chunk))
    }
}

impl Chunk {
    /// Its files as messages, a second apart.
    pub(super) fn messages(&self) -> Vec<Message<'_>> {
        let numbered = self.files.iter().zip(self.first..);
        numbered
            .map(|(file, number)| Message {
                payload: Some(file),
                ..message(&self.series, number)
            })
            .collect()
    }
}

/// The `number`-th message of a series of files, without its payload.
pub(super) fn message(series: &str, number: usize) -> Message<'_> {
    let offset = number as i64;
    let key = Some(series.as_bytes());
    let timestamp = Some(EventTime(offset.saturating_mul(1_000_000)));
    Message {
        partition: 0,
        offset,
        key,
        payload: None,
        timestamp,
        arrival: None,
        headers: None,
    }
}
