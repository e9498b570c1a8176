//! What a partition needs before its stored states and its next record belong together again: after
//! the changelog lost entries, or after an operator set the offsets back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::clocks;
use super::delivery::DeliveryGuarantee;
use super::error::LaneError;
use super::notes::PartitionNotes;
use super::stored_states::StoredStates;
use crate::events::position::StatesRecomputed;
use crate::events::store::StatesReformatted;
use crate::pipeline::series::SeriesState;
use crate::sink::Sink;
use crate::state::codec;

/// How long a report that a partition is read to its end may be late.
const SETTLED: Duration = Duration::from_secs(60);

/// What is done with the stored states of one partition.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Recovery {
    /// Whether the changelog gets all of them again.
    pub(super) resend: bool,
    /// Whether their series begin with new clocks and windows.
    pub(super) rewind: bool,
    /// Whether some have another version than the one that is written now: all of them are written
    /// in it, so that the release before or behind this one reads them.
    pub(super) reformat: bool,
    /// Records before this offset are run again and not published.
    pub(super) until: Option<i64>,
}

/// The partitions that need something, until it is committed.
#[derive(Clone, Default)]
pub(super) struct PartitionRecovery {
    needed: HashMap<i32, Recovery>,
    /// When records last began to run again.
    began: Option<Instant>,
}

impl PartitionRecovery {
    /// What a partition needs, to be set.
    pub(super) fn of(&mut self, partition: i32) -> &mut Recovery {
        self.needed.entry(partition).or_default()
    }

    /// Whether a record was published before, and runs only for the states.
    pub(super) fn was_published(&self, partition: i32, offset: i64) -> bool {
        let until = self.needed.get(&partition).and_then(|needed| needed.until);
        until.is_some_and(|until| offset < until)
    }

    /// Whether some partition's states are older than what is committed of it: nothing may be committed
    /// with them.
    pub(super) fn is_running(&self) -> bool {
        self.needed.values().any(|needed| needed.until.is_some())
    }

    /// A partition is read up to `next`.
    pub(super) fn advance(&mut self, partition: i32, next: i64) {
        if let Some(needed) = self.needed.get_mut(&partition)
            && needed.until.is_some_and(|until| next >= until)
        {
            needed.until = None;
        }
    }

    /// Partitions are read to their ends: the record before the committed offset may be gone. What was
    /// reported shortly after they began may be of the time before.
    pub(super) fn at_ends(&mut self, partitions: &[i32]) {
        if self.began.is_some_and(|began| began.elapsed() < SETTLED) {
            return;
        }
        for partition in partitions {
            self.advance(*partition, i64::MAX);
        }
    }

    /// Whether the changelog of a partition has lost entries.
    pub(super) fn lost_states(&self, partition: i32) -> bool {
        let needed = self.needed.get(&partition);
        needed.is_some_and(|needed| needed.resend)
    }

    /// Everything is committed.
    pub(super) fn committed(&mut self) {
        self.needed.clear();
    }

    /// A partition left.
    pub(super) fn revoked(&mut self, partition: i32) {
        self.needed.remove(&partition);
    }

    /// Prepares the states of a partition that comes, with its notes, for its first record: at the offset
    /// `next`.
    ///
    /// # Errors
    /// Where the store cannot be read or written, or a state cannot be sent.
    pub(super) fn prepare(
        &mut self,
        partition: i32,
        next: i64,
        states: &StoredStates,
        notes: &mut PartitionNotes,
        delivery: &dyn DeliveryGuarantee,
        sink: &Sink,
    ) -> Result<(), LaneError> {
        let Some(needed) = self.needed.get(&partition).copied() else {
            return Ok(());
        };
        if needed.rewind {
            clocks::forget(partition, notes);
        }
        // What is sent of the states is committed at once, also where no record comes.
        if needed.resend || needed.reformat {
            notes.resend(partition);
        }
        if let Some(until) = needed.until {
            self.began = Some(Instant::now());
            let (stream, from) = (states.stream(), next);
            StatesRecomputed {
                stream,
                partition,
                from,
                until,
            }
            .emit();
        }
        if !needed.rewind && !needed.resend && !needed.reformat {
            return Ok(());
        }
        let written = codec::written_version::<SeriesState>();
        let mut rewritten = 0;
        states.each_page(partition, |page| {
            let mut changed = Vec::new();
            for (series, mut bytes) in page {
                let version = codec::version_of::<SeriesState>(&bytes).ok();
                let is_other = version.is_some_and(|version| version != written);
                // One that cannot be read is reported with its next record.
                if (needed.rewind || is_other)
                    && let Ok(mut state) = codec::decode::<SeriesState>(&bytes)
                {
                    if needed.rewind {
                        state.rewind();
                    }
                    rewritten += usize::from(is_other);
                    bytes = codec::encode(&state)?;
                    changed.push((partition, series.clone(), Some(bytes.clone())));
                }
                if needed.rewind || needed.resend || is_other {
                    delivery.resend(sink, partition, &series, &bytes)?;
                }
            }
            Ok(states.stage(&changed)?)
        })?;
        if rewritten > 0 {
            StatesReformatted {
                stream: states.stream(),
                partition,
                states: rewritten,
                version: written,
            }
            .emit();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_run_without_being_published_until_the_committed_offset() {
        let mut recovery = PartitionRecovery::default();
        recovery.of(1).until = Some(10);
        recovery.of(2).resend = true;
        assert!(recovery.was_published(1, 9) && !recovery.was_published(1, 10));
        assert!(!recovery.was_published(2, 0));
        recovery.advance(1, 9);
        assert!(recovery.is_running());
        recovery.advance(1, 10);
        assert!(!recovery.is_running());
        assert!(recovery.lost_states(2), "until it is committed");
        recovery.revoked(2);
        assert!(!recovery.lost_states(2));
        recovery.of(1).until = Some(10);
        recovery.at_ends(&[1]);
        assert!(!recovery.is_running(), "the last record may be gone");
    }
}
