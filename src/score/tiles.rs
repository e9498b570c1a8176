//! Tiles: an image cut into what a model sees, and put together again from what it reconstructs.
//!
//! Neighbours overlap, and where they do the reconstruction is their mean, weighted by how far
//! inside of each tile a pixel lies: a convolution knows less of what is at the edge. An image that
//! is smaller than a tile is continued by its own edge.

use super::zeros;
use crate::model::scaler::{Scaler, of_pixels};
use crate::record::Image;

/// Where the tiles of an image are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tiling {
    width: usize,
    height: usize,
    side: usize,
    /// Left edges of the columns of tiles.
    lefts: Vec<usize>,
    /// Upper edges of the rows of tiles.
    tops: Vec<usize>,
    overlap: usize,
}

/// Starts of tiles that cover `length`, evenly spread, with at least `overlap` in common.
fn starts(length: usize, side: usize, overlap: usize) -> Vec<usize> {
    let left = length.saturating_sub(side);
    let steps = left.div_ceil((side - overlap).max(1));
    (0..=steps).map(|step| left * step / steps.max(1)).collect()
}

impl Tiling {
    /// The tiles of `side` pixels of an image, which overlap by `overlap` at least (at most half a
    /// tile).
    pub fn new(width: usize, height: usize, side: usize, overlap: usize) -> Self {
        let lefts = starts(width, side, overlap);
        let tops = starts(height, side, overlap);
        Self {
            width,
            height,
            side,
            lefts,
            tops,
            overlap,
        }
    }

    /// How many tiles there are.
    pub fn count(&self) -> usize {
        self.lefts.len() * self.tops.len()
    }

    fn corners(&self) -> impl Iterator<Item = (usize, usize)> {
        self.tops
            .iter()
            .flat_map(|&top| self.lefts.iter().map(move |&left| (left, top)))
    }

    /// Appends all tiles of an image, scaled, `[n, channels, side, side]`.
    pub fn gather(&self, image: &Image, scaler: &Scaler, tiles: &mut Vec<f32>) {
        tiles.reserve(self.count() * image.channels * self.side * self.side);
        for (left, top) in self.corners() {
            cut(image, scaler, self.side, left, top, tiles);
        }
    }

    /// The image that reconstructed tiles make, `[channels, height, width]` in scaled units.
    pub fn assemble(&self, tiles: &[f32], channels: usize) -> Vec<f32> {
        let side = self.side;
        let area = self.width * self.height;
        // How far inside a pixel is, up to the overlap: 1 at the edge.
        let inside: Vec<f32> = (0..side)
            .map(|at| (at + 1).min(side - at).min(self.overlap + 1) as f32)
            .collect();
        let (mut sums, mut weights) = (zeros::<f32>(channels * area), zeros::<f32>(area));
        for ((left, top), tile) in self
            .corners()
            .zip(tiles.chunks_exact(channels * side * side))
        {
            let columns = side.min(self.width - left);
            let rows = side.min(self.height - top);
            for y in 0..rows {
                let row = (top + y) * self.width + left;
                let weight = |x: usize| inside[x] * inside[y];
                for x in 0..columns {
                    weights[row + x] += weight(x);
                }
                for channel in 0..channels {
                    let from = &tile[(channel * side + y) * side..][..columns];
                    let into = &mut sums[channel * area + row..][..columns];
                    into.iter_mut()
                        .zip(from)
                        .enumerate()
                        .for_each(|(x, (sum, value))| *sum += weight(x) * value);
                }
            }
        }
        for plane in sums.chunks_exact_mut(area) {
            plane
                .iter_mut()
                .zip(&weights)
                .for_each(|(sum, weight)| *sum /= weight);
        }
        sums
    }
}

/// Appends the tile whose upper left corner is at `left`, `top`, scaled.
pub fn cut(
    image: &Image,
    scaler: &Scaler,
    side: usize,
    left: usize,
    top: usize,
    tiles: &mut Vec<f32>,
) {
    let area = image.width * image.height;
    let scales = scaler.mean.iter().zip(&scaler.sd);
    for (plane, (mean, sd)) in image.pixels.chunks_exact(area).zip(scales) {
        let scale = of_pixels(*mean, *sd);
        for y in top..top + side {
            let row = &plane[y.min(image.height - 1) * image.width..][..image.width];
            tiles.extend((left..left + side).map(|x| scale(row[x.min(image.width - 1)])));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tiles_that_are_put_together_are_the_image(
            width in 1..70usize, height in 1..70usize, side in 8..33usize, overlap in 0..17usize, channels in 1..4usize,
        ) {
            let overlap = overlap.min(side / 2);
            let pixels: Vec<f32> = (0..channels * width * height).map(|i| ((i * 37) % 101) as f32 / 101.0).collect();
            let image = Image { width, height, channels, pixels, original: [width, height], file: Arc::from([]) };
            let scaler = Scaler { mean: vec![0.5; channels], sd: vec![0.25; channels] };
            let tiling = Tiling::new(width, height, side, overlap);
            let mut tiles = Vec::new();
            tiling.gather(&image, &scaler, &mut tiles);
            prop_assert_eq!(tiles.len(), tiling.count() * channels * side * side);
            for (found, pixel) in tiling.assemble(&tiles, channels).iter().zip(&image.pixels) {
                prop_assert!((found * 0.25 + 0.5 - pixel).abs() < 1e-4);
            }
            for starts in [&tiling.lefts, &tiling.tops] {
                prop_assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= side - overlap));
            }
        }
    }
}
