//! A report: what a detector made of faults that are known, fault by fault, with the false alarms
//! beside it.
//!
//! The rules are those of somebody who pays for missed faults and for false alarms alike:
//! - A fault is detected by an alert on its own pump whose episode began at or after the onset, and
//!   that was opened before the end of the fault plus a small grace. An episode that was already
//!   open does not count.
//! - An alert that opens after that, while the machine still recovers, is neither a catch nor a
//!   false alarm: it is counted as aftermath. Every other alert is a false alarm, also the ones on
//!   pumps that the fleet does not have.
//! - False alarms are held against healthy time only, and the catches against what as many false
//!   alarms at random would have caught.

mod table;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::fault::{FaultSize, PlantFault, PlantFaultKind};
use super::fleet::FleetPlan;
use crate::failure::{Failure, FailureClass};
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertEvent, AlertKind};

const MICROS_PER_DAY: f64 = 86_400e6;

/// A fault as it was, in event time.
#[derive(Clone, PartialEq, Debug)]
pub struct TrueFault {
    /// Name of the pump: the key of its series.
    pub pump: String,
    /// What broke.
    pub kind: PlantFaultKind,
    /// How badly.
    pub size: FaultSize,
    /// Event time of the first record that it acts on.
    pub start: EventTime,
    /// Event time of the first record after it.
    pub end: EventTime,
}

impl TrueFault {
    /// A planned fault of a fleet that runs by `plan`.
    pub fn of(fault: &PlantFault, plan: &FleetPlan) -> Self {
        Self {
            pump: FleetPlan::name_of(fault.pump),
            kind: fault.kind,
            size: fault.size,
            start: plan.time_of(fault.start),
            end: plan.time_of(fault.end),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MatchRules {
    /// How many pumps there are.
    pub pumps: usize,
    /// Event time of the first record that was scored: alerts and faults before it are left out.
    pub from: EventTime,
    /// Event time after the last record that was scored.
    pub until: EventTime,
    /// How long after its end a fault can still be detected: a window's or a filter's length.
    pub catch_grace: Duration,
    /// How long after its end alerts are not false: what the temperatures and the detector take to
    /// come back.
    pub recovery: Duration,
}

/// What became of a fault.
#[derive(Clone, PartialEq, Debug)]
pub enum FaultOutcome {
    /// An alert opened in time.
    Caught(Detection),
    /// No alert did.
    Missed,
    /// No alert did so far, but the fault was not over when the run was.
    Unfinished,
}

/// The first alert that detected a fault.
#[derive(Clone, PartialEq, Debug)]
pub struct Detection {
    /// From the onset to the record that opened the alert.
    pub delay: Duration,
    /// What the alert was about.
    pub kind: AlertKind,
    /// The sensor that it named first.
    pub sensor: Option<String>,
}

/// A fault and what became of it.
#[derive(Clone, PartialEq, Debug)]
pub struct FaultResult {
    /// The fault.
    pub truth: TrueFault,
    /// What became of it.
    pub outcome: FaultOutcome,
    /// Further alerts during the fault, after the one that detected it.
    pub repeats: u64,
}

/// The result of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct FaultReport {
    /// The faults that began in the counted time, by onset.
    pub lines: Vec<FaultResult>,
    /// Alerts on healthy pumps.
    pub false_alarms: u64,
    /// Alerts while a pump recovered.
    pub aftermath: u64,
    /// Days in which a pump was healthy and recovered, over all pumps.
    pub healthy_days: f64,
    /// How many of the faults as many false alarms at random times would have met.
    pub caught_by_chance: f64,
}

/// Why alerts cannot be compared with the truth.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReportError {
    /// An alert with an invalid time.
    #[error(
        "alert {id}: {field} is {found:?}, expected an RFC 3339 time; is this the alert topic of outlierd?"
    )]
    Time {
        /// Id of the alert.
        id: String,
        /// The field.
        field: &'static str,
        /// The value found.
        found: String,
    },
}

impl Failure for ReportError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Time { .. } => FailureClass::USER,
        }
    }
}

/// When an alert's episode began and when the alert was opened.
struct Opening<'a> {
    alert: &'a Alert,
    began: EventTime,
    opened: EventTime,
}

impl FaultReport {
    /// Holds `alerts` (all events, in any order; an opening that comes twice counts once) against
    /// `truth`.
    ///
    /// # Errors
    /// [`ReportError::Time`] where an opening has a time that cannot be read.
    pub fn new(
        truth: &[TrueFault],
        alerts: &[Alert],
        rules: &MatchRules,
    ) -> Result<Self, ReportError> {
        let counted = rules.from..rules.until;
        let line = |truth: &TrueFault| FaultResult {
            truth: truth.clone(),
            outcome: outcome_without_alert(truth, rules),
            repeats: 0,
        };
        let mut lines: Vec<FaultResult> = truth.iter().map(line).collect();
        lines.sort_by(|a, b| (a.truth.start, &a.truth.pump).cmp(&(b.truth.start, &b.truth.pump)));
        let mut false_alarms = 0;
        let mut aftermath = 0;
        for opening in openings(alerts)? {
            if !counted.contains(&opening.opened) {
                continue;
            }
            // The faults of a pump follow one another, so that only the last one before the alert
            // can be meant.
            let last = lines.iter_mut().rev().find(|line| {
                line.truth.pump == opening.alert.series && line.truth.start <= opening.began
            });
            match last {
                Some(line) if opening.opened <= line.truth.end.after(rules.catch_grace) => {
                    line.take(&opening)
                }
                Some(line) if opening.began <= line.truth.end.after(rules.recovery) => {
                    aftermath += 1
                }
                _ => false_alarms += 1,
            }
        }
        // Faults from before the counted time had to stay until here, so that their alerts are not
        // taken for false ones.
        lines.retain(|line| counted.contains(&line.truth.start));
        let healthy_days = healthy_micros(truth, rules) / MICROS_PER_DAY;
        let caught_by_chance = expected_by_chance(&lines, false_alarms, healthy_days, rules);
        Ok(Self {
            lines,
            false_alarms,
            aftermath,
            healthy_days,
            caught_by_chance,
        })
    }

    /// False alarms per healthy day of one pump; `None` where there was no healthy time.
    pub fn false_alarms_per_day(&self) -> Option<f64> {
        (self.healthy_days > 0.0).then(|| self.false_alarms as f64 / self.healthy_days)
    }

    /// How many faults were caught, and how many there were; the unfinished ones that were not
    /// caught count for neither.
    pub fn caught(&self) -> (usize, usize) {
        let caught = self
            .lines
            .iter()
            .filter(|line| line.catch().is_some())
            .count();
        let unfinished = self
            .lines
            .iter()
            .filter(|line| line.outcome == FaultOutcome::Unfinished)
            .count();
        (caught, self.lines.len() - unfinished)
    }

    /// The report as text for a terminal: every fault, the kinds, the totals.
    pub fn render(&self) -> String {
        table::render(self)
    }
}

impl FaultResult {
    /// The alert that detected it.
    pub fn catch(&self) -> Option<&Detection> {
        match &self.outcome {
            FaultOutcome::Caught(catch) => Some(catch),
            FaultOutcome::Missed | FaultOutcome::Unfinished => None,
        }
    }

    fn take(&mut self, opening: &Opening<'_>) {
        if self.catch().is_some() {
            self.repeats += 1;
            return;
        }
        let alert = opening.alert;
        let micros = opening.opened.micros_since(self.truth.start).max(0);
        let anomalous = alert.fields.first().map(|field| &field.name);
        let sensor = alert
            .faults
            .first()
            .map(|fault| &fault.name)
            .or(anomalous)
            .cloned();
        let delay = Duration::from_micros(micros.unsigned_abs());
        self.outcome = FaultOutcome::Caught(Detection {
            delay,
            kind: alert.kind,
            sensor,
        });
    }
}

/// The openings among `alerts`, each id once, by time.
fn openings(alerts: &[Alert]) -> Result<Vec<Opening<'_>>, ReportError> {
    let mut seen = HashSet::new();
    let opening = alerts
        .iter()
        .filter(|alert| alert.kind.is_alarm() && alert.event == AlertEvent::Open)
        .filter(|alert| seen.insert(&alert.id));
    let mut openings = opening
        .map(|alert| {
            let began = read_time(alert, "opened_at", &alert.opened_at)?;
            let opened = read_time(alert, "time", &alert.time)?;
            Ok(Opening {
                alert,
                began,
                opened,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    openings.sort_by(|a, b| (a.opened, &a.alert.id).cmp(&(b.opened, &b.alert.id)));
    Ok(openings)
}

fn read_time(alert: &Alert, field: &'static str, text: &str) -> Result<EventTime, ReportError> {
    let time: jiff::Timestamp = text.parse().map_err(|_| ReportError::Time {
        id: alert.id.clone(),
        field,
        found: text.to_owned(),
    })?;
    Ok(EventTime(time.as_microsecond()))
}

fn outcome_without_alert(truth: &TrueFault, rules: &MatchRules) -> FaultOutcome {
    if truth.end > rules.until {
        FaultOutcome::Unfinished
    } else {
        FaultOutcome::Missed
    }
}

/// Microseconds in which a pump was neither broken nor recovering, over all pumps.
fn healthy_micros(truth: &[TrueFault], rules: &MatchRules) -> f64 {
    let whole = rules.until.micros_since(rules.from).max(0) as f64 * rules.pumps as f64;
    let mut by_pump: BTreeMap<&str, Vec<(EventTime, EventTime)>> = BTreeMap::new();
    for truth in truth {
        let start = truth.start.max(rules.from);
        let end = truth.end.after(rules.recovery).min(rules.until);
        by_pump.entry(&truth.pump).or_default().push((start, end));
    }
    let mut ill = 0;
    for times in by_pump.values_mut() {
        times.sort_unstable();
        let mut counted_until = rules.from;
        for &(start, end) in times.iter() {
            // A recovery can reach into the next fault; no moment counts twice.
            ill += end.micros_since(start.max(counted_until)).max(0);
            counted_until = counted_until.max(end);
        }
    }
    (whole - ill as f64).max(0.0)
}

/// Faults that alerts at random times would meet at the rate of the false alarms: for each, the
/// chance that a Poisson process has an event in its time.
fn expected_by_chance(
    lines: &[FaultResult],
    false_alarms: u64,
    healthy_days: f64,
    rules: &MatchRules,
) -> f64 {
    if healthy_days <= 0.0 {
        return 0.0;
    }
    let rate = false_alarms as f64 / healthy_days;
    let days = |line: &FaultResult| {
        let end = line.truth.end.after(rules.catch_grace).min(rules.until);
        end.micros_since(line.truth.start).max(0) as f64 / MICROS_PER_DAY
    };
    lines
        .iter()
        .map(|line| 1.0 - (-rate * days(line)).exp())
        .sum()
}

#[cfg(test)]
mod tests;
