//! The alerts of a stream: what all of them carry, their ids, and those without an episode of
//! records: missing data, and a degraded detector.

use super::machine::EpisodeEvent;
use crate::record::alert::{
    Alert, AlertEvent, AlertKind, FieldFault, FieldOutside, InputPosition, Severity,
};
use crate::record::format::FieldSettings;
use crate::record::row::{OutsideReading, RecordContext};
use crate::record::{EventTime, SensorFault};

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

/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;

/// Makes the alerts of one stream from what they are about.
#[derive(Clone, PartialEq, Debug)]
pub struct AlertFactory {
    stream: String,
    /// The input topic, or the name of a replayed file.
    topic: String,
    fields: Vec<FieldSettings>,
}

impl AlertFactory {
    /// Of the stream called `stream`, read from `topic` (a file's name for a replay).
    pub fn new(stream: &str, topic: &str, fields: &[FieldSettings]) -> Self {
        Self {
            stream: stream.to_owned(),
            topic: topic.to_owned(),
            fields: fields.to_vec(),
        }
    }

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
            place: event.last.0,
            opened_at: event.since,
            since: event.last,
            records: event.of as u64,
            peak_ratio: 0.0,
            incident: Some(self.incident(kind, "", event.since)),
        };
        let record = RecordContext {
            series: event.series,
            time: back.unwrap_or(event.since),
            ..shown_by
        };
        self.of_episode(&record, kind, &published)
    }

    pub(super) fn field_fault(&self, fault: &SensorFault) -> FieldFault {
        FieldFault {
            name: self.field_name(fault.field),
            unit: self.unit(fault.field),
            kind: fault.kind,
            value: fault.value,
            repeats: fault.repeats,
        }
    }

    pub(super) fn field_outside(&self, found: &OutsideReading) -> FieldOutside {
        FieldOutside {
            name: self.field_name(found.field),
            unit: self.unit(found.field),
            value: found.value,
            trained: found.trained,
        }
    }

    fn field_name(&self, field: usize) -> String {
        let name = self.fields.get(field).map(|field| field.name.clone());
        name.unwrap_or_else(|| format!("field {field}"))
    }

    fn unit(&self, field: usize) -> Option<String> {
        self.fields.get(field)?.unit.clone()
    }

    /// What the events of all kinds have in common.
    pub(super) fn of_episode(
        &self,
        record: &RecordContext<'_>,
        kind: AlertKind,
        published: &EpisodeEvent,
    ) -> Alert {
        Alert {
            id: self.id(record.series, kind, published.partition, published.place),
            sequence: published.sequence,
            event: published.event,
            kind,
            severity: published.severity,
            stream: self.stream.clone(),
            series: record.series.to_owned(),
            time: record.time.to_string(),
            summary: String::new(),
            opened_at: published.opened_at.to_string(),
            since: Some(published.since.to_string()),
            closed_at: (published.event == AlertEvent::Close).then(|| record.time.to_string()),
            records: published.records,
            score: None,
            threshold: None,
            ratio: None,
            peak_ratio: None,
            chart: None,
            close_reason: None,
            fields: Vec::new(),
            regions: Vec::new(),
            faults: Vec::new(),
            outside: Vec::new(),
            not_scored: false,
            incident: published.incident.map(incident_text),
            bundle: record.bundle.to_owned(),
            trained_on: record.trained_on,
            provisional: false,
            missing_records: 0,
            spans_gap: record.spans_gap,
            position: InputPosition {
                topic: self.topic.clone(),
                partition: record.partition,
                offset: record.offset,
            },
        }
    }

    /// The incident of an episode that opened at a time with that leading field: a hash of the stream,
    /// the kind, the field and the hour, so that instances need not know of each other's alerts.
    pub(super) fn incident(&self, kind: AlertKind, leading: &str, opened_at: EventTime) -> u64 {
        let hour = opened_at.0.div_euclid(HOUR).to_le_bytes();
        let parts = [
            self.stream.as_bytes(),
            kind.as_str().as_bytes(),
            leading.as_bytes(),
            &hour,
        ];
        let hash = hash_of(&parts);
        let first = hash.as_bytes().first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(first)
    }

    /// The first 32 hexadecimal digits of BLAKE3 over stream, series, kind, topic, partition and
    /// place of the record that opened it. Each part goes in behind its length in bytes (u64, little-endian, like the
    /// numbers), so that no two lists of parts are the same bytes.
    fn id(&self, series: &str, kind: AlertKind, partition: i32, place: i64) -> String {
        let partition = partition.to_le_bytes();
        let place = place.to_le_bytes();
        let parts: [&[u8]; 6] = [
            self.stream.as_bytes(),
            series.as_bytes(),
            kind.as_str().as_bytes(),
            self.topic.as_bytes(),
            &partition,
            &place,
        ];
        hash_of(&parts).to_hex().chars().take(32).collect()
    }
}

/// An incident as alerts name it.
pub(super) fn incident_text(incident: u64) -> String {
    format!("{incident:016x}")
}

/// BLAKE3 of parts, each behind its length.
fn hash_of(parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}
