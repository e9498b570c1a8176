//! `outlierd replay`: the daemon's pipeline over files, without a broker.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use super::config_args::{ConfigArgs, stream_of_fields};
use super::file_run::{FileRun, explained};
use super::input_args::{Chunk, InputArgs, files, inputs};
use crate::record::alert::{AlertEvent, AlertKind};
use crate::record::rejections::Rejections;
use crate::record::{EventTime, RecordOutcome};

/// Score record files with the daemon's own pipeline: train on the first rows (or load a bundle),
/// then score row by row.
///
/// Writes one line for each row: time, score, threshold, verdict, is_alert, top_field. Causal: a
/// row's line never depends on later rows. In a folder, each file is replayed with its own model,
/// to the same relative path.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  outlierd replay --train-rows 400 --time-column datetime --delimiter ';' \\\n    --ignore anomaly,changepoint pump.csv --out scores.csv"
)]
pub(super) struct Args {
    /// A CSV or JSON-lines file, or a folder of them; of a stream of images a folder of them
    input: PathBuf,
    /// Output: a file for a file, a folder for a folder
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Number of training rows at the start of each file [default: as many as the daemon takes; see
    /// training.effective_records]
    #[arg(long, value_name = "N", conflicts_with = "bundle")]
    train_rows: Option<usize>,
    /// Score with the bundle in this folder instead of training
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// Also write the alerts as JSON lines to this file
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// Stream of the configuration whose settings are used [default: default settings, every column
    /// a field]
    #[arg(long, value_name = "NAME", requires = "config")]
    stream: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    input_args: InputArgs,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let files = match &args.stream {
        Some(name) => inputs(&args.input, &args.config.stream(Some(name))?)?,
        None => files(&args.input)?,
    };
    // A folder of images is one camera, as a file is one machine.
    let is_folder = args.input.is_dir() && files != [args.input.clone()];
    let mut alerts = match &args.alerts {
        Some(path) => Some(BufWriter::new(create(path)?)),
        None => None,
    };
    for path in &files {
        let out = match path.strip_prefix(&args.input) {
            Ok(relative) if is_folder => args.out.join(relative),
            _ => args.out.clone(),
        };
        let run = Run::start(args, path).with_context(|| format!("{}", path.display()))?;
        let mut writer = csv::Writer::from_writer(BufWriter::new(create(&out)?));
        let totals = run
            .write(args, &mut writer, alerts.as_mut())
            .with_context(|| format!("{}", path.display()))?;
        println!(
            "{} -> {}: {}",
            path.display(),
            out.display(),
            totals.describe()
        );
        if totals.rejections.count() > 0 {
            println!("{}", totals.rejections);
        }
    }
    if let Some(mut alerts) = alerts {
        alerts.flush().context("cannot write the alerts")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn create(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// The totals of a file.
#[derive(Default)]
struct Totals {
    rows: usize,
    rejections: Rejections,
    scored: usize,
    alerting: usize,
    /// Times of the first and the last scored record of each series.
    spans: HashMap<Arc<str>, (EventTime, EventTime)>,
    /// Anomalies that the budget allows for the scored records.
    budgeted: f64,
    /// Alerts opened, of each kind.
    opened: HashMap<AlertKind, usize>,
}

const MICROS_PER_DAY: f64 = 86_400e6;

impl Totals {
    fn add(&mut self, chunk: &Chunk) {
        self.rows += chunk.rows;
        self.budgeted += chunk.done.counts.budgeted;
        for outcome in &chunk.done.outcomes {
            self.alerting += usize::from(outcome.alerting);
            if outcome.scored.is_some() {
                self.scored += 1;
                let span = self
                    .spans
                    .entry(outcome.series.clone())
                    .or_insert((outcome.time, outcome.time));
                *span = (span.0.min(outcome.time), span.1.max(outcome.time));
            }
        }
        for alert in &chunk.done.alerts {
            if alert.event == AlertEvent::Open {
                *self.opened.entry(alert.kind).or_default() += 1;
            }
        }
    }

    /// The achieved alert rate, beside the budget.
    fn describe(&self) -> String {
        let micros: f64 = self
            .spans
            .values()
            .map(|(first, last)| last.micros_since(*first) as f64)
            .sum();
        let opened = AlertKind::ALL.iter().map(|kind| {
            let count = self.opened.get(kind).copied().unwrap_or(0);
            match kind {
                AlertKind::Anomaly => {
                    let budget = self.budgeted;
                    format!(
                        "{count} {} (budget for that time: {budget:.2})",
                        kind.label()
                    )
                }
                _ => format!("{count} {}", kind.label()),
            }
        });
        format!(
            "{} rows, {} rejected; {} scored in {} series over {:.2} series-days, {} in alert; \
             alerts opened: {}",
            self.rows,
            self.rejections.count(),
            self.scored,
            self.spans.len(),
            micros / MICROS_PER_DAY,
            self.alerting,
            opened.collect::<Vec<_>>().join(", "),
        )
    }
}

/// The replay of one file.
struct Run(FileRun);

impl Run {
    fn start(args: &Args, path: &Path) -> anyhow::Result<Self> {
        let stream = match &args.stream {
            Some(name) => args.config.stream(Some(name))?,
            None => stream_of_fields(&args.config, &args.input_args.fields(path)?, Vec::new())?,
        };
        let configured = args.stream.is_some();
        let bundle = args.bundle.as_deref();
        FileRun::open(
            path,
            &args.input_args,
            stream,
            configured,
            bundle,
            args.train_rows,
        )
        .map(Self)
    }

    fn write<W: std::io::Write>(
        mut self,
        args: &Args,
        out: &mut csv::Writer<W>,
        mut alerts: Option<&mut BufWriter<File>>,
    ) -> anyhow::Result<Totals> {
        let mut totals = Totals::default();
        out.write_record([
            "time",
            "score",
            "threshold",
            "verdict",
            "is_alert",
            "top_field",
        ])?;
        while let Some(chunk) = self.0.next()? {
            self.write_rows(&chunk, out)?;
            totals.add(&chunk);
            if let Some(alerts) = alerts.as_mut() {
                for alert in &chunk.done.alerts {
                    serde_json::to_writer(&mut **alerts, alert)?;
                    alerts.write_all(b"\n")?;
                }
            }
        }
        if self.0.pipeline.detector.bundle().is_none() {
            let wanted = match args.train_rows {
                Some(wanted) => format!("--train-rows {wanted}"),
                None => "a first training needs (training.records, training.effective_records); \
                         --train-rows sets their number"
                    .to_owned(),
            };
            let few = anyhow!(
                "{} rows are fewer than {wanted}: nothing was scored",
                totals.rows
            );
            return Err(explained(few, &self.0.rejections));
        }
        totals.rejections = self.0.rejections;
        out.flush()?;
        Ok(totals)
    }

    fn write_rows<W: std::io::Write>(
        &self,
        chunk: &Chunk,
        out: &mut csv::Writer<W>,
    ) -> anyhow::Result<()> {
        let mut outcomes = chunk.done.outcomes.iter().peekable();
        let mut rejected = chunk.done.rejected.iter().peekable();
        // A message has as many lines as records, and one where it has none.
        for row in 0..chunk.rows {
            let mut is_empty = true;
            loop {
                let refused = rejected.peek().filter(|of| of.message == row);
                let next = refused.map(|of| of.part);
                let is_before = |of: &&RecordOutcome| {
                    of.message == row && next.is_none_or(|part| of.part < part)
                };
                if let Some(outcome) = outcomes.next_if(is_before) {
                    out.write_record(self.cells(outcome))?;
                } else if let Some(refused) = rejected.next_if(|of| of.message == row) {
                    out.write_record(["", "", "", refused.reason.as_str(), "0", ""])?;
                } else {
                    break;
                }
                is_empty = false;
            }
            if is_empty {
                out.write_record(["", "", "", "no_record", "0", ""])?;
            }
        }
        Ok(())
    }

    fn cells(&self, outcome: &RecordOutcome) -> [String; 6] {
        // All digits, so that two runs can be compared bit for bit.
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let field = outcome
            .top_field
            .and_then(|index| self.0.stream.record.fields.get(index));
        [
            outcome.time.to_string(),
            number(outcome.scored.as_ref().map(|scored| scored.score)),
            number(outcome.threshold),
            outcome.verdict.as_str().into(),
            u8::from(outcome.alerting).to_string(),
            field.map_or(String::new(), |field| field.name.clone()),
        ]
    }
}
