//! The status of one series, for the status page and for `state list`, and the constants that it
//! shares with scoring.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::series::{SeriesState, tag};
use crate::config::settings::StreamSettings;
use crate::inter_arrival::SilenceStatus;
use crate::model::bundle::Bundle;
use crate::threshold;

/// One series, as it was last stored.
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
pub struct SeriesStatus {
    /// Its key.
    pub series: String,
    /// Its partition.
    pub partition: i32,
    /// Event time of its first record since it was last forgotten (RFC 3339, UTC); none where a
    /// release stored the series that did not keep it.
    pub since: Option<String>,
    /// Event time of its newest record (RFC 3339, UTC).
    pub newest: Option<String>,
    /// Seconds between two of its records, typically.
    pub gap_s: Option<f64>,
    /// Whether it is overdue, and that has been announced.
    pub silent: bool,
    /// Whether an anomaly's alert is open, published or not.
    pub anomaly: bool,
    /// Whether a sensor fault's alert is open, published or not.
    pub sensor_fault: bool,
    /// Its threshold; none until it was scored with the live bundle.
    pub threshold: Option<f64>,
    /// Records of its own that the threshold has learned from.
    pub own_records: u64,
    /// Records that are missing until its alerts are no longer provisional.
    pub missing_records: u64,
}

impl SeriesStatus {
    /// The status of a series of a stream whose live bundle is `bundle`.
    pub fn new(
        stream: &StreamSettings,
        bundle: Option<&Bundle>,
        partition: i32,
        series: &str,
        state: &SeriesState,
    ) -> Self {
        let params = threshold::ThresholdParams::new(
            &stream.threshold,
            score_period(
                stream,
                bundle.map_or(0, |bundle| bundle.calibration.period_micros),
            ),
            bundle.map_or(1, |bundle| bundle.calibration.scores().count()),
        );
        let live = bundle.map(|bundle| tag(bundle.id()));
        let scoring = state
            .scoring
            .as_ref()
            .filter(|scoring| Some(scoring.bundle) == live);
        Self {
            series: series.to_owned(),
            partition,
            since: state.since().map(|time| time.to_string()),
            newest: state.gate.newest().map(|time| time.to_string()),
            gap_s: state.inter_arrival.typical_s(),
            silent: state.inter_arrival.silent != SilenceStatus::No,
            anomaly: state.episode.anomaly_open(),
            sensor_fault: state.episode.fault_open(),
            threshold: scoring.map(|scoring| scoring.thresholds.value(&params)),
            own_records: scoring.map_or(0, |scoring| scoring.thresholds.own_records()),
            missing_records: scoring.map_or(stream.threshold.min_records, |scoring| {
                scoring.thresholds.missing_records(&params)
            }),
        }
    }
}

/// The time from score to score: one comes with each window, and records of a series follow each
/// other by `period` microseconds in the training data.
pub(super) fn score_period(stream: &StreamSettings, period: i64) -> Duration {
    let period = stream
        .threshold
        .period
        .unwrap_or_else(|| Duration::from_micros(period.max(1).cast_unsigned()));
    period * stream.stride as u32
}

/// The time after which records are missing between two, in microseconds; 0: never.
pub fn gap_us(stream: &StreamSettings, period: i64) -> i64 {
    /// Of a resampled stream: more than one period and less than two, so that each empty row
    /// counts.
    const SLOTS: f64 = 1.5;
    let (after, period) = match stream.resample.period {
        zero if zero.is_zero() => (stream.gate.gap_after, period as f64),
        period => (SLOTS, period.as_micros() as f64),
    };
    (after * period) as i64
}
