//! The consumer group, as far as a lane commits to it: without the callbacks of its consumer, which
//! need the lane.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionListElem};

/// What the group has committed of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupOffset {
    pub(super) partition: i32,
    /// The next record; `None` where nothing was committed.
    pub(super) offset: Option<i64>,
    /// Where the states that belong to it end in the changelog, 0 where there is none; `None` where
    /// somebody else than outlierd has set the offset.
    pub(super) changelog: Option<i64>,
}

impl GroupOffset {
    /// What `committed` has of a partition of `topic`.
    pub(super) fn of(committed: &TopicPartitionList, topic: &str, partition: i32) -> Self {
        let found = committed.find_partition(topic, partition);
        let offset = match found.as_ref().map(TopicPartitionListElem::offset) {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        };
        let changelog = found.and_then(|found| found.metadata().parse().ok());
        Self {
            partition,
            offset,
            changelog,
        }
    }
}

/// A member of the group. The consumer of a lane is one.
pub trait GroupMember {
    /// The generation of the group, for a transaction; `None` outside of a group.
    fn group_metadata(&self) -> Option<ConsumerGroupMetadata>;

    /// Commits offsets outside of a transaction.
    ///
    /// # Errors
    /// Those of librdkafka.
    fn commit_offsets(&self, offsets: &TopicPartitionList, mode: CommitMode) -> KafkaResult<()>;
}
