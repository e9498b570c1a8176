//! How a lane's results, states, notes and positions become durable together: one type for each
//! setting of `input.delivery`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::CommitMode;
use rdkafka::topic_partition_list::Offset;

use super::error::LaneError;
use super::group::GroupMember;
use super::notes::NoteChange;
use crate::config::settings::StreamSettings;
use crate::events::lane::OffsetsNotCommitted;
use crate::pipeline::series::SeriesTable;
use crate::sink::Sink;
use crate::source::{self, KafkaSettings};
use crate::state::changelog::{Changelog, note_key};
use crate::state::{Store, codec};

/// How long the results of one commit may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long after a transaction the next one begins at the earliest. The coordinator refuses it
/// until all partitions of the last one are marked as committed, and librdkafka asks again only
/// after 20 ms: an alert that waits is sooner out so.
const TRANSACTION_PAUSE: Duration = Duration::from_millis(10);

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

    /// Brings the stored states of partitions up to what was committed elsewhere, or before a
    /// crash. Returns how many states that were; `None` where the store is all there is.
    ///
    /// # Errors
    /// Without the states the partitions must not be read.
    fn restore(
        &self,
        _store: &dyn Store,
        _partitions: &[i32],
        _stop: &AtomicBool,
    ) -> Result<Option<usize>, LaneError> {
        Ok(None)
    }
}

/// The delivery that a stream is set to.
pub(super) fn of(kafka: &KafkaSettings, stream: &StreamSettings) -> Box<dyn DeliveryGuarantee> {
    match stream.input.delivery {
        source::Delivery::ExactlyOnce => Box::new(ExactlyOnce {
            changelog: Changelog::new(
                kafka,
                &stream.name,
                &stream.output.states,
                &stream.input.group,
            ),
            ended: None,
        }),
        source::Delivery::AtLeastOnce => Box::new(AtLeastOnce),
    }
}

/// Results, states, notes and offsets are one transaction. The store follows behind the changelog.
struct ExactlyOnce {
    changelog: Changelog,
    /// When the last transaction ended.
    ended: Option<Instant>,
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
        let offsets = offsets(changes.topic, changes.positions, &changelog)?;
        let group = consumer.group_metadata().ok_or(LaneError::NoGroup)?;
        sink.producer().commit(&offsets, &group)?;
        self.ended = Some(Instant::now());
        Ok(changelog)
    }

    fn stores_each_commit(&self) -> bool {
        false
    }

    fn pause_left(&self) -> Duration {
        let ago = self.ended.map_or(TRANSACTION_PAUSE, |at| at.elapsed());
        TRANSACTION_PAUSE.saturating_sub(ago)
    }

    fn restore(
        &self,
        store: &dyn Store,
        partitions: &[i32],
        stop: &AtomicBool,
    ) -> Result<Option<usize>, LaneError> {
        Ok(Some(self.changelog.restore(store, partitions, stop)?))
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

/// Positions as the group keeps them, with the ends of the changelog.
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
        if let Some((_, end)) = changelog.iter().find(|(of, _)| *of == partition) {
            entry.set_metadata(end.to_string());
        }
    }
    Ok(offsets)
}
