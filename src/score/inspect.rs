//! Images become error maps, the tiles of each in one forward pass, and each map one score.

use super::ScoreError;
use super::cells::{self, stretched};
use super::error_map::{self, ErrorMap, boxes};
use super::tiles::Tiling;
use crate::model::bundle::Bundle;
use crate::model::scaler::Scaler;
use crate::model::{Autoencoder, part_rows};
use crate::record::format::{ErrorMeasure, ImageFormat};
use crate::record::{Image, Scored};

/// What was found on an image.
#[derive(Clone, PartialEq, Debug)]
pub struct Inspected {
    /// Its score.
    pub scored: Scored,
    map: ErrorMap,
    /// Width and height of a cell of `map` in pixels; `None` where it has those of the image.
    cell: Option<[f64; 2]>,
}

impl Inspected {
    /// How many standard deviations above normal each pixel is, row-major, by the bundle that
    /// scored the image.
    pub fn deviations(&self, bundle: &Bundle, image: &Image) -> Vec<f32> {
        let Some(peaks) = &bundle.calibration.peaks else {
            return Vec::new();
        };
        let found = self.map.deviations(peaks, &boxes(&bundle.manifest.shape));
        match self.cell {
            None => found,
            Some(cell) => stretched(&found, self.map.size(), cell, [image.width, image.height]),
        }
    }
}

/// The error maps of images, in their order.
///
/// Each image goes through the model by itself: libtorch's results depend on the number of tiles of
/// a call in their last digits, and a score must not depend on which images were polled together.
///
/// # Errors
/// Where libtorch refuses the tensors.
pub fn error_maps(
    model: &dyn Autoencoder,
    scaler: &Scaler,
    error: ErrorMeasure,
    overlap: usize,
    images: &[&Image],
) -> Result<Vec<ErrorMap>, ScoreError> {
    let shape = model.shape();
    let side = model.shape().tile;
    let inputs = shape.inputs();
    let channels = shape.channels();
    let mut tiles = Vec::new();
    let mut found = Vec::new();
    let map = |image: &&Image| {
        let tiling = Tiling::new(image.width, image.height, side, overlap);
        tiles.clear();
        tiling.gather(image, scaler, &mut tiles);
        found.clear();
        for part in tiles.chunks(part_rows(inputs) * inputs) {
            found.extend(model.reconstruct(part)?);
        }
        let reconstruction = tiling.assemble(&found, channels);
        Ok(ErrorMap::of(image, &reconstruction, scaler, error))
    };
    images.iter().map(map).collect()
}

/// Scores images with a bundle that is calibrated for them.
///
/// # Errors
/// Where libtorch refuses the tensors, or the bundle is not one of images.
pub fn inspect(
    bundle: &Bundle,
    images: &[&Image],
    format: &ImageFormat,
) -> Result<Vec<Inspected>, ScoreError> {
    let calibration = &bundle.calibration;
    let Some(peaks) = &calibration.peaks else {
        return Err(ScoreError::NoPeaks);
    };
    let (model, scaler) = (&*bundle.model, &calibration.scaler);
    let maps = match &bundle.encoder {
        Some(encoder) => cells::error_maps(encoder, model, scaler, images)?
            .into_iter()
            .map(|errors| (errors.map, Some(errors.cell)))
            .collect::<Vec<_>>(),
        None => error_maps(model, scaler, peaks.error, format.overlap, images)?
            .into_iter()
            .map(|map| (map, None))
            .collect(),
    };
    let boxes = boxes(&bundle.manifest.shape);
    let inspected = maps.into_iter().map(|(map, cell)| {
        let score = error_map::score(peaks, &map.peaks(&boxes));
        Inspected {
            scored: Scored {
                score,
                level: score,
                chart: 0,
                raw_error: map.raw_error(),
            },
            map,
            cell,
        }
    });
    Ok(inspected.collect())
}
