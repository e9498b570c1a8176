//! How a lane's results, states, notes and positions become durable together: one type for each
//! setting of `input.delivery`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::CommitMode;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::error::LaneError;
use super::group::GroupMember;
use super::notes::NoteChange;
use super::refill::ChangelogRefill;
use super::stored_states::StoredStates;
use crate::config::settings::StreamSettings;
use crate::events::lane::OffsetsNotCommitted;
use crate::pipeline::series::SeriesTable;
use crate::sink::Sink;
use crate::sink::topics::changelog::{check_compaction, prepare_changelog};
use crate::source::cluster::Cluster;
use crate::source::{self, KafkaSettings};
use crate::state::changelog::{Changelog, CommittedStates, RestoredStates, note_key};
use crate::state::{Store, codec};

/// How long the results of one commit may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long after a transaction the next one begins at the earliest. The coordinator refuses it
/// until all partitions of the last one are marked as committed, and librdkafka asks again only
/// after 20 ms: an alert that waits is sooner out so.
const TRANSACTION_PAUSE: Duration = Duration::from_millis(10);

/// How long the brokers may take until a changelog shows that was created or extended.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(15);
const TOPIC_PACE: Duration = Duration::from_millis(100);

/// What is to be made durable, beside what was sent already.
pub(super) struct Changes<'c> {
    pub(super) topic: &'c str,
    /// The next offsets of the partitions of which anything has changed.
    pub(super) positions: &'c BTreeMap<i32, i64>,
    /// Series that are forgotten.
    pub(super) forgotten: &'c [(i32, String)],
    pub(super) notes: &'c [NoteChange],
}

/// See the module.
pub(super) trait DeliveryGuarantee: Send {
    /// Makes what was sent durable, and whatever of the changes belongs to the brokers. Returns, by
    /// partition, where the changed states end in the changelog, where there is one.
    ///
    /// # Errors
    /// Nothing of it counts then.
    fn publish(
        &mut self,
        sink: &Sink,
        table: &mut SeriesTable,
        changes: &Changes<'_>,
        consumer: &dyn GroupMember,
    ) -> Result<Vec<(i32, i64)>, LaneError>;

    /// Whether the store is written with each commit; else it follows behind, in small pieces.
    fn stores_each_commit(&self) -> bool;

    /// Does what is left when the store has been written.
    ///
    /// # Errors
    /// Positions that cannot be listed.
    fn stored(
        &self,
        _stream: &str,
        _changes: &Changes<'_>,
        _consumer: &dyn GroupMember,
        _mode: CommitMode,
    ) -> Result<(), LaneError> {
        Ok(())
    }

    /// How long the next commit should wait yet.
    fn pause_left(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether the brokers answer that the changelog does not exist, or ends before what was committed
    /// of some `owned` partition: another lane has created it again.
    fn has_lost_changelog(&self, _sink: &Sink, _owned: &[i32]) -> bool {
        false
    }

    /// Gives the changelog, where there is one, as many partitions as the input has: it was deleted, or
    /// the input got more.
    ///
    /// # Errors
    /// Where the brokers do not answer or allow it.
    fn prepare(&self, _sink: &Sink, _partitions: usize) -> Result<(), LaneError> {
        Ok(())
    }

    /// The changelog was lost while the lane runs: what is known of it is void.
    ///
    /// # Errors
    /// Where the brokers cannot be asked what it is now.
    fn begin_again(&mut self) -> Result<(), LaneError> {
        Ok(())
    }

    /// Brings the stored states of partitions up to what was committed elsewhere, or before a
    /// crash; `None` where the store is all there is.
    ///
    /// # Errors
    /// Without the states the partitions must not be read.
    fn restore(
        &mut self,
        _store: &dyn Store,
        _partitions: &[CommittedStates],
        _stop: &AtomicBool,
    ) -> Result<Option<RestoredStates>, LaneError> {
        Ok(None)
    }

    /// Writes the stored states of a partition to the changelog, where that is empty. Returns whether
    /// this instance did.
    ///
    /// # Errors
    /// Where the store cannot be read, or the brokers do not answer or allow it.
    fn fill(&self, _states: &StoredStates, _partition: i32) -> Result<bool, LaneError> {
        Ok(true)
    }

    /// Sends a stored state to the changelog again, where there is one.
    ///
    /// # Errors
    /// Where it cannot be sent.
    fn resend(
        &self,
        _sink: &Sink,
        _partition: i32,
        _series: &str,
        _state: &[u8],
    ) -> Result<(), LaneError> {
        Ok(())
    }
}

/// The delivery that a stream is set to.
pub(super) fn of(
    kafka: &KafkaSettings,
    stream: &Arc<StreamSettings>,
) -> Box<dyn DeliveryGuarantee> {
    match stream.input.delivery {
        source::Delivery::ExactlyOnce => Box::new(ExactlyOnce {
            kafka: kafka.clone(),
            stream: stream.clone(),
            changelog: Changelog::new(
                kafka,
                &stream.name,
                &stream.output.states,
                &stream.input.group,
            ),
            ends: HashMap::new(),
            ended: None,
        }),
        source::Delivery::AtLeastOnce => Box::new(AtLeastOnce),
    }
}

/// Results, states, notes and offsets are one transaction. The store follows behind the changelog.
struct ExactlyOnce {
    kafka: KafkaSettings,
    stream: Arc<StreamSettings>,
    changelog: Changelog,
    /// By partition, where the states of the last transaction end, or those that it came with.
    ends: HashMap<i32, i64>,
    /// When the last transaction ended.
    ended: Option<Instant>,
}

impl ExactlyOnce {
    /// Asks the brokers for something beside the clients of the lane.
    fn ask<T>(&self, question: impl AsyncFnOnce(&Cluster) -> T) -> Result<T, LaneError> {
        let cluster = Cluster::new(&self.kafka)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LaneError::Runtime)?;
        Ok(runtime.block_on(question(&cluster)))
    }

    /// Brokers that create topics make one of the changelog that is not compacted.
    fn check_compaction(&self) -> Result<(), LaneError> {
        let stream = &self.stream;
        self.ask(async |cluster| check_compaction(cluster, stream).await)
    }
}

impl DeliveryGuarantee for ExactlyOnce {
    /// Each offset takes along where in the changelog its states end, so that whoever gets the
    /// partition knows whether its own store has them all, even where they changed without any new
    /// record.
    fn publish(
        &mut self,
        sink: &Sink,
        table: &mut SeriesTable,
        changes: &Changes<'_>,
        consumer: &dyn GroupMember,
    ) -> Result<Vec<(i32, i64)>, LaneError> {
        for slot in table.take_dirty() {
            let state = codec::encode(&slot.state)?;
            sink.state(slot.partition, slot.series.as_bytes(), Some(&state))?;
        }
        for (partition, series) in changes.forgotten {
            sink.state(*partition, series.as_bytes(), None)?;
        }
        for (partition, key, value) in changes.notes {
            sink.state(*partition, &note_key(key), value.as_deref())?;
        }
        sink.await_acknowledgements()?;
        let changelog = sink.producer().take_changelog();
        // A topic that was created again begins with smaller offsets.
        let is_lost = |&(partition, end): &(i32, i64)| self.ends.get(&partition) > Some(&end);
        if changelog.iter().any(is_lost) {
            return Err(LaneError::ChangelogLost);
        }
        let offsets = offsets(changes.topic, changes.positions, &changelog)?;
        let group = consumer.group_metadata().ok_or(LaneError::NoGroup)?;
        sink.producer().commit(&offsets, &group)?;
        self.ended = Some(Instant::now());
        self.ends.extend(changelog.iter().copied());
        Ok(changelog)
    }

    fn stores_each_commit(&self) -> bool {
        false
    }

    fn pause_left(&self) -> Duration {
        let ago = self.ended.map_or(TRANSACTION_PAUSE, |at| at.elapsed());
        TRANSACTION_PAUSE.saturating_sub(ago)
    }

    fn has_lost_changelog(&self, sink: &Sink, owned: &[i32]) -> bool {
        let producer = sink.producer();
        let is_cut = |partition: &i32| {
            let end = self.ends.get(partition);
            end.is_some_and(|end| {
                producer
                    .changelog_end(*partition)
                    .is_ok_and(|now| now < *end)
            })
        };
        match producer.changelog_partitions() {
            Ok(partitions) => partitions == 0 || owned.iter().any(is_cut),
            Err(_) => false,
        }
    }

    fn prepare(&self, sink: &Sink, partitions: usize) -> Result<(), LaneError> {
        if sink.producer().changelog_partitions()? >= partitions {
            return Ok(());
        }
        let stream = &self.stream;
        self.ask(async |cluster| prepare_changelog(cluster, stream, partitions).await)??;
        let asked = Instant::now();
        while sink.producer().changelog_partitions()? < partitions {
            if asked.elapsed() > TOPIC_TIMEOUT {
                let code = RDKafkaErrorCode::UnknownPartition;
                return Err(KafkaError::MetadataFetch(code).into());
            }
            std::thread::sleep(TOPIC_PACE);
        }
        Ok(())
    }

    fn begin_again(&mut self) -> Result<(), LaneError> {
        self.ends.clear();
        self.check_compaction()
    }

    fn restore(
        &mut self,
        store: &dyn Store,
        partitions: &[CommittedStates],
        stop: &AtomicBool,
    ) -> Result<Option<RestoredStates>, LaneError> {
        let restored = self.changelog.restore(store, partitions, stop)?;
        self.ends.extend(restored.ends.iter().copied());
        if !restored.lost.is_empty() {
            self.check_compaction()?;
        }
        Ok(Some(restored))
    }

    fn fill(&self, states: &StoredStates, partition: i32) -> Result<bool, LaneError> {
        ChangelogRefill::new(&self.kafka, &self.stream).fill(states, partition)
    }

    fn resend(
        &self,
        sink: &Sink,
        partition: i32,
        series: &str,
        state: &[u8],
    ) -> Result<(), LaneError> {
        Ok(sink.state(partition, series.as_bytes(), Some(state))?)
    }
}

/// Results are acknowledged, then states, notes and positions are one batch of the store, then the
/// group gets the offsets.
struct AtLeastOnce;

impl DeliveryGuarantee for AtLeastOnce {
    fn publish(
        &mut self,
        sink: &Sink,
        table: &mut SeriesTable,
        _: &Changes<'_>,
        _: &dyn GroupMember,
    ) -> Result<Vec<(i32, i64)>, LaneError> {
        drop(table.take_dirty());
        sink.flush(FLUSH_TIMEOUT)?;
        Ok(Vec::new())
    }

    fn stores_each_commit(&self) -> bool {
        true
    }

    fn stored(
        &self,
        stream: &str,
        changes: &Changes<'_>,
        consumer: &dyn GroupMember,
        mode: CommitMode,
    ) -> Result<(), LaneError> {
        let offsets = offsets(changes.topic, changes.positions, &[])?;
        if let Err(error) = consumer.commit_offsets(&offsets, mode) {
            // The store is ahead of the group and rules at the next assignment: nothing is read
            // twice.
            OffsetsNotCommitted {
                stream,
                error: &error,
            }
            .emit();
        }
        Ok(())
    }
}

/// Positions as the group keeps them, with the ends of the changelog; 0 where there is none. Offsets
/// that somebody else commits have no metadata.
///
/// # Errors
/// An offset that librdkafka does not take.
pub(super) fn offsets(
    topic: &str,
    positions: &BTreeMap<i32, i64>,
    changelog: &[(i32, i64)],
) -> Result<TopicPartitionList, LaneError> {
    let mut offsets = TopicPartitionList::with_capacity(positions.len());
    for (&partition, &offset) in positions {
        let mut entry = offsets.add_partition(topic, partition);
        entry.set_offset(Offset::Offset(offset))?;
        let end = changelog.iter().find(|(of, _)| *of == partition);
        entry.set_metadata(end.map_or(0, |(_, end)| *end).to_string());
    }
    Ok(offsets)
}
