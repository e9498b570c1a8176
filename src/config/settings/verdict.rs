//! The settings of what comes after the score: threshold, episodes, mutes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::EventTime;

/// The kinds of threshold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdKind {
    /// Exponentially weighted mean plus a multiple of the standard deviation.
    Sigma,
    /// A streaming quantile times a margin.
    Quantile,
    /// Peaks over threshold with a generalised Pareto tail (SPOT, Siffer et al., KDD 2017).
    Spot,
    /// The same on the score minus its moving average (DSPOT).
    Dspot,
}

impl ThresholdKind {
    /// Whether the level follows from the budget; else from `level` and `margin`.
    pub fn uses_budget(self) -> bool {
        self != Self::Quantile
    }
}

/// The adaptive threshold of a series.
#[derive(Clone, PartialEq, Debug)]
pub struct ThresholdSettings {
    /// Its kind.
    pub kind: ThresholdKind,
    /// How many alerts an operator will have: turned into the risk of one record.
    pub budget: AlertBudget,
    /// Time between two records of a series, where it is known; else it is taken from the training
    /// records.
    pub period: Option<Duration>,
    /// The threshold is this many times the level that its kind finds.
    pub margin: f64,
    /// The quantile of `quantile`, and the initial level of `spot` and `dspot`, (0.5, 1).
    pub level: f64,
    /// Number of own records after which a series is no longer provisional.
    pub min_records: u64,
    /// Records that the memory of the threshold spans.
    pub memory: u64,
    /// Number of consecutive outliers after which the level becomes the new normal (0: never).
    pub level_shift_after: u64,
}

/// An alert budget: `alerts` per series per `period`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AlertBudget {
    /// How many.
    pub alerts: f64,
    /// In what time.
    pub period: Duration,
}

/// When episodes open and close.
#[derive(Clone, PartialEq, Debug)]
pub struct EpisodeSettings {
    /// Outliers ...
    pub open_n: u32,
    /// ... among this many records open an episode (1 to 64).
    pub open_m: u32,
    /// Below this part of the threshold a record counts towards closing, (0, 1].
    pub close_ratio: f64,
    /// Such records in a row that close an episode.
    pub close_after: u32,
    /// After a close, how long (event time) outliers reopen no episode.
    pub cool_down: Duration,
    /// How often (event time) an open episode is published again; zero: never.
    pub update_every: Duration,
    /// Times the threshold from which an episode is critical.
    pub critical_ratio: f64,
    /// Part of the threshold from which a record is suspect, (0, 1].
    pub suspect_ratio: f64,
    /// Fields named in an alert at most.
    pub top_fields: usize,
}

/// A time in which a series' alerts are not published.
#[derive(Clone, PartialEq, Debug)]
pub struct MuteSettings {
    /// Which series: a name, or a pattern with `*`.
    pub series: String,
    /// From this event time on ...
    pub from: EventTime,
    /// ... until before this one.
    pub until: EventTime,
    /// Reason, for operators.
    pub reason: String,
}
