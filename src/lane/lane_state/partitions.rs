//! How partitions come to a lane and leave it, with their states.

use std::collections::BTreeMap;
use std::time::Instant;

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
use crate::state::changelog::CommittedStates;

impl LaneState {
    /// Gives the changelog as many partitions as the input has.
    ///
    /// # Errors
    /// [`LaneError`] where the brokers do not answer or allow it.
    pub(in crate::lane) fn prepare_changelog(&self, partitions: usize) -> Result<(), LaneError> {
        self.delivery.prepare(&self.sink, partitions)
    }

    /// Fetches what is missing of the states of partitions that were committed elsewhere, or before
    /// a crash. Where the changelog has lost some, it gets those of the store again.
    ///
    /// # Errors
    /// [`LaneError::Changelog`]: without the states the partitions must not be read.
    fn restore(&mut self, partitions: &[CommittedStates]) -> Result<(), LaneError> {
        let behind = partitions.iter().filter(|committed| committed.is_behind);
        let behind: Vec<i32> = behind.map(|committed| committed.partition).collect();
        let started = Instant::now();
        let store = self.states.store();
        let Some(restored) = self.delivery.restore(store, partitions, &self.stop)? else {
            return Ok(());
        };
        for (&partition, &entries) in &restored.lost {
            self.recovery.of(partition).resend = true;
            ChangelogLost {
                stream: &self.stream.name,
                topic: &self.stream.output.states,
                partition,
                entries,
                stored: self.states.count(partition)?,
            }
            .emit();
        }
        if restored.states > 0 {
            StatesRestored {
                stream: &self.stream.name,
                partitions: &behind,
                states: restored.states,
                took: started.elapsed(),
            }
            .emit();
        }
        Ok(())
    }

    /// Brings the states of partitions that come up to what the group has committed, and finds what is
    /// known of their positions.
    ///
    /// # Errors
    /// As [`LaneState::restore`], or where the store cannot be read.
    pub(in crate::lane) fn known_positions(
        &mut self,
        group: &[GroupOffset],
    ) -> Result<Vec<KnownPosition>, LaneError> {
        let compare = |group| self.states.compare(group);
        let committed: Vec<CommittedStates> = group.iter().map(compare).collect();
        self.restore(&committed)?;
        let mut known = Vec::new();
        for group in group {
            let partition = group.partition;
            known.push(KnownPosition {
                noted: self.states.noted_position(partition)?,
                stored: self.states.position(partition),
                group: *group,
                lost_states: self.recovery.lost_states(partition),
            });
        }
        Ok(known)
    }

    /// Reports partitions that do not start where their states end.
    pub(in crate::lane) fn position_changed(&mut self, change: &PositionChange) {
        change.emit(&self.stream.name);
        if change.cause == PositionCause::TopicReplaced {
            self.read_records.restarted(change.partition);
        }
        if change.cause == PositionCause::OffsetsReset && change.to < change.from {
            self.recovery.of(change.partition).rewind = true;
        }
    }

    /// Whether records run again whose results were published before.
    pub(in crate::lane) fn runs_again(&self) -> bool {
        self.recovery.is_running()
    }

    /// Partitions are read to their ends.
    pub(in crate::lane) fn at_ends(&mut self, partitions: &[i32]) {
        self.recovery.at_ends(partitions);
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
        self.sink.producer().abort()?;
        self.uncommitted.aborted();
        self.positions.advance(batch);
        let committed = self.positions.changed_from(&self.notes);
        let offsets = delivery::offsets(&self.stream.input.topic, &committed, &[])?;
        let partitions: Vec<i32> = committed.keys().copied().collect();
        let needed = self.recovery.clone();
        self.revoked(&partitions);
        let states = partitions.iter().map(|&partition| CommittedStates {
            partition,
            end: None,
            is_behind: true,
        });
        self.restore(&states.collect::<Vec<_>>())?;
        if self.recovery.has_lost_states() {
            return Err(LaneError::ChangelogLost);
        }
        self.recovery = needed;
        let starts = committed
            .into_iter()
            .map(|(partition, next)| PartitionStart {
                partition,
                next,
                mark: None,
                until: None,
            });
        self.assigned(&starts.collect::<Vec<_>>())?;
        self.uncommitted.commit_begins();
        Ok(offsets)
    }

    /// The owned partitions whose topic was deleted and created again since they are read.
    pub(in crate::lane) fn replaced(&self) -> Vec<i32> {
        self.read_records
            .replaced(|partition| self.positions.owns(partition))
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
        self.commit(consumer, CommitMode::Sync)?;
        let mut starts = Vec::new();
        for (&partition, &next) in lows {
            self.position_changed(&PositionChange {
                partition,
                cause: PositionCause::TopicReplaced,
                from: self.positions.next_offset(partition).unwrap_or(next),
                to: next,
            });
            starts.push(PartitionStart {
                partition,
                next,
                mark: None,
                until: None,
            });
            self.revoked(&[partition]);
            self.recovery.of(partition).rewind = true;
        }
        self.assigned(&starts)?;
        delivery::offsets(&self.stream.input.topic, lows, &[])
    }

    /// Partitions come; their states are in the store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(in crate::lane) fn assigned(&mut self, starts: &[PartitionStart]) -> Result<(), LaneError> {
        for start in starts {
            let partition = start.partition;
            let (store, stream) = (self.states.store(), &self.stream.name);
            self.notes.load(store, stream, partition)?;
            if start.until.is_some() {
                self.recovery.of(partition).until = start.until;
            }
            let (delivery, sink) = (&*self.delivery, &self.sink);
            self.recovery.prepare(
                partition,
                start.next,
                &self.states,
                &mut self.notes,
                delivery,
                sink,
            )?;
            if self.stream.silence.after > 0.0 {
                self.states.list_series(partition, &mut self.table)?;
            } else {
                self.states.count_series(partition, &mut self.table)?;
            }
            self.topic.assigned(partition, &self.notes);
            clocks::assigned(partition, &mut self.pipeline, &self.notes);
            let noted = self.notes.get::<NotedPosition>(partition, NOTE);
            let noted = noted.filter(|noted| noted.next == start.next);
            let mark = start.mark.or(noted.and_then(|noted| noted.mark));
            self.positions.assigned(partition, start.next, mark);
            self.read_records.begin(partition);
            let position = [(partition, start.next)];
            self.positions.note(position, &mut self.notes)?;
        }
        self.feedback = FeedbackSeen::default();
        Ok(())
    }

    pub(in crate::lane) fn revoked(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.positions.revoked(*partition);
            self.read_records.end(*partition);
            self.table.drop_partition(*partition);
            if let Some(silence) = &mut self.pipeline.silence {
                silence.drop_partition(*partition);
            }
            self.sampler.drop_partition(*partition);
            self.notes.drop_partition(*partition);
            self.topic.revoked(*partition);
            self.expiry.revoked(*partition);
            self.uncommitted.drop_partition(*partition);
            self.recovery.revoked(*partition);
            self.pending_checkpoint.drop_partition(*partition);
        }
    }
}
