//! What a lane asks the brokers when it gets partitions: what its group has committed, how far the
//! changelog is, and what the topic holds. [`super::start`] decides from that where each begins.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::Lane;
use super::error::LaneError;
use super::group::GroupOffset;
use super::lane_state::LaneState;
use super::marks::{LogRange, LogReader};
use super::start::{self, PartitionStart};
use crate::events::lane::OffsetsAwaited;
use crate::record::EventTime;
use crate::source::{KafkaSettings, StartOffset};

/// How long the group coordinator may take to return committed offsets: longer than a transaction
/// that the last owner left open, since the coordinator returns its offsets only after it is
/// decided.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one request may take: between two of them the lane looks whether it is to stop.
const COMMITTED_TRY: Duration = Duration::from_secs(3);

/// Finds where a lane begins to read the partitions that it gets.
pub(super) struct StartFinder {
    stream: String,
    lane: usize,
    kafka: KafkaSettings,
    /// Of the input.
    pub(super) topic: String,
    group: String,
    /// Where a group begins that has committed nothing.
    first: StartOffset,
    /// Partitions that the topic had when the stream was last started; further ones were added.
    known_partitions: usize,
}

impl StartFinder {
    pub(super) fn new(lane: &Lane) -> Self {
        let input = &lane.stream.input;
        Self {
            stream: lane.stream.name.clone(),
            lane: lane.number,
            kafka: lane.kafka.clone(),
            topic: input.topic.clone(),
            group: input.group.clone(),
            first: input.start,
            known_partitions: lane.known_partitions,
        }
    }

    /// Finds where each of some partitions starts, once the changelog and the store have what they
    /// need, and reports those that do not start where their states end.
    ///
    /// # Errors
    /// Any [`LaneError`]: the partitions must not be read.
    pub(super) fn find<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        lane_state: &mut LaneState,
        partitions: &[i32],
    ) -> Result<Vec<PartitionStart>, LaneError> {
        let list = self.list(partitions);
        let committed = self.committed(consumer, lane_state, &list)?;
        lane_state.prepare_changelog(self.partitions_of_topic(consumer, partitions)?)?;
        let of_group = partitions
            .iter()
            .map(|&partition| GroupOffset::of(&committed, &self.topic, partition));
        let known = lane_state
            .handover()
            .known_positions(&of_group.collect::<Vec<_>>())?;
        let span = lane_state.warm_up_span();
        let is_new = known.iter().any(|known| known.next().is_none());
        let history = match span.is_zero() || !is_new {
            true => None,
            false => Some(self.warm_up_offsets(consumer, partitions, span)?),
        };
        if history.is_some() {
            lane_state.warm_up(true)?;
        }
        let first = |partition, log: LogRange| {
            let history = history.as_ref();
            let found = history.and_then(|list| list.find_partition(&self.topic, partition));
            match found.map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset,
                Some(_) => log.high,
                None => self.first_start(partition, log),
            }
        };
        let mut reader = LogReader::new(&self.kafka, &self.group, &self.topic)?;
        let starts = start::find(&mut reader, &known, first, || lane_state.stops())?;
        for change in &starts.changes {
            lane_state.handover().position_changed(change);
        }
        Ok(starts.partitions)
    }

    /// Where a partition starts that was never read. One that was added to the topic of a running
    /// stream is read from its first record.
    fn first_start(&self, partition: i32, log: LogRange) -> i64 {
        let is_added = usize::try_from(partition).is_ok_and(|p| p >= self.known_partitions);
        match self.first {
            StartOffset::Latest if !is_added => log.high,
            StartOffset::Latest | StartOffset::Earliest => log.low,
        }
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        list
    }

    /// How many partitions the topic has; those included that the lane gets.
    fn partitions_of_topic<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &[i32],
    ) -> Result<usize, KafkaError> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), COMMITTED_TRY)?;
        let found = metadata
            .topics()
            .iter()
            .map(|topic| topic.partitions().len());
        let own = partitions
            .iter()
            .filter_map(|&partition| usize::try_from(partition + 1).ok());
        Ok(found.chain(own).max().unwrap_or(0))
    }

    /// Where a partition begins that nobody has read yet, in a stream that warms up: so long before
    /// now.
    fn warm_up_offsets<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &[i32],
        span: Duration,
    ) -> Result<TopicPartitionList, KafkaError> {
        let millis =
            EventTime::now().as_millis() - i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let mut times = TopicPartitionList::new();
        for &partition in partitions {
            let since = Offset::Offset(millis.max(0));
            times.add_partition_offset(&self.topic, partition, since)?;
        }
        consumer.offsets_for_times(times, COMMITTED_TRY)
    }

    /// The group's offsets. The coordinator does not return them while a transaction of the last
    /// owner is undecided.
    fn committed<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        lane_state: &LaneState,
        partitions: &TopicPartitionList,
    ) -> Result<TopicPartitionList, KafkaError> {
        let asked = Instant::now();
        loop {
            let found = consumer.committed_offsets(partitions.clone(), COMMITTED_TRY);
            let waits = found
                .as_ref()
                .err()
                .and_then(KafkaError::rdkafka_error_code)
                == Some(RDKafkaErrorCode::OperationTimedOut);
            if !waits || lane_state.stops() || asked.elapsed() >= COMMITTED_TIMEOUT {
                return found;
            }
            OffsetsAwaited {
                stream: &self.stream,
                lane: self.lane,
                waited: asked.elapsed(),
            }
            .emit();
        }
    }
}
