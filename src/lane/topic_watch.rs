//! Looks while a stream runs whether its input topic is still the one that it reads: librdkafka reads
//! a topic that was deleted and created again from the old offset on, where that has the records.
//!
//! Every few seconds the thread of the stream reads the records again that the lanes had read last
//! before. Where one of them is another record now, its partition was replaced since. It also looks
//! whether the changelog needs states that only this instance may have ([`ChangelogKeeper`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use super::marks::{LogReader, RecordMark};
use super::refill::ChangelogKeeper;
use crate::config::settings::StreamSettings;
use crate::failure::panic_if_asked;
use crate::source::KafkaSettings;
use crate::state::Store;

/// How often the records are read again: a topic that is replaced is read from a wrong offset for so
/// long at most.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How often it is looked for partitions that lanes have begun to read: a topic that is replaced
/// before the first of its records is known is not found.
const BEGIN_EVERY: Duration = Duration::from_millis(200);

/// How long a lane that restarts meanwhile finds out: another process may have the partition then.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// The record of a partition that a lane has read last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct LastRecord {
    /// Differs for each time that a lane began to read the partition.
    reading: u64,
    offset: i64,
    mark: RecordMark,
}

#[derive(Default)]
struct Shared {
    /// How often lanes began to read partitions.
    readings: u64,
    /// By partition that a lane of this process reads.
    last: BTreeMap<i32, (u64, Option<LastRecord>)>,
    /// When partitions were found replaced.
    replaced: BTreeMap<i32, Instant>,
}

/// What the lanes of a stream and its [`TopicWatch`] share.
#[derive(Default)]
pub struct ReadRecords(Mutex<Shared>);

impl ReadRecords {
    /// A lane begins to read a partition, wherever.
    pub(super) fn begin(&self, partition: i32) {
        let mut shared = self.shared();
        shared.readings += 1;
        let reading = shared.readings;
        shared.last.insert(partition, (reading, None));
    }

    /// A lane has read a partition up to a record.
    pub(super) fn read(&self, partition: i32, offset: i64, mark: RecordMark) {
        if let Some((reading, last)) = self.shared().last.get_mut(&partition) {
            *last = Some(LastRecord {
                reading: *reading,
                offset,
                mark,
            });
        }
    }

    /// A partition left its lane.
    pub(super) fn end(&self, partition: i32) {
        self.shared().last.remove(&partition);
    }

    /// A lane reads a partition from its beginning, because it was replaced.
    pub(super) fn restarted(&self, partition: i32) {
        self.shared().replaced.remove(&partition);
    }

    /// Of the partitions that a lane owns, those that were found replaced.
    pub(super) fn replaced(&self, owns: impl Fn(i32) -> bool) -> Vec<i32> {
        let mut shared = self.shared();
        shared
            .replaced
            .retain(|_, found| found.elapsed() < FORGET_AFTER);
        let found = shared.replaced.keys().copied();
        found.filter(|partition| owns(*partition)).collect()
    }

    /// Whether a lane of this process reads a partition.
    fn is_read(&self, partition: i32) -> bool {
        self.shared().last.contains_key(&partition)
    }

    fn last(&self) -> BTreeMap<i32, LastRecord> {
        let shared = self.shared();
        let last = shared.last.iter();
        last.filter_map(|(&partition, (_, last))| Some((partition, (*last)?)))
            .collect()
    }

    /// A record of a partition is another one than it was, unless the partition is read again from
    /// elsewhere since.
    fn replace(&self, partition: i32, was: LastRecord) {
        let mut shared = self.shared();
        let reading = shared.last.get(&partition).map(|(reading, _)| *reading);
        if reading == Some(was.reading) {
            shared.replaced.insert(partition, Instant::now());
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub struct TopicWatch {
    kafka: KafkaSettings,
    stream: Arc<StreamSettings>,
    records: Arc<ReadRecords>,
    /// Of a stream with a changelog.
    keeper: Option<ChangelogKeeper>,
    halt: Arc<AtomicBool>,
}

impl TopicWatch {
    /// Starts the thread of a stream, which ends with `halt`.
    ///
    /// # Errors
    /// Where the system does not give a thread.
    pub fn start(
        kafka: &KafkaSettings,
        stream: &Arc<StreamSettings>,
        records: &Arc<ReadRecords>,
        store: &Arc<dyn Store>,
        halt: &Arc<AtomicBool>,
    ) -> std::io::Result<JoinHandle<()>> {
        let mut watch = Self {
            keeper: ChangelogKeeper::new(kafka, stream, store),
            kafka: kafka.clone(),
            stream: stream.clone(),
            records: records.clone(),
            halt: halt.clone(),
        };
        let name = format!("{}-topic", watch.stream.name);
        thread::Builder::new().name(name).spawn(move || watch.run())
    }

    fn run(&mut self) {
        let mut reader = None;
        let mut before = BTreeMap::new();
        let mut looked = Instant::now();
        while !self.halt.load(Ordering::Acquire) {
            thread::park_timeout(BEGIN_EVERY);
            panic_if_asked();
            for (partition, last) in self.records.last() {
                before.entry(partition).or_insert(last);
            }
            if looked.elapsed() < LOOK_EVERY {
                continue;
            }
            looked = Instant::now();
            match self.look(reader.take(), &before) {
                Ok(used) => (reader, before) = (used, self.records.last()),
                // The lanes report brokers that are away; the records are read again later.
                Err(error) => {
                    tracing::debug!(stream = self.stream.name, error = %error, "cannot compare the input topic");
                }
            }
            let records = &self.records;
            let kept = (self.keeper.as_mut()).map(|keeper| keeper.look(|of| records.is_read(of)));
            if let Some(Err(error)) = kept {
                tracing::debug!(stream = self.stream.name, error = %error, "cannot compare the changelog");
            }
        }
    }

    /// Compares the records that were read last before with those that the topic has now. Returns the
    /// reader, to be used again.
    fn look(
        &self,
        reader: Option<LogReader>,
        before: &BTreeMap<i32, LastRecord>,
    ) -> Result<Option<LogReader>, KafkaError> {
        if before.is_empty() {
            return Ok(reader);
        }
        let input = &self.stream.input;
        let new = || LogReader::new(&self.kafka, &input.group, &input.topic);
        let mut reader = reader.map_or_else(new, Ok)?;
        let mut offsets = BTreeMap::new();
        for (&partition, last) in before {
            // Beyond the end the consumer of the lane fails.
            let log = reader.range(partition)?;
            if (log.low..log.high).contains(&last.offset) {
                offsets.insert(partition, last.offset);
            }
        }
        if !reader.fits(&offsets) {
            reader = new()?;
        }
        let stops = || self.halt.load(Ordering::Acquire);
        for (partition, mark) in reader.marks(&offsets, stops)? {
            let last = before.get(&partition).filter(|last| last.mark != mark);
            if let Some(last) = last {
                self.records.replace(partition, *last);
            }
        }
        Ok(Some(reader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::codec;

    #[test]
    fn a_partition_that_is_read_again_since_is_not_replaced() {
        let bytes = codec::encode(&(None::<i64>, 7_u32)).unwrap();
        let mark: RecordMark = codec::decode(&bytes).unwrap();
        let records = ReadRecords::default();
        records.begin(3);
        records.read(3, 10, mark);
        let before = records.last()[&3];
        records.replace(3, before);
        assert_eq!(records.replaced(|_| true), [3]);
        assert!(records.replaced(|_| false).is_empty());
        records.restarted(3);
        records.begin(3);
        records.replace(3, before);
        assert!(records.replaced(|_| true).is_empty());
        records.end(3);
        assert!(records.last().is_empty());
    }
}
