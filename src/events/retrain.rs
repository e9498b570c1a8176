//! Events of retraining.

use metrics::{counter, gauge};
use tracing::{error, info, warn};

use crate::retrain::verdict::Verdict;

/// Help texts of the metrics of retraining.
pub fn describe_metrics() {
    use metrics::{describe_counter, describe_gauge};
    describe_counter!(
        "outlierd_trainings_total",
        "Trainings of a challenger, by outcome"
    );
    describe_counter!(
        "outlierd_rollbacks_total",
        "Bundles that were brought back for too many alerts"
    );
    describe_gauge!(
        "outlierd_training",
        "Whether a challenger is trained or proved now"
    );
    describe_gauge!(
        "outlierd_normal_records",
        "Records of normal traffic that are kept to learn from"
    );
    describe_gauge!("outlierd_normal_series", "Series that they are of");
    describe_gauge!(
        "outlierd_drift_distance",
        "Distance of recent scores from those of the calibration (Kolmogorov-Smirnov)"
    );
    describe_gauge!(
        "outlierd_detectable_deviation",
        "Smallest level shift that live series would catch now, in standard deviations of the field; +Inf where none is"
    );
    describe_gauge!(
        "outlierd_blind",
        "Whether the stream would no longer catch what its bundle has proved to catch"
    );
    describe_gauge!(
        "outlierd_sensitivity",
        "Smallest injected fault that the live bundle catches, in standard deviations of the field; +Inf where none is"
    );
}

/// What the buffer of normal traffic holds.
pub struct NormalKept<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Records.
    pub records: usize,
    /// Series.
    pub series: usize,
}

impl NormalKept<'_> {
    /// Sets the gauges.
    pub fn emit(&self) {
        gauge!("outlierd_normal_records", "stream" => self.stream.to_owned())
            .set(self.records as f64);
        gauge!("outlierd_normal_series", "stream" => self.stream.to_owned())
            .set(self.series as f64);
    }
}

/// A challenger is trained.
pub struct TrainingBegan<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Why.
    pub reason: String,
    /// Records that it learns from and proves itself on.
    pub records: usize,
}

impl TrainingBegan<'_> {
    /// Logs.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            reason = self.reason,
            records = self.records,
            "training a challenger"
        );
        gauge!("outlierd_training", "stream" => self.stream.to_owned()).set(1.0);
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
        gauge!("outlierd_training", "stream" => self.stream.to_owned()).set(0.0);
    }
}

/// A challenger has sat its tests.
pub struct ChallengerJudged<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The verdict.
    pub verdict: &'a Verdict,
    /// Whether it goes live now.
    pub promoted: bool,
}

impl ChallengerJudged<'_> {
    /// What becomes of it, in a word.
    pub fn outcome(&self) -> &'static str {
        match (self.verdict.passed, self.promoted) {
            (true, true) => "promoted",
            (true, false) => "waiting",
            (false, _) => "refused",
        }
    }

    /// Logs and counts.
    pub fn emit(&self) {
        let v = self.verdict;
        for test in &v.tests {
            let passed = if test.passed { "passed" } else { "failed" };
            info!(
                stream = self.stream,
                challenger = v.challenger,
                test = test.name.as_str(),
                "{passed}: {}",
                test.says
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
        counter!("outlierd_trainings_total", "stream" => self.stream.to_owned(), "outcome" => outcome).increment(1);
    }
}

/// The live bundle's sensitivity is known.
pub struct SensitivityKnown<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The live bundle's verdict.
    pub verdict: &'a Verdict,
}

impl SensitivityKnown<'_> {
    /// Sets the gauges.
    pub fn emit(&self) {
        for s in &self.verdict.sensitivity {
            gauge!("outlierd_sensitivity", "stream" => self.stream.to_owned(), "field" => s.field.clone(), "kind" => s.kind.as_str())
                .set(s.smallest.unwrap_or(f64::INFINITY));
        }
    }
}

/// What live series would catch of a field.
pub struct DeviationKnown<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The field.
    pub field: &'a str,
    /// The smallest level shift that at least half of the tested series catch, in standard deviations.
    pub size: f64,
}

impl DeviationKnown<'_> {
    /// Sets the gauge.
    pub fn emit(&self) {
        gauge!("outlierd_detectable_deviation", "stream" => self.stream.to_owned(), "field" => self.field.to_owned())
            .set(self.size);
    }
}

/// The self-test found the detector blind, or seeing again.
pub struct SightChanged<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Whether it is blind.
    pub blind: bool,
    /// Series that were tested.
    pub tested: usize,
}

impl SightChanged<'_> {
    /// Logs and sets the gauge.
    pub fn emit(&self) {
        if self.blind {
            error!(
                stream = self.stream,
                tested = self.tested,
                "blind: faults that the live bundle has proved to catch would be missed now; look at the thresholds \
                 (GET /series/STREAM/SERIES), and train another bundle with outlierd model challenge, or go back with \
                 outlierd model rollback"
            );
        } else {
            info!(
                stream = self.stream,
                tested = self.tested,
                "sees again: what was proved is caught"
            );
        }
        gauge!("outlierd_blind", "stream" => self.stream.to_owned())
            .set(f64::from(u8::from(self.blind)));
    }
}

/// Whether the live bundle has learned from what is marked as faulty.
pub struct BundleMarked<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The live bundle.
    pub bundle: &'a str,
    /// Marked stretches of time that it has learned from.
    pub ranges: usize,
}

impl BundleMarked<'_> {
    /// Logs and sets the gauge.
    pub fn emit(&self) {
        if self.ranges > 0 {
            warn!(
                stream = self.stream,
                bundle = self.bundle,
                ranges = self.ranges,
                "the live bundle was trained on a range now marked faulty: outlierd model challenge trains another one"
            );
        }
        gauge!("outlierd_bundle_marked", "stream" => self.stream.to_owned())
            .set(f64::from(u8::from(self.ranges > 0)));
    }
}

/// A training of a challenger came to nothing; the live bundle stays.
pub struct ChallengeFailed<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Why.
    pub error: String,
}

impl ChallengeFailed<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            error = self.error,
            "no challenger: the live bundle stays"
        );
        counter!("outlierd_trainings_total", "stream" => self.stream.to_owned(), "outcome" => "failed").increment(1);
    }
}

/// A bundle raised more alerts than its proof predicts, and the one before is live again.
pub struct BundleBroughtBack<'a> {
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

impl BundleBroughtBack<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(
            stream = self.stream,
            from = self.from,
            to = self.to,
            alerts = self.alerts,
            predicted = self.predicted,
            "the new bundle raised more alerts than its proof predicts: the last one is live again"
        );
        counter!("outlierd_rollbacks_total", "stream" => self.stream.to_owned()).increment(1);
    }
}
