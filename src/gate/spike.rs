//! A spike: a reading that jumps out of its normal range, faster than its machine can move, and
//! returns within a few records.

use serde::{Deserialize, Serialize};

use super::normal::NormalRange;
use crate::record::FaultKind;

/// Records that a spike lasts at most. A longer excursion is left to the model.
const RECORDS_MAX: u8 = 5;

/// How far outside the range of normal readings a spike lies at least, as a part of the range's
/// width: the range of a few hundred records is narrower than that of a year.
const BEYOND: f64 = 1.0;

/// How far a spike jumps at least, as a part of that width: a machine that changes its state jumps
/// too.
const JUMP: f64 = 2.0;

/// The limits of one field.
#[derive(Clone, PartialEq, Debug)]
pub struct Spike {
    low: f64,
    high: f64,
    step: f64,
}

/// The excursion of a field: records outside its range since it jumped there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Excursion {
    /// Inside.
    #[default]
    None,
    /// Jumped out so many records ago: a spike if it returns.
    Jumped(u8),
    /// Walked out, or has been outside for too long.
    Away,
}

impl Spike {
    /// `None` if the field was constant, or its steps give no limit.
    pub fn new(normal: &NormalRange) -> Option<Self> {
        let [low, high] = normal.range;
        let width = high - low;
        let step = normal.step?;
        let limits = Self {
            low: low - BEYOND * width,
            high: high + BEYOND * width,
            step: step.max(JUMP * width),
        };
        (width > 0.0).then_some(limits)
    }

    /// Advances by a finite reading `x` after the reading `last`: whether it is out of range, or
    /// has returned.
    pub fn follow(
        &self,
        excursion: &mut Excursion,
        last: Option<f64>,
        x: f64,
    ) -> Option<FaultKind> {
        let outside = x < self.low || x > self.high;
        let before = *excursion;
        *excursion = match before {
            _ if !outside => Excursion::None,
            Excursion::None if last.is_some_and(|last| (x - last).abs() > self.step) => {
                Excursion::Jumped(1)
            }
            Excursion::Jumped(records) if records < RECORDS_MAX => Excursion::Jumped(records + 1),
            _ => Excursion::Away,
        };
        match (before, *excursion) {
            (_, Excursion::Jumped(_)) => Some(FaultKind::Jump),
            (Excursion::Jumped(_), Excursion::None) => Some(FaultKind::Spike),
            _ => None,
        }
    }
}
