//! Alert destinations beside Kafka: each receives the committed alerts of a stream.
//!
//! Delivery contract: at least once. [`reader::DestinationReader`] reads the stream's alerts topic
//! with `isolation.level = read_committed`, in a consumer group for each destination, and commits
//! its position only after [`Destination::deliver`] has returned `Ok`. It retries what fails; a
//! destination only delivers. The `id` and `sequence` of an alert identify a repeat.
//!
//! A new destination is a file in this module, its errors in [`DestinationError`], a variant of
//! [`DestinationSettings`] with its key, and an arm in [`open`].

pub mod decoder;
mod file;
pub mod reader;

use std::io;
use std::path::PathBuf;

use rdkafka::error::KafkaError;

use self::file::{AlertFile, AlertStdout};
use self::reader::DestinationReader;
use crate::config::settings::{DestinationSettings, Settings};
use crate::events::destination::{DestinationFailed, DestinationRecovered};
use crate::failure::{Failure, FailureClass, PresentFailure};
use crate::schema_registry::SchemaRegistryError;
use crate::source::rights::MissingRight;

/// Delivers alerts to one place outside of Kafka.
pub trait Destination: Send {
    /// Delivers alerts in their order, each the text of one JSON object without a line break.
    /// `Ok` means that none of them can be lost any more. A call that takes longer than the
    /// consumer's `max.poll.interval.ms` costs the reader its place in the group, and a stop waits
    /// for it.
    ///
    /// # Errors
    /// The reader calls again with the same alerts, those included that were delivered.
    fn deliver(&mut self, alerts: &[String]) -> Result<(), DestinationError>;
}

/// Why a destination cannot take alerts.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The file cannot be opened or created.
    #[error(
        "output.file = {path:?} cannot be opened: {source}; create its folder, and allow outlierd to write to it"
    )]
    Open {
        /// `output.file`.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("output.file = {path:?} cannot be written: {source}; free or repair its disk")]
    Write {
        /// `output.file`.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file was removed between its opening and the flush.
    #[error("output.file = {path:?} was removed while alerts were written to it")]
    Removed {
        /// `output.file`.
        path: PathBuf,
    },
    /// The standard output cannot be written.
    #[error("output.file = \"-\": the standard output cannot be written: {0}")]
    Stdout(io::Error),
    /// The schema of an alert in Avro cannot be had.
    #[error("topic {topic}: the schema registry does not give the schema of an alert: {source}")]
    Schema {
        /// `output.alerts`.
        topic: String,
        /// Why.
        source: SchemaRegistryError,
    },
    /// The brokers refuse a right on the topic or the group.
    #[error(transparent)]
    Right(#[from] MissingRight),
    /// The alerts cannot be read from their topic.
    #[error("topic {topic}, group {group}: {source}")]
    Alerts {
        /// `output.alerts`.
        topic: String,
        /// The consumer group of the destination.
        group: String,
        /// librdkafka's error.
        source: KafkaError,
    },
}

impl Failure for DestinationError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Open { source, .. } | Self::Write { source, .. } | Self::Stdout(source) => {
                source.class()
            }
            // The next attempt creates the file.
            Self::Removed { .. } => FailureClass::EXTERNAL.retryable(),
            Self::Schema { source, .. } => source.class(),
            Self::Right(right) => right.class(),
            Self::Alerts { source, .. } => source.class(),
        }
    }
}

/// Opens the destination that the settings describe.
///
/// # Errors
/// Where it cannot take alerts for a reason that is known without one.
fn open(settings: &DestinationSettings) -> Result<Box<dyn Destination>, DestinationError> {
    Ok(match settings {
        DestinationSettings::File(path) => Box::new(AlertFile::open(path)?),
        DestinationSettings::Stdout => Box::new(AlertStdout),
    })
}

/// The readers of all destinations, with the name of their stream, not yet started.
///
/// # Errors
/// The first destination that cannot be opened, with its stream.
pub fn open_all(settings: &Settings) -> Result<Vec<DestinationReader>, (String, DestinationError)> {
    let mut readers = Vec::new();
    for stream in &settings.streams {
        for destination in stream.output.destinations() {
            let opened = open(&destination).map_err(|error| (stream.name.clone(), error))?;
            readers.push(DestinationReader::new(
                settings,
                stream,
                &destination,
                opened,
            ));
        }
    }
    Ok(readers)
}

/// What a destination shows to the status page.
pub struct DestinationStatus {
    /// Name of the stream.
    pub stream: String,
    /// The key of `[streams.NAME.output]` that configures it.
    pub name: &'static str,
    /// Why alerts are not delivered now.
    pub failure: PresentFailure,
}

impl DestinationStatus {
    fn new(stream: &str, name: &'static str) -> Self {
        Self {
            stream: stream.to_owned(),
            name,
            failure: PresentFailure::default(),
        }
    }

    /// Reports a failed attempt; the log has a line only where the reason is another one.
    fn failed(&self, error: &DestinationError) {
        DestinationFailed {
            stream: &self.stream,
            destination: self.name,
            error,
            is_new: self.failure.set(error),
        }
        .emit();
    }

    /// Reports that alerts are delivered again, where they were not.
    fn recovered(&self) {
        if self.failure.clear() {
            DestinationRecovered {
                stream: &self.stream,
                destination: self.name,
            }
            .emit();
        }
    }
}
