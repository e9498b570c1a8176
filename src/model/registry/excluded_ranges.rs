//! Stretches of time whose readings are not those of a healthy machine, as operators have marked
//! them.

use std::path::{Path, PathBuf};

use super::RegistryError;
use crate::model::disk;
use crate::model::manifest::{Manifest, Segment};

/// The file of the marked stretches.
const EXCLUDED: &str = "excluded_ranges.json";
/// Marked stretches that are kept, those that end last: the training buffer has no older traffic.
const RANGES_MAX: usize = 10_000;

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

    /// What is marked.
    ///
    /// # Errors
    /// The file system's, or a file that holds no stretches: it must not be overwritten.
    pub fn read(&self) -> Result<Vec<Segment>, RegistryError> {
        let path = self.folder.join(EXCLUDED);
        let Some(bytes) = disk::read_if_there(&path)? else {
            return Ok(Vec::new());
        };
        serde_json::from_slice(&bytes).map_err(|error| RegistryError::Unreadable {
            path,
            problem: error.to_string(),
        })
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
        if excluded.len() > RANGES_MAX {
            excluded.sort_by_key(|range| range.until);
            let dropped = excluded.remove(0);
            tracing::warn!(folder = %self.folder.display(), ranges = RANGES_MAX, series = dropped.series,
                from = %dropped.from, until = %dropped.until,
                "too many time ranges are excluded from training: the oldest one is dropped");
        }
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

    #[test]
    fn the_newest_marks_are_kept_and_an_unreadable_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let marks = ExcludedRanges::in_folder(folder.path());
        let range = |number: i64| Segment {
            series: "a".into(),
            from: EventTime(number),
            until: EventTime(number),
        };
        let full: Vec<Segment> = (0..RANGES_MAX as i64).map(range).collect();
        let path = folder.path().join(EXCLUDED);
        std::fs::write(&path, serde_json::to_vec(&full).unwrap()).unwrap();
        for number in [i64::MAX, 20_000] {
            assert!(marks.add(&range(number)).unwrap());
        }
        let kept = marks.read().unwrap();
        assert_eq!(kept.len(), RANGES_MAX);
        assert!(!kept.contains(&range(0)) && !kept.contains(&range(1)));
        assert!(kept.contains(&range(2)) && kept.contains(&range(20_000)));

        std::fs::write(&path, "of a newer outlierd").unwrap();
        assert!(marks.add(&range(7)).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"of a newer outlierd");
    }
}
