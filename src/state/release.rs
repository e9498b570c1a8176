//! Which release wrote what is stored, asked before any of it is replaced.

use super::changelog::is_partition_note;
use super::{Store, StoreError, codec};

/// Checks that this release reads all that is stored of a stream beside its partitions, before any
/// of it is replaced: what another release wrote stays as it is. Lanes check their partitions.
///
/// # Errors
/// [`StoreError::AnotherRelease`], or where the store cannot be read.
pub fn check_release(store: &dyn Store, stream: &str) -> Result<(), StoreError> {
    let check = |key: &str, bytes: &[u8]| {
        codec::check_release(bytes).map_err(|source| StoreError::AnotherRelease {
            stream: stream.to_owned(),
            key: key.to_owned(),
            source,
        })
    };
    for (key, bytes) in store.notes(stream, "")? {
        if !is_partition_note(&key) {
            check(&key, &bytes)?;
        }
    }
    for (partition, offset, bytes) in store.learned(stream)? {
        check(&format!("record {partition}/{offset}"), &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Commit;
    use super::super::changelog::partition_note;
    use super::super::memory::MemoryStore;
    use super::*;
    use crate::failure::{Failure as _, FailureClass};

    #[test]
    fn an_entry_of_another_release_is_found_before_it_is_replaced() {
        let newer = codec::of_version(codec::FORMAT + 1, codec::encode(&7u32).unwrap());
        let note = |key: String, bytes: &[u8]| Commit {
            notes: vec![(key, Some(bytes.to_vec()))],
            ..Commit::default()
        };
        let learned = Commit {
            learned: vec![(0, 3, newer.clone())],
            ..Commit::default()
        };
        let known = codec::encode(&7u32).unwrap();
        for (commit, is_refused) in [
            (note("plan".into(), &newer), true),
            (learned, true),
            (note("plan".into(), &known), false),
            (note("applied/1".into(), b"a hash"), false),
            (note(partition_note(0, "position"), &newer), false),
        ] {
            let store = MemoryStore::default();
            store.commit("s", &commit).unwrap();
            let checked = check_release(&store, "s");
            assert_eq!(checked.is_err(), is_refused, "{commit:?}");
            if let Err(error) = checked {
                assert_eq!(error.class(), FailureClass::USER);
            }
        }
    }
}
