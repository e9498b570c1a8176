//! Faulty sensors, by kind.

use serde::{Deserialize, Serialize};

/// One faulty sensor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SensorFault {
    /// Index of the field in the stream's configuration.
    #[serde(skip)]
    #[schemars(skip)]
    pub field: usize,
    /// Kind of fault.
    pub kind: FaultKind,
    /// The reading, if it is finite; of a spike its last reading.
    pub value: Option<f64>,
    /// Records in a row with that reading; only of a sensor that is stuck.
    pub repeats: Option<u32>,
}

/// The kinds of sensor fault.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Debug,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Absent or null.
    Missing,
    /// Not a finite number.
    NonFinite,
    /// Outside the declared physical range.
    OutOfRange,
    /// Equal readings in a row, for far longer than in normal operation.
    Stuck,
    /// The same of most fields at once: the machine is at a standstill, or repeats its last readings.
    Standstill,
    /// A number in place of a missing reading, such as -9999, far outside the normal range.
    Sentinel,
    /// A counter fell, which it never did in normal operation: a device that was exchanged, or
    /// restarted.
    CounterReset,
    /// The reading changes, but by a small fraction of its normal movement.
    Flat,
    /// The reading fits only in another unit or at another scale.
    ScaleJump,
    /// The reading jumped out of its normal range at most a few records ago: a spike, or a
    /// persistent change, which the model then scores.
    Jump,
    /// The reading returned from such a jump with this record: it was a spike.
    Spike,
    /// The sensor was stuck, flat or at another scale for `gate.doubt_after`, and varies as the others
    /// do: from this record on it is scored again, with a relearned range.
    CalibrationDoubtful,
}

impl_as_str!(FaultKind);

impl FaultKind {
    /// Whether the present reading is not scored. A spike is over, and a doubted fault as well.
    pub fn is_unusable(self) -> bool {
        !matches!(self, Self::Spike | Self::CalibrationDoubtful)
    }
}
