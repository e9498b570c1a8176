//! The thread that retrains a stream: one for each, at the lowest priority, so that lanes come first.
//!
//! Lanes hand it normal traffic by a bounded channel and never wait for it: what does not fit is dropped, it is a sample
//! anyway. It looks once a second at what is due; while it trains, what the channel does not hold is dropped.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thread_priority::{ThreadPriority, set_current_thread_priority};

use super::buffer::Admission;
use super::engine::{Engine, Lesson, Sight};
use super::error::RetrainError;
use super::learner::Learner;
use super::plan::Reason;
use super::set::Run;
use crate::config::settings::Stream;
use crate::events::published::{Event, Outbox};
use crate::events::retrain::{ChallengeFailed, TrainingEnded};
use crate::model::registry::Registry;
use crate::state::Store;

/// Handfuls of runs that may wait.
const WAITING_MAX: usize = 64;
/// How often it looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the thread is handed.
enum Handed {
    /// Normal traffic.
    Runs(Vec<Run>),
    /// Operator feedback on an alert.
    Lesson(Box<Lesson>),
}

/// What others reach the thread by.
#[derive(Clone)]
pub struct Retrainer {
    handed: SyncSender<Handed>,
    admission: Arc<Admission>,
    /// A bit for each lane that owns partition 0 of the input.
    leads: Arc<AtomicU64>,
    /// What the last self-test found.
    sight: Arc<Mutex<Option<Sight>>>,
}

impl Retrainer {
    /// Starts the thread of a stream.
    ///
    /// # Errors
    /// Where the stored traffic cannot be read, or the system has no thread.
    pub fn start(
        stream: Arc<Stream>,
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
        learner: Arc<Learner>,
        outbox: Outbox,
        halt: Arc<AtomicBool>,
    ) -> Result<(Self, JoinHandle<()>), RetrainError> {
        let mut engine = Engine::open(stream.clone(), registry, store)?;
        engine.publish_to(outbox.clone());
        let (handed, taken) = sync_channel(WAITING_MAX);
        let retrainer = Self {
            handed,
            admission: engine.admission().clone(),
            leads: Arc::default(),
            sight: Arc::default(),
        };
        let leads = retrainer.leads.clone();
        let sight = retrainer.sight.clone();
        let body = Body {
            stream: stream.clone(),
            engine,
            taken,
            learner,
            leads,
            sight,
            outbox,
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

    /// Hands over normal traffic; never waits.
    pub fn offer(&self, runs: Vec<Run>) {
        if runs.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.handed.try_send(Handed::Runs(runs)) {
            tracing::debug!("normal traffic dropped: the retraining queue is full");
        }
    }

    /// Hands over what an operator says; gives it back while there is no room, as in the course of a training.
    pub fn teach(&self, lesson: Lesson) -> Option<Lesson> {
        match self.handed.try_send(Handed::Lesson(Box::new(lesson))) {
            Err(TrySendError::Full(Handed::Lesson(lesson))) => Some(*lesson),
            // Without the thread the process stops: the next start reads it again.
            _ => None,
        }
    }

    /// A lane, by its number, owns partition 0 of the input, or no longer.
    pub fn set_leads(&self, lane: usize, leads: bool) {
        let bit = 1 << (lane % 64);
        if leads {
            self.leads.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.leads.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// What the last self-test found; `None` before.
    pub fn sight(&self) -> Option<Sight> {
        let sight = self.sight.lock().unwrap_or_else(PoisonError::into_inner);
        sight.clone()
    }

    /// Whether this machine trains the stream: of a consumer group one member owns partition 0.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed) != 0
    }
}

struct Body {
    stream: Arc<Stream>,
    engine: Engine,
    taken: Receiver<Handed>,
    learner: Arc<Learner>,
    leads: Arc<AtomicU64>,
    sight: Arc<Mutex<Option<Sight>>>,
    outbox: Outbox,
    halt: Arc<AtomicBool>,
}

impl Body {
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
                done.and_then(|()| self.look())
            } else {
                done
            };
            if let Err(error) = done {
                let (stream, error) = (&self.stream.name, error.to_string());
                ChallengeFailed {
                    stream,
                    error: error.clone(),
                }
                .emit();
                self.outbox.put(stream, Event::ChallengeFailed { error });
                // What failed now would fail at once again.
                thread::park_timeout(LOOK_EVERY);
            }
        }
        // The lanes' last ones.
        while let Ok(handed) = self.taken.try_recv() {
            if let Err(error) = self.take(handed) {
                tracing::warn!(stream = self.stream.name, error = %error, "cannot store the last normal traffic");
            }
        }
    }

    fn take(&mut self, handed: Handed) -> Result<(), RetrainError> {
        match handed {
            Handed::Runs(runs) => self.engine.take(runs),
            Handed::Lesson(lesson) => self.engine.learn_from(&lesson),
        }
    }

    /// What is due once a second.
    fn look(&mut self) -> Result<(), RetrainError> {
        self.show_live()?;
        let Some(now) = self.engine.admission().newest() else {
            return Ok(());
        };
        if self.engine.probe(now)? {
            return self.show_live();
        }
        self.engine.self_test(now)?;
        let sight = self.engine.sight().cloned();
        *self.sight.lock().unwrap_or_else(PoisonError::into_inner) = sight;
        if self.leads.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let due = self.engine.due(now)?;
        let asked = self.engine.is_asked()?.then_some(Reason::Command);
        let Some(reason) = asked.or(due) else {
            return Ok(());
        };
        let began = Instant::now();
        let (halt, limit) = (&self.halt, self.stream.retrain.time_limit);
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
