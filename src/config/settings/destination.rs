//! The alert destinations beside Kafka.

use std::path::PathBuf;

/// A place that receives the committed alerts of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DestinationSettings {
    /// A file of JSON lines.
    File(PathBuf),
    /// JSON lines on the standard output.
    Stdout,
}

impl DestinationSettings {
    /// Its key in `[defaults.output]`, also its name in metrics and in its consumer group: a
    /// position outlives a change of the value.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File(_) | Self::Stdout => "file",
        }
    }
}
