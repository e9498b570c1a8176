//! Events of the state store.

use std::path::Path;

use tracing::{error, info};

use super::metric;
use crate::failure::Failure;

/// The state of a series could not be read; the series starts from a new state.
pub struct StateUnreadable<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The series.
    pub series: &'a str,
    /// Why.
    pub error: &'a dyn Failure,
}

impl StateUnreadable<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(
            stream = self.stream,
            series = self.series,
            error = self.error.to_string(),
            domain = self.error.domain().as_str(),
            "stored state of a series is unreadable: it restarts from the fleet's calibration"
        );
        metric::STATE_UNREADABLE.add([("stream", self.stream)], 1);
    }
}

/// Stored states were written again in the version that this process writes.
pub struct StatesReformatted<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Their partition.
    pub partition: i32,
    /// How many.
    pub states: usize,
    /// The version that they have now.
    pub version: u8,
}

impl StatesReformatted<'_> {
    /// Logs.
    pub fn emit(&self) {
        info!(
            stream = self.stream,
            partition = self.partition,
            states = self.states,
            version = self.version,
            "stored states of another format rewritten"
        );
    }
}

/// What a stored entry is that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum StoredEntry {
    /// A record kept for the first training.
    TrainingRecord,
    /// A run of normal traffic kept for retraining.
    NormalTraffic,
    /// A fault that an operator confirmed.
    ConfirmedFault,
}

/// A stored entry other than the state of a series could not be read.
pub struct StoredEntryIgnored<'a> {
    /// The stream.
    pub stream: &'a str,
    /// What it is.
    pub entry: StoredEntry,
    /// Its key.
    pub key: &'a str,
    /// Why.
    pub error: &'a dyn Failure,
}

impl StoredEntryIgnored<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let entry: &str = self.entry.into();
        error!(
            stream = self.stream,
            entry,
            key = self.key,
            error = %self.error,
            domain = self.error.domain().as_str(),
            "a stored entry is unreadable and ignored"
        );
        metric::STORED_ENTRIES_IGNORED.add([("stream", self.stream), ("entry", entry)], 1);
    }
}

/// What outlierd continues without.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum StoreAccess {
    /// Reading the stored position of a partition: the lane takes the group's.
    ReadPosition,
    /// Deleting the records of the first training.
    DeleteTrainingRecords,
    /// Storing the last normal traffic at a stop.
    StoreNormalTraffic,
}

/// The store refused an access that outlierd continues without.
pub struct StoreAccessFailed<'a> {
    /// The stream.
    pub stream: &'a str,
    /// What was tried.
    pub access: StoreAccess,
    /// Why.
    pub error: &'a dyn Failure,
}

impl StoreAccessFailed<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let access: &str = self.access.into();
        error!(
            stream = self.stream,
            access,
            error = %self.error,
            domain = self.error.domain().as_str(),
            "the state store failed: outlierd continues without this access"
        );
        metric::STORE_FAILURES.add([("stream", self.stream), ("access", access)], 1);
    }
}

/// A damaged state folder made way for an empty one.
pub struct StateSetAside<'a> {
    /// Where it was.
    pub folder: &'a Path,
    /// Where it is.
    pub aside: &'a Path,
}

impl StateSetAside<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        error!(folder = %self.folder.display(), kept_as = %self.aside.display(),
            "damaged state folder renamed: states are restored from the changelog; what is not in it (delivery = \
             \"at_least_once\", collected training records) is lost");
        metric::STATE_SET_ASIDE.add([], 1);
    }
}
