//! The clock by which the series of a partition are found silent.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::record::EventTime;

/// From how many series on one of them does not make the clock.
const SERIES_MIN: usize = 3;

/// The time of one partition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SilenceClock {
    /// The series with the newest time, and that time.
    first: (Arc<str>, EventTime),
    /// The newest time of the others.
    second: Option<EventTime>,
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
}

impl SilenceClock {
    pub(super) fn new(series: &Arc<str>, time: EventTime, shortest: i64) -> Self {
        Self {
            first: (series.clone(), time),
            second: None,
            senders: Vec::new(),
            next: time,
            since: time,
            shortest,
            now: None,
        }
    }

    /// A record of a series; returns the time where a scan is due.
    pub(super) fn advance(&mut self, series: &Arc<str>, time: EventTime) -> Option<EventTime> {
        if self.senders.len() < SERIES_MIN && !self.senders.contains(series) {
            self.senders.push(series.clone());
        }
        if is_same(series, &self.first.0) {
            self.first.1 = self.first.1.max(time);
        } else if time > self.first.1 {
            self.second = Some(self.first.1);
            self.first = (series.clone(), time);
        } else {
            self.second = self.second.max(Some(time));
        }
        let now = if self.senders.len() >= SERIES_MIN {
            self.second?
        } else {
            self.first.1
        };
        let before = self.now.replace(now);
        if before.is_none_or(|before| now.micros_since(before) > self.shortest / 2) {
            self.since = now;
        }
        (now >= self.next).then_some(now)
    }
}

/// Mostly one and the same text in memory.
fn is_same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
