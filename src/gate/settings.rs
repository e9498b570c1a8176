//! The options of the gate: `[streams.NAME.gate]`.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::options::{OptionFault, optional};
use crate::record::format::{FieldSettings, StateValue};

/// No two gaps are alike: below this, each is missing something.
const GAP_AFTER_MIN: f64 = 1.5;

/// Sensor-fault checks.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct GateSettings {
    /// How far a record may lie behind the newest of its series and still be scored, 0s to 30d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "10s", extend("x-duration" = {"minimum": "0s", "maximum": "30d"}))]
    pub allowed_lateness: Duration,
    /// How far an event time may lie ahead of the record's arrival, 0s to 366d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "1h", extend("x-duration" = {"minimum": "0s", "maximum": "366d"}))]
    pub max_ahead: Duration,
    /// Number of consecutive late records after which the source's clock counts as set back, 1 to
    /// 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub late_reset: u32,
    /// Number of consecutive equal readings that make a sensor stuck, 2 to 1000000; 0: off. The
    /// bundle's longest normal run can only raise it.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub stuck_after: u32,
    /// Fraction of the normal movement below which a sensor is flat, 0 to below 1; 0: off.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub flat_ratio: f64,
    /// Whether readings that fit only in another unit or scale are faults.
    pub scale_jump: bool,
    /// Whether readings that jump far out of their normal range, for a few records, are faults.
    pub spike: bool,
    /// Event time for which a sensor is stuck, flat or at another scale before its calibration is
    /// doubted, 0s to 3660d; 0s: never. One that varies as the others do is scored again, with a
    /// relearned range.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "14d", extend("x-duration" = {"minimum": "0s", "maximum": "3660d"}))]
    pub doubt_after: Duration,
    /// Multiple of the training records' period after which two records have a gap between them,
    /// 1.5 to 1000000; 0: never.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub gap_after: f64,
    /// States of the machine in which its records are neither scored nor used for training, by the
    /// name of a field with `values`, such as { mode = ["cleaning", "start-up"] }.
    pub ignore_when: BTreeMap<String, Vec<StateValue>>,
}

impl GateSettings {
    /// The fields whose states are ignored, and the indices of these.
    pub fn ignored(&self, fields: &[FieldSettings]) -> impl Iterator<Item = (usize, Vec<f64>)> {
        let named = fields.iter().enumerate();
        named.filter_map(|(index, field)| {
            let (states, ignored) = (field.states.as_ref()?, self.ignore_when.get(&field.name)?);
            let found = ignored
                .iter()
                .filter_map(|state| states.of_text(&state.text()));
            Some((index, found.collect()))
        })
    }

    /// What is wrong with the values.
    pub fn faults(&self) -> impl Iterator<Item = OptionFault> {
        let stuck = "must be at least 2 equal readings, or 0 for off";
        let gap = format!("must be from {GAP_AFTER_MIN} to 1000000, or 0 for never");
        let is_gap_short = self.gap_after > 0.0 && self.gap_after < GAP_AFTER_MIN;
        [
            OptionFault::when(self.stuck_after == 1, "stuck_after", stuck),
            OptionFault::when(is_gap_short, "gap_after", gap),
        ]
        .into_iter()
        .flatten()
    }
}
