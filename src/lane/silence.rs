//! Whether everything that a lane reads is silent: a topic that stands still moves no event time,
//! so that only the machine's steady clock can tell. Which of several partitions are silent while
//! others send: [`partitions`].
//!
//! The steady clock counts only while the lane has read to the end and the brokers answer: records that wait, and
//! a broker that is away, are no silence. The alert is of the series `*`, one for each lane. What
//! is known of a partition, an open alert included, is one of its notes ([`super::notes`]): it is
//! committed with the alert, and moves to another lane with the partition.

mod partitions;

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::message::{BorrowedMessage, Message as _};
use serde::{Deserialize, Serialize};

use self::partitions::Arrivals;
pub(super) use self::partitions::SilentPartition;
use super::error::LaneError;
use super::notes::PartitionNotes;
use crate::episode::{AlertFactory, SilenceEvent};
use crate::inter_arrival::{InterArrivalStats, SilencePolicy, SilenceSettings, SilenceStatus};
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertEvent, AlertKind};
use crate::record::row::RecordContext;

/// The key of the note.
const NOTE: &str = "topic-silence";

/// The newest record of a partition.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Newest {
    pub(super) offset: i64,
    pub(super) time: EventTime,
}

/// What is kept with a partition.
#[derive(Serialize, Deserialize)]
struct Kept {
    arrivals: Option<Arrivals>,
    /// How often the lane that had the partition got records.
    inter_arrival: InterArrivalStats,
    /// The open alert as JSON: postcard cannot read what leaves fields out.
    open: Option<String>,
}

/// The newest record of each partition of a batch; that of the batch is the last one.
pub(super) fn newest(batch: &[BorrowedMessage<'_>]) -> Vec<(i32, Newest)> {
    let mut found: Vec<(i32, Newest)> = Vec::new();
    for message in batch.iter().rev() {
        if found.iter().any(|(of, _)| *of == message.partition()) {
            continue;
        }
        let time = message
            .timestamp()
            .to_millis()
            .map_or_else(EventTime::now, EventTime::from_millis);
        let offset = message.offset();
        found.push((message.partition(), Newest { offset, time }));
    }
    found.reverse();
    found
}

/// See the module.
pub(super) struct TopicSilenceMonitor {
    rules: Option<SilencePolicy>,
    inter_arrival: InterArrivalStats,
    /// When the last record came, or since when the lane has been at the end.
    since: Instant,
    /// By owned partition.
    arrivals: BTreeMap<i32, Arrivals>,
    /// The open alerts, each by the partition that it is kept with: more than one where partitions
    /// of several lanes came together.
    open: BTreeMap<i32, Alert>,
}

impl TopicSilenceMonitor {
    pub(super) fn new(settings: &SilenceSettings, now: Instant) -> Self {
        Self {
            rules: SilencePolicy::new(settings),
            inter_arrival: InterArrivalStats::default(),
            since: now,
            arrivals: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// A partition came, with its notes.
    pub(super) fn assigned(&mut self, partition: i32, notes: &PartitionNotes) {
        let Some(kept) = notes.get::<Kept>(partition, NOTE) else {
            return;
        };
        if self.inter_arrival.typical_s().is_none() {
            self.inter_arrival = kept.inter_arrival;
            self.inter_arrival.silent = SilenceStatus::No;
        }
        if let Some(arrivals) = kept.arrivals {
            self.arrivals.insert(partition, arrivals);
        }
        let open = kept.open.and_then(|json| serde_json::from_str(&json).ok());
        if let Some(alert) = open {
            self.open.insert(partition, alert);
        }
    }

    /// A partition left, and takes its open alert along.
    pub(super) fn revoked(&mut self, partition: i32) {
        self.arrivals.remove(&partition);
        self.open.remove(&partition);
    }

    /// Records came, at the end of each partition those of `newest`; returns the alerts that they
    /// close. Records of a partition that came with a backlog are older than a silence, and do not
    /// end it.
    ///
    /// # Errors
    /// A note that cannot be encoded.
    pub(super) fn observe(
        &mut self,
        newest: &[(i32, Newest)],
        now: Instant,
        notes: &mut PartitionNotes,
    ) -> Result<Vec<Alert>, LaneError> {
        let (Some(rules), Some((last_of, last))) = (&self.rules, newest.last()) else {
            return Ok(Vec::new());
        };
        let gap = now.duration_since(self.since).as_micros();
        if !self.open.is_empty() {
            self.inter_arrival.silent = SilenceStatus::Alone;
        }
        rules.record(
            &mut self.inter_arrival,
            i64::try_from(gap).unwrap_or(i64::MAX),
        );
        self.inter_arrival.silent = SilenceStatus::No;
        self.since = now;
        let ended = self.ended_by(newest);
        for &(partition, newest) in newest {
            let arrivals = self.arrivals.entry(partition);
            arrivals
                .and_modify(|arrivals| arrivals.observe(newest, rules))
                .or_insert_with(|| Arrivals::new(newest));
        }
        let mut closed = Vec::new();
        for partition in ended {
            let Some(mut alert) = self.open.remove(&partition) else {
                continue;
            };
            (alert.sequence, alert.event) = (1, AlertEvent::Close);
            alert.time = last.time.to_string();
            alert.closed_at = Some(alert.time.clone());
            (alert.position.partition, alert.position.offset) = (*last_of, last.offset);
            closed.push(alert);
            self.keep(partition, notes)?;
        }
        for (partition, _) in newest {
            self.keep(*partition, notes)?;
        }
        Ok(closed)
    }

    /// The open alerts that records end, by the partition that each is kept with: records after the last
    /// one before the silence.
    fn ended_by(&self, newest: &[(i32, Newest)]) -> Vec<i32> {
        let is_ended = |partition: &i32| {
            let last = self.arrivals.get(partition).map(|of| of.newest.time);
            let mut came = newest.iter();
            came.any(|(of, found)| of == partition || last.is_none_or(|last| found.time > last))
        };
        self.open.keys().copied().filter(is_ended).collect()
    }

    /// Nothing came; `at_end` says whether the lane has read all there is and the brokers answer.
    /// Returns the alert that this opens.
    ///
    /// # Errors
    /// A note that cannot be encoded.
    pub(super) fn saw_nothing(
        &mut self,
        at_end: bool,
        partitions: usize,
        alerts: &AlertFactory,
        now: Instant,
        notes: &mut PartitionNotes,
    ) -> Result<Option<Alert>, LaneError> {
        if !at_end || partitions == 0 {
            self.since = now;
            return Ok(None);
        }
        let Some(limit) = self
            .rules
            .as_ref()
            .and_then(|rules| rules.overdue_after(&self.inter_arrival))
        else {
            return Ok(None);
        };
        let newest = self.arrivals.iter().map(|(of, found)| (*of, found.newest));
        let Some((partition, newest)) = newest.max_by_key(|(_, newest)| newest.time) else {
            return Ok(None);
        };
        let silent_us =
            i64::try_from(now.duration_since(self.since).as_micros()).unwrap_or(i64::MAX);
        if !self.open.is_empty() || silent_us <= limit {
            return Ok(None);
        }
        let quiet = SilenceEvent {
            series: "*",
            last: newest.time,
            since: EventTime(newest.time.0.saturating_add(limit)),
            of: partitions,
        };
        let shown_by = RecordContext {
            series: "*",
            time: newest.time,
            partition,
            offset: newest.offset,
            ..RecordContext::default()
        };
        let alert = alerts.without_episode(AlertKind::Silence, &quiet, shown_by, None);
        self.open.insert(partition, alert.clone());
        self.keep(partition, notes)?;
        Ok(Some(alert))
    }

    /// The lane has read the partitions `ends` to their ends at the time `at` of the machine's clock.
    /// Returns those that are silent while others send.
    ///
    /// # Errors
    /// A note that cannot be encoded.
    pub(super) fn silent_partitions(
        &mut self,
        ends: &[i32],
        at: EventTime,
        notes: &mut PartitionNotes,
    ) -> Result<Vec<SilentPartition>, LaneError> {
        let Some(rules) = &self.rules else {
            return Ok(Vec::new());
        };
        let mut changed = Vec::new();
        let silent = partitions::silent_among(&mut self.arrivals, ends, at, rules, &mut changed);
        for partition in changed {
            self.keep(partition, notes)?;
        }
        Ok(silent)
    }

    /// Notes what is known of a partition.
    fn keep(&self, partition: i32, notes: &mut PartitionNotes) -> Result<(), LaneError> {
        let kept = Kept {
            arrivals: self.arrivals.get(&partition).cloned(),
            inter_arrival: self.inter_arrival.clone(),
            open: self
                .open
                .get(&partition)
                .and_then(|alert| serde_json::to_string(alert).ok()),
        };
        notes.put(partition, NOTE, &kept)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::inter_arrival::SeriesEnd;
    use crate::record::alert::Severity;
    use crate::state::changelog::partition_note;
    use crate::state::memory::MemoryStore;
    use crate::state::{Commit, Store as _};
    use crate::test_stream::three_fields;

    struct TestLane {
        watch: TopicSilenceMonitor,
        notes: PartitionNotes,
        alerts: AlertFactory,
        store: MemoryStore,
        now: Instant,
    }

    fn settings() -> SilenceSettings {
        SilenceSettings {
            after: 10.0,
            at_least: Duration::from_secs(60),
            gateway: None,
            series_end: SeriesEnd::Learned,
        }
    }

    impl TestLane {
        /// A lane that has read a record a second, for a minute.
        fn new() -> Self {
            let stream = three_fields();
            let now = Instant::now();
            let mut lane = Self {
                watch: TopicSilenceMonitor::new(&settings(), now),
                notes: PartitionNotes::default(),
                alerts: AlertFactory::new("s", "t", &stream.record.fields),
                store: MemoryStore::default(),
                now,
            };
            for second in 0..60 {
                assert_eq!(lane.record(3, second, 1), []);
            }
            lane
        }

        fn record(&mut self, partition: i32, second: i64, after_s: u64) -> Vec<Alert> {
            self.now += Duration::from_secs(after_s);
            let newest = Newest {
                offset: second,
                time: EventTime(second * 1_000_000),
            };
            let newest = [(partition, newest)];
            self.watch
                .observe(&newest, self.now, &mut self.notes)
                .unwrap()
        }

        fn nothing(&mut self, after_s: u64, at_end: bool) -> Option<Alert> {
            self.now += Duration::from_secs(after_s);
            self.watch
                .saw_nothing(at_end, 2, &self.alerts, self.now, &mut self.notes)
                .unwrap()
        }

        fn commit(&mut self) {
            let of = |(partition, key, bytes): (i32, String, _)| {
                (partition_note(partition, &key), bytes)
            };
            let notes = self.notes.changes().into_iter().map(of).collect();
            let commit = Commit {
                notes,
                ..Commit::default()
            };
            self.store.commit("s", &commit).unwrap();
            self.notes.committed();
        }

        /// Another process takes these partitions over, and knows what was committed.
        fn restart(&mut self, partitions: &[i32]) {
            self.watch = TopicSilenceMonitor::new(&settings(), self.now);
            self.notes = PartitionNotes::default();
            for &partition in partitions {
                self.notes.load(&self.store, "s", partition).unwrap();
                self.watch.assigned(partition, &self.notes);
            }
        }
    }

    #[test]
    fn a_topic_that_stands_still_is_announced_once_and_closed_by_the_next_record_after_a_restart_too()
     {
        let mut lane = TestLane::new();
        assert_eq!(lane.nothing(59, true), None);
        let open = lane.nothing(2, true).unwrap();
        assert_eq!(
            (open.kind, open.series.as_str(), open.severity),
            (AlertKind::Silence, "*", Severity::Critical)
        );
        assert_eq!((open.records, open.position.partition), (2, 3));
        assert_eq!(lane.nothing(600, true), None);
        lane.commit();

        lane.restart(&[1, 3]);
        assert_eq!(lane.nothing(600, true), None, "it is open");
        let closed = lane.record(1, 1_000, 5);
        assert_eq!(closed.len(), 1);
        assert_eq!(
            (&closed[0].id, closed[0].event, closed[0].sequence),
            (&open.id, AlertEvent::Close, 1)
        );
        lane.commit();
        lane.restart(&[1, 3]);
        assert_eq!(lane.record(1, 1_001, 1), [], "it is closed once");
    }

    #[test]
    fn an_opening_that_was_not_committed_is_made_again_as_the_same_alert() {
        let mut lane = TestLane::new();
        lane.commit();
        let lost = lane.nothing(61, true).unwrap();
        lane.restart(&[3]);
        assert_eq!(lane.nothing(59, true), None);
        assert_eq!(lane.nothing(2, true), Some(lost));
    }

    #[test]
    fn an_open_alert_goes_with_its_partition_and_the_others_make_one_of_their_own() {
        let mut lane = TestLane::new();
        lane.record(1, 30, 1);
        let first = lane.nothing(61, true).unwrap();
        assert_eq!(first.position.partition, 3, "where the newest record is");
        lane.watch.revoked(3);
        let second = lane.nothing(1, true).unwrap();
        assert_ne!(first.id, second.id);
        lane.commit();
        // Both come to one lane.
        lane.restart(&[1, 3]);
        let closed: Vec<String> = lane.record(1, 90, 5).into_iter().map(|a| a.id).collect();
        assert_eq!(closed, [second.id, first.id]);
    }

    #[test]
    fn the_backlog_of_a_partition_that_comes_does_not_end_a_silence() {
        let mut lane = TestLane::new();
        let open = lane.nothing(61, true).unwrap();
        assert_eq!(lane.record(1, 40, 1), [], "it was sent before the silence");
        assert_eq!(lane.nothing(600, true), None, "it is open");
        let closed = lane.record(1, 100, 1);
        assert_eq!(closed.first().map(|alert| &alert.id), Some(&open.id));
        // The partition with the last record before the silence has sent again, whatever its clock says.
        assert!(lane.nothing(3_600, true).is_some());
        assert_eq!(lane.record(1, 50, 1).len(), 1);
    }

    #[test]
    fn records_that_wait_and_brokers_that_are_away_are_no_silence() {
        let mut lane = TestLane::new();
        for _ in 0..100 {
            assert_eq!(lane.nothing(30, false), None);
        }
        assert_eq!(lane.nothing(59, true), None, "it counts from then on");
        assert!(lane.nothing(2, true).is_some());
    }
}
