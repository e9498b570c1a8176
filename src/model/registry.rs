//! The registry: the bundles of all streams under one folder, and which of them is live.
//!
//! Contract: `<root>/<stream>/<id>/` are bundles, `<root>/<stream>/current` holds the id of the live one and is replaced by
//! a rename, so that a reader sees the old id or the new one; `history.jsonl` tells each time that another one went live,
//! `pinned` holds the live one fast, and `excluded.json` names what no bundle should have learned from. Nothing but the remains of dead writers is ever deleted.

mod excluded_ranges;
mod history;
mod transfer;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use thiserror::Error;

pub use self::excluded_ranges::learned_from;
pub use self::history::WentLive;
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
    /// Opens the registry in `model_dir`, which is created where it is missing, and removes what dead writers left behind.
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

    /// The bundles of a stream, oldest first, those without a readable manifest before them; none for an unknown stream.
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

    /// Makes the bundle `id`, given in full, the live one, after loading it as proof that it can be used; `why` goes into the
    /// history.
    ///
    /// # Errors
    /// As [`Self::load`], or the file system's; the live bundle then stays the one it was.
    pub fn promote(&self, stream: &str, id: &str, why: &str) -> Result<(), RegistryError> {
        self.load(stream, id)?;
        disk::replace(&self.folder(stream)?, CURRENT, format!("{id}\n").as_bytes())?;
        self.note_live(stream, id, why)
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
        // Gone or unreadable since the listing: then another process is cleaning, or the removal below would fail as well.
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
pub(super) mod tests {
    use std::fs::File;

    use super::*;
    use crate::config::settings::ModelKind;
    use crate::model::bundle::tests::example;
    use crate::model::bundle::{MANIFEST, WEIGHTS};

    pub(super) fn with_two() -> (tempfile::TempDir, Registry, [String; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path().join("models")).unwrap();
        let ids = [(1, 2_000), (2, 1_000)].map(|(seed, created)| {
            let bundle = example(ModelKind::Dense, seed, created);
            bundle.save(registry.root()).unwrap();
            bundle.id().to_owned()
        });
        (dir, registry, ids)
    }

    #[test]
    fn an_empty_registry_has_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        assert!(registry.list("pumps").unwrap().is_empty());
        assert_eq!(registry.current("pumps").unwrap(), None);
        assert!(registry.load_current("pumps").unwrap().is_none());
        for bad in ["", ".", "..", "../x", "a/b", ".hidden"] {
            assert!(
                matches!(registry.current(bad), Err(RegistryError::Stream(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn promotion_goes_forth_and_back() {
        let (_dir, registry, [newer, older]) = with_two();
        for id in [&older, &newer, &older] {
            registry.promote("pumps", id, "test").unwrap();
            assert_eq!(registry.current("pumps").unwrap().as_ref(), Some(id));
            assert_eq!(registry.load_current("pumps").unwrap().unwrap().id(), id);
        }
        let listed: Vec<_> = registry
            .list("pumps")
            .unwrap()
            .into_iter()
            .map(|b| (b.id, b.current))
            .collect();
        assert_eq!(listed, [(older, true), (newer, false)], "oldest first");
    }

    #[test]
    fn a_prefix_names_one_bundle_or_none() {
        let (_dir, registry, [a, b]) = with_two();
        let common = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        assert_eq!(registry.resolve("pumps", &a[..=common]).unwrap(), a);
        assert_eq!(registry.resolve("pumps", &b).unwrap(), b);
        let error = registry.resolve("pumps", &a[..common]).unwrap_err();
        assert!(matches!(&error, RegistryError::Ambiguous { ids, .. } if ids.len() == 2));
        assert!(matches!(
            registry.resolve("pumps", "xyz"),
            Err(RegistryError::Unknown { .. })
        ));
        assert!(matches!(
            registry.promote("pumps", &a[..8], "test"),
            Err(RegistryError::Unknown { .. })
        ));
    }

    #[test]
    fn a_damaged_bundle_is_listed_and_not_promoted() {
        let (_dir, registry, [a, b]) = with_two();
        registry.promote("pumps", &a, "test").unwrap();
        let folder = registry.root().join("pumps").join(&b);
        fs::write(folder.join(WEIGHTS), b"junk").unwrap();
        assert!(matches!(
            registry.promote("pumps", &b, "test"),
            Err(RegistryError::Bundle(BundleError::Damaged { .. }))
        ));
        fs::write(folder.join(MANIFEST), b"{").unwrap();
        let listed = registry.list("pumps").unwrap();
        assert_eq!(
            (listed[0].id.as_str(), listed[0].manifest.is_err()),
            (b.as_str(), true)
        );
        assert!(listed[1].current && listed[1].manifest.is_ok());
        assert_eq!(registry.current("pumps").unwrap(), Some(a.clone()));

        fs::write(registry.root().join("pumps").join(CURRENT), "not an id").unwrap();
        assert!(
            registry
                .load_current("pumps")
                .err()
                .unwrap()
                .to_string()
                .contains("promote a bundle")
        );
        assert_eq!(registry.list("pumps").unwrap().len(), 2);
        registry.promote("pumps", &a, "test").unwrap();
        assert_eq!(registry.current("pumps").unwrap(), Some(a));
    }

    #[test]
    fn a_bundle_in_a_folder_of_another_name_is_refused() {
        let (_dir, registry, [a, b]) = with_two();
        let folder = registry.root().join("pumps");
        fs::remove_dir_all(folder.join(&b)).unwrap();
        fs::rename(folder.join(&a), folder.join(&b)).unwrap();
        assert!(
            matches!(registry.load("pumps", &b), Err(RegistryError::Misplaced { found, .. }) if found == a)
        );
    }

    #[test]
    fn remains_of_a_dead_writer_are_ignored_and_cleaned_but_not_the_work_of_a_living_one() {
        let (_dir, registry, [a, b]) = with_two();
        let folder = registry.root().join("pumps");
        let (dead, living) = (
            folder.join(format!(".tmp-{a}-0")),
            folder.join(format!(".tmp-{b}-0")),
        );
        let dead_file = folder.join(".tmp-current-0");
        for path in [&dead, &living] {
            fs::create_dir(path).unwrap();
            fs::write(path.join(WEIGHTS), b"half").unwrap();
        }
        fs::write(&dead_file, b"").unwrap();
        let long_ago = SystemTime::now() - 2 * TEMP_AGE_MAX;
        for path in [&dead, &dead_file] {
            File::open(path).unwrap().set_modified(long_ago).unwrap();
        }
        assert_eq!(registry.list("pumps").unwrap().len(), 2);
        // Names in use by a writer, dead or alive, do not keep another from writing.
        registry.promote("pumps", &a, "test").unwrap();
        fs::remove_dir_all(folder.join(&b)).unwrap();
        example(ModelKind::Dense, 2, 1_000)
            .save(registry.root())
            .unwrap();

        let registry = Registry::open(registry.root()).unwrap();
        assert!(!dead.exists() && !dead_file.exists() && living.exists());
        assert_eq!(registry.list("pumps").unwrap().len(), 2);
    }
}
