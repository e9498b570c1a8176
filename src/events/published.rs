//! Model events: logged, counted and published on the events topic (`schemas/event.schema.json`).

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metric;
use crate::promotion::PromotionVerdict;
use crate::record::EventTime;
use crate::record::feedback::Feedback;
use crate::record::row::CorrectionReason;

/// Maximum number of events that wait for the brokers; further ones are only logged.
const WAITING_MAX: usize = 1_000;

/// An event as it is published.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PublishedEvent {
    /// Name of the stream.
    pub stream: String,
    /// Time of the event by the system clock (RFC 3339, UTC).
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The promotion tests of a challenger are complete.
    ChallengerJudged {
        /// `promoted`, `waiting` (for an operator), or `refused`.
        outcome: String,
        /// The verdict, as stored with the bundle.
        verdict: PromotionVerdict,
    },
    /// A training failed; the live bundle stays.
    ChallengeFailed {
        /// Why.
        error: String,
    },
    /// This instance made another bundle live.
    WentLive {
        /// The bundle.
        bundle: String,
        /// The previous bundle.
        before: Option<String>,
    },
    /// A new bundle raised more alerts than predicted; outlierd rolled back to the previous one.
    AutoRolledBack {
        /// The bundle that was live.
        from: String,
        /// The bundle that is live again.
        to: String,
        /// Alerts that it raised.
        alerts: u64,
        /// Alerts that were predicted.
        predicted: f64,
    },
    /// Operator feedback was applied.
    FeedbackApplied {
        /// The feedback.
        feedback: Feedback,
        /// The effect, in words.
        done: String,
    },
    /// The self-test found the stream's detector degraded, or recovered.
    DetectorHealthChanged {
        /// Whether it is degraded.
        degraded: bool,
        /// Series that were tested.
        series_tested: usize,
    },
    /// More alerts opened than the budget explains, or a whole count was within it again.
    BudgetChanged {
        /// Whether it is exceeded.
        over: bool,
        /// Alerts that were counted.
        alerts: u64,
        /// Alerts that the budget allows for the same time.
        budgeted: f64,
    },
    /// The alerts of a series came more or less often than its budget allows, and its thresholds
    /// changed for it.
    ThresholdsCorrected {
        /// The series.
        series: String,
        /// What they were multiplied by before.
        from: f64,
        /// What they are multiplied by now; 1 is their own height.
        to: f64,
        /// Why.
        reason: CorrectionReason,
    },
    /// The live bundle was trained on a time range that is now excluded.
    TrainedOnExcludedRange {
        /// The bundle.
        bundle: String,
        /// Number of excluded ranges that it was trained on.
        ranges: usize,
    },
}

impl Event {
    /// Its name, as in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ChallengerJudged { .. } => "challenger_judged",
            Self::ChallengeFailed { .. } => "challenge_failed",
            Self::WentLive { .. } => "went_live",
            Self::AutoRolledBack { .. } => "auto_rolled_back",
            Self::FeedbackApplied { .. } => "feedback_applied",
            Self::DetectorHealthChanged { .. } => "detector_health_changed",
            Self::BudgetChanged { .. } => "budget_changed",
            Self::ThresholdsCorrected { .. } => "thresholds_corrected",
            Self::TrainedOnExcludedRange { .. } => "trained_on_excluded_range",
        }
    }
}

/// The queue of events to publish was full.
struct EventDropped<'a> {
    stream: &'a str,
}

impl EventDropped<'_> {
    fn emit(&self) {
        tracing::warn!(
            stream = self.stream,
            "event not published: the event queue is full"
        );
        metric::EVENTS_DROPPED.add([("stream", self.stream)], 1);
    }
}

/// The queue of events to publish. It never blocks; the default one drops everything.
#[derive(Clone, Debug, Default)]
pub struct EventQueue(Option<SyncSender<PublishedEvent>>);

impl EventQueue {
    /// A queue and its receiver.
    pub fn new() -> (Self, Receiver<PublishedEvent>) {
        let (put, taken) = sync_channel(WAITING_MAX);
        (Self(Some(put)), taken)
    }

    /// Queues an event.
    pub fn put(&self, stream: &str, event: Event) {
        let event = PublishedEvent {
            stream: stream.to_owned(),
            at: EventTime::now().to_string(),
            event,
        };
        let Some(event_queue) = &self.0 else { return };
        if event_queue.try_send(event).is_err() {
            EventDropped { stream }.emit();
        }
    }
}
