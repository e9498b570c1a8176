//! The daemon: builds everything in order, runs it, and takes it down in reverse. Both ways are
//! checklists in the log.
//!
//! The stop signal, the reload signal and the configuration's source are arguments, so that tests
//! pass their own.

mod error;
mod supervisor;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use tokio::sync::mpsc;

pub use self::error::AppError;

use self::supervisor::Lanes;
use crate::config::settings::{Settings, StreamSettings};
use crate::config::{ConfigProblems, reloadable};
use crate::destination::reader::DestinationReader;
use crate::destination::{self, DestinationStatus};
use crate::events::daemon::{BrokersAwaited, ConfigReloaded, StoreLost};
use crate::events::published::{EventQueue, PublishedEvent};
use crate::events::store::StateSetAside;
use crate::failure::Failure as _;
use crate::model::registry::Registry;
use crate::retrain::learner::Learner;
use crate::retrain::thread::Retrainer;
use crate::share::error::ShareError;
use crate::share::sync::RegistrySync;
use crate::share::thread::{FeedbackTargets, Sharing};
use crate::sink::topics::{self, TopicError};
use crate::sink::transaction;
use crate::source::Delivery;
use crate::source::client_config;
use crate::state::Store;
use crate::state::sled::SledStore;
use crate::web::{self, Server, StreamStatus};

/// How long the daemon waits between two tries to reach the brokers at start.
const BROKER_RETRY: Duration = Duration::from_secs(3);

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
    record_metrics(&settings);
    let readers = destination::open_all(&settings)
        .map_err(|(stream, source)| AppError::Destination { stream, source })?;
    let store = open_store(&settings)?;
    let registry = Arc::new(Registry::open(&settings.service.model_dir)?);
    tracing::info!(folder = %settings.service.model_dir.display(), "model folder open");
    tokio::select! {
        ready = await_topics(&settings) => ready?,
        () = &mut stop => return Ok(()),
    }

    let halt = Arc::new(AtomicBool::new(false));
    let (event_queue, events) = EventQueue::new();
    let sharing = sharing(&settings, &registry, &store, events)?;
    let sharing = tokio::select! {
        sharing = catch_up(sharing, halt.clone()) => sharing?,
        () = &mut stop => {
            halt.store(true, Ordering::Release);
            return Ok(());
        }
    };
    let (learners, mut others) =
        start_retraining(&settings, &registry, &store, &event_queue, &halt)?;
    let (failed, mut failures) = mpsc::channel(1);
    let lanes = Lanes::start(&settings, &learners, &store, &sharing, &halt, &failed)?;
    let target = |(stream, (_, retrainer)): (&StreamSettings, &Trainers)| FeedbackTargets {
        stream: Arc::new(stream.clone()),
        retrainer: retrainer.clone(),
    };
    others.push(sharing.start(
        settings.streams.iter().zip(&learners).map(target).collect(),
        halt.clone(),
    )?);
    let destinations = deliver_alerts(readers, &halt, &mut others)?;
    let http = serve(&settings, &learners, &lanes, &destinations).await?;
    tracing::info!(lanes = lanes.len(), "running");

    let mut current = settings;
    let mut failure = None;
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(error) = failures.recv() => {
                StoreLost { error: &error }.emit();
                failure = Some(AppError::StateLost { folder: current.service.state_dir.clone(), error });
                break;
            }
            Some(()) = signals.reload.recv() => reload(&mut current, &signals.load, &lanes),
        }
    }
    drain(&current, lanes, &learners, &others, &halt).await?;
    drop(http);
    tracing::info!("stopped");
    failure.map_or(Ok(()), Err)
}

/// What trains the models of a stream: the first one, and each next one.
type Trainers = (Arc<Learner>, Retrainer);

/// The trainers of each stream, and their threads.
fn start_retraining(
    settings: &Settings,
    registry: &Arc<Registry>,
    store: &Arc<dyn Store>,
    event_queue: &EventQueue,
    halt: &Arc<AtomicBool>,
) -> Result<(Vec<Trainers>, Vec<JoinHandle<()>>), AppError> {
    let mut trainers = Vec::new();
    let mut threads = Vec::new();
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
    Ok((trainers, threads))
}

/// Installs the recorder of metrics before anything moves one.
fn record_metrics(settings: &Settings) {
    if settings.service.http_listen.is_some() && web::recorder().is_none() {
        tracing::warn!("another recorder of metrics is installed: /metrics stays empty");
    }
}

/// Starts the threads of the alert destinations; what they show.
fn deliver_alerts(
    readers: Vec<DestinationReader>,
    halt: &Arc<AtomicBool>,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<Vec<Arc<DestinationStatus>>, AppError> {
    let statuses = readers.iter().map(DestinationReader::status).collect();
    for reader in readers {
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
    let names = settings.streams.iter().map(|stream| stream.name.clone());
    let names: Vec<String> = names.collect();
    let sync = RegistrySync::open(registry.clone(), store.clone(), names.clone())?;
    Sharing::new(
        &settings.kafka,
        &settings.share,
        &names,
        sync,
        store.clone(),
        events,
    )
}

/// Waits for the brokers, however long they are away, and prepares the topics of all streams.
async fn await_topics(settings: &Settings) -> Result<(), AppError> {
    let kafka = &settings.kafka;
    let admin: AdminClient<DefaultClientContext> =
        client_config(kafka, "outlierd-admin").create()?;
    once_reachable(|| topics::prepare_shared(&admin, kafka, &settings.share)).await?;
    for stream in &settings.streams {
        let (partitions, created) =
            once_reachable(|| topics::prepare(&admin, kafka, stream)).await?;
        if stream.input.delivery == Delivery::ExactlyOnce {
            transaction::check(kafka, stream).map_err(|source| AppError::Transactions {
                stream: stream.name.clone(),
                source,
            })?;
        }
        tracing::info!(
            stream = stream.name,
            input = stream.input.topic,
            partitions,
            ?created,
            "topics ready"
        );
    }
    Ok(())
}

/// Asks again until a broker answers.
async fn once_reachable<T, F>(mut ask: impl FnMut() -> F) -> Result<T, TopicError>
where
    F: Future<Output = Result<T, TopicError>>,
{
    loop {
        match ask().await {
            Err(error) if error.is_retryable() => {
                BrokersAwaited {
                    error: &error,
                    retry: BROKER_RETRY,
                }
                .emit();
                tokio::time::sleep(BROKER_RETRY).await;
            }
            answer => return answer,
        }
    }
}

/// The HTTP server, where one is configured.
async fn serve(
    settings: &Settings,
    learners: &[Trainers],
    lanes: &Lanes,
    destinations: &[Arc<DestinationStatus>],
) -> Result<Option<Server>, AppError> {
    let Some(address) = settings.service.http_listen else {
        return Ok(None);
    };
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
    let streams = settings.streams.iter().zip(learners).map(of).collect();
    web::serve(address, streams)
        .await
        .map(Some)
        .map_err(|source| AppError::Http { address, source })
}

/// Applies the settings that can change at run time; reports the others.
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
            let restart = reloadable(current, &new);
            lanes.reload(&new);
            ConfigReloaded {
                result: Ok(&restart),
            }
            .emit();
            *current = new;
        }
    }
}

/// Stops everything in order, within the drain deadline.
async fn drain(
    settings: &Settings,
    mut lanes: Lanes,
    learners: &[Trainers],
    others: &[JoinHandle<()>],
    halt: &AtomicBool,
) -> Result<(), AppError> {
    let timeout = settings.service.drain_timeout;
    tracing::info!(timeout_s = timeout.as_secs(), "draining");
    let deadline = Instant::now() + timeout;
    halt.store(true, Ordering::Release);
    let trainings: Vec<JoinHandle<()>> = learners
        .iter()
        .filter_map(|(learner, _)| learner.cancel())
        .collect();
    lanes.wake();
    let threads = lanes.threads().chain(others).chain(&trainings).collect();
    let left = still_running(threads, deadline).await;
    if left.is_empty() {
        tracing::info!("drained");
        return Ok(());
    }
    Err(AppError::Drain {
        threads: left,
        timeout,
    })
}

/// Waits until all threads have ended, at most until the deadline; the names of those that still
/// run then.
async fn still_running(mut threads: Vec<&JoinHandle<()>>, deadline: Instant) -> Vec<String> {
    loop {
        threads.retain(|thread| !thread.is_finished());
        if threads.is_empty() || Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let name = |thread: &JoinHandle<()>| thread.thread().name().unwrap_or("unnamed").to_owned();
    threads.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    fn thread(name: &str, until: Receiver<()>) -> JoinHandle<()> {
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || until.recv().unwrap_or_default())
            .unwrap()
    }

    #[tokio::test]
    async fn every_thread_that_is_left_behind_is_named() {
        let (_lane_hangs, lane) = sync_channel(1);
        let (_retraining_hangs, retraining) = sync_channel(1);
        let (ends, share) = sync_channel::<()>(1);
        drop(ends);
        let threads = [
            thread("pumps-0", lane),
            thread("retrain-pumps", retraining),
            thread("share", share),
        ];
        let deadline = Instant::now() + Duration::from_millis(300);
        let left = still_running(threads.iter().collect(), deadline).await;
        let error = AppError::Drain {
            threads: left,
            timeout: Duration::from_secs(30),
        };
        let text = error.to_string();
        assert!(text.contains("30 s: pumps-0, retrain-pumps;"), "{text}");
    }

    #[tokio::test]
    async fn nothing_is_waited_for_longer_than_it_runs() {
        let (ends, share) = sync_channel::<()>(1);
        drop(ends);
        let began = Instant::now();
        let deadline = began + Duration::from_secs(60);
        let left = still_running(vec![&thread("share", share)], deadline).await;
        assert_eq!(left, Vec::<String>::new());
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
