//! What a lane has done since its last commit, beside states, notes and positions.

use std::time::{Duration, Instant};

use crate::events::AlertPublished;
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertKind};
use crate::state::Learned;

/// See the module.
pub(super) struct Uncommitted {
    /// Alerts that were sent: they are published by the commit.
    /// Each with the arrival of the records that led to it.
    alerts: Vec<(Alert, Option<EventTime>)>,
    /// Learned records.
    learned: Vec<Learned>,
    /// Whether there is something to commit that should not wait: an alert, or feedback that was
    /// applied.
    urgent: bool,
    /// When the last commit began.
    since: Instant,
}

impl Uncommitted {
    pub(super) fn new() -> Self {
        Self {
            alerts: Vec::new(),
            learned: Vec::new(),
            urgent: false,
            since: Instant::now(),
        }
    }

    /// An alert was sent; `arrived` is when the records that led to it arrived, if any did.
    pub(super) fn alert(&mut self, alert: Alert, arrived: Option<EventTime>) {
        self.alerts.push((alert, arrived));
        self.urgent = true;
    }

    /// Whether an alert of missing data or of the detector was sent: what is known of it is in notes, and
    /// no record that runs again makes it again.
    pub(super) fn has_alert_of_notes(&self) -> bool {
        let is_of_notes = |alert: &Alert| {
            matches!(
                alert.kind,
                AlertKind::Silence | AlertKind::DetectorDegraded | AlertKind::UnusableRecords
            )
        };
        self.alerts.iter().any(|(alert, _)| is_of_notes(alert))
    }

    pub(super) fn learned(&mut self, record: Learned) {
        self.learned.push(record);
    }

    /// There is something that should not wait.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// How long ago the last commit began.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// A commit begins.
    pub(super) fn commit_begins(&mut self) {
        self.since = Instant::now();
        self.urgent = false;
    }

    pub(super) fn take_learned(&mut self) -> Vec<Learned> {
        std::mem::take(&mut self.learned)
    }

    /// The commit is done: what was sent is published, and only now it counts.
    pub(super) fn published(&mut self) {
        for (alert, arrived) in self.alerts.drain(..) {
            let micros = arrived.map(|arrived| EventTime::now().micros_since(arrived));
            let after = micros.and_then(|micros| micros.try_into().ok());
            let after = after.map(Duration::from_micros);
            let alert = &alert;
            AlertPublished { alert, after }.emit();
        }
    }

    /// The transaction was aborted: the alerts will never be published.
    pub(super) fn aborted(&mut self) {
        self.alerts.clear();
    }

    pub(super) fn drop_partition(&mut self, partition: i32) {
        self.learned.retain(|(of, _, _)| *of != partition);
    }
}
