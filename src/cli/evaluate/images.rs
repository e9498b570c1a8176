//! Folders of images in the layout of MVTec AD (Bergmann et al., CVPR 2019): `train/good` to learn
//! from, `test/good` and `test/DEFECT` to be judged, and, where there are any, masks
//! `ground_truth/DEFECT/NAME_mask.png` of where the defects are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::Args;
use crate::cli::config_args::stream_of_images;
use crate::cli::image_files::{entries, in_folder, message, stream_of_files};
use crate::cli::input_args::{InputArgs, Records};
use crate::cli::train::learn_with_bar;
use crate::config::settings::StreamSettings;
use crate::decode::file::series_of;
use crate::evaluate::{LabeledImage, LabeledSequence, Located};
use crate::model::bundle::Bundle;
use crate::pipeline::series::SeriesTable;
use crate::pipeline::{BatchOutput, Pipeline};
use crate::record::Message;
use crate::record::image::Region;
use crate::retrain::set::{TrainingRow, TrainingSet};

/// Images of one pass through the pipeline.
const IMAGES: usize = 16;

/// The folders of the layout below `input`: itself, or each one in it.
pub(super) fn categories(input: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_one = |path: &Path| path.join("test").is_dir();
    if is_one(input) {
        return Ok(vec![input.to_owned()]);
    }
    let found = entries(input, is_one)?;
    if found.is_empty() {
        let input = input.display();
        bail!(
            "{input} has no folder test: expected train/good, test/good and test/DEFECT, there or one folder deeper"
        );
    }
    Ok(found)
}

/// One test image.
struct Case {
    path: PathBuf,
    /// `good`, or the defect's name.
    class: String,
    mask: Option<PathBuf>,
}

/// The test images of a folder with their scores, and the location of their defects.
pub(super) fn judge(args: &Args, folder: &Path) -> anyhow::Result<LabeledSequence> {
    let configured = match &args.stream {
        Some(name) => args.config.stream(Some(name))?,
        None => stream_of_images(&args.config, preset(args))?,
    };
    if configured.image.is_none() {
        bail!(
            "stream {} has no images: its record.format is \"json\"",
            configured.name
        );
    }
    let stream = Arc::new(stream_of_files(configured));
    let cases = cases(folder)?;
    let bundle = match &args.bundle {
        Some(path) => Bundle::load(path)?,
        None => {
            let rows = learned(&stream, &folder.join("train").join("good"))?;
            learn_with_bar(&stream, &TrainingSet::new(rows), "training")?
        }
    };
    let mut pipeline = Pipeline::new(stream.clone(), Some(bundle))?;
    let mut sequence = LabeledSequence {
        threshold: pipeline
            .detector
            .calibrated_threshold()
            .context("a threshold needs a bundle")?,
        independent: true,
        located: Some(Located::default()),
        ..LabeledSequence::default()
    };
    let bar = ProgressBar::new(cases.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("judging [{wide_bar}] image {pos}/{len} {eta}")
    {
        bar.set_style(style);
    }
    for (number, part) in cases.chunks(IMAGES).enumerate() {
        add(&mut sequence, number * IMAGES, part, &mut pipeline, &stream)?;
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    Ok(sequence)
}

/// Images stand alone, and a part of the normal ones may be above the threshold; flags and
/// configuration win over it.
fn preset(args: &Args) -> Vec<String> {
    vec![
        format!("image_defaults.threshold.level={}", 1.0 - args.false_alarms),
        "image_defaults.threshold.kind=quantile".to_owned(),
        "image_defaults.threshold.margin=1".to_owned(),
        "image_defaults.output.heat_maps=heat-maps".to_owned(),
    ]
}

/// What the images of a folder teach.
fn learned(stream: &Arc<StreamSettings>, folder: &Path) -> anyhow::Result<Vec<TrainingRow>> {
    let mut records = Records::images(folder)?;
    let mut pipeline = Pipeline::new(stream.clone(), None)?;
    let mut table = SeriesTable::new(stream.record.max_series);
    let mut rows = Vec::new();
    while let Some(chunk) = records.run(IMAGES, &mut pipeline, &mut table)? {
        if let Some(rejected) = chunk.done.rejected.first() {
            bail!("{}: {}", folder.display(), rejected.detail);
        }
        rows.extend(chunk.done.training_rows().map(|(_, row)| row));
    }
    Ok(rows)
}

fn cases(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for class in entries(&folder.join("test"), Path::is_dir)? {
        let name = class
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        for path in in_folder(&class)? {
            let stem = series_of(&path);
            let mask = folder
                .join("ground_truth")
                .join(&name)
                .join(format!("{stem}_mask.png"));
            cases.push(Case {
                path,
                class: name.clone(),
                mask: mask.is_file().then_some(mask),
            });
        }
    }
    Ok(cases)
}

fn add(
    sequence: &mut LabeledSequence,
    first: usize,
    cases: &[Case],
    pipeline: &mut Pipeline,
    stream: &StreamSettings,
) -> anyhow::Result<()> {
    let read = |case: &Case| {
        fs::read(&case.path).with_context(|| format!("cannot read {}", case.path.display()))
    };
    let files = cases.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    // Each is a separate series: none changes the threshold of the next.
    let names: Vec<String> = (0..cases.len())
        .map(|at| format!("image-{:09}", first + at))
        .collect();
    let messages: Vec<Message<'_>> = names
        .iter()
        .zip(&files)
        .enumerate()
        .map(|(at, (name, file))| Message {
            payload: Some(file),
            ..message(name, first + at)
        })
        .collect();
    let mut table = SeriesTable::new(stream.record.max_series);
    let done = pipeline.run(&messages, &mut table, &mut |_, _| Ok(None))?;
    if let Some(rejected) = done.rejected.first() {
        bail!(
            "{}: {}",
            cases[rejected.message].path.display(),
            rejected.detail
        );
    }
    for ((case, outcome), name) in cases.iter().zip(&done.outcomes).zip(&names) {
        let anomalous = case.class != "good";
        sequence.times.push(outcome.time);
        sequence
            .scores
            .push(outcome.scored.as_ref().map(|scored| scored.score));
        sequence.adaptive.push(outcome.threshold);
        sequence.alerting.push(outcome.alerting);
        sequence.labels.push(anomalous);
        point_at(sequence, case, name, &done)?;
    }
    Ok(())
}

/// Holds the highest region of an alert against the mask of the defect, and keeps the heat map.
fn point_at(
    sequence: &mut LabeledSequence,
    case: &Case,
    series: &str,
    done: &BatchOutput,
) -> anyhow::Result<()> {
    let Some(alert) = done.alerts.iter().find(|alert| alert.series == series) else {
        return Ok(());
    };
    if let (Some(region), Some(mask), Some(located)) =
        (alert.regions.first(), &case.mask, &mut sequence.located)
    {
        located.caught += 1;
        located.overlapping += usize::from(overlaps(region, mask)?);
    }
    if let Some((_, png)) = done.heat_maps.iter().find(|(id, _)| *id == alert.id) {
        let name = format!("{}/{}", case.class, series_of(&case.path));
        let score = alert.score.unwrap_or_default();
        sequence.pictures.push(LabeledImage {
            name,
            score,
            anomalous: case.class != "good",
            png: png.clone(),
        });
    }
    Ok(())
}

fn overlaps(region: &Region, mask: &Path) -> anyhow::Result<bool> {
    let mask = image::open(mask)
        .with_context(|| format!("cannot read {}", mask.display()))?
        .to_luma8();
    Ok(region.any(|x, y| {
        mask.get_pixel_checked(x, y)
            .is_some_and(|pixel| pixel.0[0] > 0)
    }))
}

/// What flags of tables have no meaning for images.
pub(super) fn refuse_table_flags(args: &Args, input: &InputArgs) -> anyhow::Result<()> {
    match args.wide || args.train_rows.is_some() || input.names_columns() {
        true => bail!("--images reads folders of images: it has no rows and no columns"),
        false => Ok(()),
    }
}
