//! One stream as it is written; see [`super`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Image, Model, Retrain, Score, Silence, Size, Training, optional};
use crate::config::settings::{Delivery, Format, Rule, Start, ThresholdKind, TimeFormat};

/// One stream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Stream {
    /// Where records come from.
    pub input: Input,
    /// Where results go.
    pub output: Output,
    /// How records are read.
    pub record: Record,
    /// How images are read, cut and scored; only for record.format = "image".
    pub image: Image,
    /// How long what is known of a series is kept, and where.
    pub keep: Keep,
    /// Records to rows of a fixed period.
    pub resample: Resample,
    /// When a sensor is not believed.
    pub gate: Gate,
    /// When a series that sends nothing any more is announced.
    pub silence: Silence,
    /// Records that the model sees at once, 1 to 4096; 1 looks at each record on its own.
    #[schemars(range(min = 1, max = 4096))]
    pub window: usize,
    /// Records between two windows that are scored, 1 to window.
    #[schemars(range(min = 1, max = 4096))]
    pub stride: usize,
    /// The autoencoder.
    pub model: Model,
    /// Its training.
    pub training: Training,
    /// How it is trained again, and when the new model goes live.
    pub retrain: Retrain,
    /// The control chart on the residual.
    pub score: Score,
    /// The adaptive threshold.
    pub threshold: Threshold,
    /// When episodes open and close.
    pub episode: Episode,
    /// Times in which no alerts are published. (`None` stands for one that was at fault.)
    #[schemars(
        with = "Vec<Mute>",
        description = "Times in which no alerts are published."
    )]
    pub mutes: Vec<Option<Mute>>,
}

/// Where the records of a stream come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Input {
    /// Topic; `{stream}` stands for the stream's name.
    #[schemars(example = "plant.pumps")]
    pub topic: String,
    /// Consumer group; `{stream}` stands for the stream's name.
    #[schemars(example = "outlierd-{stream}")]
    pub group: String,
    /// Where a group without committed offsets starts.
    pub start: Start,
    /// How long before its first start a stream begins to read, to learn and not to publish, 0s to 366d.
    #[schemars(example = "2d")]
    pub warm_up: String,
    /// Threads, each with a consumer and a producer of its own, 1 to 64; more than the topic has partitions are idle.
    #[schemars(range(min = 1, max = 64))]
    pub lanes: usize,
    /// Records of a micro-batch at most, 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_records: usize,
    /// Payload of a micro-batch at most, 1 KiB to 256 MiB.
    #[schemars(example = "8 MiB")]
    pub batch_bytes: Size,
    /// How long a micro-batch waits for more records, 1ms to 10s.
    #[schemars(example = "20ms")]
    pub batch_wait: String,
    /// How often states and offsets are committed, 10ms to 5m; an alert is committed at once.
    #[schemars(example = "1s")]
    pub commit_interval: String,
    /// When offsets move relative to their effects.
    pub delivery: Delivery,
}

/// Where results go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Output {
    /// Topic of the alerts; `{stream}` stands for the stream's name.
    #[schemars(example = "outlierd.{stream}.alerts")]
    pub alerts: String,
    /// Topic of the records that could not be scored; `{stream}` stands for the stream's name.
    #[schemars(example = "outlierd.{stream}.dead-letters")]
    pub dead_letters: String,
    /// Compacted topic of the series' states, with exactly-once delivery; `{stream}` stands for the stream's name.
    #[schemars(example = "outlierd.{stream}.state")]
    pub states: String,
    /// Topic of every score; `{stream}` stands for the stream's name, "" publishes none.
    #[schemars(example = "outlierd.{stream}.scores")]
    pub scores: String,
    /// Topic of heat maps, PNG, keyed by the alert's id, of streams of images; `{stream}` stands for the stream's name, "" publishes none.
    #[schemars(example = "outlierd.{stream}.heat-maps")]
    pub heat_maps: String,
}

/// How a record is read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Record {
    /// What a record is: a JSON object of readings, or an image.
    pub format: Format,
    /// Where the series' key is: "kafka" (the Kafka key), "partition", "header:" and the name of a Kafka header, or "field:" and
    /// a path into the record. A list of keys is such a path too, for keys that hold dots.
    #[schemars(example = "field:pump.id")]
    pub key: KeyWords,
    /// Where the event time is: "kafka" (the Kafka timestamp), "header:" and the name of a Kafka header, "field:" and a path into
    /// the record, or a list of keys.
    #[schemars(example = "field:ts")]
    pub time: KeyWords,
    /// How an event time in a field is written.
    pub time_format: TimeFormat,
    /// The readings, in the order of the model's inputs, 1 to 1024. (`None` stands for one that was at fault.)
    #[schemars(
        with = "Vec<Field>",
        description = "The readings, in the order of the model's inputs, 1 to 1024."
    )]
    pub fields: Vec<Option<Field>>,
    /// Longest payload that is read, 16 B to 64 MiB.
    #[schemars(example = "1 MiB")]
    pub max_payload_bytes: Size,
    /// Series of one partition that are known at most, 1 to 10000000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_series: usize,
}

/// How long what is known of a series is kept, and where.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Keep {
    /// Series that one lane holds in memory at most, 1 to 10000000; the ones silent for longest leave it first.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub in_memory: usize,
    /// After how long without a record a series leaves memory, 1s to 366d; it comes back from the state folder.
    #[schemars(example = "1h")]
    pub idle_after: String,
    /// After how long without a record, in event time, a series is forgotten, 1s to 3660d; 0s: never.
    #[schemars(example = "90d")]
    pub expire_after: String,
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
pub enum Field {
    /// Its path, which is its name too.
    Path(String),
    /// Its path, unit and range.
    Table(FieldTable),
}

/// One reading of a record, with all that is known of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldTable {
    /// Its name in alerts; unique in the stream.
    #[schemars(example = "oil-temperature")]
    pub name: String,
    /// The way to it from the top of the record, keys separated by dots or in a list [default: the name].
    #[schemars(example = "sensors.temp.value")]
    pub path: Option<KeyWords>,
    /// Its unit, for people.
    pub unit: Option<String>,
    /// Lowest physically possible reading: below it the sensor is faulty [default: none].
    pub min: Option<f64>,
    /// Highest physically possible reading [default: none].
    pub max: Option<f64>,
    /// What several of its readings in a slot become [default: resample.rule].
    pub resample: Option<Rule>,
}

/// Records to rows of a fixed period.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Resample {
    /// The period, 1ms to 30d; 0s: records are taken as they come.
    #[schemars(example = "10s")]
    pub period: String,
    /// What several readings of a field in a slot become, where the field has no rule of its own.
    pub rule: Rule,
}

/// When a sensor is not believed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Gate {
    /// How far a record may lie behind the newest of its series and still be scored, 0s to 30d.
    #[schemars(example = "10s")]
    pub allowed_lateness: String,
    /// How far an event time may lie ahead of the record's arrival, 0s to 366d.
    #[schemars(example = "1h")]
    pub max_ahead: String,
    /// Late records in a row after which the older time is taken for the new one (a clock that was set back), 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub late_reset: u32,
    /// Equal readings in a row that make a sensor stuck, 2 to 1000000 (1 is taken as 2); 0: off.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub stuck_after: u32,
    /// Part of the normal movement below which a sensor is flat, 0 to below 1; 0: off.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub flat_ratio: f64,
    /// Whether readings that fit only in another unit or scale are faults.
    pub scale_jump: bool,
    /// Whether readings that jump far out of their normal range, for a few records, are faults.
    pub spike: bool,
    /// Times the period of the training records after which records are missing, 1.5 to 1000000; 0: never.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub gap_after: f64,
}

/// The adaptive threshold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Threshold {
    /// Its kind.
    pub kind: ThresholdKind,
    /// How many alerts you will have: a number, "per series per", and an hour, a day, a week or a number of them.
    #[schemars(example = "2 per series per week")]
    pub budget: String,
    /// Time between two records of a series, 1us to 30d; "auto" takes it from the training records.
    #[schemars(example = "1s")]
    pub period: String,
    /// The threshold is this many times the level that its kind finds, above 0, at most 1000.
    #[schemars(range(max = 1000), extend("exclusiveMinimum" = 0))]
    pub margin: f64,
    /// The quantile of `quantile`, and the initial level of `spot` and `dspot`, above 0.5, below 1.
    #[schemars(extend("exclusiveMinimum" = 0.5, "exclusiveMaximum" = 1))]
    pub level: f64,
    /// Records of its own after which a series' alerts are no longer provisional, 1 to 1000000000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_records: u64,
    /// Records that the memory of the threshold spans, 10 to 1000000000.
    #[schemars(range(min = 10, max = 1_000_000_000))]
    pub memory: u64,
    /// Outliers in a row after which the level is taken for the new normal, up to 1000000000; 0: never.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub level_shift_after: u64,
}

/// When episodes open and close.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Episode {
    /// Outliers among how many records open an episode: "N of M", 1 <= N <= M <= 64.
    #[schemars(example = "3 of 5")]
    pub open: String,
    /// Part of the threshold below which a record counts towards closing, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub close_ratio: f64,
    /// Such records in a row that close an episode, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub close_after: u32,
    /// After a close, how long (event time) outliers open no new episode, 0s to 366d.
    #[schemars(example = "10m")]
    pub cool_down: String,
    /// How often (event time) an open episode is published again, 0s to 366d; 0s: never.
    #[schemars(example = "5m")]
    pub update_every: String,
    /// Times the threshold from which an episode is critical, 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub critical_ratio: f64,
    /// Part of the threshold from which a record is suspect, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub suspect_ratio: f64,
    /// Fields named in an alert at most, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub top_fields: usize,
}

/// A time in which alerts are not published.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mute {
    /// Which series: a name, or a pattern in which `*` stands for any text.
    #[schemars(example = "pump-1*")]
    pub series: String,
    /// From this event time on, RFC 3339.
    #[schemars(example = "2026-03-09T06:00:00Z")]
    pub from: String,
    /// Until before this event time, RFC 3339.
    #[schemars(example = "2026-03-09T14:00:00+01:00")]
    pub until: String,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
}
