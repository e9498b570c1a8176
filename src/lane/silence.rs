//! Whether everything that a lane reads is silent: a topic that stands still moves no event time, so that only the machine's
//! steady clock can tell.
//!
//! It counts only while the lane has read to the end and the brokers answer: records that wait, and a broker that is away,
//! are no silence. The alert is of the series `*`, one for each lane, and is kept in the store until a record closes it.

use std::time::Instant;

use crate::cadence::{Cadence, Rules, Silent};
use crate::config::settings::Silence;
use crate::episode::{Plan, Quiet, RecordRef};
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertEvent};
use crate::state::codec;
use crate::state::{Commit, Store, StoreError};

/// See the module.
pub(super) struct TopicWatch {
    rules: Option<Rules>,
    cadence: Cadence,
    /// When the last record came, or since when the lane has been at the end.
    since: Instant,
    /// The newest record: partition, offset, event time.
    newest: Option<(i32, i64, EventTime)>,
    /// The alert that is open.
    open: Option<Alert>,
    /// The note that the open alert is kept under.
    note: String,
}

impl TopicWatch {
    /// Goes on with what the store holds for the lane of that number.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) fn open(
        settings: &Silence,
        store: &dyn Store,
        stream: &str,
        lane: usize,
        now: Instant,
    ) -> Result<Self, StoreError> {
        let note = format!("silence/{lane}");
        let kept = store
            .notes(stream, &note)?
            .into_iter()
            .find(|(key, _)| *key == note);
        let open = kept.and_then(|(_, bytes)| {
            serde_json::from_slice(&codec::decode::<Vec<u8>>(&bytes).ok()?).ok()
        });
        let (rules, cadence, newest) = (Rules::new(settings), Cadence::default(), None);
        Ok(Self {
            rules,
            cadence,
            since: now,
            newest,
            open,
            note,
        })
    }

    /// Records came, the newest of them where `newest` says; returns the alert that they close.
    pub(super) fn saw(&mut self, newest: (i32, i64, EventTime), now: Instant) -> Option<Alert> {
        if let Some(rules) = &self.rules {
            let gap = now.duration_since(self.since).as_micros();
            rules.record(&mut self.cadence, i64::try_from(gap).unwrap_or(i64::MAX));
        }
        self.cadence.silent = Silent::No;
        (self.since, self.newest) = (now, Some(newest));
        let mut alert = self.open.take()?;
        (alert.sequence, alert.event) = (1, AlertEvent::Close);
        alert.time = newest.2.to_string();
        alert.closed_at = Some(alert.time.clone());
        (alert.position.partition, alert.position.offset) = (newest.0, newest.1);
        Some(alert)
    }

    /// Nothing came; `at_end` says whether the lane has read all there is and the brokers answer. Returns the alert that
    /// this opens.
    pub(super) fn saw_nothing(
        &mut self,
        at_end: bool,
        partitions: usize,
        plan: &Plan,
        now: Instant,
    ) -> Option<Alert> {
        if !at_end || partitions == 0 {
            self.since = now;
            return None;
        }
        let (rules, (partition, offset, last)) = (self.rules.as_ref()?, self.newest?);
        let limit = rules.overdue_after(&self.cadence)?;
        let silent_us =
            i64::try_from(now.duration_since(self.since).as_micros()).unwrap_or(i64::MAX);
        if self.open.is_some() || silent_us <= limit {
            return None;
        }
        self.cadence.silent = Silent::Alone;
        let since = EventTime(last.0.saturating_add(limit));
        let quiet = Quiet {
            series: "*",
            last,
            since,
            of: partitions,
        };
        let alert = plan.silence(
            &quiet,
            RecordRef {
                series: "*",
                time: last,
                partition,
                offset,
                bundle: "",
                warms_up: false,
                spans_gap: false,
            },
            None,
        );
        self.open = Some(alert.clone());
        Some(alert)
    }

    /// Keeps what is open, over a restart.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub(super) fn keep(&self, store: &dyn Store, stream: &str) -> Result<(), StoreError> {
        // As JSON in the codec: postcard cannot read what leaves fields out.
        let json = self
            .open
            .as_ref()
            .and_then(|alert| serde_json::to_vec(alert).ok());
        let bytes = json.and_then(|json| codec::encode(&json).ok());
        store.commit(
            stream,
            &Commit {
                notes: vec![(self.note.clone(), bytes)],
                ..Commit::default()
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Sources, load};
    use crate::record::alert::{AlertKind, Severity};
    use crate::state::memory::MemoryStore;

    struct Lane {
        watch: TopicWatch,
        plan: Plan,
        store: MemoryStore,
        now: Instant,
    }

    fn settings() -> Silence {
        Silence {
            after: 10.0,
            at_least: Duration::from_secs(60),
            gateway: None,
        }
    }

    impl Lane {
        /// A lane that has read a record a second, for a minute.
        fn new() -> Self {
            let fields = "streams.s.record.fields=[\"x\", \"y\", \"z\"]".to_owned();
            let overrides = vec!["streams.s.input.topic=t".into(), fields];
            let stream = load(&Sources {
                overrides,
                ..Sources::default()
            })
            .unwrap()
            .streams
            .remove(0);
            let plan = Plan::new("s", "t", &stream.record.fields, &stream.episode, &[]);
            let (store, now) = (MemoryStore::default(), Instant::now());
            let watch = TopicWatch::open(&settings(), &store, "s", 0, now).unwrap();
            let mut lane = Self {
                watch,
                plan,
                store,
                now,
            };
            for second in 0..60 {
                assert_eq!(lane.record(second, 1), None);
            }
            lane
        }

        fn record(&mut self, second: i64, after_s: u64) -> Option<Alert> {
            self.now += Duration::from_secs(after_s);
            self.watch
                .saw((3, second, EventTime(second * 1_000_000)), self.now)
        }

        fn nothing(&mut self, after_s: u64, at_end: bool) -> Option<Alert> {
            self.now += Duration::from_secs(after_s);
            self.watch.saw_nothing(at_end, 2, &self.plan, self.now)
        }
    }

    #[test]
    fn a_topic_that_stands_still_is_announced_once_and_closed_by_the_next_record_after_a_restart_too()
     {
        let mut lane = Lane::new();
        assert_eq!(lane.nothing(59, true), None);
        let open = lane.nothing(2, true).unwrap();
        assert_eq!(
            (open.kind, open.series.as_str(), open.severity),
            (AlertKind::Silence, "*", Severity::Critical)
        );
        assert_eq!((open.records, open.position.partition), (2, 3));
        assert_eq!(lane.nothing(600, true), None);
        lane.watch.keep(&lane.store, "s").unwrap();

        lane.watch = TopicWatch::open(&settings(), &lane.store, "s", 0, lane.now).unwrap();
        let close = lane.record(1_000, 5).unwrap();
        assert_eq!(
            (close.id, close.event, close.sequence),
            (open.id, AlertEvent::Close, 1)
        );
        lane.watch.keep(&lane.store, "s").unwrap();
        assert!(lane.store.notes("s", "silence/").unwrap().is_empty());
    }

    #[test]
    fn records_that_wait_and_brokers_that_are_away_are_no_silence() {
        let mut lane = Lane::new();
        for _ in 0..100 {
            assert_eq!(lane.nothing(30, false), None);
        }
        assert_eq!(lane.nothing(59, true), None, "it counts from then on");
        assert!(lane.nothing(2, true).is_some());
    }
}
