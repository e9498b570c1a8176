//! The built-in filter bank: 52 features of each cell of 16 x 16 pixels, of each colour.
//!
//! ```text
//! grey          mean, ln sd, largest and least pixel of the cell
//! e(o, a)       |quadrature pair of Gabor filters of orientation a (0, 45, 90, 135 degrees)|,
//!               on the image halved o = 0 .. 3 times: wavelengths of 4, 8, 16 and 32 pixels
//! of each e     ln mean, ln maximum, ln sd over the cell
//! ```
//! Energies are taken as logarithms: under another light all of a cell's energies have the same
//! factor, which a linear model can then take off. [`FLOOR`] keeps flat cells apart from noise.
//! Quadrature pairs: Adelson and Bergen, J. Opt. Soc. Am. A 2(2), 1985.

use std::f64::consts::PI;

use tch::{TchError, Tensor};

/// Side of a cell in pixels.
const CELL: i64 = 16;
/// Filters reach so many pixels from their centre.
const REACH: i64 = 3;
/// Orientations.
const ORIENTATIONS: usize = 4;
/// Times that the image is halved, and once as it is.
const OCTAVES: u32 = 4;
/// About the noise of rounding to 8 bits, in units of the full range of grey.
const FLOOR: f64 = 1e-3;

/// See the module.
#[derive(Debug)]
pub struct FilterBank {
    /// `[2 x orientations, 1, side, side]`, the two of a pair one after the other.
    kernels: Tensor,
}

impl FilterBank {
    pub(super) fn new() -> Result<Self, TchError> {
        let side = 2 * REACH + 1;
        let values: Vec<f32> = (0..ORIENTATIONS)
            .flat_map(|number| pair(PI * number as f64 / ORIENTATIONS as f64))
            .flatten()
            .collect();
        let kernels = Tensor::f_from_slice(&values)?.f_view([-1, 1, side, side])?;
        Ok(Self { kernels })
    }

    /// From `[1, colours, height, width]`, sides multiples of 32, to `[1, colours x 52, height / 16,
    /// width / 16]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        // Each colour by itself.
        let mut x = x.f_transpose(0, 1)?;
        let (mean, sd) = moments(&x, CELL)?;
        let largest = highest(&x, CELL)?;
        let least = highest(&x.f_neg()?, CELL)?.f_neg()?;
        let mut found = vec![mean, logarithm(&sd)?, largest, least];
        for octave in 0..OCTAVES {
            let cell = CELL >> octave;
            let energy = self.energies(&x)?;
            let (mean, sd) = moments(&energy, cell)?;
            for statistic in [mean, highest(&energy, cell)?, sd] {
                found.push(logarithm(&statistic)?);
            }
            if octave + 1 < OCTAVES {
                x = mean_pooled(&x, 2)?;
            }
        }
        let all = Tensor::f_cat(&found, 1)?;
        let (_, _, rows, columns) = all.size4()?;
        all.f_reshape([1, -1, rows, columns])
    }

    /// `[n, orientations, height, width]` of `[n, 1, height, width]`.
    fn energies(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let padded = x.f_reflection_pad2d([REACH; 4])?;
        let pairs = padded.f_conv2d(&self.kernels, None::<Tensor>, 1, 0, 1, 1)?;
        let (n, _, height, width) = pairs.size4()?;
        let pairs = pairs.f_view([n, ORIENTATIONS as i64, 2, height, width])?;
        pairs
            .f_square()?
            .f_sum_dim_intlist([2i64].as_slice(), false, None)?
            .f_sqrt()
    }
}

/// The even and the odd filter of an orientation, row-major: of mean 0, their absolute values add up
/// to 1.
fn pair(angle: f64) -> [Vec<f32>; 2] {
    let places =
        || (-REACH..=REACH).flat_map(|y| (-REACH..=REACH).map(move |x| (x as f64, y as f64)));
    let filter = |wave: fn(f64) -> f64| {
        let values: Vec<f64> = places()
            .map(|(x, y)| {
                let along = x * libm::cos(angle) + y * libm::sin(angle);
                libm::exp(-f64::midpoint(x * x, y * y)) * wave(PI / 2.0 * along)
            })
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let sum: f64 = values.iter().map(|value| (value - mean).abs()).sum();
        values
            .iter()
            .map(|value| ((value - mean) / sum) as f32)
            .collect()
    };
    [filter(libm::cos), filter(libm::sin)]
}

/// Mean and standard deviation over each cell.
fn moments(x: &Tensor, cell: i64) -> Result<(Tensor, Tensor), TchError> {
    let mean = mean_pooled(x, cell)?;
    let variance = mean_pooled(&x.f_square()?, cell)?.f_sub(&mean.f_square()?)?;
    Ok((mean, variance.f_clamp_min(0.0)?.f_sqrt()?))
}

fn mean_pooled(x: &Tensor, cell: i64) -> Result<Tensor, TchError> {
    x.f_avg_pool2d(cell, cell, 0, false, true, None)
}

fn highest(x: &Tensor, cell: i64) -> Result<Tensor, TchError> {
    x.f_max_pool2d(cell, cell, 0, 1, false)
}

fn logarithm(x: &Tensor) -> Result<Tensor, TchError> {
    x.f_add_scalar(FLOOR)?.f_log()
}
