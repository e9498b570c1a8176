//! Four more pumps with signals as plants send them: a machine that is off at night, coarse sensors, a
//! sensor that is lost while a fault grows, and a fault that lasts. They have a stream and a model
//! to themselves, so that nothing about the other pumps changes.

use std::time::Duration;

use serde::Serialize;

use super::plant::Run;
use super::{Args, DemoPlan, GAP_STEPS, Stage, daemon};
use crate::cli::table;
use crate::record::EventTime;
use crate::record::alert::{Alert, AlertEvent, AlertKind};
use crate::sim::fault::{PlantFault, PlantFaultKind};
use crate::sim::fleet::FleetPlan;
use crate::sim::signal::{Records, Signal};

/// What was planted on one pump, and what became of it.
#[derive(Serialize)]
pub(super) struct SignalResult {
    pump: String,
    signal: &'static str,
    planted: &'static str,
    /// The kind of alert that it has to raise.
    kind: &'static str,
    detected: bool,
    /// From its onset to the alert.
    delay_seconds: Option<f64>,
    named_first: Option<String>,
    /// Alerts of any kind in its time.
    alerts: usize,
    /// Alerts of the pump at other times: false ones.
    other_alerts: usize,
}

/// What became of all pumps.
#[derive(Default)]
pub(super) struct SignalReport {
    pub(super) results: Vec<SignalResult>,
    /// Every alert event.
    pub(super) alerts: Vec<Alert>,
}

/// Something planted, and the alert that it has to raise.
struct Planted {
    what: &'static str,
    kind: AlertKind,
    start: EventTime,
    end: EventTime,
}

/// Runs the pumps through a daemon of their own.
pub(super) fn run(args: &Args) -> anyhow::Result<SignalReport> {
    let plan = DemoPlan::of_signals(args);
    let mut stage = Stage::start(args, "signals", daemon::overrides(&plan))?;
    let run = stage.run(&plan)?;
    let alerts = stage.finish()?;
    let pumps = Signal::ALL.iter().zip(&plan.faults);
    let of = |(&signal, fault)| results(signal, fault, &plan.fleet, &run, &alerts);
    let results = pumps.flat_map(of).collect();
    Ok(SignalReport { results, alerts })
}

/// What became of everything planted on the pump of a signal.
fn results(
    signal: Signal,
    fault: &PlantFault,
    fleet: &FleetPlan,
    run: &Run,
    alerts: &[Alert],
) -> Vec<SignalResult> {
    let pump = FleetPlan::name_of(fault.pump);
    let planted = planted(signal, fault, fleet);
    let is_opening = |alert: &&Alert| {
        alert.series == pump && alert.event == AlertEvent::Open && alert.kind.is_alarm()
    };
    let openings: Vec<(EventTime, &Alert)> = (alerts.iter().filter(is_opening))
        .filter_map(|alert| Some((read_time(&alert.time)?, alert)))
        .filter(|(time, _)| (run.from..run.until).contains(time))
        .collect();
    let recovery = fleet.period * u32::try_from(GAP_STEPS).unwrap_or(u32::MAX);
    let is_meant = |time: EventTime| {
        let mut meant = planted.iter();
        meant.any(|planted| (planted.start..planted.end.after(recovery)).contains(&time))
    };
    let others = openings.iter().filter(|(time, _)| !is_meant(*time)).count();
    let of = |planted: &Planted| {
        let within = openings.iter();
        let within = within.filter(|(time, _)| (planted.start..planted.end).contains(time));
        let first = within.clone().find(|(_, alert)| alert.kind == planted.kind);
        let micros = first.map(|(time, _)| time.micros_since(planted.start) as f64);
        SignalResult {
            pump: pump.clone(),
            signal: signal.name(),
            planted: planted.what,
            kind: planted.kind.as_str(),
            detected: first.is_some(),
            delay_seconds: micros.map(|micros| micros / 1e6),
            named_first: first.and_then(|(_, alert)| named_first(alert)),
            alerts: within.count(),
            other_alerts: others,
        }
    };
    planted.iter().map(of).collect()
}

fn planted(signal: Signal, fault: &PlantFault, fleet: &FleetPlan) -> Vec<Planted> {
    let of = |what, kind, records: &Records| Planted {
        what,
        kind,
        start: fleet.time_of(records.start),
        end: fleet.time_of(records.end),
    };
    let records = fault.start..fault.end;
    let kind = match fault.kind {
        PlantFaultKind::Stuck(_) => AlertKind::SensorFault,
        _ => AlertKind::Anomaly,
    };
    let lost = signal.lost(&records);
    let lost = lost.map(|lost| of("flow meter lost", AlertKind::SensorFault, &lost));
    let fault = of(fault.kind.name(), kind, &records);
    // A short run has no time for some of them.
    let all = [Some(fault), lost].into_iter().flatten();
    all.filter(|planted| planted.start < planted.end).collect()
}

fn named_first(alert: &Alert) -> Option<String> {
    let faulty = alert.faults.first().map(|fault| &fault.name);
    let leading = alert.fields.first().map(|field| &field.name);
    faulty.or(leading).cloned()
}

fn read_time(text: &str) -> Option<EventTime> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(EventTime(time.as_microsecond()))
}

/// The results as a table, and what the pumps show beside it.
pub(super) fn render(results: &[SignalResult]) -> String {
    let mut table = table([
        "pump",
        "signal",
        "planted",
        "result",
        "delay",
        "alert",
        "named first",
        "alerts",
        "other alerts",
    ]);
    for found in results {
        let delay = found.delay_seconds.map(|seconds| {
            let delay = Duration::from_secs(seconds as u64);
            humantime::format_duration(delay).to_string()
        });
        table.add_row([
            found.pump.clone(),
            found.signal.to_owned(),
            found.planted.to_owned(),
            if found.detected { "detected" } else { "MISSED" }.to_owned(),
            delay.unwrap_or_default(),
            found.kind.replace('_', " "),
            found.named_first.clone().unwrap_or_default(),
            found.alerts.to_string(),
            found.other_alerts.to_string(),
        ]);
    }
    format!(
        "signals as plants send them, on {} more pumps with a model to themselves\n{table}\n\
         alerts: of any kind in the time of the planted fault; other alerts: false ones of the pump",
        Signal::ALL.len()
    )
}
