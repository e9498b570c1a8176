//! Alerts of a stream as a whole that follow a condition: the lane that owns partition 0 publishes them.
//! What is open is a note of that partition, committed with the alert. So none is lost or doubled,
//! whatever is killed: the next owner of the partition compares the two again.

use super::error::LaneError;
use super::notes::PartitionNotes;
use crate::episode::{AlertFactory, SilenceEvent};
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertEvent, AlertKind};
use crate::record::row::RecordContext;

/// The partition whose owner publishes them.
pub(super) const PARTITION: i32 = 0;

/// One such alert.
pub(super) struct StreamAlert {
    pub(super) kind: AlertKind,
    /// The key of the note with the open alert, as JSON.
    pub(super) note: &'static str,
}

impl StreamAlert {
    /// The alert that is open.
    pub(super) fn current(&self, notes: &PartitionNotes) -> Option<Alert> {
        let json = notes.get::<String>(PARTITION, self.note)?;
        serde_json::from_str(&json).ok()
    }

    /// Opens it at a time, of so many series, with the bundle that scores.
    ///
    /// # Errors
    /// A note that cannot be encoded.
    pub(super) fn open(
        &self,
        at: EventTime,
        of: usize,
        bundle: &str,
        alerts: &AlertFactory,
        notes: &mut PartitionNotes,
    ) -> Result<Alert, LaneError> {
        let quiet = SilenceEvent {
            series: "*",
            last: at,
            since: at,
            of,
        };
        let shown_by = RecordContext {
            series: "*",
            time: at,
            partition: PARTITION,
            bundle,
            ..RecordContext::default()
        };
        let alert = alerts.without_episode(self.kind, &quiet, shown_by, None);
        let json = serde_json::to_string(&alert).unwrap_or_default();
        notes.put(PARTITION, self.note, &json)?;
        Ok(alert)
    }

    /// Closes the open one at a time.
    pub(super) fn close(
        &self,
        mut alert: Alert,
        at: EventTime,
        notes: &mut PartitionNotes,
    ) -> Alert {
        notes.remove(PARTITION, self.note);
        (alert.sequence, alert.event) = (1, AlertEvent::Close);
        alert.time = at.to_string();
        alert.closed_at = Some(alert.time.clone());
        alert
    }
}
