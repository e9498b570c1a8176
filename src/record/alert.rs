//! The published event of an episode, and the dead letter.
//!
//! `schemas/` holds their JSON Schemas, and the Avro schema of alerts, held equal to these types by a test.

mod summary;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::image::Region;
use super::{FaultKind, RejectReason};

/// One event of one episode of one series.
///
/// An episode has one `id`, the same at every replay: a hash of stream, series, kind and the
/// position of the record that opened it. Its events are numbered by `sequence`: the opening has 0.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Deterministic id of the episode, 32 hexadecimal digits.
    pub id: String,
    /// Number of the event inside its episode, from 0.
    pub sequence: u32,
    /// Whether the event opens, updates or closes the episode.
    pub event: AlertEvent,
    /// Kind of the episode.
    pub kind: AlertKind,
    /// Severity at this event; never falls within an episode.
    pub severity: Severity,
    /// Name of the stream in the configuration.
    pub stream: String,
    /// Key of the series inside the stream.
    pub series: String,
    /// Event time of the record that made this event (RFC 3339, UTC).
    pub time: String,
    /// The event in one sentence, for people. Of the other keys alone; its wording may change.
    #[serde(default)]
    pub summary: String,
    /// Event time of the first record of the episode (RFC 3339, UTC); of a silence, the time by which
    /// a record was due.
    pub opened_at: String,
    /// Event time of the first outlier (or faulty record) of the run that opened the episode (RFC
    /// 3339, UTC); of a silence, of the last record before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Event time of the closing record (RFC 3339, UTC); only in a close event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<String>,
    /// Records of the episode so far that were outliers (or faulty); of a gateway's silence, its
    /// series; of a topic's, its partitions; of a degraded detector, the series that were tested.
    pub records: u64,
    /// Score of this event's record; none for sensor faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The threshold of this event's record; none for sensor faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Score / threshold; none for sensor faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The chart that the score is of; none for images and sensor faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<ChartKind>,
    /// Why an alert closed; only in close events. A sensor fault that is over has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_reason: Option<CloseReason>,
    /// Largest ratio of the episode so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_ratio: Option<f64>,
    /// The fields with the largest shares of the score, largest first; empty for sensor faults.
    pub fields: Vec<FieldShare>,
    /// The regions of the image with the largest shares of the score, largest first; omitted for
    /// streams of readings and in close events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// The faulty sensors; empty for anomalies.
    pub faults: Vec<FieldFault>,
    /// The fields outside the range that they were trained on; omitted for the other kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<FieldOutside>,
    /// Whether records are not scored while the sensors are faulty, since fewer than half of the
    /// fields are usable; omitted if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_scored: bool,
    /// Id of the incident: alerts of a stream that open within the same hour with the same leading field
    /// have the same one; omitted where an alert leads to nothing in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// Id of the bundle that computed the score.
    pub bundle: String,
    /// Rows that the bundle was trained on: records or windows, of images their tiles; omitted if
    /// there is no bundle.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub trained_on: u64,
    /// Whether the threshold still depends on the fleet's calibration more than on the series' own
    /// records, or the series opens more alerts than its budget allows.
    pub provisional: bool,
    /// Number of further records until the threshold depends on the series' own records; omitted if
    /// 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing_records: u64,
    /// Whether the window of this event spans a gap (`gate.gap_after`); omitted if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spans_gap: bool,
    /// The input record of this event.
    pub position: InputPosition,
}

impl Alert {
    /// The same with its `summary`, which depends on its other fields alone.
    pub fn summarized(mut self) -> Self {
        self.summary = summary::of(&self);
        self
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The events of an episode.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    /// The episode opens.
    Open,
    /// The episode is still open: its severity rose, or `episode.update_every` has passed.
    Update,
    /// The episode closes.
    Close,
}

impl_as_str!(AlertEvent);

/// Why an alert closed.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The scores fell below the threshold.
    Recovered,
    /// The series is where it was long before: its baseline had followed a slow fault.
    Returned,
    /// The plant is steady again, at another level.
    LevelShift,
    /// The fault lasted for `threshold.level_shift_after`: its level is normal from now on.
    AcceptedAsNormal,
    /// The sensor was faulty for `gate.doubt_after` and varies as the others do: it is scored again,
    /// with a relearned range; `faults` names it.
    CalibrationDoubtful,
    /// The series was not heard of for `retention.forget_after`, and is forgotten.
    Forgotten,
    /// The series has ended: another one has begun in its place.
    Ended,
}

/// The kinds of chart; each looks at another side of a series.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ChartKind {
    /// Of the smoothed readings: levels and drifts.
    Mewma,
    /// Of the newest readings (Hotelling, "Multivariate Quality Control", 1947): jumps.
    T2,
    /// Of the smoothed regression-adjusted variables: what changes against the other fields.
    Adjusted,
    /// Of the smoothed squared length of the innovation (MacGregor, Harris, "The Exponentially
    /// Weighted Moving Variance", Journal of Quality Technology 25(2), 1993): variance, frequency,
    /// broken correlations.
    Variance,
    /// Of what the autoencoder leaves of the readings, smoothed; only where normal operation bends or
    /// has several modes.
    Autoencoder,
}

impl_as_str!(ChartKind);

/// The kinds of alert.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Debug,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// The readings deviate from the normal traffic that the model was trained on.
    Anomaly,
    /// A sensor is faulty.
    SensorFault,
    /// A series, a gateway or the whole topic has stopped sending.
    Silence,
    /// The self-test found that the detector would miss faults that its bundle detected in its
    /// promotion tests.
    DetectorDegraded,
    /// Readings lie far outside the range that the model was trained on: what it makes of them means
    /// little until another bundle has learned them.
    OutOfTrainingRange,
    /// The stream gets records, and has had none for a minute that it can use: its configuration, or what
    /// sends them, is wrong.
    UnusableRecords,
}

impl_as_str!(AlertKind);

impl AlertKind {
    /// All of them: what counts or lists alerts by kind iterates these.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Whether alerts of the kind say that something is wrong; the others say what is not known.
    pub fn is_alarm(self) -> bool {
        !matches!(self, Self::OutOfTrainingRange | Self::UnusableRecords)
    }

    /// The name for people.
    pub fn label(self) -> String {
        self.as_str().replace('_', " ")
    }
}

/// The severity of an episode.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A sensor needs attention; the machine may be healthy.
    Info,
    /// Above the threshold.
    Warning,
    /// At `episode.critical_ratio` times the threshold, or more.
    Critical,
}

/// A field's share of a score.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldShare {
    /// Name of the field.
    pub name: String,
    /// Its unit, where the configuration has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The reading, in the field's unit.
    pub value: f64,
    /// The reading that the model expected, in the field's unit.
    pub expected: f64,
    /// Its share of the score, 0 to 1; the shares of all fields add up to 1.
    pub share: f64,
}

/// A faulty sensor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldFault {
    /// Name of the field.
    pub name: String,
    /// Its unit, where the configuration has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Kind of fault.
    pub kind: FaultKind,
    /// The reading, if it was a finite number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Records in a row with that reading; only of a sensor that is stuck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u32>,
}

/// A field whose readings lie outside the range that it was trained on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldOutside {
    /// Name of the field.
    pub name: String,
    /// Its unit, where the configuration has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The reading.
    pub value: f64,
    /// The least and the largest training reading.
    pub trained: [f64; 2],
}

/// Position of an input record in Kafka.
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

/// The headers of a dead letter, as a JSON object. Its value and key are the original bytes; the
/// original headers are kept. The largest of the three are omitted until the rest fits into the
/// output topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// Name of the stream.
    pub stream: String,
    /// Reason why the record was not scored.
    pub reason: RejectReason,
    /// The reason in words.
    pub detail: String,
    /// Position of the record.
    pub position: InputPosition,
    /// Which of the message's records it is, from 0; absent where it is the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// Length of the original value in bytes.
    pub payload_bytes: u64,
    /// Whether the value was omitted.
    pub payload_omitted: bool,
    /// Whether the key was omitted.
    pub key_omitted: bool,
    /// Whether the original headers were omitted.
    pub headers_omitted: bool,
}
