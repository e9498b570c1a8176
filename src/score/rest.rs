//! The rest of a machine: starts and stops of it.
//!
//! The past of a machine that stands says nothing of the record at which it starts, and the reverse:
//! the innovation of both is as large as the machine's power, however healthy it is.

use super::calibrate::CalibrationGap;
use crate::model::calibration::FieldNormal;
use crate::model::memory::{CLIP, Memory};
use crate::model::scaler::Scaler;

/// Records that the longest run of a reading lasts at least, and how many times longer it is than any
/// run of another reading, where the machine rests at it: coarse sensors stay anywhere.
const RUN: u32 = 10;
/// Fields that stand still at least while a machine rests, and at least half of all: one alone is a
/// valve that closes.
const FIELDS: usize = 2;

/// The scaled reading, cut as a memory cuts, at which each field rests; NaN where it never does. Empty
/// where too few fields do for the machine to rest.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rest(Vec<f32>);

impl Rest {
    /// That of the normal readings of a bundle.
    pub fn of(fields: &[FieldNormal], scaler: &Scaler) -> Self {
        let readings: Vec<f64> = fields.iter().map(reading).collect();
        let resting = readings.iter().filter(|reading| reading.is_finite());
        if resting.count() < needed(readings.len()) {
            return Self::default();
        }
        let mut scaled = vec![0.0; readings.len()];
        scaler.scale_into(&readings, &mut scaled);
        Self(scaled.into_iter().map(|z| z.clamp(-CLIP, CLIP)).collect())
    }

    /// Whether the machine starts or stops at a record (scaled readings) after that of a memory.
    pub fn ends_or_begins(&self, memory: &Memory, z: &[f32]) -> bool {
        let before = memory.newest().filter(|_| !self.0.is_empty());
        before.is_some_and(|before| self.holds(before) != self.holds(z))
    }

    /// The same of whole series (row-major, n x k): each such record, with `gaps`, in their order.
    pub fn with_gaps(
        &self,
        readings: &[f32],
        k: usize,
        gaps: &[CalibrationGap],
    ) -> Vec<CalibrationGap> {
        let rests: Vec<bool> = readings
            .chunks_exact(k.max(1))
            .map(|z| self.holds(z))
            .collect();
        let changes = (1..rests.len()).filter(|&row| rests[row] != rests[row - 1]);
        let is_gap = |row: &usize| gaps.binary_search_by_key(row, |gap| gap.row).is_ok();
        let changes = changes.filter(|row| !is_gap(row));
        let changes = changes.map(|row| CalibrationGap { row, missing: 1 });
        let mut all: Vec<_> = gaps.iter().copied().chain(changes).collect();
        all.sort_by_key(|gap| gap.row);
        all
    }

    /// Whether the machine rests at a record.
    fn holds(&self, z: &[f32]) -> bool {
        let fields = self.0.iter().zip(z);
        let resting = fields.filter(|(rest, z)| **rest == z.clamp(-CLIP, CLIP));
        resting.count() >= needed(self.0.len())
    }
}

/// Fields of so many that rest where the machine does.
fn needed(fields: usize) -> usize {
    FIELDS.max(fields.div_ceil(2))
}

/// NaN where there is no such reading.
fn reading(field: &FieldNormal) -> f64 {
    // A model gets what a counter rises by.
    let rests = field.counter_resets.is_none()
        && field.movement > 0.0
        && field.longest_run >= RUN.saturating_mul(field.moving_run.max(1));
    if rests { field.rest } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(rest: f64, longest_run: u32, moving_run: u32) -> FieldNormal {
        FieldNormal {
            movement: 1.0,
            longest_run,
            rest,
            moving_run,
            mean_run: 0.0,
            range: [0.0, 100.0],
            step: None,
            counter_resets: None,
        }
    }

    #[test]
    fn most_fields_at_their_rest_readings_are_a_machine_that_rests() {
        let scaler = Scaler {
            mean: vec![10.0; 3],
            sd: vec![1.0; 3],
        };
        // The last one is a coarse sensor.
        let fields = [field(0.0, 40, 2), field(12.0, 40, 4), field(11.0, 40, 30)];
        let rest = Rest::of(&fields, &scaler);
        // The first rest lies beyond what a memory keeps.
        let (on, off, one) = ([3.0, 0.5, 1.0], [-10.0, 2.0, 1.0], [-10.0, 0.5, 1.0]);
        let rows = [on, on, off, off, one, on, off].concat();
        let changes = |gaps: &[CalibrationGap]| {
            let all = rest.with_gaps(&rows, 3, gaps);
            all.iter()
                .map(|gap| (gap.row, gap.missing))
                .collect::<Vec<_>>()
        };
        assert_eq!(changes(&[]), [(2, 1), (4, 1), (6, 1)]);
        let gap = |row| CalibrationGap { row, missing: 9 };
        assert_eq!(changes(&[gap(1), gap(4)]), [(1, 9), (2, 1), (4, 9), (6, 1)]);
        let mut memory = Memory::default();
        let mut live = Vec::new();
        for (row, z) in rows.chunks_exact(3).enumerate() {
            if rest.ends_or_begins(&memory, z) {
                memory.interrupt(1);
                live.push((row, 1));
            }
            memory.take(z, true);
        }
        assert_eq!(live, changes(&[]));
        assert!(!Rest::default().ends_or_begins(&memory, &on));
    }
}
