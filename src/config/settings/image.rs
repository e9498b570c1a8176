//! Images of a stream; see [`super::StreamSettings`].

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How images are read, cut into tiles, and scored.
#[derive(Clone, PartialEq, Debug)]
pub struct ImageFormat {
    /// Where the image is.
    pub source: ImageSource,
    /// Colour mode.
    pub channels: Channels,
    /// Largest image that is decoded, in pixels.
    pub max_pixels: usize,
    /// Longest file (or decoded base64 text) that is read, in bytes.
    pub max_file_bytes: usize,
    /// How long decoding one image may take.
    pub decode_timeout: Duration,
    /// Longer side to which larger images are downscaled, in pixels; `None`: full size.
    pub reduce_to: Option<usize>,
    /// Side of a tile in pixels.
    pub tile: usize,
    /// By how many pixels neighbouring tiles overlap at least.
    pub overlap: usize,
    /// What is compared at each pixel.
    pub error: ErrorMeasure,
}

/// Where the image of a message is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImageSource {
    /// The payload is the image.
    Payload,
    /// The payload is a JSON object.
    Json {
        /// The keys that lead to the image as base64 text.
        data: Vec<String>,
        /// The keys that lead to the name of a file.
        file: Vec<String>,
        /// The folder below which files may be read.
        root: Option<PathBuf>,
    },
}

/// Kinds of message payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImagePayload {
    /// The image.
    Image,
    /// A JSON object that holds the image or names its file.
    Json,
}

/// Colour modes.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
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
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ErrorMeasure {
    /// The square of their difference.
    #[default]
    Squared,
    /// Structural dissimilarity: (1 - SSIM) / 2 of their surroundings.
    Ssim,
}
