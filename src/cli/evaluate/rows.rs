//! Files of records in the order of time: the first rows are learned from, the others are judged as
//! the daemon would.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use super::Args;
use crate::cli::config_args::stream_of_fields;
use crate::cli::file_run::FileRun;
use crate::evaluate::LabeledSequence;
use crate::record::RecordOutcome;

/// One sequence for each series of the file.
pub(super) fn judge(
    args: &Args,
    path: &Path,
    labels: &[bool],
) -> anyhow::Result<Vec<LabeledSequence>> {
    let input = args.input_args.ignoring(&args.label);
    let stream = match &args.stream {
        Some(name) => args.config.stream(Some(name))?,
        None => stream_of_fields(&args.config, &input.fields(path)?, Vec::new())?,
    };
    let mut run = FileRun::open(
        path,
        &input,
        stream,
        args.stream.is_some(),
        args.bundle.as_deref(),
        args.train_rows,
    )?;
    let mut found: BTreeMap<Arc<str>, LabeledSequence> = BTreeMap::new();
    while let Some(chunk) = run.next()? {
        let Some(threshold) = run.pipeline.detector.calibrated_threshold() else {
            continue;
        };
        let first = run.rows - chunk.rows;
        for outcome in &chunk.done.outcomes {
            let row = first + outcome.message;
            let Some(&label) = labels.get(row) else {
                bail!("it has fewer labels than rows: row {row} has no label")
            };
            add(
                found.entry(outcome.series.clone()).or_default(),
                outcome,
                threshold,
                label,
            );
        }
    }
    if found.is_empty() {
        bail!(
            "{} rows: no rows are left for evaluation after the training rows; lower --train-rows",
            run.rows
        );
    }
    Ok(found.into_values().collect())
}

fn add(sequence: &mut LabeledSequence, outcome: &RecordOutcome, threshold: f64, label: bool) {
    sequence.name = outcome.series.to_string();
    sequence.threshold = threshold;
    sequence.times.push(outcome.time);
    sequence
        .scores
        .push(outcome.scored.as_ref().map(|scored| scored.score));
    sequence.adaptive.push(outcome.threshold);
    sequence.alerting.push(outcome.alerting);
    sequence.labels.push(label);
}
