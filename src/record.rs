//! The nouns that travel along the path of a record.
//!
//! Each step of [`crate::pipeline`] takes one of these types and hands on the next one: [`Message`]
//! -> [`Batch`] of [`Record`]s -> [`row::GatedRow`] -> [`row::ScoredRow`] -> [`RecordOutcome`] and
//! [`alert::Alert`]s. This module imports only [`crate::options`], so that every step may import it.

pub mod alert;
mod fault;
pub mod feedback;
pub mod format;
pub mod image;
pub mod rejections;
pub mod row;
pub mod score;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::fault::{FaultKind, SensorFault};
pub use self::image::Image;

use serde::{Deserialize, Serialize};

/// A point in event time: microseconds since the Unix epoch, UTC.
///
/// Event time is set by the sensor or gateway; it never comes from the clock of this machine.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub struct EventTime(pub i64);

impl EventTime {
    /// The machine's time.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// The time `millis` milliseconds after the epoch (saturating).
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Milliseconds since the epoch, rounded down.
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The time `span` after this one (saturating).
    pub fn after(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// Microseconds from `earlier` to `self`; negative when `self` is the earlier one (saturating).
    pub fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for EventTime {
    /// RFC 3339 in UTC, such as `2026-03-09T10:14:33.5Z`; the number of microseconds where the year
    /// is out of range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// An event time as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadTime {
    /// The time; of a local one that comes twice the first.
    pub time: EventTime,
    /// The second time of a local one that comes twice.
    pub second: Option<EventTime>,
}

impl From<EventTime> for ReadTime {
    fn from(time: EventTime) -> Self {
        Self { time, second: None }
    }
}

/// The headers of a message.
pub trait Headers {
    /// The value of the last header of that name.
    fn last(&self, name: &str) -> Option<&[u8]>;
}

impl fmt::Debug for dyn Headers + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("headers")
    }
}

/// One message as it came from a source, borrowed from the source's buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The partition it was read from (0 for files).
    pub partition: i32,
    /// Its offset in the partition (the row number, from 0, for files).
    pub offset: i64,
    /// The Kafka key.
    pub key: Option<&'a [u8]>,
    /// The Kafka value; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// The Kafka timestamp, where the broker gave one; a file's is made from the row number.
    pub timestamp: Option<EventTime>,
    /// When the message arrived on its topic, where that is known; of a file it is not.
    pub arrival: Option<EventTime>,
    /// The headers, where there are any.
    pub headers: Option<&'a dyn Headers>,
}

/// One decoded record, without its values: those are one row of [`Batch::values`].
#[derive(Clone, PartialEq, Debug)]
pub struct Record<'a> {
    /// Index of the message in the polled batch.
    pub message: usize,
    /// Partition of the message.
    pub partition: i32,
    /// Offset of the message.
    pub offset: i64,
    /// Which of its message's records, from 0; `None` where the message is one record.
    pub part: Option<u32>,
    /// The key of the series inside its stream.
    pub series: Cow<'a, str>,
    /// Event time; of a local time that comes twice the first one.
    pub time: EventTime,
    /// The second one.
    pub second_time: Option<EventTime>,
    /// When its message arrived; see [`Message::arrival`].
    pub arrival: Option<EventTime>,
}

impl<'a> Record<'a> {
    /// The `part`-th record of the `index`-th message of a batch.
    pub fn of(
        message: &Message<'_>,
        (index, part): (usize, Option<u32>),
        series: Cow<'a, str>,
        time: ReadTime,
    ) -> Self {
        Self {
            message: index,
            partition: message.partition,
            offset: message.offset,
            part,
            series,
            time: time.time,
            second_time: time.second,
            arrival: message.arrival,
        }
    }
}

/// Records of one message at most.
pub const PARTS_MAX: u32 = 10_000;
/// Bits of a place that are the part: room for [`PARTS_MAX`].
const PART_BITS: u32 = 14;

/// A number that no other record of the partition has, in the order of the records: the offset, where the
/// message is one record.
pub fn place_of(offset: i64, part: Option<u32>) -> i64 {
    part.map_or(offset, |part| offset << PART_BITS | i64::from(part))
}

/// What a decode step makes of a batch of messages: the records in message order, and the rejected
/// messages and parts of messages.
///
/// `values` is row-major, `records.len() x fields`. A field that is absent or null is [`MISSING`]
/// (NaN); a reading that is not a finite number (`"NaN"`, `"inf"`) is [`NON_FINITE`] (infinite).
/// Everything else is finite.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch<'a> {
    /// The decoded records, in the order of the messages.
    pub records: Vec<Record<'a>>,
    /// Their readings in the units of the sensors, row-major.
    pub values: Vec<f64>,
    /// Their images, one for each record, where records are images; the reading of an image is its
    /// mean brightness.
    pub images: Vec<Image>,
    /// The messages that could not be decoded.
    pub rejected: Vec<Rejected>,
    /// Numbers that came as strings and were accepted.
    pub coerced: u64,
}

impl Batch<'_> {
    /// The records with their readings and images.
    pub fn rows(&self) -> impl Iterator<Item = row::DecodedRow<'_>> {
        let fields = self.values.len() / self.records.len().max(1);
        let readings = self.values.chunks_exact(fields.max(1));
        let rows = self.records.iter().zip(readings).enumerate();
        rows.map(|(index, (record, values))| row::DecodedRow {
            record,
            values,
            image: self.images.get(index),
        })
    }
}

/// Value of a field that is absent or null.
pub const MISSING: f64 = f64::NAN;
/// Value of a reading that is not a finite number.
pub const NON_FINITE: f64 = f64::INFINITY;

/// A message, or one of its records, that will not be scored: it goes to the dead-letter topic with its
/// original bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// Index of the message in the polled batch.
    pub message: usize,
    /// Which of its message's records, from 0; `None` where it is the message.
    pub part: Option<u32>,
    /// Why, for counters and programs.
    pub reason: RejectReason,
    /// Why, for people: names the field, the value found and what was allowed. At most
    /// [`Rejected::DETAIL_MAX`] bytes.
    pub detail: String,
}

impl Rejected {
    /// Bound on the length of `detail`, in bytes.
    pub const DETAIL_MAX: usize = 300;

    /// A rejected message. The detail is cut at [`Rejected::DETAIL_MAX`] bytes, at a character boundary.
    pub fn new(message: usize, reason: RejectReason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > Self::DETAIL_MAX {
            let cut = (0..=Self::DETAIL_MAX)
                .rev()
                .find(|&i| detail.is_char_boundary(i))
                .unwrap_or(0);
            detail.truncate(cut);
        }
        Self {
            message,
            part: None,
            reason,
            detail,
        }
    }

    /// The same, of one record of a message.
    pub fn of_part(self, part: Option<u32>) -> Self {
        Self { part, ..self }
    }
}

/// Reasons why a message is not scored. The names are part of the dead letter's format and of the
/// metrics.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Debug,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// No payload (a tombstone), or an empty one.
    Empty,
    /// Longer than `record.max_payload_bytes`.
    TooLarge,
    /// Not UTF-8.
    NotUtf8,
    /// Not JSON, or not one JSON value.
    NotJson,
    /// Not the encoding of `record.format`.
    NotDecodable,
    /// The registry does not have the schema that the message names.
    UnknownSchema,
    /// A schema that is invalid, or of another language than the stream, or without any configured
    /// field.
    UnusableSchema,
    /// Not an object, or not of `record.layout`.
    NotObject,
    /// `record.transform` failed.
    TransformFailed,
    /// A configured field occurs twice.
    DuplicateField,
    /// The value of a configured field is not a number.
    WrongType,
    /// Not a readable image: another format, damaged, or slower to decode than
    /// `image.decode_timeout`.
    BadImage,
    /// More pixels than `image.max_pixels`, or a file beyond `image.max_file_bytes`.
    ImageTooLarge,
    /// The file does not exist, or is not below `image.root`.
    BadFile,
    /// The series key is missing.
    MissingKey,
    /// A series key that is empty, too long, not text or not UTF-8.
    BadKey,
    /// The event time is missing.
    MissingTime,
    /// An event time that cannot be read.
    BadTime,
    /// Event time further ahead of its arrival than `gate.max_ahead`.
    Future,
    /// Event time further behind its series than `gate.allowed_lateness`.
    Late,
    /// The same event time and readings as the record before it.
    Duplicate,
    /// A new series, but the partition already has `record.max_series`.
    TooManySeries,
    /// It failed again and again: a step panicked, or a topic refused its results.
    Failed,
}

impl_as_str!(RejectReason);

/// Result of the gate, before the model.
#[derive(Clone, PartialEq, Debug)]
pub enum GateVerdict {
    /// Fit to be scored.
    Pass,
    /// At least one sensor is faulty: the record is not scored and never used for training.
    Fault(Vec<SensorFault>),
    /// Its time is invalid: the record goes to the dead letters.
    Reject(RejectReason, String),
}

/// What the score step makes of one window.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Scored {
    /// The anomaly score, finite and >= 0; larger is more anomalous: the largest ratio of a chart's
    /// score to its threshold, times the threshold of the record.
    pub score: f64,
    /// The score of the first chart, which no threshold moves: what drift is looked for in.
    pub level: f64,
    /// Number of the chart with the largest ratio.
    pub chart: usize,
    /// Root mean square of the plain residual in scaled units, before whitening and smoothing.
    pub raw_error: f64,
}

/// The verdict on a record.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Debug,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum RecordVerdict {
    /// Not scored: the stream has no bundle yet, or the window of the series is not full.
    Learning,
    /// Between two scored windows (`stride`): the next one includes it; or part of a resampled row
    /// that is not complete.
    Between,
    /// In a state of the machine that is neither scored nor used for training (`gate.ignore_when`).
    Ignored,
    /// Below the threshold.
    Normal,
    /// Slightly below the threshold (`episode.suspect_ratio`).
    Suspect,
    /// Above the threshold.
    Outlier,
    /// A sensor is faulty; the record was not scored.
    SensorFault,
}

impl_as_str!(RecordVerdict);

impl RecordVerdict {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Learning,
        Self::Between,
        Self::Ignored,
        Self::Normal,
        Self::Suspect,
        Self::Outlier,
        Self::SensorFault,
    ];
}

/// The result of the pipeline for one record.
#[derive(Clone, PartialEq, Debug)]
pub struct RecordOutcome {
    /// Index of the message in the polled batch.
    pub message: usize,
    /// Partition of the message.
    pub partition: i32,
    /// Offset of the message.
    pub offset: i64,
    /// Which of its message's records, from 0; `None` where the message is one record.
    pub part: Option<u32>,
    /// The series.
    pub series: Arc<str>,
    /// Event time.
    pub time: EventTime,
    /// The verdict.
    pub verdict: RecordVerdict,
    /// The score; `None` if the record was not scored.
    pub scored: Option<Scored>,
    /// The threshold of the record; `None` if there was none yet.
    pub threshold: Option<f64>,
    /// Whether an episode of the series is open after this record.
    pub alerting: bool,
    /// Whether records are missing inside its window.
    pub spans_gap: bool,
    /// Whether it only added to a row of the resampling that is not complete.
    pub resampling: bool,
    /// The field with the largest share of the score, or the faulty one (index).
    pub top_field: Option<usize>,
    /// Its image as a file, where it is one.
    pub image: Option<Arc<[u8]>>,
}

impl RecordOutcome {
    /// See [`place_of`].
    pub fn place(&self) -> i64 {
        place_of(self.offset, self.part)
    }
}

/// One training record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrainingRow {
    /// Its series.
    pub series: String,
    /// Its event time.
    pub time: EventTime,
    /// Its readings, all finite.
    pub values: Vec<f64>,
    /// Its image, as a PNG or JPEG file, where it is one.
    pub image: Option<Arc<[u8]>>,
}
