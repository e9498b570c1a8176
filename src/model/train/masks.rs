//! Masks: what a network learns to fill in, so that it cannot just copy.
//!
//! Of rows of readings one field is set to its mean, as that of a lost sensor is before the model's first
//! estimate of it. Of tiles rectangles of any proportion are covered with one grey, or with a piece of another tile (as
//! CutPaste: Li, Sohn, Yoon, Pfister, CVPR 2021), more or less opaque, and the loss is held against
//! the clean tile: the denoising autoencoder of Vincent et al. with a corruption that is as local
//! as a defect is.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Shortest side of a mask in pixels; the longest is half of the tile.
const SIDE_MIN: f64 = 2.0;
/// How opaque a mask is at least.
const OPACITY_MIN: f32 = 0.3;
/// Standard deviation of the grey of a mask, in scaled units.
const GREY: f32 = 2.0;

/// Part of the rows in which a field is covered.
const COVERED: f64 = 0.2;

/// Covers one of the `scored` first fields of each record, the same in all records of a row, in some of
/// `rows` (`inputs` values each, records of `width` values).
pub(super) fn cover_fields(
    rows: &mut [f32],
    inputs: usize,
    width: usize,
    scored: usize,
    rng: &mut ChaCha8Rng,
) {
    // Of a single field nothing else says anything.
    if scored < 2 {
        return;
    }
    for row in rows.chunks_exact_mut(inputs) {
        if rng.random_bool(COVERED) {
            let field = rng.random_range(0..scored);
            let covered = row.iter_mut().skip(field).step_by(width);
            covered.for_each(|value| *value = 0.0);
        }
    }
}

/// Covers each of `tiles` (row-major, `[n, channels, side, side]`) with 0 to `most` masks; pieces
/// come from `clean`, the same tiles.
pub(super) fn cover(
    tiles: &mut [f32],
    clean: &[f32],
    side: usize,
    channels: usize,
    most: usize,
    rng: &mut ChaCha8Rng,
) {
    let inputs = side * side * channels;
    let count = clean.len() / inputs;
    for tile in tiles.chunks_exact_mut(inputs) {
        for _ in 0..rng.random_range(0..=most) {
            let mask = Mask::draw(side, rng);
            let opacity = rng.random_range(OPACITY_MIN..=1.0);
            if rng.random_bool(0.5) {
                let greys: Vec<f32> = (0..channels).map(|_| GREY * normal(rng)).collect();
                mask.each(side, channels, |at, channel, _, _| {
                    mix(&mut tile[at], greys[channel], opacity)
                });
            } else {
                let from = &clean[rng.random_range(0..count) * inputs..][..inputs];
                let left = rng.random_range(0..=side - mask.width);
                let top = rng.random_range(0..=side - mask.height);
                mask.each(side, channels, |at, channel, x, y| {
                    mix(
                        &mut tile[at],
                        from[(channel * side + top + y) * side + left + x],
                        opacity,
                    );
                });
            }
        }
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    StandardNormal.sample(rng)
}

fn mix(value: &mut f32, with: f32, opacity: f32) {
    *value += opacity * (with - *value);
}

/// A rectangle of a tile, in pixels.
struct Mask {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Mask {
    /// Sides are uniform in their logarithms, so that thin lines and small spots are as frequent as
    /// large patches.
    fn draw(side: usize, rng: &mut ChaCha8Rng) -> Self {
        let longest = (side as f64 / 2.0).max(SIDE_MIN);
        let mut length =
            || (SIDE_MIN * (longest / SIDE_MIN).powf(rng.random_range(0.0..=1.0))).round() as usize;
        let width = length();
        let height = length();
        Self {
            left: rng.random_range(0..=side - width),
            top: rng.random_range(0..=side - height),
            width,
            height,
        }
    }

    /// `of` gets each value of the rectangle: its place in the tile, its channel, and where it is
    /// inside.
    fn each(&self, side: usize, channels: usize, mut of: impl FnMut(usize, usize, usize, usize)) {
        for channel in 0..channels {
            for y in 0..self.height {
                for x in 0..self.width {
                    of(
                        (channel * side + self.top + y) * side + self.left + x,
                        channel,
                        x,
                        y,
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn masks_cover_a_part_of_each_tile_and_nothing_twice_the_same() {
        let side = 16;
        let channels = 3;
        let n = 50;
        let clean: Vec<f32> = (0..n * side * side * channels)
            .map(|i| (i as f32 * 0.1).sin())
            .collect();
        let mut tiles = clean.clone();
        cover(
            &mut tiles,
            &clean,
            side,
            channels,
            3,
            &mut ChaCha8Rng::seed_from_u64(1),
        );
        let changed: Vec<usize> = tiles
            .chunks_exact(side * side * channels)
            .zip(clean.chunks_exact(side * side * channels))
            .map(|(a, b)| a.iter().zip(b).filter(|(a, b)| a != b).count())
            .collect();
        assert!(
            changed.iter().filter(|&&c| c == 0).count() < n / 2,
            "{changed:?}"
        );
        assert!(
            changed.iter().all(|&c| c < side * side * channels),
            "no tile is covered as a whole"
        );
        assert!(tiles.iter().all(|v| v.is_finite()));
        let mut none = clean.clone();
        cover(
            &mut none,
            &clean,
            side,
            channels,
            0,
            &mut ChaCha8Rng::seed_from_u64(1),
        );
        assert_eq!(none, clean);
    }
}
