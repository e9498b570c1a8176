//! Files of whole courses: each row is one course of one field (a heart beat, a press stroke),
//! which stands alone.
//!
//! Each row goes through the pipeline as a separate series, of as many records as it has columns,
//! and a window that spans them all. The chart neither smooths nor has a baseline, and looks at the
//! whole window; the sensor checks are off: they are for readings that come one by one.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::Args;
use crate::cli::config_args::stream_of_fields;
use crate::cli::train::learn_with_bar;
use crate::config::settings::StreamSettings;
use crate::evaluate::LabeledSequence;
use crate::pipeline::Pipeline;
use crate::pipeline::series::SeriesTable;
use crate::record::{Batch, EventTime, Record};
use crate::retrain::set::{TrainingRow, TrainingSet};

/// Event time between two readings of a course; a course says nothing about it.
const PERIOD_MICROS: i64 = 1_000_000;
/// Courses of one pass through the pipeline.
const COURSES: usize = 64;

/// The test sequences of a file, in their order.
pub(super) fn judge(args: &Args, path: &Path, labels: &[bool]) -> anyhow::Result<LabeledSequence> {
    let sequences = read(args, path)?;
    let width = sequences.first().map_or(0, Vec::len);
    let wanted = args.train_normal.unwrap_or(0);
    let normal: Vec<usize> = (0..sequences.len())
        .filter(|&row| !labels[row])
        .take(wanted)
        .collect();
    if normal.len() < wanted {
        bail!(
            "it has {} normal rows, fewer than --train-normal {wanted}",
            normal.len()
        );
    }
    let stream = Arc::new(stream_of_fields(
        &args.config,
        &["value".to_owned()],
        preset(args, width, wanted),
    )?);
    if stream.window > width {
        bail!(
            "its rows have {width} readings, fewer than the window of {}",
            stream.window
        );
    }
    let set = TrainingSet::new(
        normal
            .iter()
            .flat_map(|&row| training_rows(row, &sequences[row])),
    );
    let mut pipeline = Pipeline::new(
        stream.clone(),
        Some(learn_with_bar(&stream, &set, "training")?),
    )?;
    let judged: Vec<usize> = (0..sequences.len())
        .filter(|row| normal.binary_search(row).is_err())
        .collect();
    let mut sequence = LabeledSequence {
        threshold: pipeline
            .detector
            .calibrated_threshold()
            .context("a threshold needs a bundle")?,
        independent: true,
        ..LabeledSequence::default()
    };
    for part in judged.chunks(COURSES) {
        add(
            &mut sequence,
            part,
            &sequences,
            labels,
            &mut pipeline,
            &stream,
        )?;
    }
    Ok(sequence)
}

/// One global setting for courses; flags and configuration win over it.
fn preset(args: &Args, width: usize, rows: usize) -> Vec<String> {
    let level = 1.0 - args.false_alarms;
    let mut preset = vec![
        format!("defaults.window={width}"),
        format!("defaults.stride={width}"),
        format!(
            "defaults.training.records={}",
            (rows * width).clamp(64, 1_000_000)
        ),
        format!("defaults.threshold.level={level}"),
    ];
    let fixed = [
        "model.hidden=[128, 32]",
        "model.latent=8",
        "score.scope=window",
        "score.ewma_weight=1",
        "score.baseline_weight=0",
        "threshold.kind=quantile",
        "threshold.margin=1",
        "gate.stuck_after=0",
        "gate.flat_ratio=0",
        "gate.scale_jump=false",
        "gate.spike=false",
    ];
    preset.extend(fixed.map(|setting| format!("defaults.{setting}")));
    preset
}

/// The readings of each row, all of one length.
fn read(args: &Args, path: &Path) -> anyhow::Result<Vec<Vec<f64>>> {
    let input = args.input_args.ignoring(&args.label);
    let names = input.fields(path)?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(input.delimiter())
        .from_path(path)?;
    let header = reader.headers()?.clone();
    let columns: Vec<usize> = names
        .iter()
        .filter_map(|name| header.iter().position(|column| column.trim() == name))
        .collect();
    let mut sequences = Vec::new();
    for (row, cells) in reader.records().enumerate() {
        let cells = cells?;
        let number = |&column: &usize| {
            let cell = cells.get(column).unwrap_or_default().trim();
            let value = cell.parse::<f64>().ok().filter(|value| value.is_finite());
            value.with_context(|| {
                format!(
                    "row {row}, column {:?} is {cell:?}, which is not a number",
                    &header[column]
                )
            })
        };
        sequences.push(
            columns
                .iter()
                .map(number)
                .collect::<anyhow::Result<Vec<f64>>>()?,
        );
    }
    Ok(sequences)
}

fn series(row: usize) -> String {
    format!("row-{row}")
}

fn time(row: usize, width: usize, at: usize) -> EventTime {
    EventTime(((row * width + at) as i64).saturating_mul(PERIOD_MICROS))
}

fn training_rows(row: usize, sequence: &[f64]) -> impl Iterator<Item = TrainingRow> {
    let width = sequence.len();
    // The order of the names is that of the rows.
    let name = format!("row-{row:09}");
    sequence
        .iter()
        .enumerate()
        .map(move |(at, &value)| TrainingRow {
            series: name.clone(),
            time: time(row, width, at),
            values: vec![value],
            image: None,
        })
}

/// Scores some sequences; the score of a sequence is that of its last window.
fn add(
    sequence: &mut LabeledSequence,
    rows: &[usize],
    sequences: &[Vec<f64>],
    labels: &[bool],
    pipeline: &mut Pipeline,
    stream: &StreamSettings,
) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    for &row in rows {
        for (at, &value) in sequences[row].iter().enumerate() {
            let message = batch.records.len();
            let time = time(row, sequences[row].len(), at);
            let series = Cow::Owned(series(row));
            batch.records.push(Record {
                message,
                partition: 0,
                offset: message as i64,
                part: None,
                series,
                time,
                second_time: None,
                arrival: None,
            });
            batch.values.push(value);
        }
    }
    let mut table = SeriesTable::new(stream.record.max_series);
    let done = pipeline.run_decoded(batch, &mut table, &mut |_, _| Ok(None))?;
    let mut outcomes = done.outcomes.iter().peekable();
    for &row in rows {
        let name = series(row);
        let mut score = None;
        let mut threshold = None;
        let mut alerting = false;
        while let Some(outcome) = outcomes.next_if(|outcome| *outcome.series == *name) {
            if let Some(scored) = &outcome.scored {
                (score, threshold) = (Some(scored.score), outcome.threshold);
            }
            alerting |= outcome.alerting;
        }
        sequence.times.push(time(row, sequences[row].len(), 0));
        sequence.scores.push(score);
        sequence.adaptive.push(threshold);
        sequence.alerting.push(alerting);
        sequence.labels.push(labels[row]);
    }
    Ok(())
}
