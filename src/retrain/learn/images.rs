//! From images to a bundle: tiles for training, and whole images for calibration.
//!
//! The newest part of each series, one in `training.folds`, is held out: its tiles tell when to
//! stop, and its images how far normal ones are from their reconstructions. One model scores, not
//! the mean of several as for readings: an image costs as much as some thousand records. Images are
//! unpacked one by one, so that memory holds the tiles and no more.

use std::ops::ControlFlow;

use jiff::Timestamp;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::inputs::field_normal;
use super::{LearnError, Progress, fit, metrics, origin};
use crate::config::settings::StreamSettings;
use crate::decode::image::decode_file;
use crate::gate::{self, NormalRange};
use crate::model::bundle::Bundle;
use crate::model::calibration::{Calibration, Peaks, thinned};
use crate::model::scaler::Scaler;
use crate::model::shape::ModelShape;
use crate::model::train::{self, TrainingWindows};
use crate::record::Image;
use crate::record::format::ImageFormat;
use crate::retrain::set::TrainingSet;
use crate::score::calibrate::series_rows;
use crate::score::error_map::{boxes, left_out_scores, normal_peaks};
use crate::score::inspect::error_maps;
use crate::score::tiles::cut;

/// Images to calibrate with at least.
pub(super) const HELD_OUT_MIN: usize = 8;
/// Values of all tiles at most: 1 GiB.
const TILE_VALUES_MAX: usize = 1 << 28;
/// Pixels of the images that are calibrated with at a time.
const PART_VALUES: usize = 1 << 20;

/// See the module; the arguments are those of [`super::learn`].
pub(super) fn learn(
    stream: &StreamSettings,
    format: &ImageFormat,
    set: &TrainingSet,
    start: Option<&Bundle>,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Bundle, LearnError> {
    let shape = ModelShape::of_tiles(&stream.model, format.tile, format.channels.count());
    shape.validate()?;
    let start = start.filter(|bundle| bundle.manifest.shape == shape);
    let (older, newer) = halves(stream, set)?;
    let (mut tiles, trained_on) = tiles(stream, format, set, (&older, &newer), shape.inputs())?;
    let scaler = match start {
        Some(bundle) => bundle.calibration.scaler.clone(),
        None => scaler(&tiles[..trained_on], &shape),
    };
    scaler.scale_planes(&mut tiles, shape.places());
    let starts: Vec<usize> = (0..tiles.len()).step_by(shape.inputs()).collect();
    let (train, held_out) = starts.split_at(trained_on / shape.inputs());
    let rows = TrainingWindows {
        values: &tiles,
        train,
        held_out,
    };
    let mut last = Progress {
        epochs: 0,
        of: 1,
        loss: f64::NAN,
    };
    let mut noted = |progress: &Progress| {
        last = *progress;
        on_progress(progress)
    };
    let trained = fit(
        rows,
        &shape,
        start.map(|bundle| &*bundle.model),
        stream,
        (0, 1),
        &mut noted,
    )?;
    drop(tiles);

    let all = peaks(format, set, &newer, &*trained.model, &scaler, &mut || {
        on_progress(&last)
    })?;
    let calibration = calibration(stream, format, set, scaler, &all)?;
    let metrics = metrics(std::slice::from_ref(&trained));
    Ok(Bundle::new(
        origin(stream, set, set.len(), metrics),
        calibration,
        trained.model,
        None,
        Timestamp::now(),
    )?)
}

/// Tiles of the older images, and behind them those of the newer ones, which are held out, not yet
/// scaled; and how many values the first ones have.
fn tiles(
    stream: &StreamSettings,
    format: &ImageFormat,
    set: &TrainingSet,
    (older, newer): (&[usize], &[usize]),
    inputs: usize,
) -> Result<(Vec<f32>, usize), LearnError> {
    let most = stream
        .training
        .tiles
        .min(TILE_VALUES_MAX / inputs)
        .max(2 * train::ROWS_MIN);
    let held_out = most / stream.training.folds;
    let mut rng = ChaCha8Rng::seed_from_u64(stream.training.seed);
    let mut tiles = Vec::new();
    draw(format, set, older, most - held_out, &mut rng, &mut tiles)?;
    let trained_on = tiles.len();
    draw(format, set, newer, held_out, &mut rng, &mut tiles)?;
    Ok((tiles, trained_on))
}

/// What normal images are like, from the peaks of those that were held out.
pub(super) fn calibration(
    stream: &StreamSettings,
    format: &ImageFormat,
    set: &TrainingSet,
    scaler: Scaler,
    all: &[Vec<f64>],
) -> Result<Calibration, LearnError> {
    let too_few = LearnError::TooFew {
        windows: set.len(),
        window: 1,
        needed: HELD_OUT_MIN,
    };
    let normal = normal_peaks(all, format.error).ok_or(too_few)?;
    let scores = left_out_scores(all, format.error);
    Ok(Calibration {
        scope: stream.score.scope,
        scaler,
        charts: Vec::new(),
        innovation: Vec::new(),
        adjusted: Vec::new(),
        states: None,
        differences: Vec::new(),
        lift: 0.0,
        series_rows: series_rows(&set.segments),
        steps: Vec::new(),
        seasons: Vec::new(),
        fields: gate::normals(&set.rows, 1, &set.runs)
            .iter()
            .map(|brightness| {
                field_normal(&NormalRange {
                    counter: None,
                    ..*brightness
                })
            })
            .collect(),
        period_micros: set.period_micros(),
        peaks: Some(Peaks {
            scores: thinned(scores),
            ..normal
        }),
    })
}

/// The older images of each series, and the newest.
fn halves(
    stream: &StreamSettings,
    set: &TrainingSet,
) -> Result<(Vec<usize>, Vec<usize>), LearnError> {
    let mut older = Vec::new();
    let mut newer = Vec::new();
    for segment in &set.segments {
        let cut = segment.end - segment.len() / stream.training.folds;
        older.extend(segment.start..cut);
        newer.extend(cut..segment.end);
    }
    match newer.len() >= HELD_OUT_MIN && set.images.len() == set.len() {
        true => Ok((older, newer)),
        false => {
            let needed = HELD_OUT_MIN * stream.training.folds;
            Err(LearnError::TooFew {
                windows: set.len(),
                window: 1,
                needed,
            })
        }
    }
}

/// The image of a row.
pub(super) fn image(
    format: &ImageFormat,
    set: &TrainingSet,
    row: usize,
) -> Result<Image, LearnError> {
    decode_file(&set.images[row], format).map_err(|fault| LearnError::Image {
        at: set.times[row],
        fault,
    })
}

/// Adds about `wanted` tiles from random places, as many from each image as from the next; where
/// there are more images, from as many of them, evenly.
fn draw(
    format: &ImageFormat,
    set: &TrainingSet,
    images: &[usize],
    wanted: usize,
    rng: &mut ChaCha8Rng,
    tiles: &mut Vec<f32>,
) -> Result<(), LearnError> {
    let channels = format.channels.count();
    let plain = Scaler {
        mean: vec![0.0; channels],
        sd: vec![1.0; channels],
    };
    let used = images.len().min(wanted.max(1));
    for number in 0..used {
        let image = image(format, set, images[number * images.len() / used])?;
        let room = [image.width, image.height].map(|side| side.saturating_sub(format.tile) + 1);
        let of_this =
            (wanted * (number + 1) / used - wanted * number / used).min(room[0] * room[1]);
        for _ in 0..of_this {
            let left = rng.random_range(0..room[0]);
            let top = rng.random_range(0..room[1]);
            cut(&image, &plain, format.tile, left, top, tiles);
        }
    }
    Ok(())
}

/// A channel never varies less: about a quarter of a grey level, or a thousandth of an energy.
pub(super) const SD_MIN: f64 = 1e-3;

/// Mean and standard deviation of each channel, over all places of all rows of a model's inputs.
pub(super) fn scaler(tiles: &[f32], shape: &ModelShape) -> Scaler {
    let channels = shape.channels();
    let area = shape.places();
    let moments = |channel: usize| {
        let values = || {
            tiles
                .chunks_exact(area)
                .skip(channel)
                .step_by(channels)
                .flatten()
                .map(|&v| f64::from(v))
        };
        let n = (tiles.len() / channels).max(1) as f64;
        let mean = values().sum::<f64>() / n;
        (
            mean,
            (values().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
                .sqrt()
                .max(SD_MIN),
        )
    };
    let (mean, sd) = (0..channels).map(moments).unzip();
    Scaler { mean, sd }
}

/// The peaks of the held-out images.
fn peaks(
    format: &ImageFormat,
    set: &TrainingSet,
    rows: &[usize],
    model: &dyn crate::model::Autoencoder,
    scaler: &Scaler,
    goes_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<Vec<f64>>, LearnError> {
    let mut all = Vec::with_capacity(rows.len());
    let boxes = boxes(model.shape());
    let mut part = Vec::new();
    let mut values = 0;
    for (number, &row) in rows.iter().enumerate() {
        let image = image(format, set, row)?;
        values += image.pixels.len();
        part.push(image);
        if values >= PART_VALUES || number + 1 == rows.len() {
            if goes_on().is_break() {
                return Err(LearnError::Cancelled);
            }
            let images: Vec<&Image> = part.iter().collect();
            let maps = error_maps(model, scaler, format.error, format.overlap, &images)?;
            all.extend(maps.iter().map(|map| map.peaks(&boxes)));
            (part, values) = (Vec::new(), 0);
        }
    }
    Ok(all)
}
