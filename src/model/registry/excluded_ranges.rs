//! Stretches of time whose readings are not those of a healthy machine, as operators have marked
//! them.

use super::{Registry, RegistryError};
use crate::model::disk;
use crate::model::manifest::{Manifest, Segment};

/// The marked stretches of a stream.
const EXCLUDED: &str = "excluded_ranges.json";

impl Registry {
    /// What is marked; nothing where the file cannot be read.
    ///
    /// # Errors
    /// A bad stream name, or the file system's.
    pub fn excluded(&self, stream: &str) -> Result<Vec<Segment>, RegistryError> {
        let bytes = disk::read_if_there(&self.folder(stream)?.join(EXCLUDED))?;
        Ok(bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default())
    }

    /// Marks a stretch of time of a series. Returns whether it was not marked before.
    ///
    /// # Errors
    /// As [`Self::excluded`].
    pub fn mark(&self, stream: &str, range: &Segment) -> Result<bool, RegistryError> {
        let mut excluded = self.excluded(stream)?;
        if excluded.contains(range) {
            return Ok(false);
        }
        excluded.push(range.clone());
        let folder = self.folder(stream)?;
        disk::create_folders(&folder)?;
        disk::replace(
            &folder,
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
        assert!(registry.mark("pumps", &learned).unwrap());
        assert!(!registry.mark("pumps", &learned).unwrap());
        let later = Segment {
            from: EventTime(i64::MAX - 1),
            until: EventTime(i64::MAX),
            ..learned.clone()
        };
        registry.mark("pumps", &later).unwrap();
        let excluded = registry.excluded("pumps").unwrap();
        assert_eq!(
            learned_from(&manifest, &excluded).collect::<Vec<_>>(),
            [&learned]
        );
    }
}
