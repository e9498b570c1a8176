//! The machine that opens and closes one kind of episode of one series. It knows nothing of scores
//! and sensors.
//!
//! ```text
//! closed --(hit, n of the last m are hits, no cool-down)--> open --(close_after quiet records in a row)--> closed
//! ```
//!
//! An episode that opens again and again soon after it closed is one that comes and goes: from the
//! [`FLAPS_FREE`]-th time on it takes four times as many quiet records each time to close it, so that
//! it becomes one alert instead of many.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::episode::{EpisodeSettings, NOfM};
use crate::record::EventTime;
use crate::record::alert::{AlertEvent, Severity};
use crate::record::row::RecordContext;

/// An episode that opens within so many records of the last one's end has come back.
const FLAP_WITHIN: u32 = 1_000;
/// How often in a row it comes back before it is held open.
const FLAPS_FREE: u8 = 10;
/// The quiet records that close an episode grow so many times at most.
const FLAPS_MAX: u8 = 5;

/// When episodes of one kind open and close.
#[derive(Clone, PartialEq, Debug)]
pub struct EpisodeRules {
    open_n: u32,
    /// The newest `open_m` bits.
    window: u64,
    close_after: u32,
    cool_down: Duration,
    update_every: Duration,
}

/// What a record means to the machine.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum EpisodeInput {
    /// It counts towards opening, and keeps an episode open.
    Hit {
        ratio: f64,
        severity: Severity,
        /// It opens an episode however few hits there were before.
        alone: bool,
    },
    /// Neither: it only ends a run of quiet records.
    Between,
    /// It counts towards closing.
    Quiet,
    /// It closes an episode at once.
    Settled,
}

/// An event to publish.
#[derive(Clone, PartialEq, Debug)]
pub struct EpisodeEvent {
    pub event: AlertEvent,
    pub sequence: u32,
    pub severity: Severity,
    /// Position and time of the record that opened the episode.
    pub partition: i32,
    pub place: i64,
    pub opened_at: EventTime,
    /// Time of the first hit of the run that opened it.
    pub since: EventTime,
    /// Hits so far, the opening one among them.
    pub records: u64,
    pub peak_ratio: f64,
    pub incident: Option<u64>,
}

/// The machine of one series.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct EpisodeMachine {
    /// The hits that may open an episode; only while closed. Boxed, since of healthy series few have
    /// any.
    run: Option<Box<HitRun>>,
    /// The last episode, until it can neither hold the next one back nor have come back with it.
    closed: Option<Box<ClosedEpisode>>,
    /// The open episode; boxed, since of 100,000 series few have one.
    open: Option<Box<OpenEpisode>>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct HitRun {
    /// Whether each of the last records was a hit, the newest in bit 0; not 0.
    hits: u64,
    /// Time of the first one.
    since: EventTime,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct ClosedEpisode {
    at: EventTime,
    /// Records since then.
    records: u32,
    /// How often in a row an episode had come back.
    flaps: u8,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct OpenEpisode {
    /// Quiet records in a row.
    quiet: u32,
    /// How often in a row an episode has come back.
    flaps: u8,
    partition: i32,
    place: i64,
    opened_at: EventTime,
    since: EventTime,
    records: u64,
    severity: Severity,
    peak_ratio: f64,
    /// The incident that the opening event named.
    incident: Option<u64>,
    /// The last published event; `None` while a mute has kept all of them back.
    announced: Option<AnnouncedEpisode>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct AnnouncedEpisode {
    sequence: u32,
    time: EventTime,
    severity: Severity,
}

impl EpisodeRules {
    pub fn new(episode: &EpisodeSettings, open: NOfM) -> Self {
        let open_m = open.m.clamp(1, u64::BITS);
        Self {
            open_n: open.n.clamp(1, open_m),
            window: u64::MAX >> (u64::BITS - open_m),
            close_after: episode.close_after.max(1),
            cool_down: episode.cool_down,
            update_every: episode.update_every,
        }
    }
}

impl EpisodeMachine {
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// What the open episode is an incident of, from its opening on.
    pub fn set_incident(&mut self, incident: Option<u64>) {
        if let Some(open) = &mut self.open {
            open.incident = incident;
        }
    }

    /// Moves on by one record.
    pub fn step(
        &mut self,
        rules: &EpisodeRules,
        at: &RecordContext<'_>,
        input: EpisodeInput,
    ) -> Option<EpisodeEvent> {
        match (&mut self.open, input) {
            (None, _) => self.step_closed(rules, at, input),
            (
                Some(open),
                EpisodeInput::Hit {
                    ratio, severity, ..
                },
            ) => {
                open.quiet = 0;
                open.records = open.records.saturating_add(1);
                open.peak_ratio = open.peak_ratio.max(ratio);
                open.severity = open.severity.max(severity);
                open.announce(rules, at)
            }
            (Some(open), EpisodeInput::Between) => {
                open.quiet = 0;
                None
            }
            (Some(_), EpisodeInput::Settled) => self.close(at),
            (Some(open), EpisodeInput::Quiet) => {
                open.quiet += 1;
                if open.quiet < rules.close_after.saturating_mul(held(open.flaps)) {
                    None
                } else {
                    self.close(at)
                }
            }
        }
    }

    fn step_closed(
        &mut self,
        rules: &EpisodeRules,
        at: &RecordContext<'_>,
        input: EpisodeInput,
    ) -> Option<EpisodeEvent> {
        let cooling = self.cools_down(rules, at.time);
        // Hits of the cool-down count, so that what outlasts it opens at its end.
        let hit = matches!(input, EpisodeInput::Hit { .. });
        let (hits, since) = self.add(hit, rules.window, at.time);
        let EpisodeInput::Hit {
            ratio,
            severity,
            alone,
        } = input
        else {
            return None;
        };
        if cooling || !alone && hits.count_ones() < rules.open_n {
            return None;
        }
        self.run = None;
        let flaps = self
            .closed
            .take()
            .map_or(0, |last| last.flaps.saturating_add(1));
        let open = self.open.insert(Box::new(OpenEpisode {
            quiet: 0,
            flaps,
            partition: at.partition,
            place: at.place(),
            opened_at: at.time,
            since,
            records: 1,
            severity,
            peak_ratio: ratio,
            incident: None,
            announced: None,
        }));
        open.announce(rules, at)
    }

    /// One more record while closed, at a time: which of the last ones were hits, and when the first of
    /// their run was.
    fn add(&mut self, hit: bool, window: u64, time: EventTime) -> (u64, EventTime) {
        let run = self.run.take();
        let (before, since) = run.map_or((0, time), |run| (run.hits, run.since));
        let hits = (before << 1 | u64::from(hit)) & window;
        self.run = (hits > 0).then(|| Box::new(HitRun { hits, since }));
        (hits, since)
    }

    /// One more record while closed: whether the last episode holds the next one back.
    fn cools_down(&mut self, rules: &EpisodeRules, now: EventTime) -> bool {
        let Some(last) = &mut self.closed else {
            return false;
        };
        last.records = last.records.saturating_add(1);
        let cools_down = apart(last.at, now) < rules.cool_down;
        if !cools_down && last.records > FLAP_WITHIN.saturating_mul(held(last.flaps)) {
            self.closed = None;
        }
        cools_down
    }

    /// An episode that nobody heard of closes unheard.
    pub fn close(&mut self, at: &RecordContext<'_>) -> Option<EpisodeEvent> {
        let open = self.open.take()?;
        self.closed = Some(Box::new(ClosedEpisode {
            at: at.time,
            records: 0,
            flaps: open.flaps,
        }));
        let sequence = open.announced.as_ref()?.sequence.saturating_add(1);
        Some(open.publish(AlertEvent::Close, sequence))
    }
}

impl OpenEpisode {
    /// The event that a hit makes, if it makes one.
    fn announce(&mut self, rules: &EpisodeRules, at: &RecordContext<'_>) -> Option<EpisodeEvent> {
        if at.muted {
            return None;
        }
        let (event, sequence) = match &self.announced {
            None => (AlertEvent::Open, 0),
            Some(last) => {
                let due = !rules.update_every.is_zero()
                    && apart(last.time, at.time) >= rules.update_every;
                if !due && self.severity <= last.severity {
                    return None;
                }
                (AlertEvent::Update, last.sequence.saturating_add(1))
            }
        };
        self.announced = Some(AnnouncedEpisode {
            sequence,
            time: at.time,
            severity: self.severity,
        });
        Some(self.publish(event, sequence))
    }

    fn publish(&self, event: AlertEvent, sequence: u32) -> EpisodeEvent {
        EpisodeEvent {
            event,
            sequence,
            severity: self.severity,
            partition: self.partition,
            place: self.place,
            opened_at: self.opened_at,
            since: self.since,
            records: self.records,
            peak_ratio: self.peak_ratio,
            incident: self.incident,
        }
    }
}

/// How many times longer than usual an episode is held open that has come back so often.
fn held(flaps: u8) -> u32 {
    4u32.pow(u32::from(flaps.saturating_sub(FLAPS_FREE).min(FLAPS_MAX)))
}

/// Time between two records, whichever is the earlier one: after a clock was set back, a cool-down
/// must still end.
fn apart(a: EventTime, b: EventTime) -> Duration {
    Duration::from_micros(b.0.abs_diff(a.0))
}
