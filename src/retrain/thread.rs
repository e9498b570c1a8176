//! The thread that retrains a stream: one for each, at the lowest priority, so that lanes come
//! first.
//!
//! Lanes hand it normal traffic by a bounded channel and never wait for it: what does not fit is
//! dropped, it is a sample anyway. It checks once a second what is due; while it trains, what the
//! channel does not hold is dropped.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thread_priority::{ThreadPriority, set_current_thread_priority};

use super::buffer::Admission;
use super::engine::{LabeledFeedback, RetrainEngine, Sight};
use super::error::RetrainError;
use super::learner::Learner;
use super::schedule::RetrainReason;
use super::set::RecordRun;
use crate::config::settings::StreamSettings;
use crate::events::published::EventQueue;
use crate::events::retrain::{ChallengeFailed, ChallengerUnchanged, TrainingEnded};
use crate::events::store::{StoreAccess, StoreAccessFailed};
use crate::model::registry::Registry;
use crate::state::Store;

/// Handfuls of runs that may wait.
const WAITING_MAX: usize = 64;
/// How often it checks what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the thread is handed.
enum RetrainCommand {
    /// Normal traffic.
    Runs(Vec<RecordRun>),
    /// Operator feedback on an alert.
    Feedback(Box<LabeledFeedback>),
}

/// What others reach the thread by.
#[derive(Clone)]
pub struct Retrainer {
    handed: SyncSender<RetrainCommand>,
    admission: Arc<Admission>,
    event_queue: EventQueue,
    /// A bit for each lane that owns partition 0 of the input.
    is_trainer: Arc<AtomicU64>,
    /// What the last self-test found.
    sight: Arc<Mutex<Option<Sight>>>,
}

impl Retrainer {
    /// Starts the thread of a stream.
    ///
    /// # Errors
    /// Where the stored traffic cannot be read, or the system has no thread.
    pub fn start(
        stream: Arc<StreamSettings>,
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
        learner: Arc<Learner>,
        event_queue: EventQueue,
        halt: Arc<AtomicBool>,
    ) -> Result<(Self, JoinHandle<()>), RetrainError> {
        let mut engine = RetrainEngine::open(stream.clone(), registry, store)?;
        engine.publish_to(event_queue.clone());
        let (handed, taken) = sync_channel(WAITING_MAX);
        let retrainer = Self {
            handed,
            admission: engine.admission().clone(),
            event_queue: event_queue.clone(),
            is_trainer: Arc::default(),
            sight: Arc::default(),
        };
        let is_trainer = retrainer.is_trainer.clone();
        let sight = retrainer.sight.clone();
        let body = RetrainWorker {
            stream: stream.clone(),
            engine,
            taken,
            learner,
            is_trainer,
            sight,
            event_queue,
            halt,
        };
        let thread = thread::Builder::new()
            .name(format!("retrain-{}", stream.name))
            .spawn(move || body.run())?;
        Ok((retrainer, thread))
    }

    /// What the lanes' collectors look at.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Where the stream's events are published.
    pub fn event_queue(&self) -> &EventQueue {
        &self.event_queue
    }

    /// Hands over normal traffic; never waits.
    pub fn offer(&self, runs: Vec<RecordRun>) {
        if runs.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.handed.try_send(RetrainCommand::Runs(runs)) {
            tracing::debug!("normal traffic dropped: the retraining queue is full");
        }
    }

    /// Queues operator feedback; returns it if the queue is full, as during a training.
    pub fn apply_feedback(&self, labeled: LabeledFeedback) -> Option<LabeledFeedback> {
        match self
            .handed
            .try_send(RetrainCommand::Feedback(Box::new(labeled)))
        {
            Err(TrySendError::Full(RetrainCommand::Feedback(labeled))) => Some(*labeled),
            // Without the thread the process stops: the next start reads it again.
            _ => None,
        }
    }

    /// A lane, by its number, owns partition 0 of the input, or no longer.
    pub fn set_trainer(&self, lane: usize, is_trainer: bool) {
        let bit = 1 << (lane % 64);
        if is_trainer {
            self.is_trainer.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.is_trainer.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// What the last self-test found; `None` before.
    pub fn sight(&self) -> Option<Sight> {
        let sight = self.sight.lock().unwrap_or_else(PoisonError::into_inner);
        sight.clone()
    }

    /// Whether this machine trains the stream: of a consumer group one member owns partition 0.
    pub fn is_trainer(&self) -> bool {
        self.is_trainer.load(Ordering::Relaxed) != 0
    }
}

struct RetrainWorker {
    stream: Arc<StreamSettings>,
    engine: RetrainEngine,
    taken: Receiver<RetrainCommand>,
    learner: Arc<Learner>,
    is_trainer: Arc<AtomicU64>,
    sight: Arc<Mutex<Option<Sight>>>,
    event_queue: EventQueue,
    halt: Arc<AtomicBool>,
}

impl RetrainWorker {
    fn run(mut self) {
        if let Err(error) = set_current_thread_priority(ThreadPriority::Min) {
            tracing::warn!(stream = self.stream.name, error = ?error, "cannot lower the priority of the retraining thread: it runs at the priority of the lanes");
        }
        let mut looked = Instant::now();
        while !self.halt.load(Ordering::Acquire) {
            let done = match self
                .taken
                .recv_timeout(LOOK_EVERY.saturating_sub(looked.elapsed()))
            {
                Ok(handed) => self.take(handed),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                // No lane is left.
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let done = if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                done.and_then(|()| self.check_due())
            } else {
                done
            };
            if let Err(error) = done {
                ChallengeFailed {
                    stream: &self.stream.name,
                    error: &error,
                }
                .emit(&self.event_queue);
                // What failed now would fail at once again.
                thread::park_timeout(LOOK_EVERY);
            }
        }
        // The lanes' last ones.
        while let Ok(handed) = self.taken.try_recv() {
            if let Err(error) = self.take(handed) {
                StoreAccessFailed {
                    stream: &self.stream.name,
                    access: StoreAccess::StoreNormalTraffic,
                    error: &error,
                }
                .emit();
            }
        }
    }

    fn take(&mut self, handed: RetrainCommand) -> Result<(), RetrainError> {
        match handed {
            RetrainCommand::Runs(runs) => self.engine.take(runs),
            RetrainCommand::Feedback(labeled) => self.engine.learn_from(&labeled),
        }
    }

    /// What is due once a second.
    fn check_due(&mut self) -> Result<(), RetrainError> {
        self.show_live()?;
        let Some(now) = self.engine.admission().newest() else {
            return Ok(());
        };
        if self.engine.probe(now)? {
            return self.show_live();
        }
        self.engine.run_self_test(now)?;
        let sight = self.engine.sight().cloned();
        *self.sight.lock().unwrap_or_else(PoisonError::into_inner) = sight;
        if self.is_trainer.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let due = self.engine.due(now)?;
        let asked = self.engine.is_asked()?.then_some(RetrainReason::Command);
        let Some(reason) = asked.or(due) else {
            return Ok(());
        };
        let began = Instant::now();
        let halt = &self.halt;
        let limit = self.stream.retrain.time_limit;
        let done = self.engine.challenge(reason, now, &mut || {
            if halt.load(Ordering::Acquire) || began.elapsed() > limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        TrainingEnded {
            stream: &self.stream.name,
        }
        .emit();
        self.show_live()?;
        match done {
            // A stop is no failure: the next start trains.
            Err(RetrainError::Cancelled) if self.halt.load(Ordering::Acquire) => {
                self.engine.put_off(now)
            }
            Err(RetrainError::Unchanged { bundle }) => {
                ChallengerUnchanged {
                    stream: &self.stream.name,
                    bundle: &bundle,
                }
                .emit();
                Ok(())
            }
            done => done.map(drop),
        }
    }

    /// Tells the lanes which bundle is live.
    fn show_live(&mut self) -> Result<(), RetrainError> {
        if let Some(id) = self.engine.follow()? {
            self.learner.follow(id);
        }
        Ok(())
    }
}
