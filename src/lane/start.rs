//! Where a lane begins to read the partitions that it gets: at the position that their states
//! belong to, as far as the topic is still the one of that position and still has its records, and
//! nobody has set the group's offsets. Every other start is logged and counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::group::GroupOffset;
use super::marks::{LogRange, LogReader, NotedPosition, RecordMark};
use crate::events::position::{PositionCause, PositionChange};

/// How long the end of a partition may lie before a position: a broker that has just become its
/// leader may not know the whole partition yet.
const END_PATIENCE: Duration = Duration::from_secs(5);
const END_PACE: Duration = Duration::from_millis(500);

/// Where a partition starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PartitionStart {
    pub(super) partition: i32,
    /// The offset of its next record.
    pub(super) next: i64,
    /// The record before it; `None` where it is not known.
    pub(super) mark: Option<RecordMark>,
    /// The committed offset, where the states end before it: the records until there are run again,
    /// and nothing of them is published.
    pub(super) until: Option<i64>,
}

/// What is known of the position of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownPosition {
    /// Committed with the states, and restored with them.
    pub(super) noted: Option<NotedPosition>,
    /// As the store has it: where nothing is noted, by an older outlierd.
    pub(super) stored: Option<i64>,
    pub(super) group: GroupOffset,
    /// Whether states are lost that were newer than those of the store.
    pub(super) lost_states: bool,
}

impl KnownPosition {
    /// Where the states end.
    pub(super) fn of_states(&self) -> Option<i64> {
        self.noted.map(|noted| noted.next).or(self.stored)
    }

    /// Whether somebody else than outlierd has set the offset of the group. All that outlierd
    /// commits has metadata.
    fn is_reset(&self) -> bool {
        let differs = self.group.offset.is_some() && self.group.offset != self.of_states();
        self.noted.is_some() && self.group.changelog.is_none() && differs
    }

    /// The offset of the next record; `None` where nothing was ever read.
    pub(super) fn next(&self) -> Option<i64> {
        match self.is_reset() {
            true => self.group.offset,
            false => self.of_states().max(self.group.offset),
        }
    }

    /// Where the partition starts, whose log is `log` and has the record `found` before the position
    /// of the states; `None` where nothing was ever read. With it, what has to be reported.
    fn start(
        &self,
        log: LogRange,
        found: Option<RecordMark>,
    ) -> Option<(i64, Vec<PositionChange>)> {
        let (partition, mut start) = (self.group.partition, self.next()?);
        let (is_reset, from) = (self.is_reset(), self.of_states().unwrap_or(start));
        let noted = self.noted.and_then(|noted| noted.mark);
        let is_other = noted
            .zip(found)
            .is_some_and(|(noted, found)| noted != found);
        let is_replaced = is_other || from > log.high || start > log.high && !is_reset;
        let cause = if is_replaced {
            start = if is_reset { start } else { log.low };
            Some(PositionCause::TopicReplaced)
        } else if is_reset {
            Some(PositionCause::OffsetsReset)
        } else {
            (self.group.offset.is_none()).then_some(PositionCause::GroupOffsetMissing)
        };
        start = start.min(log.high);
        let change = |cause, from, to| PositionChange {
            partition,
            cause,
            from,
            to,
        };
        let mut changes: Vec<_> = cause
            .map(|cause| change(cause, from, start))
            .into_iter()
            .collect();
        if start < log.low {
            changes.push(change(PositionCause::RecordsLost, start, log.low));
            start = log.low;
        }
        Some((start, changes))
    }

    /// Where the records begin that the states do not have, although they were read up to `next`.
    fn missing_from(&self, next: i64, log: LogRange) -> Option<i64> {
        let end = self.of_states().filter(|_| self.lost_states)?;
        let was_read = self.group.offset == Some(next) && self.group.changelog.is_some();
        let from = end.max(log.low);
        (was_read && from < next).then_some(from)
    }
}

/// Where partitions start, and what has to be reported of them.
#[derive(Default)]
pub(super) struct Starts {
    pub(super) partitions: Vec<PartitionStart>,
    pub(super) changes: Vec<PositionChange>,
}

/// Finds where partitions start that may have been read before. `first` is where one starts that
/// was not, and `stops` ends the search early.
///
/// # Errors
/// Where the brokers do not answer.
pub(super) fn find(
    reader: &mut LogReader,
    known: &[KnownPosition],
    first: impl Fn(i32, LogRange) -> i64,
    stops: impl Fn() -> bool,
) -> Result<Starts, rdkafka::error::KafkaError> {
    let mut logs = BTreeMap::new();
    let mut before = BTreeMap::new();
    for known in known {
        let partition = known.group.partition;
        let log = settled_range(reader, known, &stops)?;
        let position = known.of_states().unwrap_or_else(|| first(partition, log));
        if (log.low + 1..=log.high).contains(&position) {
            before.insert(partition, position.saturating_sub(1));
        }
        logs.insert(partition, log);
    }
    let marks = reader.marks(&before, &stops)?;
    let mut starts = Starts::default();
    for known in known {
        let partition = known.group.partition;
        let Some(&log) = logs.get(&partition) else {
            continue;
        };
        let mark = marks.get(&partition).copied();
        let (next, mut changes) = known
            .start(log, mark)
            .unwrap_or_else(|| (first(partition, log), Vec::new()));
        let missing = known.missing_from(next, log);
        let until = missing.map(|_| next);
        let next = missing.unwrap_or(next);
        let is_marked = before.get(&partition) == Some(&next.saturating_sub(1));
        let noted = known.noted.filter(|noted| noted.next == next);
        let noted = noted.and_then(|noted| noted.mark);
        starts.partitions.push(PartitionStart {
            partition,
            next,
            mark: mark.filter(|_| is_marked).or(noted),
            until,
        });
        starts.changes.append(&mut changes);
    }
    Ok(starts)
}

/// The range of a partition, once its end is not before a position of it any more, or stays there.
fn settled_range(
    reader: &LogReader,
    known: &KnownPosition,
    stops: &impl Fn() -> bool,
) -> Result<LogRange, rdkafka::error::KafkaError> {
    let began = Instant::now();
    loop {
        let log = reader.range(known.group.partition)?;
        let is_inside = known.of_states().max(known.group.offset) <= Some(log.high);
        if is_inside || stops() || began.elapsed() >= END_PATIENCE {
            return Ok(log);
        }
        std::thread::sleep(END_PACE);
    }
}

#[cfg(test)]
mod tests;
