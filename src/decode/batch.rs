//! The decoder of a stream, whichever its format is. A new format is a file beside this one, an arm
//! in [`BatchDecoder::new`], and a variant of [`Format`].

use super::image::ImageDecoder;
use super::json::Decoder;
use crate::record::format::{Format, ImageFormat, RecordFormat};
use crate::record::{Batch, Message};

/// See the module.
pub enum BatchDecoder {
    /// JSON objects of readings.
    Json(Decoder),
    /// Images.
    Image(ImageDecoder),
}

impl BatchDecoder {
    /// The decoder that a stream is configured with.
    pub fn new(record: &RecordFormat, image: Option<&ImageFormat>) -> Self {
        match (record.format, image) {
            (Format::Image, Some(format)) => Self::Image(ImageDecoder::new(record, format)),
            (Format::Json | Format::Image, _) => Self::Json(Decoder::new(record)),
        }
    }

    /// Decodes messages from `first` on, and returns with them the first that is left for the next
    /// call: images are decoded as many at a time as memory should hold.
    pub fn decode<'a>(&mut self, messages: &[Message<'a>], first: usize) -> (Batch<'a>, usize) {
        match self {
            Self::Json(decoder) => (decoder.decode(messages), messages.len()),
            Self::Image(decoder) => decoder.decode(messages, first),
        }
    }
}
