//! The daemon under demonstration: [`app::run`] as `outlierd run` calls it, on a thread, with a
//! separate stop signal. The demonstration reads its progress from its HTTP page, as an operator
//! would.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use tokio::sync::{mpsc, oneshot};

use super::DemoPlan;
use super::broker::{Broker, Topics};
use super::screen::Screen;
use crate::app::{self, Signals};
use crate::config::settings::Settings;
use crate::config::{ConfigSources, load};
use crate::sim::sensor::Sensor;

/// The stream's name in the configuration.
pub(super) const STREAM: &str = "demo";
/// Width of the code: what moves a healthy pump independently is the demand, the consumers' valves,
/// the level of the tank and the temperature of the air.
const LATENT: usize = 4;
/// Answers of the status page are a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// How often the daemon is asked whether it is trained.
const ASK_EVERY: Duration = Duration::from_millis(200);
const HTTP_TIMEOUT: Duration = Duration::from_secs(2);
/// Environment variables that reach the demonstration: how to log on to a real broker. A user's
/// streams do not.
const KAFKA_ENVIRONMENT: &str = "OUTLIERD__KAFKA__";

/// A temporary folder for states and models.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("outlierd-demo-{}", std::process::id()));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), error = %error, "cannot remove the temporary folder");
        }
    }
}

/// The built-in settings with what the demonstration needs, and `own`, those of its stream.
pub(super) fn settings(
    own: Vec<String>,
    broker: &Broker,
    topics: &Topics,
    scratch: &Scratch,
) -> anyhow::Result<Settings> {
    let environment = std::env::vars_os().filter(|(name, _)| {
        name.to_str()
            .is_some_and(|name| name.starts_with(KAFKA_ENVIRONMENT))
    });
    let mut overrides = places(&broker.address(), topics, scratch.path())?;
    overrides.extend(own);
    overrides.extend(broker.overrides());
    Ok(load(&ConfigSources {
        file: None,
        environment: environment.collect(),
        overrides,
    })?)
}

fn of_stream(key: &str, value: String) -> String {
    format!("streams.{STREAM}.{key}={value}")
}

/// Addresses, topics and folders.
fn places(brokers: &str, topics: &Topics, scratch: &Path) -> anyhow::Result<Vec<String>> {
    let listen = free_address().context("no free port for the status page")?;
    let folder = scratch
        .to_str()
        .context("the path of the temporary folder is not UTF-8")?;
    Ok(vec![
        format!("service.state_dir={:?}", format!("{folder}/state")),
        format!("service.model_dir={:?}", format!("{folder}/models")),
        format!("service.http_listen=\"{listen}\""),
        format!("kafka.brokers={brokers:?}"),
        // One machine, whose models go with it.
        "share.bundles=\"\"".into(),
        "share.control=\"\"".into(),
        "share.events=\"\"".into(),
        of_stream("input.topic", format!("{:?}", topics.input)),
        of_stream("input.group", format!("{:?}", topics.input)),
        // The plant waits for the committed positions: a slow commit would slow it down.
        of_stream("input.commit_interval", "\"200ms\"".into()),
        of_stream("output.alerts", format!("{:?}", topics.alerts)),
        of_stream(
            "output.states",
            format!("{:?}", format!("{}.states", topics.input)),
        ),
        of_stream("output.dead_letters", format!("{:?}", topics.dead_letters)),
    ])
}

/// What the stream of the pumps has: the form of the records; and, of what decides on alerts, only
/// the physical ranges from the sensors' data sheets, how much to learn from, the width of the
/// code, and the seed. Nothing is tuned to the faults.
pub(super) fn overrides(plan: &DemoPlan) -> Vec<String> {
    let field = |sensor: Sensor| {
        let (name, unit, (min, max)) = (sensor.as_str(), sensor.unit(), sensor.range());
        format!(
            "{{ name = {name:?}, path = \"sensors.{name}.value\", unit = {unit:?}, min = {min:?}, max = {max:?} }}"
        )
    };
    let fields: Vec<String> = Sensor::ALL.into_iter().map(field).collect();
    vec![
        of_stream("record.key", "\"field:pump\"".into()),
        of_stream("record.time", "\"field:time\"".into()),
        of_stream("record.fields", format!("[{}]", fields.join(", "))),
        of_stream("model.latent", LATENT.to_string()),
        of_stream("training.records", plan.learn_records().to_string()),
        of_stream("training.seed", plan.fleet.seed.to_string()),
        // Hours pass in a second here: the states that it reads from the store are hours away from the
        // records that it injects faults into.
        of_stream("retrain.self_test", "\"0s\"".into()),
    ]
}

/// An address that was free a moment ago; the daemon says so where somebody else was quicker.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// Where the daemon is on its way to a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The status page does not answer yet.
    Starting,
    Learning {
        records: u64,
        wanted: u64,
    },
    Training,
    Live {
        bundle: String,
    },
}

/// The running daemon.
pub(super) struct Daemon {
    /// Taken by [`Daemon::stop`].
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    /// Sent by [`Daemon::stop`]; dropped with an early end of the command, which stops the daemon
    /// as well.
    stop: Option<oneshot::Sender<()>>,
    listen: SocketAddr,
}

impl Daemon {
    /// Starts the daemon. Ctrl-C sets `interrupted` instead of ending the process, so that the
    /// daemon drains.
    pub(super) fn start(settings: Settings, interrupted: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let listen = settings
            .service
            .http_listen
            .context("the demonstration needs the status page")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                tokio::spawn(async move {
                    if tokio::signal::ctrl_c().await.is_ok() {
                        interrupted.store(true, Ordering::Release);
                    }
                });
                // No reload is ever asked for; the sender lives until the end, so that nobody takes
                // it for one.
                let (_reload, reloads) = mpsc::channel(1);
                let same = settings.clone();
                let stop = async { drop(stopped.await) };
                Ok(app::run(
                    settings,
                    Signals {
                        stop,
                        reload: reloads,
                        load: || Ok(same.clone()),
                    },
                )
                .await?)
            })
        };
        let thread = thread::Builder::new()
            .name("daemon".into())
            .spawn(run)
            .context("cannot start the daemon's thread")?;
        Ok(Self {
            thread: Some(thread),
            stop: Some(stop),
            listen,
        })
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "started; its health, status and metrics are on http://{}",
            self.listen
        )
    }

    /// Where the daemon is.
    ///
    /// # Errors
    /// Where the daemon has ended.
    pub(super) fn phase(&mut self) -> anyhow::Result<Phase> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            self.stop()?;
            bail!("the daemon stopped unexpectedly");
        }
        Ok(get(self.listen, "/status")
            .and_then(|page| phase_in(&page))
            .unwrap_or(Phase::Starting))
    }

    /// Waits until the model is live, whose training began at `since`. Gives its id and how long
    /// that took.
    ///
    /// # Errors
    /// Where the daemon has ended, or Ctrl-C was pressed.
    pub(super) fn await_model(
        &mut self,
        screen: &Screen,
        interrupted: &AtomicBool,
        since: Instant,
    ) -> anyhow::Result<(String, Duration)> {
        screen.begin_waiting("training");
        loop {
            if interrupted.load(Ordering::Acquire) {
                bail!("stopped before the model was live: no record was scored");
            }
            if let Phase::Live { bundle } = self.phase()? {
                let took = since.elapsed();
                screen.done("training", &format!("took {:.1} s", took.as_secs_f64()));
                screen.done("live", &format!("model {bundle}"));
                return Ok((bundle, took));
            }
            thread::sleep(ASK_EVERY);
        }
    }

    /// Stops the daemon and waits until it is drained.
    ///
    /// # Errors
    /// What the daemon ended with.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        // A daemon that has ended does not listen any more.
        let _ = self.stop.take().map(|stop| stop.send(()));
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(anyhow!("the daemon's thread panicked")),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After an error of the demonstration itself: that one is reported, and nothing runs on
        // behind it.
        let _ = self.stop();
    }
}

/// The body of a page; `None` where it does not answer.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, HTTP_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(HTTP_TIMEOUT)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut answer)
        .ok()?;
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
}

fn phase_in(page: &str) -> Option<Phase> {
    let status: serde_json::Value = serde_json::from_str(page).ok()?;
    let model = status.get(0)?.get("model")?;
    match model.get("phase")?.as_str()? {
        "learning" => Some(Phase::Learning {
            records: model.get("records")?.as_u64()?,
            wanted: model.get("wanted")?.as_u64()?,
        }),
        "training" => Some(Phase::Training),
        "live" => Some(Phase::Live {
            bundle: model.get("bundle")?.as_str()?.to_owned(),
        }),
        _ => None,
    }
}
