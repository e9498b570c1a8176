//! The lanes' threads: each is restarted after an error, with increasing back-off while errors
//! continue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::error::AppError;
use crate::config::settings::Settings;
use crate::events::lane::LaneRewound;
use crate::lane::{Lane, LaneCommand, LaneStatus};
use crate::retrain::learner::Learner;
use crate::retrain::thread::Retrainer;
use crate::share::thread::Sharing;
use crate::sink::DEAD_LETTER_MAX;
use crate::source::backoff::Backoff;
use crate::state::{Store, StoreError};

/// A lane that ran this long is well again: its next error starts with the shortest backoff.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Reload orders that may wait for a lane; more than a few means that it hangs.
const ORDERS_MAX: usize = 16;

struct RunningLane {
    stream: String,
    thread: JoinHandle<()>,
    control: SyncSender<LaneCommand>,
    status: Arc<LaneStatus>,
}

/// The lanes of all streams.
pub(super) struct Lanes {
    lanes: Vec<RunningLane>,
}

impl Lanes {
    /// Starts the lanes of all streams.
    ///
    /// # Errors
    /// Where the system does not give a thread; lanes that run already end with the process.
    pub(super) fn start(
        settings: &Settings,
        learners: &[(Arc<Learner>, Retrainer)],
        store: &Arc<dyn Store>,
        sharing: &Sharing,
        halt: &Arc<AtomicBool>,
        failed: &mpsc::Sender<StoreError>,
    ) -> Result<Self, AppError> {
        let mut lanes = Vec::new();
        for (stream, (learner, retrainer)) in settings.streams.iter().zip(learners) {
            let stream = Arc::new(stream.clone());
            for number in 0..stream.input.lanes {
                let status = Arc::new(LaneStatus::default());
                let lane = Lane {
                    kafka: settings.kafka.clone(),
                    stream: stream.clone(),
                    number,
                    store: store.clone(),
                    learner: learner.clone(),
                    retrainer: retrainer.clone(),
                    feedback: sharing.feedback_log(&stream.name),
                    status: status.clone(),
                    dead_letter_max: Arc::new(DEAD_LETTER_MAX.into()),
                };
                let (control, orders) = sync_channel(ORDERS_MAX);
                let halt = halt.clone();
                let failed = failed.clone();
                let thread = thread::Builder::new()
                    .name(format!("{}-{number}", stream.name))
                    .spawn(move || supervise(&lane, &halt, &orders, &failed))
                    .map_err(AppError::Thread)?;
                lanes.push(RunningLane {
                    stream: stream.name.clone(),
                    thread,
                    control,
                    status,
                });
            }
        }
        Ok(Self { lanes })
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn threads(&self) -> impl Iterator<Item = &JoinHandle<()>> {
        self.lanes.iter().map(|lane| &lane.thread)
    }

    /// Ends the waiting of lanes that are between two runs.
    pub(super) fn wake(&mut self) {
        self.lanes
            .iter()
            .for_each(|lane| lane.thread.thread().unpark());
    }

    pub(super) fn status(&self, stream: &str) -> Vec<Arc<LaneStatus>> {
        self.lanes
            .iter()
            .filter(|lane| lane.stream == stream)
            .map(|lane| lane.status.clone())
            .collect()
    }

    /// Hands each lane the new settings of its stream.
    pub(super) fn reload(&self, settings: &Settings) {
        for stream in &settings.streams {
            let stream_settings = Arc::new(stream.clone());
            for lane in self.lanes.iter().filter(|lane| lane.stream == stream.name) {
                if lane
                    .control
                    .try_send(LaneCommand::Reload(stream_settings.clone()))
                    .is_err()
                {
                    tracing::error!(
                        stream = stream.name,
                        "a lane does not accept new settings: it hangs or has ended"
                    );
                }
            }
        }
    }
}

/// Restarts a lane after errors. A store that has failed stays failed until it is reopened: that
/// ends the process.
fn supervise(
    lane: &Lane,
    halt: &Arc<AtomicBool>,
    orders: &Receiver<LaneCommand>,
    failed: &mpsc::Sender<StoreError>,
) {
    let mut backoff = Backoff::default();
    while !halt.load(Ordering::Acquire) {
        let started = Instant::now();
        let Err(error) = lane.run(halt, orders) else {
            return;
        };
        lane.status.failure.set(&error);
        let error = match error.into_store_failure() {
            Ok(store) => {
                // The first lane that reports it is enough.
                let _ = failed.try_send(store);
                return;
            }
            Err(error) => error,
        };
        if started.elapsed() > HEALTHY_AFTER {
            backoff = Backoff::default();
        }
        let wait = backoff.wait();
        LaneRewound {
            stream: &lane.stream.name,
            lane: lane.number,
            error: &error,
            backoff: Some(wait),
        }
        .emit();
        if !halt.load(Ordering::Acquire) {
            thread::park_timeout(wait);
        }
    }
}
