//! Events of the alert destinations beside Kafka.

use tracing::{error, info, warn};

use super::metric;
use crate::failure::Failure;

/// A destination took alerts.
pub struct AlertsDelivered<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The destination.
    pub destination: &'a str,
    /// How many.
    pub alerts: usize,
}

impl AlertsDelivered<'_> {
    /// Counts.
    pub fn emit(&self) {
        let labels = [("stream", self.stream), ("destination", self.destination)];
        metric::DESTINATION_ALERTS.add(labels, self.alerts as u64);
    }
}

/// An attempt to read or deliver alerts failed.
pub struct DestinationFailed<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The destination.
    pub destination: &'a str,
    /// Why.
    pub error: &'a dyn Failure,
    /// Whether the attempt before succeeded, or failed for another reason.
    pub is_new: bool,
}

impl DestinationFailed<'_> {
    /// Counts, sets the gauge, and logs a new reason.
    pub fn emit(&self) {
        if self.is_new {
            warn!(
                stream = self.stream,
                destination = self.destination,
                error = self.error.to_string(),
                domain = self.error.domain().as_str(),
                "alerts not delivered: retrying from the committed position"
            );
        }
        let labels = [("stream", self.stream), ("destination", self.destination)];
        metric::DESTINATION_FAILURES.add(labels, 1);
        metric::DESTINATION_FAILING.set_flag(labels, true);
    }
}

/// A destination takes alerts again.
pub struct DestinationRecovered<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The destination.
    pub destination: &'a str,
}

impl DestinationRecovered<'_> {
    /// Logs and sets the gauge.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            destination = self.destination,
            "alerts delivered again"
        );
        let labels = [("stream", self.stream), ("destination", self.destination)];
        metric::DESTINATION_FAILING.set_flag(labels, false);
    }
}

/// A message of an alerts topic is not an alert.
pub struct AlertSkipped<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Where it is.
    pub partition: i32,
    /// Where it is.
    pub offset: i64,
    /// Why it is none.
    pub reason: &'a str,
}

impl AlertSkipped<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(
            topic = self.topic,
            partition = self.partition,
            offset = self.offset,
            reason = self.reason,
            "a message of the alerts topic is not an alert: not delivered; does another program write to this topic?"
        );
        metric::DESTINATION_SKIPPED.add([("topic", self.topic)], 1);
    }
}
