//! Fills a changelog that was deleted and created again, from a state folder that has the states
//! (docs/decisions/0025). Any instance may: the one that gets a partition may have none of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::error::LaneError;
use super::group::GroupOffset;
use super::stored_states::StoredStates;
use crate::config::settings::StreamSettings;
use crate::events::position::ChangelogRefilled;
use crate::record::EventTime;
use crate::sink::SinkError;
use crate::sink::fill::ChangelogFill;
use crate::source::{Delivery, KafkaSettings, QuietClientContext, consumer, reader_config};
use crate::state::changelog::{Changelog, FILLED, note_key, partition_note};
use crate::state::{Commit, Store};

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct ChangelogRefill {
    kafka: KafkaSettings,
    stream: Arc<StreamSettings>,
    changelog: Changelog,
}

impl ChangelogRefill {
    pub(super) fn new(kafka: &KafkaSettings, stream: &Arc<StreamSettings>) -> Self {
        let (states, group) = (&stream.output.states, &stream.input.group);
        Self {
            kafka: kafka.clone(),
            changelog: Changelog::new(kafka, &stream.name, states, group),
            stream: stream.clone(),
        }
    }

    /// Writes all that a store has of a partition to the changelog, if that has no entry of it. Of
    /// all instances that do so at the same time, one succeeds. Returns whether this one did.
    ///
    /// # Errors
    /// Where the store cannot be read, or the brokers do not answer or allow it.
    pub(super) fn fill(&self, states: &StoredStates, partition: i32) -> Result<bool, LaneError> {
        let fill = ChangelogFill::begin(&self.kafka, &self.stream, partition)?;
        // Whoever began before is locked out, and whoever begins later finds what this one writes.
        if !self.changelog.is_empty(partition)? {
            return Ok(false);
        }
        match self.write(&fill, states, partition) {
            Err(LaneError::Sink(error)) if fill.is_locked_out(&error) => Ok(false),
            written => written.map(|()| true),
        }
    }

    fn write(
        &self,
        fill: &ChangelogFill,
        states: &StoredStates,
        partition: i32,
    ) -> Result<(), LaneError> {
        let (store, stream) = (states.store(), &self.stream.name);
        let name = format!("{} {}", store.instance()?, EventTime::now().as_millis());
        fill.send(&note_key(FILLED), name.as_bytes())?;
        let prefix = partition_note(partition, "");
        for (key, value) in store.notes(stream, &prefix)? {
            let key = &key[prefix.len()..];
            if key != FILLED {
                fill.send(&note_key(key), &value)?;
            }
        }
        let mut count = 0;
        states.each_page(partition, |page| {
            count += page.len();
            let mut sent = page.iter();
            let done: Result<(), SinkError> =
                sent.try_for_each(|(series, state)| fill.send(series.as_bytes(), state));
            Ok(done?)
        })?;
        fill.commit()?;
        store.commit(
            stream,
            &Commit {
                notes: vec![(partition_note(partition, FILLED), Some(name.into_bytes()))],
                ..Commit::default()
            },
        )?;
        ChangelogRefilled {
            stream,
            topic: &self.stream.output.states,
            partition,
            states: count,
        }
        .emit();
        Ok(())
    }
}

/// Looks while a stream runs whether the changelog was created again, and fills the partitions that
/// this instance does not read although it has all of their states.
pub(super) struct ChangelogKeeper {
    refill: ChangelogRefill,
    states: StoredStates,
    consumer: Option<BaseConsumer<QuietClientContext>>,
    /// By partition that has entries again, where it ended at the last look.
    filled: HashMap<i32, i64>,
}

impl ChangelogKeeper {
    /// `None` for a stream without a changelog.
    pub(super) fn new(
        kafka: &KafkaSettings,
        stream: &Arc<StreamSettings>,
        store: &Arc<dyn Store>,
    ) -> Option<Self> {
        let has_changelog = matches!(stream.input.delivery, Delivery::ExactlyOnce);
        has_changelog.then(|| Self {
            refill: ChangelogRefill::new(kafka, stream),
            states: StoredStates::new(store.clone(), &stream.name),
            consumer: None,
            filled: HashMap::new(),
        })
    }

    /// Looks at the partitions that the store has a position of, except for those of lanes.
    ///
    /// # Errors
    /// As [`ChangelogRefill::fill`]; the next look begins again.
    pub(super) fn look(&mut self, is_read: impl Fn(i32) -> bool) -> Result<(), LaneError> {
        let stream = self.refill.stream.clone();
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => self.connect()?,
        };
        // Nobody else polls it, and its token may expire.
        drop(consumer.poll(Duration::ZERO));
        let mut empty = Vec::new();
        let positions = self.states.store().positions(&stream.name)?;
        for (partition, _) in positions {
            let stored = self.states.compared_entries(partition);
            if is_read(partition) || stored == 0 {
                continue;
            }
            let topic = &stream.output.states;
            let (_, end) = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?;
            let filled = self.filled.get_mut(&partition);
            match filled.filter(|filled| end >= **filled) {
                Some(filled) => *filled = end,
                None if stored > end => empty.push((partition, end)),
                None => {}
            }
        }
        if !empty.is_empty() {
            let mut list = TopicPartitionList::new();
            for (partition, _) in &empty {
                list.add_partition(&stream.input.topic, *partition);
            }
            let committed = consumer.committed_offsets(list, REQUEST_TIMEOUT)?;
            for (partition, end) in empty {
                let group = GroupOffset::of(&committed, &stream.input.topic, partition);
                if self.states.has_all(&group)? {
                    self.refill.fill(&self.states, partition)?;
                    self.filled.insert(partition, end);
                }
            }
        }
        self.consumer = Some(consumer);
        Ok(())
    }

    fn connect(&self) -> Result<BaseConsumer<QuietClientContext>, KafkaError> {
        let ChangelogRefill { kafka, stream, .. } = &self.refill;
        let config = reader_config(kafka, "outlierd-changelog", &stream.input.group);
        consumer(kafka, &config, QuietClientContext::of(kafka))
    }
}
