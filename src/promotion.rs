//! The verdict on a challenger: a readable file in the bundle's folder.
//!
//! Data only: `retrain` writes it; events, commands and the sharing of bundles read it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::manifest::Segment;
use crate::model::registry::{Registry, RegistryError};
use crate::record::EventTime;

/// File name of a bundle's verdict, in the bundle's folder.
pub const VERDICT: &str = "verdict.json";

/// The promotion tests of a challenger, their results and the verdict.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PromotionVerdict {
    /// Id of the challenger.
    pub challenger: String,
    /// Id of the live bundle that it was compared with.
    pub champion: String,
    /// Why it was trained: the trigger.
    pub reason: String,
    /// Newest event time of the stream at the time of the verdict.
    pub at: EventTime,
    /// Whether it passed all tests.
    pub passed: bool,
    /// The tests, in their order; `best_of_year` only where there is such a bundle.
    pub tests: Vec<PromotionTest>,
    /// The held-out range: newer than all training records.
    pub held_out: Segment,
    /// Number of held-out records.
    pub held_out_records: usize,
    /// Alerts of the challenger on the held-out records; with `budgeted` the predicted alert rate
    /// once it is live.
    pub alerts: f64,
    /// Alerts that the budget allows on the held-out records.
    pub budgeted: f64,
    /// The smallest detected fault of each kind in each field.
    pub sensitivity: Vec<Sensitivity>,
    /// Comparison with principal components trained on the same records.
    pub linear: Option<Margin>,
    /// Comparison with the charts alone, without a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<Margin>,
}

/// One test.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PromotionTest {
    /// Its name.
    pub name: TestName,
    /// Whether the challenger passed it.
    pub passed: bool,
    /// The challenger's result.
    pub challenger: f64,
    /// The champion's result.
    pub champion: f64,
    /// The limit: a maximum for errors and alerts, a minimum for faults.
    pub limit: f64,
    /// The result in words.
    pub detail: String,
}

/// The tests of a promotion.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum TestName {
    /// Its reconstruction of recent normal traffic is no worse.
    Reconstruction,
    /// It raises no more alerts on that traffic than the budget allows.
    AlertBudget,
    /// It detects at least 0.9 times as many injected faults.
    InjectedFaults,
    /// It still detects the faults that operators have confirmed.
    ConfirmedFaults,
    /// It detects at least 0.9 times as many injected faults as the best bundle of the last year.
    BestOfYear,
}

impl_as_str!(TestName);

/// The smallest detected fault.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Sensitivity {
    /// Name of the field.
    pub field: String,
    /// The kind of fault.
    pub kind: InjectedFaultKind,
    /// The smallest size from which at least half of the faults are detected, in standard
    /// deviations of the field; `None` if no size is. Kinds without sizes have 1 if they are
    /// detected.
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
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum InjectedFaultKind {
    /// One reading is off.
    Spike,
    /// All readings are off by a constant.
    LevelShift,
    /// The deviation grows linearly, to the full size at the end.
    Drift,
    /// Noise is added.
    Variance,
    /// The last reading before the fault repeats.
    Stuck,
    /// Readings of the same field come from other times: each is normal, but inconsistent with the
    /// others of its record.
    CorrelationBreak,
}

impl_as_str!(InjectedFaultKind);

impl InjectedFaultKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Spike,
        Self::LevelShift,
        Self::Drift,
        Self::Variance,
        Self::Stuck,
        Self::CorrelationBreak,
    ];

    /// The sizes it is tried at; one without a meaning for those that have none.
    pub fn sizes(self) -> &'static [f64] {
        match self {
            Self::Stuck | Self::CorrelationBreak => &[1.0],
            _ => &SIZES,
        }
    }
}

/// Comparison of two bundles.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Margin {
    /// Its error divided by the other's.
    pub error_ratio: f64,
    /// Fraction of the injected faults that it detects, minus that of the other.
    pub caught_more: f64,
}

impl PromotionVerdict {
    /// The verdict on a bundle; `None` if there is no readable one.
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

    /// How many times as many injected faults the challenger detected as the champion; `None` where
    /// either detected none.
    pub fn detected_ratio(&self) -> Option<f64> {
        let mut tests = self.tests.iter();
        let test = tests.find(|test| test.name == TestName::InjectedFaults)?;
        (test.challenger > 0.0 && test.champion > 0.0).then(|| test.challenger / test.champion)
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
