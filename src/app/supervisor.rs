//! The lanes' threads: each is restarted after an error, with increasing back-off while errors
//! continue.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::error::AppError;
use crate::config::settings::Settings;
use crate::events::lane::LaneRewound;
use crate::lane::topic_watch::{ReadRecords, TopicWatch};
use crate::lane::{Lane, LaneStatus, ReloadedStream};
use crate::retrain::learner::Learner;
use crate::retrain::thread::Retrainer;
use crate::share::thread::Sharing;
use crate::sink::topics::StreamTopics;
use crate::source::backoff::Backoff;
use crate::state::{Store, StoreError};

/// A lane that ran this long is well again: its next error starts with the shortest backoff.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

struct RunningLane {
    stream: String,
    reloaded: ReloadedStream,
    status: Arc<LaneStatus>,
}

/// The lanes of all streams.
pub(super) struct Lanes {
    lanes: Vec<RunningLane>,
}

impl Lanes {
    /// Starts the lanes of all streams; beside them, their threads.
    ///
    /// # Errors
    /// Where the system does not give a thread; lanes that run already end with the process.
    pub(super) fn start(
        settings: &Settings,
        topics: &[StreamTopics],
        learners: &[(Arc<Learner>, Retrainer)],
        store: &Arc<dyn Store>,
        sharing: &Sharing,
        halt: &Arc<AtomicBool>,
        failed: &mpsc::Sender<StoreError>,
    ) -> Result<(Self, Vec<JoinHandle<()>>), AppError> {
        let mut threads = Vec::new();
        let mut lanes = Vec::new();
        let streams = settings.streams.iter().zip(topics);
        for ((stream, topics), (learner, retrainer)) in streams.zip(learners) {
            let stream = Arc::new(stream.clone());
            let known_partitions = known_partitions(&stream.name, topics, &**store)?;
            let read_records = Arc::new(ReadRecords::default());
            let watch = TopicWatch::start(&settings.kafka, &stream, &read_records, store, halt);
            threads.push(watch.map_err(AppError::Thread)?);
            let rejections = Arc::default();
            for number in 0..stream.input.lanes {
                let status = Arc::new(LaneStatus::new(&rejections));
                let reloaded = ReloadedStream::new(stream.clone().into());
                let lane = Lane {
                    kafka: settings.kafka.clone(),
                    stream: stream.clone(),
                    reloaded: reloaded.clone(),
                    number,
                    known_partitions,
                    read_records: read_records.clone(),
                    store: store.clone(),
                    learner: learner.clone(),
                    retrainer: retrainer.clone(),
                    feedback: sharing.feedback_log(&stream.name),
                    status: status.clone(),
                    dead_letter_max: Arc::new(topics.dead_letter_bytes_max.into()),
                    avro: topics.avro.clone(),
                    poison: Mutex::default(),
                };
                let halt = halt.clone();
                let failed = failed.clone();
                let thread = thread::Builder::new()
                    .name(format!("{}-{number}", stream.name))
                    .spawn(move || supervise(&lane, &halt, &failed))
                    .map_err(AppError::Thread)?;
                threads.push(thread);
                lanes.push(RunningLane {
                    stream: stream.name.clone(),
                    reloaded,
                    status,
                });
            }
        }
        Ok((Self { lanes }, threads))
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn status(&self, stream: &str) -> Vec<Arc<LaneStatus>> {
        self.lanes
            .iter()
            .filter(|lane| lane.stream == stream)
            .map(|lane| lane.status.clone())
            .collect()
    }

    /// Hands each lane the settings of its stream that are in force now.
    pub(super) fn reload(&self, settings: &Settings) {
        for stream in &settings.streams {
            let settings = Arc::new(stream.clone());
            for lane in self.lanes.iter().filter(|lane| lane.stream == stream.name) {
                let mut reloaded = lane.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
                *reloaded = settings.clone();
            }
        }
    }
}

/// How many partitions the input of a stream had when it last ran: as many as its changelog had or, for
/// a stream without one, as the store has positions of; all of them where it never ran.
fn known_partitions(
    stream: &str,
    topics: &StreamTopics,
    store: &dyn Store,
) -> Result<usize, StoreError> {
    let positions = store.positions(stream)?;
    let newest = positions.last().map(|(partition, _)| partition + 1);
    let stored = newest.and_then(|count| usize::try_from(count).ok());
    let known = topics.known_partitions.or(stored);
    Ok(known.unwrap_or(topics.partitions))
}

/// Restarts a lane after errors. A store that has failed stays failed until it is reopened: that
/// ends the process.
fn supervise(lane: &Lane, halt: &Arc<AtomicBool>, failed: &mpsc::Sender<StoreError>) {
    let mut backoff = Backoff::default();
    while !halt.load(Ordering::Acquire) {
        let started = Instant::now();
        let Err(error) = lane.run(halt) else {
            return;
        };
        lane.status.failed(&error);
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
