//! `outlierd train`: a bundle from record files or from a range of the stream's topic.

mod compare;
mod promote;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::config_args::ConfigArgs;
use super::image_files::stream_of_files;
use super::input_args::{CHUNK_ROWS, InputArgs, inputs};
use super::topic_range::{self, TopicRange};
use crate::config::settings::{Settings, StreamSettings};
use crate::model::bundle::Bundle;
use crate::model::registry::Registry;
use crate::pipeline::Pipeline;
use crate::pipeline::series::SeriesTable;
use crate::record::rejections::Rejections;
use crate::retrain::first::{FirstModel, learn_first};
use crate::retrain::learn::{self, LearnError, Progress};
use crate::retrain::set::{TrainingRow, TrainingSet};

/// Train a bundle from files (CSV, JSON lines, images) or from the stream's topic, and make it the
/// live one where it passes its tests.
///
/// Records go through the gate first: records with a sensor fault are excluded. Where the stream has
/// a live bundle, the new one is trained on the older three quarters of the records, and has to pass
/// the promotion tests against the live one on the newest quarter. Where it has none, the new one
/// is trained on all records; its thresholds are raised where a model of the older ones raises more
/// alerts on the newest quarter than the budget explains. A running daemon that uses the same model
/// folder switches to the live bundle within seconds, between two batches; while it trains a
/// challenger, right after that.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd train --config outlierd.toml --stream pumps normal-week.csv\n  outlierd train --config outlierd.toml --stream pumps --compare normal-week.csv\n  outlierd train --config outlierd.toml --stream pumps --from-topic --since 2026-03-01T00:00:00Z --until 2026-03-08T00:00:00Z"
)]
pub(super) struct Args {
    /// Files or folders of training records
    #[arg(required_unless_present = "from_topic", conflicts_with = "from_topic")]
    inputs: Vec<PathBuf>,
    /// Train on the stream's input topic instead
    #[arg(long)]
    from_topic: bool,
    #[command(flatten)]
    range: TopicRange,
    /// Stream of the configuration [default: the only one]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Maximum number of training records
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    limit: usize,
    /// Train the kinds of model that fit the stream on the older records, compare them on the
    /// newest ones, and pick the cheapest one that no other beats
    #[arg(long)]
    compare: bool,
    /// Train on all records, and keep the live bundle: the new one waits for `outlierd model
    /// promote`
    #[arg(long)]
    no_promote: bool,
    /// Train on all records, and make the new bundle live without any test
    #[arg(long, conflicts_with = "no_promote")]
    force: bool,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    input_args: InputArgs,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let stream = Arc::new(args.config.stream(args.stream.as_deref())?);
    let rows = if args.from_topic {
        from_topic(args, &settings, &stream)?
    } else {
        from_files(args, &stream)?
    };
    println!("{} training records", rows.len());
    let stream = if args.compare {
        chosen(&stream, &rows)?
    } else {
        stream
    };
    let registry = Registry::open(&settings.service.model_dir)?;
    if args.no_promote || args.force {
        let bundle = learn_with_bar(&stream, &TrainingSet::new(rows), "training")?;
        promote::save(&registry, &bundle)?;
        if args.no_promote {
            println!("not promoted: `outlierd model promote` makes it the live one");
        } else {
            promote::promote(
                &registry,
                &stream,
                bundle.id(),
                "trained by hand, without tests",
            )?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let is_live = promote::tested(&registry, &stream, &rows)?;
    Ok(ExitCode::from(u8::from(!is_live)))
}

/// The stream with the kind of model that a comparison finds best.
fn chosen(
    stream: &Arc<StreamSettings>,
    rows: &[TrainingRow],
) -> anyhow::Result<Arc<StreamSettings>> {
    let kind = compare::choose(stream, rows)?;
    if kind != stream.model.kind {
        println!(
            "the configuration says {}: set streams.{}.model.kind = {:?} to keep it at retrainings",
            stream.model.kind.as_str(),
            stream.name,
            kind.as_str()
        );
    }
    let mut chosen = stream.with_kind(kind);
    chosen.model.linear_unless_better = false;
    Ok(Arc::new(chosen))
}

fn from_files(args: &Args, stream: &Arc<StreamSettings>) -> anyhow::Result<Vec<TrainingRow>> {
    let mut rows = Vec::new();
    let mut read = 0;
    let mut rejections = Rejections::default();
    let stream = &Arc::new(stream_of_files(StreamSettings::clone(stream)));
    for path in args
        .inputs
        .iter()
        .map(|input| inputs(input, stream))
        .collect::<Result<Vec<_>, _>>()?
        .concat()
    {
        let mut records = args.input_args.open(&path, stream, true)?;
        let mut pipeline = Pipeline::new(stream.clone(), None)?;
        let mut table = SeriesTable::new(stream.record.max_series);
        while let Some(chunk) = records
            .run(CHUNK_ROWS, &mut pipeline, &mut table)
            .with_context(|| format!("{}", path.display()))?
        {
            read += chunk.rows;
            rejections.add(chunk.done.counts.records as usize, &chunk.done.rejected);
            if let (Some(_), Some(first)) = (&stream.image, chunk.done.rejected.first()) {
                println!("left out of {}: {}", path.display(), first.detail);
            }
            rows.extend(chunk.done.training_rows().map(|(_, row)| row));
            if rows.len() >= args.limit {
                rows.truncate(args.limit);
                return Ok(rows);
            }
        }
    }
    if rows.len() < read {
        println!(
            "{rejections}; {} with sensor faults left out",
            (read - rows.len()) as u64 - rejections.count()
        );
    }
    Ok(rows)
}

fn from_topic(
    args: &Args,
    settings: &Settings,
    stream: &Arc<StreamSettings>,
) -> anyhow::Result<Vec<TrainingRow>> {
    let rows = topic_range::read(&args.range, &settings.kafka, stream, args.limit)?;
    if rows.is_empty() {
        bail!(
            "topic {} has no valid record in that range",
            stream.input.topic
        );
    }
    Ok(rows)
}

/// Learns a bundle, with a bar on stderr where that is a terminal.
pub(super) fn learn_with_bar(
    stream: &StreamSettings,
    set: &TrainingSet,
    what: &'static str,
) -> Result<Bundle, LearnError> {
    with_bar(what, |on_progress| {
        learn::learn(stream, set, None, on_progress)
    })
}

/// Trains a stream's first model and proves it, with the same bar.
pub(super) fn first_with_bar(
    stream: &StreamSettings,
    rows: &[TrainingRow],
) -> Result<FirstModel, LearnError> {
    with_bar("training", |on_progress| {
        learn_first(stream, rows, on_progress)
    })
}

fn with_bar<T>(
    what: &'static str,
    learn: impl FnOnce(&mut dyn FnMut(&Progress) -> ControlFlow<()>) -> Result<T, LearnError>,
) -> Result<T, LearnError> {
    let bar = ProgressBar::new(1).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}] epoch {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    let learned = learn(&mut |progress| {
        bar.set_length(progress.of as u64);
        bar.set_position(progress.epochs as u64);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    Ok(learned)
}
