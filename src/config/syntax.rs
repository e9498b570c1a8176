//! The keywords that extend the JSON Schema, see [`crate::options`]; and the names of streams and
//! topics.

use jsonschema::{Keyword, ValidationError, ValidationOptions};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::settings::{address, folder, log_filter};
use crate::decode::transform;
use crate::episode::{NOfM, series, time};
use crate::options::{check_duration, check_size, dotted_path, name, time_zone};
use crate::record::format::{KeyFrom, TimeFormat, TimeFrom, delimiter, path, path_or_whole};
use crate::signature::PublicKey;
use crate::source::brokers;
use crate::threshold::AlertBudget;

/// Longest name that Kafka gives a topic, in characters.
const TOPIC_CHARS_MAX: usize = 249;
/// Longest name of a stream, in characters: leaves room for what is put around it in the names of
/// topics.
const STREAM_CHARS_MAX: usize = 100;

type Read = fn(&Value) -> Result<(), String>;

/// The texts with a syntax of their own, by the value of `x-syntax`. Each is read by what serde
/// reads the option with.
const SYNTAXES: [(&str, Read); 19] = [
    ("address", |value| read(address(value))),
    ("alert-budget", read_as::<AlertBudget>),
    ("brokers", |value| read(brokers(value))),
    ("delimiter", |value| read(delimiter(value))),
    ("field", field),
    ("filter", |value| match value.as_str() {
        Some("") | None => Ok(()),
        Some(text) => transform::check(text).map_err(|wrong| format!("is no jq filter: {wrong}")),
    }),
    ("folder", |value| read(folder(value))),
    ("log-filter", |value| read(log_filter(value))),
    ("n-of-m", read_as::<NOfM>),
    ("name", |value| {
        name(value.as_str().unwrap_or_default()).map(drop)
    }),
    ("path", |value| read(path(value))),
    ("path-or-whole", |value| read(path_or_whole(value))),
    ("public-key", read_as::<PublicKey>),
    ("record-key", read_as::<KeyFrom>),
    ("record-time", read_as::<TimeFrom>),
    ("series-pattern", |value| read(series(value))),
    ("time", |value| read(time(value))),
    ("time-format", read_as::<TimeFormat>),
    ("time-zone", |value| read(time_zone(value))),
];

/// A field's name is its path, unless it has one.
fn field(value: &Value) -> Result<(), String> {
    let text = match value.get("name") {
        Some(_) if value.get("path").is_some() => return Ok(()),
        found => found.unwrap_or(value).as_str(),
    };
    match text {
        Some(text) if name(text).is_ok() => match dotted_path(text) {
            Err(fault) if value.is_object() => Err(format!("its name, which is its path, {fault}")),
            read => read.map(drop),
        },
        Some(text) if !value.is_object() => name(text).map(drop),
        _ => Ok(()),
    }
}

fn read<T>(read: Result<T, serde_json::Error>) -> Result<(), String> {
    read.map(drop).map_err(|error| error.to_string())
}

fn read_as<T: DeserializeOwned>(value: &Value) -> Result<(), String> {
    read(T::deserialize(value))
}

/// Adds the keywords to a validator.
pub fn with_keywords(options: ValidationOptions<'_>) -> ValidationOptions<'_> {
    options
        .with_keyword("x-duration", |_, keyword, _| {
            let keyword = keyword.clone();
            Ok(check(move |value| check_duration(&keyword, value)))
        })
        .with_keyword("x-size", |_, keyword, _| {
            let keyword = keyword.clone();
            Ok(check(move |value| check_size(&keyword, value)))
        })
        .with_keyword("x-syntax", |_, keyword, _| {
            let name = keyword.as_str().unwrap_or_default();
            match SYNTAXES.iter().find(|(known, _)| *known == name) {
                Some((_, read)) => Ok(check(*read)),
                None => Err(ValidationError::schema(format!(
                    "no syntax is named {name:?}"
                ))),
            }
        })
}

/// A keyword that is a function.
struct Check<F>(F);

fn check<F>(check: F) -> Box<dyn for<'i> Keyword<'i>>
where
    F: Fn(&Value) -> Result<(), String> + Send + Sync + 'static,
{
    Box::new(Check(check))
}

impl<'i, F> Keyword<'i> for Check<F>
where
    F: Fn(&Value) -> Result<(), String> + Send + Sync,
{
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        (self.0)(instance).map_err(ValidationError::custom)
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        (self.0)(instance).is_ok()
    }
}

/// The name of a Kafka topic.
pub fn topic(name: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_length_good = (1..=TOPIC_CHARS_MAX).contains(&name.len());
    match is_length_good && name.chars().all(is_good) && name != "." && name != ".." {
        true => Ok(()),
        false => Err(format!(
            "must be the name of a Kafka topic: 1 to {TOPIC_CHARS_MAX} letters, digits, \".\", \"_\" or \"-\""
        )),
    }
}

/// The name of a stream: a part of the names of topics, folders and metrics.
pub fn stream_name(name: &str) -> Result<(), String> {
    let is_good = topic(name).is_ok()
        && name.len() <= STREAM_CHARS_MAX
        && name.starts_with(|c: char| c.is_alphanumeric());
    match is_good {
        true => Ok(()),
        false => Err(format!(
            "cannot be the name of a stream; allowed are 1 to {STREAM_CHARS_MAX} letters, digits, \".\", \"_\" or \"-\", \
             the first a letter or digit"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stream_name_leaves_room_for_a_topic_name() {
        let longest = "a".repeat(STREAM_CHARS_MAX);
        assert!(stream_name(&longest).is_ok());
        assert!(topic(&format!("outlierd.{longest}.dead-letters")).is_ok());
        for bad in ["", ".", "-a", "a/b", "pümpe", "a b", &format!("{longest}a")] {
            assert!(stream_name(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in ".{0,40}") {
            let _ = (topic(&text), stream_name(&text));
            for value in [json!(text), json!([text]), json!({ "name": text })] {
                for (_, read) in SYNTAXES {
                    let _ = read(&value);
                }
                let span = json!({ "minimum": "0s", "maximum": "366d", "zero": "off", "or": "auto" });
                let _ = check_duration(&span, &value);
                let _ = check_size(&json!({ "minimum": "0 B", "maximum": "1 GiB" }), &value);
            }
        }
    }
}
