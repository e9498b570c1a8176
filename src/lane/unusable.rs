//! The alert of a stream whose records cannot be used: published by the lane that owns partition 0, as
//! the lanes of its process find it; see [`super::stream_alert`] for what is open.

use std::time::Instant;

use super::error::LaneError;
use super::notes::PartitionNotes;
use super::positions::PartitionPositions;
use super::status::RejectionWatch;
use super::stream_alert::{PARTITION, StreamAlert};
use crate::episode::AlertFactory;
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertKind};

const UNUSABLE: StreamAlert = StreamAlert {
    kind: AlertKind::UnusableRecords,
    note: "unusable_records",
};

/// The event that makes what is published equal to what is seen at `now`; `None` where it is, or where
/// another lane publishes.
///
/// # Errors
/// A note that cannot be encoded.
pub(super) fn follow_as_owner(
    seen: &RejectionWatch,
    now: Instant,
    alerts: &AlertFactory,
    notes: &mut PartitionNotes,
    positions: &PartitionPositions,
) -> Result<Option<Alert>, LaneError> {
    if !positions.owns(PARTITION) {
        return Ok(None);
    }
    let why = seen.unusable(now);
    follow(why, seen.is_usable(), EventTime::now(), alerts, notes)
}

fn follow(
    why: Option<String>,
    is_usable: bool,
    at: EventTime,
    alerts: &AlertFactory,
    notes: &mut PartitionNotes,
) -> Result<Option<Alert>, LaneError> {
    Ok(match (UNUSABLE.current(notes), why) {
        (None, Some(why)) => {
            let mut alert = UNUSABLE.open(at, 1, "", alerts, notes)?.summarized();
            alert.summary = format!("{} ({why})", alert.summary);
            Some(alert)
        }
        (Some(open), None) if is_usable => Some(UNUSABLE.close(open, at, notes).summarized()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::alert::AlertEvent;
    use crate::test_stream::three_fields;

    #[test]
    fn it_opens_once_and_closes_with_the_first_usable_record() {
        let stream = three_fields();
        let alerts = AlertFactory::new("s", "t", &stream.record.fields);
        let mut notes = PartitionNotes::default();
        let mut follow = |why: Option<&str>, is_usable, second: i64| {
            let why = why.map(str::to_owned);
            let at = EventTime(second * 1_000_000);
            super::follow(why, is_usable, at, &alerts, &mut notes).unwrap()
        };
        assert_eq!(follow(None, true, 0), None);
        let open = follow(Some("`flow` is in no record"), false, 60).unwrap();
        assert_eq!(open.kind, AlertKind::UnusableRecords);
        assert!(
            open.summary.contains("`flow` is in no record"),
            "{}",
            open.summary
        );
        assert_eq!(follow(Some("`flow` is in no record"), false, 61), None);
        assert_eq!(
            follow(None, false, 62),
            None,
            "a process that has seen nothing yet"
        );
        let close = follow(None, true, 90).unwrap();
        assert_eq!((&close.id, close.event), (&open.id, AlertEvent::Close));
        assert!(
            close.summary.contains("can be used again"),
            "{}",
            close.summary
        );
        assert_eq!(follow(None, true, 91), None);
    }
}
