//! Bundles as they leave for other machines and come from them.

use std::fs;
use std::path::Path;

use super::{RegistryError, names};
use crate::model::bundle::{Bundle, CALIBRATION, MANIFEST, WEIGHTS};
use crate::model::disk::{self, failed};

/// Files of one bundle, by name.
pub type BundleFiles = Vec<(String, Vec<u8>)>;

/// The files in a bundle's folder, in the order of their names.
///
/// # Errors
/// The file system's.
pub(super) fn files_of(folder: &Path) -> Result<BundleFiles, RegistryError> {
    let mut found: Vec<String> = names(folder)?
        .into_iter()
        .filter(|name| is_plain(name))
        .collect();
    found.sort_unstable();
    found
        .into_iter()
        .map(|name| Ok((name.clone(), disk::read(&folder.join(&name))?)))
        .collect()
}

/// The files that are about a bundle, without those that make it up.
pub(super) fn about_bundle(files: &BundleFiles) -> impl Iterator<Item = &(String, Vec<u8>)> {
    let own = [MANIFEST, WEIGHTS, CALIBRATION];
    files
        .iter()
        .filter(move |(name, _)| is_plain(name) && !own.contains(&name.as_str()))
}

/// Puts the bundle `id` into the `folder` of its stream: written beside its final place, loaded as
/// proof, and renamed. A damaged one that is there is replaced.
///
/// # Errors
/// Files that are no bundle of that id, or the file system's; nothing is left behind then.
pub(super) fn install(folder: &Path, id: &str, files: &BundleFiles) -> Result<(), RegistryError> {
    let path = folder.join(id);
    disk::create_folders(folder)?;
    let temp = disk::with_temp(folder, id, disk::create_folder)?;
    let write = || -> Result<(), RegistryError> {
        for (name, bytes) in files.iter().filter(|(name, _)| is_plain(name)) {
            disk::write_synced(&temp.join(name), bytes)?;
        }
        let found = Bundle::load(&temp)?;
        if found.id() != id {
            return Err(RegistryError::Misplaced {
                path: path.clone(),
                found: found.id().to_owned(),
            });
        }
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
        }
        Ok(fs::rename(&temp, &path).map_err(failed("rename a folder to", &path))?)
    };
    let written = write();
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&temp);
    }
    written?;
    Ok(disk::sync_folder(folder)?)
}

/// Whether a name is that of a file in a bundle's folder: none that is hidden or leads elsewhere.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.starts_with('.') && !name.is_empty() && name.len() <= 100 && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::super::tests::with_two;
    use super::*;

    #[test]
    fn a_bundle_travels_with_what_is_said_of_it() {
        let (_dir, registry, [a, _]) = with_two();
        registry.attach("pumps", &a, "verdict.json", b"{}").unwrap();
        let files = registry.files("pumps", &a).unwrap();
        let other = tempfile::tempdir().unwrap();
        let other = Registry::open(other.path()).unwrap();
        let without: BundleFiles = files
            .iter()
            .filter(|(name, _)| name != "verdict.json")
            .cloned()
            .collect();
        other.import_bundle("pumps", &a, &without).unwrap();
        assert_eq!(other.attached("pumps", &a, "verdict.json").unwrap(), None);
        other.import_bundle("pumps", &a, &files).unwrap();
        assert_eq!(other.files("pumps", &a).unwrap(), files);
        assert_eq!(other.load("pumps", &a).unwrap().id(), a);
    }

    #[test]
    fn files_that_are_no_bundle_or_lead_elsewhere_leave_nothing_behind() {
        let (_dir, registry, [a, b]) = with_two();
        let mut files = registry.files("pumps", &a).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let other = Registry::open(dir.path().join("models")).unwrap();
        assert!(
            other.import_bundle("pumps", &b, &files).is_err(),
            "another one's id"
        );
        files[0].1.push(b'!');
        files.push(("../../escaped".into(), b"x".to_vec()));
        assert!(other.import_bundle("pumps", &a, &files).is_err());
        assert!(other.list("pumps").unwrap().is_empty() && !dir.path().join("escaped").exists());
        assert!(names(&dir.path().join("models/pumps")).unwrap().is_empty());
    }
}
