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
    /// Where the states that belong to it end in the changelog; `None` where that was not noted.
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

    /// The offset behind the last record of a partition that holds no record; `None` where it holds
    /// one, where the member has not read all there is, or where no broker answers.
    fn end_of_empty(&self, topic: &str, partition: i32) -> Option<i64>;
}
