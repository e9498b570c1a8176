//! The error map: how far each pixel of an image is from its reconstruction, and how strange the
//! strangest part of it is.
//!
//! ```text
//! e(x, y) = mean over channels of (z - AE(z))^2, or (1 - SSIM) / 2 around the pixel
//! m_s     = largest mean of e over a box of side s in the image          for each of a few sides, and over the whole image
//! score   = max(0, max over s of (ln m_s - mean_s) / sd_s)               mean_s, sd_s: of ln m_s over held-out normal images
//! ```
//! Boxes of several sides find thin scratches as well as wide stains, each against what normal
//! images reach at that side; the logarithm makes the spread of maxima alike. SSIM: Wang, Bovik,
//! Sheikh, Simoncelli, IEEE TIP 13(4), 2004; as an error map: Bergmann et al., VISAPP 2019.

use super::zeros;
use crate::model::calibration::Peaks;
use crate::model::scaler::{Scaler, of_pixels};
use crate::model::shape::ModelShape;
use crate::record::Image;
use crate::record::format::ErrorMeasure;
use crate::record::image::Region;

/// Sides of the boxes, in pixels; those that are larger than a tile are left out.
const SIDES: [usize; 4] = [3, 7, 15, 31];
/// The same in cells of features.
const CELL_SIDES: [usize; 5] = [1, 2, 3, 5, 9];
/// Side of the surroundings of a pixel that SSIM compares, and its two constants for values from 0
/// to 1.
const SSIM: (usize, f64, f64) = (7, 1e-4, 9e-4);
/// Least error: the logarithm of a perfect reconstruction is a number too.
const ERROR_MIN: f64 = 1e-12;
/// The part of the peak that a pixel needs to belong to a region.
const CUT: f32 = 0.5;
/// Normal images are never more alike than this.
const SD_MIN: f64 = 0.02;

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub struct ErrorMap {
    width: usize,
    height: usize,
    /// Row-major, >= 0.
    errors: Vec<f32>,
}

/// Sides of the boxes that are pooled for a model of images, without that of the whole image.
pub fn boxes(shape: &ModelShape) -> Vec<usize> {
    let (sides, most): (&[usize], usize) = match &shape.features {
        None => (&SIDES, shape.tile),
        Some(features) if features.places() > 1 => {
            (&CELL_SIDES, features.cells[0].min(features.cells[1]))
        }
        // Images of any size.
        Some(_) => (&CELL_SIDES, usize::MAX),
    };
    sides.iter().copied().filter(|&side| side <= most).collect()
}

/// Sums over all rectangles from the upper left corner: any box in four look-ups (Crow, SIGGRAPH
/// 1984).
struct Sums {
    width: usize,
    height: usize,
    sums: Vec<f64>,
}

impl Sums {
    fn of(width: usize, height: usize, value: impl Fn(usize) -> f64) -> Self {
        let mut sums: Vec<f64> = zeros((width + 1) * (height + 1));
        for y in 0..height {
            let mut row = 0.0;
            for x in 0..width {
                row += value(y * width + x);
                sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
            }
        }
        Self {
            width,
            height,
            sums,
        }
    }

    /// Mean over the box around a pixel; near an edge over the one beside it that is whole: the
    /// mean over a part of a box would be high more often than that over others.
    fn mean(&self, x: usize, y: usize, side: usize) -> f64 {
        let start =
            |at: usize, length: usize| at.saturating_sub(side / 2).min(length.saturating_sub(side));
        self.mean_from(start(x, self.width), start(y, self.height), side)
    }

    /// Mean over the box with this upper left corner, or what of it lies in the image.
    fn mean_from(&self, left: usize, top: usize, side: usize) -> f64 {
        let right = (left + side).min(self.width);
        let bottom = (top + side).min(self.height);
        let at = |x: usize, y: usize| self.sums[y * (self.width + 1) + x];
        let sum = at(right, bottom) - at(left, bottom) - at(right, top) + at(left, top);
        sum / ((right - left) * (bottom - top)) as f64
    }

    /// The highest mean over a box of this side.
    fn highest(&self, side: usize) -> f64 {
        let right = self.width.saturating_sub(side);
        let bottom = self.height.saturating_sub(side);
        let row = |top: usize| {
            (0..=right)
                .map(|left| self.mean_from(left, top, side))
                .fold(0.0, f64::max)
        };
        (0..=bottom).map(row).fold(0.0, f64::max)
    }
}

impl ErrorMap {
    /// Of an image and its reconstruction (`[channels, height, width]`, scaled).
    pub fn of(
        image: &Image,
        reconstruction: &[f32],
        scaler: &Scaler,
        measure: ErrorMeasure,
    ) -> Self {
        let width = image.width;
        let height = image.height;
        let area = image.width * image.height;
        let mut errors: Vec<f32> = zeros(area);
        let part = 1.0 / image.channels as f32;
        let planes = image
            .pixels
            .chunks_exact(area)
            .zip(reconstruction.chunks_exact(area));
        for ((plane, found), (mean, sd)) in planes.zip(scaler.mean.iter().zip(&scaler.sd)) {
            match measure {
                ErrorMeasure::Squared => {
                    let scale = of_pixels(*mean, *sd);
                    let error = |x: f32, y: f32| (scale(x) - y).powi(2);
                    errors
                        .iter_mut()
                        .zip(plane.iter().zip(found))
                        .for_each(|(e, (&x, &y))| *e += part * error(x, y));
                }
                ErrorMeasure::Ssim => {
                    let found: Vec<f64> = found.iter().map(|&y| mean + f64::from(y) * sd).collect();
                    let unlike = dissimilarity(width, height, plane, &found);
                    errors
                        .iter_mut()
                        .zip(unlike)
                        .for_each(|(e, d)| *e += part * d);
                }
            }
        }
        Self {
            width,
            height,
            errors,
        }
    }

    /// Of a map of features and its reconstruction (`[channels, rows, columns]`, scaled): a value for
    /// each of so many columns and rows of cells.
    pub fn of_cells([width, height]: [usize; 2], features: &[f32], reconstruction: &[f32]) -> Self {
        let area = width * height;
        let mut errors: Vec<f32> = zeros(area);
        let part = area as f32 / features.len().max(1) as f32;
        let planes = features
            .chunks_exact(area)
            .zip(reconstruction.chunks_exact(area));
        for (plane, found) in planes {
            for (error, (x, y)) in errors.iter_mut().zip(plane.iter().zip(found)) {
                *error += part * (x - y).powi(2);
            }
        }
        Self {
            width,
            height,
            errors,
        }
    }

    /// Its width and height, in pixels or cells.
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// Root mean square error over the image (of SSIM the root of the mean dissimilarity).
    pub fn raw_error(&self) -> f64 {
        self.mean().sqrt()
    }

    fn mean(&self) -> f64 {
        self.errors
            .iter()
            .map(|&error| f64::from(error))
            .sum::<f64>()
            / self.errors.len().max(1) as f64
    }

    fn sums(&self) -> Sums {
        Sums::of(self.width, self.height, |at| f64::from(self.errors[at]))
    }

    /// The logarithm of the highest error for each box, and of the whole image.
    pub fn peaks(&self, boxes: &[usize]) -> Vec<f64> {
        let sums = self.sums();
        boxes
            .iter()
            .map(|&side| sums.highest(side))
            .chain([self.mean()])
            .map(logarithm)
            .collect()
    }

    /// How many standard deviations above normal the surroundings of each pixel are, row-major, >=
    /// 0: the most over all boxes.
    pub fn deviations(&self, normal: &Peaks, boxes: &[usize]) -> Vec<f32> {
        let sums = self.sums();
        let boxes: Vec<(usize, f64, f64)> = boxes
            .iter()
            .zip(&normal.mean)
            .zip(&normal.sd)
            .map(|((&side, mean), sd)| (side, *mean, *sd))
            .collect();
        let of = |at: usize| {
            let x = at % self.width;
            let y = at / self.width;
            let all = boxes
                .iter()
                .map(|&(side, mean, sd)| (logarithm(sums.mean(x, y, side)) - mean) / sd);
            all.fold(0.0, f64::max) as f32
        };
        (0..self.errors.len()).map(of).collect()
    }
}

fn logarithm(error: f64) -> f64 {
    if error.is_finite() {
        libm::log(error.max(ERROR_MIN))
    } else {
        libm::log(f64::from(f32::MAX))
    }
}

/// What the peaks of normal images are like; `None` where there are fewer than two.
pub fn normal_peaks(peaks: &[Vec<f64>], error: ErrorMeasure) -> Option<Peaks> {
    Moments::of(peaks).without(None).map(|(mean, sd)| Peaks {
        error,
        mean,
        sd,
        scores: Vec::new(),
    })
}

/// The score of each normal image, held against the others only: against what it is a part of
/// itself it looks nearer than a new one will. Empty where there are too few.
pub fn left_out_scores(peaks: &[Vec<f64>], error: ErrorMeasure) -> Vec<f64> {
    let all = Moments::of(peaks);
    let of = |own: &Vec<f64>| {
        all.without(Some(own)).map(|(mean, sd)| {
            let others = Peaks {
                error,
                mean,
                sd,
                scores: Vec::new(),
            };
            score(&others, own)
        })
    };
    peaks.iter().filter_map(of).collect()
}

/// Number, mean and sum of squared differences from it, for each box.
struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    fn of(peaks: &[Vec<f64>]) -> Self {
        let count = peaks.len() as f64;
        let length = peaks.first().map_or(0, Vec::len);
        let mean: Vec<f64> = (0..length)
            .map(|i| peaks.iter().map(|p| p[i]).sum::<f64>() / count)
            .collect();
        let squares = (0..length)
            .map(|i| peaks.iter().map(|p| (p[i] - mean[i]).powi(2)).sum())
            .collect();
        Self {
            count,
            mean,
            squares,
        }
    }

    /// Mean and standard deviation of all, or of all but one.
    fn without(&self, one: Option<&[f64]>) -> Option<(Vec<f64>, Vec<f64>)> {
        let left = self.count - f64::from(u8::from(one.is_some()));
        if left < 2.0 {
            return None;
        }
        let moments = |i: usize| {
            // Welford's update, backwards.
            let before = self.mean[i];
            let one = one.map(|one| one[i]);
            let mean = one.map_or(before, |x| (self.count * before - x) / left);
            let squares = one.map_or(self.squares[i], |x| {
                self.squares[i] - (x - before) * (x - mean)
            });
            (mean, (squares.max(0.0) / (left - 1.0)).sqrt().max(SD_MIN))
        };
        Some((0..self.mean.len()).map(moments).unzip())
    }
}

/// The score of an image with these peaks: finite, >= 0.
pub fn score(normal: &Peaks, peaks: &[f64]) -> f64 {
    let all = peaks
        .iter()
        .zip(normal.mean.iter().zip(&normal.sd))
        .map(|(peak, (mean, sd))| (peak - mean) / sd);
    all.fold(0.0, f64::max)
}

/// The parts of an image that deviate by half of the peak or more: boxes in pixels of the image as
/// it came, the largest share first.
pub fn regions(deviations: &[f32], image: &Image) -> Vec<Region> {
    let peak = deviations.iter().copied().fold(0.0, f32::max);
    if peak <= 0.0 {
        return Vec::new();
    }
    let width = image.width;
    let found = components(deviations, width, CUT * peak);
    let all: f64 = found.iter().map(|(_, sum)| sum).sum();
    let by = [
        image.original[0] as f64 / width as f64,
        image.original[1] as f64 / image.height as f64,
    ];
    let low = |at: usize, by: f64| (at as f64 * by).floor() as u32;
    let high = |at: usize, by: f64| (at as f64 * by).ceil() as u32;
    let region = |([left, right, top, bottom], sum): ([usize; 4], f64)| {
        let x = low(left, by[0]);
        let y = low(top, by[1]);
        Region {
            x,
            y,
            width: high(right, by[0]) - x,
            height: high(bottom, by[1]) - y,
            share: sum / all,
        }
    };
    let mut regions: Vec<Region> = found.into_iter().map(region).collect();
    regions.sort_by(|a, b| b.share.total_cmp(&a.share));
    regions
}

/// The connected components (4 neighbours) of the pixels at or above `cut`: left, right, top and
/// bottom of each, the ends outside, and the sum of its deviations.
fn components(deviations: &[f32], width: usize, cut: f32) -> Vec<([usize; 4], f64)> {
    let mut seen = vec![false; deviations.len()];
    let mut found = Vec::new();
    let mut waiting = Vec::new();
    for start in 0..deviations.len() {
        if seen[start] || deviations[start] < cut {
            continue;
        }
        let mut left = width;
        let mut right = 0;
        let mut top = usize::MAX;
        let mut bottom = 0;
        let mut sum = 0.0;
        seen[start] = true;
        waiting.push(start);
        while let Some(at) = waiting.pop() {
            let x = at % width;
            let y = at / width;
            (left, right, top, bottom) = (left.min(x), right.max(x), top.min(y), bottom.max(y));
            sum += f64::from(deviations[at]);
            let around = [
                (x > 0, at.wrapping_sub(1)),
                (x + 1 < width, at + 1),
                (true, at.wrapping_sub(width)),
                (true, at + width),
            ];
            for (_, next) in around
                .into_iter()
                .filter(|(inside, next)| *inside && *next < deviations.len())
            {
                if !seen[next] && deviations[next] >= cut {
                    seen[next] = true;
                    waiting.push(next);
                }
            }
        }
        found.push(([left, right + 1, top, bottom + 1], sum));
    }
    found
}

/// (1 - SSIM) / 2 around each pixel of two planes of values from 0 to 1.
fn dissimilarity(width: usize, height: usize, a: &[f32], b: &[f64]) -> Vec<f32> {
    let (side, c1, c2) = SSIM;
    let x = |at: usize| f64::from(a[at]);
    let sums = |value: &dyn Fn(usize) -> f64| Sums::of(width, height, value);
    let sx = sums(&x);
    let sy = sums(&|at| b[at]);
    let sxx = sums(&|at| x(at) * x(at));
    let syy = sums(&|at| b[at] * b[at]);
    let sxy = sums(&|at| x(at) * b[at]);
    let of = |at: usize| {
        let mean = |sums: &Sums| sums.mean(at % width, at / width, side);
        let mx = mean(&sx);
        let my = mean(&sy);
        let vx = (mean(&sxx) - mx * mx).max(0.0);
        let vy = (mean(&syy) - my * my).max(0.0);
        let covariance = mean(&sxy) - mx * my;
        let ssim = (2.0 * mx * my + c1) * (2.0 * covariance + c2)
            / ((mx * mx + my * my + c1) * (vx + vy + c2));
        ((1.0 - ssim) / 2.0).clamp(0.0, 1.0) as f32
    };
    (0..width * height).map(of).collect()
}

#[cfg(test)]
mod tests;
