//! What the store holds of an engine.

use crate::config::settings::StreamSettings;
use crate::events::store::{StoredEntry, StoredEntryIgnored};
use crate::retrain::plan::RetrainSchedule;
use crate::retrain::set::RecordRun;
use crate::state::{Store, StoreError, codec};

/// Notes of runs start so; partition and offset follow.
const RUN: &str = "run/";
/// The note of the plan.
pub(super) const PLAN: &str = "plan";

/// The note of a run.
pub(super) fn run_key(partition: i32, offset: i64) -> String {
    format!("{RUN}{partition}/{offset}")
}

/// The normal traffic that is kept; an unreadable run is logged and ignored, and so is one of other
/// fields.
pub(super) fn runs(
    store: &dyn Store,
    stream: &StreamSettings,
) -> Result<Vec<RecordRun>, StoreError> {
    let mut runs: Vec<RecordRun> = Vec::new();
    for (key, bytes) in store.notes(&stream.name, RUN)? {
        match codec::decode(&bytes) {
            Ok(run) => runs.push(run),
            Err(error) => StoredEntryIgnored {
                stream: &stream.name,
                entry: StoredEntry::NormalTraffic,
                key: &key,
                error: &error,
            }
            .emit(),
        }
    }
    let fields = stream.record.fields.len();
    runs.retain(|run| run.values.len() == run.times.len() * fields);
    Ok(runs)
}

/// The schedule; a new one if no readable one is stored.
pub(super) fn plan(
    store: &dyn Store,
    stream: &StreamSettings,
) -> Result<RetrainSchedule, StoreError> {
    let notes = store.notes(&stream.name, PLAN)?;
    let plan = notes.into_iter().find(|(key, _)| key == PLAN);
    Ok(plan
        .and_then(|(_, bytes)| codec::decode(&bytes).ok())
        .unwrap_or_default())
}
