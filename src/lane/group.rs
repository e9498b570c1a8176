//! The consumer group, as far as a lane commits to it: without the callbacks of its consumer, which
//! need the lane.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;

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
