use std::fs::File;

use super::*;
use crate::model::ModelKind;
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
    let dead = folder.join(format!(".tmp-{a}-0"));
    let living = folder.join(format!(".tmp-{b}-0"));
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
