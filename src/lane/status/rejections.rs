//! Whether a stream gets records that it can use, and what it rejects: shared by its lanes.
//!
//! Dead letters and counters have every rejected record. Here is what a person must see: one log line
//! a minute at most, and, where no record has been usable for a minute, a reason in `/readyz` and
//! `/status`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::config::settings::StreamSettings;
use crate::events::lane::RecordsRejected;
use crate::pipeline::BatchOutput;
use crate::record::Message;
use crate::record::rejections::Rejections;

/// Time between two reports, and time without a usable record after which the stream is not ready.
const PERIOD: Duration = Duration::from_secs(60);
/// Names of a record that a reason lists at most.
const NAMES_MAX: usize = 10;

/// See the module.
#[derive(Default)]
pub struct RejectionWatch(Mutex<Watch>);

#[derive(Default)]
struct Watch {
    /// Since the last report.
    pending: Rejections,
    reported: Option<Instant>,
    /// The records since one was usable; `None` where the newest one was.
    unusable: Option<Unusable>,
    /// Whether one was usable since the start.
    has_usable: bool,
}

struct Unusable {
    since: Instant,
    records: usize,
    reason: String,
}

impl RejectionWatch {
    /// Takes a batch that went through the pipeline at `now`. A record is usable if it was not rejected
    /// and one of its readings is a number.
    pub(in crate::lane) fn observe(
        &self,
        stream: &StreamSettings,
        messages: &[Message<'_>],
        done: &BatchOutput,
        now: Instant,
    ) {
        let mut watch = self.lock();
        watch
            .pending
            .add(done.counts.records as usize, &done.rejected);
        let is_number = |(_, values): (_, &[f64])| values.iter().any(|value| value.is_finite());
        if done.readings().any(is_number) {
            (watch.unusable, watch.has_usable) = (None, true);
        } else if let Some(newest) = messages.last() {
            let rejected = done.rejected.last();
            let reason = rejected.map_or_else(|| no_field(stream, newest), |it| it.detail.clone());
            let before = watch.unusable.take();
            let (since, records) = before.map_or((now, 0), |it| (it.since, it.records));
            watch.unusable = Some(Unusable {
                since,
                records: records + messages.len(),
                reason,
            });
        }
        let is_due = |at: Instant| now.saturating_duration_since(at) >= PERIOD;
        if watch.pending.count() > 0 && watch.reported.is_none_or(is_due) {
            watch.reported = Some(now);
            let rejections = std::mem::take(&mut watch.pending);
            let dead_letters = &stream.output.dead_letters;
            RecordsRejected {
                stream: &stream.name,
                rejections: &rejections,
                dead_letters,
            }
            .emit();
        }
    }

    /// Why no record of the last minute, and of the time since the last usable one, could be used;
    /// `None` where one could, or none came.
    pub fn unusable(&self, now: Instant) -> Option<String> {
        let watch = self.lock();
        let unusable = watch.unusable.as_ref()?;
        let since = now.saturating_duration_since(unusable.since);
        (since >= PERIOD).then(|| {
            format!(
                "none of the {} records of the last {} s could be used: {}",
                unusable.records,
                since.as_secs(),
                unusable.reason
            )
        })
    }

    /// Whether the newest records could be used; after a start no record may have come yet.
    pub fn is_usable(&self) -> bool {
        let watch = self.lock();
        watch.has_usable && watch.unusable.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a record has that has none of the fields.
fn no_field(stream: &StreamSettings, message: &Message<'_>) -> String {
    let named = |names: Vec<&str>| {
        let shown = names.iter().take(NAMES_MAX).map(|name| format!("`{name}`"));
        let more = if names.len() > NAMES_MAX { ", ..." } else { "" };
        shown.collect::<Vec<_>>().join(", ") + more
    };
    let fields = named(
        stream
            .record
            .fields
            .iter()
            .map(|field| &*field.name)
            .collect(),
    );
    let object = message
        .payload
        .and_then(|json| serde_json::from_slice(json).ok());
    let found = match &object {
        Some(Value::Object(object)) => {
            format!(
                "; it has {}",
                named(object.keys().map(String::as_str).collect())
            )
        }
        _ => String::new(),
    };
    format!("the newest one has no number in any of the fields {fields}{found}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Pipeline;
    use crate::pipeline::series::SeriesTable;
    use crate::test_stream::three_fields;

    #[test]
    fn a_stream_without_a_usable_record_says_why() {
        let stream = std::sync::Arc::new(three_fields());
        let mut pipeline = Pipeline::new(stream.clone(), None).expect("a pipeline");
        let mut table = SeriesTable::new(10);
        let watch = RejectionWatch::default();
        let begin = Instant::now();
        let mut at = |second: u64, payload: &str| {
            let now = begin + Duration::from_secs(second);
            let message = Message {
                key: Some(b"m"),
                payload: Some(payload.as_bytes()),
                timestamp: Some(crate::record::EventTime::from_millis(second as i64 * 1_000)),
                ..Message::default()
            };
            let mut load = |_: i32, _: &str| Ok(None);
            let done = pipeline
                .run(&[message], &mut table, &mut load)
                .expect("it runs");
            watch.observe(&stream, &[message], &done, now);
            watch.unusable(now)
        };
        let names: Vec<_> = three_fields()
            .record
            .fields
            .iter()
            .map(|field| field.name.clone())
            .collect();
        assert_eq!(at(1, "[]"), None);
        assert_eq!(at(60, "[]"), None, "less than a minute");
        let reason = at(61, "[]").expect("a minute");
        let expected = "none of the 3 records of the last 60 s could be used: found an array";
        assert!(reason.starts_with(expected), "{reason}");
        let reason = at(100, r#"{"Flow":1,"Temp":2}"#).expect("no field");
        assert!(reason.contains("it has `Flow`, `Temp`"), "{reason}");
        assert!(
            reason.contains(&format!("fields `{}`", names[0])),
            "{reason}"
        );
        let usable = format!("{{\"{}\":1.5}}", names[0]);
        assert_eq!(at(101, &usable), None);
        assert_eq!(at(102, "[]"), None, "the minute begins again");
        let watch = watch.lock();
        assert_eq!(watch.reported, Some(begin + Duration::from_secs(61)));
        assert_eq!(watch.pending.count(), 1, "since the report");
    }
}
