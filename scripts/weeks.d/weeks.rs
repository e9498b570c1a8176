//! Eight weeks of a simulated plant through the daemon's own pipeline, with retraining and without:
//! the program of `scripts/weeks`. Prints one JSON object.
//!
//! Twelve pumps, a record a minute. The load follows the day and the season; all pumps foul slowly;
//! on day 28 half of them get new impellers; on days 15 and 16 three of them cavitate, so that the
//! traffic is contaminated; and from day 33 on five pumps break, one a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use outlierd::config::settings::StreamSettings;
use outlierd::config::{ConfigSources, load};
use outlierd::events::published::EventQueue;
use outlierd::lane::sampler::Sampler;
use outlierd::model::registry::Registry;
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::SeriesTable;
use outlierd::record::alert::{AlertEvent, AlertKind};
use outlierd::record::{Batch, EventTime, Record};
use outlierd::retrain::engine::RetrainEngine;
use outlierd::retrain::learn::learn;
use outlierd::retrain::schedule::RetrainReason;
use outlierd::retrain::set::{TrainingRow, TrainingSet};
use outlierd::sim::fault::{Direction, FaultSize, PlantFault, PlantFaultKind};
use outlierd::sim::fleet::{Fleet, FleetPlan};
use outlierd::sim::sensor::{Sensor, Values};
use outlierd::state::memory::MemoryStore;
use serde_json::{Value, json};

const PUMPS: usize = 12;
const DAY: u64 = 1_440;
const WEEKS: u64 = 8;
/// The first model learns from so many days.
const LEARN_DAYS: u64 = 2;
/// On this day the pumps before [`OVERHAULED`] get new impellers.
const OVERHAUL_DAY: u64 = 28;
const OVERHAULED: usize = 6;
/// How long after a fault, or the overhaul, alerts are still its own.
const AFTERMATH: u64 = DAY / 2;
/// Steps of one batch.
const STEPS: u64 = 30;

/// The faults that count, and the contamination.
fn faults() -> (Vec<PlantFault>, Vec<PlantFault>) {
    let fault = |pump, kind, day: u64, hours: u64| PlantFault {
        pump,
        kind,
        size: FaultSize::Medium,
        start: day * DAY,
        end: day * DAY + hours * 60,
    };
    let broken = vec![
        fault(1, PlantFaultKind::BearingWear, 33, 24),
        fault(4, PlantFaultKind::Leak, 38, 20),
        fault(7, PlantFaultKind::ValveBlockage, 43, 12),
        fault(10, PlantFaultKind::ImpellerDamage, 47, 12),
        fault(
            2,
            PlantFaultKind::Shift(Sensor::Flow, Direction::Down),
            52,
            12,
        ),
    ];
    let contaminated = (6..9)
        .map(|pump| PlantFault {
            size: FaultSize::Small,
            ..fault(pump, PlantFaultKind::Cavitation, 15, 48)
        })
        .collect();
    (broken, contaminated)
}

/// What weeks do to a pump, beside the season: fouling, and the overhaul.
fn age(values: &mut Values, pump: usize, step: u64) {
    let weeks = step as f64 / (7 * DAY) as f64;
    let mut add = |sensor: Sensor, amount: f64| values[sensor.index()] += amount;
    add(Sensor::SuctionPressure, -0.012 * weeks);
    add(Sensor::MotorCurrent, 0.35 * weeks);
    add(Sensor::Vibration, 0.03 * weeks);
    if step >= OVERHAUL_DAY * DAY && pump < OVERHAULED {
        add(Sensor::DischargePressure, 0.35);
        add(Sensor::MotorCurrent, 1.8);
        add(Sensor::Vibration, -0.15);
    }
    for sensor in Sensor::ALL {
        values[sensor.index()] = sensor.quantise(values[sensor.index()]);
    }
}

fn stream(seed: u64) -> anyhow::Result<StreamSettings> {
    let fields: Vec<&str> = Sensor::ALL.iter().map(|sensor| sensor.as_str()).collect();
    let overrides = vec![
        "streams.pumps.input.topic=plant.pumps".to_owned(),
        format!(
            "streams.pumps.record.fields={}",
            serde_json::to_string(&fields)?
        ),
        format!(
            "streams.pumps.training.records={}",
            LEARN_DAYS * DAY * PUMPS as u64
        ),
        format!("streams.pumps.training.seed={seed}"),
    ];
    let settings = load(&ConfigSources {
        overrides,
        ..ConfigSources::default()
    })?;
    settings.streams.into_iter().next().context("one stream")
}

/// One run over all weeks.
struct Plant {
    stream: Arc<StreamSettings>,
    fleet: Fleet,
    plan: FleetPlan,
    pipeline: Pipeline,
    sampler: Sampler,
    table: SeriesTable,
    engine: RetrainEngine,
    registry: Arc<Registry>,
    retrains: bool,
    /// Pump and step of each anomaly that opened.
    opened: Vec<(usize, u64)>,
    trainings: Vec<Value>,
}

impl Plant {
    fn new(seed: u64, retrains: bool, folder: &std::path::Path) -> anyhow::Result<Self> {
        let stream = Arc::new(stream(seed)?);
        let plan = FleetPlan {
            pumps: PUMPS,
            seed: seed + 1,
            period: Duration::from_secs(60),
            day: Duration::from_secs(86_400),
            // From winter to the height of summer in the eight weeks.
            year: Duration::from_secs(16 * 7 * 86_400),
            ..FleetPlan::default()
        };
        let (mut all, contaminated) = faults();
        all.extend(contaminated);
        let registry = Arc::new(Registry::open(folder)?);
        let engine = RetrainEngine::open(
            stream.clone(),
            registry.clone(),
            Arc::new(MemoryStore::default()),
        )?;
        let pipeline = Pipeline::new(stream.clone(), None)?;
        let admission = engine.admission().clone();
        let sampler = Sampler::new(stream.clone(), admission, EventQueue::default());
        let (table, fleet) = (SeriesTable::new(PUMPS), Fleet::new(plan.clone(), &all));
        let (opened, trainings) = Default::default();
        Ok(Self {
            stream,
            fleet,
            plan,
            pipeline,
            sampler,
            table,
            engine,
            registry,
            retrains,
            opened,
            trainings,
        })
    }

    fn run(&mut self, bar: &indicatif::ProgressBar) -> anyhow::Result<()> {
        let mut learned: Vec<TrainingRow> = Vec::new();
        for from in (0..WEEKS * 7 * DAY).step_by(STEPS as usize) {
            learned.extend(self.batch(from)?);
            bar.inc(STEPS);
            if self.pipeline.detector.bundle_id().is_none() {
                if learned.len() >= self.stream.training.records {
                    let set = TrainingSet::new(std::mem::take(&mut learned));
                    let bundle =
                        learn(&self.stream, &set, None, &mut |_| ControlFlow::Continue(()))?;
                    bundle.save(self.registry.root())?;
                    self.registry
                        .promote(&self.stream.name, bundle.id(), "the first one")?;
                    self.pipeline.swap(Some(bundle))?;
                    self.engine.follow()?;
                }
                continue;
            }
            self.engine.take(self.sampler.take_runs())?;
            let now = self.plan.time_of(from + STEPS - 1);
            if self.retrains {
                let back = self.engine.probe(now)?;
                let due = self.engine.due(now)?;
                if let Some(reason) = due {
                    self.challenge(reason, now, from)?;
                }
                if back || due.is_some() {
                    self.pipeline
                        .swap(self.registry.load_current(&self.stream.name)?)?;
                }
            }
        }
        Ok(())
    }

    fn challenge(
        &mut self,
        reason: RetrainReason,
        now: EventTime,
        step: u64,
    ) -> anyhow::Result<()> {
        let day = step as f64 / DAY as f64;
        let said = match self
            .engine
            .challenge(reason, now, &mut || ControlFlow::Continue(()))
        {
            Ok(verdict) => {
                let live =
                    self.registry.current(&self.stream.name)? == Some(verdict.challenger.clone());
                let tests: BTreeMap<&str, &str> = verdict
                    .tests
                    .iter()
                    .map(|test| (test.name.as_str(), test.detail.as_str()))
                    .collect();
                json!({"day": day, "reason": reason.to_string(), "live": live, "failed": verdict.failed(), "tests": tests,
                    "linear": verdict.linear})
            }
            Err(error) => {
                json!({"day": day, "reason": reason.to_string(), "live": false, "error": error.to_string()})
            }
        };
        self.trainings.push(said);
        Ok(())
    }

    /// Runs [`STEPS`] steps and returns the records that were learned from.
    fn batch(&mut self, from: u64) -> anyhow::Result<Vec<TrainingRow>> {
        let mut batch = Batch::default();
        for step in from..from + STEPS {
            self.fleet.step();
            let readings: Vec<Values> = self
                .fleet
                .readings()
                .map(|reading| *reading.values)
                .collect();
            for (pump, mut values) in readings.into_iter().enumerate() {
                age(&mut values, pump, step);
                batch.records.push(Record {
                    message: batch.records.len(),
                    partition: 0,
                    offset: (step * PUMPS as u64) as i64 + pump as i64,
                    part: None,
                    series: Cow::Owned(FleetPlan::name_of(pump)),
                    time: self.plan.time_of(step),
                    second_time: None,
                    arrival: None,
                });
                batch.values.extend(values);
            }
        }
        let done = self
            .pipeline
            .run_decoded(batch, &mut self.table, &mut |_, _| Ok(None))?;
        self.sampler.take(&self.pipeline, &done);
        for alert in &done.alerts {
            if alert.event == AlertEvent::Open && alert.kind == AlertKind::Anomaly {
                let at = alert.position.offset as u64;
                self.opened
                    .push(((at % PUMPS as u64) as usize, at / PUMPS as u64));
            }
        }
        Ok(done.training_rows().map(|(_, row)| row).collect())
    }

    /// The score of the run against the truth.
    fn report(&self) -> Value {
        let (broken, contaminated) = faults();
        let of = |fault: &PlantFault, pump: usize, step: u64| {
            pump == fault.pump && (fault.start..fault.end + AFTERMATH).contains(&step)
        };
        let known = |pump, step| {
            broken
                .iter()
                .chain(&contaminated)
                .any(|fault| of(fault, pump, step))
        };
        let overhaul = OVERHAUL_DAY * DAY..OVERHAUL_DAY * DAY + AFTERMATH;
        let overhauled = |pump, step| pump < OVERHAULED && overhaul.contains(&step);
        let mut weekly = vec![0u32; WEEKS as usize];
        let (mut false_alarms, mut after_overhaul) = (0, 0);
        for &(pump, step) in &self.opened {
            match (known(pump, step), overhauled(pump, step)) {
                (false, false) => {
                    false_alarms += 1;
                    weekly[(step / (7 * DAY)) as usize] += 1;
                }
                (false, true) => after_overhaul += 1,
                _ => {}
            }
        }
        let caught: Vec<Value> = broken
            .iter()
            .map(|fault| {
                let own =
                    |&&(pump, step): &&(usize, u64)| pump == fault.pump && (fault.start..fault.end).contains(&step);
                let delay = self.opened.iter().find(own).map(|(_, step)| step - fault.start);
                json!({"fault": fault.kind.name(), "day": fault.start / DAY, "delay_minutes": delay})
            })
            .collect();
        let weeks = WEEKS as f64 - LEARN_DAYS as f64 / 7.0;
        json!({
            "false_alarms": false_alarms,
            "false_alarms_per_series_week": f64::from(false_alarms) / (weeks * PUMPS as f64),
            "weekly": weekly.iter().map(|&n| f64::from(n) / PUMPS as f64).collect::<Vec<_>>(),
            "alerts_after_overhaul": after_overhaul,
            "alerts_of_the_contamination":
                self.opened.iter().filter(|&&(pump, step)| contaminated.iter().any(|f| of(f, pump, step))).count(),
            "faults": caught,
            "trainings": self.trainings,
        })
    }
}

fn main() -> anyhow::Result<()> {
    let seed = std::env::args()
        .nth(1)
        .map_or(Ok(0), |text| text.parse())
        .context("the seed is a number")?;
    outlierd::model::use_one_thread();
    let style = indicatif::ProgressStyle::with_template("{prefix:14} {bar:40} {percent}% {eta}")?;
    let mut report = serde_json::Map::new();
    for (name, retrains) in [("off", false), ("on", true)] {
        let bar = indicatif::ProgressBar::new(WEEKS * 7 * DAY).with_style(style.clone());
        bar.set_prefix(format!("retraining {name}"));
        let folder = tempfile::tempdir()?;
        let mut plant = Plant::new(seed, retrains, folder.path())?;
        plant.run(&bar)?;
        bar.finish();
        report.insert(name.to_owned(), plant.report());
    }
    let plan = json!({"pumps": PUMPS, "weeks": WEEKS, "seed": seed, "overhaul_day": OVERHAUL_DAY, "contaminated_days": [15, 17],
        "budget_per_series_week": 2});
    report.insert("plan".to_owned(), plan);
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
