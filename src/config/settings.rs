//! The validated configuration: what the rest of the program reads.
//!
//! Each step of a record's path owns the options of its own table, and this module those of the
//! tables above. A value of these types is known to be within its range once [`super::load`] has
//! returned it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::decode::schemas::StreamSchemas;
use crate::episode::{EpisodePolicy, EpisodeSettings, MuteSettings};
use crate::gate::GateSettings;
use crate::inter_arrival::SilenceSettings;
use crate::model::{ModelKind, ModelSettings, TimeFeature, TrainingSettings};
use crate::options::{none_if_empty, optional, without_nulls};
use crate::record::format::{FieldSettings, ImageFormat, ReadAs, RecordFormat};
use crate::resample::ResampleSettings;
use crate::schema_registry::RegistrySettings;
use crate::score::ScoreSettings;
use crate::signature::PublicKey;
use crate::source::{InputSettings, KafkaSettings};
use crate::state::codec::{FORMAT, PREVIOUS};
use crate::threshold::ThresholdSettings;

/// The value of `output.file` that is the standard output.
const STDOUT: &str = "-";

/// The configuration of outlierd.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional, rename = "outlierd")]
pub struct Settings {
    /// The process.
    pub service: ServiceSettings,
    /// Connection to the brokers.
    pub kafka: KafkaSettings,
    /// Schema registry.
    pub registry: RegistrySettings,
    /// Topics that all instances of the same streams share.
    pub share: ShareSettings,
    /// The streams, by name: letters, digits, `-`, `_` and `.`, at most 100, the first a letter or
    /// digit.
    #[serde(deserialize_with = "streams")]
    #[schemars(with = "BTreeMap<String, StreamSettings>")]
    pub streams: Vec<StreamSettings>,
}

/// Gives each stream its name.
fn streams<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<StreamSettings>, D::Error> {
    let streams = BTreeMap::<String, StreamSettings>::deserialize(from)?;
    Ok(streams
        .into_iter()
        .map(|(name, stream)| StreamSettings { name, ..stream })
        .collect())
}

/// The process.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ServiceSettings {
    /// Folder of the states of all series.
    #[serde(deserialize_with = "folder")]
    #[schemars(with = "String", example = "/var/lib/outlierd/state", extend("x-syntax" = "folder"))]
    pub state_dir: PathBuf,
    /// Folder of the models: `<model_dir>/<stream>/<bundle id>/`.
    #[serde(deserialize_with = "folder")]
    #[schemars(with = "String", example = "/var/lib/outlierd/models", extend("x-syntax" = "folder"))]
    pub model_dir: PathBuf,
    /// Format of the stored states. The one before serves an upgrade (docs/upgrading.md).
    #[schemars(range(min = PREVIOUS, max = FORMAT))]
    pub state_format: u8,
    /// Shutdown grace period, 1s to 1h. Work still unfinished after it is abandoned and logged.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "20s", extend("x-duration" = {"minimum": "1s", "maximum": "1h"}))]
    pub drain_timeout: Duration,
    /// Address and port of health and metrics over HTTP; "" disables it.
    #[serde(deserialize_with = "address")]
    #[schemars(with = "String", example = "127.0.0.1:9464", extend("x-syntax" = "address"))]
    pub http_listen: Option<SocketAddr>,
    /// Log level, or directives such as "info,outlierd::lane=debug".
    #[serde(deserialize_with = "log_filter")]
    #[schemars(example = &"info", extend("x-syntax" = "log-filter"))]
    pub log_filter: String,
    /// Log format.
    pub log_format: LogFormat,
}

/// Reads the path of a folder.
///
/// # Errors
/// Where it is empty, or no path.
pub fn folder<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(from)?;
    match text.is_empty() || text.contains('\0') {
        true => Err(de::Error::custom("must be the path of a folder")),
        false => Ok(PathBuf::from(text)),
    }
}

/// Reads the address of the HTTP server.
///
/// # Errors
/// Where it is neither empty nor an address.
pub fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    none_if_empty(from).map_err(|_: D::Error| {
        de::Error::custom(
            "must be an IP address and a port, such as \"127.0.0.1:9464\" or \"[::]:9464\", or \"\" for none",
        )
    })
}

/// Reads the directives of the log.
///
/// # Errors
/// Where tracing-subscriber does not know them.
pub fn log_filter<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    // Their parser panics at some other characters, and no name of a module has any.
    let known = text.is_ascii()
        && tracing_subscriber::EnvFilter::builder()
            .parse(&text)
            .is_ok();
    match known {
        true => Ok(text),
        false => Err(de::Error::custom(
            "must be off, error, warn, info, debug or trace, or directives such as \"info,outlierd::lane=debug\"",
        )),
    }
}

/// Log format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Topics that all instances of the same streams share.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ShareSettings {
    /// Compacted topic of the bundles; "" for none.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String")]
    pub bundles: Option<String>,
    /// Compacted topic of live and pinned bundles, training requests and feedback; "" for none.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String")]
    pub control: Option<String>,
    /// Topic of model events; "" for none.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String")]
    pub events: Option<String>,
    /// File of the private key (ed25519, PEM) that signs bundles and commands; "" signs none.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = "/etc/outlierd/signing-key.pem")]
    pub signing_key: Option<PathBuf>,
    /// Public keys whose bundles and commands are accepted; an empty list accepts all.
    #[serde(deserialize_with = "without_nulls")]
    #[schemars(with = "Vec<PublicKeyText>")]
    pub trusted_keys: Vec<PublicKey>,
}

/// A public key (ed25519), as `openssl pkey -pubout` prints it between its first and last line.
#[derive(JsonSchema)]
#[schemars(extend("x-syntax" = "public-key"), example = "MCowBQYDK2VwAyEA...")]
struct PublicKeyText(#[expect(dead_code, reason = "for the schema")] String);

/// One stream.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct StreamSettings {
    /// Its name, from the key of its table.
    #[serde(skip)]
    pub name: String,
    /// Input of the stream.
    pub input: InputSettings,
    /// Output topics, and alert destinations beside Kafka.
    pub output: OutputSettings,
    /// Record format.
    pub record: RecordFormat,
    /// The schemas of its messages, from the table `registry`.
    #[serde(skip)]
    pub schemas: StreamSchemas,
    /// How images are read, cut and scored; only for record.format = "image".
    #[serde(default)]
    #[schemars(with = "ImageFormat")]
    pub image: Option<ImageFormat>,
    /// How long the state of a series is kept, and where.
    pub retention: RetentionSettings,
    /// Resampling of records to rows of a fixed period.
    pub resample: ResampleSettings,
    /// Sensor-fault checks.
    pub gate: GateSettings,
    /// Missing-data detection.
    pub silence: SilenceSettings,
    /// Records per model input, 1 to 4096; 1 scores each record alone.
    #[schemars(range(min = 1, max = 4096))]
    pub window: usize,
    /// Records from one scored window to the next, 1 to window.
    #[schemars(range(min = 1, max = 4096))]
    pub stride: usize,
    /// The autoencoder.
    pub model: ModelSettings,
    /// Its training.
    pub training: TrainingSettings,
    /// Retraining and promotion.
    pub retrain: RetrainSettings,
    /// The control chart on the residual.
    pub score: ScoreSettings,
    /// The adaptive threshold.
    pub threshold: ThresholdSettings,
    /// When episodes open and close.
    pub episode: EpisodeSettings,
    /// Times in which no alerts are published.
    #[serde(deserialize_with = "without_nulls")]
    pub mutes: Vec<MuteSettings>,
}

impl StreamSettings {
    /// Gives a stream of messages in Avro or Protobuf the registry, and one of images its field: what
    /// the gate sees of an image, its brightness, 0 (black) to 1 (white) on average.
    pub(super) fn complete(&mut self, registry: &RegistrySettings) {
        if self.record.format.has_schema() && self.record.schema.file.is_none() {
            self.schemas = StreamSchemas::of(registry);
        }
        if self.image.is_some() {
            self.record.fields = vec![FieldSettings {
                min: 0.0,
                max: 1.0,
                read_as: Some(ReadAs::Value),
                ..FieldSettings::named("brightness")
            }];
        }
    }

    /// The rules of its episodes.
    pub fn episode_policy(&self) -> EpisodePolicy {
        let topic = &self.input.topic;
        let fields = &self.record.fields;
        EpisodePolicy::new(&self.name, topic, fields, &self.episode, &self.mutes)
    }

    /// Inputs of the model of a stream of readings: the records of a window, with their time
    /// features.
    pub fn model_inputs(&self) -> usize {
        let context = TimeFeature::inputs(&self.model.context);
        self.window
            .saturating_mul(self.record.fields.len() + context)
    }

    /// Makes the code narrower than the inputs of a stream of readings, unless the user has written
    /// the code.
    pub fn fit_built_in_model(&mut self, latent_is_written: bool) {
        if latent_is_written || self.image.is_some() || self.record.fields.is_empty() {
            return;
        }
        let most = self.model_inputs().saturating_sub(1);
        self.model.latent = self.model.latent.min(most);
    }

    /// The same stream with another kind of model, and a code that is narrower than the inputs:
    /// that of a torchscript model is its own, whatever the configuration has.
    pub fn with_kind(&self, kind: ModelKind) -> Self {
        let mut other = self.clone();
        if kind != self.model.kind {
            other.model.kind = kind;
            other.model.script = None;
            other.model.sha256.clear();
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

/// Output topics, and alert destinations beside Kafka.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct OutputSettings {
    /// Format of alerts and scores: "json", or "avro", whose schemas outlierd registers in the schema
    /// registry.
    pub format: OutputFormat,
    /// Topic of the alerts; `{stream}` is replaced with the stream's name.
    #[schemars(example = "outlierd.{stream}.alerts")]
    pub alerts: String,
    /// Topic of the records that could not be scored; `{stream}` is replaced with the stream's
    /// name.
    #[schemars(example = "outlierd.{stream}.dead-letters")]
    pub dead_letters: String,
    /// Compacted topic of the series' states, with exactly-once delivery; `{stream}` is replaced
    /// with the stream's name.
    #[schemars(example = "outlierd.{stream}.state")]
    pub states: String,
    /// Topic of every score; `{stream}` is replaced with the stream's name, "" publishes none.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = "outlierd.{stream}.scores")]
    pub scores: Option<String>,
    /// Topic of heat maps, PNG, keyed by the alert's id, of streams of images; `{stream}` is
    /// replaced with the stream's name, "" publishes none.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = "outlierd.{stream}.heat-maps")]
    pub heat_maps: Option<String>,
    /// File that the alerts are appended to as JSON lines; `{stream}` is replaced with the stream's
    /// name, "-" is the standard output, "" writes none.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = "/var/log/outlierd/{stream}.jsonl")]
    pub file: Option<String>,
}

impl OutputSettings {
    /// The destinations beside Kafka that are switched on.
    pub fn destinations(&self) -> impl Iterator<Item = DestinationSettings> {
        let file = self.file.as_deref().map(|path| match path {
            STDOUT => DestinationSettings::Stdout,
            path => DestinationSettings::File(PathBuf::from(path)),
        });
        file.into_iter()
    }

    /// The topics that the stream writes, by key.
    pub fn topics(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("alerts", Some(&self.alerts)),
            ("dead_letters", Some(&self.dead_letters)),
            ("states", Some(&self.states)),
            ("scores", self.scores.as_ref()),
            ("heat_maps", self.heat_maps.as_ref()),
        ]
        .into_iter()
        .filter_map(|(key, topic)| Some((key, topic?.as_str())))
    }
}

/// Format of alerts and scores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// A JSON object.
    Json,
    /// Avro in the frame of a schema registry: a zero byte, the id of the schema in four bytes, the
    /// record.
    Avro,
}

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

    /// The consumer group that delivers to it, of a stream whose group is `input`: below its name,
    /// so that an ACL for that prefix covers it.
    pub fn group(&self, input: &str) -> String {
        format!("{input}.destination.{}", self.name())
    }
}

/// How long the state of a series is kept, and where.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct RetentionSettings {
    /// Maximum number of series that one lane holds in memory, 1 to 10000000; the least recently
    /// active ones are evicted first.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_series_in_memory: usize,
    /// Time without a record after which a series is evicted from memory to the state folder, 1s to
    /// 366d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "1h", extend("x-duration" = {"minimum": "1s", "maximum": "366d"}))]
    pub evict_after: Duration,
    /// Event time without a record after which the state of a series is deleted, 1s to 3660d; 0s:
    /// never.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "90d", extend("x-duration" = {"minimum": "1s", "maximum": "3660d", "zero": "never"}))]
    pub forget_after: Duration,
}

/// Retraining on normal traffic, and promotion of the new model.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct RetrainSettings {
    /// Event time between two trainings, 1m to 3660d; 0s: no periodic training.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "7d", extend("x-duration" = {"minimum": "1m", "maximum": "3660d", "zero": "never"}))]
    pub every: Duration,
    /// Fraction of `every` by which a training may be delayed, 0 to 1, so that instances and
    /// streams spread out.
    #[schemars(range(min = 0, max = 1))]
    pub jitter: f64,
    /// Whether a training is also due when the scores of normal traffic have drifted from the
    /// calibration.
    pub on_drift: bool,
    /// Initial weights of a challenger.
    pub initial_weights: WeightInit,
    /// Size of the training buffer in records of normal traffic, 256 to 10000000.
    #[schemars(range(min = 256, max = 10_000_000))]
    pub records: usize,
    /// Half-life of a record in the training buffer, in event time, 1m to 3660d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "14d", extend("x-duration" = {"minimum": "1m", "maximum": "3660d"}))]
    pub half_life: Duration,
    /// Event time on both sides of an episode that is excluded from training, 0s to 366d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "10m", extend("x-duration" = {"minimum": "0s", "maximum": "366d"}))]
    pub guard: Duration,
    /// Fraction of the buffer, the newest records, that is held out to test a challenger, 0.05 to
    /// 0.5.
    #[schemars(range(min = 0.05, max = 0.5))]
    pub hold_out: f64,
    /// Time limit of a training, 1s to 30d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "1h", extend("x-duration" = {"minimum": "1s", "maximum": "30d"}))]
    pub time_limit: Duration,
    /// Whether a challenger that passes its tests goes live automatically.
    pub promote: bool,
    /// Event time after a promotion in which too many alerts cause a rollback, 0s to 366d; 0s:
    /// never.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "1d", extend("x-duration" = {"minimum": "0s", "maximum": "366d"}))]
    pub probation: Duration,
    /// Event time between two self-tests, 1m to 3660d; 0s: none.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "1h", extend("x-duration" = {"minimum": "1m", "maximum": "3660d", "zero": "never"}))]
    pub self_test: Duration,
}

/// Initial weights of a challenger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightInit {
    /// Random weights, and a new scaler.
    Fresh,
    /// The weights and the scaler of the live bundle.
    Warm,
}
