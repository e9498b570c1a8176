//! Health and metrics over HTTP.
//!
//! `/healthz` answers 200 while the process runs; `/readyz` answers 200 while every lane scores what
//! comes, else 503 with the reasons; `/status` has each stream's phase as JSON;
//! `/series/STREAM/SERIES` describes one series; `/metrics` is the Prometheus text.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::destination::DestinationStatus;
use crate::events::metric;
use crate::events::observed::{ProcessStarted, StoreObserved, StreamObserved};
use crate::failure::{FailureReport, PresentFailure};
use crate::lane::LaneStatus;
use crate::pipeline::status::SeriesStatus;
use crate::retrain::learner::{Learner, LearnerPhase};

/// What is shown of one stream.
#[derive(Clone)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// Tells its phase.
    pub learner: Arc<Learner>,
    /// Its lanes.
    pub lanes: Vec<Arc<LaneStatus>>,
    /// Its alert destinations beside Kafka.
    pub destinations: Vec<Arc<DestinationStatus>>,
}

/// What is shown of the daemon, from before the brokers are asked.
#[derive(Default)]
pub struct DaemonStatus {
    streams: OnceLock<Vec<StreamStatus>>,
    /// What the start waits for; nothing fails once the streams are there.
    pub starting: PresentFailure,
}

impl DaemonStatus {
    /// The lanes have started.
    pub fn started(&self, streams: Vec<StreamStatus>) {
        // Called once.
        let _ = self.streams.set(streams);
    }

    fn streams(&self) -> &[StreamStatus] {
        self.streams.get().map_or(&[], Vec::as_slice)
    }

    /// Why the daemon does not score all that comes; empty where it does.
    pub fn not_ready(&self) -> Vec<String> {
        let Some(streams) = self.streams.get() else {
            return vec![match self.starting.get() {
                Some(failure) => format!("starting: {}", failure.text),
                None => "starting".into(),
            }];
        };
        let now = Instant::now();
        let of = |stream: &StreamStatus| -> Vec<String> {
            let lanes = stream.lanes.iter().enumerate();
            lanes
                .filter_map(|(number, lane)| Some((number, lane.not_ready(now)?)))
                .map(|(number, why)| format!("stream {}, lane {number}: {why}", stream.name))
                .collect()
        };
        streams.iter().flat_map(of).collect()
    }
}

/// A running server; it ends when this is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Whether it has ended, which it does not before it is dropped.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How often samples of histograms are summed up. Without it, each sample is kept until the metrics
/// are scraped, which may never happen.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Connections at a time; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// How long the header of a request may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long is waited where the system gives no connection, for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// The recorder of this process, installed by the first call. Metrics that move before that are
/// lost, and so are help texts: `app` calls this before it builds anything.
pub fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets(&metric::SECONDS)
                .ok()?;
            let handle = builder.install_recorder().ok()?;
            metric::describe_all();
            process_metrics().describe();
            ProcessStarted.emit();
            Some(handle)
        })
        .as_ref()
}

/// Serves until the returned server is dropped.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve(address: SocketAddr, status: Arc<DaemonStatus>) -> io::Result<Server> {
    let handle = recorder();
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(streams))
        .route("/series/{stream}/{series}", get(series))
        .route("/metrics", get(metrics))
        .with_state(status);
    let task = tokio::spawn(async move {
        let upkeep = async {
            let mut interval = tokio::time::interval(UPKEEP_EVERY);
            loop {
                interval.tick().await;
                if let Some(handle) = handle {
                    handle.run_upkeep();
                }
            }
        };
        tokio::join!(accept(listener, router), upkeep);
    });
    tracing::info!(%address, "http listening");
    Ok(Server { address, task })
}

/// Serves connections until it is dropped: so many at a time, and none for long, so that clients
/// which never finish a request take neither all descriptors nor the place of others.
async fn accept(listener: TcpListener, router: Router) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(error = %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off is no failure.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(permit);
        });
    }
}

async fn ready(State(status): State<Arc<DaemonStatus>>) -> (StatusCode, String) {
    let reasons = status.not_ready();
    if reasons.is_empty() {
        (StatusCode::OK, "ready\n".into())
    } else {
        let text = format!("not ready: {}\n", reasons.join("; "));
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

async fn streams(State(status): State<Arc<DaemonStatus>>) -> Json<Value> {
    Json(Value::Array(
        status.streams().iter().map(of_stream).collect(),
    ))
}

/// One series, as it was last stored: at most some seconds ago. A key with slashes is written with
/// %2F.
async fn series(
    State(status): State<Arc<DaemonStatus>>,
    Path((name, series)): Path<(String, String)>,
) -> Result<Json<Vec<SeriesStatus>>, (StatusCode, String)> {
    let streams = status.streams();
    let Some(stream) = streams.iter().find(|stream| stream.name == name) else {
        let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
        return Err((
            StatusCode::NOT_FOUND,
            format!("no stream {name:?}; there are {}\n", names.join(", ")),
        ));
    };
    let learner = stream.learner.clone();
    let key = series.clone();
    let read = tokio::task::spawn_blocking(move || {
        learner.series(&key).map_err(|error| error.to_string())
    })
    .await;
    let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error + "\n");
    let found = read
        .map_err(|error| failed(error.to_string()))?
        .map_err(failed)?;
    if found.is_empty() {
        let text = format!("stream {name} has no stored state of a series {series:?}\n");
        return Err((StatusCode::NOT_FOUND, text));
    }
    Ok(Json(found))
}

/// The object with what fails now, and who has to act; both are null where nothing fails.
fn with_failure(mut object: Value, failure: Option<FailureReport>) -> Value {
    object["domain"] = failure
        .as_ref()
        .map(|failure| failure.domain.as_str())
        .into();
    object["failure"] = failure.map(|failure| failure.text).into();
    object
}

fn of_stream(stream: &StreamStatus) -> Value {
    let phase = stream.learner.phase();
    let mut model = json!({ "phase": phase.as_str() });
    match phase {
        LearnerPhase::Collecting {
            done,
            wanted,
            missing,
        } => {
            model["records"] = done.into();
            model["wanted"] = wanted.into();
            model["missing"] = missing.into();
        }
        LearnerPhase::Training => {}
        LearnerPhase::Live(id) => model["bundle"] = (&*id).into(),
    }
    let observed: Vec<_> = stream.lanes.iter().map(|lane| lane.observed()).collect();
    let lanes: Vec<Value> = stream
        .lanes
        .iter()
        .zip(&observed)
        .map(|(lane, observed)| {
            let lane_state = json!({
                "running": lane.running.load(Ordering::Acquire),
                "partitions": lane.partitions.load(Ordering::Acquire),
                "series": lane.series.load(Ordering::Acquire),
                "open_alerts": observed.alerting,
            });
            with_failure(lane_state, lane.failure().get())
        })
        .collect();
    let destinations: Vec<Value> = stream
        .destinations
        .iter()
        .map(|destination| {
            with_failure(
                json!({ "name": destination.name }),
                destination.failure.get(),
            )
        })
        .collect();
    // All lanes share it.
    let last_record = observed.iter().filter_map(|lane| lane.read_at).max();
    let rejections = stream.lanes.first().map(|lane| &lane.rejections);
    let unusable = rejections.and_then(|rejections| rejections.unusable(Instant::now()));
    json!({
        "stream": stream.name,
        "model": model,
        "lanes": lanes,
        "destinations": destinations,
        "unusable": unusable,
        "last_record": last_record.and_then(utc),
    })
}

/// CPU time, memory, descriptors, threads and the start of the process.
fn process_metrics() -> metrics_process::Collector {
    metrics_process::Collector::default()
}

/// Sets the gauges of a stream that no event moves.
fn observe(stream: &StreamStatus) {
    let lanes: Vec<_> = stream.lanes.iter().map(|lane| lane.observed()).collect();
    let in_memory = stream
        .lanes
        .iter()
        .map(|lane| lane.series.load(Ordering::Acquire));
    StreamObserved {
        stream: &stream.name,
        phase: stream.learner.phase().as_str(),
        series: in_memory.sum(),
        open_alerts: lanes.iter().map(|lane| lane.alerting).sum(),
        is_connected: lanes.iter().all(|lane| lane.is_connected),
        last_record: lanes.iter().filter_map(|lane| lane.read_at).max(),
        last_commit: lanes.iter().filter_map(|lane| lane.committed_at).max(),
    }
    .emit();
}

/// A time in RFC 3339, to the second.
fn utc(at: SystemTime) -> Option<String> {
    let at = jiff::Timestamp::try_from(at).ok()?;
    Some(at.round(jiff::Unit::Second).ok()?.to_string())
}

async fn metrics(State(status): State<Arc<DaemonStatus>>) -> impl IntoResponse {
    let streams = status.streams();
    streams.iter().for_each(observe);
    // All streams share it.
    let store = streams.first().and_then(|one| one.learner.store_bytes());
    if let Some(bytes) = store {
        StoreObserved { bytes }.emit();
    }
    process_metrics().collect();
    let text = recorder().map(PrometheusHandle::render).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
