//! The commit of a lane: when it is due, and what belongs to it. How it becomes durable is
//! [`crate::lane::delivery`]'s.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;

use super::{CLOCK, LaneState};
use crate::events::{self, AlertPublished, SeriesExpired};
use crate::lane::checkpoint::CommittedChanges;
use crate::lane::delivery::Changes;
use crate::lane::error::LaneError;
use crate::lane::group::GroupMember;
use crate::record::EventTime;

/// Changed states that one commit may hold: all of them are in the producer's memory at once.
const CHANGED_MAX: usize = 20_000;

impl LaneState {
    /// Whether a commit is due: by time, for an alert or feedback, for the sheer number of changes,
    /// or to make room in memory.
    pub fn commit_due(&self) -> bool {
        self.urgent_in().is_some_and(|wait| wait.is_zero())
            || self.last_commit.elapsed() >= self.stream.input.commit_interval
            || self.table.changed() >= CHANGED_MAX
            || self.expiry.is_full(&self.table)
    }

    /// How long a commit that should not wait has to wait yet, where there is one.
    pub fn urgent_in(&self) -> Option<Duration> {
        self.urgent.then(|| self.delivery.pause_left())
    }

    /// Makes everything so far durable, in the order of the delivery contract. Where `mode` is
    /// `Sync`, the store is written too.
    ///
    /// # Errors
    /// Any [`LaneError`]: nothing after the failed step has happened.
    pub fn commit(
        &mut self,
        consumer: &dyn GroupMember,
        mode: CommitMode,
    ) -> Result<(), LaneError> {
        self.last_commit = Instant::now();
        self.urgent = false;
        self.keep_clocks()?;
        let positions = self.changed_positions();
        if positions.is_empty() {
            return self.store_if_due(mode);
        }
        let forgotten = self.forget_expired()?;
        let notes = self.notes.changes();
        let stream = self.stream.clone();
        let changes = Changes {
            topic: &stream.input.topic,
            positions: &positions,
            forgotten: &forgotten,
            notes: &notes,
        };
        let changelog = self
            .delivery
            .publish(&self.sink, &mut self.table, &changes, consumer)?;
        self.notes.committed();
        self.progress.clear();
        self.committed.extend(&positions);
        self.pending_checkpoint.committed(CommittedChanges {
            positions: positions.iter().map(|(&p, &offset)| (p, offset)).collect(),
            changelog,
            forgotten: forgotten.clone(),
            learned: std::mem::take(&mut self.learned),
            notes: notes.clone(),
        });
        self.store_if_due(mode)?;
        self.count_commit();
        self.delivery.stored(&stream.name, &changes, consumer, mode)
    }

    fn store_if_due(&mut self, mode: CommitMode) -> Result<(), LaneError> {
        let each = self.delivery.stores_each_commit();
        let is_due = self.pending_checkpoint.is_due() || self.expiry.is_full(&self.table);
        if each || is_due || matches!(mode, CommitMode::Sync) {
            self.pending_checkpoint.store(
                &*self.store,
                &self.stream.name,
                &mut self.table,
                !each,
            )?;
            self.table.set_now(self.began.elapsed());
            self.expiry.sweep(&mut self.table);
        }
        Ok(())
    }

    /// What was committed is published: only now it counts.
    fn count_commit(&mut self) {
        for alert in self.sent.drain(..) {
            AlertPublished(&alert).emit();
        }
        events::Committed {
            stream: &self.stream.name,
        }
        .emit();
    }

    /// Notes the clocks of silence of partitions with new records.
    fn keep_clocks(&mut self) -> Result<(), LaneError> {
        for &partition in self.progress.keys() {
            let silence = self.pipeline.silence.as_ref();
            if let Some(clock) = silence.and_then(|silence| silence.clock(partition)) {
                self.notes.put(partition, CLOCK, clock)?;
            }
        }
        Ok(())
    }

    /// The next offsets of the partitions of which anything has changed.
    pub(super) fn changed_positions(&self) -> BTreeMap<i32, i64> {
        let progress = self.progress.iter();
        let mut positions: BTreeMap<i32, i64> = progress
            .map(|(&partition, range)| (partition, range.end))
            .collect();
        for partition in self.notes.changed() {
            if let Some(next) = self.next_offset(partition) {
                positions.insert(partition, next);
            }
        }
        positions
    }

    /// Looks at some of the stored series; returns those that are forgotten.
    fn forget_expired(&mut self) -> Result<Vec<(i32, String)>, LaneError> {
        let expired = self.expiry.scan(
            &*self.store,
            &self.stream.name,
            &self.table,
            EventTime::now(),
        )?;
        for (partition, series) in &expired {
            SeriesExpired {
                stream: &self.stream.name,
                series,
            }
            .emit();
            self.table.forget(*partition, series);
        }
        Ok(expired)
    }
}
