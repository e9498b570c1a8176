//! The format of a stream's records: where key, time and fields are.

mod time_format;

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::time_format::TimeFormat;
use crate::options::{self, ByteSizeText, OptionFault, optional};

/// The formats of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct RecordFormat {
    /// Format of a record: a JSON object of readings, or an image.
    pub format: Format,
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
    /// Whether it is a counter; `None`: training finds out.
    pub counter: Option<bool>,
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
            counter: None,
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
    /// Whether it only rises, such as an energy meter or pieces made, but for resets to 0: a model
    /// gets what it rises by [default: the training records decide].
    counter: Option<bool>,
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
                counter: None,
            },
            FieldNotation::Table(table) => table,
        };
        let name = options::name(&table.name)?;
        let path = match table.path {
            Some(words) => words.path()?,
            None => options::dotted_path(&name)?,
        };
        Ok(Self {
            name,
            path,
            unit: table.unit,
            min: table.min.unwrap_or(f64::NEG_INFINITY),
            max: table.max.unwrap_or(f64::INFINITY),
            resample: table.resample,
            counter: table.counter,
        })
    }
}

/// A path into a record, as the option of another table.
///
/// # Errors
/// The allowed paths.
pub fn path<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let words = KeyWords::deserialize(from)?;
    words.path().map_err(serde::de::Error::custom)
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

/// How images are read, cut into tiles, and scored; only for record.format = "image".
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ImageFormat {
    /// Payload: the image itself, or a JSON object with it.
    pub payload: ImagePayload,
    /// In a JSON object, the path of the image as base64 text.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", example = &"image", extend("x-syntax" = "path"))]
    pub data: Vec<String>,
    /// In a JSON object, the path of the name of a file below `root`.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", example = &"file", extend("x-syntax" = "path"))]
    pub file: Vec<String>,
    /// Folder below which files may be read; "" for none.
    #[serde(deserialize_with = "options::none_if_empty")]
    #[schemars(with = "String", example = "/var/lib/cameras")]
    pub root: Option<PathBuf>,
    /// Colour mode.
    pub channels: Channels,
    /// Maximum size of a decoded image in pixels, 1 to 268435456.
    #[schemars(range(min = 1, max = 268_435_456))]
    pub max_pixels: usize,
    /// Maximum size of a file, 16 B to 1 GiB.
    #[serde(deserialize_with = "options::size")]
    #[schemars(with = "ByteSizeText", example = "32 MiB", extend("x-size" = {"minimum": "16 B", "maximum": "1 GiB"}))]
    pub max_file_bytes: usize,
    /// Time limit for decoding one image, 10ms to 60s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "2s", extend("x-duration" = {"minimum": "10ms", "maximum": "1m"}))]
    pub decode_timeout: Duration,
    /// Longer side to which larger images are downscaled, 8 to 16384 pixels; 0: full size.
    #[schemars(range(min = 0, max = 16_384))]
    pub reduce_to: usize,
    /// Side of the model's tiles, 8 to 512 pixels.
    #[schemars(range(min = 8, max = 512))]
    pub tile: usize,
    /// Minimum overlap of neighbouring tiles in pixels, 0 to half a tile.
    #[schemars(range(min = 0, max = 256))]
    pub overlap: usize,
    /// Error measure between image and reconstruction at each pixel.
    pub error: ErrorMeasure,
}

impl ImageFormat {
    /// What is wrong with the values.
    pub fn faults(&self) -> impl Iterator<Item = OptionFault> {
        let half = format!("must be at most half of image.tile, which is {}", self.tile);
        let reduced = "must be at least 8 pixels, or 0 for full size";
        [
            OptionFault::when((1..8).contains(&self.reduce_to), "reduce_to", reduced),
            OptionFault::when(2 * self.overlap > self.tile, "overlap", half),
        ]
        .into_iter()
        .flatten()
    }
}

/// Kinds of message payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImagePayload {
    /// The image.
    Image,
    /// A JSON object that holds the image or names its file.
    Json,
}

/// Colour modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// Luminance.
    #[default]
    Grey,
    /// Red, green and blue.
    Rgb,
}

impl Channels {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// Error measure between image and reconstruction at each pixel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorMeasure {
    /// The square of their difference.
    #[default]
    Squared,
    /// Structural dissimilarity: (1 - SSIM) / 2 of their surroundings.
    Ssim,
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
