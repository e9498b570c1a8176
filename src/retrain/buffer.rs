//! The training buffer: normal traffic for a stream's next model.
//!
//! A bounded sample of [`RecordRun`]s, decayed in time and spread over series. Which runs stay is
//! decided by one number each, drawn from the run's name, so that the same traffic leaves the same
//! sample, whatever the order and however often the daemon was restarted:
//!
//! ```text
//! priority = ln 2 / half_life x time - ln(-ln u)        u: a hash of series and time slot, uniform in (0, 1)
//! ```
//!
//! The runs with the largest priorities are a sample without replacement whose weights halve with
//! each `half_life`: weighted sampling (Efraimidis and Spirakis, "Weighted random sampling with a
//! reservoir", Information Processing Letters 97, 2006) under forward decay (Cormode, Shkapenyuk,
//! Srivastava, Xu, "Forward Decay", ICDE 2009). A slot of time gives each series one run at most,
//! however often it sends. Where there are more series than can have [`SERIES_ROWS`] records each,
//! those with the smallest hashes of their names stand for all: a few records of each would
//! calibrate nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::set::RecordRun;
use crate::config::settings::RetrainSettings;
use crate::record::EventTime;

/// Records that a series in the buffer should have at least.
pub const SERIES_ROWS: usize = 400;

/// A change of the buffer, for the store: partition and offset of a run, and its content; `None`
/// removes it.
pub type BufferChange = (i32, i64, Option<RecordRun>);

/// What the lanes need to know before they collect a run. Written by the owner of the [`Buffer`],
/// read without waiting.
#[derive(Debug)]
pub struct Admission {
    /// Bits of the smallest priority that still gets in.
    floor: AtomicU64,
    /// The largest rank of a series that is kept.
    rank: AtomicU64,
    /// The newest event time of a scored record, in microseconds.
    newest: AtomicI64,
    /// Anomalies opened since they were last taken.
    alerts: AtomicU64,
    /// Alerts that the budget allows for the records since then, in [`BUDGET_UNIT`]s.
    budgeted: AtomicU64,
}

/// Alerts are allowed by millionths and less for each record.
const BUDGET_UNIT: f64 = 1e-12;

impl Admission {
    /// Lets everything in.
    pub fn open() -> Self {
        Self {
            floor: f64::NEG_INFINITY.to_bits().into(),
            rank: u64::MAX.into(),
            newest: i64::MIN.into(),
            alerts: 0.into(),
            budgeted: 0.into(),
        }
    }

    /// A batch opened so many anomalies, where the budget allows so many.
    pub fn count(&self, alerts: u64, budgeted: f64) {
        self.alerts.fetch_add(alerts, Ordering::Relaxed);
        self.budgeted
            .fetch_add((budgeted / BUDGET_UNIT) as u64, Ordering::Relaxed);
    }

    /// What was counted since the last call: anomalies opened, and those that the budget allows.
    pub fn take_counts(&self) -> (u64, f64) {
        (
            self.alerts.swap(0, Ordering::Relaxed),
            self.budgeted.swap(0, Ordering::Relaxed) as f64 * BUDGET_UNIT,
        )
    }

    /// The smallest priority that still gets in.
    pub fn floor(&self) -> f64 {
        f64::from_bits(self.floor.load(Ordering::Relaxed))
    }

    /// The largest rank of a series that is kept.
    pub fn rank(&self) -> u64 {
        self.rank.load(Ordering::Relaxed)
    }

    /// A record of this event time was scored.
    pub fn observe(&self, time: EventTime) {
        self.newest.fetch_max(time.0, Ordering::Relaxed);
    }

    /// The newest event time of a scored record; `None` before the first.
    pub fn newest(&self) -> Option<EventTime> {
        Some(self.newest.load(Ordering::Relaxed))
            .filter(|&micros| micros != i64::MIN)
            .map(EventTime)
    }
}

/// Series that a buffer has room for, with [`SERIES_ROWS`] records each.
pub fn series_max(settings: &RetrainSettings) -> usize {
    (settings.records / SERIES_ROWS).max(1)
}

/// Rank of a series among those that compete for space: a smaller rank is kept longer.
pub fn rank(series: &str) -> u64 {
    xxh3_64(series.as_bytes())
}

/// The u of a series in a slot of time.
pub fn uniform(series: &str, slot: i64) -> f64 {
    (xxh3_64_with_seed(series.as_bytes(), slot.cast_unsigned()) as f64 + 0.5) / 2f64.powi(64)
}

/// The part of the priority that all runs of a slot share, which begins at `start` microseconds.
pub fn decay(settings: &RetrainSettings, start: i64) -> f64 {
    std::f64::consts::LN_2 * start as f64 / 1e6 / settings.half_life.as_secs_f64().max(1.0)
}

/// The smallest u whose priority is above `floor`, in a slot with this decay.
pub fn least_uniform(floor: f64, decay: f64) -> f64 {
    (-(decay - floor).exp()).exp()
}

/// The u of records that an operator has called normal: they are few, and the next model has to
/// know them.
const TAUGHT: f64 = 1.0 - 1e-9;

/// The priority of a run, where a slot is so many microseconds long.
fn priority(settings: &RetrainSettings, slot: i64, run: &RecordRun) -> f64 {
    let number = run.from().0.div_euclid(slot);
    let u = if run.labeled_normal {
        TAUGHT
    } else {
        uniform(&run.series, number)
    };
    decay(settings, number.saturating_mul(slot)) - (-u.ln()).ln()
}

/// See the module.
#[derive(Debug)]
pub struct Buffer {
    settings: RetrainSettings,
    /// Event time of a slot in microseconds.
    slot: i64,
    runs: BTreeMap<(i32, i64), StoredRun>,
    rows: usize,
}

#[derive(Debug)]
struct StoredRun {
    run: RecordRun,
    priority: f64,
    rank: u64,
}

impl Buffer {
    /// A buffer with the runs that were stored; `slot` is the event time of a slot in microseconds.
    pub fn new(
        settings: &RetrainSettings,
        slot: i64,
        runs: impl IntoIterator<Item = RecordRun>,
    ) -> Self {
        let mut buffer = Self {
            settings: settings.clone(),
            slot: slot.max(1),
            runs: BTreeMap::new(),
            rows: 0,
        };
        runs.into_iter().for_each(|run| buffer.insert(run));
        buffer
    }

    /// Adds runs, and evicts those beyond the capacity. Returns the changes.
    pub fn add(&mut self, runs: impl IntoIterator<Item = RecordRun>) -> Vec<BufferChange> {
        let mut changed = BTreeMap::new();
        for run in runs {
            let name = (run.partition, run.offset);
            changed.insert(name, Some(run.clone()));
            self.insert(run);
        }
        // Which series are kept does not change while runs go: those of the others go first.
        let kept = self.largest_rank();
        while self.rows > self.settings.records {
            let Some(name) = self.least(kept) else { break };
            // A run that came and went at once is removed too: another one may be stored under its
            // name.
            changed.insert(name, None);
            self.remove(name);
        }
        changed
            .into_iter()
            .map(|((partition, offset), run)| (partition, offset, run))
            .collect()
    }

    /// Leaves out the records for which `keeps` does not hold. Returns what changed.
    pub fn retain(&mut self, keeps: impl Fn(&str, EventTime) -> bool) -> Vec<BufferChange> {
        let touched = |held: &StoredRun| {
            held.run
                .times
                .iter()
                .any(|&time| !keeps(&held.run.series, time))
        };
        let names: Vec<(i32, i64)> = self
            .runs
            .iter()
            .filter(|(_, held)| touched(held))
            .map(|(&name, _)| name)
            .collect();
        let mut changed = BTreeMap::new();
        for name in names {
            changed.insert(name, None);
            let Some(run) = self.remove(name) else {
                continue;
            };
            let series = run.series.clone();
            for part in run.split(|time| keeps(&series, time)) {
                changed.insert((part.partition, part.offset), Some(part.clone()));
                self.insert(part);
            }
        }
        changed
            .into_iter()
            .map(|((partition, offset), run)| (partition, offset, run))
            .collect()
    }

    /// Tells the lanes what still gets in.
    pub fn publish(&self, admission: &Admission) {
        let full = self.rows >= self.settings.records;
        let floor = self
            .runs
            .values()
            .map(|held| held.priority)
            .fold(f64::INFINITY, f64::min);
        let floor = if full { floor } else { f64::NEG_INFINITY };
        admission.floor.store(floor.to_bits(), Ordering::Relaxed);
        admission.rank.store(self.largest_rank(), Ordering::Relaxed);
    }

    /// All runs, by partition and offset.
    pub fn runs(&self) -> impl Iterator<Item = &RecordRun> {
        self.runs.values().map(|held| &held.run)
    }

    /// How many records are held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How many series have records here.
    pub fn series(&self) -> usize {
        self.runs
            .values()
            .map(|held| held.rank)
            .collect::<BTreeSet<u64>>()
            .len()
    }

    /// Sets the length of a slot, which a bundle determines.
    pub fn set_slot(&mut self, slot: i64) {
        if self.slot == slot.max(1) {
            return;
        }
        self.slot = slot.max(1);
        for held in self.runs.values_mut() {
            held.priority = priority(&self.settings, self.slot, &held.run);
        }
    }

    fn insert(&mut self, run: RecordRun) {
        // What an operator has taught is kept of any series.
        let rank = if run.labeled_normal {
            0
        } else {
            rank(&run.series)
        };
        let priority = priority(&self.settings, self.slot, &run);
        let name = (run.partition, run.offset);
        self.remove(name);
        self.rows += run.times.len();
        self.runs.insert(
            name,
            StoredRun {
                run,
                priority,
                rank,
            },
        );
    }

    fn remove(&mut self, name: (i32, i64)) -> Option<RecordRun> {
        let held = self.runs.remove(&name)?;
        self.rows -= held.run.times.len();
        Some(held.run)
    }

    /// The largest rank of a series that has its place.
    fn largest_rank(&self) -> u64 {
        let most = series_max(&self.settings);
        let ranks: BTreeSet<u64> = self.runs.values().map(|held| held.rank).collect();
        if ranks.len() < most {
            u64::MAX
        } else {
            ranks.into_iter().nth(most - 1).unwrap_or(u64::MAX)
        }
    }

    /// The run to evict first: of the series that are too many (their ranks are above `kept`), and
    /// then the one of least priority.
    fn least(&self, kept: u64) -> Option<(i32, i64)> {
        let order = |held: &StoredRun| (held.rank <= kept, held.priority);
        let least = self.runs.iter().min_by(|a, b| {
            let a = order(a.1);
            let b = order(b.1);
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        least.map(|(&name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_stream::three_fields;

    const DAY: i64 = 86_400_000_000;

    fn settings(records: usize) -> RetrainSettings {
        RetrainSettings {
            records,
            half_life: Duration::from_secs(7 * 86_400),
            ..three_fields().retrain
        }
    }

    /// A run of ten records, a minute apart, of the series of that number.
    fn run(series: usize, minute: i64) -> RecordRun {
        let times: Vec<EventTime> = (0..10)
            .map(|row| EventTime((minute + row) * 60_000_000))
            .collect();
        let (values, scores) = (vec![0.0; 10], vec![0.0; 10]);
        let partition = series as i32;
        let offset = minute;
        RecordRun {
            series: format!("s{series}"),
            partition,
            offset,
            times,
            values,
            scores,
            ..RecordRun::default()
        }
    }

    fn filled(records: usize, series: usize, days: i64, backwards: bool) -> Buffer {
        let mut buffer = Buffer::new(&settings(records), 600_000_000, []);
        let mut slots: Vec<i64> = (0..days * 144).collect();
        if backwards {
            slots.reverse();
        }
        for slot in slots {
            buffer.add((0..series).map(|s| run(s, slot * 10)));
        }
        buffer
    }

    #[test]
    fn it_is_bounded_and_every_series_has_its_part() {
        let buffer = filled(4_000, 5, 30, false);
        assert!(
            buffer.len() <= 4_000 && buffer.len() > 3_900,
            "{}",
            buffer.len()
        );
        for series in 0..5 {
            let rows = buffer.runs().filter(|run| run.partition == series).count() * 10;
            assert!((500..1_100).contains(&rows), "series {series}: {rows}");
        }
    }

    #[test]
    fn older_traffic_is_rarer_by_half_with_each_half_life() {
        let buffer = filled(4_000, 5, 28, false);
        let of_week = |week: i64| {
            buffer
                .runs()
                .filter(|run| run.from().0 / (7 * DAY) == week)
                .count() as f64
        };
        for week in 0..3 {
            let ratio = of_week(week + 1) / of_week(week);
            assert!(
                (1.4..2.8).contains(&ratio),
                "week {week}: {} {}",
                of_week(week),
                of_week(week + 1)
            );
        }
    }

    #[test]
    fn the_same_traffic_leaves_the_same_sample() {
        let names = |buffer: &Buffer| buffer.runs.keys().copied().collect::<Vec<_>>();
        assert_eq!(
            names(&filled(2_000, 4, 8, false)),
            names(&filled(2_000, 4, 8, true))
        );
    }

    #[test]
    fn a_sample_that_was_stored_goes_on_as_it_would_have() {
        let names = |buffer: &Buffer| buffer.runs.keys().copied().collect::<Vec<_>>();
        let mut whole = filled(2_000, 4, 6, false);
        // How long a slot is, is known only when its bundle is loaded.
        let mut again = Buffer::new(&settings(2_000), 1, whole.runs().cloned());
        again.set_slot(600_000_000);
        for buffer in [&mut whole, &mut again] {
            (6 * 144..8 * 144).for_each(|slot| drop(buffer.add((0..4).map(|s| run(s, slot * 10)))));
        }
        assert_eq!(names(&again), names(&whole));
    }

    #[test]
    fn of_too_many_series_some_stand_for_all() {
        let buffer = filled(4_000, 40, 4, false);
        assert_eq!(buffer.series(), 10);
        let admission = Admission::open();
        buffer.publish(&admission);
        let admitted = (0..40)
            .filter(|s| rank(&format!("s{s}")) <= admission.rank())
            .count();
        assert_eq!(admitted, 10);
        assert!(
            buffer
                .runs()
                .all(|run| rank(&run.series) <= admission.rank())
        );
    }

    #[test]
    fn what_changes_is_told_to_the_store() {
        let mut buffer = Buffer::new(&settings(20), 600_000_000, []);
        assert_eq!(buffer.add([run(0, 0), run(0, 10)]).len(), 2);
        let changes = buffer.add([run(0, 100_000)]);
        let removed = changes.iter().filter(|change| change.2.is_none()).count();
        assert_eq!((changes.len(), removed, buffer.len()), (2, 1, 20));
    }

    #[test]
    fn records_that_are_marked_leave_it() {
        let mut buffer = Buffer::new(&settings(100), 600_000_000, [run(0, 0), run(1, 0)]);
        let changes = buffer.retain(|series, time| series != "s0" || time.0 / 60_000_000 != 4);
        assert_eq!(
            changes.len(),
            2,
            "the run is cut, and its second part has a name of its own"
        );
        assert_eq!((buffer.len(), buffer.runs().count()), (19, 3));
    }
}
