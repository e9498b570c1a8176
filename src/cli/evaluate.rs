//! `outlierd evaluate`: scores of labelled files, compared with their labels.

mod images;
mod rows;
mod wide;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::config_args::ConfigArgs;
use super::input_args::{InputArgs, files};
use crate::evaluate::{EvaluationFigures, LabeledSequence, figures, report};

/// Evaluate a model on labelled CSV files or folders of images: train on the first rows (or
/// train/good), then compare the scores of the others with their labels.
///
/// Prints one table, and writes figures.json and report.html (plots; works offline) to --out. In a
/// folder each file has its own model, as with `outlierd replay`; the figures are totals over all
/// files. Nothing is point-adjusted.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd evaluate --label anomaly --train-rows 400 --time-column datetime --delimiter ';' \\\n    --ignore changepoint plant/ --out evaluation\n  outlierd evaluate --label class --normal 1 --wide --train-normal 200 beats.csv --out evaluation\n  outlierd evaluate --images surfaces/ --set image_defaults.model.kind=conv2d --out evaluation"
)]
pub(super) struct Args {
    /// A CSV file, or a folder of them; with --images a folder that has train/good, test/good and
    /// test/DEFECT, or a folder of such folders
    input: PathBuf,
    /// Evaluate images
    #[arg(long)]
    images: bool,
    /// Column of the labels
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "images",
        default_value = "",
        hide_default_value = true
    )]
    label: String,
    /// Labels of normal rows, comma-separated; numbers are compared as numbers
    #[arg(long, value_name = "LABELS", value_delimiter = ',', default_values = ["0", "false", "normal", "good", ""])]
    normal: Vec<String>,
    /// Number of training rows at the start of each file
    #[arg(long, value_name = "N", required_unless_present_any = ["wide", "bundle", "images"], conflicts_with_all = ["wide", "bundle"])]
    train_rows: Option<usize>,
    /// Evaluate the bundle in this folder on all rows instead of training one
    #[arg(long, value_name = "FOLDER", conflicts_with = "wide")]
    bundle: Option<PathBuf>,
    /// Each row is one sequence (a beat, a stroke); its columns are one field's readings in the
    /// order of time
    #[arg(long, requires = "train_normal")]
    wide: bool,
    /// With --wide: train on the first N rows that are labelled normal, and evaluate on all others
    #[arg(long, value_name = "N", requires = "wide")]
    train_normal: Option<usize>,
    /// With --wide and --images: fraction of the held-out normal training data above the threshold
    #[arg(long, value_name = "PART", default_value_t = 0.05)]
    false_alarms: f64,
    /// Longest buffer around an anomaly for VUS-PR, in records
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(0..=2000))]
    vus_buffer: u16,
    /// Output folder of figures.json and report.html
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Stream of the configuration whose settings are used [default: default settings, every column
    /// a field]
    #[arg(
        long,
        value_name = "NAME",
        requires = "config",
        conflicts_with = "wide"
    )]
    stream: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    input_args: InputArgs,
}

/// What is written as JSON.
#[derive(Serialize)]
struct Written<'a> {
    input: String,
    all: &'a EvaluationFigures,
    sequences: Vec<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    threshold: f64,
    #[serde(flatten)]
    figures: &'a EvaluationFigures,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    if args.images {
        return of_images(args);
    }
    let mut sequences = Vec::new();
    for path in files(&args.input)? {
        let labels = Labels::of(args)
            .read(&path)
            .with_context(|| format!("{}", path.display()))?;
        let name = path
            .strip_prefix(&args.input)
            .ok()
            .filter(|rest| !rest.as_os_str().is_empty());
        let name = name
            .unwrap_or(&path)
            .with_extension("")
            .display()
            .to_string();
        let judged = match args.wide {
            true => wide::judge(args, &path, &labels).map(|sequence| vec![sequence]),
            false => rows::judge(args, &path, &labels),
        };
        let judged = judged.with_context(|| format!("{}", path.display()))?;
        let several = judged.len() > 1;
        sequences.extend(judged.into_iter().map(|sequence| match several {
            true => LabeledSequence {
                name: format!("{name}: {}", sequence.name),
                ..sequence
            },
            false => LabeledSequence {
                name: name.clone(),
                ..sequence
            },
        }));
    }
    tell(args, sequences)
}

fn of_images(args: &Args) -> anyhow::Result<ExitCode> {
    images::refuse_table_flags(args, &args.input_args)?;
    let mut sequences = Vec::new();
    for folder in images::categories(&args.input)? {
        let sequence =
            images::judge(args, &folder).with_context(|| format!("{}", folder.display()))?;
        let name = folder.file_name().map_or_else(
            || "images".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        sequences.push(LabeledSequence { name, ..sequence });
    }
    tell(args, sequences)
}

/// The name of a file without what a terminal would act on.
fn printable(name: &str) -> String {
    let replace = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    name.chars().map(replace).collect()
}

/// Prints and writes the figures.
fn tell(args: &Args, mut sequences: Vec<LabeledSequence>) -> anyhow::Result<ExitCode> {
    for sequence in &mut sequences {
        sequence.name = printable(&sequence.name);
    }
    let (all, sequences) = figures(sequences, args.vus_buffer.into());
    show(&all, &sequences);
    if let Some(out) = &args.out {
        write(args, out, &all, &sequences)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Rows of the table in the terminal; the files have all.
const SHOWN: usize = 30;

fn show(all: &EvaluationFigures, sequences: &[(LabeledSequence, EvaluationFigures)]) {
    let mut header = vec![String::new(), "all".to_owned()];
    let shown = if sequences.len() > 1 {
        &sequences[..sequences.len().min(SHOWN)]
    } else {
        &[]
    };
    let mut rows: Vec<Vec<String>> = report::columns(all)
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    if shown.len() <= 4 {
        for (sequence, figures) in shown {
            header.push(sequence.name.clone());
            rows.iter_mut()
                .zip(report::columns(figures))
                .for_each(|(row, (_, value))| row.push(value));
        }
        let mut table = super::table(header);
        rows.into_iter().for_each(|row| _ = table.add_row(row));
        println!("{table}");
        return;
    }
    // Many sequences: one a line, with the figures that are compared most.
    let names = [
        "records",
        "ROC AUC",
        "AP",
        "VUS-PR",
        "F1",
        "FAR",
        "MAR",
        "found, delay",
        "F1 of alerts",
        "FAR of alerts",
        "MAR of alerts",
    ];
    let mut table = super::table(std::iter::once("").chain(names));
    let each = shown
        .iter()
        .map(|(sequence, figures)| (sequence.name.as_str(), figures));
    for (name, figures) in each.chain([("all", all)]) {
        let values = report::columns(figures)
            .into_iter()
            .filter(|(column, _)| names.contains(column));
        table.add_row(std::iter::once(name.to_owned()).chain(values.map(|(_, value)| value)));
    }
    println!("{table}");
    if sequences.len() > shown.len() {
        println!(
            "{} more sequences are in the files in --out",
            sequences.len() - shown.len()
        );
    }
}

fn write(
    args: &Args,
    out: &PathBuf,
    all: &EvaluationFigures,
    sequences: &[(LabeledSequence, EvaluationFigures)],
) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let input = args.input.display().to_string();
    let named = sequences.iter().map(|(sequence, figures)| Named {
        name: &sequence.name,
        threshold: sequence.threshold,
        figures,
    });
    let written = Written {
        input: input.clone(),
        all,
        sequences: named.collect(),
    };
    let json = serde_json::to_vec_pretty(&written)?;
    let html = report::html(&format!("outlierd: {input}"), all, sequences);
    for (name, bytes) in [("figures.json", json), ("report.html", html.into_bytes())] {
        let path = out.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// How labels are read.
struct Labels<'a> {
    column: &'a str,
    normal: &'a [String],
    delimiter: u8,
}

impl<'a> Labels<'a> {
    fn of(args: &'a Args) -> Self {
        Self {
            column: &args.label,
            normal: &args.normal,
            delimiter: args.input_args.delimiter(),
        }
    }

    /// Whether each row of a file is an anomaly.
    fn read(&self, path: &PathBuf) -> anyhow::Result<Vec<bool>> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(self.delimiter)
            .flexible(true)
            .from_path(path)?;
        let header = reader.headers()?.clone();
        let Some(column) = header.iter().position(|name| name.trim() == self.column) else {
            let names = header.iter().collect::<Vec<_>>().join(", ");
            bail!(
                "it has no column {:?} for the labels; its columns are {names}: correct --label or --delimiter",
                self.column
            );
        };
        let mut labels = Vec::new();
        for row in reader.records() {
            let row = row?;
            let cell = row.get(column).unwrap_or_default().trim();
            let number = cell.parse::<f64>().ok();
            let is = |normal: &String| {
                normal == cell || (number.is_some() && number == normal.parse().ok())
            };
            labels.push(!self.normal.iter().any(is));
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_does_not_command_a_terminal() {
        assert_eq!(
            printable("a\x1b]0;b\x07\n<c>"),
            "a\u{fffd}]0;b\u{fffd}\u{fffd}<c>"
        );
    }
}
