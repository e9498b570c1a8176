//! Bytes to pixels, within limits.

use std::io::Cursor;
use std::sync::Arc;

use image::error::{ImageError, LimitErrorKind};
use image::imageops::FilterType;
use image::{DynamicImage, ImageBuffer, ImageFormat as FileFormat, ImageReader, Limits, Luma};

use crate::decode::DecodeProblem;
use crate::record::format::{Channels, ImageFormat};
use crate::record::{Image, RejectReason};

/// Bytes that a decoder may take for each pixel, its own tables included: 16-bit colours with
/// alpha, twice.
const BYTES_PER_PIXEL: u64 = 16;
/// And for the image as a whole.
const BYTES_OVERHEAD: u64 = 4 << 20;

/// The bytes of an image.
pub(super) struct Source {
    pub(super) bytes: Vec<u8>,
    /// What raw pixels mean; `None` where the bytes are a file.
    pub(super) raw: Option<Raw>,
}

/// Grey values without a file format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Raw {
    width: u32,
    height: u32,
    /// 1 or 2, little-endian.
    bytes: usize,
}

impl Raw {
    /// Which schema `number` tells of `width`, `height` and `bits`.
    pub(super) fn of(
        number: impl Fn(&str) -> Result<Option<u64>, DecodeProblem>,
    ) -> Result<Option<Self>, DecodeProblem> {
        let bytes = match number("bits")? {
            // Cameras tell the size of files too, and in words of their own; only with the bits are
            // they raw.
            None => return Ok(None),
            Some(8) => 1,
            Some(16) => 2,
            Some(bits) => return Err(bad(format!("{bits} bits a pixel; 8 and 16 are allowed"))),
        };
        let side = |name: &str| {
            let value = number(name)?;
            match value.and_then(|value| u32::try_from(value).ok()) {
                Some(side) if side > 0 => Ok(side),
                _ => Err(bad(format!(
                    "raw pixels need their {name}, 1 or more; found {}",
                    told(value)
                ))),
            }
        };
        Ok(Some(Self {
            width: side("width")?,
            height: side("height")?,
            bytes,
        }))
    }

    /// Whether bytes are as many as it says; files may come with a depth too.
    fn fits(self, bytes: &[u8]) -> bool {
        bytes.len() as u128 == u128::from(self.width) * u128::from(self.height) * self.bytes as u128
    }
}

fn told(value: Option<u64>) -> String {
    value.map_or("none".to_owned(), |value| value.to_string())
}

fn bad(detail: impl Into<String>) -> DecodeProblem {
    DecodeProblem::new(RejectReason::BadImage, detail)
}

fn too_large(width: u32, height: u32, most: usize) -> DecodeProblem {
    let pixels = u64::from(width) * u64::from(height);
    let detail = format!(
        "{width} x {height} are {pixels} pixels, {most} are allowed; see `image.max_pixels`"
    );
    DecodeProblem::new(RejectReason::ImageTooLarge, detail)
}

/// Decodes a file that an [`Image`] holds.
///
/// # Errors
/// What is wrong with it, in words.
pub fn decode_file(file: &[u8], format: &ImageFormat) -> Result<Image, String> {
    decode(
        Source {
            bytes: file.to_vec(),
            raw: None,
        },
        format,
    )
    .map_err(|problem| problem.detail)
}

/// Decodes the bytes.
pub(super) fn decode(source: Source, format: &ImageFormat) -> Result<Image, DecodeProblem> {
    let is_file = file_format(&source.bytes).is_some();
    let (picture, file) = match source.raw.filter(|raw| raw.fits(&source.bytes) || !is_file) {
        Some(raw) => {
            let picture = from_raw(&source.bytes, raw, format.max_pixels)?;
            let mut file = Cursor::new(Vec::new());
            picture
                .write_to(&mut file, FileFormat::Png)
                .map_err(|error| bad(error.to_string()))?;
            (picture, file.into_inner())
        }
        None => (from_file(&source.bytes, format.max_pixels)?, source.bytes),
    };
    let original = [picture.width() as usize, picture.height() as usize];
    let most = match format.reduce_to {
        0 => u32::MAX,
        side => side as u32,
    };
    let picture = match picture.width().max(picture.height()) > most {
        // Keeps the proportions; the triangle averages what falls on one pixel.
        true => picture.resize(most, most, FilterType::Triangle),
        false => picture,
    };
    let width = picture.width() as usize;
    let height = picture.height() as usize;
    let pixels = match format.channels {
        Channels::Grey => luma(&picture),
        Channels::Rgb => {
            let interleaved = picture.to_rgb32f().into_raw();
            (0..3)
                .flat_map(|channel| interleaved.iter().skip(channel).step_by(3).copied())
                .collect()
        }
    };
    Ok(Image {
        width,
        height,
        channels: format.channels.count(),
        pixels,
        original,
        file: Arc::from(file),
    })
}

/// Grey values, 0 to 1; those of a grey image are exactly what it holds.
fn luma(picture: &DynamicImage) -> Vec<f32> {
    match picture {
        DynamicImage::ImageLuma8(grey) => grey
            .as_raw()
            .iter()
            .map(|&v| f32::from(v) / f32::from(u8::MAX))
            .collect(),
        DynamicImage::ImageLuma16(grey) => grey
            .as_raw()
            .iter()
            .map(|&v| f32::from(v) / f32::from(u16::MAX))
            .collect(),
        other => other.to_luma32f().into_raw(),
    }
}

fn from_raw(bytes: &[u8], raw: Raw, pixels_max: usize) -> Result<DynamicImage, DecodeProblem> {
    let Raw { width, height, .. } = raw;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > pixels_max as u64 {
        return Err(too_large(width, height, pixels_max));
    }
    let expected = pixels * raw.bytes as u64;
    if bytes.len() as u64 != expected {
        let bits = 8 * raw.bytes;
        return Err(bad(format!(
            "{} bytes for {width} x {height} pixels of {bits} bits, which are {expected}",
            bytes.len()
        )));
    }
    let picture = match raw.bytes {
        1 => ImageBuffer::from_raw(width, height, bytes.to_vec()).map(DynamicImage::ImageLuma8),
        _ => {
            let values = bytes
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            ImageBuffer::<Luma<u16>, _>::from_raw(width, height, values)
                .map(DynamicImage::ImageLuma16)
        }
    };
    picture.ok_or_else(|| bad("its size differs from its header"))
}

/// PNG or JPEG, by the first bytes.
fn file_format(bytes: &[u8]) -> Option<FileFormat> {
    image::guess_format(bytes)
        .ok()
        .filter(|format| matches!(format, FileFormat::Png | FileFormat::Jpeg))
}

fn from_file(bytes: &[u8], pixels_max: usize) -> Result<DynamicImage, DecodeProblem> {
    let Some(format) = file_format(bytes) else {
        if let Ok(other) = image::guess_format(bytes) {
            return Err(bad(format!("a {other:?} file; PNG and JPEG are allowed")));
        }
        let start: Vec<String> = bytes
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let hint =
            "PNG and JPEG are allowed, and raw grey values that come with width, height and bits";
        return Err(bad(format!(
            "not a supported image file: it starts with {}; {hint}",
            start.join(" ")
        )));
    };
    // The size stands at the start: nothing is unpacked for an image that is too large.
    let (width, height) = dimensions(bytes, format)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > pixels_max as u64 {
        return Err(too_large(width, height, pixels_max));
    }
    if format == FileFormat::Jpeg && !is_whole_jpeg(bytes) {
        return Err(bad("the JPEG file is truncated"));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(pixels * BYTES_PER_PIXEL + BYTES_OVERHEAD);
    reader.limits(limits);
    reader.decode().map_err(|error| match error {
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            let detail =
                format!("it takes more memory than {width} x {height} pixels should: {limit}");
            DecodeProblem::new(RejectReason::ImageTooLarge, detail)
        }
        other => bad(other.to_string()),
    })
}

/// Width and height, without unpacking anything.
fn dimensions(bytes: &[u8], format: FileFormat) -> Result<(u32, u32), DecodeProblem> {
    if format == FileFormat::Png {
        // The first chunk is the header, always (PNG, 5.6). The decoder would unpack what it finds
        // on its way to the pixels.
        let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let size = number(16)
            .zip(number(20))
            .filter(|_| bytes.get(12..16) == Some(b"IHDR"));
        return size.ok_or_else(|| bad("the PNG file has no header"));
    }
    ImageReader::with_format(Cursor::new(bytes), format)
        .into_dimensions()
        .map_err(|error| bad(error.to_string()))
}

/// Whether the end of the image stands behind its last scan; the decoder fills up with grey what is
/// missing.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    matches!((last([0xFF, 0xDA]), last([0xFF, 0xD9])), (Some(scan), Some(end)) if scan < end)
}
