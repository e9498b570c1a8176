//! A record between the gate and its verdict: what the steps of [`crate::pipeline`] hand on.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alert::{Alert, ChartKind, CloseReason};
use super::{EventTime, Image, Record, Scored, SensorFault, place_of};

/// A decoded record with its readings, and its image where it is one.
#[derive(Clone, Copy, Debug)]
pub struct DecodedRow<'a> {
    /// The record.
    pub record: &'a Record<'a>,
    /// One reading for each field.
    pub values: &'a [f64],
    /// Its image, where records are images.
    pub image: Option<&'a Image>,
}

/// A record that passed the gate, faulty or not.
#[derive(Clone, Debug)]
pub struct GatedRow<'a> {
    /// The record itself.
    pub record: &'a Record<'a>,
    /// Event time: of a resampled stream that of the row which the record completed.
    pub time: EventTime,
    /// That of the record: of the two of a local time that comes twice the right one.
    pub record_time: EventTime,
    /// One reading for each field: the record's, or those of the row which it completed.
    pub values: Cow<'a, [f64]>,
    /// Its image, where records are images.
    pub image: Option<&'a Image>,
    /// Where the state of its series is in the table.
    pub slot: usize,
    /// The newest event time of its series before it.
    pub previous: Option<EventTime>,
    /// Its faulty sensors.
    pub faults: Vec<SensorFault>,
    /// What its counters rose by.
    pub increments: Vec<Increment>,
    /// Whether `gate.ignore_when` names its state: it is not scored.
    pub ignored: bool,
    /// Its readings far outside the range that they were trained on.
    pub outside: Vec<OutsideReading>,
    /// What it adds to.
    pub window: WindowStatus,
    /// Alerts of missing data that the record shows; they come before its own.
    pub silence: Vec<Alert>,
    /// Whether its series was forgotten before this record: its chart, threshold and episodes
    /// start again with it.
    pub forgotten: bool,
    /// Whether it is behind the newest record of its series.
    pub out_of_order: bool,
    /// Whether it arrived before the stream's first start: outlierd learns from it and publishes
    /// nothing.
    pub warms_up: bool,
}

impl GatedRow<'_> {
    /// The fields whose readings are not scored, ascending.
    pub fn unusable(&self) -> Vec<usize> {
        let faults = self.faults.iter();
        let unusable = faults.filter(|fault| fault.kind.is_unusable());
        unusable.map(|fault| fault.field).collect()
    }

    /// Whether at least half of its fields are left to be scored, and its state is not ignored.
    pub fn is_scorable(&self) -> bool {
        !self.ignored && 2 * self.unusable().len() <= self.values.len()
    }

    /// Its context in the series called `series`, without a bundle.
    pub fn context<'c>(&self, series: &'c str) -> RecordContext<'c> {
        RecordContext {
            series,
            time: self.time,
            partition: self.record.partition,
            offset: self.record.offset,
            part: self.record.part,
            bundle: "",
            trained_on: 0,
            muted: self.warms_up,
            spans_gap: self.window.spans_gap(),
        }
    }
}

/// What a counter rose by since the record before, for one typical period.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Increment {
    /// Which field.
    pub field: usize,
    /// The rise; NaN where it is not known.
    pub value: f64,
}

/// A reading far outside the range that its field was trained on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OutsideReading {
    /// Which field.
    pub field: usize,
    /// The reading.
    pub value: f64,
    /// The least and the largest training reading.
    pub trained: [f64; 2],
}

/// What a record adds to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WindowStatus {
    /// No window yet: there is no bundle, its window is not full, or a sensor is faulty.
    #[default]
    Filling,
    /// A row of the resampling that is not complete.
    Resampling,
    /// Nothing before the next window: it lies between two.
    Between,
    /// It ends a window.
    Window {
        /// Which of the batch's windows, or of its images.
        index: usize,
        /// Whether records are missing inside.
        spans_gap: bool,
    },
}

impl WindowStatus {
    /// Whether records are missing inside the window that the record ends.
    pub fn spans_gap(self) -> bool {
        matches!(
            self,
            Self::Window {
                spans_gap: true,
                ..
            }
        )
    }
}

/// The record under evaluation: what an alert repeats of the record that raised it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct RecordContext<'a> {
    /// Key of its series.
    pub series: &'a str,
    /// Event time.
    pub time: EventTime,
    /// Partition of its message.
    pub partition: i32,
    /// Offset of its message.
    pub offset: i64,
    /// Which of its message's records, from 0; `None` where the message is one record.
    pub part: Option<u32>,
    /// Id of the bundle in use; empty if there is none.
    pub bundle: &'a str,
    /// Rows that it was trained on.
    pub trained_on: u64,
    /// Whether no alert of it is published but the close of one that was: the stream warms up on
    /// what happened before its start. The episode adds the mutes.
    pub muted: bool,
    /// Whether records are missing inside its window.
    pub spans_gap: bool,
}

impl RecordContext<'_> {
    /// See [`place_of`].
    pub fn place(&self) -> i64 {
        place_of(self.offset, self.part)
    }

    /// The same, muted too where a mute covers it.
    pub fn muted_by(&self, is_muted: bool) -> Self {
        Self {
            muted: self.muted || is_muted,
            ..*self
        }
    }
}

/// What the steps up to the threshold found out about a record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Judgement<'a> {
    /// Fit, but not scored: there is no bundle, or the window is not full.
    Learning,
    /// Fit, and between two windows that are scored, or part of a resampled row that is not
    /// complete.
    Between,
    /// Not scored, whatever it holds: `gate.ignore_when` names its state.
    Ignored,
    /// Scored.
    Scored {
        /// Finite, >= 0.
        score: f64,
        /// Finite, > 0.
        threshold: f64,
        /// Records that are missing until the threshold rests on the series' own more than on the
        /// fleet's calibration.
        missing: u64,
        /// Whether the series has opened more alerts than its budget allows.
        over_budget: bool,
        /// Why an open alert closes although the score is not low.
        settled: Option<CloseReason>,
        /// The chart that the score is of; `None` for images.
        chart: Option<ChartKind>,
        /// Its faulty sensors; the score is of the others.
        faults: &'a [SensorFault],
    },
    /// Its faulty sensors, at least one; it is not scored.
    Faulty(&'a [SensorFault]),
}

impl<'a> Judgement<'a> {
    /// The faulty sensors of the record.
    pub fn faults(&self) -> &'a [SensorFault] {
        match self {
            Self::Scored { faults, .. } | Self::Faulty(faults) => faults,
            Self::Learning | Self::Between | Self::Ignored => &[],
        }
    }
}

/// A record with its score and its threshold.
#[derive(Clone, PartialEq, Debug)]
pub struct ScoredRow<'a> {
    /// What the episode is stepped with.
    pub judgement: Judgement<'a>,
    /// The score; `None` if the record was not scored.
    pub scored: Option<Scored>,
    /// Alerts that the budget allows for it; 0 if it was not scored.
    pub budgeted: f64,
    /// How it changed the thresholds of its series.
    pub correction: Option<ThresholdCorrection>,
}

/// A change of a series' thresholds by the achieved rate of its alerts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ThresholdCorrection {
    /// What the thresholds were multiplied by before, >= 1.
    pub from: f64,
    /// What they are multiplied by now, >= 1.
    pub to: f64,
    /// Why.
    pub reason: CorrectionReason,
}

/// Why the thresholds of a series were corrected.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum CorrectionReason {
    /// Raised: the series opened an alert beyond its budget.
    OverBudget,
    /// Lowered: the alert lies so far above the thresholds that they are not the cause.
    Reverted,
    /// Lowered: the series kept its budget until nothing was left of the correction.
    WithinBudget,
}

impl_as_str!(CorrectionReason);

impl ScoredRow<'_> {
    /// Number of the chart that the score is of.
    pub fn chart(&self) -> usize {
        self.scored.as_ref().map_or(0, |scored| scored.chart)
    }
}
