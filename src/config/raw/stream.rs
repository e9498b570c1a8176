//! One stream as it is written; see [`super`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ByteSize, ImageConfig, ModelConfig, RetrainConfig, ScoreConfig, SilenceConfig, TrainingConfig,
    optional,
};
use crate::config::settings::{
    Delivery, Format, ResampleRule, StartOffset, ThresholdKind, TimeFormat,
};

/// One stream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct StreamConfig {
    /// Input of the stream.
    pub input: InputConfig,
    /// Output topics, and alert destinations beside Kafka.
    pub output: OutputConfig,
    /// Record format.
    pub record: RecordConfig,
    /// How images are read, cut and scored; only for record.format = "image".
    pub image: ImageConfig,
    /// How long the state of a series is kept, and where.
    pub retention: RetentionConfig,
    /// Resampling of records to rows of a fixed period.
    pub resample: ResampleConfig,
    /// Sensor-fault checks.
    pub gate: GateConfig,
    /// Missing-data detection.
    pub silence: SilenceConfig,
    /// Records per model input, 1 to 4096; 1 scores each record alone.
    #[schemars(range(min = 1, max = 4096))]
    pub window: usize,
    /// Records from one scored window to the next, 1 to window.
    #[schemars(range(min = 1, max = 4096))]
    pub stride: usize,
    /// The autoencoder.
    pub model: ModelConfig,
    /// Its training.
    pub training: TrainingConfig,
    /// Retraining and promotion.
    pub retrain: RetrainConfig,
    /// The control chart on the residual.
    pub score: ScoreConfig,
    /// The adaptive threshold.
    pub threshold: ThresholdConfig,
    /// When episodes open and close.
    pub episode: EpisodeConfig,
    /// Mutes: times in which no alerts are published. (`None` replaces an invalid one.)
    #[schemars(
        with = "Vec<MuteConfig>",
        description = "Times in which no alerts are published."
    )]
    pub mutes: Vec<Option<MuteConfig>>,
}

/// Input of a stream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct InputConfig {
    /// Topic; `{stream}` is replaced with the stream's name.
    #[schemars(example = "plant.pumps")]
    pub topic: String,
    /// Consumer group; `{stream}` is replaced with the stream's name.
    #[schemars(example = "outlierd-{stream}")]
    pub group: String,
    /// Start offset of a group without committed offsets.
    pub start: StartOffset,
    /// How long before its first start a stream starts reading, to learn without publishing, 0s to
    /// 366d.
    #[schemars(example = "2d")]
    pub warm_up: String,
    /// Threads, each with its own consumer and producer, 1 to 64; those beyond the number of
    /// partitions are idle.
    #[schemars(range(min = 1, max = 64))]
    pub lanes: usize,
    /// Maximum number of records in a micro-batch, 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_records: usize,
    /// Maximum payload of a micro-batch, 1 KiB to 256 MiB.
    #[schemars(example = "8 MiB")]
    pub batch_bytes: ByteSize,
    /// How long a micro-batch waits for more records, 1ms to 10s.
    #[schemars(example = "20ms")]
    pub batch_wait: String,
    /// Interval between commits of states and offsets, 10ms to 5m; an alert is committed at once.
    #[schemars(example = "1s")]
    pub commit_interval: String,
    /// Delivery guarantee: how offsets are committed relative to results.
    pub delivery: Delivery,
}

/// Output topics, and alert destinations beside Kafka.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct OutputConfig {
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
    #[schemars(example = "outlierd.{stream}.scores")]
    pub scores: String,
    /// Topic of heat maps, PNG, keyed by the alert's id, of streams of images; `{stream}` is
    /// replaced with the stream's name, "" publishes none.
    #[schemars(example = "outlierd.{stream}.heat-maps")]
    pub heat_maps: String,
    /// File that the alerts are appended to as JSON lines; `{stream}` is replaced with the stream's
    /// name, "-" is the standard output, "" writes none.
    #[schemars(example = "/var/log/outlierd/{stream}.jsonl")]
    pub file: String,
}

/// Record format.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct RecordConfig {
    /// Format of a record: a JSON object of readings, or an image.
    pub format: Format,
    /// Source of the series key: "kafka" (the Kafka key), "partition", "header:" and the name of a
    /// Kafka header, or "field:" and a path into the record. A list of keys is such a path too, for
    /// keys that hold dots.
    #[schemars(example = "field:pump.id")]
    pub key: KeyWords,
    /// Source of the event time: "kafka" (the Kafka timestamp), "header:" and the name of a Kafka
    /// header, "field:" and a path into the record, or a list of keys.
    #[schemars(example = "field:ts")]
    pub time: KeyWords,
    /// Format of an event time in a field.
    pub time_format: TimeFormat,
    /// The readings, in the order of the model's inputs, 1 to 1024. (`None` replaces an invalid
    /// one.)
    #[schemars(
        with = "Vec<FieldConfig>",
        description = "The readings, in the order of the model's inputs, 1 to 1024."
    )]
    pub fields: Vec<Option<FieldConfig>>,
    /// Maximum payload, 16 B to 64 MiB.
    #[schemars(example = "1 MiB")]
    pub max_payload_bytes: ByteSize,
    /// Maximum number of series of one partition, in memory or stored, 1 to 10000000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_series: usize,
}

/// How long the state of a series is kept, and where.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct RetentionConfig {
    /// Maximum number of series that one lane holds in memory, 1 to 10000000; the least recently
    /// active ones are evicted first.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_series_in_memory: usize,
    /// Time without a record after which a series is evicted from memory to the state folder, 1s to
    /// 366d.
    #[schemars(example = "1h")]
    pub evict_after: String,
    /// Event time without a record after which the state of a series is deleted, 1s to 3660d; 0s:
    /// never.
    #[schemars(example = "90d")]
    pub forget_after: String,
}

/// A text, or the keys of a path.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum KeyWords {
    /// A text; dots separate the keys of a path.
    Text(String),
    /// The keys of a path, one by one.
    Keys(Vec<String>),
}

/// One reading of a record.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FieldConfig {
    /// Its path, which is its name too.
    Path(String),
    /// Its path, unit and range.
    Table(FieldTableConfig),
}

/// One reading of a record, with its metadata.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldTableConfig {
    /// Its name in alerts; unique in the stream.
    #[schemars(example = "oil-temperature")]
    pub name: String,
    /// Its path from the top of the record, keys separated by dots or in a list [default: the
    /// name].
    #[schemars(example = "sensors.temp.value")]
    pub path: Option<KeyWords>,
    /// Its unit, for display.
    pub unit: Option<String>,
    /// Lowest physically possible reading: below it the sensor is faulty [default: none].
    pub min: Option<f64>,
    /// Highest physically possible reading [default: none].
    pub max: Option<f64>,
    /// How several of its readings in a bucket are combined [default: resample.rule].
    pub resample: Option<ResampleRule>,
}

/// Resampling of records to rows of a fixed period.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ResampleConfig {
    /// The period, 1ms to 30d; 0s: no resampling.
    #[schemars(example = "10s")]
    pub period: String,
    /// How several readings of a field in a bucket are combined, unless the field has its own rule.
    pub rule: ResampleRule,
}

/// Sensor-fault checks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct GateConfig {
    /// How far a record may lie behind the newest of its series and still be scored, 0s to 30d.
    #[schemars(example = "10s")]
    pub allowed_lateness: String,
    /// How far an event time may lie ahead of the record's arrival, 0s to 366d.
    #[schemars(example = "1h")]
    pub max_ahead: String,
    /// Number of consecutive late records after which the source's clock counts as set back, 1 to
    /// 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub late_reset: u32,
    /// Number of consecutive equal readings that make a sensor stuck, 2 to 1000000; 0: off.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub stuck_after: u32,
    /// Fraction of the normal movement below which a sensor is flat, 0 to below 1; 0: off.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub flat_ratio: f64,
    /// Whether readings that fit only in another unit or scale are faults.
    pub scale_jump: bool,
    /// Whether readings that jump far out of their normal range, for a few records, are faults.
    pub spike: bool,
    /// Multiple of the training records' period after which two records have a gap between them,
    /// 1.5 to 1000000; 0: never.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub gap_after: f64,
}

/// The adaptive threshold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ThresholdConfig {
    /// Its kind.
    pub kind: ThresholdKind,
    /// Alert budget: a number, "per series per", and an hour, a day, a week or a number of them.
    #[schemars(example = "2 per series per week")]
    pub budget: String,
    /// Time between two records of a series, 1us to 30d; "auto" takes it from the training records.
    #[schemars(example = "1s")]
    pub period: String,
    /// The threshold of `quantile` is this many times its quantile, above 0, at most 1000.
    #[schemars(range(max = 1000), extend("exclusiveMinimum" = 0))]
    pub margin: f64,
    /// The quantile of `quantile`, and the initial level of `spot` and `dspot`, above 0.5, below 1.
    #[schemars(extend("exclusiveMinimum" = 0.5, "exclusiveMaximum" = 1))]
    pub level: f64,
    /// Number of a series' own records after which its alerts are no longer provisional, 1 to
    /// 1000000000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_records: u64,
    /// Memory of the threshold in records, 10 to 1000000000.
    #[schemars(range(min = 10, max = 1_000_000_000))]
    pub memory: u64,
    /// Number of consecutive outliers after which the level becomes the new normal, up to
    /// 1000000000; 0: never.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub level_shift_after: u64,
}

/// When episodes open and close.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct EpisodeConfig {
    /// Outliers among how many records open an episode: "N of M", 1 <= N <= M <= 64.
    #[schemars(example = "3 of 5")]
    pub open: String,
    /// Fraction of the threshold below which a record counts towards closing, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub close_ratio: f64,
    /// Number of such consecutive records that close an episode, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub close_after: u32,
    /// Cool-down: event time after a close in which outliers open no new episode, 0s to 366d.
    #[schemars(example = "10m")]
    pub cool_down: String,
    /// Interval of updates for an open episode, 0s to 366d of event time; 0s: none.
    #[schemars(example = "5m")]
    pub update_every: String,
    /// Multiple of the threshold from which an episode is critical, 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub critical_ratio: f64,
    /// Fraction of the threshold from which a record is suspect, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub suspect_ratio: f64,
    /// Maximum number of fields in an alert, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub top_fields: usize,
}

/// A time in which alerts are not published.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MuteConfig {
    /// Which series: a name, or a pattern in which `*` matches any text.
    #[schemars(example = "pump-1*")]
    pub series: String,
    /// From this event time on, RFC 3339.
    #[schemars(example = "2026-03-09T06:00:00Z")]
    pub from: String,
    /// Until this event time (exclusive), RFC 3339.
    #[schemars(example = "2026-03-09T14:00:00+01:00")]
    pub until: String,
    /// Reason, for operators.
    #[serde(default)]
    pub reason: String,
}
