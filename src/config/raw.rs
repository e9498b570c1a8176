//! The configuration as it is written, with all layers merged: complete, but its values not yet
//! read.
//!
//! The doc comments become the descriptions of `schemas/config.schema.json`. Numbers have their
//! allowed range here, and are checked by the schema; texts with their own syntax (durations,
//! sizes, budgets) are parsed by `super::convert`. Default values are in `config/default.toml`
//! only.

mod image;
mod model;
mod silence;
mod stream;

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

pub use self::image::ImageConfig;
pub use self::model::{ModelConfig, RetrainConfig, ScoreConfig, TrainingConfig};
pub use self::silence::SilenceConfig;
pub use self::stream::{
    EpisodeConfig, FieldConfig, FieldTableConfig, GateConfig, InputConfig, KeyWords, MuteConfig,
    OutputConfig, RecordConfig, ResampleConfig, RetentionConfig, StreamConfig, ThresholdConfig,
};
use super::settings::LogFormat;

/// The configuration of outlierd.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional, rename = "outlierd")]
pub struct Config {
    /// The process.
    pub service: ServiceConfig,
    /// Connection to the brokers.
    pub kafka: KafkaConfig,
    /// Topics that all instances of the same streams share.
    pub share: ShareConfig,
    /// Defaults of all streams: any key of a stream.
    pub defaults: StreamConfig,
    /// Defaults of streams of images that override `defaults`: any key of a stream.
    #[schemars(with = "StreamConfig")]
    pub image_defaults: serde_json::Value,
    /// The streams, by name: letters, digits, `-`, `_` and `.`, at most 100, the first a letter or
    /// digit.
    pub streams: BTreeMap<String, StreamConfig>,
}

/// The process.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ServiceConfig {
    /// Folder of the states of all series.
    #[schemars(example = "/var/lib/outlierd/state")]
    pub state_dir: String,
    /// Folder of the models.
    #[schemars(example = "/var/lib/outlierd/models")]
    pub model_dir: String,
    /// Shutdown grace period, 1s to 1h. Work still unfinished after it is abandoned and logged.
    #[schemars(example = "20s")]
    pub drain_timeout: String,
    /// Address and port of health and metrics over HTTP; "" disables it.
    #[schemars(example = "127.0.0.1:9464")]
    pub http_listen: String,
    /// Log level, or directives such as "info,outlierd::lane=debug".
    #[schemars(example = &"info")]
    pub log_filter: String,
    /// Log format.
    pub log_format: LogFormat,
}

/// Connection to the brokers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct KafkaConfig {
    /// Bootstrap brokers, `host:port`, comma-separated.
    #[schemars(example = "kafka-1:9092,kafka-2:9092")]
    pub brokers: String,
    /// librdkafka properties of all clients (TLS, SASL, ...).
    pub properties: BTreeMap<String, PropertyConfig>,
    /// librdkafka properties of consumers only.
    pub consumer: BTreeMap<String, PropertyConfig>,
    /// librdkafka properties of producers only.
    pub producer: BTreeMap<String, PropertyConfig>,
    /// Whether outlierd creates missing output topics.
    pub create_topics: bool,
    /// Replication factor of created topics, 1 to 15; -1 is the broker's default.
    #[schemars(range(min = -1, max = 15))]
    pub replication_factor: i32,
}

/// Topics that all instances of the same streams share.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ShareConfig {
    /// Compacted topic of the bundles; "" for none.
    pub bundles: String,
    /// Compacted topic of live and pinned bundles, training requests and feedback; "" for none.
    pub control: String,
    /// Topic of model events; "" for none.
    pub events: String,
}

/// The value of a librdkafka property.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PropertyConfig {
    /// As text.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
}

impl std::fmt::Display for PropertyConfig {
    /// The value in librdkafka's notation.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
        }
    }
}

/// A number of bytes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ByteSize {
    /// In bytes.
    Bytes(u64),
    /// With a unit: B, KiB, MiB or GiB.
    Text(String),
}

/// Requires no key in the schema: a file is laid over the built-in layer, which has them all.
fn optional(schema: &mut Schema) {
    schema.remove("required");
}
