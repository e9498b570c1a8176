//! The commit of a lane: results, states, notes and positions, in the order of the delivery contract.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::Offset;

use super::{CLOCK, Core};
use crate::events::{AlertPublished, Committed, SeriesExpired};
use crate::lane::error::LaneError;
use crate::lane::notes::NoteChange;
use crate::lane::rebalance::LaneContext;
use crate::lane::storing::Committed;
use crate::record::EventTime;
use crate::state::changelog::note_key;
use crate::state::codec;

/// How long the results of one commit may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Changed states that one commit may hold: all of them are in the producer's memory at once.
const CHANGED_MAX: usize = 20_000;

/// How long after a transaction the next one begins at the earliest. The coordinator refuses it until all partitions of the
/// last one are marked as committed, and librdkafka asks again only after 20 ms: an alert that waits is sooner out so.
const TRANSACTION_PAUSE: Duration = Duration::from_millis(10);

impl Core {
    /// Whether a commit is due: by time, for an alert or feedback, for the sheer number of changes, or to make room in memory.
    pub fn commit_due(&self) -> bool {
        self.urgent_in().is_some_and(|wait| wait.is_zero())
            || self.last_commit.elapsed() >= self.stream.input.commit_interval
            || self.table.changed() >= CHANGED_MAX
            || self.expiry.is_full(&self.table)
    }

    /// How long a commit that should not wait has to wait yet, where there is one.
    pub fn urgent_in(&self) -> Option<Duration> {
        let ago = self
            .transaction_ended
            .map_or(TRANSACTION_PAUSE, |at| at.elapsed());
        self.urgent.then(|| TRANSACTION_PAUSE.saturating_sub(ago))
    }

    /// Makes everything so far durable, in the order of the delivery contract. Exactly once: results, states and offsets in
    /// one transaction; the store follows, at once where `mode` is `Sync`. At least once: results acknowledged, then states
    /// and positions in one batch of the store, then the offsets.
    ///
    /// # Errors
    /// Any [`LaneError`]: nothing after the failed step has happened.
    pub fn commit(
        &mut self,
        consumer: &BaseConsumer<LaneContext>,
        mode: CommitMode,
    ) -> Result<(), LaneError> {
        self.last_commit = Instant::now();
        self.urgent = false;
        self.keep_clocks()?;
        let exactly_once = self.changelog.is_some();
        let positions = self.changed_positions();
        if !positions.is_empty() {
            let forgotten = self.forget_expired()?;
            let notes = self.notes.changes();
            let changelog = if exactly_once {
                self.commit_transaction(&positions, &forgotten, &notes, consumer)?
            } else {
                drop(self.table.take_dirty());
                self.sink.flush(FLUSH_TIMEOUT)?;
                Vec::new()
            };
            self.notes.committed();
            self.progress.clear();
            self.committed.extend(&positions);
            self.unstored.committed(Committed {
                positions: positions.iter().map(|(&p, &offset)| (p, offset)).collect(),
                changelog,
                forgotten,
                learned: std::mem::take(&mut self.learned),
                notes,
            });
            if exactly_once {
                self.count_commit();
            }
        }
        let is_due = self.unstored.is_due() || self.expiry.is_full(&self.table);
        if !exactly_once || is_due || matches!(mode, CommitMode::Sync) {
            self.unstored.store(
                &*self.store,
                &self.stream.name,
                &mut self.table,
                exactly_once,
            )?;
            self.table.set_now(self.began.elapsed());
            self.expiry.sweep(&mut self.table);
        }
        if !exactly_once && !positions.is_empty() {
            self.count_commit();
            let offsets = self.offsets(&positions, &[])?;
            if let Err(error) = consumer.commit(&offsets, mode) {
                // The store is ahead of the group and rules at the next assignment: nothing is read twice.
                tracing::warn!(stream = self.stream.name, error = %error, "offsets could not be committed; the stored positions hold");
            }
        }
        Ok(())
    }

    /// What was committed is published: only now it counts.
    fn count_commit(&mut self) {
        for alert in self.sent.drain(..) {
            AlertPublished(&alert).emit();
        }
        Committed {
            stream: &self.stream.name,
        }
        .emit();
    }

    /// Notes the clocks of silence of partitions with new records.
    fn keep_clocks(&mut self) -> Result<(), LaneError> {
        for &partition in self.progress.keys() {
            if let Some(clock) = self.pipeline.silence_clock(partition) {
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
        let expired = self.expiry.look(
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

    /// One transaction of all that was sent, the changed states and notes, and the offsets. Each offset takes along where in
    /// the changelog its states end, so that whoever gets the partition knows whether its own store has them all, even where
    /// they changed without any new record. Returns these ends.
    fn commit_transaction(
        &mut self,
        positions: &BTreeMap<i32, i64>,
        forgotten: &[(i32, String)],
        notes: &[NoteChange],
        consumer: &BaseConsumer<LaneContext>,
    ) -> Result<Vec<(i32, i64)>, LaneError> {
        for slot in self.table.take_dirty() {
            let state = codec::encode(&slot.state)?;
            self.sink
                .state(slot.partition, slot.series.as_bytes(), Some(&state))?;
        }
        for (partition, series) in forgotten {
            self.sink.state(*partition, series.as_bytes(), None)?;
        }
        for (partition, key, value) in notes {
            self.sink
                .state(*partition, &note_key(key), value.as_deref())?;
        }
        self.sink.settle()?;
        let changelog = self.sink.take_changelog();
        let offsets = self.offsets(positions, &changelog)?;
        self.sink.commit(
            &offsets,
            &consumer.group_metadata().ok_or(LaneError::NoGroup)?,
        )?;
        self.transaction_ended = Some(Instant::now());
        Ok(changelog)
    }

    /// Positions as the group keeps them, with the ends of the changelog.
    pub(super) fn offsets(
        &self,
        positions: &BTreeMap<i32, i64>,
        changelog: &[(i32, i64)],
    ) -> Result<TopicPartitionList, LaneError> {
        let mut offsets = TopicPartitionList::with_capacity(positions.len());
        for (&partition, &offset) in positions {
            let mut entry = offsets.add_partition(&self.stream.input.topic, partition);
            entry.set_offset(Offset::Offset(offset))?;
            if let Some((_, end)) = changelog.iter().find(|(of, _)| *of == partition) {
                entry.set_metadata(end.to_string());
            }
        }
        Ok(offsets)
    }
}
