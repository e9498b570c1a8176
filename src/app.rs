//! The daemon: builds everything in order, runs it, and takes it down in reverse. Both ways are
//! checklists in the log.
//!
//! The stop signal, the reload signal and the configuration's source are arguments, so that tests
//! pass their own.

mod brokers;
mod error;
mod schemas;
mod supervisor;
mod threads;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub use self::error::AppError;

use self::brokers::await_topics;
use self::supervisor::Lanes;
use self::threads::{Threads, unexpected_end};
use crate::config::settings::{Settings, StreamSettings};
use crate::config::{ConfigProblems, apply_live, needs_restart};
use crate::destination::reader::DestinationReader;
use crate::destination::{self, DestinationStatus};
use crate::events::daemon::{ConfigReloaded, ReadinessChanged, StoreLost, ThreadLost};
use crate::events::observed::StreamStarts;
use crate::events::published::{EventQueue, PublishedEvent};
use crate::events::store::StateSetAside;
use crate::model::registry::Registry;
use crate::retrain::learner::Learner;
use crate::retrain::thread::Retrainer;
use crate::share::error::ShareError;
use crate::share::sync::RegistrySync;
use crate::share::thread::{FeedbackTargets, Sharing};
use crate::sink::topics::StreamTopics;
use crate::state::release::check_release;
use crate::state::sled::SledStore;
use crate::state::{Store, StoreError, codec};
use crate::web::{self, DaemonStatus, Server, StreamStatus};

/// How often threads and readiness are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Signals and other inputs of the daemon.
pub struct Signals<S, L> {
    /// Completes when the daemon is to stop.
    pub stop: S,
    /// Yields at each request to read the configuration again.
    pub reload: mpsc::Receiver<()>,
    /// Reads the configuration again.
    pub load: L,
}

/// Runs the daemon until `signals.stop` completes and everything is drained.
///
/// # Errors
/// Any [`AppError`]; an unreachable broker at the start is not an error: outlierd waits for it.
pub async fn run<S, L>(settings: Settings, mut signals: Signals<S, L>) -> Result<(), AppError>
where
    S: Future<Output = ()> + Send,
    L: Fn() -> Result<Settings, ConfigProblems>,
{
    let mut stop = std::pin::pin!(signals.stop);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        streams = settings.streams.len(),
        "starting"
    );
    // Before the brokers are asked: an address that is taken then costs no other instance a
    // partition, and /readyz says what the start waits for.
    record_metrics(&settings);
    warn_of_open_http(&settings);
    let status = Arc::new(DaemonStatus::default());
    let http = serve(&settings, &status).await?;
    let halt = Arc::new(AtomicBool::new(false));
    let mut running = tokio::select! {
        started = start(&settings, &status, &halt) => started?,
        () = &mut stop => {
            halt.store(true, Ordering::Release);
            return Ok(());
        }
    };
    tracing::info!(lanes = running.lanes.len(), "running");

    let mut current = settings;
    let mut reasons = Vec::new();
    let mut interval = tokio::time::interval(WATCH_EVERY);
    let failure = loop {
        tokio::select! {
            () = &mut stop => break None,
            Some(()) = signals.reload.recv() => reload(&mut current, &signals.load, &running.lanes),
            _ = interval.tick() => {
                let failure = running.failure(&current, http.as_ref());
                if failure.is_some() {
                    break failure;
                }
                report_readiness(&status, &mut reasons);
            }
        }
    };
    let drained = running.drain(&current, &halt).await;
    drop(http);
    tracing::info!("stopped");
    failure.map_or(drained, Err)
}

/// All that runs.
struct Running {
    lanes: Lanes,
    learners: Vec<Trainers>,
    threads: Threads,
    /// What lanes report of a store that failed.
    failures: mpsc::Receiver<StoreError>,
}

/// Starts everything, once the brokers answer. Cancelled at most while it waits for them: nothing
/// has started then.
async fn start(
    settings: &Settings,
    status: &DaemonStatus,
    halt: &Arc<AtomicBool>,
) -> Result<Running, AppError> {
    let readers = destination::open_all(settings)
        .map_err(|(stream, source)| AppError::Destination { stream, source })?;
    codec::set_written(settings.service.state_format);
    let store = open_store(settings)?;
    for stream in &settings.streams {
        check_release(&*store, &stream.name)?;
    }
    let registry = Arc::new(Registry::open(&settings.service.model_dir)?);
    tracing::info!(folder = %settings.service.model_dir.display(), "model folder open");
    let topics = await_topics(settings, &*store, status).await?;
    let (event_queue, events) = EventQueue::new();
    let sharing = sharing(settings, &registry, &store, events)?;
    let sharing = catch_up(sharing, halt.clone()).await?;
    let mut threads = Threads::default();
    let learners = start_retraining(
        settings,
        &registry,
        &store,
        &event_queue,
        halt,
        &mut threads,
    )?;
    let (failed, failures) = mpsc::channel(1);
    let (lanes, lane_threads) = Lanes::start(
        settings, &topics, &learners, &store, &sharing, halt, &failed,
    )?;
    threads.extend(lane_threads);
    let target = |(stream, (_, retrainer)): (&StreamSettings, &Trainers)| FeedbackTargets {
        stream: Arc::new(stream.clone()),
        retrainer: retrainer.clone(),
    };
    threads.push(sharing.start(
        settings.streams.iter().zip(&learners).map(target).collect(),
        halt.clone(),
    )?);
    let destinations = deliver_alerts(readers, settings, &topics, halt, &mut threads)?;
    status.started(stream_statuses(settings, &learners, &lanes, &destinations));
    Ok(Running {
        lanes,
        learners,
        threads,
        failures,
    })
}

impl Running {
    /// What ends the daemon: a store that failed, or a thread that ended.
    fn failure(&mut self, settings: &Settings, http: Option<&Server>) -> Option<AppError> {
        let ended = self.threads.ended();
        // A lane that reports it ends after that.
        if let Ok(error) = self.failures.try_recv() {
            StoreLost { error: &error }.emit();
            let folder = settings.service.state_dir.clone();
            return Some(AppError::StateLost { folder, error });
        }
        let http = http.filter(|http| http.has_ended());
        let http = http.map(|_| AppError::ThreadEnded {
            thread: "http".into(),
            panic: None,
        });
        // A training ends when it is done.
        let mut trainings = self.learners.iter().filter_map(|(learner, _)| {
            let error = unexpected_end(learner.take_ended()?);
            matches!(&error, AppError::ThreadEnded { panic, .. } if panic.is_some())
                .then_some(error)
        });
        let error = ended.or(http).or_else(|| trainings.next())?;
        ThreadLost { error: &error }.emit();
        Some(error)
    }

    /// Stops everything in order, within the drain deadline.
    async fn drain(mut self, settings: &Settings, halt: &AtomicBool) -> Result<(), AppError> {
        let timeout = settings.service.drain_timeout;
        tracing::info!(timeout_s = timeout.as_secs(), "draining");
        let deadline = Instant::now() + timeout;
        halt.store(true, Ordering::Release);
        let trainings = self.learners.iter();
        let trainings = trainings.filter_map(|(learner, _)| learner.cancel());
        self.threads.extend(trainings);
        self.threads.wake();
        let left = self.threads.still_running(deadline).await;
        if left.is_empty() {
            tracing::info!("drained");
            return Ok(());
        }
        Err(AppError::Drain {
            threads: left,
            timeout,
        })
    }
}

/// Logs and counts whether the daemon is ready, where that or the reasons have changed.
fn report_readiness(status: &DaemonStatus, before: &mut Vec<String>) {
    let reasons = status.not_ready();
    if reasons != *before {
        ReadinessChanged { reasons: &reasons }.emit();
        *before = reasons;
    }
}

/// What trains the models of a stream: the first one, and each next one.
type Trainers = (Arc<Learner>, Retrainer);

/// The trainers of each stream; their threads are among `threads`.
fn start_retraining(
    settings: &Settings,
    registry: &Arc<Registry>,
    store: &Arc<dyn Store>,
    event_queue: &EventQueue,
    halt: &Arc<AtomicBool>,
    threads: &mut Threads,
) -> Result<Vec<Trainers>, AppError> {
    let mut trainers = Vec::new();
    for stream in &settings.streams {
        let stream = Arc::new(stream.clone());
        let learner = Learner::open(stream.clone(), registry.clone(), store.clone())?;
        let (retrainer, thread) = Retrainer::start(
            stream,
            registry.clone(),
            store.clone(),
            learner.clone(),
            event_queue.clone(),
            halt.clone(),
        )?;
        trainers.push((learner, retrainer));
        threads.push(thread);
    }
    Ok(trainers)
}

/// Installs the recorder of metrics before anything moves one.
fn record_metrics(settings: &Settings) {
    if settings.service.http_listen.is_some() && web::recorder().is_none() {
        tracing::warn!("another recorder of metrics is installed: /metrics stays empty");
    }
    let streams = settings.streams.iter();
    streams.for_each(|stream| StreamStarts(&stream.name).emit());
}

/// There is no authentication: whoever reaches the address reads the names of series, their states
/// and metrics.
fn warn_of_open_http(settings: &Settings) {
    let address = settings.service.http_listen;
    if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            %address,
            "service.http_listen is open to the network without authentication: anyone who reaches it reads status, series and metrics; bind it to 127.0.0.1, or restrict it with a firewall"
        );
    }
}

/// Starts the threads of the alert destinations; what they show.
fn deliver_alerts(
    readers: Vec<DestinationReader>,
    settings: &Settings,
    topics: &[StreamTopics],
    halt: &Arc<AtomicBool>,
    threads: &mut Threads,
) -> Result<Vec<Arc<DestinationStatus>>, AppError> {
    let statuses = readers.iter().map(DestinationReader::status).collect();
    for mut reader in readers {
        let status = reader.status();
        let mut streams = settings.streams.iter().zip(topics);
        let of_stream = streams.find(|(stream, _)| stream.name == status.stream);
        if let Some(avro) = of_stream.and_then(|(_, topics)| topics.avro.as_deref()) {
            reader.add_schema(avro.alerts.registered());
        }
        threads.push(reader.start(halt.clone()).map_err(AppError::Thread)?);
    }
    Ok(statuses)
}

/// Takes what the other machines have shared, on a thread that may block.
async fn catch_up(mut sharing: Sharing, halt: Arc<AtomicBool>) -> Result<Sharing, AppError> {
    let caught_up =
        tokio::task::spawn_blocking(move || sharing.catch_up(&halt).map(|()| sharing)).await;
    Ok(caught_up
        .map_err(std::io::Error::from)
        .map_err(ShareError::from)??)
}

fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, AppError> {
    let folder = &settings.service.state_dir;
    let opened = SledStore::open(folder)?;
    if let Some(aside) = &opened.set_aside {
        StateSetAside { folder, aside }.emit();
    }
    tracing::info!(folder = %folder.display(), "state folder open");
    Ok(Arc::new(opened.store))
}

/// What this machine shares with the others.
fn sharing(
    settings: &Settings,
    registry: &Arc<Registry>,
    store: &Arc<dyn Store>,
    events: Receiver<PublishedEvent>,
) -> Result<Sharing, ShareError> {
    let streams = settings.streams.iter().map(|stream| stream.clone().into());
    let sync = RegistrySync::open(registry.clone(), store.clone(), streams)?;
    let names = settings.streams.iter().map(|stream| stream.name.clone());
    let names: Vec<String> = names.collect();
    let group = settings.streams.first().map(|s| s.input.group.as_str());
    Sharing::new(
        &settings.kafka,
        &settings.share,
        &names,
        group.unwrap_or_default(),
        sync,
        store.clone(),
        events,
    )
}

/// The HTTP server, where one is configured.
async fn serve(
    settings: &Settings,
    status: &Arc<DaemonStatus>,
) -> Result<Option<Server>, AppError> {
    let Some(address) = settings.service.http_listen else {
        return Ok(None);
    };
    web::serve(address, status.clone())
        .await
        .map(Some)
        .map_err(|source| AppError::Http { address, source })
}

/// What is shown of each stream.
fn stream_statuses(
    settings: &Settings,
    learners: &[Trainers],
    lanes: &Lanes,
    destinations: &[Arc<DestinationStatus>],
) -> Vec<StreamStatus> {
    let of = |(stream, (learner, _)): (&StreamSettings, &Trainers)| StreamStatus {
        name: stream.name.clone(),
        learner: learner.clone(),
        lanes: lanes.status(&stream.name),
        destinations: destinations
            .iter()
            .filter(|destination| destination.stream == stream.name)
            .cloned()
            .collect(),
    };
    settings.streams.iter().zip(learners).map(of).collect()
}

/// Applies the settings that can change at run time; reports the others. `current` is what runs.
fn reload(
    current: &mut Settings,
    load: impl Fn() -> Result<Settings, ConfigProblems>,
    lanes: &Lanes,
) {
    match load() {
        Err(problems) => ConfigReloaded {
            result: Err(&problems),
        }
        .emit(),
        Ok(new) => {
            let restart = needs_restart(current, &new);
            apply_live(current, &new);
            lanes.reload(current);
            ConfigReloaded {
                result: Ok(&restart),
            }
            .emit();
        }
    }
}
