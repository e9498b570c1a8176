//! What outlierd must not lose: the state of every series, the input positions, and the training
//! records collected so far.
//!
//! [`Store`] is the contract. The state of a series and the position of its partition are written
//! as ONE batch, so that a stored state always belongs to the stored position: after a crash the
//! input is read again from there, and the series continue as if nothing had happened. The lane is
//! the only writer of its partitions.

pub mod changelog;
pub mod codec;
pub mod memory;
pub mod release;
pub mod sled;
pub mod transfer;

use std::path::PathBuf;

use crate::failure::{Domain, Failure, FailureClass};

/// A record kept for the first training: partition, offset, and its encoded readings.
pub type Learned = (i32, i64, Vec<u8>);

/// A change of a series: partition, series, and its encoded state; `None` forgets the series.
pub type StateChange = (i32, String, Option<Vec<u8>>);

/// One atomic write: what a commit of one stream changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Partition and the offset of the next record to read from it.
    pub positions: Vec<(i32, i64)>,
    /// In the order of the changes.
    pub states: Vec<StateChange>,
    /// Records collected for the first training: partition, offset and their bytes.
    pub learned: Vec<Learned>,
    /// Partition and the offset in the changelog up to which its states are stored.
    pub changelog: Vec<(i32, i64)>,
    /// Notes of the retraining, by key; `None` removes one.
    pub notes: Vec<(String, Option<Vec<u8>>)>,
}

/// Durable, atomic storage of the states of all streams.
pub trait Store: Send + Sync {
    /// The offset of the next record to read from a partition; `None` where nothing was ever
    /// committed.
    fn position(&self, stream: &str, partition: i32) -> Result<Option<i64>, StoreError>;

    /// The offset in the changelog up to which the states of a partition are stored; `None` where
    /// none was ever written.
    fn changelog(&self, stream: &str, partition: i32) -> Result<Option<i64>, StoreError>;

    /// A name of this store, made up once and kept: what the transactions of its lanes are named
    /// after.
    fn instance(&self) -> Result<String, StoreError>;

    /// The encoded state of a series.
    fn state(
        &self,
        stream: &str,
        partition: i32,
        series: &str,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// All series of a partition, in the order of their names.
    fn series(&self, stream: &str, partition: i32) -> Result<Vec<String>, StoreError>;

    /// How many series a partition has.
    fn count(&self, stream: &str, partition: i32) -> Result<usize, StoreError>;

    /// The next series of a partition and their encoded states, at most `limit`, in the order of
    /// their names: those behind the name `after`, or the first ones.
    fn states(
        &self,
        stream: &str,
        partition: i32,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// All stored positions of a stream, in the order of the partitions.
    fn positions(&self, stream: &str) -> Result<Vec<(i32, i64)>, StoreError>;

    /// The names of the streams that have something stored, sorted.
    fn streams(&self) -> Result<Vec<String>, StoreError>;

    /// The records kept for the first training, by partition and offset.
    fn learned(&self, stream: &str) -> Result<Vec<Learned>, StoreError>;

    /// The notes whose keys start with `prefix`, in the order of the keys.
    fn notes(&self, stream: &str, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Forgets the records kept for the first training.
    fn clear_learned(&self, stream: &str) -> Result<(), StoreError>;

    /// Deletes all data of a stream: states, positions, training records and notes.
    fn clear(&self, stream: &str) -> Result<(), StoreError>;

    /// How many bytes it takes on disk; `None` where it takes none, or that is not known.
    fn bytes_on_disk(&self) -> Option<u64> {
        None
    }

    /// Writes states ahead of the commit that they belong to, bit by bit and not durably. Only for
    /// states that the changelog has: a crash before the commit leaves some of them newer than the
    /// stored position.
    fn stage(&self, stream: &str, states: &[StateChange]) -> Result<(), StoreError>;

    /// Writes all of a commit or nothing, durably: after it returns, a power cut loses none of it.
    fn commit(&self, stream: &str, commit: &Commit) -> Result<(), StoreError>;
}

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the state folder {} is in use by another outlierd: stop that one, or set another `service.state_dir`", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be used.
    #[error("the state folder {} cannot be opened: {source}; check that it exists, is writable and has free space", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// The error of the file system or of sled.
        source: std::io::Error,
    },
    /// The folder holds something unreadable.
    #[error("the state folder {} is damaged: {detail}", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// sled's error.
        detail: String,
    },
    /// Another release wrote entries of a stream.
    #[error(
        "the state folder has an entry {key} of stream {stream} that this outlierd does not read: {source}"
    )]
    AnotherRelease {
        /// The stream.
        stream: String,
        /// The key of the note, or what it is.
        key: String,
        /// Its version.
        source: codec::CodecError,
    },
    /// A read or write failed.
    #[error("the state of stream {stream} could not be {action}: {detail}")]
    Access {
        /// The stream.
        stream: String,
        /// `read` or `written`.
        action: &'static str,
        /// Who has to act: a full disk, for one, is not outlierd's.
        domain: Domain,
        /// sled's error.
        detail: String,
    },
}

impl Failure for StoreError {
    fn class(&self) -> FailureClass {
        match self {
            // The other process may end.
            Self::Locked { .. } => FailureClass::USER.retryable(),
            // The message names what somebody has to change before.
            Self::Open { source, .. } => FailureClass::lasting(source.domain()),
            Self::Damaged { .. } => FailureClass::EXTERNAL,
            Self::AnotherRelease { source, .. } => source.class(),
            // An open store that failed once refuses all further access.
            Self::Access { domain, .. } => FailureClass::lasting(*domain),
        }
    }
}
