//! Files of records in the order of time: the first rows are learned from, the others are judged as the daemon would.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use super::Args;
use crate::cli::config_args::stream_of_fields;
use crate::cli::input_args::CHUNK_ROWS;
use crate::cli::train::progress_bar;
use crate::evaluate::Sequence;
use crate::model::bundle::Bundle;
use crate::pipeline::Pipeline;
use crate::pipeline::series::SeriesTable;
use crate::record::Outcome;
use crate::retrain::learn;
use crate::retrain::set::TrainingSet;

/// One sequence for each series of the file.
pub(super) fn judge(args: &Args, path: &Path, labels: &[bool]) -> anyhow::Result<Vec<Sequence>> {
    let input = args.input_args.ignoring(&args.label);
    let stream = Arc::new(match &args.stream {
        Some(name) => args.config.stream(Some(name))?,
        None => stream_of_fields(&args.config, &input.fields(path)?, Vec::new())?,
    });
    let bundle = args.bundle.as_deref().map(Bundle::load).transpose()?;
    let mut records = input.open(path, &stream, args.stream.is_some())?;
    let mut pipeline = Pipeline::new(stream.clone(), bundle)?;
    let mut table = SeriesTable::new(stream.record.max_series);
    let mut learned = Vec::new();
    let mut found: BTreeMap<Arc<str>, Sequence> = BTreeMap::new();
    let mut row = 0;
    loop {
        let left = args.train_rows.map_or(0, |wanted| wanted.saturating_sub(row));
        let learning = pipeline.bundle_id().is_none();
        if learning && left == 0 {
            let set = TrainingSet::new(std::mem::take(&mut learned));
            let bar = progress_bar("training");
            let bundle = learn::learn(&stream, &set, None, &mut |progress| bar.show(progress))?;
            bar.finish();
            pipeline.swap(Some(bundle))?;
            continue;
        }
        let rows = if learning { left.min(CHUNK_ROWS) } else { CHUNK_ROWS };
        let Some(mut chunk) = records.run(rows, &mut pipeline, &mut table)? else { break };
        learned.extend(chunk.done.learned.drain(..).map(|(_, row)| row));
        if let Some(threshold) = pipeline.calibrated_threshold() {
            for outcome in &chunk.done.outcomes {
                let Some(&label) = labels.get(row + outcome.message) else {
                    bail!("it has fewer labels than rows: row {} has none", row + outcome.message);
                };
                add(found.entry(outcome.series.clone()).or_default(), outcome, threshold, label);
            }
        }
        row += chunk.rows;
    }
    if found.is_empty() {
        bail!("{row} rows: nothing is left to be judged after those that are learned from; lower --train-rows");
    }
    Ok(found.into_values().collect())
}

fn add(sequence: &mut Sequence, outcome: &Outcome, threshold: f64, label: bool) {
    sequence.name = outcome.series.to_string();
    sequence.threshold = threshold;
    sequence.times.push(outcome.time);
    sequence.scores.push(outcome.scored.as_ref().map(|scored| scored.score));
    sequence.adaptive.push(outcome.threshold);
    sequence.alerting.push(outcome.alerting);
    sequence.labels.push(label);
}
