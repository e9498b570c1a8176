//! How partitions come to a lane and leave it, with their states.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::CommitMode;
use rdkafka::message::BorrowedMessage;

use super::LaneState;
use crate::events::StatesRestored;
use crate::events::position::{ChangelogLost, PositionCause, PositionChange};
use crate::lane::error::LaneError;
use crate::lane::feedback::FeedbackSeen;
use crate::lane::group::{GroupMember, GroupOffset};
use crate::lane::marks::{NOTE, NotedPosition};
use crate::lane::start::{KnownPosition, PartitionStart};
use crate::lane::{clocks, delivery};
use crate::sink::Sink;
use crate::state::changelog::{CommittedStates, LostEntries};

/// How long a lane waits for an instance that has the states which the changelog has lost. One that
/// was killed may have to start again first.
const FILL_PATIENCE: Duration = Duration::from_secs(60);
const FILL_PACE: Duration = Duration::from_secs(1);

/// The partitions of a lane, while they come or leave.
pub(in crate::lane) struct PartitionHandover<'l> {
    pub(super) lane: &'l mut LaneState,
}

impl PartitionHandover<'_> {
    /// Fetches what is missing of the states of partitions that were committed elsewhere, or before
    /// a crash. Returns what the changelog has lost.
    ///
    /// # Errors
    /// [`LaneError::Changelog`]: without the states the partitions must not be read.
    fn restore(
        &mut self,
        partitions: &[CommittedStates],
    ) -> Result<BTreeMap<i32, LostEntries>, LaneError> {
        let behind = partitions.iter().filter(|committed| committed.is_behind);
        let behind: Vec<i32> = behind.map(|committed| committed.partition).collect();
        let started = Instant::now();
        let store = self.lane.states.store();
        let Some(restored) = self
            .lane
            .delivery
            .restore(store, partitions, &self.lane.stop)?
        else {
            return Ok(BTreeMap::new());
        };
        if restored.states > 0 {
            StatesRestored {
                stream: &self.lane.stream.name,
                partitions: &behind,
                states: restored.states,
                took: started.elapsed(),
            }
            .emit();
        }
        Ok(restored.lost)
    }

    /// The same for partitions that come. A changelog that has lost everything gets the states of
    /// an instance that has all of them, which may be another one; where there is none, those of
    /// this one.
    ///
    /// # Errors
    /// As [`PartitionHandover::restore`].
    fn restore_filled(&mut self, group: &[GroupOffset]) -> Result<(), LaneError> {
        let began = Instant::now();
        loop {
            let compare = |group| self.lane.states.compare(group);
            let committed: Vec<CommittedStates> = group.iter().map(compare).collect();
            let lost = self.restore(&committed)?;
            let of = |group: &&GroupOffset| lost.get(&group.partition).is_some_and(|l| l.is_empty);
            let empty: Vec<&GroupOffset> = group.iter().filter(of).collect();
            if empty.is_empty() {
                return self.report_lost(&lost);
            }
            let mut awaited = None;
            for group in empty {
                let (states, partition) = (&self.lane.states, group.partition);
                let nobody_has = group.changelog.is_none() || began.elapsed() > FILL_PATIENCE;
                if nobody_has || states.has_all(group)? {
                    self.lane.delivery.fill(states, partition)?;
                } else {
                    awaited = awaited.or(Some(partition));
                }
            }
            if let Some(partition) = awaited {
                let topic = self.lane.stream.output.states.clone();
                let error = LaneError::StatesAwaited { topic, partition };
                if self.lane.stops() {
                    return Err(error);
                }
                self.lane.status.failed(&error);
                std::thread::sleep(FILL_PACE);
            }
        }
    }

    /// Reports what the changelog has lost; it gets the states of the store again.
    fn report_lost(&mut self, lost: &BTreeMap<i32, LostEntries>) -> Result<(), LaneError> {
        for (&partition, lost) in lost {
            self.lane.recovery.of(partition).resend = true;
            ChangelogLost {
                stream: &self.lane.stream.name,
                topic: &self.lane.stream.output.states,
                partition,
                entries: lost.entries,
                stored: self.lane.states.count(partition)?,
            }
            .emit();
        }
        Ok(())
    }

    /// Brings the states of partitions that come up to what the group has committed, and finds what is
    /// known of their positions.
    ///
    /// # Errors
    /// As [`PartitionHandover::restore`], or where the store cannot be read.
    pub(in crate::lane) fn known_positions(
        &mut self,
        group: &[GroupOffset],
    ) -> Result<Vec<KnownPosition>, LaneError> {
        self.restore_filled(group)?;
        let mut known = Vec::new();
        for group in group {
            let partition = group.partition;
            if self.lane.states.check_release(partition)? {
                self.lane.recovery.of(partition).reformat = true;
            }
            known.push(KnownPosition {
                noted: self.lane.states.noted_position(partition)?,
                stored: self.lane.states.position(partition),
                group: *group,
                lost_states: self.lane.recovery.lost_states(partition),
            });
        }
        Ok(known)
    }

    /// Reports partitions that do not start where their states end.
    pub(in crate::lane) fn position_changed(&mut self, change: &PositionChange) {
        change.emit(&self.lane.stream.name);
        if change.cause == PositionCause::TopicReplaced {
            self.lane.read_records.restarted(change.partition);
        }
        if change.cause == PositionCause::OffsetsReset && change.to < change.from {
            self.lane.recovery.of(change.partition).rewind = true;
        }
    }

    /// Rewinds to the last commit without leaving the group: the transaction is aborted, and
    /// the partitions of which anything has changed since then, those of a `batch` that did not run
    /// included, get their states as they were committed. Returns where each of them has to be read
    /// again.
    ///
    /// # Errors
    /// Any [`LaneError`]: the lane has to restart.
    pub(in crate::lane) fn rewind(
        &mut self,
        batch: &[BorrowedMessage<'_>],
    ) -> Result<TopicPartitionList, LaneError> {
        self.lane.sink.producer().abort()?;
        self.lane.uncommitted.aborted();
        self.lane.positions.advance(batch);
        let committed = self.lane.positions.changed_from(&self.lane.notes);
        let offsets = delivery::offsets(&self.lane.stream.input.topic, &committed, &[])?;
        let partitions: Vec<i32> = committed.keys().copied().collect();
        let states = partitions.iter().map(|&partition| CommittedStates {
            partition,
            end: None,
            is_behind: true,
        });
        if !self.restore(&states.collect::<Vec<_>>())?.is_empty() {
            return Err(LaneError::ChangelogLost);
        }
        let needed = self.lane.recovery.clone();
        self.revoked(&partitions);
        self.lane.recovery = needed;
        let starts = committed
            .into_iter()
            .map(|(partition, next)| PartitionStart {
                partition,
                next,
                mark: None,
                until: None,
            });
        self.assigned(&starts.collect::<Vec<_>>())?;
        self.lane.uncommitted.commit_begins();
        Ok(offsets)
    }

    /// Makes the changelog complete again that was lost while the lane runs, without leaving the group:
    /// another instance may have no states of these partitions. The states of the store go to the
    /// changelog, with the new `sink`: the brokers do not abort a transaction that has a topic which is
    /// gone, and the producer cannot be used after that. Returns where each partition has to be read
    /// again.
    ///
    /// # Errors
    /// Any [`LaneError`]: the lane has to restart.
    pub(in crate::lane) fn refill(&mut self, sink: Sink) -> Result<TopicPartitionList, LaneError> {
        self.lane.sink = sink;
        self.lane.uncommitted.aborted();
        let owned = self.lane.positions.owned();
        let partitions = self.lane.input_partitions;
        self.lane.delivery.prepare(&self.lane.sink, partitions)?;
        self.lane.delivery.begin_again()?;
        let mut starts = Vec::new();
        for &partition in &owned {
            if !self.lane.delivery.fill(&self.lane.states, partition)? {
                // Another instance has filled it: what that wrote is read at a start.
                return Err(LaneError::ChangelogLost);
            }
            let noted = self.lane.states.noted_position(partition)?;
            let committed = self.lane.positions.committed_offset(partition);
            let next = noted.map(|noted| noted.next).or(committed);
            starts.extend(next.map(|next| PartitionStart {
                partition,
                next,
                mark: None,
                until: committed.filter(|committed| *committed > next),
            }));
            ChangelogLost {
                stream: &self.lane.stream.name,
                topic: &self.lane.stream.output.states,
                partition,
                entries: self.lane.states.compared_entries(partition),
                stored: self.lane.states.count(partition)?,
            }
            .emit();
        }
        let needed = self.lane.recovery.clone();
        self.revoked(&owned);
        self.lane.recovery = needed;
        for start in &starts {
            self.lane.recovery.of(start.partition).resend = true;
        }
        self.assigned(&starts)?;
        self.lane.uncommitted.commit_begins();
        let offsets = starts.iter().map(|start| (start.partition, start.next));
        delivery::offsets(&self.lane.stream.input.topic, &offsets.collect(), &[])
    }

    /// Reads partitions again from the offsets `lows`, with the states that they have now and with new
    /// clocks and windows: some of the records may have been read already. Returns the offsets.
    ///
    /// # Errors
    /// Any [`LaneError`]: the lane has to restart.
    pub(in crate::lane) fn restart(
        &mut self,
        consumer: &dyn GroupMember,
        lows: &BTreeMap<i32, i64>,
    ) -> Result<TopicPartitionList, LaneError> {
        self.lane.commit(consumer, CommitMode::Sync)?;
        let mut starts = Vec::new();
        for (&partition, &next) in lows {
            self.position_changed(&PositionChange {
                partition,
                cause: PositionCause::TopicReplaced,
                from: self.lane.positions.next_offset(partition).unwrap_or(next),
                to: next,
            });
            starts.push(PartitionStart {
                partition,
                next,
                mark: None,
                until: None,
            });
            self.revoked(&[partition]);
            self.lane.recovery.of(partition).rewind = true;
        }
        self.assigned(&starts)?;
        delivery::offsets(&self.lane.stream.input.topic, lows, &[])
    }

    /// Partitions come; their states are in the store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(in crate::lane) fn assigned(&mut self, starts: &[PartitionStart]) -> Result<(), LaneError> {
        for start in starts {
            let partition = start.partition;
            let (store, stream) = (self.lane.states.store(), &self.lane.stream.name);
            self.lane.notes.load(store, stream, partition)?;
            if start.until.is_some() {
                self.lane.recovery.of(partition).until = start.until;
            }
            let (delivery, sink) = (&*self.lane.delivery, &self.lane.sink);
            self.lane.recovery.prepare(
                partition,
                start.next,
                &self.lane.states,
                &mut self.lane.notes,
                delivery,
                sink,
            )?;
            if self.lane.stream.silence.after > 0.0 {
                self.lane
                    .states
                    .list_series(partition, &mut self.lane.table)?;
            } else {
                self.lane
                    .states
                    .count_series(partition, &mut self.lane.table)?;
            }
            self.lane.topic.assigned(partition, &self.lane.notes);
            clocks::assigned(partition, &mut self.lane.pipeline, &self.lane.notes);
            let noted = self.lane.notes.get::<NotedPosition>(partition, NOTE);
            let noted = noted.filter(|noted| noted.next == start.next);
            let mark = start.mark.or(noted.and_then(|noted| noted.mark));
            self.lane.positions.assigned(partition, start.next, mark);
            self.lane.read_records.begin(partition);
            let position = [(partition, start.next)];
            self.lane.positions.note(position, &mut self.lane.notes)?;
        }
        self.lane.feedback = FeedbackSeen::default();
        Ok(())
    }

    pub(in crate::lane) fn revoked(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.lane.positions.revoked(*partition);
            self.lane.read_records.end(*partition);
            self.lane.table.drop_partition(*partition);
            if let Some(silence) = &mut self.lane.pipeline.silence {
                silence.drop_partition(*partition);
            }
            self.lane.sampler.drop_partition(*partition);
            self.lane.notes.drop_partition(*partition);
            self.lane.topic.revoked(*partition);
            self.lane.expiry.revoked(*partition);
            self.lane.uncommitted.drop_partition(*partition);
            self.lane.recovery.revoked(*partition);
            self.lane.pending_checkpoint.drop_partition(*partition);
        }
    }
}
