//! Keeps the bundles of a stream at a bounded number.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::{Registry, RegistryError};
use crate::model::disk::{TEMP_PREFIX, failed};

/// Bundles of a stream that are kept.
pub const BUNDLES_MAX: usize = 100;
/// Challengers are compared with what was live within this time.
pub const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Deletes the bundles of a stream beyond [`BUNDLES_MAX`]. The live bundle stays, pinned or not, and
/// the one before it, to which a rollback returns; then those that were live within the last year,
/// and then the newest. One whose manifest cannot be read stays too: a newer release may have
/// written it. Returns what was deleted.
///
/// # Errors
/// A bad stream name, or the file system's.
pub fn prune(registry: &Registry, stream: &str) -> Result<Vec<String>, RegistryError> {
    let listed = registry.list(stream)?;
    if listed.len() <= BUNDLES_MAX {
        return Ok(Vec::new());
    }
    // What is kept first comes first.
    let mut ranked: Vec<String> = Vec::new();
    ranked.extend(registry.current(stream)?);
    ranked.extend(registry.previous(stream)?);
    let year = registry.history(stream)?.kept_within(YEAR)?;
    ranked.extend(year.into_iter().rev());
    let newest = listed.iter().rev();
    ranked.extend(newest.clone().map(|bundle| bundle.id.clone()));
    let there: BTreeSet<&String> = listed.iter().map(|bundle| &bundle.id).collect();
    let mut kept = BTreeSet::new();
    for id in ranked.iter().filter(|id| there.contains(id)) {
        if kept.len() < BUNDLES_MAX {
            kept.insert(id);
        }
    }
    let folder = registry.folder(stream)?;
    let mut deleted = Vec::new();
    for bundle in listed.iter().filter(|bundle| bundle.manifest.is_ok()) {
        if kept.contains(&bundle.id) {
            continue;
        }
        // Renamed first: nobody sees a half of it, and `Registry::open` removes what a crash leaves.
        let (path, temp) = (
            folder.join(&bundle.id),
            folder.join(format!("{TEMP_PREFIX}{}-pruned", bundle.id)),
        );
        fs::rename(&path, &temp).map_err(failed("remove", &path))?;
        fs::remove_dir_all(&temp).map_err(failed("remove", &temp))?;
        deleted.push(bundle.id.clone());
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_two;
    use super::*;
    use crate::model::bundle::Bundle;
    use crate::model::bundle::MANIFEST;

    /// A bundle like another one, made `created` seconds after the epoch, which is no part of its id:
    /// its stream is.
    fn copy(registry: &Registry, of: &str, number: usize) -> String {
        let folder = registry.root().join("pumps");
        let mut manifest = Bundle::load_manifest(&folder.join(of)).unwrap();
        manifest.origin.rows = 1_000_000 + number as u64;
        manifest.created = jiff::Timestamp::from_second(10_000 + number as i64).unwrap();
        manifest.id = manifest.content_id().unwrap();
        let path = folder.join(&manifest.id);
        fs::create_dir(&path).unwrap();
        for entry in fs::read_dir(folder.join(of)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
        }
        let text = serde_json::to_vec(&manifest).unwrap();
        fs::write(path.join(MANIFEST), text).unwrap();
        manifest.id
    }

    #[test]
    fn the_live_bundle_its_predecessor_and_those_of_the_year_outlast_newer_ones() {
        let (_dir, registry, [a, b]) = with_two();
        let copies: Vec<String> = (0..3).map(|n| copy(&registry, &a, n)).collect();
        for id in [&copies[0], &b, &a] {
            registry.promote("pumps", id, "test").unwrap();
        }
        let damaged = copy(&registry, &a, 3);
        let manifest = registry.root().join("pumps").join(&damaged).join(MANIFEST);
        fs::write(manifest, b"of a newer release").unwrap();
        let newer: Vec<String> = (10..10 + BUNDLES_MAX)
            .map(|n| copy(&registry, &a, n))
            .collect();
        let deleted = prune(&registry, "pumps").unwrap();
        assert!(deleted.contains(&copies[1]) && deleted.contains(&copies[2]));
        let left = registry.ids("pumps").unwrap();
        assert_eq!(left.len(), BUNDLES_MAX + 1, "and the unreadable one");
        for id in [&a, &b, &copies[0], &damaged, newer.last().unwrap()] {
            assert!(left.contains(id), "{id}");
        }
        assert!(!left.contains(&newer[0]), "the oldest of the others");
        assert_eq!(registry.load_current("pumps").unwrap().unwrap().id(), a);
        assert_eq!(registry.previous("pumps").unwrap(), Some(b));
        assert_eq!(prune(&registry, "pumps").unwrap(), [""; 0]);
    }
}
