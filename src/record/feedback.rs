//! Operator feedback on an alert, or on a time range.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EventTime;

/// Operator feedback. Later feedback on the same alert replaces earlier feedback.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// Name of the stream.
    pub stream: String,
    /// The label.
    pub label: FeedbackLabel,
    /// Key of the series.
    pub series: String,
    /// Id of the alert; none for a time range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// Event time of the first record of the range (RFC 3339).
    #[schemars(with = "String")]
    pub from: jiff::Timestamp,
    /// Event time of the last record of the range (RFC 3339).
    #[schemars(with = "String")]
    pub until: jiff::Timestamp,
    /// Offsets of the alert's records in the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordRange>,
    /// The highest score of the alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_score: Option<f64>,
    /// Id of the bundle that computed that score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Time of the feedback (RFC 3339).
    #[schemars(with = "String")]
    pub at: jiff::Timestamp,
    /// The operator's comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A range of offsets in a partition of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordRange {
    /// The partition.
    pub partition: i32,
    /// Offset of the record that opened the alert.
    pub first: i64,
    /// Offset of the alert's last known record.
    pub last: i64,
}

/// The labels of feedback.
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
pub enum FeedbackLabel {
    /// The alert was a fault. Every bundle promoted from now on must detect it.
    Confirmed,
    /// The alert was a false alarm: the series' threshold rises above it, and its records are used
    /// for training.
    FalseAlarm,
    /// The event was expected, such as a test run: its records are not used for training.
    Expected,
    /// The machine has changed and is healthy: its present readings become the baseline and are
    /// used for training.
    NewNormal,
    /// The readings are not those of a healthy machine: they are excluded from training, and
    /// outlierd lists the bundles that were trained on them.
    MarkRange,
}

impl_as_str!(FeedbackLabel);

impl Feedback {
    /// Identifies the alert or the time range: equal for two messages on the same one.
    pub fn subject(&self) -> String {
        match &self.alert {
            Some(id) => id.clone(),
            None => format!(
                "{}/{}/{}",
                self.from.as_microsecond(),
                self.until.as_microsecond(),
                self.series
            ),
        }
    }

    /// Whether it covers a record.
    pub fn is_about(&self, series: &str, time: EventTime) -> bool {
        series == self.series
            && (self.from.as_microsecond()..=self.until.as_microsecond()).contains(&time.0)
    }
}

/// The effect of feedback on the series of its alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeedbackEffect {
    /// The state of the series has changed.
    Applied,
    /// It means nothing to the series: its bundle is gone, for one.
    Nothing,
    /// The bundle that it refers to is not live here yet.
    Later,
}
