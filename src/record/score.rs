//! The published score of a record: its JSON Schema and its Avro schema are in `schemas/`, held equal to
//! these types by a test.

use schemars::JsonSchema;
use serde::Serialize;

use super::{RecordOutcome, RecordVerdict};

/// The score of one record, on the topic `output.scores`.
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Score")]
pub struct RecordScore<'a> {
    /// Name of the stream in the configuration.
    pub stream: &'a str,
    /// Key of the series inside the stream.
    pub series: &'a str,
    /// Event time of the record (RFC 3339, UTC).
    pub time: String,
    /// The anomaly score, 0 or more; null if the record was not scored.
    pub score: Option<f64>,
    /// Root mean square of the residual in scaled units; null if the record was not scored.
    pub raw_error: Option<f64>,
    /// The threshold of the record; null if there is none yet.
    pub threshold: Option<f64>,
    /// The verdict on the record.
    pub verdict: RecordVerdict,
    /// The record.
    pub position: ScorePosition<'a>,
}

/// Position of a scored record in Kafka.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ScorePosition<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Which of its message's records, from 0; omitted where the message is one record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
}

impl<'a> RecordScore<'a> {
    /// That of a record of a stream, read from a topic.
    pub fn of(outcome: &'a RecordOutcome, stream: &'a str, topic: &'a str) -> Self {
        let scored = outcome.scored.as_ref();
        Self {
            stream,
            series: &outcome.series,
            time: outcome.time.to_string(),
            score: scored.map(|scored| scored.score),
            raw_error: scored.map(|scored| scored.raw_error),
            threshold: outcome.threshold,
            verdict: outcome.verdict,
            position: ScorePosition {
                topic,
                partition: outcome.partition,
                offset: outcome.offset,
                part: outcome.part,
            },
        }
    }
}
