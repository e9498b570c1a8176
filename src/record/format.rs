//! The format of a stream's records: where key, time and fields are.

mod image_format;
mod layout;
mod schema;
mod states;
mod time_format;

use std::time::Duration;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::image_format::{Channels, ErrorMeasure, ImageFormat, ImagePayload};
pub use self::layout::{Layout, TagFormat, delimiter, path, path_or_whole};
pub use self::schema::SchemaFormat;
pub use self::states::{STATES_MAX, StateValue, States};
pub use self::time_format::TimeFormat;
use crate::options::{self, ByteSizeText, optional};

/// The formats of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object of readings.
    Json,
    /// A map of readings in MessagePack.
    Msgpack,
    /// Lines of CSV.
    Csv,
    /// Lines of InfluxDB's line protocol.
    Influx,
    /// A record in Avro.
    Avro,
    /// A message in Protobuf.
    Protobuf,
    /// An image.
    Image,
}

impl RecordFormat {
    /// JSON objects of some fields, with key and time from Kafka, and everything else as built in.
    pub fn json(fields: Vec<FieldSettings>) -> Self {
        let path = |key: &str| vec![key.to_owned()];
        Self {
            format: Format::Json,
            layout: Layout::Row,
            rows: Vec::new(),
            tags: TagFormat {
                path: Vec::new(),
                name: path("name"),
                value: path("value"),
                quality: Vec::new(),
            },
            columns: Vec::new(),
            delimiter: b',',
            schema: SchemaFormat::default(),
            transform: String::new(),
            key: KeyFrom::Kafka,
            time: TimeFrom::Kafka,
            time_format: TimeFormat::Auto,
            time_zone: TimeZone::UTC,
            decimal_comma: false,
            fields,
            hold: Duration::ZERO,
            max_payload_bytes: 1 << 20,
            max_series: 10_000,
        }
    }
}

impl RecordFormat {
    /// The states of each field; `None` for those that have readings.
    pub fn states(&self) -> Vec<Option<States>> {
        let fields = self.fields.iter();
        fields.map(|field| field.states.clone()).collect()
    }

    /// Whether each message is at most one record.
    pub fn has_single_records(&self) -> bool {
        let is_value = !matches!(self.format, Format::Csv | Format::Influx);
        let is_one = matches!(self.layout, Layout::Row | Layout::Tags);
        is_value && is_one && self.transform.is_empty()
    }
}

impl Format {
    /// Whether records are images; else they are readings.
    pub fn is_image(self) -> bool {
        self == Self::Image
    }

    /// Whether messages are read by a schema.
    pub fn has_schema(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf)
    }
}

/// Record format.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct RecordFormat {
    /// Format of a message: "json", "msgpack", "csv" (lines), "influx" (line protocol), "avro",
    /// "protobuf", or "image".
    pub format: Format,
    /// Layout of a message: "row" (one record), "rows" (an array of records), "tags" (the tags of one
    /// record, as name and value), or "tag" (one tag; resample.period joins them).
    pub layout: Layout,
    /// With the layout "rows", the path of the array; "": the whole value.
    #[serde(deserialize_with = "path_or_whole")]
    #[schemars(with = "String", example = &"data", extend("x-syntax" = "path-or-whole"))]
    pub rows: Vec<String>,
    /// How tags are written, with the layouts "tags" and "tag".
    pub tags: TagFormat,
    /// With the format "csv", the names of the columns, in their order.
    #[serde(deserialize_with = "options::without_nulls")]
    pub columns: Vec<String>,
    /// With the format "csv", the character between two cells, or "tab".
    #[serde(deserialize_with = "delimiter")]
    #[schemars(with = "String", example = ";", extend("x-syntax" = "delimiter"))]
    pub delimiter: u8,
    /// The schema of messages in Avro or Protobuf, where it is not in a registry.
    pub schema: SchemaFormat,
    /// A filter in the jq language that makes none, one or many values of a message's value, before its
    /// layout; "": none.
    #[schemars(extend("x-syntax" = "filter"), example = "select(.op != \"d\") | .after")]
    pub transform: String,
    /// Source of the series key: "kafka" (the Kafka key), "partition", "header:" and the name of a
    /// Kafka header, or "field:" and a path into the record. A list of keys is such a path too, for
    /// keys that hold dots.
    #[schemars(with = "KeyWords", example = "field:pump.id", extend("x-syntax" = "record-key"))]
    pub key: KeyFrom,
    /// Source of the event time: "kafka" (the Kafka timestamp), "header:" and the name of a Kafka
    /// header, "field:" and a path into the record, or a list of keys.
    #[schemars(with = "KeyWords", example = "field:ts", extend("x-syntax" = "record-time"))]
    pub time: TimeFrom,
    /// Format of an event time in a field or a header: "auto", "rfc3339", "epoch_s", "epoch_ms",
    /// "epoch_us", "epoch_ns", "spreadsheet_days" (since 1899-12-30), or a pattern of strftime.
    #[schemars(with = "String", example = "%d.%m.%Y %H:%M:%S", extend("x-syntax" = "time-format"))]
    pub time_format: TimeFormat,
    /// Time zone of event times without an offset, by its IANA name. An hour that comes twice at the
    /// end of summer time is resolved by the order of the records.
    #[serde(deserialize_with = "options::time_zone")]
    #[schemars(with = "String", example = "Europe/Berlin", extend("x-syntax" = "time-zone"))]
    pub time_zone: TimeZone,
    /// Whether a comma is the decimal mark of numbers in text, such as "12,5".
    pub decimal_comma: bool,
    /// The readings, in the order of the model's inputs, 1 to 1024.
    #[serde(deserialize_with = "options::without_nulls")]
    pub fields: Vec<FieldSettings>,
    /// How long a field that a message does not have keeps its last reading, 0s to 30d; 0s: not at all.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "5m", extend("x-duration" = {"minimum": "1ms", "maximum": "30d", "zero": "off"}))]
    pub hold: Duration,
    /// Maximum payload, 16 B to 64 MiB.
    #[serde(deserialize_with = "options::size")]
    #[schemars(with = "ByteSizeText", example = "1 MiB", extend("x-size" = {"minimum": "16 B", "maximum": "64 MiB"}))]
    pub max_payload_bytes: usize,
    /// Maximum number of series of one partition, in memory or stored, 1 to 10000000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_series: usize,
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

impl KeyWords {
    /// As a path into the record.
    fn path(self) -> Result<Vec<String>, String> {
        match self {
            Self::Text(text) => options::dotted_path(&text),
            Self::Keys(keys) => options::path(keys),
        }
    }

    /// The path after "field:", or that of a list.
    fn field(&self) -> Option<Result<Vec<String>, String>> {
        match self {
            Self::Keys(keys) => Some(options::path(keys.clone())),
            Self::Text(text) => text
                .strip_prefix("field:")
                .map(|rest| options::dotted_path(rest.trim())),
        }
    }

    /// The name of a Kafka header, after "header:".
    fn header(&self) -> Option<String> {
        let Self::Text(text) = self else {
            return None;
        };
        text.strip_prefix("header:")
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
    }

    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Text(text) if text == word)
    }
}

/// Where the series' key is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "KeyWords")]
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

impl TryFrom<KeyWords> for KeyFrom {
    type Error = String;

    fn try_from(words: KeyWords) -> Result<Self, String> {
        match words.field() {
            _ if words.is("kafka") => Ok(Self::Kafka),
            _ if words.is("partition") => Ok(Self::Partition),
            Some(path) => Ok(Self::Field(path?)),
            None => words.header().map(Self::Header).ok_or_else(|| {
                "must be \"kafka\", \"partition\", \"header:\" and a name, or \"field:\" and a path into the record, such as \"field:pump.id\"".to_owned()
            }),
        }
    }
}

/// Where the event time is; [`RecordFormat::time_format`] says how it is written there.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "KeyWords")]
pub enum TimeFrom {
    /// The Kafka timestamp.
    Kafka,
    /// A field of the record.
    Field(Vec<String>),
    /// A header of the message, as text.
    Header(String),
}

impl TryFrom<KeyWords> for TimeFrom {
    type Error = String;

    fn try_from(words: KeyWords) -> Result<Self, String> {
        match words.field() {
            _ if words.is("kafka") => Ok(Self::Kafka),
            Some(path) => Ok(Self::Field(path?)),
            None => words.header().map(Self::Header).ok_or_else(|| {
                "must be \"kafka\", \"header:\" and a name, or \"field:\" and a path into the record, such as \"field:ts\"".to_owned()
            }),
        }
    }
}

/// One sensor reading of a record.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(try_from = "FieldNotation")]
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
    /// What the model gets of it; `None`: training finds out.
    pub read_as: Option<ReadAs>,
    /// Its states, where it names one and has no readings.
    pub states: Option<States>,
    /// How long its last reading is held; `None`: as long as the stream says.
    pub hold: Option<Duration>,
}

impl FieldSettings {
    /// A field with nothing but a name, which is its path too.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: vec![name.to_owned()],
            unit: None,
            min: f64::NEG_INFINITY,
            max: f64::INFINITY,
            resample: None,
            read_as: None,
            states: None,
            hold: None,
        }
    }
}

impl JsonSchema for FieldSettings {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        FieldNotation::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        FieldNotation::json_schema(generator)
    }
}

/// The two notations of [`FieldSettings`].
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "FieldSettings", description = "One reading of a record.")]
enum FieldNotation {
    /// Its path, which is its name too.
    Path(#[schemars(extend("x-syntax" = "field"))] String),
    /// Its path, unit and range.
    Table(FieldTable),
}

/// One reading of a record, with its metadata.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-syntax" = "field"))]
struct FieldTable {
    /// Its name in alerts; unique in the stream.
    #[schemars(example = "oil-temperature", extend("x-syntax" = "name"))]
    name: String,
    /// Its path from the top of the record, keys separated by dots or in a list [default: the
    /// name].
    #[schemars(example = "sensors.temp.value", extend("x-syntax" = "path"))]
    path: Option<KeyWords>,
    /// Its unit, for display.
    unit: Option<String>,
    /// Lowest physically possible reading: below it the sensor is faulty [default: none].
    min: Option<f64>,
    /// Highest physically possible reading [default: none].
    max: Option<f64>,
    /// How several of its readings in a bucket are combined [default: resample.rule].
    resample: Option<ResampleRule>,
    /// What the model gets of it: "value"; "rate" (what it rises by in a typical period) or "delta"
    /// (what it rises by from record to record), of a counter such as an energy meter or pieces made
    /// [default: the training records decide whether it is a counter].
    #[serde(rename = "as")]
    read_as: Option<ReadAs>,
    /// Its states, such as ["off", "run", "cleaning"] or [false, true], where it has no readings but
    /// names what the machine does: context of the others, that is not scored [default: none].
    #[schemars(length(min = 2, max = 64))]
    values: Option<Vec<StateValue>>,
    /// How long it keeps its last reading where a message does not have it [default: record.hold].
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "Option<String>", example = "5m", extend("x-duration" = {"minimum": "1ms", "maximum": "30d", "zero": "off"}))]
    hold: Option<Duration>,
}

impl TryFrom<FieldNotation> for FieldSettings {
    type Error = String;

    fn try_from(field: FieldNotation) -> Result<Self, String> {
        let table = match field {
            FieldNotation::Path(name) => FieldTable {
                name,
                path: None,
                unit: None,
                min: None,
                max: None,
                resample: None,
                read_as: None,
                values: None,
                hold: None,
            },
            FieldNotation::Table(table) => table,
        };
        let name = options::name(&table.name)?;
        let path = match table.path {
            Some(words) => words.path()?,
            None => options::dotted_path(&name)?,
        };
        let states = table.values.as_deref().map(States::new).transpose()?;
        let has_readings = table.min.is_some() || table.max.is_some() || table.read_as.is_some();
        if states.is_some() && has_readings {
            return Err("a field with `values` has no readings: leave out min, max and as".into());
        }
        // Between two states there is nothing.
        let last = states.as_ref().map(|_| ResampleRule::Last);
        if last.is_some() && !matches!(table.resample, None | Some(ResampleRule::Last)) {
            return Err("a field with `values` is resampled as \"last\" only".into());
        }
        Ok(Self {
            name,
            path,
            unit: table.unit,
            min: table.min.unwrap_or(f64::NEG_INFINITY),
            max: table.max.unwrap_or(f64::INFINITY),
            resample: last.or(table.resample),
            read_as: table.read_as,
            states,
            hold: table.hold,
        })
    }
}

/// What the model gets of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadAs {
    /// Its readings.
    Value,
    /// What it rises by in a typical period between two records.
    Rate,
    /// What it rises by from one record to the next, however far they are apart.
    Delta,
}

impl ReadAs {
    /// Whether it is a counter.
    pub fn is_counter(self) -> bool {
        self != Self::Value
    }
}

/// How several readings in a bucket are combined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_times_are_words_or_paths() {
        let text = |text: &str| KeyWords::Text(text.into());
        let keys = |keys: &[&str]| KeyWords::Keys(keys.iter().map(|&key| key.into()).collect());
        assert_eq!(KeyFrom::try_from(text("partition")), Ok(KeyFrom::Partition));
        assert_eq!(
            KeyFrom::try_from(text("field:pump.id")),
            Ok(KeyFrom::Field(vec!["pump".into(), "id".into()]))
        );
        assert_eq!(
            KeyFrom::try_from(keys(&["pump.id"])),
            Ok(KeyFrom::Field(vec!["pump.id".into()]))
        );
        assert_eq!(TimeFrom::try_from(text("kafka")), Ok(TimeFrom::Kafka));
        for bad in [
            text("partition"),
            text("ts"),
            text("field:"),
            text("field:a..b"),
            keys(&[]),
            keys(&[""]),
        ] {
            assert!(TimeFrom::try_from(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
