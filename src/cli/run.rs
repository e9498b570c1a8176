//! `outlierd run`: the daemon.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::config_args::ConfigArgs;
use crate::app::{self, Signals};
use crate::config::settings::{LogFormat, ServiceSettings};

/// Run the daemon until SIGTERM or Ctrl-C. SIGHUP reloads the configuration.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  outlierd run --config /etc/outlierd/outlierd.toml")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let filter = start_log(&settings.service);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the tokio runtime could not start")?;
    runtime.block_on(async {
        let mut hangup =
            signal(SignalKind::hangup()).context("cannot install the SIGHUP handler")?;
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let (reload, reloads) = mpsc::channel(1);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                // A reload that waits already will read the newest file.
                let _ = reload.try_send(());
            }
        });
        let load = || {
            let settings = args.config.load()?;
            let _ = filter.reload(EnvFilter::new(&settings.service.log_filter));
            Ok(settings)
        };
        let signals = Signals {
            stop: stopped(terminate, interrupt),
            reload: reloads,
            load,
        };
        app::run(settings, signals).await?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn stopped(mut terminate: Signal, mut interrupt: Signal) {
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "shutdown requested");
}

/// Installs the log, and returns the handle that changes its filter.
fn start_log(service: &ServiceSettings) -> reload::Handle<EnvFilter, Registry> {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&service.log_filter));
    let registry = tracing_subscriber::registry().with(filter);
    let ansi = super::is_coloured(&std::io::stderr());
    match service.log_format {
        LogFormat::Text => registry
            .with(
                fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(ansi)
                    .with_target(false),
            )
            .init(),
        LogFormat::Json => registry
            .with(fmt::layer().with_writer(std::io::stderr).json())
            .init(),
    }
    handle
}
