//! The clocks of silence of a lane's partitions: each is a note of its partition ([`super::notes`]),
//! and moves on without records where the partition is silent while others send.

use super::error::LaneError;
use super::notes::PartitionNotes;
use super::silence::SilentPartition;
use super::stored_states::StoredStates;
use crate::pipeline::Pipeline;
use crate::pipeline::series::SeriesTable;
use crate::record::alert::Alert;

/// The key of the note.
const NOTE: &str = "silence-clock";

/// A partition came, with its notes.
pub(super) fn assigned(partition: i32, pipeline: &mut Pipeline, notes: &PartitionNotes) {
    if let Some(silence) = &mut pipeline.silence
        && let Some(clock) = notes.get(partition, NOTE)
    {
        silence.set_clock(partition, clock);
    }
}

/// Forgets the clock of a partition whose records are read again.
pub(super) fn forget(partition: i32, notes: &mut PartitionNotes) {
    notes.remove(partition, NOTE);
}

/// Notes the clocks of some partitions.
///
/// # Errors
/// A note that cannot be encoded.
pub(super) fn keep(
    partitions: impl Iterator<Item = i32>,
    pipeline: &Pipeline,
    notes: &mut PartitionNotes,
) -> Result<(), LaneError> {
    for partition in partitions {
        let silence = pipeline.silence.as_ref();
        if let Some(clock) = silence.and_then(|silence| silence.clock(partition)) {
            notes.put(partition, NOTE, clock)?;
        }
    }
    Ok(())
}

/// Scans the series of silent partitions, and returns the alerts of those that are overdue.
///
/// # Errors
/// Where the state of a series cannot be read, or a note cannot be encoded.
pub(super) fn scan(
    silent: &[SilentPartition],
    pipeline: &mut Pipeline,
    table: &mut SeriesTable,
    states: &StoredStates,
    notes: &mut PartitionNotes,
) -> Result<Vec<Alert>, LaneError> {
    let mut load = |partition, series: &str| states.load(partition, series);
    let mut alerts = Vec::new();
    for found in silent {
        let newest = (found.partition, found.offset);
        alerts.extend(pipeline.scan_silence(newest, found.silent_us, table, &mut load)?);
    }
    keep(silent.iter().map(|found| found.partition), pipeline, notes)?;
    Ok(alerts)
}
