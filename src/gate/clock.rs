//! The clock of a series: which event times are accepted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gate::GateSettings;
use crate::record::{EventTime, RejectReason};

/// Order of an accepted record among those of its series. Records are scored in the order of
/// arrival in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeOrder {
    /// At the newest time so far, or after it.
    InOrder,
    /// Behind the newest time, but within `gate.allowed_lateness`.
    Late {
        /// How far behind, in microseconds.
        by_us: i64,
    },
    /// So many late records came in a row that the clock of the source was set back: its time is
    /// the newest from now on.
    SetBack {
        /// How far back, in microseconds.
        by_us: i64,
    },
}

/// The limits that one stream sets, in microseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct TimeLimits {
    allowed_lateness_us: i64,
    max_ahead_us: i64,
    late_reset: u32,
}

/// The times that a series has seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SeriesClock {
    /// Lateness is measured from here; [`NEVER`] before the first accepted record.
    newest: EventTime,
    /// Time of the record before, which a duplicate repeats; older than `newest` where that record
    /// was late.
    last: EventTime,
    /// Late records since the last accepted one.
    late_run: u32,
}

/// No record has this time; an `Option` would take eight bytes more of every series.
const NEVER: EventTime = EventTime(i64::MIN);

impl Default for SeriesClock {
    fn default() -> Self {
        Self::at(NEVER)
    }
}

impl SeriesClock {
    pub fn at(newest: EventTime) -> Self {
        Self {
            newest,
            last: newest,
            late_run: 0,
        }
    }

    pub fn newest(&self) -> Option<EventTime> {
        (self.newest != NEVER).then_some(self.newest)
    }
}

impl TimeLimits {
    pub fn new(gate: &GateSettings) -> Self {
        Self {
            allowed_lateness_us: micros(gate.allowed_lateness),
            max_ahead_us: micros(gate.max_ahead),
            late_reset: gate.late_reset,
        }
    }

    /// Accepts a time and advances the clock, or returns the reason for rejection. `repeated`:
    /// whether the readings equal those of the record before; it is asked only where the time is.
    pub fn check(
        &self,
        clock: &mut SeriesClock,
        time: EventTime,
        arrival: Option<EventTime>,
        repeated: impl FnOnce() -> bool,
    ) -> Result<TimeOrder, (RejectReason, String)> {
        if let Some(ahead_us) = arrival.map(|arrival| time.micros_since(arrival))
            && ahead_us > self.max_ahead_us
        {
            let detail = format!(
                "event time {time} lies {} ahead of its arrival, gate.max_ahead allows {}: check the clock of the source",
                text(ahead_us),
                text(self.max_ahead_us)
            );
            return Err((RejectReason::Future, detail));
        }
        if clock.newest == NEVER {
            *clock = SeriesClock::at(time);
            return Ok(TimeOrder::InOrder);
        }
        if time == clock.last && repeated() {
            let detail = format!(
                "event time {time} and all readings equal those of the previous record: a duplicate"
            );
            return Err((RejectReason::Duplicate, detail));
        }

        let by_us = clock.newest.micros_since(time);
        let late = by_us > self.allowed_lateness_us;
        if late && clock.late_run < self.late_reset {
            clock.late_run += 1;
            let detail = format!(
                "event time {time} lies {} behind {}, the newest of its series; gate.allowed_lateness is {} (late record \
                 {} in a row; gate.late_reset {})",
                text(by_us),
                clock.newest,
                text(self.allowed_lateness_us),
                clock.late_run,
                self.late_reset
            );
            return Err((RejectReason::Late, detail));
        }
        clock.late_run = 0;
        clock.last = time;
        if late {
            clock.newest = time;
            return Ok(TimeOrder::SetBack { by_us });
        }
        clock.newest = clock.newest.max(time);
        Ok(if by_us > 0 {
            TimeOrder::Late { by_us }
        } else {
            TimeOrder::InOrder
        })
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn text(micros: i64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_micros(micros.unsigned_abs()))
}
