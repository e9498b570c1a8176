//! Alerts without an episode of records: missing data, and a degraded detector.

use super::EpisodePolicy;
use super::machine::EpisodeEvent;
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertEvent, AlertKind, Severity};
use crate::record::row::RecordContext;

/// What an alert without an episode is about: who is silent, or whose detector is degraded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SilenceEvent<'a> {
    /// Key of the series; of a gateway its name and `/*`.
    pub series: &'a str,
    /// Event time of the last record.
    pub last: EventTime,
    /// When it became overdue; of a gateway, when its last record came.
    pub since: EventTime,
    /// How many series, or partitions, it is about; 0 for one series.
    pub of: usize,
}

impl EpisodePolicy {
    /// The alert of `kind` for `event`: its opening, or its close at the time `back`. `shown_by` is
    /// the record that showed it; the id does not depend on which one that was.
    pub fn without_episode(
        &self,
        kind: AlertKind,
        event: &SilenceEvent<'_>,
        shown_by: RecordContext<'_>,
        back: Option<EventTime>,
    ) -> Alert {
        let published = EpisodeEvent {
            event: if back.is_some() {
                AlertEvent::Close
            } else {
                AlertEvent::Open
            },
            sequence: u32::from(back.is_some()),
            severity: if event.of > 0 {
                Severity::Critical
            } else {
                Severity::Warning
            },
            partition: shown_by.partition,
            // Of no record: the time of the last one stands for it in the id.
            offset: event.last.0,
            opened_at: event.since,
            records: event.of as u64,
            peak_ratio: 0.0,
        };
        let record = RecordContext {
            series: event.series,
            time: back.unwrap_or(event.since),
            ..shown_by
        };
        self.alert(&record, kind, &published)
    }
}
