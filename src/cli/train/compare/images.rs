//! Kinds of model over images, asked the same questions as those over readings: what normal images
//! look like to them, which defects they catch that are drawn into held-out images, how often they
//! are wrong, and what an image costs.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::super::learn_with_bar;
use super::Contender;
use crate::config::settings::StreamSettings;
use crate::decode::image::decode_file;
use crate::model::ModelKind;
use crate::pipeline::series::SeriesTable;
use crate::pipeline::{BatchOutput, Pipeline};
use crate::record::format::ImageFormat;
use crate::record::{Batch, Image, Record, RecordVerdict};
use crate::retrain::proof::MeasuredSensitivity;
use crate::retrain::set::TrainingSet;
use crate::sim::surface::deface;

/// Images of one pass through the pipeline.
const IMAGES: usize = 16;

/// Trains a kind on the older images and measures it on the newest.
pub(super) fn contend(
    stream: &StreamSettings,
    kind: ModelKind,
    learned: &TrainingSet,
    held_out: &TrainingSet,
) -> anyhow::Result<Contender> {
    let own = Arc::new(stream.with_kind(kind));
    let format = own.image.as_ref().context("the stream has no images")?;
    let bundle = learn_with_bar(&own, learned, kind.as_str())?;
    let id = bundle.id().to_owned();
    let mut pipeline = Pipeline::new(own.clone(), Some(bundle))?;
    let mut error = 0.0;
    let mut alerts = 0;
    let mut budgeted = 0.0;
    let mut caught = 0;
    let mut seconds = 0.0;
    let rows: Vec<usize> = (0..held_out.len()).collect();
    for part in rows.chunks(IMAGES) {
        let clean = images(format, held_out, part)?;
        let defaced: Vec<Image> = clean
            .iter()
            .zip(part)
            .map(|(image, &row)| with_defect(image, row))
            .collect();
        let began = Instant::now();
        let done = run(&mut pipeline, held_out, part, clean)?;
        seconds += began.elapsed().as_secs_f64();
        error += done
            .outcomes
            .iter()
            .filter_map(|o| o.scored.as_ref())
            .map(|s| s.raw_error.powi(2))
            .sum::<f64>();
        alerts += outliers(&done);
        budgeted += done.counts.budgeted;
        caught += outliers(&run(&mut pipeline, held_out, part, defaced)?);
    }
    let count = held_out.len();
    let measured = MeasuredSensitivity {
        id,
        error: error / count as f64,
        alerts: alerts as f64,
        budgeted,
        asked: count,
        caught,
    };
    Ok(Contender {
        name: kind.as_str().to_owned(),
        kind,
        measured,
        cost_us: 1e6 * seconds / count as f64,
    })
}

fn images(format: &ImageFormat, set: &TrainingSet, rows: &[usize]) -> anyhow::Result<Vec<Image>> {
    rows.iter()
        .map(|&row| {
            decode_file(&set.images[row], format)
                .map_err(|fault| anyhow!("{}: {fault}", set.times[row]))
        })
        .collect()
}

/// The image with a scratch, a hole or a stain; the same for every kind.
fn with_defect(image: &Image, row: usize) -> Image {
    let mut defaced = image.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(row as u64);
    deface(&mut defaced.pixels, image.width, image.height, &mut rng);
    defaced
}

/// Scores images, each as its own series: none changes the threshold of the next.
fn run(
    pipeline: &mut Pipeline,
    set: &TrainingSet,
    rows: &[usize],
    images: Vec<Image>,
) -> anyhow::Result<BatchOutput> {
    let mut batch = Batch::default();
    for (message, (image, &row)) in images.into_iter().zip(rows).enumerate() {
        let series = Cow::Owned(format!("image-{row}"));
        batch.records.push(Record {
            message,
            partition: 0,
            offset: row as i64,
            part: None,
            series,
            time: set.times[row],
            second_time: None,
            arrival: None,
        });
        batch.values.push(image.brightness());
        batch.images.push(image);
    }
    Ok(pipeline.run_decoded(batch, &mut SeriesTable::new(IMAGES), &mut |_, _| Ok(None))?)
}

fn outliers(done: &BatchOutput) -> usize {
    done.outcomes
        .iter()
        .filter(|outcome| outcome.verdict == RecordVerdict::Outlier)
        .count()
}
