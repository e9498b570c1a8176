//! The alert of a stream whose detector is blind: published by the lane that owns partition 0, as
//! the self-test of its machine finds it.
//!
//! The self-test reports the detector's health repeatedly; see [`super::stream_alert`] for what is open.

use super::error::LaneError;
use super::notes::PartitionNotes;
use super::positions::PartitionPositions;
use super::stream_alert::{PARTITION, StreamAlert};
use crate::episode::AlertFactory;
use crate::record::alert::{Alert, AlertKind};
use crate::retrain::engine::Sight;

const DEGRADED: StreamAlert = StreamAlert {
    kind: AlertKind::DetectorDegraded,
    note: "detector_degraded",
};

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
    let (at, tested, bundle) = (sight.since, sight.tested, &sight.bundle);
    Ok(match (DEGRADED.current(notes), sight.degraded) {
        (None, true) => Some(DEGRADED.open(at, tested, bundle, alerts, notes)?),
        (Some(open), false) => {
            let mut alert = DEGRADED.close(open, at, notes);
            alert.records = tested as u64;
            alert.bundle.clone_from(bundle);
            Some(alert)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EventTime;
    use crate::record::alert::AlertEvent;
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
