//! What the start asks of the schema registry: the ids of the schemas that alerts and scores in Avro are
//! written with. Once they are known, the registry may be away.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::AppError;
use crate::config::settings::{OutputFormat, Settings, StreamSettings};
use crate::events::daemon::RegistryAwaited;
use crate::failure::Failure as _;
use crate::sink::avro::{AvroOutput, RegisterError};
use crate::web::DaemonStatus;

/// How long the daemon waits between two tries to reach the registry at start.
const REGISTRY_RETRY: Duration = Duration::from_secs(3);
/// The thread of a try.
const THREAD: &str = "register";

/// The writers of a stream whose output is Avro, with their schemas registered, however long the registry
/// is away.
///
/// # Errors
/// The registry refuses a schema.
pub(super) async fn await_schemas(
    settings: &Settings,
    stream: &StreamSettings,
    status: &DaemonStatus,
) -> Result<Option<Arc<AvroOutput>>, AppError> {
    if stream.output.format == OutputFormat::Json {
        return Ok(None);
    }
    loop {
        match register(settings, stream).await? {
            Ok(avro) => {
                status.starting.clear();
                tracing::info!(
                    stream = stream.name,
                    alerts = avro.alerts.registered().id,
                    scores = avro.scores.as_ref().map(|writer| writer.registered().id),
                    "schemas registered"
                );
                return Ok(Some(Arc::new(avro)));
            }
            Err(error) if error.is_retryable() => {
                RegistryAwaited {
                    stream: &stream.name,
                    error: &error,
                    retry: REGISTRY_RETRY,
                }
                .emit();
                status.starting.set(&error);
                tokio::time::sleep(REGISTRY_RETRY).await;
            }
            Err(source) => {
                let stream = stream.name.clone();
                return Err(AppError::Register { stream, source });
            }
        }
    }
}

/// One try, in a thread that a stop does not wait for.
async fn register(
    settings: &Settings,
    stream: &StreamSettings,
) -> Result<Result<AvroOutput, RegisterError>, AppError> {
    let (registry, output) = (settings.registry.clone(), stream.output.clone());
    let (done, registered) = oneshot::channel();
    let attempt = move || {
        // Nobody waits for it after a stop.
        let _ = done.send(AvroOutput::register(&registry, &output));
    };
    let builder = thread::Builder::new().name(THREAD.to_owned());
    builder.spawn(attempt).map_err(AppError::Thread)?;
    registered.await.map_err(|_| AppError::ThreadEnded {
        thread: THREAD.to_owned(),
        panic: None,
    })
}
