//! The clock by which the series of a partition are found silent.

use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::{OverdueSeries, SilentSeries};
use crate::record::EventTime;

/// From how many series on one of them does not make the clock.
const SERIES_MIN: usize = 3;
/// Where a series sends alone for this many times longer than it usually does, the others are silent.
const ALONE: i64 = 2;
/// Event time in which the longest usual time alone is forgotten, in microseconds.
const ALONE_MEMORY: i64 = 86_400_000_000;
/// A step of the clock that is this many times the usual one is a rest of all series.
const REST: i64 = 3;
/// Series that began and may replace others, of which the times are kept.
const BEGUN_MAX: usize = 16;
/// Series that others have replaced from which on another one is waited for.
const ENDS: u8 = 2;
/// Times the silence that is announced within which another series still replaces a silent one.
const LATE: i64 = 10;
/// Part of the newest step in the usual one.
const STEP_PART: i64 = 8;

/// The time of one partition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SilenceClock {
    /// The series with the newest time, and that time.
    first: (Arc<str>, EventTime),
    /// The newest time of the others.
    second: Option<EventTime>,
    /// How far the first series has come since another one sent, and how far it usually comes.
    alone: i64,
    longest_alone: i64,
    /// Some of the series that have sent, [`SERIES_MIN`] at most.
    senders: Vec<Arc<str>>,
    /// When the series are scanned next.
    pub(super) next: EventTime,
    /// When the partition began to send, or began again: before that nobody was silent alone.
    pub(super) since: EventTime,
    /// The shortest silence that makes a series overdue, in microseconds; the partition has rested
    /// where it was silent for half of that.
    pub(super) shortest: i64,
    now: Option<EventTime>,
    /// How far a record usually takes the clock.
    step: i64,
    /// When the newest series began that have replaced no other, [`BEGUN_MAX`] at most.
    begun: Vec<EventTime>,
    /// How many series have been replaced, and the longest time until then.
    ends: u8,
    pause: i64,
}

impl SilenceClock {
    pub(super) fn new(series: &Arc<str>, time: EventTime, shortest: i64) -> Self {
        Self {
            first: (series.clone(), time),
            second: None,
            alone: 0,
            longest_alone: 0,
            senders: Vec::new(),
            next: time,
            since: time,
            shortest,
            now: None,
            step: 0,
            begun: Vec::new(),
            ends: 0,
            pause: 0,
        }
    }

    /// A record of a series; returns the time where a scan is due.
    pub(super) fn advance(&mut self, series: &Arc<str>, time: EventTime) -> Option<EventTime> {
        if self.senders.len() < SERIES_MIN && !self.senders.contains(series) {
            self.senders.push(series.clone());
        }
        if is_same(series, &self.first.0) {
            // One that sets its clock has not sent for so long.
            let step = time.micros_since(self.first.1).clamp(0, self.shortest);
            self.alone = self.alone.saturating_add(step);
            self.first.1 = self.first.1.max(time);
        } else {
            self.another(series, time);
        }
        let now = if self.senders.len() >= SERIES_MIN {
            let beyond = self.alone > ALONE.saturating_mul(self.longest_alone);
            let alone = if beyond { self.alone } else { 0 };
            EventTime(self.second?.0.saturating_add(alone))
        } else {
            self.first.1
        };
        self.move_to(now)
    }

    /// Another series than the one with the newest time sent.
    fn another(&mut self, series: &Arc<str>, time: EventTime) {
        if time > self.first.1 {
            self.second = Some(self.first.1);
            self.first = (series.clone(), time);
        } else {
            self.second = self.second.max(Some(time));
        }
        let age = self
            .second
            .map_or(0, |second| time.micros_since(second).max(0));
        let forgotten =
            self.alone.saturating_add(age).min(ALONE_MEMORY) as f64 / ALONE_MEMORY as f64;
        self.longest_alone -= (self.longest_alone as f64 * forgotten) as i64;
        self.longest_alone = self.longest_alone.max(self.alone);
        self.alone = 0;
    }

    /// The time that is so many microseconds after the newest one, where a scan is due then.
    pub(super) fn due_after(&self, silent_us: i64) -> Option<EventTime> {
        let now = EventTime(self.now?.0.saturating_add(silent_us));
        (now >= self.next).then_some(now)
    }

    /// A series began.
    pub(super) fn begin(&mut self, time: EventTime) {
        self.begun.push(time);
        if self.begun.len() > BEGUN_MAX {
            self.begun.remove(0);
        }
    }

    /// Takes the overdue series that others have replaced. One that began replaces one that ended.
    pub(super) fn take_replaced(&mut self, overdue: &mut Vec<OverdueSeries>) -> Vec<OverdueSeries> {
        let replaced = |found: &mut OverdueSeries| {
            let limit = found.since.micros_since(found.last);
            self.is_replaced(found.last, limit)
        };
        overdue.extract_if(.., replaced).collect()
    }

    /// Those of the series whose silence is announced that others have replaced since.
    pub(super) fn replaced(&mut self, mut announced: Vec<SilentSeries>) -> Vec<SilentSeries> {
        announced.sort_by(|a, b| (a.last, &a.series).cmp(&(b.last, &b.series)));
        announced.retain(|found| self.is_replaced(found.last, found.limit.saturating_mul(LATE)));
        announced
    }

    /// How long series may be silent that another one is due to replace.
    pub(super) fn pause(&self) -> i64 {
        match self.ends >= ENDS {
            true => self.pause.saturating_mul(2),
            false => 0,
        }
    }

    /// Whether a series began within `limit` after another one sent last.
    fn is_replaced(&mut self, last: EventTime, limit: i64) -> bool {
        let pauses = self.begun.iter().map(|begun| begun.micros_since(last));
        let mut pauses = pauses.enumerate();
        let Some((at, pause)) = pauses.find(|(_, pause)| (0..=limit).contains(pause)) else {
            return false;
        };
        self.begun.remove(at);
        self.ends = self.ends.saturating_add(1);
        self.pause = self.pause.max(pause);
        true
    }

    fn move_to(&mut self, now: EventTime) -> Option<EventTime> {
        let before = self.now;
        let now = before.map_or(now, |before| before.max(now));
        self.now = Some(now);
        let step = before.map_or(i64::MAX, |before| now.micros_since(before));
        if step > (self.shortest / 2).max(REST.saturating_mul(self.step)) {
            self.since = now;
        }
        if before.is_some() {
            self.step += (step.min(self.shortest) - self.step) / STEP_PART;
        }
        (now >= self.next).then_some(now)
    }
}

/// As [`SilenceClock::take_replaced`], by series of any partition.
pub(super) fn take_replaced_by_any(
    clocks: &mut HashMap<i32, SilenceClock>,
    overdue: &mut Vec<OverdueSeries>,
) -> Vec<OverdueSeries> {
    let mut clocks: Vec<_> = clocks.iter_mut().collect();
    clocks.sort_by_key(|(partition, _)| **partition);
    let replaced = clocks
        .into_iter()
        .map(|(_, clock)| clock.take_replaced(overdue));
    replaced.flatten().collect()
}

/// Mostly one and the same text in memory.
fn is_same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
