//! Files that are there whole or not at all, even where the process or the machine dies in between.
//!
//! Contract: everything is written under a name that starts with [`TEMP_PREFIX`], synced, and then
//! renamed; whoever finds such a name finds the remains of a writer that died, or one still at
//! work.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// How names of unfinished files and folders start; never the start of a bundle's id or a stream's
/// name.
pub(super) const TEMP_PREFIX: &str = ".tmp-";
/// Longest file that is read, in bytes: a damaged or foreign file must not take all memory.
const READ_BYTES_MAX: u64 = 1 << 30;
/// Unfinished names beside one final name at most.
const TEMP_MAX: usize = 1000;

/// What the file system refused.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What came back.
    pub source: io::Error,
}

/// Turns an error of the file system into one that names the attempt and the path.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError {
        action,
        path,
        source,
    }
}

/// Reads a whole file of at most 1 GiB.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(READ_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(failed("read", path))?;
    if bytes.len() as u64 > READ_BYTES_MAX {
        let source = io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {READ_BYTES_MAX} bytes"),
        );
        return Err(failed("read", path)(source));
    }
    Ok(bytes)
}

/// Reads a whole file of at most 1 GiB; `None` where there is none.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match read(path) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Writes a new file and waits until its bytes are on the disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let open = OpenOptions::new().write(true).create_new(true).open(path);
    open.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(failed("write", path))
}

/// Makes a new folder.
pub(super) fn create_folder(path: &Path) -> Result<(), DiskError> {
    fs::create_dir(path).map_err(failed("create", path))
}

/// Makes a folder and those above it, where they are missing.
pub(super) fn create_folders(path: &Path) -> Result<(), DiskError> {
    fs::create_dir_all(path).map_err(failed("create", path))
}

/// Waits until the names in a folder are on the disk.
pub(super) fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync", folder))
}

/// Calls `make` with unfinished names for `name` in `folder` until one is free.
pub(super) fn with_temp(
    folder: &Path,
    name: &str,
    mut make: impl FnMut(&Path) -> Result<(), DiskError>,
) -> Result<PathBuf, DiskError> {
    for attempt in 0..TEMP_MAX {
        let path = folder.join(format!("{TEMP_PREFIX}{name}-{attempt}"));
        match make(&path) {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
    let source = io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("{TEMP_MAX} unfinished writes of {name}"),
    );
    Err(failed("write in", folder)(source))
}

/// Gives `folder/name` the content `bytes`, in place of what it had.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
    let temp = with_temp(folder, name, |path| write_synced(path, bytes))?;
    let path = folder.join(name);
    let renamed = fs::rename(&temp, &path);
    if renamed.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temp);
    }
    renamed.map_err(failed("replace", &path))?;
    sync_folder(folder)
}
