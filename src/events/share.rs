//! Events of what machines share.

use tracing::{error, info, warn};

use super::metric;
use super::published::{Event, EventQueue};
use crate::failure::Failure;
use crate::record::feedback::Feedback;
use crate::signature::Refusal;

/// A bundle was sent to the other machines.
pub struct BundlePublished<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The bundle.
    pub bundle: &'a str,
    /// Messages that it took.
    pub parts: usize,
}

impl BundlePublished<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            bundle = self.bundle,
            parts = self.parts,
            "bundle published"
        );
        metric::BUNDLES_PUBLISHED.add([("stream", self.stream)], 1);
    }
}

/// A bundle came from another machine.
pub struct BundleReceived<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The bundle.
    pub bundle: &'a str,
    /// Why it is not taken in, where it is not.
    pub refused: Option<&'a dyn Failure>,
}

impl BundleReceived<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let outcome = match self.refused {
            None => {
                info!(
                    stream = self.stream,
                    bundle = self.bundle,
                    "bundle of another instance imported"
                );
                "imported"
            }
            Some(error) => {
                error!(
                    stream = self.stream,
                    bundle = self.bundle,
                    error = error.to_string(),
                    domain = error.domain().as_str(),
                    "bundle of another instance rejected"
                );
                "rejected"
            }
        };
        metric::BUNDLES_RECEIVED.add([("stream", self.stream), ("outcome", outcome)], 1);
    }
}

/// Bundles were deleted, to keep those of a stream at a bounded number.
pub struct BundlesPruned<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Their ids; none: nothing to report.
    pub bundles: &'a [String],
}

impl BundlesPruned<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        if self.bundles.is_empty() {
            return;
        }
        info!(
            stream = self.stream,
            bundles = self.bundles.join(", "),
            "the model folder has too many bundles: the oldest ones are deleted"
        );
        let deleted = self.bundles.len() as u64;
        metric::BUNDLES_PRUNED.add([("stream", self.stream)], deleted);
    }
}

/// Feedback made room for newer feedback: more is given than outlierd keeps.
pub struct FeedbackExpired<'a> {
    /// The feedback.
    pub feedback: &'a Feedback,
    /// Whether it is the first of its stream since the start.
    pub is_first: bool,
}

impl FeedbackExpired<'_> {
    /// Logs the first, and counts all.
    pub fn emit(&self) {
        let stream = self.feedback.stream.as_str();
        if self.is_first {
            warn!(
                stream,
                series = self.feedback.series,
                subject = self.feedback.subject(),
                at = %self.feedback.at,
                "too much feedback: the oldest is dropped, and not applied where it was not yet"
            );
        }
        metric::FEEDBACK_EXPIRED.add([("stream", stream)], 1);
    }
}

/// A message of a shared topic cannot be used.
pub struct MessageSkipped<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its key.
    pub key: &'a str,
    /// What is wrong with it.
    pub error: String,
}

impl MessageSkipped<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            topic = self.topic,
            key = self.key,
            error = self.error,
            "message skipped"
        );
        metric::MESSAGES_SKIPPED.add([("topic", self.topic)], 1);
    }
}

/// A message of a shared topic has no signature of a trusted key, and is ignored.
pub struct MessageRefused<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its key.
    pub key: &'a str,
    /// What is wrong with the signature.
    pub refusal: Refusal,
}

impl MessageRefused<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let reason = self.refusal.as_str();
        error!(
            topic = self.topic,
            key = self.key,
            reason,
            "message ignored: no signature of a key in share.trusted_keys"
        );
        metric::MESSAGES_REFUSED.add([("topic", self.topic), ("reason", reason)], 1);
    }
}

/// The topics of what is shared cannot be read or written for now.
pub struct SharingFailed<'a> {
    /// What failed.
    pub error: &'a dyn Failure,
}

impl SharingFailed<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            error = self.error.to_string(),
            domain = self.error.domain().as_str(),
            "bundle sync failed; keeping the live bundle and retrying"
        );
        metric::SHARING_FAILURES.add([], 1);
    }
}

/// Feedback failed again and again, and is not used for training.
pub struct FeedbackDropped<'a> {
    /// The feedback.
    pub feedback: &'a Feedback,
    /// The last error.
    pub error: &'a dyn Failure,
}

impl FeedbackDropped<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let stream = self.feedback.stream.as_str();
        error!(
            stream,
            series = self.feedback.series,
            subject = self.feedback.subject(),
            error = self.error.to_string(),
            domain = self.error.domain().as_str(),
            "feedback not used for training: it failed again and again"
        );
        metric::FEEDBACK_DROPPED.add([("stream", stream)], 1);
    }
}

/// Feedback has been applied.
pub struct FeedbackApplied<'a> {
    /// The feedback.
    pub feedback: &'a Feedback,
    /// The effect, in words.
    pub done: &'a str,
}

impl FeedbackApplied<'_> {
    /// Logs, counts and publishes.
    pub fn emit(&self, queue: &EventQueue) {
        let f = self.feedback;
        let stream = f.stream.as_str();
        let series = f.series.as_str();
        let label = f.label.as_str();
        info!(
            stream,
            series,
            subject = f.subject(),
            label,
            done = self.done,
            "feedback"
        );
        metric::FEEDBACK.add([("stream", stream), ("label", label)], 1);
        queue.put(
            stream,
            Event::FeedbackApplied {
                feedback: f.clone(),
                done: self.done.to_owned(),
            },
        );
    }
}
