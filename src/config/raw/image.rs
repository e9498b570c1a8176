//! `[streams.NAME.image]` as it is written; see [`super`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Size, optional};
use crate::config::settings::{Channels, ErrorMeasure, Payload};

/// How images are read, cut into tiles, and scored; only for record.format = "image".
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Image {
    /// What a payload is: the image itself, or a JSON object with it.
    pub payload: Payload,
    /// In a JSON object, the path of the image as base64 text.
    #[schemars(example = &"image")]
    pub data: String,
    /// In a JSON object, the path of the name of a file below `root`.
    #[schemars(example = &"file")]
    pub file: String,
    /// Folder below which files may be read; "" for none.
    #[schemars(example = "/var/lib/cameras")]
    pub root: String,
    /// Whether colours are kept.
    pub channels: Channels,
    /// Largest image that is decoded, in pixels, 1 to 268435456.
    #[schemars(range(min = 1, max = 268_435_456))]
    pub max_pixels: usize,
    /// Longest file that is read, 16 B to 1 GiB.
    #[schemars(example = "32 MiB")]
    pub max_file_bytes: Size,
    /// How long decoding one image may take, 10ms to 60s.
    #[schemars(example = "2s")]
    pub decode_timeout: String,
    /// Longer side to which larger images are reduced, 8 to 16384 pixels; 0: as they come.
    #[schemars(range(min = 0, max = 16_384))]
    pub reduce_to: usize,
    /// Side of the tiles that the model sees, 8 to 512 pixels.
    #[schemars(range(min = 8, max = 512))]
    pub tile: usize,
    /// By how many pixels neighbouring tiles overlap at least, 0 to half a tile.
    #[schemars(range(min = 0, max = 256))]
    pub overlap: usize,
    /// What of image and reconstruction is compared at each pixel.
    pub error: ErrorMeasure,
}
