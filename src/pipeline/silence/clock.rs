//! The clock by which the series of a partition are found silent.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::record::EventTime;

/// From how many series on one of them does not make the clock.
const SERIES_MIN: usize = 3;
/// Where a series sends alone for this many times longer than it usually does, the others are silent.
const ALONE: i64 = 2;
/// Event time in which the longest usual time alone is forgotten, in microseconds.
const ALONE_MEMORY: i64 = 86_400_000_000;
/// A step of the clock that is this many times the usual one is a rest of all series.
const REST: i64 = 3;
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
        let forgotten = (self.alone + age).min(ALONE_MEMORY) as f64 / ALONE_MEMORY as f64;
        self.longest_alone -= (self.longest_alone as f64 * forgotten) as i64;
        self.longest_alone = self.longest_alone.max(self.alone);
        self.alone = 0;
    }

    /// Nothing more comes of the partition, for so many microseconds.
    pub(super) fn idle(&mut self, elapsed: i64) -> Option<EventTime> {
        let now = EventTime(self.now?.0.saturating_add(elapsed));
        (now >= self.next).then_some(now)
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

/// Mostly one and the same text in memory.
fn is_same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
