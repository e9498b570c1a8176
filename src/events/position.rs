//! Events of input positions that do not continue where the states of a partition end, and of a
//! changelog that has lost entries.

use tracing::{error, info, warn};

use super::metric;

/// Why a partition does not start at the position of its states.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum PositionCause {
    /// The topic has another record before the position, or ends before it.
    TopicReplaced,
    /// Somebody else has set the committed offset of the group.
    OffsetsReset,
    /// The oldest record of the topic lies behind the position.
    RecordsLost,
    /// The group has no committed offset any more; the start is the position of the states.
    GroupOffsetMissing,
}

impl_as_str!(PositionCause);

/// Where a partition starts instead of at the position of its states, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PositionChange {
    /// The partition.
    pub partition: i32,
    /// Why.
    pub cause: PositionCause,
    /// Where its states end.
    pub from: i64,
    /// Where it starts.
    pub to: i64,
}

impl PositionChange {
    /// Logs and counts.
    pub fn emit(&self, stream: &str) {
        let (partition, from, to) = (self.partition, self.from, self.to);
        match self.cause {
            PositionCause::TopicReplaced => error!(
                stream,
                partition,
                from,
                to,
                "the input topic was deleted and created again, or has lost its newest records: outlierd reads the \
                 partition again from offset `to`; the states of its series stay"
            ),
            PositionCause::OffsetsReset if to < from => warn!(
                stream,
                partition,
                from,
                to,
                records = from.saturating_sub(to),
                "the committed offset was set back: outlierd scores these records again, with new clocks and windows"
            ),
            PositionCause::OffsetsReset => warn!(
                stream,
                partition,
                from,
                to,
                records = to.saturating_sub(from),
                "the committed offset was set forward: outlierd skips these records"
            ),
            PositionCause::RecordsLost => {
                error!(
                    stream,
                    partition,
                    from,
                    to,
                    records = to.saturating_sub(from),
                    "records were deleted before outlierd read them: check the retention of the input topic and the lag"
                );
                let lost = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
                metric::RECORDS_LOST.add([("stream", stream)], lost);
            }
            PositionCause::GroupOffsetMissing => warn!(
                stream,
                partition,
                at = to,
                "the consumer group has no committed offset: outlierd continues at the position of its states"
            ),
        }
        let labels = [("stream", stream), ("cause", self.cause.as_str())];
        metric::POSITION_CHANGES.add(labels, 1);
    }
}

/// The changelog does not have entries of a partition that were committed: it was deleted, created
/// again or cut.
pub struct ChangelogLost<'a> {
    /// The stream.
    pub stream: &'a str,
    /// `output.states`.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// Entries that are missing at most.
    pub entries: i64,
    /// States of the partition in the state folder of this instance.
    pub stored: usize,
}

impl ChangelogLost<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let (stream, topic, partition) = (self.stream, self.topic, self.partition);
        let (entries, states) = (self.entries, self.stored);
        if states > 0 {
            error!(
                stream,
                topic,
                partition,
                entries,
                states,
                "the changelog has lost entries: outlierd writes the states of its state folder to it again"
            );
        } else {
            error!(
                stream,
                topic,
                partition,
                entries,
                states,
                "the changelog has lost entries, and the state folder has no state of the partition: its series begin again"
            );
        }
        metric::CHANGELOG_LOST.add([("stream", stream)], 1);
    }
}

/// This instance has written the states of a partition to a changelog that had lost them.
pub struct ChangelogRefilled<'a> {
    /// The stream.
    pub stream: &'a str,
    /// `output.states`.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// States written.
    pub states: usize,
}

impl ChangelogRefilled<'_> {
    /// Logs.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            topic = self.topic,
            partition = self.partition,
            states = self.states,
            "the changelog was empty: outlierd has written the states of its state folder to it"
        );
    }
}

/// The changelog got partitions, or was created, since the input has more.
pub struct ChangelogExtended<'a> {
    /// The stream.
    pub stream: &'a str,
    /// `output.states`.
    pub topic: &'a str,
    /// Partitions that it had; 0 where it did not exist.
    pub before: usize,
    /// Partitions that it has.
    pub partitions: usize,
}

impl ChangelogExtended<'_> {
    /// Logs.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            topic = self.topic,
            before = self.before,
            partitions = self.partitions,
            "changelog created or extended to the partitions of the input topic"
        );
    }
}

/// The changelog is not compacted.
pub struct ChangelogNotCompacted<'a> {
    /// The stream.
    pub stream: &'a str,
    /// `output.states`.
    pub topic: &'a str,
    /// Its `cleanup.policy`.
    pub policy: &'a str,
}

impl ChangelogNotCompacted<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(
            stream = self.stream,
            topic = self.topic,
            policy = self.policy,
            "the brokers will delete states from the changelog: set cleanup.policy=compact on its topic (kafka-configs --alter)"
        );
        metric::CHANGELOG_NOT_COMPACTED.add([("stream", self.stream)], 1);
    }
}

/// Records between the position of the stored states and the committed offset were run again to
/// bring the states up to date.
pub struct StatesRecomputed<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The partition.
    pub partition: i32,
    /// First of the records.
    pub from: i64,
    /// The committed offset.
    pub until: i64,
}

impl StatesRecomputed<'_> {
    /// Logs.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            partition = self.partition,
            from = self.from,
            until = self.until,
            "the stored states are older than the committed offset: outlierd runs the records between again and publishes nothing of them"
        );
    }
}
