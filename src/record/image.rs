//! An image, and the anomalous regions on it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A decoded image.
#[derive(Clone, PartialEq, Debug)]
pub struct Image {
    /// Width in pixels, as the model sees it.
    pub width: usize,
    /// Height in pixels, as the model sees it.
    pub height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `[channels, height, width]`, 0 (black) to 1 (white).
    pub pixels: Vec<f32>,
    /// Width and height of the original image in pixels.
    pub original: [usize; 2],
    /// The image as a PNG or JPEG file, for training.
    pub file: Arc<[u8]>,
}

impl Image {
    /// Mean over all pixels and channels, 0 to 1.
    pub fn brightness(&self) -> f64 {
        self.pixels
            .iter()
            .map(|&pixel| f64::from(pixel))
            .sum::<f64>()
            / self.pixels.len().max(1) as f64
    }
}

#[cfg(test)]
impl Image {
    /// A grey image of its own size, for tests; `pixel` takes column and row.
    pub fn grey(width: usize, height: usize, pixel: impl Fn(usize, usize) -> f32) -> Self {
        let places = 0..width * height;
        Self {
            width,
            height,
            channels: 1,
            pixels: places.map(|at| pixel(at % width, at / width)).collect(),
            original: [width, height],
            file: Arc::from([]),
        }
    }
}

/// A rectangle of an image that contributes to the score, in pixels of the original image.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// Its share of the score, 0 to 1; the shares of all regions of an image add up to 1.
    pub share: f64,
}

impl Region {
    /// Whether `is_so` holds for any of its pixels.
    pub fn any(&self, is_so: impl Fn(u32, u32) -> bool) -> bool {
        (self.y..self.y + self.height).any(|y| (self.x..self.x + self.width).any(|x| is_so(x, y)))
    }
}
