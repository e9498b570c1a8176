//! Alerts without an episode of records: of their absence, and of a detector that is blind.

use super::{Plan, RecordRef};
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertEvent, AlertKind, InputPosition, Severity};

/// Who is silent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quiet<'a> {
    /// Key of the series; of a gateway its name and `/*`.
    pub series: &'a str,
    /// Event time of the last record.
    pub last: EventTime,
    /// When it became overdue; of a gateway, when its last record came.
    pub since: EventTime,
    /// How many series, or partitions, it is about; 0 for one series.
    pub of: usize,
}

impl Plan {
    /// The alert of a silence: its opening, or its end at the time `back`. `shown_by` is the record that showed it; the id
    /// does not depend on which one that was.
    pub fn silence(&self, quiet: &Quiet<'_>, shown_by: RecordRef<'_>, back: Option<EventTime>) -> Alert {
        self.without_episode(AlertKind::Silence, quiet, shown_by, back)
    }

    /// The alert of a detector that has gone blind, or sees again at the time `back`.
    pub fn blind(&self, quiet: &Quiet<'_>, shown_by: RecordRef<'_>, back: Option<EventTime>) -> Alert {
        self.without_episode(AlertKind::Blind, quiet, shown_by, back)
    }

    fn without_episode(
        &self,
        kind: AlertKind,
        quiet: &Quiet<'_>,
        shown_by: RecordRef<'_>,
        back: Option<EventTime>,
    ) -> Alert {
        let (partition, offset) = (shown_by.partition, shown_by.offset);
        Alert {
            id: self.id(quiet.series, kind, partition, quiet.last.0),
            sequence: u32::from(back.is_some()),
            event: if back.is_some() { AlertEvent::Close } else { AlertEvent::Open },
            kind,
            severity: if quiet.of > 0 { Severity::Critical } else { Severity::Warning },
            stream: self.stream.clone(),
            series: quiet.series.to_owned(),
            time: back.unwrap_or(quiet.since).to_string(),
            opened_at: quiet.since.to_string(),
            closed_at: back.map(|time| time.to_string()),
            records: quiet.of as u64,
            score: None,
            threshold: None,
            ratio: None,
            peak_ratio: None,
            fields: Vec::new(),
            faults: Vec::new(),
            bundle: shown_by.bundle.to_owned(),
            provisional: false,
            missing_records: 0,
            position: InputPosition { topic: self.topic.clone(), partition, offset },
        }
    }
}
