//! Events that are published too, on the events topic (`schemas/event.schema.json`): what happens to the models.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::promotion::Verdict;
use crate::record::EventTime;
use crate::record::feedback::Feedback;

/// Events that may wait for the brokers; more are only logged.
const WAITING_MAX: usize = 1_000;

/// An event as it is published.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// Name of the stream.
    pub stream: String,
    /// When, by the clock of the machine (RFC 3339, UTC).
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A challenger has sat its tests.
    ChallengerJudged {
        /// `promoted`, `waiting` (for an operator), or `refused`.
        outcome: String,
        /// The verdict, as it is kept with the bundle.
        verdict: Verdict,
    },
    /// A training came to nothing; the live bundle stays.
    ChallengeFailed {
        /// Why.
        error: String,
    },
    /// Another bundle is live on this machine.
    WentLive {
        /// The bundle.
        bundle: String,
        /// The one before.
        before: Option<String>,
    },
    /// A new bundle raised more alerts than its proof predicts; the last one is live again.
    BroughtBack {
        /// The bundle that was live.
        from: String,
        /// The one that is live again.
        to: String,
        /// Alerts that it raised.
        alerts: u64,
        /// Alerts that were predicted.
        predicted: f64,
    },
    /// What an operator said was taken to heart.
    FeedbackTaken {
        /// What was said.
        feedback: Feedback,
        /// What came of it.
        done: String,
    },
    /// The self-test has found the stream's detector blind, or seeing again.
    SightChanged {
        /// Whether it is blind.
        blind: bool,
        /// Series that were tested.
        series_tested: usize,
    },
    /// The live bundle has learned from a stretch of time that is now marked as faulty.
    LearnedFromMarked {
        /// The bundle.
        bundle: String,
        /// How many marked stretches it has learned from.
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
            Self::BroughtBack { .. } => "brought_back",
            Self::FeedbackTaken { .. } => "feedback_taken",
            Self::SightChanged { .. } => "sight_changed",
            Self::LearnedFromMarked { .. } => "learned_from_marked",
        }
    }
}

/// Where events are put to be published. Never waits; the default one leads nowhere.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Option<SyncSender<Published>>);

impl Outbox {
    /// An outbox and its other end.
    pub fn new() -> (Self, Receiver<Published>) {
        let (put, taken) = sync_channel(WAITING_MAX);
        (Self(Some(put)), taken)
    }

    /// Puts an event there.
    pub fn put(&self, stream: &str, event: Event) {
        let event = Published {
            stream: stream.to_owned(),
            at: EventTime::now().to_string(),
            event,
        };
        let Some(outbox) = &self.0 else { return };
        if outbox.try_send(event).is_err() {
            tracing::warn!("an event is not published: too many wait for the brokers");
        }
    }
}
