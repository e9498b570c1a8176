//! The validated configuration: what the rest of the program reads. Units are in the types.
//!
//! [`super::raw`] is the same as it is written in a file; [`super::load`] turns one into the other
//! and reports every problem at once. A value of these types is known to be within its range.

mod destination;
mod image;
mod model;
mod share;
mod silence;
mod verdict;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::destination::DestinationSettings;
pub use self::image::{Channels, ErrorMeasure, ImageFormat, ImagePayload, ImageSource};
pub use self::model::{
    INPUTS_MAX, ModelKind, ModelSettings, ResidualScope, RetrainSettings, ScoreSettings,
    ScriptSettings, TimeFeature, TrainingSettings, WeightInit,
};
pub use self::share::ShareSettings;
pub use self::silence::SilenceSettings;
pub use self::verdict::{
    AlertBudget, EpisodeSettings, MuteSettings, ThresholdKind, ThresholdSettings,
};

/// The whole configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// The process.
    pub service: ServiceSettings,
    /// The brokers.
    pub kafka: KafkaSettings,
    /// What all machines share.
    pub share: ShareSettings,
    /// The streams, by name.
    pub streams: Vec<StreamSettings>,
}

/// Settings of the process.
#[derive(Clone, PartialEq, Debug)]
pub struct ServiceSettings {
    /// Folder of the sled database.
    pub state_dir: PathBuf,
    /// Folder of the bundles: `<model_dir>/<stream>/<bundle id>/`.
    pub model_dir: PathBuf,
    /// Shutdown grace period; work still unfinished after it is abandoned and logged.
    pub drain_timeout: Duration,
    /// Where health and metrics are served; `None` serves nothing.
    pub http_listen: Option<SocketAddr>,
    /// Filter of the log lines, in tracing-subscriber's directive syntax.
    pub log_filter: String,
    /// Log format.
    pub log_format: LogFormat,
}

/// Log format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Connection to the brokers.
#[derive(Clone, PartialEq, Debug)]
pub struct KafkaSettings {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// librdkafka properties of all clients (TLS, SASL, ...).
    pub properties: BTreeMap<String, String>,
    /// librdkafka properties of consumers only.
    pub consumer: BTreeMap<String, String>,
    /// librdkafka properties of producers only.
    pub producer: BTreeMap<String, String>,
    /// Whether outlierd creates missing output topics.
    pub create_topics: bool,
    /// Replication factor of created topics; -1 is the broker's default.
    pub replication_factor: i32,
}

/// One stream.
#[derive(Clone, PartialEq, Debug)]
pub struct StreamSettings {
    /// Its name: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Input of the stream.
    pub input: InputSettings,
    /// Output topics, and alert destinations beside Kafka.
    pub output: OutputSettings,
    /// Record format.
    pub record: RecordFormat,
    /// How images are read and scored; `None` where records are readings.
    pub image: Option<ImageFormat>,
    /// How long the state of a series is kept, and where.
    pub retention: RetentionSettings,
    /// Resampling of records to rows of a fixed period.
    pub resample: ResampleSettings,
    /// Sensor faults.
    pub gate: GateSettings,
    /// Series that fall silent.
    pub silence: SilenceSettings,
    /// Records in a window (1 for row models).
    pub window: usize,
    /// Records between two windows that are scored, 1 to `window`.
    pub stride: usize,
    /// The autoencoder.
    pub model: ModelSettings,
    /// Its training.
    pub training: TrainingSettings,
    /// How it is trained again.
    pub retrain: RetrainSettings,
    /// The control chart on the residual.
    pub score: ScoreSettings,
    /// The adaptive threshold.
    pub threshold: ThresholdSettings,
    /// Episodes.
    pub episode: EpisodeSettings,
    /// Maintenance mutes.
    pub mutes: Vec<MuteSettings>,
}

impl StreamSettings {
    /// The same stream with another kind of model, and a code that is narrower than the inputs:
    /// that of a torchscript model is its own, whatever the configuration has.
    pub fn with_kind(&self, kind: ModelKind) -> Self {
        let mut other = self.clone();
        if kind != self.model.kind {
            other.model.kind = kind;
            other.model.script = None;
            if other.image.is_none() {
                other.model.latent = other
                    .model
                    .latent
                    .min(other.window * other.record.fields.len() - 1);
            }
        }
        other
    }
}

/// Input of a stream.
#[derive(Clone, PartialEq, Debug)]
pub struct InputSettings {
    /// Topic.
    pub topic: String,
    /// Consumer group.
    pub group: String,
    /// Start offset of a group without committed offsets.
    pub start: StartOffset,
    /// How long before its first start a stream begins to read; until then nothing is published.
    pub warm_up: Duration,
    /// Threads, each with its own consumer and producer.
    pub lanes: usize,
    /// Records in a micro-batch at most.
    pub batch_records: usize,
    /// Bytes of payload in a micro-batch at most.
    pub batch_bytes: usize,
    /// How long a micro-batch waits for more records.
    pub batch_wait: Duration,
    /// How often states and offsets are committed; an alert is committed at once.
    pub commit_interval: Duration,
    /// When offsets move.
    pub delivery: Delivery,
}

/// Start offset of a consumer group without committed offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartOffset {
    /// At the oldest record.
    Earliest,
    /// After the newest record.
    Latest,
}

/// Delivery guarantee: how offsets are committed relative to results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Offsets and results are one Kafka transaction: a crash duplicates and loses nothing.
    ExactlyOnce,
    /// Offsets are committed after the results: a crash may repeat an alert, with the same id, and
    /// loses none.
    AtLeastOnce,
}

/// Output topics, and alert destinations beside Kafka.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputSettings {
    /// Topic of the alerts.
    pub alerts: String,
    /// Compacted topic of the series' states, with exactly-once delivery.
    pub states: String,
    /// Topic of the records that could not be scored.
    pub dead_letters: String,
    /// Topic of every score; `None` publishes none.
    pub scores: Option<String>,
    /// Topic of heat maps; `None` publishes none.
    pub heat_maps: Option<String>,
    /// Where the alerts go beside their topic.
    pub destinations: Vec<DestinationSettings>,
}

/// Record formats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object of readings.
    Json,
    /// An image.
    Image,
}

impl Format {
    /// Whether records are images; else they are readings.
    pub fn is_image(self) -> bool {
        self == Self::Image
    }
}

/// Record format.
#[derive(Clone, PartialEq, Debug)]
pub struct RecordFormat {
    /// How its bytes are read.
    pub format: Format,
    /// Where the series' key is.
    pub key: KeyFrom,
    /// Where the event time is.
    pub time: TimeFrom,
    /// The fields, in the order of the model's inputs; never empty, at most 1024. Of an image there
    /// is one, its brightness.
    pub fields: Vec<FieldSettings>,
    /// Longest payload that is read, in bytes.
    pub max_payload_bytes: usize,
    /// Series of one partition that are known at most.
    pub max_series: usize,
}

/// How long the state of a series is kept, and where.
#[derive(Clone, PartialEq, Debug)]
pub struct RetentionSettings {
    /// Series that one lane holds in memory at most, between two commits.
    pub max_series_in_memory: usize,
    /// Time without a record after which a series is evicted from memory to the store.
    pub evict_after: Duration,
    /// Without a record for this long (event time) a series is forgotten; zero: never.
    pub forget_after: Duration,
}

/// Where the series' key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyFrom {
    /// The Kafka key (UTF-8); a record without one is rejected.
    Kafka,
    /// A field of the record: a string or an integer.
    Field(Vec<String>),
    /// A header of the message (UTF-8).
    Header(String),
    /// One series for each partition, named by its number: for topics without keys.
    Partition,
}

/// Where the event time is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TimeFrom {
    /// The Kafka timestamp.
    Kafka,
    /// A field of the record.
    Field(Vec<String>, TimeFormat),
    /// A header of the message, as text.
    Header(String, TimeFormat),
}

/// Formats of an event time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// By its form: text is RFC 3339 (a space for the `T` and a missing offset, read as UTC, are
    /// accepted); a number is an epoch whose magnitude determines the unit.
    Auto,
    /// RFC 3339 text.
    Rfc3339,
    /// Seconds since the epoch, with or without a fraction.
    EpochS,
    /// Milliseconds since the epoch.
    EpochMs,
    /// Microseconds since the epoch.
    EpochUs,
    /// Nanoseconds since the epoch.
    EpochNs,
}

/// One sensor reading of a record.
#[derive(Clone, PartialEq, Debug)]
pub struct FieldSettings {
    /// Its name in alerts, bundles and CSV headers; unique in the stream.
    pub name: String,
    /// The keys that lead to it from the top of the record; never empty.
    pub path: Vec<String>,
    /// Its unit, for display.
    pub unit: Option<String>,
    /// Lowest physically possible reading (-inf: none declared).
    pub min: f64,
    /// Highest physically possible reading (+inf: none declared).
    pub max: f64,
    /// How several readings in a bucket are combined; `None` is the stream's rule.
    pub resample: Option<ResampleRule>,
}

/// Resampling of records to rows of a fixed period.
#[derive(Clone, PartialEq, Debug)]
pub struct ResampleSettings {
    /// The period; zero: no resampling.
    pub period: Duration,
    /// How several readings of a field in a bucket are combined, unless the field has its own rule.
    pub rule: ResampleRule,
}

/// How several readings in a bucket are combined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResampleRule {
    /// Their mean.
    Mean,
    /// The last one.
    Last,
    /// The largest one.
    Max,
    /// The smallest one.
    Min,
}

/// Sensor-fault checks.
#[derive(Clone, PartialEq, Debug)]
pub struct GateSettings {
    /// How far a record may lie behind the newest of its series and still be scored.
    pub allowed_lateness: Duration,
    /// How far an event time may lie ahead of the record's arrival.
    pub max_ahead: Duration,
    /// Number of consecutive late records after which the source's clock counts as set back.
    pub late_reset: u32,
    /// Equal readings in a row that make a sensor stuck, at least; the bundle's longest normal run
    /// can only raise it. 0: off.
    pub stuck_after: u32,
    /// Part of the normal movement below which a sensor is flat (0: off).
    pub flat_ratio: f64,
    /// Whether readings that fit only in another unit or scale are faults.
    pub scale_jump: bool,
    /// Whether readings that jump far out of their normal range, for a few records, are faults.
    pub spike: bool,
    /// Times the period of the training records after which records are missing between two (0:
    /// never).
    pub gap_after: f64,
}
