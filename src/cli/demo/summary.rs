//! The end of the demonstration: every planted fault with what became of it, and what the alerts
//! cost.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::plant::Run;
use super::signals::{self, SignalReport, SignalResult};
use super::{Args, DemoPlan, GAP_STEPS};
use crate::record::alert::{Alert, AlertEvent};
use crate::sim::report::{FaultOutcome, FaultReport, FaultResult, MatchRules, TrueFault};

/// Prints the summary, and writes the requested files.
pub(super) fn show(
    args: &Args,
    plan: &DemoPlan,
    run: &Run,
    alerts: &[Alert],
    signals: &SignalReport,
) -> anyhow::Result<()> {
    let truth: Vec<TrueFault> = plan
        .faults
        .iter()
        .map(|fault| TrueFault::of(fault, &plan.fleet))
        .collect();
    let period = plan.fleet.period;
    let rules = MatchRules {
        pumps: plan.fleet.pumps,
        from: run.from,
        until: run.until,
        // None: what opens when a machine is repaired is the step back, after a fault that nobody
        // was told of.
        catch_grace: Duration::ZERO,
        recovery: period * u32::try_from(GAP_STEPS)?,
    };
    let report = FaultReport::new(&truth, alerts, &rules)?;
    println!("\n{}", report.render());
    println!("{}", costs(plan, run, alerts));
    if !signals.results.is_empty() {
        println!("\n{}", signals::render(&signals.results));
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&summary(
            args,
            plan,
            run,
            alerts,
            &report,
            &signals.results,
        ))?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        println!("summary in {}", path.display());
    }
    if let Some(path) = &args.alerts {
        let all = || alerts.iter().chain(&signals.alerts);
        write_alerts(path, all()).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{} alert events in {}", all().count(), path.display());
    }
    Ok(())
}

fn write_alerts<'a>(path: &Path, alerts: impl Iterator<Item = &'a Alert>) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    for alert in alerts {
        serde_json::to_writer(&mut file, alert)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

fn rate(run: &Run) -> f64 {
    run.scored as f64 / run.scoring.as_secs_f64().max(1e-9)
}

fn simulated(steps: u64, plan: &DemoPlan) -> Duration {
    plan.fleet
        .period
        .saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

fn openings(alerts: &[Alert]) -> usize {
    alerts
        .iter()
        .filter(|alert| alert.event == AlertEvent::Open)
        .count()
}

fn costs(plan: &DemoPlan, run: &Run, alerts: &[Alert]) -> String {
    format!(
        "{} records of {} pumps scored in {:.1} s: {:.0} records/s through Kafka, plant and broker on the same machine\n\
         {} training records in {:.1} s, training {:.1} s; {} alerts, {} records rejected",
        run.scored,
        plan.fleet.pumps,
        run.scoring.as_secs_f64(),
        rate(run),
        run.learned_steps * plan.fleet.pumps as u64,
        run.learning.as_secs_f64(),
        run.training.as_secs_f64(),
        openings(alerts),
        run.dead_letters,
    )
}

fn summary(
    args: &Args,
    plan: &DemoPlan,
    run: &Run,
    alerts: &[Alert],
    report: &FaultReport,
    signals: &[SignalResult],
) -> Value {
    let (caught, of) = report.caught();
    json!({
        "seed": args.seed,
        "pumps": plan.fleet.pumps,
        "simulated_seconds": simulated(run.steps, plan).as_secs_f64(),
        "scored_from": run.from.to_string(),
        "bundle": run.bundle,
        "learned_records": run.learned_steps * plan.fleet.pumps as u64,
        "scored_records": run.scored,
        "records_per_second": rate(run),
        "learning_seconds": run.learning.as_secs_f64(),
        "training_seconds": run.training.as_secs_f64(),
        "scoring_seconds": run.scoring.as_secs_f64(),
        "dead_letters": run.dead_letters,
        "alerts": openings(alerts),
        "faults_detected": caught,
        "faults_finished": of,
        "detected_by_chance": report.caught_by_chance,
        "false_alarms": report.false_alarms,
        "healthy_series_days": report.healthy_days,
        "false_alarms_per_series_day": report.false_alarms_per_day(),
        "alerts_in_recovery": report.aftermath,
        "faults": report.lines.iter().map(fault).collect::<Vec<_>>(),
        "signals": signals,
    })
}

fn fault(line: &FaultResult) -> Value {
    let truth = &line.truth;
    let result = match line.outcome {
        FaultOutcome::Caught(_) => "detected",
        FaultOutcome::Missed => "missed",
        FaultOutcome::Unfinished => "unfinished",
    };
    let catch = line.catch();
    json!({
        "pump": truth.pump,
        "kind": truth.kind.name(),
        "sensor": truth.kind.sensor().map(|sensor| sensor.as_str()),
        "size": truth.kind.has_sizes().then(|| truth.size.as_str()),
        "start": truth.start.to_string(),
        "end": truth.end.to_string(),
        "result": result,
        "delay_seconds": catch.map(|catch| catch.delay.as_secs_f64()),
        "alert": catch.map(|catch| catch.kind.as_str()),
        "named_first": catch.and_then(|catch| catch.sensor.clone()),
        "further_alerts": line.repeats,
    })
}
