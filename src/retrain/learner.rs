//! A stream's way from nothing to its first bundle, shared by the lanes of the stream.
//!
//! `Collecting` records until there are enough -> `Training` on a separate thread -> `Live`. The
//! lanes store the collected records with their commits, so that collecting resumes after a
//! restart. Of several instances the one that owns partition 0 trains; the others wait for its
//! bundle for a limited time, because its partitions may have no records.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::coverage::lacking;
use super::first::{FirstModel, learn_first};
use super::learn::LearnError;
use super::set::{TrainingRow, TrainingSet};
use crate::config::settings::StreamSettings;
use crate::events::observed::PHASES;
use crate::events::retrain::{LearningExtended, TrainingFailed};
use crate::events::store::{StoreAccess, StoreAccessFailed, StoredEntry, StoredEntryIgnored};
use crate::events::{BundleLive, LearningProgress};
use crate::model::bundle::Bundle;
use crate::model::registry::{Registry, RegistryError};
use crate::pipeline::fits;
use crate::pipeline::series::SeriesState;
use crate::pipeline::status::SeriesStatus;
use crate::state::codec::{self};
use crate::state::{Store, StoreError};

/// How many times the progress of collecting is logged.
const PROGRESS_LINES: usize = 10;
/// How long a machine with enough records waits for the bundle of the one that trains.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Where a stream is on its way to a model.
#[derive(Clone, PartialEq, Debug)]
pub enum LearnerPhase {
    /// It takes records for the first training.
    Collecting {
        /// Records so far.
        done: usize,
        /// Records wanted.
        wanted: usize,
        /// Why more are wanted than at first.
        missing: Option<String>,
    },
    /// The first model is trained, here or on another machine; nothing is read meanwhile.
    Training,
    /// The bundle of this id scores.
    Live(Arc<str>),
}

impl LearnerPhase {
    /// Its name in `/status` and in the metrics, one of [`PHASES`].
    pub fn as_str(&self) -> &'static str {
        let [learning, training, live] = PHASES;
        match self {
            Self::Collecting { .. } => learning,
            Self::Training => training,
            Self::Live(_) => live,
        }
    }
}

/// See the module.
pub struct Learner {
    stream: Arc<StreamSettings>,
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    inner: Mutex<LearnerInner>,
    /// Set by [`Learner::cancel`], read by the training between two epochs.
    cancelled: AtomicBool,
}

struct LearnerInner {
    /// By partition and offset, so that a record read twice counts once. Emptied when training
    /// starts.
    rows: BTreeMap<(i32, i64), TrainingRow>,
    /// Records at which it is looked whether they are enough.
    wanted: usize,
    /// See [`LearnerPhase::Collecting`].
    missing: Option<String>,
    state: LearnerState,
    /// The last training's.
    thread: Option<JoinHandle<()>>,
}

impl LearnerInner {
    /// Whether there are as many records as are wanted.
    fn has_wanted(&self) -> bool {
        self.rows.len() >= self.wanted
    }
}

enum LearnerState {
    Collecting,
    /// There are enough records, since then, and another machine trains.
    Waiting(Instant),
    Training,
    Live(Arc<str>),
}

impl Learner {
    /// A learner that resumes from the store and the registry.
    ///
    /// # Errors
    /// Where either cannot be read.
    pub fn open(
        stream: Arc<StreamSettings>,
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
    ) -> Result<Arc<Self>, LearnError> {
        // Loaded and dropped: a bundle that cannot score the stream is found here, and not by each
        // lane again and again.
        let live = registry.load_current(&stream.name)?;
        live.iter().try_for_each(|bundle| fits(&stream, bundle))?;
        let live = live.map(|bundle| bundle.id().to_owned());
        let mut rows = BTreeMap::new();
        if live.is_none() {
            for (partition, offset, bytes) in store.learned(&stream.name)? {
                match codec::decode(&bytes) {
                    Ok(row) => drop(rows.insert((partition, offset), row)),
                    Err(error) => StoredEntryIgnored {
                        stream: &stream.name,
                        entry: StoredEntry::TrainingRecord,
                        key: &format!("{partition}/{offset}"),
                        error: &error,
                    }
                    .emit(),
                }
            }
        }
        let state = live.map_or(LearnerState::Collecting, |id| LearnerState::Live(id.into()));
        let inner = Mutex::new(LearnerInner {
            rows,
            wanted: stream.training.records,
            missing: None,
            state,
            thread: None,
        });
        let learner = Arc::new(Self {
            stream,
            registry,
            store,
            inner,
            cancelled: AtomicBool::new(false),
        });
        learner.look(&mut learner.lock());
        Ok(learner)
    }

    /// Looks whether as many records as are wanted are enough to train on; where they are not, more
    /// are wanted.
    fn look(&self, inner: &mut LearnerInner) {
        if !inner.has_wanted() {
            return;
        }
        let set = TrainingSet::new(inner.rows.values().cloned());
        if let Some(lacking) = lacking(&self.stream, &set) {
            self.extend(inner, set.len(), lacking.wanted, lacking.to_string());
        }
    }

    /// So many records are wanted, for what is missing.
    fn extend(&self, inner: &mut LearnerInner, records: usize, wanted: usize, missing: String) {
        inner.wanted = wanted;
        LearningExtended {
            stream: &self.stream.name,
            records,
            wanted,
            missing: &missing,
        }
        .emit();
        inner.missing = Some(missing);
    }

    fn lock(&self) -> MutexGuard<'_, LearnerInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size of the state store on disk, where it is known.
    pub fn store_bytes(&self) -> Option<u64> {
        self.store.bytes_on_disk()
    }

    /// Where the stream is.
    pub fn phase(&self) -> LearnerPhase {
        let inner = self.lock();
        match &inner.state {
            // The record after the last one that is wanted is to be the first one that is scored.
            LearnerState::Collecting if inner.has_wanted() => LearnerPhase::Training,
            LearnerState::Collecting => LearnerPhase::Collecting {
                done: inner.rows.len(),
                wanted: inner.wanted,
                missing: inner.missing.clone(),
            },
            LearnerState::Waiting(_) | LearnerState::Training => LearnerPhase::Training,
            LearnerState::Live(id) => LearnerPhase::Live(id.clone()),
        }
    }

    /// The bundle of this id is the live one now. Where records were still collected for a first
    /// one, it came from another machine; while one is trained here, nothing changes.
    pub fn follow(&self, id: &str) {
        let mut inner = self.lock();
        let before = match &mut inner.state {
            LearnerState::Live(live) if **live != *id => Some(std::mem::replace(live, id.into())),
            LearnerState::Collecting | LearnerState::Waiting(_) => {
                inner.state = LearnerState::Live(id.into());
                inner.rows.clear();
                None
            }
            LearnerState::Live(_) | LearnerState::Training => return,
        };
        drop(inner);
        if before.is_none()
            && let Err(error) = self.forget_rows()
        {
            self.rows_not_deleted(&error);
        }
        let stream = self.stream.name.as_str();
        let kind = self.stream.model.kind.as_str();
        BundleLive {
            stream,
            bundle: id,
            before: before.as_deref(),
            kind,
        }
        .emit();
    }

    /// Whether the first model is being trained.
    pub fn is_training(&self) -> bool {
        matches!(
            self.lock().state,
            LearnerState::Waiting(_) | LearnerState::Training
        )
    }

    /// Whether enough records are there to train.
    pub fn ready(&self) -> bool {
        let inner = self.lock();
        matches!(inner.state, LearnerState::Collecting) && inner.has_wanted()
    }

    /// The live bundle, loaded again: each lane has its own copy.
    ///
    /// # Errors
    /// Where the bundle cannot be read.
    pub fn live_bundle(&self) -> Result<Option<Bundle>, RegistryError> {
        match self.phase() {
            LearnerPhase::Live(id) => self.registry.load(&self.stream.name, &id).map(Some),
            _ => Ok(None),
        }
    }

    /// What is stored of a series; one for each partition that has it.
    ///
    /// # Errors
    /// Where the store or the live bundle cannot be read.
    pub fn series(&self, series: &str) -> Result<Vec<SeriesStatus>, LearnError> {
        let stream = &self.stream;
        let name = &self.stream.name;
        let bundle = self.live_bundle()?;
        let mut found = Vec::new();
        for (partition, _) in self.store.positions(name)? {
            let bytes = self.store.state(name, partition, series)?;
            if let Some(state) = bytes.and_then(|bytes| codec::decode::<SeriesState>(&bytes).ok()) {
                found.push(SeriesStatus::new(
                    stream,
                    bundle.as_ref(),
                    partition,
                    series,
                    &state,
                ));
            }
        }
        Ok(found)
    }

    /// Takes one record; records that come while a model is trained or live are not needed.
    pub fn add(&self, partition: i32, offset: i64, row: TrainingRow) {
        let (done, wanted) = {
            let mut inner = self.lock();
            if !matches!(inner.state, LearnerState::Collecting) {
                return;
            }
            inner.rows.insert((partition, offset), row);
            self.look(&mut inner);
            (inner.rows.len(), inner.wanted)
        };
        if done % (wanted / PROGRESS_LINES).max(1) == 0 || done == wanted {
            LearningProgress {
                stream: &self.stream.name,
                done,
                wanted,
            }
            .emit();
        }
    }

    /// Starts the training on its own thread, once, when there are enough records and this machine
    /// `is_trainer`, or has waited for the one that does.
    pub fn train_if_ready(self: &Arc<Self>, is_trainer: bool) {
        let rows = {
            let mut inner = self.lock();
            let waited = match inner.state {
                LearnerState::Collecting if inner.has_wanted() => Duration::ZERO,
                LearnerState::Waiting(since) => since.elapsed(),
                _ => return,
            };
            if !is_trainer && waited < WAIT_MAX {
                if matches!(inner.state, LearnerState::Collecting) {
                    tracing::info!(
                        stream = self.stream.name,
                        "enough training records: waiting for the instance that trains"
                    );
                    inner.state = LearnerState::Waiting(Instant::now());
                }
                return;
            }
            if self.cancelled.load(Ordering::Acquire) {
                return;
            }
            inner.state = LearnerState::Training;
            std::mem::take(&mut inner.rows)
        };
        let learner = self.clone();
        let name = format!("train-{}", self.stream.name);
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || learner.train(rows));
        match spawned {
            Ok(thread) => self.lock().thread = Some(thread),
            Err(error) => {
                TrainingFailed {
                    stream: &self.stream.name,
                    error: &error,
                }
                .emit();
                self.lock().state = LearnerState::Collecting;
            }
        }
    }

    /// Ends a training early, at a stop: the records stay in the store, and the next start trains
    /// again. Returns the thread, which ends after the present epoch.
    pub fn cancel(&self) -> Option<JoinHandle<()>> {
        self.cancelled.store(true, Ordering::Release);
        self.lock().thread.take()
    }

    /// The thread of a training that has ended since the last call.
    pub fn take_ended(&self) -> Option<JoinHandle<()>> {
        self.lock().thread.take_if(|thread| thread.is_finished())
    }

    fn rows_not_deleted(&self, error: &StoreError) {
        StoreAccessFailed {
            stream: &self.stream.name,
            access: StoreAccess::DeleteTrainingRecords,
            error,
        }
        .emit();
    }

    fn train(&self, rows: BTreeMap<(i32, i64), TrainingRow>) {
        tracing::info!(stream = self.stream.name, records = rows.len(), "training");
        match self.try_train(&rows) {
            Ok(FirstModel::Unproved(unproved)) => {
                let mut inner = self.lock();
                inner.rows = rows;
                let missing = unproved.to_string();
                self.extend(&mut inner, unproved.records, unproved.wanted, missing);
                inner.state = LearnerState::Collecting;
            }
            Ok(FirstModel::Live(bundle)) => {
                let stream = self.stream.name.as_str();
                let kind = self.stream.model.kind.as_str();
                BundleLive {
                    stream,
                    bundle: bundle.id(),
                    before: None,
                    kind,
                }
                .emit();
                self.lock().state = LearnerState::Live(bundle.id().into());
            }
            Err(LearnError::Cancelled) => {}
            Err(error) => {
                TrainingFailed {
                    stream: &self.stream.name,
                    error: &error,
                }
                .emit();
                if let Err(error) = self.store.clear_learned(&self.stream.name) {
                    self.rows_not_deleted(&error);
                }
                self.lock().state = LearnerState::Collecting;
            }
        }
    }

    fn try_train(
        &self,
        rows: &BTreeMap<(i32, i64), TrainingRow>,
    ) -> Result<FirstModel, LearnError> {
        let rows: Vec<TrainingRow> = rows.values().cloned().collect();
        let first = learn_first(&self.stream, &rows, &mut |_| {
            if self.cancelled.load(Ordering::Acquire) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        let FirstModel::Live(bundle) = &first else {
            return Ok(first);
        };
        bundle.save(self.registry.root())?;
        self.registry
            .promote(&self.stream.name, bundle.id(), "the first one")?;
        self.forget_rows()?;
        Ok(first)
    }

    fn forget_rows(&self) -> Result<(), StoreError> {
        self.store.clear_learned(&self.stream.name)
    }
}
