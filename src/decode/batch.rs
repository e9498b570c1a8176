//! The decoder of a stream, whichever its format is. A new encoding is a
//! file in `encoding/`, an arm in its `Encoding`, and a variant of [`Format`].

use std::time::Duration;

use super::image::ImageDecoder;
use super::records::Decoder;
use super::schemas::StreamSchemas;
use crate::failure::{Failure, FailureClass};
use crate::record::format::{Format, ImageFormat, RecordFormat};
use crate::record::{Batch, Message};

/// Why a stream has no decoder.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// A stream of images without the settings that say how to read them. A validated configuration
    /// has them.
    #[error("the format of the records is \"image\", but there are no settings for images")]
    NoImageSettings,
    /// The file of the schema cannot be used any more.
    #[error("record.schema.file: {0}")]
    Schema(String),
}

impl Failure for DecoderError {
    fn class(&self) -> FailureClass {
        match self {
            Self::NoImageSettings => FailureClass::INTERNAL,
            Self::Schema(_) => FailureClass::USER,
        }
    }
}

/// See the module.
pub enum BatchDecoder {
    /// Readings.
    Records(Box<Decoder>),
    /// Images.
    Image(Box<ImageDecoder>),
}

impl BatchDecoder {
    /// The decoder of records of a format, whose schemas may be in a registry.
    ///
    /// # Errors
    /// [`DecoderError`].
    pub fn new(
        record: &RecordFormat,
        image: Option<&ImageFormat>,
        schemas: &StreamSchemas,
    ) -> Result<Self, DecoderError> {
        match record.format {
            Format::Image => {
                let format = image.ok_or(DecoderError::NoImageSettings)?;
                Ok(Self::Image(Box::new(ImageDecoder::new(record, format))))
            }
            _ => {
                let decoder =
                    Decoder::with_schemas(record, schemas).map_err(DecoderError::Schema)?;
                Ok(Self::Records(Box::new(decoder)))
            }
        }
    }

    /// As [`Decoder::needs_registry`].
    pub fn needs_registry(&self) -> bool {
        matches!(self, Self::Records(decoder) if decoder.needs_registry())
    }

    /// As [`Decoder::resolve`].
    pub fn resolve(&mut self, messages: &[Message<'_>]) -> bool {
        match self {
            Self::Records(decoder) => decoder.resolve(messages),
            Self::Image(_) => true,
        }
    }

    /// As [`Decoder::await_schemas`].
    ///
    /// # Errors
    /// As there.
    pub fn await_schemas(
        &mut self,
        messages: &[Message<'_>],
        patience: Duration,
    ) -> Result<(), String> {
        match self {
            Self::Records(decoder) => decoder.await_schemas(messages, patience),
            Self::Image(_) => Ok(()),
        }
    }

    /// Decodes messages from `first` on, and returns with them the first that is left for the next
    /// call: as many are decoded at a time as memory should hold.
    pub fn decode<'a>(&mut self, messages: &[Message<'a>], first: usize) -> (Batch<'a>, usize) {
        match self {
            Self::Records(decoder) => decoder.decode_from(messages, first),
            Self::Image(decoder) => decoder.decode(messages, first),
        }
    }
}
