//! The decode step of a stream, whichever its format is.

use crate::config::settings::StreamSettings;
use crate::decode::image::ImageDecoder;
use crate::decode::json::Decoder;
use crate::record::{Batch, Message};

/// See the module.
pub(super) enum BatchReader {
    Readings(Decoder),
    Images(ImageDecoder),
}

impl BatchReader {
    pub(super) fn new(stream: &StreamSettings) -> Self {
        match &stream.image {
            Some(format) => Self::Images(ImageDecoder::new(&stream.record, format)),
            None => Self::Readings(Decoder::new(&stream.record)),
        }
    }

    /// Decodes messages from `first` on, and tells which is the first that was not looked at.
    pub(super) fn decode<'a>(
        &mut self,
        messages: &[Message<'a>],
        first: usize,
    ) -> (Batch<'a>, usize) {
        match self {
            Self::Readings(decoder) => (decoder.decode(messages), messages.len()),
            Self::Images(decoder) => decoder.decode(messages, first),
        }
    }
}
