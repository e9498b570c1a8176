//! Schemas by id, compiled once, for threads that must not wait.
//!
//! One thread asks the registry, one id after another, however many callers look it up. While no URL
//! answers it tries again with growing pauses, and what is looked up stays pending.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::client::RegistryClient;
use super::{RegisteredSchema, SchemaRegistryError};

/// Pauses while no URL answers: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// After this the registry is asked once more for an id that it does not know: the instance that
/// answered may be behind the one that a producer has just registered a schema at.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// How long an id counts as unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
/// Most ids that are kept as unknown or pending: any bytes may look like a frame.
const OPEN_IDS_MAX: usize = 10_000;

/// What is known of an id.
#[derive(Debug)]
pub enum SchemaLookup<T> {
    /// The compiled schema.
    Known(Arc<T>),
    /// The registry has not answered yet: ask again.
    Pending,
    /// The registry does not have it, or its answer is of no use: why.
    Unknown(Arc<str>),
}

enum CacheEntry<T> {
    Known(Arc<T>),
    Pending {
        /// When the registry is asked.
        due: Instant,
        /// Whether it has said once that it does not know the id.
        is_doubted: bool,
    },
    Unknown {
        reason: Arc<str>,
        until: Instant,
    },
}

struct CacheState<T> {
    entries: HashMap<u32, CacheEntry<T>>,
    /// Why the last request failed, if no URL answered it.
    trouble: Option<String>,
    is_stopped: bool,
}

struct SharedCache<T> {
    state: Mutex<CacheState<T>>,
    /// An id is pending, or the cache is dropped.
    changed: Condvar,
}

impl<T> SharedCache<T> {
    fn lock(&self) -> MutexGuard<'_, CacheState<T>> {
        // No holder of the lock leaves the state half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Dropping it ends its thread, after the request that it is in.
pub struct SchemaCache<T> {
    shared: Arc<SharedCache<T>>,
}

impl<T: Send + Sync + 'static> SchemaCache<T> {
    /// A cache of what `compile` makes of each schema.
    ///
    /// # Errors
    /// The system has no further thread.
    pub fn new(
        client: RegistryClient,
        compile: impl Fn(&RegisteredSchema) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(SharedCache {
            state: Mutex::new(CacheState {
                entries: HashMap::new(),
                trouble: None,
                is_stopped: false,
            }),
            changed: Condvar::new(),
        });
        let worker = CacheWorker {
            client,
            compile,
            shared: Arc::clone(&shared),
        };
        thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self { shared })
    }

    /// What is known of an id; never waits for the registry.
    pub fn lookup(&self, id: u32) -> SchemaLookup<T> {
        let mut state = self.shared.lock();
        let now = Instant::now();
        match state.entries.get(&id) {
            Some(CacheEntry::Known(schema)) => return SchemaLookup::Known(Arc::clone(schema)),
            Some(CacheEntry::Pending { .. }) => return SchemaLookup::Pending,
            Some(CacheEntry::Unknown { reason, until }) if now < *until => {
                return SchemaLookup::Unknown(Arc::clone(reason));
            }
            _ => {}
        }
        state.make_room(now);
        let pending = CacheEntry::Pending {
            due: now,
            is_doubted: false,
        };
        state.entries.insert(id, pending);
        self.shared.changed.notify_one();
        SchemaLookup::Pending
    }

    /// Keeps what was compiled of a schema whose id is known already.
    pub fn insert(&self, id: u32, compiled: T) {
        let known = CacheEntry::Known(Arc::new(compiled));
        self.shared.lock().entries.insert(id, known);
    }

    /// Why the registry does not answer, while it does not.
    pub fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.clone()
    }
}

impl<T> Drop for SchemaCache<T> {
    fn drop(&mut self) {
        self.shared.lock().is_stopped = true;
        self.shared.changed.notify_one();
    }
}

impl<T> CacheState<T> {
    /// Forgets unknown ids, those that are so no longer first, where too many are kept.
    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < OPEN_IDS_MAX {
            return;
        }
        let is_expired = |entry: &CacheEntry<T>| matches!(entry, CacheEntry::Unknown { until, .. } if *until <= now);
        self.entries.retain(|_, entry| !is_expired(entry));
        let is_open = |entry: &&CacheEntry<T>| !matches!(entry, CacheEntry::Known(_));
        if self.entries.values().filter(is_open).count() >= OPEN_IDS_MAX {
            self.entries
                .retain(|_, entry| matches!(entry, CacheEntry::Known(_)));
        }
    }
}

struct CacheWorker<T, F> {
    client: RegistryClient,
    compile: F,
    shared: Arc<SharedCache<T>>,
}

impl<T, F: Fn(&RegisteredSchema) -> T> CacheWorker<T, F> {
    fn run(self) {
        let mut pause = PAUSE_MIN;
        while let Some((id, is_doubted)) = self.next() {
            let entry = match self.client.schema(id) {
                Ok(schema) => self.compiled(&schema),
                Err(SchemaRegistryError::Unreachable(trouble)) => {
                    self.shared.lock().trouble = Some(trouble);
                    if self.sleep(pause) {
                        return;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
                Err(SchemaRegistryError::Unknown(_)) if !is_doubted => CacheEntry::Pending {
                    due: Instant::now() + CONFIRM_AFTER,
                    is_doubted: true,
                },
                Err(
                    SchemaRegistryError::Unknown(reason) | SchemaRegistryError::Refused(reason),
                ) => unknown(&reason),
            };
            pause = PAUSE_MIN;
            let mut state = self.shared.lock();
            state.trouble = None;
            state.entries.insert(id, entry);
        }
    }

    /// Waits for the id that is due first; `None` once the cache is dropped.
    fn next(&self) -> Option<(u32, bool)> {
        let mut state = self.shared.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            let pending = state.entries.iter().filter_map(|(id, entry)| match entry {
                CacheEntry::Pending { due, is_doubted } => Some((*due, *id, *is_doubted)),
                _ => None,
            });
            let first = pending.min();
            let wait = match first {
                Some((due, id, is_doubted)) => {
                    let wait = due.saturating_duration_since(Instant::now());
                    if wait.is_zero() {
                        return Some((id, is_doubted));
                    }
                    wait
                }
                None => PAUSE_MAX,
            };
            let waited = self.shared.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits, and returns early with true once the cache is dropped.
    fn sleep(&self, pause: Duration) -> bool {
        let is_waiting = |state: &mut CacheState<T>| !state.is_stopped;
        let waited = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), pause, is_waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_stopped
    }

    fn compiled(&self, schema: &RegisteredSchema) -> CacheEntry<T> {
        // The schema is from outside, and its compiler may be one of others: a panic must not end the
        // thread, or records would wait forever.
        match catch_unwind(AssertUnwindSafe(|| (self.compile)(schema))) {
            Ok(compiled) => CacheEntry::Known(Arc::new(compiled)),
            Err(_) => unknown(&format!(
                "the compiler of the schema {} has failed",
                schema.id
            )),
        }
    }
}

fn unknown<T>(reason: &str) -> CacheEntry<T> {
    CacheEntry::Unknown {
        reason: Arc::from(reason),
        until: Instant::now() + UNKNOWN_FOR,
    }
}
