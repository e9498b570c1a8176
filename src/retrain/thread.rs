//! The thread that retrains a stream: one for each, at the lowest priority, so that lanes come first.
//!
//! Lanes hand it normal traffic by a bounded channel and never wait for it: what does not fit is dropped, it is a sample
//! anyway. It looks once a second at what is due; while it trains, what the channel does not hold is dropped.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thread_priority::{ThreadPriority, set_current_thread_priority};

use super::buffer::Admission;
use super::engine::Engine;
use super::error::RetrainError;
use super::learner::Learner;
use super::plan::Reason;
use super::set::Run;
use crate::config::settings::Stream;
use crate::events::retrain::ChallengeFailed;
use crate::model::registry::Registry;
use crate::state::Store;

/// Handfuls of runs that may wait.
const WAITING_MAX: usize = 64;
/// How often it looks at what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What lanes reach the thread by.
#[derive(Clone)]
pub struct Retrainer {
    runs: SyncSender<Vec<Run>>,
    admission: Arc<Admission>,
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
        halt: Arc<AtomicBool>,
    ) -> Result<(Self, JoinHandle<()>), RetrainError> {
        let engine = Engine::open(stream.clone(), registry, store)?;
        let (runs, taken) = sync_channel(WAITING_MAX);
        let retrainer = Self { runs, admission: engine.admission().clone() };
        let body = Body { stream: stream.clone(), engine, taken, learner, halt };
        let thread = thread::Builder::new().name(format!("retrain-{}", stream.name)).spawn(move || body.run())?;
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
        match self.runs.try_send(runs) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(dropped)) => tracing::debug!(runs = dropped.len(), "normal traffic dropped"),
        }
    }
}

struct Body {
    stream: Arc<Stream>,
    engine: Engine,
    taken: Receiver<Vec<Run>>,
    learner: Arc<Learner>,
    halt: Arc<AtomicBool>,
}

impl Body {
    fn run(mut self) {
        if let Err(error) = set_current_thread_priority(ThreadPriority::Min) {
            tracing::warn!(stream = self.stream.name, error = ?error, "retraining runs at the priority of the lanes");
        }
        let mut looked = Instant::now();
        while !self.halt.load(Ordering::Acquire) {
            let done = match self.taken.recv_timeout(LOOK_EVERY.saturating_sub(looked.elapsed())) {
                Ok(runs) => self.engine.take(runs),
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
                ChallengeFailed { stream: &self.stream.name, error: error.to_string() }.emit();
                // What failed now would fail at once again.
                thread::park_timeout(LOOK_EVERY);
            }
        }
        // The lanes' last ones.
        let last = self.taken.try_iter().flatten().collect();
        if let Err(error) = self.engine.take(last) {
            tracing::warn!(stream = self.stream.name, error = %error, "the last normal traffic is not kept");
        }
    }

    /// What is due once a second.
    fn look(&mut self) -> Result<(), RetrainError> {
        self.show_live()?;
        let Some(now) = self.engine.admission().newest() else { return Ok(()) };
        if self.engine.probe(now)? {
            return self.show_live();
        }
        let due = self.engine.due(now)?;
        let asked = self.engine.is_asked()?.then_some(Reason::Command);
        let Some(reason) = asked.or(due) else { return Ok(()) };
        let began = Instant::now();
        let (halt, limit) = (&self.halt, self.stream.retrain.time_limit);
        let done = self.engine.challenge(reason, now, &mut |_| {
            if halt.load(Ordering::Acquire) || began.elapsed() > limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        self.show_live()?;
        match done {
            // A stop is no failure: the next start trains.
            Err(RetrainError::Cancelled) if self.halt.load(Ordering::Acquire) => self.engine.put_off(now),
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
