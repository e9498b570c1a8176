//! The text form of a report: a table of the faults, one of the kinds, and the totals.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use comfy_table::{Table, presets};

use super::{FaultOutcome, FaultReport, FaultResult};
use crate::record::alert::AlertKind;

/// Renders the report; the width follows the content, not the terminal, so that the text is always
/// the same.
pub fn render(report: &FaultReport) -> String {
    let (caught, of) = report.caught();
    let mut text = format!("{}\n\n{}\n\n", faults(report), kinds(report));
    let unfinished = report.lines.len() - of;
    // Writing to a String cannot fail.
    let _ = write!(text, "detected {caught} of {of} faults");
    if unfinished > 0 {
        let _ = write!(
            text,
            " ({unfinished} more still active at the end of the run)"
        );
    }
    let _ = writeln!(
        text,
        "; as many false alarms at random times would coincide with {:.1}",
        report.caught_by_chance
    );
    let rate = report
        .false_alarms_per_day()
        .map_or_else(|| "no healthy time".to_owned(), |rate| format!("{rate:.2}"));
    let _ = writeln!(
        text,
        "false alarms {} in {:.2} healthy series-days: {rate} per series-day",
        report.false_alarms, report.healthy_days
    );
    let _ = writeln!(text, "alerts while a pump recovered {}", report.aftermath);
    text
}

fn faults(report: &FaultReport) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "pump",
        "fault",
        "sensor",
        "size",
        "onset",
        "lasted",
        "result",
        "delay",
        "alert",
        "named first",
    ]);
    for line in &report.lines {
        let truth = &line.truth;
        let size = if truth.kind.has_sizes() {
            truth.size.as_str()
        } else {
            ""
        };
        let lasted =
            Duration::from_micros(truth.end.micros_since(truth.start).max(0).unsigned_abs());
        let (result, delay, alert, named) = match &line.outcome {
            FaultOutcome::Caught(catch) => (
                "detected",
                short(catch.delay),
                catch.kind.label(),
                catch.sensor.clone().unwrap_or_default(),
            ),
            FaultOutcome::Missed => ("MISSED", String::new(), String::new(), String::new()),
            FaultOutcome::Unfinished => ("unfinished", String::new(), String::new(), String::new()),
        };
        table.add_row([
            truth.pump.clone(),
            truth.kind.name().to_owned(),
            truth
                .kind
                .sensor()
                .map_or("", |sensor| sensor.as_str())
                .to_owned(),
            size.to_owned(),
            truth.start.to_string(),
            short(lasted),
            result.to_owned(),
            delay,
            alert,
            named,
        ]);
    }
    table
}

fn kinds(report: &FaultReport) -> Table {
    let mut by_kind: BTreeMap<&str, Vec<&FaultResult>> = BTreeMap::new();
    for line in report
        .lines
        .iter()
        .filter(|line| line.outcome != FaultOutcome::Unfinished)
    {
        by_kind
            .entry(line.truth.kind.name())
            .or_default()
            .push(line);
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let alarms = || AlertKind::ALL.iter().filter(|kind| kind.is_alarm());
    let as_kind = alarms().map(|kind| format!("as {}", kind.label()));
    let mut header: Vec<String> = ["fault", "planted", "detected"].map(str::to_owned).into();
    header.extend(as_kind.chain(["median delay".to_owned()]));
    table.set_header(header);
    for (kind, lines) in by_kind {
        let catches: Vec<_> = lines.iter().filter_map(|line| line.catch()).collect();
        let count = |kind: &AlertKind| catches.iter().filter(|catch| catch.kind == *kind).count();
        let mut delays: Vec<Duration> = catches.iter().map(|catch| catch.delay).collect();
        delays.sort_unstable();
        // The lower of the two middle ones: always a delay that was seen.
        let median = delays
            .get(delays.len().saturating_sub(1) / 2)
            .copied()
            .map(short)
            .unwrap_or_default();
        let mut row = vec![
            kind.to_owned(),
            lines.len().to_string(),
            catches.len().to_string(),
        ];
        row.extend(alarms().map(|kind| count(kind).to_string()));
        row.push(median);
        table.add_row(row);
    }
    table
}

/// A duration in whole seconds, such as `12m 5s`.
fn short(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
