//! The [`Store`] on sled: one database a process, one tree a stream.
//!
//! `sled/keys.rs` defines the keys: one tree a stream, so that one sled batch is one commit.
//! Nothing else of the crate names sled.

mod keys;

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::keys::{
    CHANGELOG, LEARNED, POSITION, STATE, learned_key, note_key, partition_key, state_key, tail,
};
use super::{Commit, Learned, StateChange, Store, StoreError};
use crate::failure::{Domain, Failure as _};

/// Pages that sled keeps in memory (its default is 1 GiB): series that are in use are in the lanes'
/// memory already.
const CACHE_BYTES: u64 = 2 << 20;
/// Name of a stream's tree.
const TREE: &str = "stream:";
/// Key of the store's own name, in the database's default tree.
const INSTANCE: &[u8] = b"instance";
/// How long the lock is waited for: a process that is on its way out, and sled's own threads, hold
/// it a little longer.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// States on disk.
pub struct SledStore {
    db: sled::Db,
}

/// An opened store, and whether a damaged one had to make way for it.
pub struct Opened {
    /// The store.
    pub store: SledStore,
    /// Where the damaged folder went.
    pub set_aside: Option<PathBuf>,
}

impl SledStore {
    /// Opens the database in a folder, made where it is missing.
    ///
    /// A folder that sled cannot read is renamed to `<folder>.damaged-<n>` and an empty one takes
    /// its place: the daemon must come up again, and the operator must see a warning.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process has it open, [`StoreError::Open`] where the
    /// file system refuses.
    pub fn open(folder: &Path) -> Result<Opened, StoreError> {
        match Self::open_as_it_is(folder) {
            Ok(store) => Ok(Opened {
                store,
                set_aside: None,
            }),
            Err(StoreError::Damaged { .. }) => {
                let aside = set_aside(folder).map_err(|source| StoreError::Open {
                    path: folder.into(),
                    source,
                })?;
                Ok(Opened {
                    store: Self::open_as_it_is(folder)?,
                    set_aside: Some(aside),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the database, and leaves a damaged one where it is.
    ///
    /// # Errors
    /// As [`SledStore::open`], and [`StoreError::Damaged`].
    pub fn open_as_it_is(folder: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(|source| StoreError::Open {
            path: folder.into(),
            source,
        })?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match Self::try_open(folder) {
                Err(error) if error.is_retryable() && Instant::now() < deadline => {
                    std::thread::sleep(LOCK_RETRY)
                }
                done => return done,
            }
        }
    }

    fn try_open(folder: &Path) -> Result<Self, StoreError> {
        // sled answers a damaged header by a panic in places: it must not take the daemon with it.
        let opened = std::panic::catch_unwind(|| {
            sled::Config::new()
                .path(folder)
                .cache_capacity(CACHE_BYTES)
                .open()
        });
        let damaged = |detail: String| StoreError::Damaged {
            path: folder.into(),
            detail,
        };
        match opened {
            Ok(Ok(db)) => Ok(Self { db }),
            Ok(Err(sled::Error::Io(error))) if is_lock(&error) => Err(StoreError::Locked {
                path: folder.into(),
            }),
            Ok(Err(sled::Error::Io(source))) if is_refusal(&source) => Err(StoreError::Open {
                path: folder.into(),
                source,
            }),
            Ok(Err(error)) => Err(damaged(error.to_string())),
            Err(_) => Err(damaged("sled panicked while reading it".into())),
        }
    }

    fn tree(&self, stream: &str) -> Result<sled::Tree, StoreError> {
        self.db
            .open_tree(format!("{TREE}{stream}"))
            .map_err(|error| access(stream, "read", &error))
    }

    fn clear_prefix(&self, stream: &str, prefix: &[u8]) -> Result<(), StoreError> {
        let tree = self.tree(stream)?;
        let mut batch = sled::Batch::default();
        for key in tree.scan_prefix(prefix).keys() {
            batch.remove(key.map_err(|error| access(stream, "read", &error))?);
        }
        tree.apply_batch(batch)
            .map_err(|error| access(stream, "written", &error))?;
        tree.flush()
            .map_err(|error| access(stream, "written", &error))?;
        Ok(())
    }
}

/// sled reports the held lock of another process as an `Other` error in words.
fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.to_string().contains("could not acquire lock")
}

/// Whether the file system failed, rather than the content being invalid.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{
        NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull,
    };
    matches!(
        error.kind(),
        PermissionDenied | StorageFull | ReadOnlyFilesystem | NotFound | NotADirectory
    )
}

fn set_aside(folder: &Path) -> io::Result<PathBuf> {
    let name = folder
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let free = (1..=u32::MAX)
        .map(|n| folder.with_file_name(format!("{name}.damaged-{n}")))
        .find(|p| !p.exists());
    let aside = free.ok_or_else(|| io::Error::other("no free name to set it aside"))?;
    fs::rename(folder, &aside)?;
    Ok(aside)
}

fn access(stream: &str, action: &'static str, error: &sled::Error) -> StoreError {
    StoreError::Access {
        stream: stream.into(),
        action,
        domain: domain(error),
        detail: error.to_string(),
    }
}

/// Who has to act on an error of an open database.
fn domain(error: &sled::Error) -> Domain {
    match error {
        sled::Error::Io(error) => error.domain(),
        sled::Error::Corruption { .. } => Domain::External,
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_) => Domain::Internal,
    }
}

fn add_state(batch: &mut sled::Batch, partition: i32, series: &str, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => batch.insert(state_key(partition, series), bytes),
        None => batch.remove(state_key(partition, series)),
    }
}

impl Store for SledStore {
    fn bytes_on_disk(&self) -> Option<u64> {
        self.db.size_on_disk().ok()
    }

    fn position(&self, stream: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        let found = self.tree(stream)?.get(partition_key(POSITION, partition));
        let found = found.map_err(|error| access(stream, "read", &error))?;
        Ok(found.and_then(|bytes| tail(&bytes)).map(i64::from_be_bytes))
    }

    fn changelog(&self, stream: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        let found = self.tree(stream)?.get(partition_key(CHANGELOG, partition));
        let found = found.map_err(|error| access(stream, "read", &error))?;
        Ok(found.and_then(|bytes| tail(&bytes)).map(i64::from_be_bytes))
    }

    fn instance(&self) -> Result<String, StoreError> {
        let made_up = format!("{:016x}", rand::random::<u64>());
        let failed = |error| access("-", "written", &error);
        let kept = self
            .db
            .compare_and_swap(INSTANCE, None::<&[u8]>, Some(made_up.as_bytes()))
            .map_err(failed)?;
        self.db.flush().map_err(failed)?;
        let before = kept.err().and_then(|refused| refused.current);
        Ok(before.map_or(made_up, |name| String::from_utf8_lossy(&name).into_owned()))
    }

    fn state(
        &self,
        stream: &str,
        partition: i32,
        series: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.tree(stream)?.get(state_key(partition, series));
        Ok(found
            .map_err(|error| access(stream, "read", &error))?
            .map(|bytes| bytes.to_vec()))
    }

    fn series(&self, stream: &str, partition: i32) -> Result<Vec<String>, StoreError> {
        let prefix = partition_key(STATE, partition);
        let mut names = Vec::new();
        for key in self.tree(stream)?.scan_prefix(&prefix).keys() {
            let key = key.map_err(|error| access(stream, "read", &error))?;
            names.push(String::from_utf8_lossy(&key[prefix.len()..]).into_owned());
        }
        Ok(names)
    }

    fn count(&self, stream: &str, partition: i32) -> Result<usize, StoreError> {
        let mut count = 0;
        for key in self
            .tree(stream)?
            .scan_prefix(partition_key(STATE, partition))
            .keys()
        {
            key.map_err(|error| access(stream, "read", &error))?;
            count += 1;
        }
        Ok(count)
    }

    fn states(
        &self,
        stream: &str,
        partition: i32,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let prefix = partition_key(STATE, partition);
        let start = after.map_or(Bound::Included(prefix.clone()), |name| {
            Bound::Excluded(state_key(partition, name))
        });
        let mut states = Vec::new();
        for entry in self
            .tree(stream)?
            .range((start, Bound::Unbounded))
            .take(limit)
        {
            let (key, value) = entry.map_err(|error| access(stream, "read", &error))?;
            let Some(name) = key.strip_prefix(prefix.as_slice()) else {
                break;
            };
            states.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        }
        Ok(states)
    }

    fn positions(&self, stream: &str) -> Result<Vec<(i32, i64)>, StoreError> {
        let mut positions = Vec::new();
        for entry in self.tree(stream)?.scan_prefix([POSITION]) {
            let (key, value) = entry.map_err(|error| access(stream, "read", &error))?;
            if let (Some(partition), Some(offset)) = (tail(&key), tail(&value)) {
                positions.push((i32::from_be_bytes(partition), i64::from_be_bytes(offset)));
            }
        }
        Ok(positions)
    }

    fn streams(&self) -> Result<Vec<String>, StoreError> {
        let names = self.db.tree_names();
        let mut streams: Vec<String> = names
            .iter()
            .filter_map(|name| {
                std::str::from_utf8(name)
                    .ok()?
                    .strip_prefix(TREE)
                    .map(str::to_owned)
            })
            .collect();
        streams.sort();
        Ok(streams)
    }

    fn learned(&self, stream: &str) -> Result<Vec<Learned>, StoreError> {
        let mut learned = Vec::new();
        for entry in self.tree(stream)?.scan_prefix([LEARNED]) {
            let (key, value) = entry.map_err(|error| access(stream, "read", &error))?;
            if let (Some(offset), Some(partition)) = (tail(&key), key.get(1..5).and_then(tail)) {
                learned.push((
                    i32::from_be_bytes(partition),
                    i64::from_be_bytes(offset),
                    value.to_vec(),
                ));
            }
        }
        Ok(learned)
    }

    fn notes(&self, stream: &str, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut notes = Vec::new();
        for entry in self.tree(stream)?.scan_prefix(note_key(prefix)) {
            let (key, value) = entry.map_err(|error| access(stream, "read", &error))?;
            notes.push((
                String::from_utf8_lossy(&key[1..]).into_owned(),
                value.to_vec(),
            ));
        }
        Ok(notes)
    }

    fn clear_learned(&self, stream: &str) -> Result<(), StoreError> {
        self.clear_prefix(stream, &[LEARNED])
    }

    fn clear(&self, stream: &str) -> Result<(), StoreError> {
        self.db
            .drop_tree(format!("{TREE}{stream}"))
            .map_err(|error| access(stream, "written", &error))?;
        self.db
            .flush()
            .map_err(|error| access(stream, "written", &error))?;
        Ok(())
    }

    fn stage(&self, stream: &str, states: &[StateChange]) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (partition, series, bytes) in states {
            add_state(&mut batch, *partition, series, bytes.as_deref());
        }
        self.tree(stream)?
            .apply_batch(batch)
            .map_err(|error| access(stream, "written", &error))
    }

    fn commit(&self, stream: &str, commit: &Commit) -> Result<(), StoreError> {
        let tree = self.tree(stream)?;
        let mut batch = sled::Batch::default();
        for (partition, offset) in &commit.positions {
            batch.insert(partition_key(POSITION, *partition), &offset.to_be_bytes());
        }
        for (partition, offset) in &commit.changelog {
            batch.insert(partition_key(CHANGELOG, *partition), &offset.to_be_bytes());
        }
        for (partition, series, bytes) in &commit.states {
            add_state(&mut batch, *partition, series, bytes.as_deref());
        }
        for (partition, offset, bytes) in &commit.learned {
            batch.insert(learned_key(*partition, *offset), bytes.as_slice());
        }
        for (key, bytes) in &commit.notes {
            match bytes {
                Some(bytes) => batch.insert(note_key(key), bytes.as_slice()),
                None => batch.remove(note_key(key)),
            }
        }
        tree.apply_batch(batch)
            .map_err(|error| access(stream, "written", &error))?;
        tree.flush()
            .map_err(|error| access(stream, "written", &error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
