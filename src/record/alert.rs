//! The published event of an episode, and the dead letter: the two things that leave outlierd on Kafka.
//!
//! Both are plain JSON; `schemas/` holds their JSON Schemas, held equal to these types by a test.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::image::Region;
use super::{FaultKind, RejectReason};

/// One event of one episode of one series.
///
/// An episode has one `id`, the same at every replay: a hash of stream, series, kind and the position of the record
/// that opened it. Its events are numbered by `sequence`: the opening has 0.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Deterministic id of the episode, 32 hexadecimal digits.
    pub id: String,
    /// Number of the event inside its episode, from 0.
    pub sequence: u32,
    /// Whether the episode opens, is updated or closes.
    pub event: AlertEvent,
    /// What the episode is about.
    pub kind: AlertKind,
    /// How bad it is at this event; never falls inside an episode.
    pub severity: Severity,
    /// Name of the stream in the configuration.
    pub stream: String,
    /// Key of the series inside the stream.
    pub series: String,
    /// Event time of the record that made this event (RFC 3339, UTC).
    pub time: String,
    /// Event time of the first record of the episode (RFC 3339, UTC).
    pub opened_at: String,
    /// Event time of the closing record (RFC 3339, UTC); only in a close event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<String>,
    /// Records of the episode so far that were outliers (or faulty); of a gateway's silence, its
    /// series; of a topic's, its partitions; of a blind detector, the series that were tested.
    pub records: u64,
    /// Score of this event's record; none for sensor faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The threshold it was held against; none for sensor faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// How far above: score / threshold; none for sensor faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Largest ratio of the episode so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_ratio: Option<f64>,
    /// The fields with the largest shares of the score, largest first; empty for sensor faults.
    pub fields: Vec<FieldShare>,
    /// The regions of the image with the largest shares of the score, largest first; left out where records are readings, and
    /// in a close event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// The sensors that cannot be believed; empty for anomalies.
    pub faults: Vec<FieldFault>,
    /// Id of the bundle that scored.
    pub bundle: String,
    /// Whether the threshold still rests on the fleet's calibration more than on the series' own records.
    pub provisional: bool,
    /// Records that the series needs until its alerts are no longer provisional; left out where none are missing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing_records: u64,
    /// Whether records are missing inside the window of this event (`gate.gap_after`); left out where none are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spans_gap: bool,
    /// The input record of this event.
    pub position: InputPosition,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What happens to an episode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    /// It begins.
    Open,
    /// It goes on: its severity rose, or `episode.update_every` has passed.
    Update,
    /// It is over.
    Close,
}

impl AlertEvent {
    /// The name in metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Update => "update",
            Self::Close => "close",
        }
    }
}

/// What an episode is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// The machine behaves as it did not when the model learned.
    Anomaly,
    /// A sensor cannot be believed.
    SensorFault,
    /// A series, a gateway or the whole topic sends nothing any more.
    Silence,
    /// The stream's detector would no longer catch what it has proved to catch.
    Blind,
}

impl AlertKind {
    /// The name in metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
            Self::SensorFault => "sensor_fault",
            Self::Silence => "silence",
            Self::Blind => "blind",
        }
    }
}

/// How bad an episode is.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A sensor needs attention, the machine may be well.
    Info,
    /// Above the threshold.
    Warning,
    /// At `episode.critical_ratio` times the threshold, or more.
    Critical,
}

/// A field's part in a score.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldShare {
    /// Name of the field.
    pub name: String,
    /// What was read, in the field's unit.
    pub value: f64,
    /// What the model expected there, in the field's unit.
    pub expected: f64,
    /// Its share of the score, 0 to 1; the shares of all fields add up to 1.
    pub share: f64,
}

/// A sensor that cannot be believed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldFault {
    /// Name of the field.
    pub name: String,
    /// What is wrong with it.
    pub kind: FaultKind,
    /// What was read, where it was a finite number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}

/// Where an input record stands in Kafka.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputPosition {
    /// Topic (the file's name for `replay`).
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// The headers of a dead letter, as a JSON object. Its value and key are the original bytes, and the original headers stay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// Name of the stream.
    pub stream: String,
    /// Why the record was not scored.
    pub reason: RejectReason,
    /// Why, in words.
    pub detail: String,
    /// Where the record stood.
    pub position: InputPosition,
    /// Length of the original value in bytes; the value is left out where the output topic refuses one so large.
    pub payload_bytes: u64,
    /// Whether the value was left out.
    pub payload_omitted: bool,
}
