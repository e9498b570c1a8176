//! One field: whether its sensor is faulty at this reading.

use serde::{Deserialize, Serialize};

use super::counter::Counter;
use super::normal::{NormalRange, beyond};
use super::scale::Scale;
use super::sentinel::Sentinels;
use super::spike::{Excursion, Spike};
use crate::gate::GateSettings;
use crate::record::FaultKind;
use crate::record::format::{FieldSettings, ReadAs};

/// A reading has to repeat this many times longer than it ever did in normal data before its sensor
/// is stuck. The longest run of a few hundred training rows is a poor estimate of the longest run
/// of a year.
const RUN_MARGIN: u32 = 10;

/// The same for the mean run, where there were few. A coarse sensor changes by chance: one that does
/// so once in n records keeps its reading for 30 n with a probability of 1e-13.
const MEAN_RUN_MARGIN: f64 = 30.0;

/// Changes that a field must have shown before it can be stuck while there is no bundle. A set
/// point that changes once a shift looks stuck and is not; were it a fault, no record of it could
/// ever be used for training.
const LEARNING_CHANGES: u8 = 100;

/// Records over which a field must be flat, at least.
const FLAT_AFTER_MIN: u32 = 100;

/// One movement counts for this many normal ones at most, so that a single spike cannot hide a dead
/// sensor for long. It is far above 1 because a coarsely quantised signal moves rarely and then by
/// many times its mean movement.
const MOVEMENT_MAX: f64 = 1e3;

/// The rules of one field under one bundle.
#[derive(Clone, PartialEq, Debug)]
pub struct FieldRules {
    min: f64,
    max: f64,
    /// Equal readings in a row that make it stuck; 0: never.
    stuck_after: u32,
    /// The same of readings at which the machine rests.
    rest_after: u32,
    /// Such a reading, beside 0.
    rest: Option<f64>,
    sentinels: Sentinels,
    /// Changes that it must have shown before it can be stuck.
    stuck_changes: u8,
    /// The range of the training readings.
    trained: Option<[f64; 2]>,
    /// Of a counter, with its mean rise.
    counter: Option<(Counter, f64)>,
    /// Whether a model gets what it rises by from record to record, however far they are apart.
    per_record: bool,
    flat: Option<Flat>,
    scale: Option<Scale>,
    spike: Option<Spike>,
}

#[derive(Clone, PartialEq, Debug)]
struct Flat {
    /// Normal |difference| of two consecutive readings.
    movement: f64,
    /// Part of it below which the field is quiet.
    ratio: f64,
    /// Quiet records in a row that make it flat, and the span of the average.
    after: u16,
}

/// What is remembered of one field of one series.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FieldState {
    /// The last finite reading. As bytes, so that states are equal exactly where they act alike.
    last: [u8; 8],
    /// How often it was read in a row; 0: there was none yet.
    run: u32,
    /// Exponentially weighted mean of |difference| / normal movement, from 0 to [`MOVEMENT_MAX`].
    /// Starts at 1, so that a new series is normal until shown otherwise.
    movement: f32,
    /// Records in a row with `movement` below the limit (saturating).
    quiet: u16,
    /// Changes of the reading so far (saturating).
    changes: u8,
    /// Its present excursion out of the normal range.
    excursion: Excursion,
    /// What the record before held, which a duplicate repeats.
    before: ReadingKind,
    /// Whether that was a sentinel.
    sentinel: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum ReadingKind {
    Finite,
    Missing,
    NonFinite,
}

impl ReadingKind {
    fn of(x: f64) -> Self {
        if x.is_finite() {
            Self::Finite
        } else if x.is_nan() {
            Self::Missing
        } else {
            Self::NonFinite
        }
    }
}

impl Default for FieldState {
    fn default() -> Self {
        Self {
            last: [0; 8],
            run: 0,
            movement: 1.0,
            quiet: 0,
            changes: 0,
            excursion: Excursion::default(),
            before: ReadingKind::Missing,
            sentinel: false,
        }
    }
}

impl FieldState {
    /// The last finite reading; `None` before the first.
    pub fn last(&self) -> Option<f64> {
        (self.run > 0).then_some(f64::from_le_bytes(self.last))
    }

    /// Records in a row with the last finite reading.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// The normal range of the field was relearned: how far it moved under the old one says nothing.
    pub fn relearned(&mut self) {
        (self.movement, self.quiet) = (1.0, 0);
        self.excursion = Excursion::default();
    }

    /// Whether `x` is what the record before held, bit for bit.
    pub fn repeats(&self, x: f64) -> bool {
        self.before == ReadingKind::of(x) && (!x.is_finite() || self.last == x.to_le_bytes())
    }
}

impl FieldRules {
    /// The rules of `field`; `normal` is `None` while there is no bundle.
    pub fn new(gate: &GateSettings, field: &FieldSettings, normal: Option<&NormalRange>) -> Self {
        // A state has no range and no movement, and may last.
        let has_readings = field.states.is_none();
        let normal = normal.filter(|_| has_readings);
        // A field that was constant in training (a set point, a spare input) has no normal movement
        // to miss: equal readings are its normal state, so it is never stuck and never flat. Should
        // it move, the model will say so.
        let moves = normal.is_none_or(|normal| normal.movement > 0.0);
        let longer = |run: u32| gate.stuck_after.max(run.saturating_mul(RUN_MARGIN));
        let persistence = longer(normal.map_or(0, |normal| normal.longest_run));
        let moving = longer(normal.map_or(0, |normal| normal.moving_run));
        let coarse = normal.map_or(0.0, |normal| MEAN_RUN_MARGIN * normal.mean_run) as u32;
        let is_on = moves && has_readings && gate.stuck_after > 0;
        // A counter leaves every range.
        let level = normal.filter(|normal| normal.counter.is_none());
        let flat =
            normal.filter(|normal| moves && normal.movement.is_finite() && gate.flat_ratio > 0.0);
        Self {
            min: field.min,
            max: field.max,
            stuck_after: if is_on { moving.max(coarse) } else { 0 },
            rest_after: if is_on { persistence.max(coarse) } else { 0 },
            rest: normal.map(|normal| normal.rest),
            sentinels: Sentinels::new(level),
            stuck_changes: if normal.is_none() {
                LEARNING_CHANGES
            } else {
                0
            },
            counter: normal.and_then(|normal| Some((normal.counter?, normal.movement))),
            per_record: field.read_as == Some(ReadAs::Delta),
            trained: level.filter(|_| moves).map(|normal| normal.range),
            flat: flat.map(|normal| Flat {
                movement: normal.movement,
                ratio: gate.flat_ratio,
                after: u16::try_from(persistence.max(FLAT_AFTER_MIN)).unwrap_or(u16::MAX),
            }),
            scale: level
                .filter(|_| gate.scale_jump)
                .and_then(|normal| Scale::new(normal.mean, normal.sd)),
            spike: level.filter(|_| gate.spike).and_then(Spike::new),
        }
    }

    /// The range of the training readings, where a reading lies outside of it by more than its width.
    pub fn trained_range(&self, x: f64) -> Option<[f64; 2]> {
        let [low, high] = self.trained?;
        let width = high - low;
        (width > 0.0 && beyond([low, high], x) > width).then_some([low, high])
    }

    /// Whether the field only rises.
    pub fn is_counter(&self) -> bool {
        self.counter.is_some()
    }

    /// The period that a rise of it is for, of that of the training records; 0: that between two
    /// records.
    pub fn rise_period(&self, period: i64) -> i64 {
        match self.per_record {
            true => 0,
            false => period,
        }
    }

    /// The first rule that the reading breaks, the most certain rules first, and the reading that
    /// broke it, where it is finite. A sensor recovers automatically: each rule depends only on the
    /// present reading.
    pub fn check(&self, memory: &mut FieldState, x: f64) -> Option<(FaultKind, Option<f64>)> {
        let last = memory.last();
        memory.before = ReadingKind::of(x);
        match memory.before {
            ReadingKind::Missing => return Some((FaultKind::Missing, None)),
            ReadingKind::NonFinite => return Some((FaultKind::NonFinite, None)),
            ReadingKind::Finite => self.follow(memory, x),
        }
        memory.sentinel = (self.sentinels).is_one(x, last, memory.run, memory.sentinel);
        if memory.sentinel {
            memory.excursion = Excursion::default();
            return Some((FaultKind::Sentinel, Some(x)));
        }
        let excursion = self
            .spike
            .as_ref()
            .and_then(|spike| spike.follow(&mut memory.excursion, last, x));
        let kind = if x < self.min || x > self.max {
            FaultKind::OutOfRange
        } else if self.is_stuck(memory) {
            FaultKind::Stuck
        } else if self.is_reset(last, x) {
            FaultKind::CounterReset
        } else if self.scale.as_ref().is_some_and(|scale| scale.jumped(x)) {
            FaultKind::ScaleJump
        } else if let Some(excursion) = excursion {
            // A spike is known when it is over: what broke the rule is the reading before.
            return Some((
                excursion,
                if excursion == FaultKind::Spike {
                    last
                } else {
                    Some(x)
                },
            ));
        } else if self
            .flat
            .as_ref()
            .is_some_and(|flat| memory.quiet >= flat.after && !self.rests(memory))
        {
            FaultKind::Flat
        } else {
            return None;
        };
        Some((kind, Some(x)))
    }

    /// Whether a counter went back that never did in normal operation.
    fn is_reset(&self, last: Option<f64>, x: f64) -> bool {
        let known = self.counter.zip(last);
        known.is_some_and(|((counter, rise), last)| counter.is_fault(last, x, rise))
    }

    /// A machine rests at 0 from the first night on; while nothing is known of it, or where training
    /// had no such rest, it may stay there for ever. `rest` is a reading like any other there.
    fn is_stuck(&self, memory: &FieldState) -> bool {
        let at = f64::from_le_bytes(memory.last);
        let after = match self.rest {
            Some(rest) if at == rest => self.rest_after,
            _ if at == 0.0 => 0,
            _ => self.stuck_after,
        };
        after > 0 && memory.run >= after && memory.changes >= self.stuck_changes
    }

    /// Whether the machine rests: the reading stands still where it is known to.
    fn rests(&self, memory: &FieldState) -> bool {
        let at = f64::from_le_bytes(memory.last);
        memory.run > 1 && (at == 0.0 || self.rest == Some(at))
    }

    /// Whether the reading has stood still for as long as a stuck one, at rest or not.
    pub fn stands_still(&self, memory: &FieldState) -> bool {
        self.stuck_after > 0 && memory.run >= self.stuck_after
    }

    /// Moves the memory on by a finite reading. Missing readings in between are skipped: a stuck
    /// sensor with gaps is stuck.
    fn follow(&self, memory: &mut FieldState, x: f64) {
        let last = f64::from_le_bytes(memory.last);
        if memory.run == 0 {
            memory.run = 1;
        } else if x == last {
            memory.run = memory.run.saturating_add(1);
            // A machine that rests says nothing of its sensors.
            if !self.rests(memory) {
                self.follow_movement(memory, 0.0);
            }
        } else {
            if self.is_stuck(memory) {
                // It moves again: the silence of the fault must not count as flatness now.
                memory.quiet = 0;
            }
            memory.run = 1;
            memory.changes = memory.changes.saturating_add(1);
            self.follow_movement(memory, (x - last).abs());
        }
        memory.last = x.to_le_bytes();
    }

    fn follow_movement(&self, memory: &mut FieldState, difference: f64) {
        let Some(flat) = &self.flat else { return };
        let relative = (difference / flat.movement).min(MOVEMENT_MAX);
        let mean = f64::from(memory.movement);
        let mean = mean + (relative - mean) / f64::from(flat.after);
        memory.movement = mean as f32;
        memory.quiet = if mean < flat.ratio {
            memory.quiet.saturating_add(1)
        } else {
            0
        };
    }
}
