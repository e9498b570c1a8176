//! Warming up: a stream that is new begins in its topic's history, learns from it, and publishes
//! nothing of it.

use super::error::LaneError;
use crate::config::settings::StreamSettings;
use crate::record::EventTime;
use crate::state::{Commit, Store, codec};

/// The note of when the stream was first started.
const STARTED: &str = "warm_up";

/// Begins to warm up, where that has not begun before. Returns when the stream was first started:
/// what arrived until then is not published. That is kept, so that a restart in the middle
/// continues to warm up.
///
/// # Errors
/// Where the store cannot be read or written.
pub(super) fn begin(store: &dyn Store, stream: &StreamSettings) -> Result<EventTime, LaneError> {
    if let Some(until) = begun(store, stream)? {
        return Ok(until);
    }
    let now = EventTime::now();
    let notes = vec![(STARTED.to_owned(), Some(codec::encode(&now)?))];
    store.commit(
        &stream.name,
        &Commit {
            notes,
            ..Commit::default()
        },
    )?;
    let span = humantime::format_duration(stream.input.warm_up).to_string();
    tracing::info!(stream = stream.name, span, until = %now, "warming up: training on history without publishing alerts");
    Ok(now)
}

/// When the stream was first started; `None` where it did not begin to warm up.
///
/// # Errors
/// Where the store cannot be read.
pub(super) fn begun(
    store: &dyn Store,
    stream: &StreamSettings,
) -> Result<Option<EventTime>, LaneError> {
    let note = store.notes(&stream.name, STARTED)?.pop();
    Ok(note.and_then(|(_, bytes)| codec::decode::<EventTime>(&bytes).ok()))
}
