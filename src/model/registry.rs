//! The registry: the bundles of all streams under one folder, and which of them is live.
//!
//! Contract: `<root>/<stream>/<id>/` are bundles, `<root>/<stream>/current` holds the id of the
//! live one and is replaced by a rename, so that a reader sees the old id or the new one;
//! `history.jsonl` tells each time that another one went live, `pinned` holds the live one fast,
//! and `excluded_ranges.json` names what no bundle should be trained on. Of the bundles, [`prune`]
//! keeps a bounded number.

mod excluded_ranges;
mod flags;
mod history;
mod prune;
mod transfer;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use thiserror::Error;

pub use self::excluded_ranges::{ExcludedRanges, learned_from};
pub use self::flags::OperatorFlags;
pub use self::history::{AUTOMATIC_ROLLBACK, LiveHistory, WentLive};
pub use self::prune::{YEAR, prune};
pub use self::transfer::BundleFiles;
use super::bundle::{Bundle, BundleError};
use super::disk::{self, DiskError, TEMP_PREFIX, failed};
use super::manifest::{ID_DIGITS, Manifest, ManifestError, check_stream};

/// The file that names the live bundle.
const CURRENT: &str = "current";
/// Unfinished writes older than this are those of a dead writer: a living one needs seconds.
const TEMP_AGE_MAX: Duration = Duration::from_secs(600);

/// The bundles of all streams.
#[derive(Clone, Debug)]
pub struct Registry {
    root: PathBuf,
}

/// A bundle as it is listed.
#[derive(Debug)]
pub struct ManifestSummary {
    /// Its id: the name of its folder.
    pub id: String,
    /// Whether it is the live one.
    pub current: bool,
    /// Its manifest, or why that cannot be read.
    pub manifest: Result<Manifest, BundleError>,
}

/// Why the registry could not do what was asked.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The file system said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A name that no stream has.
    #[error(transparent)]
    Stream(#[from] ManifestError),
    /// No bundle has this id.
    #[error(
        "stream {stream} has no bundle with the id prefix {prefix:?}: `outlierd model list` lists its bundles, `outlierd model promote` makes one of them live"
    )]
    Unknown {
        /// The stream.
        stream: String,
        /// The id or start of one.
        prefix: String,
    },
    /// Several bundles have ids that start so.
    #[error("{prefix:?} is a prefix of several ids of stream {stream}: {}; give more digits", .ids.join(", "))]
    Ambiguous {
        /// The stream.
        stream: String,
        /// The start that was given.
        prefix: String,
        /// The ids that match.
        ids: Vec<String>,
    },
    /// The file `current` does not hold an id.
    #[error("{} contains {found:?}, which is not a bundle id: promote a bundle to rewrite it", .path.display())]
    Current {
        /// The file.
        path: PathBuf,
        /// Its start.
        found: String,
    },
    /// A file beside the bundles that cannot be read.
    #[error("{} is unreadable: {problem}; restore it from a copy, or remove it", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A bundle that is not the one that its folder names.
    #[error("{} contains bundle {found}: rename the folder to that id, or copy the bundle again", .path.display())]
    Misplaced {
        /// The folder.
        path: PathBuf,
        /// The id of the bundle in it.
        found: String,
    },
    /// The bundle itself.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl Registry {
    /// Opens the registry in `model_dir`, which is created where it is missing, and removes what
    /// dead writers left behind.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(model_dir: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let registry = Self {
            root: model_dir.into(),
        };
        disk::create_folders(&registry.root)?;
        for stream in names(&registry.root)? {
            let folder = registry.root.join(stream);
            if folder.is_dir() {
                clean(&folder)?;
            }
        }
        Ok(registry)
    }

    /// The folder of all bundles, the `dir` of [`Bundle::save`].
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bundles of a stream, oldest first, those without a readable manifest before them; none
    /// for an unknown stream.
    ///
    /// # Errors
    /// A bad stream name or the file system's; a damaged bundle is listed with its error.
    pub fn list(&self, stream: &str) -> Result<Vec<ManifestSummary>, RegistryError> {
        let folder = self.folder(stream)?;
        // A damaged `current` must not hide the bundles that could replace it.
        let current = self.current(stream).unwrap_or(None);
        let mut bundles: Vec<ManifestSummary> = self
            .ids(stream)?
            .into_iter()
            .map(|id| ManifestSummary {
                current: current.as_deref() == Some(id.as_str()),
                manifest: Bundle::load_manifest(&folder.join(&id)),
                id,
            })
            .collect();
        bundles.sort_by_cached_key(|bundle| {
            (
                bundle
                    .manifest
                    .as_ref()
                    .ok()
                    .map(|manifest| manifest.created),
                bundle.id.clone(),
            )
        });
        Ok(bundles)
    }

    /// The id of the live bundle; `None` where none was promoted yet.
    ///
    /// # Errors
    /// A bad stream name, a file that holds no id, or the file system's.
    pub fn current(&self, stream: &str) -> Result<Option<String>, RegistryError> {
        let path = self.folder(stream)?.join(CURRENT);
        let Some(bytes) = disk::read_if_there(&path)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        let id = text.trim_end();
        if is_id(id) {
            return Ok(Some(id.to_owned()));
        }
        Err(RegistryError::Current {
            path,
            found: id.chars().take(2 * ID_DIGITS).collect(),
        })
    }

    /// Loads the live bundle; `None` where none was promoted yet.
    ///
    /// # Errors
    /// As [`Self::current`] and [`Self::load`].
    pub fn load_current(&self, stream: &str) -> Result<Option<Bundle>, RegistryError> {
        self.current(stream)?
            .map(|id| self.load(stream, &id))
            .transpose()
    }

    /// Loads the bundle `id`, given in full.
    ///
    /// # Errors
    /// A bad stream name, an unknown id, or a bundle that cannot be loaded.
    pub fn load(&self, stream: &str, id: &str) -> Result<Bundle, RegistryError> {
        let path = self.bundle_folder(stream, id)?;
        let bundle = Bundle::load(&path)?;
        if bundle.id() != id {
            return Err(RegistryError::Misplaced {
                path,
                found: bundle.id().to_owned(),
            });
        }
        Ok(bundle)
    }

    /// Makes the bundle `id`, given in full, the live one, after loading it as proof that it can be
    /// used; `why` goes into the history.
    ///
    /// # Errors
    /// As [`Self::load`], or the file system's; the live bundle then stays the one it was.
    pub fn promote(&self, stream: &str, id: &str, why: &str) -> Result<(), RegistryError> {
        self.load(stream, id)?;
        disk::replace(&self.folder(stream)?, CURRENT, format!("{id}\n").as_bytes())?;
        self.history(stream)?.append(id, why)
    }

    /// What was live when and why.
    ///
    /// # Errors
    /// A bad stream name.
    pub fn history(&self, stream: &str) -> Result<LiveHistory, RegistryError> {
        Ok(LiveHistory::in_folder(&self.folder(stream)?))
    }

    /// The bundle that was live before the present one; `None` where there was none.
    ///
    /// # Errors
    /// As [`Self::current`], or the file system's.
    pub fn previous(&self, stream: &str) -> Result<Option<String>, RegistryError> {
        let current = self.current(stream)?;
        self.history(stream)?.before(current.as_deref())
    }

    /// The pin, and the request for training.
    ///
    /// # Errors
    /// A bad stream name.
    pub fn flags(&self, stream: &str) -> Result<OperatorFlags, RegistryError> {
        Ok(OperatorFlags::in_folder(&self.folder(stream)?))
    }

    /// The stretches of time that are excluded from training.
    ///
    /// # Errors
    /// A bad stream name.
    pub fn excluded_ranges(&self, stream: &str) -> Result<ExcludedRanges, RegistryError> {
        Ok(ExcludedRanges::in_folder(&self.folder(stream)?))
    }

    /// Writes a file that is about a bundle into its folder; the bundle itself stays what it is.
    ///
    /// # Errors
    /// An unknown bundle, or the file system's.
    pub fn attach(
        &self,
        stream: &str,
        id: &str,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        Ok(disk::replace(
            &self.bundle_folder(stream, id)?,
            name,
            bytes,
        )?)
    }

    /// Reads a file that [`Self::attach`] wrote; `None` where there is none.
    ///
    /// # Errors
    /// An unknown bundle, or the file system's.
    pub fn attached(
        &self,
        stream: &str,
        id: &str,
        name: &str,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        Ok(disk::read_if_there(
            &self.bundle_folder(stream, id)?.join(name),
        )?)
    }

    /// Whether [`Self::attach`] wrote such a file.
    ///
    /// # Errors
    /// An unknown bundle.
    pub fn has_attached(&self, stream: &str, id: &str, name: &str) -> Result<bool, RegistryError> {
        Ok(self.bundle_folder(stream, id)?.join(name).exists())
    }

    /// The files of a bundle and those that are about it, in the order of their names.
    ///
    /// # Errors
    /// An unknown bundle, or the file system's.
    pub fn files(&self, stream: &str, id: &str) -> Result<BundleFiles, RegistryError> {
        transfer::files_of(&self.bundle_folder(stream, id)?)
    }

    /// Takes in a bundle that came from elsewhere. Where it is there already, the files about it
    /// that are missing are added; one that is damaged is replaced. Returns whether it was not
    /// there, or damaged.
    ///
    /// # Errors
    /// Files that are no bundle of that id, or the file system's; nothing is left behind then.
    pub fn import_bundle(
        &self,
        stream: &str,
        id: &str,
        files: &BundleFiles,
    ) -> Result<bool, RegistryError> {
        let folder = self.folder(stream)?;
        let path = folder.join(id);
        if !path.is_dir() || Bundle::load(&path).is_err() {
            transfer::install(&folder, id, files)?;
            return Ok(true);
        }
        for (name, bytes) in transfer::about_bundle(files) {
            if !path.join(name).exists() {
                self.attach(stream, id, name, bytes)?;
            }
        }
        Ok(false)
    }

    /// The one id of the stream that starts with `prefix`.
    ///
    /// # Errors
    /// A bad stream name; none or several ids that start so.
    pub fn resolve(&self, stream: &str, prefix: &str) -> Result<String, RegistryError> {
        let mut ids: Vec<String> = self
            .ids(stream)?
            .into_iter()
            .filter(|id| id.starts_with(prefix))
            .collect();
        match (ids.pop(), ids.is_empty()) {
            (Some(id), true) => Ok(id),
            (None, _) => Err(RegistryError::Unknown {
                stream: stream.to_owned(),
                prefix: prefix.to_owned(),
            }),
            (Some(last), false) => {
                ids.push(last);
                Err(RegistryError::Ambiguous {
                    stream: stream.to_owned(),
                    prefix: prefix.to_owned(),
                    ids,
                })
            }
        }
    }

    /// Names of the stream's bundle folders, sorted.
    ///
    /// # Errors
    /// A bad stream name or the file system's.
    pub fn ids(&self, stream: &str) -> Result<Vec<String>, RegistryError> {
        let folder = self.folder(stream)?;
        let mut ids: Vec<String> = names(&folder)?
            .into_iter()
            .filter(|name| is_id(name) && folder.join(name).is_dir())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn bundle_folder(&self, stream: &str, id: &str) -> Result<PathBuf, RegistryError> {
        let path = self.folder(stream)?.join(id);
        if !is_id(id) || !path.is_dir() {
            return Err(RegistryError::Unknown {
                stream: stream.to_owned(),
                prefix: id.to_owned(),
            });
        }
        Ok(path)
    }

    fn folder(&self, stream: &str) -> Result<PathBuf, RegistryError> {
        check_stream(stream)?;
        Ok(self.root.join(stream))
    }
}

/// Names in a folder that are UTF-8; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>, RegistryError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", folder)(error).into()),
    };
    let names: io::Result<Vec<_>> = entries
        .map(|entry| Ok(entry?.file_name().into_string().ok()))
        .collect();
    Ok(names
        .map_err(failed("list", folder))?
        .into_iter()
        .flatten()
        .collect())
}

/// Removes the unfinished writes of a stream whose writer is dead.
fn clean(folder: &Path) -> Result<(), RegistryError> {
    for name in names(folder)?
        .iter()
        .filter(|name| name.starts_with(TEMP_PREFIX))
    {
        let path = folder.join(name);
        // Gone or unreadable since the listing: then another process is cleaning, or the removal
        // below would fail as well.
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let age = metadata
            .modified()
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_none_or(|age| age <= TEMP_AGE_MAX) {
            continue;
        }
        let removed = if metadata.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error).into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_id(name: &str) -> bool {
    name.len() == ID_DIGITS
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
pub(super) mod tests;
