//! A [`Store`] in memory: for runs that keep nothing, and the model that the sled store is tested
//! against.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{Commit, Learned, StateChange, Store, StoreError};

#[derive(Default)]
struct StoredStream {
    positions: BTreeMap<i32, i64>,
    changelog: BTreeMap<i32, i64>,
    states: BTreeMap<(i32, String), Vec<u8>>,
    learned: BTreeMap<(i32, i64), Vec<u8>>,
    notes: BTreeMap<String, Vec<u8>>,
}

/// States that live as long as the process.
#[derive(Default)]
pub struct MemoryStore {
    streams: Mutex<BTreeMap<String, StoredStream>>,
}

impl MemoryStore {
    fn with<T>(&self, stream: &str, read: impl FnOnce(&StoredStream) -> T) -> T {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        match streams.get(stream) {
            Some(found) => read(found),
            None => read(&StoredStream::default()),
        }
    }
}

impl Store for MemoryStore {
    fn position(&self, stream: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        Ok(self.with(stream, |s| s.positions.get(&partition).copied()))
    }

    fn changelog(&self, stream: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        Ok(self.with(stream, |s| s.changelog.get(&partition).copied()))
    }

    fn instance(&self) -> Result<String, StoreError> {
        Ok(format!("memory-{}", std::process::id()))
    }

    fn state(
        &self,
        stream: &str,
        partition: i32,
        series: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.with(stream, |s| {
            s.states.get(&(partition, series.to_owned())).cloned()
        }))
    }

    fn series(&self, stream: &str, partition: i32) -> Result<Vec<String>, StoreError> {
        Ok(self.with(stream, |s| {
            s.states
                .keys()
                .filter(|k| k.0 == partition)
                .map(|k| k.1.clone())
                .collect()
        }))
    }

    fn count(&self, stream: &str, partition: i32) -> Result<usize, StoreError> {
        Ok(self.with(stream, |s| {
            s.states.keys().filter(|k| k.0 == partition).count()
        }))
    }

    fn states(
        &self,
        stream: &str,
        partition: i32,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let is_next = |name: &str| after.is_none_or(|after| name > after);
        let of = |s: &StoredStream| {
            let next = s
                .states
                .iter()
                .filter(|((p, name), _)| *p == partition && is_next(name));
            next.take(limit)
                .map(|((_, name), bytes)| (name.clone(), bytes.clone()))
                .collect()
        };
        Ok(self.with(stream, of))
    }

    fn positions(&self, stream: &str) -> Result<Vec<(i32, i64)>, StoreError> {
        Ok(self.with(stream, |s| {
            s.positions.iter().map(|(&p, &o)| (p, o)).collect()
        }))
    }

    fn streams(&self) -> Result<Vec<String>, StoreError> {
        Ok(self
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect())
    }

    fn learned(&self, stream: &str) -> Result<Vec<Learned>, StoreError> {
        Ok(self.with(stream, |s| {
            s.learned
                .iter()
                .map(|(&(p, o), bytes)| (p, o, bytes.clone()))
                .collect()
        }))
    }

    fn notes(&self, stream: &str, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let of = |s: &StoredStream| {
            let found = s.notes.iter().filter(|(key, _)| key.starts_with(prefix));
            found
                .map(|(key, bytes)| (key.clone(), bytes.clone()))
                .collect()
        };
        Ok(self.with(stream, of))
    }

    fn clear_learned(&self, stream: &str) -> Result<(), StoreError> {
        if let Some(found) = self
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(stream)
        {
            found.learned.clear();
        }
        Ok(())
    }

    fn clear(&self, stream: &str) -> Result<(), StoreError> {
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(stream);
        Ok(())
    }

    fn stage(&self, stream: &str, states: &[StateChange]) -> Result<(), StoreError> {
        self.commit(
            stream,
            &Commit {
                states: states.to_vec(),
                ..Commit::default()
            },
        )
    }

    fn commit(&self, stream: &str, commit: &Commit) -> Result<(), StoreError> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let found = streams.entry(stream.to_owned()).or_default();
        found.positions.extend(commit.positions.iter().copied());
        found.changelog.extend(commit.changelog.iter().copied());
        for (partition, series, bytes) in &commit.states {
            let key = (*partition, series.clone());
            match bytes {
                Some(bytes) => drop(found.states.insert(key, bytes.clone())),
                None => drop(found.states.remove(&key)),
            }
        }
        found.learned.extend(
            commit
                .learned
                .iter()
                .map(|(p, o, bytes)| ((*p, *o), bytes.clone())),
        );
        for (key, bytes) in &commit.notes {
            match bytes {
                Some(bytes) => drop(found.notes.insert(key.clone(), bytes.clone())),
                None => drop(found.notes.remove(key)),
            }
        }
        Ok(())
    }
}
