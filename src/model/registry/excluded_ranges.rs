//! Stretches of time whose readings are not those of a healthy machine, as operators have marked
//! them.

use std::path::{Path, PathBuf};

use super::RegistryError;
use crate::model::disk;
use crate::model::manifest::{Manifest, Segment};

/// The file of the marked stretches.
const EXCLUDED: &str = "excluded_ranges.json";

/// The marked stretches of one stream, in a file.
#[derive(Clone, Debug)]
pub struct ExcludedRanges {
    /// The stream's.
    folder: PathBuf,
}

impl ExcludedRanges {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// What is marked; nothing where the file cannot be read.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&self) -> Result<Vec<Segment>, RegistryError> {
        let bytes = disk::read_if_there(&self.folder.join(EXCLUDED))?;
        Ok(bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default())
    }

    /// Marks a stretch of time of a series. Returns whether it was not marked before.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn add(&self, range: &Segment) -> Result<bool, RegistryError> {
        let mut excluded = self.read()?;
        if excluded.contains(range) {
            return Ok(false);
        }
        excluded.push(range.clone());
        disk::create_folders(&self.folder)?;
        disk::replace(
            &self.folder,
            EXCLUDED,
            &serde_json::to_vec_pretty(&excluded).unwrap_or_default(),
        )?;
        Ok(true)
    }
}

/// The marked stretches that a bundle has learned from.
pub fn learned_from<'m>(
    manifest: &'m Manifest,
    excluded: &'m [Segment],
) -> impl Iterator<Item = &'m Segment> {
    excluded.iter().filter(|mark| {
        manifest
            .origin
            .learned_from
            .iter()
            .any(|range| range.overlaps(mark))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_two;
    use super::*;
    use crate::record::EventTime;

    #[test]
    fn a_stretch_is_marked_once_and_the_bundles_that_ate_it_are_known() {
        let (_dir, registry, [a, _]) = with_two();
        let manifest = registry.load("pumps", &a).unwrap().manifest;
        let learned = manifest.origin.learned_from.first().unwrap().clone();
        let marks = registry.excluded_ranges("pumps").unwrap();
        assert!(marks.add(&learned).unwrap());
        assert!(!marks.add(&learned).unwrap());
        let later = Segment {
            from: EventTime(i64::MAX - 1),
            until: EventTime(i64::MAX),
            ..learned.clone()
        };
        marks.add(&later).unwrap();
        let excluded = marks.read().unwrap();
        assert_eq!(
            learned_from(&manifest, &excluded).collect::<Vec<_>>(),
            [&learned]
        );
    }
}
