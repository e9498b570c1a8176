//! The decoder of a stream, whichever its format is. A new format is a file beside this one, an arm
//! in [`BatchDecoder::new`], and a variant of [`Format`].

use super::image::ImageDecoder;
use super::json::Decoder;
use crate::failure::{Failure, FailureClass};
use crate::record::format::{Format, ImageFormat, RecordFormat};
use crate::record::{Batch, Message};

/// A stream of images without the settings that say how to read them. A validated configuration has
/// them.
#[derive(Debug, thiserror::Error)]
#[error("the format of the records is \"image\", but there are no settings for images")]
pub struct NoImageSettings;

impl Failure for NoImageSettings {
    fn class(&self) -> FailureClass {
        FailureClass::INTERNAL
    }
}

/// See the module.
pub enum BatchDecoder {
    /// JSON objects of readings.
    Json(Decoder),
    /// Images.
    Image(ImageDecoder),
}

impl BatchDecoder {
    /// The decoder of records of a format.
    ///
    /// # Errors
    /// [`NoImageSettings`].
    pub fn new(
        record: &RecordFormat,
        image: Option<&ImageFormat>,
    ) -> Result<Self, NoImageSettings> {
        match record.format {
            Format::Json => Ok(Self::Json(Decoder::new(record))),
            Format::Image => {
                let format = image.ok_or(NoImageSettings)?;
                Ok(Self::Image(ImageDecoder::new(record, format)))
            }
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
