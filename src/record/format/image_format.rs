//! How the images of a stream are read.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layout::path;
use crate::options::{self, ByteSizeText, OptionFault, optional};

/// How images are read, cut into tiles, and scored; only for record.format = "image".
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ImageFormat {
    /// Payload: the image itself, or a JSON object with it.
    pub payload: ImagePayload,
    /// In a JSON object, the path of the image as base64 text.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", example = &"image", extend("x-syntax" = "path"))]
    pub data: Vec<String>,
    /// In a JSON object, the path of the name of a file below `root`.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", example = &"file", extend("x-syntax" = "path"))]
    pub file: Vec<String>,
    /// Folder below which files may be read; "" for none.
    #[serde(deserialize_with = "options::none_if_empty")]
    #[schemars(with = "String", example = "/var/lib/cameras")]
    pub root: Option<PathBuf>,
    /// Colour mode.
    pub channels: Channels,
    /// Maximum size of a decoded image in pixels, 1 to 268435456.
    #[schemars(range(min = 1, max = 268_435_456))]
    pub max_pixels: usize,
    /// Maximum size of a file, 16 B to 1 GiB.
    #[serde(deserialize_with = "options::size")]
    #[schemars(with = "ByteSizeText", example = "32 MiB", extend("x-size" = {"minimum": "16 B", "maximum": "1 GiB"}))]
    pub max_file_bytes: usize,
    /// Time limit for decoding one image, 10ms to 60s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "2s", extend("x-duration" = {"minimum": "10ms", "maximum": "1m"}))]
    pub decode_timeout: Duration,
    /// Longer side to which larger images are downscaled, 8 to 16384 pixels; 0: full size.
    #[schemars(range(min = 0, max = 16_384))]
    pub reduce_to: usize,
    /// Side of the model's tiles, 8 to 512 pixels.
    #[schemars(range(min = 8, max = 512))]
    pub tile: usize,
    /// Minimum overlap of neighbouring tiles in pixels, 0 to half a tile.
    #[schemars(range(min = 0, max = 256))]
    pub overlap: usize,
    /// Error measure between image and reconstruction at each pixel.
    pub error: ErrorMeasure,
}

impl ImageFormat {
    /// What is wrong with the values.
    pub fn faults(&self) -> impl Iterator<Item = OptionFault> {
        let half = format!("must be at most half of image.tile, which is {}", self.tile);
        let reduced = "must be at least 8 pixels, or 0 for full size";
        [
            OptionFault::when((1..8).contains(&self.reduce_to), "reduce_to", reduced),
            OptionFault::when(2 * self.overlap > self.tile, "overlap", half),
        ]
        .into_iter()
        .flatten()
    }
}

/// Kinds of message payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImagePayload {
    /// The image.
    Image,
    /// A JSON object that holds the image or names its file.
    Json,
}

/// Colour modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// Luminance.
    #[default]
    Grey,
    /// Red, green and blue.
    Rgb,
}

impl Channels {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// Error measure between image and reconstruction at each pixel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorMeasure {
    /// The square of their difference.
    #[default]
    Squared,
    /// Structural dissimilarity: (1 - SSIM) / 2 of their surroundings.
    Ssim,
}
