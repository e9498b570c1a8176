//! `[streams.NAME.image]` as it is written; see [`super`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ByteSize, optional};
use crate::config::settings::{Channels, ErrorMeasure, ImagePayload};

/// How images are read, cut into tiles, and scored; only for record.format = "image".
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ImageConfig {
    /// Payload: the image itself, or a JSON object with it.
    pub payload: ImagePayload,
    /// In a JSON object, the path of the image as base64 text.
    #[schemars(example = &"image")]
    pub data: String,
    /// In a JSON object, the path of the name of a file below `root`.
    #[schemars(example = &"file")]
    pub file: String,
    /// Folder below which files may be read; "" for none.
    #[schemars(example = "/var/lib/cameras")]
    pub root: String,
    /// Colour mode.
    pub channels: Channels,
    /// Maximum size of a decoded image in pixels, 1 to 268435456.
    #[schemars(range(min = 1, max = 268_435_456))]
    pub max_pixels: usize,
    /// Maximum size of a file, 16 B to 1 GiB.
    #[schemars(example = "32 MiB")]
    pub max_file_bytes: ByteSize,
    /// Time limit for decoding one image, 10ms to 60s.
    #[schemars(example = "2s")]
    pub decode_timeout: String,
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
