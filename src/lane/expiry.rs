//! Which series leave: the idle ones leave memory, and in the end those that nobody hears of any
//! more the store too.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::positions::PartitionPositions;
use crate::config::settings::RetentionSettings;
use crate::events::SeriesExpired;
use crate::pipeline::Pipeline;
use crate::pipeline::series::{SeriesState, SeriesTable};
use crate::record::alert::Alert;
use crate::record::row::RecordContext;
use crate::record::{EventTime, RecordOutcome};
use crate::state::{Store, StoreError, codec};

/// Stored series that are looked at with one commit.
const STEP: usize = 500;
/// Bounds of the time between two passes over the stored series, a sixteenth of the time after
/// which they expire.
const PASS_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// Bounds of the time between two looks at the series in memory, a quarter of the time after which
/// they are idle.
const SWEEP_EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// What has been looked at so far.
pub(super) struct Expiry {
    retention: RetentionSettings,
    /// Whether what is open of an expired series is closed here; else the search for silence closes
    /// it first.
    closes_open: bool,
    /// Newest event time by partition, of the records since it was assigned.
    newest: BTreeMap<i32, EventTime>,
    /// Where a pass over the stored series is: the partition, and the last series seen of it.
    cursor: Option<(i32, Option<String>)>,
    /// When the last pass ended.
    passed: Option<Instant>,
    swept: Instant,
}

/// Series that are forgotten.
pub(super) struct Forgotten {
    /// Their partitions and names.
    pub(super) series: Vec<(i32, String)>,
    /// The alerts that close what was open of them.
    pub(super) closed: Vec<Alert>,
}

impl Expiry {
    pub(super) fn new(retention: &RetentionSettings, closes_open: bool) -> Self {
        Self {
            retention: retention.clone(),
            closes_open,
            newest: BTreeMap::new(),
            cursor: None,
            passed: None,
            swept: Instant::now(),
        }
    }

    /// A record was accepted.
    pub(super) fn observe(&mut self, partition: i32, time: EventTime) {
        let newest = self.newest.entry(partition).or_insert(time);
        *newest = time.max(*newest);
    }

    /// Records were accepted.
    pub(super) fn observe_all(&mut self, outcomes: &[RecordOutcome]) {
        for of_one in outcomes.chunk_by(|a, b| a.partition == b.partition) {
            if let Some(newest) = of_one.iter().map(|outcome| outcome.time).max() {
                self.observe(of_one[0].partition, newest);
            }
        }
    }

    pub(super) fn revoked(&mut self, partition: i32) {
        self.newest.remove(&partition);
    }

    /// Whether the table holds more than it may, so that a commit has to make room.
    pub(super) fn is_full(&self, table: &SeriesTable) -> bool {
        table.len() > self.retention.max_series_in_memory
    }

    /// Lets idle series, and the ones above the bound, leave memory. To be called after a commit.
    pub(super) fn sweep(&mut self, table: &mut SeriesTable) {
        let every = (self.retention.evict_after / 4).clamp(SWEEP_EVERY.0, SWEEP_EVERY.1);
        if self.is_full(table) || self.swept.elapsed() >= every {
            self.swept = Instant::now();
            table.evict(
                self.retention.evict_after,
                self.retention.max_series_in_memory,
            );
        }
    }

    /// Forgets the next stored series that have expired.
    ///
    /// # Errors
    /// As [`Expiry::scan`].
    pub(super) fn forget(
        &mut self,
        store: &dyn Store,
        stream: &str,
        table: &mut SeriesTable,
        pipeline: &Pipeline,
        positions: &PartitionPositions,
    ) -> Result<Forgotten, StoreError> {
        let mut forgotten = Vec::new();
        let mut closed = Vec::new();
        for (partition, series, mut state) in self.scan(store, stream, table, EventTime::now())? {
            let series_name = series.as_str();
            let newest = state.gate.newest().unwrap_or_default();
            let next = positions.next_offset(partition).unwrap_or_default();
            let at = RecordContext {
                series: series_name,
                time: newest.after(self.retention.forget_after),
                partition,
                offset: next.saturating_sub(1),
                bundle: pipeline.detector.bundle_id().map_or("", |id| id),
                ..RecordContext::default()
            };
            closed.extend(pipeline.episodes.forget(&mut state.episode, &at));
            SeriesExpired {
                stream,
                series: series_name,
            }
            .emit();
            table.forget(partition, series_name);
            forgotten.push((partition, series));
        }
        Ok(Forgotten {
            series: forgotten,
            closed,
        })
    }

    /// The next stored series that have expired, of some that are looked at: partition, name and
    /// state.
    ///
    /// What the time is, the newest record of the partition tells, and never more than `now`, the
    /// machine's clock: neither a source nor a machine whose clock is ahead makes the others'
    /// series expire.
    fn scan(
        &mut self,
        store: &dyn Store,
        stream: &str,
        table: &SeriesTable,
        now: EventTime,
    ) -> Result<Vec<(i32, String, SeriesState)>, StoreError> {
        let every = (self.retention.forget_after / 16).clamp(PASS_EVERY.0, PASS_EVERY.1);
        let rests = self.cursor.is_none() && self.passed.is_some_and(|at| at.elapsed() < every);
        if rests || self.retention.forget_after.is_zero() {
            return Ok(Vec::new());
        }
        let (from, after) = self.cursor.take().unwrap_or((i32::MIN, None));
        let Some((&partition, &newest)) = self.newest.range(from..).next() else {
            self.passed = Some(Instant::now());
            return Ok(Vec::new());
        };
        let at = now.min(newest);
        let after = after.filter(|_| partition == from);
        let states = store.states(stream, partition, after.as_deref(), STEP)?;
        self.cursor = match states.last() {
            Some((last, _)) if states.len() == STEP => Some((partition, Some(last.clone()))),
            _ => self
                .newest
                .range((Bound::Excluded(partition), Bound::Unbounded))
                .next()
                .map(|(&partition, _)| (partition, None)),
        };
        if self.cursor.is_none() {
            self.passed = Some(Instant::now());
        }
        let mut expired = Vec::new();
        for (series, bytes) in states
            .into_iter()
            .filter(|(series, _)| !table.holds(partition, series))
        {
            let Ok(state) = codec::decode::<SeriesState>(&bytes) else {
                continue;
            };
            if state.expired(self.retention.forget_after, at)
                && (self.closes_open || !state.alerting())
            {
                expired.push((partition, series, state));
            }
        }
        Ok(expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate;
    use crate::inter_arrival::SilenceStatus;
    use crate::state::Commit;
    use crate::state::memory::MemoryStore;
    use crate::test_stream::three_fields;

    const DAY: i64 = 86_400_000_000;

    /// A store in which the series `day-N` had its last record on that day.
    fn store(days: &[i64]) -> MemoryStore {
        let stream = three_fields();
        let plan = gate::GateRules::new(&stream.gate, &stream.record.fields, None);
        let store = MemoryStore::default();
        for day in days {
            let mut state = SeriesState::new(3);
            plan.check(&mut state.gate, EventTime(day * DAY), None, &[1.0; 3]);
            let bytes = codec::encode(&state).unwrap();
            let commit = Commit {
                states: vec![(0, format!("day-{day}"), Some(bytes))],
                ..Commit::default()
            };
            store.commit("s", &commit).unwrap();
        }
        store
    }

    fn expired(newest_day: i64, machine_day: i64) -> Vec<String> {
        let days = Duration::from_secs(90 * 86_400);
        let mut expiry = Expiry::new(
            &RetentionSettings {
                max_series_in_memory: 10,
                evict_after: days,
                forget_after: days,
            },
            false,
        );
        expiry.observe(0, EventTime(newest_day * DAY));
        let store = store(&[1, 50, 99]);
        let found = expiry
            .scan(
                &store,
                "s",
                &SeriesTable::new(10),
                EventTime(machine_day * DAY),
            )
            .unwrap();
        found.into_iter().map(|(_, series, _)| series).collect()
    }

    #[test]
    fn a_clock_that_jumps_makes_no_series_expire() {
        assert_eq!(expired(100, 100), ["day-1"]);
        assert_eq!(
            expired(36_500, 100),
            ["day-1"],
            "a source is a century ahead"
        );
        assert_eq!(expired(100, 36_500), ["day-1"], "the machine is");
        assert_eq!(
            expired(100, -36_500),
            [""; 0],
            "the machine's clock is not set"
        );
    }

    #[test]
    fn a_series_with_an_open_alert_expires_where_nothing_else_closes_it() {
        let mut state = SeriesState::new(3);
        state.gate = gate::GateState::seen(3, EventTime(DAY));
        state.inter_arrival.silent = SilenceStatus::Alone;
        let store = MemoryStore::default();
        let commit = Commit {
            states: vec![(0, "a".into(), Some(codec::encode(&state).unwrap()))],
            ..Commit::default()
        };
        store.commit("s", &commit).unwrap();
        let retention = RetentionSettings {
            max_series_in_memory: 10,
            evict_after: Duration::from_secs(86_400),
            forget_after: Duration::from_secs(86_400),
        };
        let now = EventTime(100 * DAY);
        let expired = [false, true].map(|closes_open| {
            let mut expiry = Expiry::new(&retention, closes_open);
            expiry.observe(0, now);
            let table = SeriesTable::new(10);
            expiry.scan(&store, "s", &table, now).unwrap().len()
        });
        assert_eq!(expired, [0, 1]);
    }

    #[test]
    fn a_pass_sees_every_series_once_and_then_rests() {
        let store = MemoryStore::default();
        for number in 0..3 * STEP {
            let bytes = codec::encode(&SeriesState::new(3)).unwrap();
            let commit = Commit {
                states: vec![(number as i32 % 2, number.to_string(), Some(bytes))],
                ..Commit::default()
            };
            store.commit("s", &commit).unwrap();
        }
        let day = Duration::from_secs(86_400);
        let mut expiry = Expiry::new(
            &RetentionSettings {
                max_series_in_memory: 10,
                evict_after: day,
                forget_after: day,
            },
            false,
        );
        expiry.observe(0, EventTime(0));
        expiry.observe(1, EventTime(0));
        let mut scan = || {
            expiry
                .scan(&store, "s", &SeriesTable::new(10), EventTime(0))
                .unwrap();
            expiry
                .cursor
                .clone()
                .map(|(partition, after)| (partition, after.is_some()))
        };
        assert_eq!([scan(), scan()], [Some((0, true)), Some((1, false))]);
        assert_eq!([scan(), scan(), scan()], [Some((1, true)), None, None]);
    }
}
