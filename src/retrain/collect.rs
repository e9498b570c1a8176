//! Collecting runs of normal traffic, on the path of a record and cheap there.
//!
//! Contract: a record is taken only if it was scored and nothing spoke against it: no episode, no
//! outlier, no sensor fault, no mute, and none of these within `retrain.guard` of event time before
//! or after it. So a run waits until its series has been quiet for that long behind it. What waits
//! is lost at a restart; what was handed out is the buffer's to keep.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use super::buffer::{Admission, decay, least_uniform, rank, series_max, uniform};
use super::set::RecordRun;
use crate::config::settings::RetrainSettings;
use crate::record::{EventTime, RecordOutcome, RecordVerdict};

/// Records of a run, for models of one record.
const RUN_ROWS: usize = 64;
/// Windows of a run, for models of several.
const RUN_WINDOWS: usize = 4;
/// Runs that may wait to be handed out; more are not taken.
const READY_MAX: usize = 1_024;

/// Records of a run at most: how many a slot of time holds.
pub fn run_rows(window: usize) -> usize {
    RUN_ROWS.max(RUN_WINDOWS * window)
}

/// See the module. One for each lane.
#[derive(Debug)]
pub struct Collector {
    settings: RetrainSettings,
    admission: Arc<Admission>,
    rows: usize,
    window: usize,
    /// Event time of a slot, and the guard time, in microseconds.
    slot: i64,
    guard: i64,
    partitions: HashMap<i32, HashMap<Arc<str>, SeriesCollector>>,
    /// The smallest ranks of the series seen so far, as many as the buffer has room for: of the
    /// others it would keep nothing, and a plant may have a million of them.
    ranks: BTreeSet<u64>,
    ready: Vec<RecordRun>,
    /// The least u that gets a run in, and the slot and the bits of the floor for which that holds.
    least: (f64, i64, u64),
}

/// What is known of a series that has something to wait for.
#[derive(Debug)]
struct SeriesCollector {
    /// The run that grows.
    open: Option<RecordRun>,
    /// Runs that wait for their guard time.
    waiting: VecDeque<RecordRun>,
    /// When something last spoke against its records.
    disturbed: Option<EventTime>,
    /// The slot that already has its run.
    taken: i64,
}

impl Default for SeriesCollector {
    fn default() -> Self {
        Self {
            open: None,
            waiting: VecDeque::new(),
            disturbed: None,
            taken: i64::MIN,
        }
    }
}

/// A record as the path leaves it.
#[derive(Clone, Copy, Debug)]
pub struct ScoredRecord<'a> {
    /// Its readings.
    pub values: &'a [f64],
    /// What was found out about it.
    pub outcome: &'a RecordOutcome,
    /// Whether alerts of its series were muted at its time.
    pub muted: bool,
}

/// What is kept as a record's score. A record between two windows is judged with the next one,
/// within the guard time or while its run is still open.
fn score(outcome: &RecordOutcome) -> Option<f32> {
    match (&outcome.scored, outcome.verdict) {
        (Some(scored), _) => Some(scored.level as f32),
        (None, RecordVerdict::Between) => Some(f32::NAN),
        _ => None,
    }
}

impl Collector {
    /// A collector for windows of `window` records, which come every `period` microseconds.
    pub fn new(
        settings: &RetrainSettings,
        admission: Arc<Admission>,
        window: usize,
        period: i64,
    ) -> Self {
        let rows = run_rows(window);
        let slot = slot(window, period);
        let guard = i64::try_from(settings.guard.as_micros()).unwrap_or(i64::MAX);
        let (partitions, ranks, ready) = Default::default();
        let least = (0.0, i64::MIN, f64::NEG_INFINITY.to_bits());
        Self {
            settings: settings.clone(),
            admission,
            rows,
            window,
            slot,
            guard,
            partitions,
            ranks,
            ready,
            least,
        }
    }

    /// Takes note of one scored or faulty record; `bundle` is the tag of the live bundle.
    pub fn offer(&mut self, judged: &ScoredRecord<'_>, bundle: u64) {
        let outcome = judged.outcome;
        let time = outcome.time;
        let series = &outcome.series;
        let rank = rank(series);
        if !self.has_room_for(rank) {
            return;
        }
        let disturbs = is_disturbance(outcome);
        let guard = self.guard;
        let number = time.0.div_euclid(self.slot);
        let least = self.least_uniform(number);
        let chance = rank <= self.admission.rank()
            && uniform(series, number) > least
            && self.ready.len() < READY_MAX;
        let watched = self.partitions.entry(outcome.partition).or_default();
        let Some(score) =
            score(outcome).filter(|_| !disturbs && !judged.muted && !outcome.spans_gap)
        else {
            if disturbs || judged.muted {
                let found = watched.entry(series.clone()).or_default();
                found.disturb(time, guard, self.window);
            } else if let Some(found) = watched.get_mut(&**series) {
                // A run has no gaps.
                found.close_if(self.window, |_| true);
            }
            return;
        };
        if !chance && !watched.contains_key(&**series) {
            return;
        }
        let found = watched.entry(series.clone()).or_default();
        found.release(time, guard, &mut self.ready);
        if found.disturbed.is_some() {
            return;
        }
        found.close_if(self.window, |run| {
            run.times.len() >= self.rows
                || run.from().0.div_euclid(self.slot) != number
                || time < run.until()
        });
        if found.open.is_none() && found.taken != number {
            if !chance {
                if found.waiting.is_empty() {
                    watched.remove(&**series);
                }
                return;
            }
            found.taken = number;
            found.open = Some(RecordRun {
                series: series.to_string(),
                partition: outcome.partition,
                offset: outcome.place(),
                bundle,
                ..RecordRun::default()
            });
        }
        if let Some(run) = &mut found.open {
            run.times.push(time);
            run.values.extend_from_slice(judged.values);
            run.scores.push(score);
        }
    }

    /// Whether a series of that rank is among those that the buffer has room for.
    fn has_room_for(&mut self, rank: u64) -> bool {
        let most = series_max(&self.settings);
        if self.ranks.len() >= most && self.ranks.last().is_some_and(|&last| rank > last) {
            return false;
        }
        if self.ranks.insert(rank)
            && self.ranks.len() > most
            && let Some(gone) = self.ranks.pop_last()
        {
            self.partitions
                .values_mut()
                .for_each(|of| of.retain(|series, _| super::buffer::rank(series) != gone));
        }
        true
    }

    /// The least u that gets a run of a slot into the buffer as it is.
    fn least_uniform(&mut self, slot: i64) -> f64 {
        let floor = self.admission.floor();
        if (self.least.1, self.least.2) != (slot, floor.to_bits()) {
            let decay = decay(&self.settings, slot.saturating_mul(self.slot));
            self.least = (least_uniform(floor, decay), slot, floor.to_bits());
        }
        self.least.0
    }

    /// The runs whose guard time is over.
    pub fn take(&mut self) -> Vec<RecordRun> {
        std::mem::take(&mut self.ready)
    }

    /// Forgets the series of a partition.
    pub fn drop_partition(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// What all lanes of the stream share.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }
}

/// Event time of a slot in microseconds, where records come every `period` microseconds.
pub fn slot(window: usize, period: i64) -> i64 {
    period.max(1).saturating_mul(run_rows(window) as i64)
}

impl SeriesCollector {
    /// Something spoke against the record at `time`: what lies within `guard` before it goes.
    fn disturb(&mut self, time: EventTime, guard: i64, window: usize) {
        self.disturbed = self.disturbed.max(Some(time));
        self.close_if(window, |_| true);
        let before = std::mem::take(&mut self.waiting);
        let clear = |at: EventTime| time.micros_since(at) > guard;
        self.waiting = before
            .into_iter()
            .flat_map(|run| run.split(clear))
            .filter(|run| run.times.len() >= window)
            .collect();
    }

    /// Hands out what has waited for long enough, and ends a disturbance that is over.
    fn release(&mut self, time: EventTime, guard: i64, ready: &mut Vec<RecordRun>) {
        let over = |since: EventTime| time.micros_since(since) > guard;
        while self.waiting.front().is_some_and(|run| over(run.until())) {
            ready.extend(self.waiting.pop_front());
        }
        if self.disturbed.is_some_and(over) {
            self.disturbed = None;
        }
    }

    /// Ends the open run where `ends` is true; one without a whole window is of no use.
    fn close_if(&mut self, window: usize, ends: impl Fn(&RecordRun) -> bool) {
        if let Some(run) = self.open.take_if(|run| ends(run))
            && run.times.len() >= window
        {
            self.waiting.push_back(run);
        }
    }
}

/// Whether the records around this one are not taken for normal traffic.
fn is_disturbance(outcome: &RecordOutcome) -> bool {
    let bad = [RecordVerdict::Outlier, RecordVerdict::SensorFault];
    outcome.alerting || bad.contains(&outcome.verdict)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::Scored;
    use crate::test_stream::three_fields;

    fn collector(guard_s: u64, admission: Arc<Admission>) -> Collector {
        let settings = RetrainSettings {
            guard: Duration::from_secs(guard_s),
            ..three_fields().retrain
        };
        Collector::new(&settings, admission, 1, 1_000_000)
    }

    /// A scored record of partition 0 whose offset is its second.
    fn outcome(series: &str, second: i64, verdict: RecordVerdict) -> RecordOutcome {
        let is_scored = verdict != RecordVerdict::SensorFault;
        RecordOutcome {
            message: 0,
            partition: 0,
            offset: second,
            part: None,
            series: series.into(),
            time: EventTime(second * 1_000_000),
            verdict,
            scored: is_scored.then_some(Scored {
                score: 1.0,
                level: 1.0,
                chart: 0,
                raw_error: 1.0,
            }),
            threshold: None,
            alerting: false,
            spans_gap: false,
            resampling: false,
            top_field: None,
            image: None,
        }
    }

    fn offer(collector: &mut Collector, outcome: &RecordOutcome, value: f64, muted: bool) {
        let record = ScoredRecord {
            values: &[value],
            outcome,
            muted,
        };
        collector.offer(&record, 7);
    }

    /// One record a second; those of `strange` are outliers, of `faulty` sensor faults, of `muted`
    /// muted.
    fn collected(
        collector: &mut Collector,
        seconds: i64,
        strange: &[i64],
        faulty: &[i64],
        muted: &[i64],
    ) -> Vec<i64> {
        for second in 0..seconds {
            let verdict = match second {
                s if strange.contains(&s) => RecordVerdict::Outlier,
                s if faulty.contains(&s) => RecordVerdict::SensorFault,
                _ => RecordVerdict::Normal,
            };
            let outcome = outcome("a", second, verdict);
            offer(collector, &outcome, second as f64, muted.contains(&second));
        }
        collector
            .take()
            .into_iter()
            .flat_map(|run| run.values)
            .map(|value| value as i64)
            .collect()
    }

    #[test]
    fn quiet_records_are_handed_out_after_their_guard_time() {
        let mut collector = collector(30, Arc::new(Admission::open()));
        // The run of the last slot waits, and so does what is not 30 s old.
        assert_eq!(
            collected(&mut collector, 300, &[], &[], &[]),
            (0..256).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_near_an_outlier_a_fault_or_a_mute_stays_out() {
        for at in [[100].as_slice(), &[100, 104]] {
            let last = *at.last().unwrap();
            let empty = [].as_slice();
            let none = [].as_slice();
            for [strange, faulty, muted] in
                [[at, empty, none], [empty, at, none], [empty, none, at]]
            {
                let mut collector = collector(30, Arc::new(Admission::open()));
                let found = collected(&mut collector, 400, strange, faulty, muted);
                assert!(
                    found
                        .iter()
                        .all(|&second| second < 70 || second > last + 30),
                    "{found:?}"
                );
                assert!(
                    found.contains(&69) && found.contains(&(last + 31)),
                    "{found:?}"
                );
            }
        }
    }

    #[test]
    fn of_many_series_only_those_are_watched_that_the_buffer_has_room_for() {
        let mut collector = collector(0, Arc::new(Admission::open()));
        let most = series_max(&collector.settings);
        for second in 0..20 {
            for series in 0..10 * most {
                let series = format!("s{series}");
                let outcome = outcome(&series, second, RecordVerdict::Normal);
                offer(&mut collector, &outcome, 1.0, false);
            }
        }
        let watched: Vec<&Arc<str>> = collector.partitions[&0].keys().collect();
        let mut ranks: Vec<u64> = (0..10 * most)
            .map(|series| rank(&format!("s{series}")))
            .collect();
        ranks.sort_unstable();
        assert_eq!(watched.len(), most);
        assert!(
            watched.iter().all(|series| rank(series) <= ranks[most - 1]),
            "those with the smallest ranks"
        );
    }

    #[test]
    fn a_series_without_a_chance_costs_nothing() {
        let admission = Arc::new(Admission::open());
        let mut collector = collector(0, admission.clone());
        let mut full = super::super::buffer::Buffer::new(&collector.settings, 1, []);
        assert!(full.is_empty());
        let far = |offset, rows| RecordRun {
            series: "b".into(),
            offset,
            times: vec![EventTime(i64::MAX / 4); rows],
            values: vec![0.0; rows],
            ..RecordRun::default()
        };
        drop(full.add([far(0, 50_000)]));
        // A buffer that is full of the far future lets nothing of today in.
        assert!(full.is_empty(), "a run larger than the buffer does not fit");
        full.add([far(0, 20_000), far(1, 20_000)]);
        full.publish(&admission);
        assert_eq!(
            collected(&mut collector, 300, &[], &[], &[]),
            Vec::<i64>::new()
        );
        assert!(collector.partitions.values().all(HashMap::is_empty));
    }
}
