//! What an operator says of an alert, or of a stretch of time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EventTime;

/// One thing that an operator says. A later one about the same alert takes the place of the earlier one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// Name of the stream.
    pub stream: String,
    /// What is said.
    pub says: Says,
    /// Key of the series.
    pub series: String,
    /// Id of the alert; none where a stretch of time is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// Event time of the first record that is meant (RFC 3339).
    #[schemars(with = "String")]
    pub from: jiff::Timestamp,
    /// Event time of the last record that is meant (RFC 3339).
    #[schemars(with = "String")]
    pub until: jiff::Timestamp,
    /// Where the alert's records stand in the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<Records>,
    /// The highest score of the alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_score: Option<f64>,
    /// Id of the bundle whose score that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// When it was said (RFC 3339).
    #[schemars(with = "String")]
    pub at: jiff::Timestamp,
    /// What the operator adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A stretch of a partition of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// The partition.
    pub partition: i32,
    /// Offset of the record that opened the alert.
    pub first: i64,
    /// Offset of the last record that is known of it.
    pub last: i64,
}

/// What an operator may say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// There was a fault. It has to be caught by every bundle that is to go live from now on.
    Confirmed,
    /// There was nothing: the series' threshold rises above it, and its records are learned from.
    FalseAlarm,
    /// Something was going on that had to be, such as a test run: nothing is learned from it.
    Expected,
    /// The machine is different now, and well: its present readings become the baseline, and are learned from.
    NewNormal,
    /// The readings are not those of a healthy machine: they are left out of all trainings, and bundles that have learned
    /// from them are named.
    MarkRange,
}

impl Says {
    /// The name in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::FalseAlarm => "false_alarm",
            Self::Expected => "expected",
            Self::NewNormal => "new_normal",
            Self::MarkRange => "mark_range",
        }
    }
}

impl Feedback {
    /// What it is about: the same for two that are about one alert or one stretch of time.
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

    /// Whether it is about a record.
    pub fn is_about(&self, series: &str, time: EventTime) -> bool {
        series == self.series
            && (self.from.as_microsecond()..=self.until.as_microsecond()).contains(&time.0)
    }
}
