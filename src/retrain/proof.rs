//! Promotion tests: a challenger compared with the live bundle, on normal traffic that is newer
//! than its training records.
//!
//! | test | the challenger has to |
//! |---|---|
//! | reconstruction | have at most [`ERROR_RATIO`] times the champion's mean square error |
//! | alert budget | open no more alerts than the budget makes likely, or than the champion opens |
//! | injected faults | detect at least [`CAUGHT_RATIO`] times as many of the same injected faults |
//! | confirmed faults | detect all confirmed faults that the champion detects |
//! | best of the year | detect at least [`CAUGHT_RATIO`] times as many injected faults as the best bundle of the last year, where that is not the champion and still keeps the alert budget |
//!
//! The held-out records are those that the champion let pass, so it never looks worse than it is:
//! an equal challenger must not fail for that, which is what the allowances are for.

mod measured;

use std::ops::{ControlFlow, Range};

use serde::{Deserialize, Serialize};

use super::budget::most_by_chance;
use super::error::RetrainError;
use super::inject::{InjectedFault, InjectedFaultKind, inject};
use super::learn::inputs::inputs_of;
use super::set::TrainingSet;
use super::trial::{Sequence, Trial, TrialResult};
use crate::config::settings::StreamSettings;
use crate::model::bundle::Bundle;
use crate::model::context::TimeContext;
use crate::model::manifest::Segment;
use crate::pipeline::PipelineError;
use crate::promotion::{Margin, PromotionTest, PromotionVerdict, Sensitivity, TestName};
use crate::record::EventTime;
use crate::score::{ScoreError, squared_errors};

pub use self::measured::MeasuredSensitivity;

/// Two trainings on the same records, with different seeds, differ by less.
pub const ERROR_RATIO: f64 = 1.1;
/// See [`ERROR_RATIO`].
pub const CAUGHT_RATIO: f64 = 0.9;
/// The alert count that the budget makes likely: this quantile of a Poisson distribution.
const LIKELY: f64 = 0.99;

/// Records before an injected fault: a series whose chart has settled.
const WARM_ROWS: usize = 200;
/// Records that an injected fault lasts.
const FAULT_ROWS: usize = 100;
/// Series that faults are injected into.
const PLACES: usize = 8;
/// Fields that faults are injected into, evenly chosen where there are more.
const FIELDS: usize = 32;
/// Smallest part of its mean that a field's standard deviation is taken for.
const SD_MIN: f64 = 1e-3;

/// A fault that an operator has confirmed, with the records that led to it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConfirmedFault {
    /// The records of its series: normal ones, and then the fault.
    pub sequence: Sequence,
    /// The first row of the fault.
    pub begins: usize,
}

/// Where and why a challenger is examined.
#[derive(Clone, Debug)]
pub struct EvaluationInput<'a> {
    /// The stream.
    pub stream: &'a StreamSettings,
    /// All normal traffic that is kept, the held-out part included.
    pub all: &'a TrainingSet,
    /// The part that is held out from the training of all contenders.
    pub held_out: &'a TrainingSet,
    /// Confirmed faults.
    pub confirmed: &'a [ConfirmedFault],
    /// Why the challenger was trained.
    pub reason: &'a str,
    /// Newest event time of the stream.
    pub at: EventTime,
}

/// The bundles of a challenge.
pub struct Contenders {
    /// The one that is tested.
    pub challenger: Bundle,
    /// The live one.
    pub champion: Bundle,
    /// The best of the last year, where that is not the live one.
    pub best: Option<Bundle>,
    /// Principal components of the same records, where the challenger is another kind.
    pub linear: Option<Bundle>,
    /// The charts alone, where the challenger is another kind.
    pub none: Option<Bundle>,
}

/// What one contender reached.
struct EvaluationResult {
    id: String,
    error: f64,
    normal: TrialResult,
    /// For each injected fault whether it is detected; `None` if the series alerts there without
    /// it.
    injected: Vec<Option<bool>>,
    confirmed: Vec<bool>,
}

/// An injected fault: what, and in which copy of which series.
struct InjectedCase {
    fault: InjectedFault,
    place: usize,
}

impl EvaluationInput<'_> {
    /// Examines a challenger. The comparisons with simpler kinds are only reported.
    ///
    /// `go_on` is asked now and then, and ends the examination by `Break`.
    ///
    /// # Errors
    /// Where a bundle cannot score, and [`RetrainError::Cancelled`].
    pub fn evaluate(
        &self,
        contenders: Contenders,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<PromotionVerdict, RetrainError> {
        let suite = EvaluationSuite::new(self);
        let challenger = suite.run(contenders.challenger, go_on)?;
        let champion = suite.run(contenders.champion, go_on)?;
        let best = contenders.best;
        let best = best.map(|bundle| suite.run(bundle, go_on)).transpose()?;
        let mut margin = |twin: Option<Bundle>| -> Result<Option<Margin>, RetrainError> {
            let twin = twin.map(|bundle| suite.run(bundle, go_on)).transpose()?;
            Ok(twin.map(|twin| Margin {
                error_ratio: challenger.error / twin.error.max(f64::MIN_POSITIVE),
                caught_more: challenger.caught_part() - twin.caught_part(),
            }))
        };
        let (linear, none) = (margin(contenders.linear)?, margin(contenders.none)?);
        let mut tests = vec![
            reconstruction(&challenger, &champion),
            alert_budget(&challenger, &champion),
            injected_faults(TestName::InjectedFaults, &challenger, &champion),
            confirmed_faults(&challenger, &champion),
        ];
        // A bundle that alerts on what is normal today is no measure any more.
        let best = best.filter(|best| best.alerts() <= likely(best.normal.budgeted));
        tests.extend(best.map(|best| injected_faults(TestName::BestOfYear, &challenger, &best)));
        let times = || self.held_out.times.iter().copied();
        Ok(PromotionVerdict {
            passed: tests.iter().all(|test| test.passed),
            tests,
            reason: self.reason.to_owned(),
            at: self.at,
            held_out: Segment {
                series: String::new(),
                from: times().min().unwrap_or_default(),
                until: times().max().unwrap_or_default(),
            },
            held_out_records: self.held_out.len(),
            alerts: challenger.alerts(),
            budgeted: challenger.normal.budgeted,
            sensitivity: suite.sensitivity(&challenger),
            linear,
            none,
            challenger: challenger.id,
            champion: champion.id,
        })
    }
}

/// The questions, the same for all contenders.
struct EvaluationSuite<'a> {
    case: &'a EvaluationInput<'a>,
    /// Standard deviation of each field inside a series, in its own unit.
    unit: Vec<f64>,
    fields: usize,
    injected: Vec<InjectedCase>,
    /// The series without a fault and the first row of a fault, one a place.
    places: Vec<(Sequence, usize)>,
}

impl<'a> EvaluationSuite<'a> {
    fn new(case: &'a EvaluationInput<'a>) -> Self {
        let fields = case.stream.record.fields.len();
        let unit = spread(case.all, fields);
        let places = places(case.all, fields);
        let step = fields.div_ceil(FIELDS);
        let has_readings = |field: usize| case.stream.record.fields[field].states.is_none();
        let mut injected = Vec::new();
        for place in 0..places.len() {
            for field in (0..fields)
                .step_by(step)
                .filter(|&field| has_readings(field))
            {
                for kind in InjectedFaultKind::ALL {
                    let fault = |&size: &f64| InjectedCase {
                        fault: InjectedFault { kind, field, size },
                        place,
                    };
                    injected.extend(kind.sizes().iter().map(fault));
                }
            }
        }
        Self {
            case,
            unit,
            fields,
            injected,
            places,
        }
    }

    /// One contender answers all of them.
    fn run(
        &self,
        bundle: Bundle,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<EvaluationResult, RetrainError> {
        let id = bundle.id().to_owned();
        let error = self.error(&bundle).map_err(PipelineError::from)?;
        let mut trial = Trial::new(self.case.stream, bundle)?;
        let normal = trial.run(&sequences(self.case.held_out, self.fields), None)?;
        let clean: Vec<Sequence> = self
            .places
            .iter()
            .map(|(sequence, _)| sequence.clone())
            .collect();
        let clean = trial.run(&clean, None)?.opened;
        let mut injected = Vec::with_capacity(self.injected.len());
        // Part by part: a copy of a series for each fault is much at once.
        for (part, faults) in self.injected.chunks(64).enumerate() {
            if go_on().is_break() {
                return Err(RetrainError::Cancelled);
            }
            let sequences: Vec<Sequence> = faults
                .iter()
                .enumerate()
                .map(|(i, fault)| self.broken(fault, part * 64 + i))
                .collect();
            let opened = trial.run(&sequences, None)?.opened;
            injected.extend(faults.iter().zip(opened).map(|(fault, opened)| {
                let start = self.places[fault.place].1;
                let after = |rows: &[usize]| rows.iter().any(|&row| row >= start);
                (!after(&clean[fault.place])).then(|| after(&opened))
            }));
        }
        let sequences: Vec<Sequence> = self
            .case
            .confirmed
            .iter()
            .map(|fault| fault.sequence.clone())
            .collect();
        let tried = trial.run(&sequences, None)?;
        let confirmed = self.case.confirmed.iter().enumerate();
        let confirmed = confirmed
            .map(|(number, fault)| tried.is_alerting_from(number, fault.begins))
            .collect();
        Ok(EvaluationResult {
            id,
            error,
            normal,
            injected,
            confirmed,
        })
    }

    /// The mean square error on the held-out records, less the part with the largest error that
    /// training leaves out too.
    fn error(&self, bundle: &Bundle) -> Result<f64, ScoreError> {
        let windows = self
            .case
            .held_out
            .windows(self.case.stream.window, self.case.stream.stride);
        let set = inputs_of(self.case.stream, self.case.held_out, &bundle.calibration);
        let rows =
            TimeContext::new(&self.case.stream.model).extended(&set.rows, &set.times, self.fields);
        let mut errors = squared_errors(bundle, &rows, &windows.starts, &self.unit)?;
        errors.sort_unstable_by(f64::total_cmp);
        let kept = errors.len() - (self.case.stream.training.trim * errors.len() as f64) as usize;
        Ok(errors.iter().take(kept).sum::<f64>() / kept.max(1) as f64)
    }

    fn broken(&self, injected: &InjectedCase, seed: usize) -> Sequence {
        let (sequence, start) = &self.places[injected.place];
        let mut sequence = sequence.clone();
        let unit = self.unit[injected.fault.field];
        inject(
            &mut sequence.values,
            self.fields,
            &injected.fault,
            *start,
            unit,
            seed as u64,
        );
        sequence
    }

    /// The smallest size of each kind in each field from which at least half of the faults are
    /// detected.
    fn sensitivity(&self, reached: &EvaluationResult) -> Vec<Sensitivity> {
        let mut found = Vec::new();
        for (field, name) in self.case.stream.record.fields.iter().enumerate() {
            for kind in InjectedFaultKind::ALL {
                let of = |size: f64| {
                    let asked = self.injected.iter().zip(&reached.injected);
                    let fits = |fault: &InjectedFault| {
                        fault.kind == kind && fault.field == field && fault.size == size
                    };
                    let answers: Vec<bool> = asked
                        .filter(|(i, _)| fits(&i.fault))
                        .filter_map(|(_, caught)| *caught)
                        .collect();
                    (
                        answers.iter().filter(|&&caught| caught).count(),
                        answers.len(),
                    )
                };
                if kind.sizes().iter().all(|&size| of(size).1 == 0) {
                    continue;
                }
                let caught = |size: f64| matches!(of(size), (caught, asked) if asked > 0 && 2 * caught >= asked);
                // From the largest down: a size above a gap is not the smallest that is caught.
                let smallest = kind
                    .sizes()
                    .iter()
                    .rev()
                    .copied()
                    .take_while(|&size| caught(size))
                    .last();
                found.push(Sensitivity {
                    field: name.name.clone(),
                    kind,
                    smallest,
                });
            }
        }
        found
    }
}

impl EvaluationResult {
    fn alerts(&self) -> f64 {
        self.normal.opened.iter().map(Vec::len).sum::<usize>() as f64
    }

    fn caught_part(&self) -> f64 {
        let asked = self.injected.iter().flatten().count().max(1);
        self.injected
            .iter()
            .flatten()
            .filter(|&&caught| caught)
            .count() as f64
            / asked as f64
    }
}

fn reconstruction(challenger: &EvaluationResult, champion: &EvaluationResult) -> PromotionTest {
    let limit = ERROR_RATIO * champion.error;
    PromotionTest {
        name: TestName::Reconstruction,
        // Not "above the limit": an error that is not a number has to fail.
        passed: challenger.error <= limit,
        challenger: challenger.error,
        champion: champion.error,
        limit,
        detail: format!(
            "mean square error on held-out normal traffic {:.4}, that of the live bundle {:.4} (at most {limit:.4})",
            challenger.error, champion.error
        ),
    }
}

fn alert_budget(challenger: &EvaluationResult, champion: &EvaluationResult) -> PromotionTest {
    let budgeted = challenger.normal.budgeted;
    let limit = likely(budgeted).max(champion.alerts());
    PromotionTest {
        name: TestName::AlertBudget,
        passed: challenger.alerts() <= limit,
        challenger: challenger.alerts(),
        champion: champion.alerts(),
        limit,
        detail: format!(
            "{} alerts on held-out normal traffic, where the budget allows {budgeted:.2}; the live bundle raises {} (at most {limit})",
            challenger.alerts(),
            champion.alerts()
        ),
    }
}

/// How many alerts are likely where `budgeted` are expected.
pub fn likely(budgeted: f64) -> f64 {
    most_by_chance(budgeted, LIKELY).map_or(0.0, |most| most as f64)
}

fn injected_faults(
    name: TestName,
    challenger: &EvaluationResult,
    champion: &EvaluationResult,
) -> PromotionTest {
    // Only where neither alerts without the fault: there an alert means nothing.
    let both = || {
        challenger
            .injected
            .iter()
            .zip(&champion.injected)
            .filter_map(|(a, b)| a.zip(*b))
    };
    let count = |of: fn((bool, bool)) -> bool| both().filter(|&pair| of(pair)).count() as f64;
    let ours = count(|(a, _)| a);
    let theirs = count(|(_, b)| b);
    let limit = (CAUGHT_RATIO * theirs).floor();
    let asked = both().count();
    let whose = match name {
        TestName::BestOfYear => format!("{}, the best bundle of the last year,", champion.id),
        _ => "the live bundle".to_owned(),
    };
    PromotionTest {
        name,
        // Where no series is quiet for long enough, nothing is proved.
        passed: asked > 0 && ours >= limit,
        challenger: ours,
        champion: theirs,
        limit,
        detail: format!(
            "{ours} of {asked} injected faults detected, {whose} detects {theirs} (at least {limit})"
        ),
    }
}

fn confirmed_faults(challenger: &EvaluationResult, champion: &EvaluationResult) -> PromotionTest {
    let pairs = || challenger.confirmed.iter().zip(&champion.confirmed);
    let lost = pairs().filter(|&(&ours, &theirs)| theirs && !ours).count();
    let ours = pairs().filter(|pair| *pair.0).count();
    let theirs = pairs().filter(|pair| *pair.1).count();
    PromotionTest {
        name: TestName::ConfirmedFaults,
        passed: lost == 0,
        challenger: ours as f64,
        champion: theirs as f64,
        limit: theirs as f64,
        detail: format!(
            "{ours} of {} confirmed faults detected, {lost} of the {theirs} that the live bundle detects are missed",
            pairs().count()
        ),
    }
}

/// Each series of a set as its own sequence.
pub fn sequences(set: &TrainingSet, fields: usize) -> Vec<Sequence> {
    set.segments
        .iter()
        .map(|rows| sequence(set, fields, rows.clone()))
        .collect()
}

fn sequence(set: &TrainingSet, fields: usize, rows: Range<usize>) -> Sequence {
    Sequence {
        times: set.times[rows.clone()].to_vec(),
        values: set.rows[rows.start * fields..rows.end * fields].to_vec(),
    }
}

/// The newest records of the series with the most of them, and where a fault begins there.
fn places(set: &TrainingSet, fields: usize) -> Vec<(Sequence, usize)> {
    let mut segments = set.segments.clone();
    segments.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let place = |rows: &Range<usize>| {
        let from = rows
            .end
            .saturating_sub(WARM_ROWS + FAULT_ROWS)
            .max(rows.start);
        let length = rows.end - from;
        // A short series gives the fault its last third.
        let start = length - FAULT_ROWS.min(length / 3);
        (start > 0 && start < length).then(|| (sequence(set, fields, from..rows.end), start))
    };
    segments.iter().take(PLACES).filter_map(place).collect()
}

/// Standard deviation of each field inside the series, in the field's unit: the mean over the
/// series' variances.
pub(super) fn spread(set: &TrainingSet, fields: usize) -> Vec<f64> {
    let mut sum = vec![0.0; fields];
    let mut largest = vec![0.0f64; fields];
    for rows in &set.segments {
        let n = rows.len().max(1) as f64;
        for (field, (sum, largest)) in sum.iter_mut().zip(&mut largest).enumerate() {
            let readings = || rows.clone().map(|row| set.rows[row * fields + field]);
            let mean = readings().sum::<f64>() / n;
            *sum += readings().map(|x| (x - mean).powi(2)).sum::<f64>();
            *largest = largest.max(mean.abs());
        }
    }
    let n = set.len().max(1) as f64;
    sum.iter()
        .zip(largest)
        .map(|(sum, mean)| (sum / n).sqrt().max(SD_MIN * mean.max(1e-9)))
        .collect()
}
