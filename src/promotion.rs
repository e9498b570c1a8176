//! The verdict on a challenger: a file that a person can read, kept beside the bundle that it is about.
//!
//! Data only: `retrain` writes it, and events, commands and the sharing of bundles read it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::manifest::Segment;
use crate::model::registry::{Registry, RegistryError};
use crate::record::EventTime;

/// File name of a bundle's verdict, in the bundle's folder.
pub const VERDICT: &str = "verdict.json";

/// What a challenger was asked, what came out, and what follows from it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Id of the challenger.
    pub challenger: String,
    /// Id of the live bundle that it was held against.
    pub champion: String,
    /// Why it was trained.
    pub reason: String,
    /// Newest event time of the stream then.
    pub at: EventTime,
    /// Whether it passed all tests.
    pub passed: bool,
    /// The four tests, in their order.
    pub tests: Vec<Test>,
    /// What it was tried on: newer than all that it has learned from.
    pub held_out: Segment,
    /// Records there.
    pub held_out_records: usize,
    /// Alerts that the challenger raised there, and those that the budget allows: what it is expected to raise when it is live.
    pub alerts: f64,
    /// See `alerts`.
    pub budgeted: f64,
    /// The smallest fault of each kind in each field that it catches.
    pub sensitivity: Vec<Sensitivity>,
    /// How it stands against principal components trained on the same records.
    pub linear: Option<Margin>,
}

/// One test.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Test {
    /// Its name.
    pub name: TestName,
    /// Whether the challenger passed it.
    pub passed: bool,
    /// What the challenger reached.
    pub challenger: f64,
    /// What the champion reached.
    pub champion: f64,
    /// What was asked for: at most this for errors and alerts, at least this for faults.
    pub limit: f64,
    /// All of it in words.
    pub says: String,
}

/// The tests of a promotion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestName {
    /// It reconstructs recent normal traffic no worse.
    Reconstruction,
    /// It raises no more alerts on it than the budget allows.
    AlertBudget,
    /// It catches injected faults at least as well.
    InjectedFaults,
    /// It still catches the faults that operators have confirmed.
    ConfirmedFaults,
}

impl TestName {
    /// The name in files and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reconstruction => "reconstruction",
            Self::AlertBudget => "alert_budget",
            Self::InjectedFaults => "injected_faults",
            Self::ConfirmedFaults => "confirmed_faults",
        }
    }
}

/// The smallest fault that is caught.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Sensitivity {
    /// Name of the field.
    pub field: String,
    /// The kind of fault.
    pub kind: Kind,
    /// The smallest size from which at least half of the faults are caught, in standard deviations of the field; `None` where
    /// no size is. Kinds without sizes have 1 where they are caught.
    pub smallest: Option<f64>,
}

/// The sizes that a fault is tried at, in standard deviations of its field.
pub const SIZES: [f64; 6] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0];

/// The kinds of injected fault.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One reading is off.
    Spike,
    /// All readings are off by a constant.
    LevelShift,
    /// Readings move away, to the full size at the end.
    Drift,
    /// Noise is added.
    Variance,
    /// The last reading before is repeated.
    Stuck,
    /// Readings of the same field come from other times: each is normal, and does not belong to the others of its record.
    CorrelationBreak,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Spike,
        Self::LevelShift,
        Self::Drift,
        Self::Variance,
        Self::Stuck,
        Self::CorrelationBreak,
    ];

    /// The name in verdicts and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::LevelShift => "level_shift",
            Self::Drift => "drift",
            Self::Variance => "variance",
            Self::Stuck => "stuck",
            Self::CorrelationBreak => "correlation_break",
        }
    }

    /// The sizes it is tried at; one without a meaning for those that have none.
    pub fn sizes(self) -> &'static [f64] {
        match self {
            Self::Stuck | Self::CorrelationBreak => &[1.0],
            _ => &SIZES,
        }
    }
}

/// How a bundle stands against another one.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Margin {
    /// Its error as a part of the other's.
    pub error_ratio: f64,
    /// Part of the injected faults that it catches, less that of the other.
    pub caught_more: f64,
}

impl Verdict {
    /// The verdict on a bundle; `None` where there is none that can be read.
    ///
    /// # Errors
    /// An unknown bundle, or the file system's.
    pub fn read(
        registry: &Registry,
        stream: &str,
        id: &str,
    ) -> Result<Option<Self>, RegistryError> {
        let bytes = registry.attached(stream, id, VERDICT)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The names of the tests that were not passed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.tests
            .iter()
            .filter(|test| !test.passed)
            .map(|test| test.name.as_str())
            .collect()
    }
}
