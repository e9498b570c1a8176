//! The schema of messages in Avro or Protobuf.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::options::{none_if_empty, optional};

/// The schema of messages in Avro or Protobuf that come without the frame of a schema registry.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct SchemaFormat {
    /// File of the schema: `.avsc`, or `.proto`, whose imports are looked for in its folder. "": each
    /// message names its schema in the registry.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = &"/etc/outlierd/reading.avsc")]
    pub file: Option<PathBuf>,
    /// With Protobuf, the full name of the message in the file; "": the first one.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = &"plant.Reading")]
    pub message: Option<String>,
}
