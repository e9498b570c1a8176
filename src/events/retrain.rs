//! Events of retraining.

use std::time::SystemTime;

use tracing::{error, info, warn};

use super::metric;
use super::observed::unix_seconds;
use super::published::{Event, EventQueue};
use crate::failure::Failure;
use crate::promotion::PromotionVerdict;

/// What the buffer of normal traffic holds.
pub struct TrainingBufferSize<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Records.
    pub records: usize,
    /// Series.
    pub series: usize,
}

impl TrainingBufferSize<'_> {
    /// Sets the gauges.
    pub fn emit(&self) {
        let labels = [("stream", self.stream)];
        metric::NORMAL_RECORDS.set(labels, self.records as f64);
        metric::NORMAL_SERIES.set(labels, self.series as f64);
    }
}

/// There are as many records as were wanted for a first training, and they are not enough.
pub struct LearningExtended<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Records so far.
    pub records: usize,
    /// Records wanted now.
    pub wanted: usize,
    /// What is missing.
    pub missing: &'a str,
}

impl LearningExtended<'_> {
    /// Logs.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            records = self.records,
            wanted = self.wanted,
            "learning on: {}",
            self.missing
        );
    }
}

/// A model with time features learns from few of the cycles that they turn through.
pub struct FewCycles<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Days, or weeks where the day of the week is a feature.
    pub cycles: f64,
}

impl FewCycles<'_> {
    /// Logs.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            "model.context: the training records cover {:.1} of its cycles (days, or weeks with day_of_week); with fewer than 3, hours seen once have the baseline of the other days; retraining adds what it sees",
            self.cycles
        );
    }
}

/// A challenger is trained.
pub struct TrainingStarted<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Why.
    pub reason: String,
    /// Records that it learns from and proves itself on.
    pub records: usize,
}

impl TrainingStarted<'_> {
    /// Logs.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            reason = self.reason,
            records = self.records,
            "training a challenger"
        );
        metric::TRAINING.set_flag([("stream", self.stream)], true);
    }
}

/// The training of a challenger, its proof included, is over.
pub struct TrainingEnded<'a> {
    /// The stream.
    pub stream: &'a str,
}

impl TrainingEnded<'_> {
    /// Sets the gauge.
    pub fn emit(&self) {
        metric::TRAINING.set_flag([("stream", self.stream)], false);
    }
}

/// The promotion tests of a challenger are complete.
pub struct ChallengerJudged<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The verdict.
    pub verdict: &'a PromotionVerdict,
    /// Whether it goes live now.
    pub promoted: bool,
}

impl ChallengerJudged<'_> {
    /// What becomes of it, in a word.
    fn outcome(&self) -> &'static str {
        match (self.verdict.passed, self.promoted) {
            (true, true) => "promoted",
            (true, false) => "waiting",
            (false, _) => "refused",
        }
    }

    /// Logs, counts and publishes.
    pub fn emit(&self, queue: &EventQueue) {
        let v = self.verdict;
        for test in &v.tests {
            let passed = if test.passed { "passed" } else { "failed" };
            info!(
                stream = self.stream,
                challenger = v.challenger,
                test = test.name.as_str(),
                "{passed}: {}",
                test.detail
            );
        }
        let outcome = self.outcome();
        let failed = v.failed().join(", ");
        info!(
            stream = self.stream,
            challenger = v.challenger,
            champion = v.champion,
            failed,
            "challenger {outcome}"
        );
        trained(self.stream, outcome);
        queue.put(
            self.stream,
            Event::ChallengerJudged {
                outcome: outcome.into(),
                verdict: v.clone(),
            },
        );
    }
}

/// Counts a training that ended, and notes when.
fn trained(stream: &str, outcome: &str) {
    let labels = [("stream", stream), ("outcome", outcome)];
    metric::TRAININGS.add(labels, 1);
    metric::LAST_TRAINING.set(labels, unix_seconds(SystemTime::now()));
}

/// A training gave the live bundle again; there is nothing to test.
pub struct ChallengerUnchanged<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The live bundle.
    pub bundle: &'a str,
}

impl ChallengerUnchanged<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            bundle = self.bundle,
            "the training gave the live bundle again: its records are the same"
        );
        trained(self.stream, "unchanged");
    }
}

/// The live bundle's sensitivity is known.
pub struct MinDetectableFault<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The live bundle's verdict.
    pub verdict: &'a PromotionVerdict,
}

impl MinDetectableFault<'_> {
    /// Sets the gauges.
    pub fn emit(&self) {
        for s in &self.verdict.sensitivity {
            let labels = [
                ("stream", self.stream),
                ("field", s.field.as_str()),
                ("kind", s.kind.as_str()),
            ];
            metric::SENSITIVITY.set(labels, s.smallest.unwrap_or(f64::INFINITY));
        }
    }
}

/// Recent scores were compared with those of the calibration.
pub struct DriftMeasured<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Kolmogorov-Smirnov distance, from 0 to 1.
    pub distance: f64,
}

impl DriftMeasured<'_> {
    /// Sets the gauge.
    pub fn emit(&self) {
        metric::DRIFT_DISTANCE.set([("stream", self.stream)], self.distance);
    }
}

/// What live series would catch of a field.
pub struct MinDetectableShift<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The field.
    pub field: &'a str,
    /// The smallest level shift that at least half of the tested series catch, in standard
    /// deviations.
    pub size: f64,
}

impl MinDetectableShift<'_> {
    /// Sets the gauge.
    pub fn emit(&self) {
        let labels = [("stream", self.stream), ("field", self.field)];
        metric::DETECTABLE_DEVIATION.set(labels, self.size);
    }
}

/// The self-test found the detector blind, or seeing again.
pub struct DetectorHealthChanged<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Whether it is degraded.
    pub degraded: bool,
    /// Series that were tested.
    pub tested: usize,
}

impl DetectorHealthChanged<'_> {
    /// Logs, sets the gauge and publishes.
    pub fn emit(&self, queue: &EventQueue) {
        if self.degraded {
            error!(
                stream = self.stream,
                tested = self.tested,
                "detector degraded: it would miss faults that the live bundle detected in its promotion tests; check the thresholds \
                 (GET /series/STREAM/SERIES), train another bundle with outlierd model challenge, or roll back with \
                 outlierd model rollback"
            );
        } else {
            info!(
                stream = self.stream,
                tested = self.tested,
                "detector recovered: it detects these faults again"
            );
        }
        metric::BLIND.set_flag([("stream", self.stream)], self.degraded);
        queue.put(
            self.stream,
            Event::DetectorHealthChanged {
                degraded: self.degraded,
                series_tested: self.tested,
            },
        );
    }
}

/// More alerts opened than the budget explains, or a whole count was within it again.
pub struct BudgetChanged<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Alerts that were counted.
    pub alerts: u64,
    /// Alerts that the budget allows for the same time.
    pub budgeted: f64,
    /// Whether the budget is exceeded.
    pub over: bool,
}

impl BudgetChanged<'_> {
    /// Logs, sets the gauge and publishes.
    pub fn emit(&self, queue: &EventQueue) {
        if self.over {
            warn!(
                stream = self.stream,
                alerts = self.alerts,
                "over budget: {} alerts opened where the budget allows {:.2}. The thresholds of these series rise, and \
                 another bundle is trained; confirm true alerts with outlierd feedback",
                self.alerts,
                self.budgeted,
            );
        } else {
            info!(stream = self.stream, "within the alert budget again");
        }
        metric::OVER_BUDGET.set_flag([("stream", self.stream)], self.over);
        queue.put(
            self.stream,
            Event::BudgetChanged {
                over: self.over,
                alerts: self.alerts,
                budgeted: self.budgeted,
            },
        );
    }
}

/// Whether the live bundle has learned from what is marked as faulty.
pub struct TrainedOnExcludedRange<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The live bundle.
    pub bundle: &'a str,
    /// Marked stretches of time that it has learned from.
    pub ranges: usize,
}

impl TrainedOnExcludedRange<'_> {
    /// Logs, sets the gauge and publishes.
    pub fn emit(&self, queue: &EventQueue) {
        if self.ranges > 0 {
            warn!(
                stream = self.stream,
                bundle = self.bundle,
                ranges = self.ranges,
                "the live bundle was trained on a range that is now excluded: outlierd model challenge trains another one"
            );
        }
        metric::BUNDLE_MARKED.set_flag([("stream", self.stream)], self.ranges > 0);
        if self.ranges > 0 {
            queue.put(
                self.stream,
                Event::TrainedOnExcludedRange {
                    bundle: self.bundle.to_owned(),
                    ranges: self.ranges,
                },
            );
        }
    }
}

/// The first training of a stream failed.
pub struct TrainingFailed<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Why.
    pub error: &'a dyn Failure,
}

impl TrainingFailed<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(
            stream = self.stream,
            error = self.error.to_string(),
            domain = self.error.domain().as_str(),
            "training failed: training records dropped; collecting new ones"
        );
        metric::TRAINING_FAILURES.add([("stream", self.stream)], 1);
    }
}

/// The training of a challenger failed; the live bundle stays.
pub struct ChallengeFailed<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Why.
    pub error: &'a dyn Failure,
}

impl ChallengeFailed<'_> {
    /// Logs, counts and publishes.
    pub fn emit(&self, queue: &EventQueue) {
        warn!(
            stream = self.stream,
            error = self.error.to_string(),
            domain = self.error.domain().as_str(),
            "challenger training failed: the live bundle stays"
        );
        trained(self.stream, "failed");
        let error = self.error.to_string();
        queue.put(self.stream, Event::ChallengeFailed { error });
    }
}

/// A bundle raised more alerts than its proof predicts, and the one before is live again.
pub struct BundleRolledBack<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The bundle that was live.
    pub from: &'a str,
    /// The bundle that is live again.
    pub to: &'a str,
    /// Alerts that it raised.
    pub alerts: u64,
    /// Alerts that were predicted.
    pub predicted: f64,
}

impl BundleRolledBack<'_> {
    /// Logs, counts and publishes.
    pub fn emit(&self, queue: &EventQueue) {
        error!(
            stream = self.stream,
            from = self.from,
            to = self.to,
            alerts = self.alerts,
            predicted = self.predicted,
            "the new bundle raised more alerts than predicted: rolled back to the previous one"
        );
        metric::ROLLBACKS.add([("stream", self.stream)], 1);
        queue.put(
            self.stream,
            Event::AutoRolledBack {
                from: self.from.to_owned(),
                to: self.to.to_owned(),
                alerts: self.alerts,
                predicted: self.predicted,
            },
        );
    }
}

/// A bundle that was made live does not fit the stream: the one before scores on.
pub struct BundleRefused<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The bundle.
    pub bundle: &'a str,
    /// The bundle that stays live, where there is one.
    pub live: Option<&'a str>,
    /// What differs.
    pub error: &'a dyn Failure,
}

impl BundleRefused<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(
            stream = self.stream,
            bundle = self.bundle,
            live = self.live,
            error = self.error.to_string(),
            domain = self.error.domain().as_str(),
            "promoted bundle refused: keeping the live bundle"
        );
        metric::BUNDLES_REFUSED.add([("stream", self.stream)], 1);
    }
}
