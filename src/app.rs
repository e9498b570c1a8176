//! The daemon: builds everything in order, runs it, and takes it down in reverse. Both ways are checklists in the log.
//!
//! The stop signal, the reload signal and the configuration's source are arguments, so that tests pass their own.

mod supervisor;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use tokio::sync::mpsc;

use self::supervisor::Lanes;
use crate::config::settings::{Delivery, Settings, Stream};
use crate::config::{Problems, reloadable};
use crate::events::StateSetAside;
use crate::events::published::{Outbox, Put};
use crate::model::registry::{Registry, RegistryError};
use crate::retrain::error::RetrainError;
use crate::retrain::learn::LearnError;
use crate::retrain::learner::Learner;
use crate::retrain::thread::Retrainer;
use crate::share::mirror::Mirror;
use crate::share::thread::{Pupils, ShareError, Sharing};
use crate::sink::SinkError;
use crate::sink::topics::{self, TopicError};
use crate::sink::transaction;
use crate::source::client_config;
use crate::state::sled::SledStore;
use crate::state::{Store, StoreError};
use crate::web::{self, StreamStatus};

/// How long the daemon waits between two tries to reach the brokers at start.
const BROKER_RETRY: Duration = Duration::from_secs(3);

/// Why the daemon could not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The state folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model folder.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A stream's first model.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// The retraining.
    #[error(transparent)]
    Retrain(#[from] RetrainError),
    /// What machines share.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The topics.
    #[error(transparent)]
    Topics(#[from] TopicError),
    /// The Kafka properties.
    #[error("librdkafka rejected [kafka.properties]: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The brokers have no transactions.
    #[error(
        "stream {stream}: exactly-once delivery needs transactions: {source}; allow them, or set input.delivery = \"at_least_once\""
    )]
    Transactions {
        /// The stream.
        stream: String,
        /// What the brokers say.
        source: SinkError,
    },
    /// The HTTP address.
    #[error("service.http_listen = {address}: {source}; choose a free address, or \"\" for none")]
    Http {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The store failed while the daemon ran.
    #[error(
        "the state folder {} failed: {error}; free or repair its disk and restart: committed states are not lost",
        folder.display()
    )]
    StateLost {
        /// `service.state_dir`.
        folder: PathBuf,
        /// What the store says.
        error: String,
    },
    /// Lanes had to be left behind.
    #[error("{lanes} lanes did not drain within {} s: their uncommitted records are processed again after the next start", timeout.as_secs())]
    Drain {
        /// How many.
        lanes: usize,
        /// `service.drain_timeout`.
        timeout: Duration,
    },
}

/// What the daemon is told from outside.
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
/// Any [`AppError`]; a broker that is away at start is none, it is waited for.
pub async fn run<S, L>(settings: Settings, mut signals: Signals<S, L>) -> Result<(), AppError>
where
    S: Future<Output = ()> + Send,
    L: Fn() -> Result<Settings, Problems>,
{
    let mut stop = std::pin::pin!(signals.stop);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        streams = settings.streams.len(),
        "starting"
    );
    crate::events::describe_metrics();
    let store = open_store(&settings)?;
    let registry = Arc::new(Registry::open(&settings.service.model_dir)?);
    tracing::info!(folder = %settings.service.model_dir.display(), "model folder open");
    tokio::select! {
        ready = await_topics(&settings) => ready?,
        () = &mut stop => return Ok(()),
    }

    let halt = Arc::new(AtomicBool::new(false));
    let (outbox, events) = Outbox::new();
    let sharing = sharing(&settings, &registry, &store, events)?;
    let caught_up = tokio::task::spawn_blocking({
        let (mut sharing, halt) = (sharing, halt.clone());
        move || sharing.catch_up(&halt).map(|()| sharing)
    });
    let sharing = tokio::select! {
        sharing = caught_up => sharing.map_err(std::io::Error::from).map_err(ShareError::from)??,
        () = &mut stop => {
            halt.store(true, Ordering::Release);
            return Ok(());
        }
    };
    let (mut learners, mut retraining) = (Vec::new(), Vec::new());
    for stream in &settings.streams {
        let stream = Arc::new(stream.clone());
        let learner = Learner::open(stream.clone(), registry.clone(), store.clone())?;
        let (retrainer, thread) = Retrainer::start(
            stream,
            registry.clone(),
            store.clone(),
            learner.clone(),
            outbox.clone(),
            halt.clone(),
        )?;
        learners.push((learner, retrainer));
        retraining.push(thread);
    }
    let (failed, mut failures) = mpsc::channel(1);
    let lanes = Lanes::start(&settings, &learners, &store, &outbox, &halt, &failed);
    let pupil = |(stream, (_, retrainer)): (&Stream, &(Arc<Learner>, Retrainer))| Pupils {
        stream: Arc::new(stream.clone()),
        retrainer: retrainer.clone(),
        lanes: lanes.controls(&stream.name),
    };
    retraining.push(sharing.start(
        settings.streams.iter().zip(&learners).map(pupil).collect(),
        halt.clone(),
    )?);
    let http = match settings.service.http_listen {
        None => None,
        Some(address) => {
            let served = web::serve(address, status(&settings.streams, &learners, &lanes)).await;
            Some(served.map_err(|source| AppError::Http { address, source })?)
        }
    };
    tracing::info!(lanes = lanes.len(), "running");

    let mut current = settings;
    let mut failure = None;
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(error) = failures.recv() => {
                tracing::error!(error, "stopping: the state store failed");
                failure = Some(AppError::StateLost { folder: current.service.state_dir.clone(), error });
                break;
            }
            Some(()) = signals.reload.recv() => reload(&mut current, &signals.load, &lanes),
        }
    }
    drain(&current, lanes, &learners, &retraining, &halt).await?;
    drop(http);
    tracing::info!("stopped");
    failure.map_or(Ok(()), Err)
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
    events: Receiver<Put>,
) -> Result<Sharing, ShareError> {
    let names = settings.streams.iter().map(|stream| stream.name.clone());
    let mirror = Mirror::open(registry.clone(), store.clone(), names)?;
    Sharing::new(
        &settings.kafka,
        &settings.share,
        mirror,
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
            Err(error) if error.is_retriable() => {
                tracing::warn!(error = %error, retry_s = BROKER_RETRY.as_secs(), "waiting for the brokers");
                tokio::time::sleep(BROKER_RETRY).await;
            }
            answer => return answer,
        }
    }
}

fn status(
    streams: &[Stream],
    learners: &[(Arc<Learner>, Retrainer)],
    lanes: &Lanes,
) -> Vec<StreamStatus> {
    let of = |(stream, (learner, _)): (&Stream, &(Arc<Learner>, Retrainer))| StreamStatus {
        name: stream.name.clone(),
        learner: learner.clone(),
        lanes: lanes.status(&stream.name),
    };
    streams.iter().zip(learners).map(of).collect()
}

/// Takes over what can change while running; says what cannot.
fn reload(current: &mut Settings, load: impl Fn() -> Result<Settings, Problems>, lanes: &Lanes) {
    match load() {
        Err(problems) => {
            tracing::error!("configuration not reloaded, keeping the old one: {problems}")
        }
        Ok(new) => {
            let restart = reloadable(current, &new);
            if !restart.is_empty() {
                tracing::warn!(keys = ?restart, "these keys changed and need a restart; all other changes are applied");
            }
            lanes.reload(&new);
            tracing::info!("configuration reloaded");
            *current = new;
        }
    }
}

/// Stops everything in order, within the drain deadline.
async fn drain(
    settings: &Settings,
    mut lanes: Lanes,
    learners: &[(Arc<Learner>, Retrainer)],
    retraining: &[JoinHandle<()>],
    halt: &AtomicBool,
) -> Result<(), AppError> {
    let timeout = settings.service.drain_timeout;
    tracing::info!(timeout_s = timeout.as_secs(), "draining");
    let deadline = Instant::now() + timeout;
    halt.store(true, Ordering::Release);
    learners.iter().for_each(|(learner, _)| learner.cancel());
    lanes.wake();
    let retrains = || retraining.iter().any(|thread| !thread.is_finished());
    while (lanes.running() > 0 || retrains()) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    match lanes.running() {
        0 => {
            tracing::info!("lanes drained");
            Ok(())
        }
        left => Err(AppError::Drain {
            lanes: left,
            timeout,
        }),
    }
}
