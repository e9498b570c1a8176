//! The decoder of a stream, whichever its format is. A new format is a file beside this one, an arm
//! in [`BatchDecoder::new`], and a variant of [`Format`].

use super::image::ImageDecoder;
use super::json::Decoder;
use crate::config::settings::{Format, StreamSettings};
use crate::record::{Batch, Message};

/// A stream of images without the settings that say how to read them. A validated configuration has
/// them.
#[derive(Debug, thiserror::Error)]
#[error("stream {stream} has the format \"image\", but no settings for images")]
pub struct NoImageSettings {
    stream: String,
}

/// See the module.
pub enum BatchDecoder {
    /// JSON objects of readings.
    Json(Decoder),
    /// Images.
    Image(ImageDecoder),
}

impl BatchDecoder {
    /// The decoder that a stream is configured with.
    ///
    /// # Errors
    /// [`NoImageSettings`].
    pub fn new(stream: &StreamSettings) -> Result<Self, NoImageSettings> {
        match stream.record.format {
            Format::Json => Ok(Self::Json(Decoder::new(&stream.record))),
            Format::Image => match &stream.image {
                Some(format) => Ok(Self::Image(ImageDecoder::new(&stream.record, format))),
                None => Err(NoImageSettings {
                    stream: stream.name.clone(),
                }),
            },
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
