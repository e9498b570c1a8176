//! Health and metrics over HTTP.
//!
//! `/healthz` answers 200 while the process runs; `/readyz` answers 200 when every lane runs, else
//! 503; `/status` has each stream's phase as JSON; `/series/STREAM/SERIES` describes one series;
//! `/metrics` is the Prometheus text.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::destination::DestinationStatus;
use crate::events::{SeriesCounted, metric};
use crate::failure::FailureReport;
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

/// A running server; it ends when this is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How often samples of histograms are summed up. Without it, each sample is kept until the metrics
/// are scraped, which may never happen.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The recorder of this process, installed by the first call. Metrics that move before that are
/// lost, and so are help texts: `app` calls this before it builds anything.
pub fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let handle = PrometheusBuilder::new().install_recorder().ok()?;
            metric::describe_all();
            Some(handle)
        })
        .as_ref()
}

/// Serves until the returned server is dropped.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve(address: SocketAddr, streams: Vec<StreamStatus>) -> io::Result<Server> {
    let handle = recorder();
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/series/{stream}/{series}", get(series))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(streams));
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
        let served = tokio::select! {
            served = axum::serve(listener, router) => served,
            () = upkeep => Ok(()),
        };
        if let Err(error) = served {
            tracing::error!(error = %error, "http server ended");
        }
    });
    tracing::info!(%address, "http listening");
    Ok(Server {
        address,
        task: task.abort_handle(),
    })
}

async fn ready(State(streams): State<Arc<Vec<StreamStatus>>>) -> (StatusCode, String) {
    let waiting: Vec<String> = streams.iter().filter_map(not_running).collect();
    if waiting.is_empty() {
        (StatusCode::OK, "ready\n".into())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("lanes not running: {}\n", waiting.join(", ")),
        )
    }
}

/// The name of a stream of which a lane does not run, with the domain of what failed.
fn not_running(stream: &StreamStatus) -> Option<String> {
    let is_waiting = |lane: &&Arc<LaneStatus>| !lane.running.load(Ordering::Acquire);
    let mut waiting = stream.lanes.iter().filter(is_waiting).peekable();
    waiting.peek()?;
    let name = &stream.name;
    Some(match waiting.find_map(|lane| lane.failure.get()) {
        Some(failure) => format!("{name} ({} failure)", failure.domain.as_str()),
        None => name.clone(),
    })
}

async fn status(State(streams): State<Arc<Vec<StreamStatus>>>) -> Json<Value> {
    Json(Value::Array(streams.iter().map(of_stream).collect()))
}

/// One series, as it was last stored: at most some seconds ago. A key with slashes is written with
/// %2F.
async fn series(
    State(streams): State<Arc<Vec<StreamStatus>>>,
    Path((name, series)): Path<(String, String)>,
) -> Result<Json<Vec<SeriesStatus>>, (StatusCode, String)> {
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
    let phase = match stream.learner.phase() {
        LearnerPhase::Collecting {
            done,
            wanted,
            missing,
        } => {
            json!({ "phase": "learning", "records": done, "wanted": wanted, "missing": missing })
        }
        LearnerPhase::Training => json!({ "phase": "training" }),
        LearnerPhase::Live(id) => json!({ "phase": "live", "bundle": &*id }),
    };
    let lanes: Vec<Value> = stream
        .lanes
        .iter()
        .map(|lane| {
            let lane_state = json!({
                "running": lane.running.load(Ordering::Acquire),
                "partitions": lane.partitions.load(Ordering::Acquire),
                "series": lane.series.load(Ordering::Acquire),
            });
            with_failure(lane_state, lane.failure.get())
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
    json!({ "stream": stream.name, "model": phase, "lanes": lanes, "destinations": destinations })
}

async fn metrics(State(streams): State<Arc<Vec<StreamStatus>>>) -> impl IntoResponse {
    for stream in streams.iter() {
        let series: usize = stream
            .lanes
            .iter()
            .map(|lane| lane.series.load(Ordering::Acquire))
            .sum();
        SeriesCounted {
            stream: &stream.name,
            series,
        }
        .emit();
    }
    let text = recorder().map(PrometheusHandle::render).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
