//! The image decoder: messages that are images, or JSON objects that hold or name one, become
//! records with pixels.
//!
//! What counts as an image: PNG and JPEG, told by their first bytes, and raw grey values where
//! `width`, `height` and `bits` (8, or 16 in little-endian order) say so: as headers of the message
//! beside a payload of pixels, as numbers in the object beside its text. Series and time are where
//! they are for readings ([`super::meta`]); a path leads into the object.
//!
//! Contract: as [`super`]. No image makes the process take more memory or time than
//! `image.max_pixels`, `image.max_file_bytes` and `image.decode_timeout` allow; a file is read only
//! if it lies below `image.root`, links followed. Decoding is the work of a thread of its own
//! ([`super::worker`]), which a decoder that hangs or panics takes down with it, and nothing else.

mod pixels;

use std::borrow::Cow;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

pub use self::pixels::decode_file;
use self::pixels::{Raw, Source, decode};
use super::text::quoted;
use super::time::TimeReader;
use super::worker::{NoAnswer, Worker};
use super::{DecodeProblem, meta};
use crate::record::format::{ImageFormat, ImagePayload, KeyFrom, RecordFormat, TimeFrom};
use crate::record::{Batch, Image, Message, ReadTime, Record, RejectReason, Rejected};

/// Bytes of the pixels and files of a batch after which the next one begins.
const BATCH_BYTES: usize = 16 << 20;
/// With or without the signs that fill it up.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the images of one stream.
pub struct ImageDecoder {
    key: KeyFrom,
    time: TimeFrom,
    times: TimeReader,
    format: Arc<ImageFormat>,
    max_payload_bytes: usize,
    worker: Worker<Source, Result<Image, DecodeProblem>>,
}

/// Decodes images, each in the time that it may take.
fn decoder_of(format: Arc<ImageFormat>) -> Worker<Source, Result<Image, DecodeProblem>> {
    Worker::new("decode-image", format.decode_timeout, move || {
        let format = format.clone();
        Box::new(move |source| decode(source, &format))
    })
}

/// What one message gave.
struct DecodedImage<'a> {
    series: Cow<'a, str>,
    time: ReadTime,
    image: Image,
}

/// Key and time of an object with an image.
#[derive(Default)]
struct PayloadMeta {
    key: Option<Cow<'static, str>>,
    time: Option<ReadTime>,
}

impl ImageDecoder {
    /// A decoder of a stream's images.
    pub fn new(record: &RecordFormat, format: &ImageFormat) -> Self {
        let key = record.key.clone();
        let time = record.time.clone();
        let format = Arc::new(format.clone());
        Self {
            key,
            time,
            times: TimeReader::of(record),
            worker: decoder_of(format.clone()),
            format,
            max_payload_bytes: record.max_payload_bytes,
        }
    }

    /// Decodes the messages from `first` on, as many as a batch should hold: each becomes one
    /// record or one rejection. The indices of records and rejections are those in `messages`.
    /// Returns the first message that was not looked at.
    pub fn decode<'a>(&mut self, messages: &[Message<'a>], first: usize) -> (Batch<'a>, usize) {
        let mut batch = Batch::default();
        let mut bytes = 0;
        for (index, message) in messages.iter().enumerate().skip(first) {
            if bytes >= BATCH_BYTES {
                return (batch, index);
            }
            match self.decode_one(message) {
                Ok(DecodedImage {
                    series,
                    time,
                    image,
                }) => {
                    bytes += size_of_val(image.pixels.as_slice()) + image.file.len();
                    let at = (index, None);
                    batch.records.push(Record::of(message, at, series, time));
                    batch.values.push(image.brightness());
                    batch.images.push(image);
                }
                Err(problem) => {
                    batch
                        .rejected
                        .push(Rejected::new(index, problem.reason, problem.detail))
                }
            }
        }
        (batch, messages.len())
    }

    fn undecoded(&self, why: &NoAnswer) -> DecodeProblem {
        let detail = match why {
            NoAnswer::TooLong => format!(
                "decoding takes longer than {}; see `image.decode_timeout`",
                humantime::format_duration(self.format.decode_timeout)
            ),
            NoAnswer::Failed => "the decoder failed: the image is damaged".to_owned(),
            NoAnswer::Busy => {
                "images before it are still being decoded; see `image.decode_timeout`".to_owned()
            }
            NoAnswer::NoThread(error) => format!("cannot start a decoder thread: {error}"),
        };
        DecodeProblem::new(RejectReason::BadImage, detail)
    }

    fn decode_one<'a>(&mut self, message: &Message<'a>) -> Result<DecodedImage<'a>, DecodeProblem> {
        let payload = meta::payload(message, self.max_payload_bytes, "an image")?;
        let (said, source) = match self.format.payload {
            ImagePayload::Image => (
                PayloadMeta::default(),
                Source {
                    bytes: payload.to_vec(),
                    raw: raw_by_headers(message)?,
                },
            ),
            ImagePayload::Json => self.open(payload)?,
        };
        let series = meta::series(&self.key, message, said.key)?;
        let time = meta::time(&self.time, &self.times, message, said.time)?;
        if source.bytes.len() > self.format.max_file_bytes {
            return Err(too_long(
                source.bytes.len() as u64,
                self.format.max_file_bytes,
            ));
        }
        let image = self.worker.run(source);
        let image = image.map_err(|why| self.undecoded(&why))??;
        Ok(DecodedImage {
            series,
            time,
            image,
        })
    }

    /// Key, time and image of a JSON object.
    fn open(&self, payload: &[u8]) -> Result<(PayloadMeta, Source), DecodeProblem> {
        let data = &self.format.data;
        let file = &self.format.file;
        let root = self.format.root.as_deref();
        let object: Value = serde_json::from_str(meta::text(payload)?).map_err(|error| {
            DecodeProblem::new(RejectReason::NotJson, format!("not JSON: {error}"))
        })?;
        if !object.is_object() {
            return Err(DecodeProblem::new(
                RejectReason::NotObject,
                "expected a JSON object with an image",
            ));
        }
        let said = self.said(&object)?;
        let number = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| not_a_size(name, &value.to_string())),
        };
        let raw = Raw::of(number)?;
        let bytes = match (text_at(&object, data)?, text_at(&object, file)?) {
            (Some(text), None) => BASE64.decode(text.trim()).map_err(|error| {
                let detail = format!(
                    "`{}` is not base64 text (letters, digits, + and /, in one line): {error}",
                    data.join(".")
                );
                DecodeProblem::new(RejectReason::BadImage, detail)
            })?,
            (None, Some(name)) => read(root, name, self.format.max_file_bytes)?,
            (found, _) => {
                let what = if found.is_some() { "both" } else { "neither" };
                let data = data.join(".");
                let file = file.join(".");
                let detail = format!(
                    "the object has {what} `{data}` (base64) and `{file}` (a file's name); expected exactly one of them"
                );
                return Err(DecodeProblem::new(RejectReason::BadImage, detail));
            }
        };
        Ok((said, Source { bytes, raw }))
    }

    fn said(&self, object: &Value) -> Result<PayloadMeta, DecodeProblem> {
        let mut said = PayloadMeta::default();
        if let KeyFrom::Field(path) = &self.key {
            said.key = match at(object, path) {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => {
                    super::text::check_key(text, &format!("series key `{}`", path.join(".")))?;
                    Some(Cow::Owned(text.clone()))
                }
                Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
                    Some(number.to_string().into())
                }
                Some(_) => {
                    let detail = format!(
                        "series key `{}` is neither a string nor an integer",
                        path.join(".")
                    );
                    return Err(DecodeProblem::new(RejectReason::BadKey, detail));
                }
            };
        }
        if let TimeFrom::Field(path) = &self.time {
            let read = match at(object, path) {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) if text.trim().is_empty() => None,
                Some(Value::String(text)) => Some(self.times.read_text(text)),
                Some(Value::Number(number)) => Some(match number.as_i64() {
                    Some(whole) => self.times.read_integer(whole),
                    None => self.times.read_float(number.as_f64().unwrap_or(f64::NAN)),
                }),
                Some(_) => Some(Err("neither text nor a number".to_owned())),
            };
            let place = || format!("event time `{}`", path.join("."));
            said.time = read.transpose().map_err(|fault| {
                DecodeProblem::new(RejectReason::BadTime, format!("{}: {fault}", place()))
            })?;
        }
        Ok(said)
    }
}

fn at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

fn text_at<'v>(object: &'v Value, path: &[String]) -> Result<Option<&'v str>, DecodeProblem> {
    match at(object, path) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(DecodeProblem::new(
            RejectReason::WrongType,
            format!("`{}` is not text", path.join(".")),
        )),
    }
}

fn raw_by_headers(message: &Message<'_>) -> Result<Option<Raw>, DecodeProblem> {
    let number = |name: &str| -> Result<Option<u64>, DecodeProblem> {
        let Some(value) = message.headers.and_then(|headers| headers.last(name)) else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(value);
        text.trim()
            .parse()
            .map(Some)
            .map_err(|_| not_a_size(name, &text))
    };
    Raw::of(number)
}

fn not_a_size(name: &str, found: &str) -> DecodeProblem {
    let detail = format!(
        "{name:?} is {}; expected a number of pixels or bits",
        quoted(found)
    );
    DecodeProblem::new(RejectReason::BadImage, detail)
}

fn too_long(found: u64, most: usize) -> DecodeProblem {
    let detail =
        format!("the image has {found} bytes, {most} are allowed; see `image.max_file_bytes`");
    DecodeProblem::new(RejectReason::ImageTooLarge, detail)
}

/// Reads a file below `root`.
fn read(root: Option<&Path>, name: &str, bytes_max: usize) -> Result<Vec<u8>, DecodeProblem> {
    let bad = |why: String| {
        DecodeProblem::new(
            RejectReason::BadFile,
            format!("file {}: {why}", quoted(name)),
        )
    };
    let Some(root) = root else {
        return Err(bad(
            "files are not read; name their folder as `image.root`".into()
        ));
    };
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(name).components().all(is_plain) {
        return Err(bad(
            "a name below `image.root` is allowed, without \"..\" and without a leading \"/\""
                .into(),
        ));
    }
    let root = root
        .canonicalize()
        .map_err(|error| bad(format!("`image.root` cannot be opened: {error}")))?;
    let path = root
        .join(name)
        .canonicalize()
        .map_err(|error| bad(error.to_string()))?;
    if !path.starts_with(&root) {
        return Err(bad("it is a link to a file outside of `image.root`".into()));
    }
    let mut file = File::open(&path).map_err(|error| bad(error.to_string()))?;
    let meta = file.metadata().map_err(|error| bad(error.to_string()))?;
    match meta.len() {
        _ if !meta.is_file() => return Err(bad("it is not a regular file".into())),
        length if length > bytes_max as u64 => return Err(too_long(length, bytes_max)),
        _ => {}
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    file.by_ref()
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| bad(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
