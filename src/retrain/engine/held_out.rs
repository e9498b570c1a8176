//! Which of the kept records a challenger learns from, and which it is proved on.

use crate::record::EventTime;
use crate::retrain::buffer::Buffer;
use crate::retrain::set::{RecordRun, TrainingSet};

/// The records to learn from, and the newest ones, which prove: the part `hold_out` of all.
pub(super) fn split(buffer: &Buffer, hold_out: f64) -> (TrainingSet, TrainingSet) {
    let mut runs: Vec<&RecordRun> = buffer.runs().collect();
    runs.sort_by_key(|run| (run.from(), run.partition, run.offset));
    let wanted = (hold_out * buffer.len() as f64) as usize;
    let mut held_out = 0;
    let mut cut = runs.len();
    while held_out < wanted && cut > 0 {
        cut -= 1;
        held_out += runs[cut].times.len();
    }
    // Runs of several series overlap in time: none that reaches into the held-out time is learned
    // from.
    let begins = runs.get(cut).map_or(EventTime(i64::MAX), |run| run.from());
    let learned = TrainingSet::of_runs(
        runs[..cut]
            .iter()
            .copied()
            .filter(|run| run.until() < begins),
    );
    (learned, TrainingSet::of_runs(runs[cut..].iter().copied()))
}
