//! Images become error maps, the tiles of each in one forward pass, and each map one score.

use super::error_map::{self, ErrorMap};
use super::tiles::Tiling;
use super::{ScoreError, Scorer};
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

impl Scorer {
    /// Scores images.
    ///
    /// # Errors
    /// Where libtorch refuses the tensors, or the bundle is not one of images.
    pub fn inspect(
        &self,
        images: &[&Image],
        format: &ImageFormat,
    ) -> Result<Vec<Inspected>, ScoreError> {
        let bundle = self.bundle();
        let calibration = &self.bundle().calibration;
        let Some(peaks) = &calibration.peaks else {
            return Err(ScoreError::NoPeaks);
        };
        let maps = error_maps(
            &*bundle.model,
            &calibration.scaler,
            peaks.error,
            format.overlap,
            images,
        )?;
        let tile = bundle.manifest.shape.tile;
        let inspected = maps.into_iter().map(|map| {
            let score = error_map::score(peaks, &map.peaks(tile));
            Inspected {
                scored: Scored {
                    score,
                    raw_error: map.raw_error(),
                },
                map,
            }
        });
        Ok(inspected.collect())
    }

    /// How many standard deviations above normal each pixel of an inspected image is, row-major.
    pub fn deviations(&self, inspected: &Inspected) -> Vec<f32> {
        let tile = self.bundle().manifest.shape.tile;
        self.bundle()
            .calibration
            .peaks
            .as_ref()
            .map_or(Vec::new(), |peaks| inspected.map.deviations(peaks, tile))
    }
}
