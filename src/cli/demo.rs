//! `outlierd demo`: the whole daemon on a simulated plant whose faults are known, and an honest
//! count of what it found.
//!
//! ```text
//! fleet (plant) -> Kafka (broker) -> the daemon, unchanged (daemon) -> Kafka -> alerts on the terminal (alerts)
//!                                                                         `-> held against the plan (summary)
//! ```
//! Four more pumps with other signals follow, in the same way ([`signals`]).
//!
//! All of it runs in this process, and everything between plant and daemon goes through Kafka. The
//! daemon does not know the plan, and its settings are the built-in ones except those that
//! [`daemon::overrides`] argues for.

mod alerts;
mod broker;
mod daemon;
mod feed;
mod inspection;
mod plant;
mod screen;
mod signals;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::alerts::AlertReader;
use self::broker::{Broker, Topics};
use self::daemon::{Daemon, Scratch};
use self::plant::{Plant, Run};
use self::screen::Screen;
use crate::config::settings::Settings;
use crate::record::alert::Alert;
use crate::sim::fault::PlantFault;
use crate::sim::fleet::FleetPlan;
use crate::sim::plan::{self, FaultPlan};
use crate::sim::signal::Signal;

/// Demonstrate the daemon: simulated pumps through Kafka, a model trained on them, planted faults
/// and their detection.
///
/// It needs no other software: the broker is embedded, unless --kafka names a real one. At the end
/// it prints which planted faults were detected, and the number of false alarms. The exit code does
/// not depend on the detections.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd demo\n  outlierd demo --images\n  outlierd demo --pumps 40 --seed 7 --hours 48 --json summary.json\n  outlierd demo --kafka localhost:9092"
)]
pub(super) struct Args {
    /// A real broker (host:port) instead of the embedded one; the demo creates topics with unique
    /// names and leaves them
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Cameras over a metal surface with scratches, holes and stains, instead of pumps
    #[arg(long, conflicts_with_all = ["pumps", "hours", "alerts"])]
    images: bool,
    /// Pumps in the plant, each with eight sensors and a record every five seconds
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pumps: u16,
    /// Seed of the plant, its faults and the training: the same seed gives the same records and
    /// alerts
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u32,
    /// Simulated hours, training included
    #[arg(long, value_name = "H", default_value_t = 20, value_parser = clap::value_parser!(u16).range(4..=1_000))]
    hours: u16,
    /// Write the summary as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every alert event as JSON lines to this file
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// Log level of the daemon
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

/// Time between two records of a pump. A record a second would be five times as many to train on
/// for the same course of the day, which moves within minutes.
const PERIOD: Duration = Duration::from_secs(5);
/// Records of a pump in the time that the model learns from. A working day of the plant has one
/// hour: two of them show each state of the load cycle twice, so that what is held out in training
/// has its like among what is learned.
const LEARN_STEPS: u64 = 1_440;
/// Records of a pump between learning and the first fault that may come: thresholds are provisional
/// for the first 400 records of a series, and the plant should be seen healthy by a detector that
/// has settled.
const SETTLE_STEPS: u64 = 600;
/// Healthy records between two faults of a pump at least, and how long the recovery from a fault
/// may take: three memories of the slow baseline (1 / score.baseline_weight), and more than three
/// time constants of the winding, the slowest thing in a pump.
const GAP_STEPS: u64 = 900;

/// What is going to happen in the plant: known before the daemon starts, and never shown to it.
struct DemoPlan {
    fleet: FleetPlan,
    faults: Vec<PlantFault>,
    /// The signal of each pump, whose fault has the same place among the faults; empty where pumps have
    /// none.
    signals: Vec<Signal>,
    /// Records of a pump over the whole run.
    steps: u64,
}

impl DemoPlan {
    fn of(args: &Args) -> Self {
        let fleet = FleetPlan {
            pumps: args.pumps.into(),
            seed: args.seed.into(),
            period: PERIOD,
            ..FleetPlan::default()
        };
        let steps = u64::from(args.hours) * 3_600 / PERIOD.as_secs();
        let drawn = FaultPlan {
            quiet: LEARN_STEPS + SETTLE_STEPS,
            length: steps,
            gap: GAP_STEPS,
        };
        let faults = plan::draw(fleet.seed, fleet.pumps, &drawn);
        Self {
            fleet,
            faults,
            signals: Vec::new(),
            steps,
        }
    }

    /// The plan of the pumps with signals, one for each.
    fn of_signals(args: &Args) -> Self {
        let whole = Self::of(args);
        let fleet = FleetPlan {
            pumps: Signal::ALL.len(),
            first: args.pumps.into(),
            ..whole.fleet
        };
        let day = fleet.day.as_secs() / PERIOD.as_secs();
        let within = LEARN_STEPS + SETTLE_STEPS..whole.steps;
        let pumps = Signal::ALL.iter().zip(fleet.first..);
        let faults = pumps.map(|(signal, pump)| signal.fault(pump, &within, day));
        Self {
            faults: faults.collect(),
            signals: Signal::ALL.to_vec(),
            fleet,
            steps: whole.steps,
        }
    }

    /// The part of the working day that is over at a record.
    fn part_of_day(&self, step: u64) -> f64 {
        let day = self.fleet.day.as_secs_f64().max(f64::MIN_POSITIVE);
        (step as f64 * self.fleet.period.as_secs_f64() / day).fract()
    }

    /// Records that the model learns from, over all pumps.
    fn learn_records(&self) -> u64 {
        LEARN_STEPS * self.fleet.pumps as u64
    }
}

/// What both demonstrations run on. Dropped from the top: nothing outlives the broker that it reads
/// from.
struct Stage {
    reader: AlertReader,
    daemon: Daemon,
    screen: Screen,
    /// Set by Ctrl-C.
    stop: Arc<AtomicBool>,
    settings: Settings,
    topics: Topics,
    _broker: Broker,
    _scratch: Scratch,
}

impl Stage {
    /// Starts broker and daemon for records of `what`, with `own` settings of the stream, and ticks
    /// each step off.
    fn start(args: &Args, what: &str, own: Vec<String>) -> anyhow::Result<Self> {
        let screen = Screen::new();
        screen.start_log(&args.log);
        let stop = Arc::new(AtomicBool::new(false));
        let scratch = Scratch::new()?;
        let broker = Broker::start(args.kafka.as_deref())?;
        let topics = Topics::unique(what);
        let settings = daemon::settings(own, &broker, &topics, &scratch)?;
        broker.create(&settings, &topics)?;
        screen.done("broker", &broker.describe());
        screen.done("topics", &topics.describe());

        let daemon = Daemon::start(settings.clone(), stop.clone())?;
        screen.done("daemon", &daemon.describe());
        let reader = AlertReader::start(&settings, &topics, screen.clone())?;
        Ok(Self {
            reader,
            daemon,
            screen,
            stop,
            settings,
            topics,
            _broker: broker,
            _scratch: scratch,
        })
    }

    /// Runs the pumps of a plan to their end.
    fn run(&mut self, plan: &DemoPlan) -> anyhow::Result<Run> {
        let mut plant = Plant::new(plan, &self.settings, &self.topics, &self.stop, &self.screen)?;
        plant.run(&mut self.daemon)
    }

    /// Stops the daemon, and gives every alert that it published.
    fn finish(mut self) -> anyhow::Result<Vec<Alert>> {
        self.daemon.stop()?;
        self.reader.finish()
    }
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    if args.images {
        return inspection::main(args);
    }
    let plan = DemoPlan::of(args);
    let mut stage = Stage::start(args, "pumps", daemon::overrides(&plan))?;
    let run = stage.run(&plan)?;
    let is_stopped = stage.stop.load(Ordering::Acquire);
    let alerts = stage.finish()?;
    let signals = match is_stopped {
        true => Ok(signals::SignalReport::default()),
        false => signals::run(args),
    };
    let nothing = signals::SignalReport::default();
    let found = signals.as_ref().unwrap_or(&nothing);
    summary::show(args, &plan, &run, &alerts, found)?;
    signals?;
    Ok(ExitCode::SUCCESS)
}
