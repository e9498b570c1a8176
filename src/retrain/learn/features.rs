//! From images to a bundle of a kind over features: each image goes once through the frozen encoder.
//!
//! The images of each series are cut into contiguous folds, and each fold is reconstructed by a
//! model that is fitted to the others. What is left then gives the scale of each channel (channels
//! that are hard to reconstruct count less), and, once all are scaled, the peaks of normal images:
//! all images calibrate, each by a model that did not see it. The model that scores is fitted to
//! all of them: a closed form takes seconds, and one with a tenth more images is hardly another.

use std::ops::{ControlFlow, Range};

use jiff::Timestamp;

use super::folds::parts;
use super::images::{HELD_OUT_MIN, SD_MIN, calibration, image, scaler};
use super::{LearnError, Progress, fit, metrics, origin};
use crate::config::settings::StreamSettings;
use crate::model::bundle::Bundle;
use crate::model::encoder::{Encoder, FeatureMap};
use crate::model::scaler::Scaler;
use crate::model::shape::ModelShape;
use crate::model::train::{Trained, TrainingWindows};
use crate::record::format::ImageFormat;
use crate::retrain::set::TrainingSet;
use crate::score::cells::{error_map, to_rows};
use crate::score::error_map::boxes;

/// Folds at least: each model should see almost as many images as the one that scores.
const FOLDS_MIN: usize = 10;
/// Images at most; of more every second, third, ... is used.
const IMAGES_MAX: usize = 2048;
/// Values of all features at most: 512 MiB.
const VALUES_MAX: usize = 1 << 27;
/// Images of a code's value at least.
const IMAGES_PER_CODE: usize = 3;
/// Images between two questions whether to stop.
const PART: usize = 16;

/// The features of the images of a training.
struct FeatureRows {
    /// Rows of the model's inputs, image by image.
    values: Vec<f32>,
    /// Where each image begins, and behind them where the last one ends.
    starts: Vec<usize>,
    /// Columns and rows of cells of each image.
    cells: Vec<[usize; 2]>,
    /// The images of each fold.
    folds: Vec<Vec<Range<usize>>>,
}

/// Takes the rows of an image, their reconstruction, and the image's columns and rows of cells.
type OnImage<'o> = &'o mut dyn FnMut(&[f32], &[f32], [usize; 2]) -> Result<(), LearnError>;
/// Asks whether to go on.
type GoesOn<'g> = &'g mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// See the module; the arguments are those of [`super::learn`].
pub(super) fn learn(
    stream: &StreamSettings,
    format: &ImageFormat,
    set: &TrainingSet,
    on_progress: GoesOn<'_>,
) -> Result<Bundle, LearnError> {
    if set.images.len() != set.len() || set.len() < HELD_OUT_MIN * stream.training.folds {
        return Err(LearnError::TooFew {
            windows: set.len(),
            window: 1,
            needed: HELD_OUT_MIN * stream.training.folds,
        });
    }
    let folds = stream.training.folds.max(FOLDS_MIN);
    let backbone = stream.model.backbone().map(|backbone| backbone.sha256);
    let encoder = Encoder::new(backbone.as_deref())?;
    let first = image(format, set, 0)?;
    let input = match (stream.model.input, stream.model.kind.has_code()) {
        // Each place of a frame is modelled: they have to be the same places.
        (0, true) => [first.width, first.height],
        (side, _) => [side, side],
    };
    let map = encoder.features(&first, input)?;
    let (images, segments) = sample(set, map.values.len());
    let shape = shape(stream, format, &encoder, &map, input, images.len(), folds)?;

    let folds = parts(&segments, folds);
    let mut rows = read(format, set, &images, &encoder, &shape, folds, on_progress)?;
    let mut scaler = rows.scale(&shape);
    let mut left = ChannelMoments::new(&shape);
    rows.by_folds(stream, &shape, 0, on_progress, &mut |x, y, _| {
        left.add(x.iter().zip(y).map(|(x, y)| x - y));
        Ok(())
    })?;
    rows.weigh(&left.scaler(), &mut scaler, &shape);
    let mut peaks = Vec::with_capacity(images.len());
    let boxes = boxes(&shape);
    let first = rows.folds.len();
    let trained = rows.by_folds(stream, &shape, first, on_progress, &mut |x, y, cells| {
        peaks.push(error_map(&shape, cells, x, y)?.peaks(&boxes));
        Ok(())
    })?;
    let metrics = metrics(&trained);
    drop(trained);
    let model = rows.fit(stream, &shape, &[], 2 * first, on_progress)?.model;
    let calibration = calibration(stream, format, set, scaler, &peaks)?;
    Ok(Bundle::new(
        origin(stream, set, images.len(), metrics),
        calibration,
        model,
        None,
        Timestamp::now(),
    )?)
}

/// The images that are used, evenly from all, and which of them belong to each series.
fn sample(set: &TrainingSet, values: usize) -> (Vec<usize>, Vec<Range<usize>>) {
    let most = IMAGES_MAX.min(VALUES_MAX / values.max(1)).max(1);
    let every = set.len().div_ceil(most);
    let mut images = Vec::new();
    let mut segments = Vec::new();
    for segment in &set.segments {
        let start = images.len();
        images.extend(segment.clone().step_by(every));
        segments.push(start..images.len());
    }
    (images, segments)
}

/// The shape of a model of maps like this one.
fn shape(
    stream: &StreamSettings,
    format: &ImageFormat,
    encoder: &Encoder,
    map: &FeatureMap,
    input: [usize; 2],
    images: usize,
    folds: usize,
) -> Result<ModelShape, LearnError> {
    let cells = stream.model.kind.has_code().then_some(map.cells);
    let features = encoder.shape(map, format.channels.count(), input, cells);
    let seen = images - images.div_ceil(folds);
    let mut model = stream.model.clone();
    model.latent = model.latent.min(seen / IMAGES_PER_CODE).max(1);
    let shape = ModelShape::of_features(&model, features);
    shape.validate()?;
    Ok(shape)
}

/// The features of all images.
fn read(
    format: &ImageFormat,
    set: &TrainingSet,
    images: &[usize],
    encoder: &Encoder,
    shape: &ModelShape,
    folds: Vec<Vec<Range<usize>>>,
    on_progress: GoesOn<'_>,
) -> Result<FeatureRows, LearnError> {
    let input = shape.features.as_ref().map_or([0, 0], |f| f.input);
    let mut rows = FeatureRows {
        values: Vec::new(),
        starts: vec![0],
        cells: Vec::with_capacity(images.len()),
        folds,
    };
    let begun = Progress {
        epochs: 0,
        of: 2 * rows.folds.len() + 1,
        loss: f64::NAN,
    };
    for (number, &row) in images.iter().enumerate() {
        if number.is_multiple_of(PART) && on_progress(&begun).is_break() {
            return Err(LearnError::Cancelled);
        }
        let map = encoder.features(&image(format, set, row)?, input)?;
        rows.cells.push(map.cells);
        let (values, channels) = (map.values, map.channels);
        rows.values.extend(to_rows(values, channels, shape));
        rows.starts.push(rows.values.len());
    }
    Ok(rows)
}

impl FeatureRows {
    /// Scales all features to mean 0 and standard deviation 1 of each channel; returns how.
    fn scale(&mut self, shape: &ModelShape) -> Scaler {
        let scaler = scaler(&self.values, shape);
        scaler.scale_planes(&mut self.values, shape.places());
        scaler
    }

    /// Scales all features once more: each channel to standard deviation 1 of what was left of it.
    fn weigh(&mut self, left: &Scaler, scaler: &mut Scaler, shape: &ModelShape) {
        let by = Scaler {
            mean: vec![0.0; left.mean.len()],
            sd: left.sd.clone(),
        };
        by.scale_planes(&mut self.values, shape.places());
        for (sd, by) in scaler.sd.iter_mut().zip(&by.sd) {
            *sd *= by;
        }
    }

    /// Where the rows of an image begin.
    fn rows_of(&self, image: usize, inputs: usize) -> impl Iterator<Item = usize> {
        (self.starts[image]..self.starts[image + 1]).step_by(inputs)
    }

    /// A model of all images but those of a fold, the `number`-th of the training.
    fn fit(
        &self,
        stream: &StreamSettings,
        shape: &ModelShape,
        fold: &[Range<usize>],
        number: usize,
        on_progress: GoesOn<'_>,
    ) -> Result<Trained, LearnError> {
        let is_held_out = |image: &usize| fold.iter().any(|part| part.contains(image));
        let (held_out, train): (Vec<usize>, Vec<usize>) =
            (0..self.cells.len()).partition(is_held_out);
        let starts = |images: Vec<usize>| -> Vec<usize> {
            let rows = |image| self.rows_of(image, shape.inputs());
            images.into_iter().flat_map(rows).collect()
        };
        let rows = TrainingWindows {
            values: &self.values,
            train: &starts(train),
            held_out: &starts(held_out),
        };
        let of = (number, 2 * self.folds.len() + 1);
        fit(rows, shape, None, stream, of, on_progress)
    }

    /// Hands over the rows of each image with their reconstruction by a model that did not see it, and
    /// its cells. The first model is the `first`-th of the training.
    fn by_folds(
        &self,
        stream: &StreamSettings,
        shape: &ModelShape,
        first: usize,
        on_progress: GoesOn<'_>,
        of: OnImage<'_>,
    ) -> Result<Vec<Trained>, LearnError> {
        let mut all = Vec::with_capacity(self.folds.len());
        for (number, fold) in self.folds.iter().enumerate() {
            if fold.iter().all(Range::is_empty) {
                continue;
            }
            let trained = self.fit(stream, shape, fold, first + number, on_progress)?;
            for image in fold.iter().flat_map(Clone::clone) {
                let x = &self.values[self.starts[image]..self.starts[image + 1]];
                of(x, &trained.model.reconstruct(x)?, self.cells[image])?;
            }
            all.push(trained);
        }
        Ok(all)
    }
}

/// Mean and variance of each channel, in one pass: the values are of the order of 1.
struct ChannelMoments {
    places: usize,
    count: f64,
    sums: Vec<f64>,
    squares: Vec<f64>,
    at: usize,
}

impl ChannelMoments {
    fn new(shape: &ModelShape) -> Self {
        Self {
            places: shape.places(),
            count: 0.0,
            sums: vec![0.0; shape.channels()],
            squares: vec![0.0; shape.channels()],
            at: 0,
        }
    }

    /// Adds whole rows of a model's inputs.
    fn add(&mut self, values: impl Iterator<Item = f32>) {
        let channels = self.sums.len();
        for value in values {
            let channel = self.at / self.places % channels;
            let value = f64::from(value);
            self.sums[channel] += value;
            self.squares[channel] += value * value;
            self.at = (self.at + 1) % (self.places * channels);
            self.count += 1.0 / channels as f64;
        }
    }

    fn scaler(&self) -> Scaler {
        let each = self.sums.iter().zip(&self.squares);
        let moments = each.map(|(sum, squares)| {
            let mean = sum / self.count.max(1.0);
            let variance = (squares / self.count.max(1.0) - mean * mean).max(0.0);
            (mean, variance.sqrt().max(SD_MIN))
        });
        let (mean, sd) = moments.unzip();
        Scaler { mean, sd }
    }
}
