use super::super::memory::MemoryStore;
use super::*;
use crate::failure::FailureClass;
use proptest::prelude::*;

fn commits() -> impl Strategy<Value = Vec<Commit>> {
    let partition = 0..3i32;
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    let commit = (
        prop::collection::vec((partition.clone(), 0..1_000i64), 0..3),
        prop::collection::vec(
            (
                partition.clone(),
                "[a-c]{0,2}",
                prop::option::of(bytes.clone()),
            ),
            0..6,
        ),
        prop::collection::vec((partition.clone(), 0..50i64, bytes.clone()), 0..4),
        prop::collection::vec((partition, 0..1_000i64), 0..3),
        prop::collection::vec(("[ab]{1,2}", prop::option::of(bytes)), 0..4),
    );
    let commit = commit.prop_map(|(positions, states, learned, changelog, notes)| Commit {
        positions,
        states,
        learned,
        changelog,
        notes,
    });
    prop::collection::vec(commit, 0..12)
}

fn same(a: &dyn Store, b: &dyn Store) {
    assert_eq!(a.positions("s").unwrap(), b.positions("s").unwrap());
    assert_eq!(a.learned("s").unwrap(), b.learned("s").unwrap());
    for prefix in ["", "a", "ab"] {
        assert_eq!(a.notes("s", prefix).unwrap(), b.notes("s", prefix).unwrap());
    }
    for partition in 0..3 {
        assert_eq!(
            a.position("s", partition).unwrap(),
            b.position("s", partition).unwrap()
        );
        assert_eq!(
            a.changelog("s", partition).unwrap(),
            b.changelog("s", partition).unwrap()
        );
        let series = a.series("s", partition).unwrap();
        assert_eq!(series, b.series("s", partition).unwrap());
        assert_eq!(series.len(), a.count("s", partition).unwrap());
        assert_eq!(series.len(), b.count("s", partition).unwrap());
        for after in [None, Some("a"), Some("b"), Some("cc")] {
            let next = |store: &dyn Store| store.states("s", partition, after, 2).unwrap();
            assert_eq!(next(a), next(b));
        }
        for name in series {
            assert_eq!(
                a.state("s", partition, &name).unwrap(),
                b.state("s", partition, &name).unwrap()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_holds_what_a_map_in_memory_would(before in commits(), after in commits()) {
        let folder = tempfile::tempdir().unwrap();
        let model = MemoryStore::default();
        for part in [before, after] {
            let store = SledStore::open(folder.path()).unwrap().store;
            for commit in part {
                store.commit("s", &commit).unwrap();
                model.commit("s", &commit).unwrap();
            }
            same(&store, &model);
        }
        let store = SledStore::open(folder.path()).unwrap().store;
        store.clear_learned("s").unwrap();
        model.clear_learned("s").unwrap();
        same(&store, &model);
        store.clear("s").unwrap();
        prop_assert_eq!(store.positions("s").unwrap(), vec![]);
    }
}

#[test]
fn its_name_stays() {
    let folder = tempfile::tempdir().unwrap();
    let name = SledStore::open(folder.path())
        .unwrap()
        .store
        .instance()
        .unwrap();
    let store = SledStore::open(folder.path()).unwrap().store;
    assert_eq!(
        [store.instance().unwrap(), store.instance().unwrap()],
        [name.clone(), name]
    );
}

#[test]
fn a_second_user_of_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = SledStore::open(folder.path()).unwrap();
    assert!(matches!(
        SledStore::open(folder.path()),
        Err(StoreError::Locked { .. })
    ));
}

#[test]
fn a_damaged_folder_is_set_aside_and_kept() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("state");
    drop(SledStore::open(&folder).unwrap());
    fs::write(folder.join("conf"), b"not a sled configuration").unwrap();
    let opened = SledStore::open(&folder).unwrap();
    let aside = opened.set_aside.unwrap();
    assert_eq!(
        fs::read(aside.join("conf")).unwrap(),
        b"not a sled configuration"
    );
    assert_eq!(opened.store.streams().unwrap(), Vec::<String>::new());
}

#[test]
fn a_full_disk_is_not_the_users_and_lasts_while_the_store_is_open() {
    for (error, class) in [
        (
            sled::Error::Io(io::ErrorKind::StorageFull.into()),
            FailureClass::EXTERNAL,
        ),
        (
            sled::Error::Corruption { at: None, bt: () },
            FailureClass::EXTERNAL,
        ),
        (
            sled::Error::ReportableBug("a bug".into()),
            FailureClass::INTERNAL,
        ),
    ] {
        let error = access("pumps", "written", &error);
        assert_eq!(error.class(), class, "{error}");
    }
}
