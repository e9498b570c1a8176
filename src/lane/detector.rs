//! The alert of a stream whose detector is blind: published by the lane that owns partition 0, as
//! the self-test of its machine finds it.
//!
//! The self-test reports the detector's health repeatedly; what is open is a note of partition 0
//! that is committed with the alert. So none is lost or doubled, whatever is killed: the next owner
//! of the partition compares the two again.

use super::error::LaneError;
use super::notes::PartitionNotes;
use super::positions::PartitionPositions;
use crate::episode::{AlertFactory, SilenceEvent};
use crate::record::alert::{Alert, AlertEvent, AlertKind};
use crate::record::row::RecordContext;
use crate::retrain::engine::Sight;

/// The partition whose owner publishes it.
pub(super) const PARTITION: i32 = 0;
/// The key of the note with the open alert, as JSON.
const NOTE: &str = "detector_degraded";

/// As [`follow`], for a lane: only the owner of the partition publishes.
///
/// # Errors
/// As [`follow`].
pub(super) fn follow_as_owner(
    sight: &Sight,
    alerts: &AlertFactory,
    notes: &mut PartitionNotes,
    positions: &PartitionPositions,
) -> Result<Option<Alert>, LaneError> {
    match positions.owns(PARTITION) {
        true => follow(sight, alerts, notes),
        false => Ok(None),
    }
}

/// The event that makes what is published equal to what was found; `None` where it is.
///
/// # Errors
/// A note that cannot be encoded.
fn follow(
    sight: &Sight,
    alerts: &AlertFactory,
    notes: &mut PartitionNotes,
) -> Result<Option<Alert>, LaneError> {
    let open: Option<Alert> = notes
        .get::<String>(PARTITION, NOTE)
        .and_then(|json| serde_json::from_str(&json).ok());
    match (open, sight.degraded) {
        (None, true) => {
            let quiet = SilenceEvent {
                series: "*",
                last: sight.since,
                since: sight.since,
                of: sight.tested,
            };
            let shown_by = RecordContext {
                series: "*",
                time: sight.since,
                partition: PARTITION,
                bundle: &sight.bundle,
                ..RecordContext::default()
            };
            let alert = alerts.without_episode(AlertKind::DetectorDegraded, &quiet, shown_by, None);
            let json = serde_json::to_string(&alert).unwrap_or_default();
            notes.put(PARTITION, NOTE, &json)?;
            Ok(Some(alert))
        }
        (Some(mut alert), false) => {
            notes.remove(PARTITION, NOTE);
            (alert.sequence, alert.event) = (1, AlertEvent::Close);
            alert.time = sight.since.to_string();
            alert.closed_at = Some(alert.time.clone());
            alert.records = sight.tested as u64;
            alert.bundle.clone_from(&sight.bundle);
            Ok(Some(alert))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EventTime;
    use crate::test_stream::three_fields;

    #[test]
    fn it_is_published_once_however_often_it_is_said() {
        let stream = three_fields();
        let alerts = AlertFactory::new("s", "t", &stream.record.fields);
        let mut notes = PartitionNotes::default();
        let mut follow = |degraded, second: i64| {
            let sight = Sight {
                degraded,
                since: EventTime(second * 1_000_000),
                tested: 4,
                bundle: "b".into(),
            };
            super::follow(&sight, &alerts, &mut notes).unwrap()
        };
        assert_eq!(follow(false, 0), None);
        let open = follow(true, 1).unwrap();
        assert_eq!(
            (open.kind, open.event, open.records),
            (AlertKind::DetectorDegraded, AlertEvent::Open, 4)
        );
        assert_eq!(follow(true, 1), None);
        let close = follow(false, 60).unwrap();
        assert_eq!((&close.id, &close.opened_at), (&open.id, &open.opened_at));
        assert_eq!(close.closed_at.as_deref(), Some("1970-01-01T00:01:00Z"));
        assert_eq!(follow(false, 60), None);
        assert_ne!(follow(true, 90).unwrap().id, open.id, "another one");
    }
}
