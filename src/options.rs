//! How options are written in a configuration, for the modules that own them.
//!
//! Each option is one field of one type: its doc comment is the description in
//! `schemas/config.schema.json`, its attributes are the allowed values, and serde reads it as
//! written. Three keywords extend the schema for what JSON Schema cannot say; `config` checks them:
//!
//! | keyword | value | the option is |
//! |---|---|---|
//! | `x-duration` | `minimum`, `maximum`, and words: `zero` (what 0s means), `or` | a duration, `20s` |
//! | `x-size` | `minimum`, `maximum` | a number of bytes, `8 MiB` |
//! | `x-syntax` | the name of a syntax in [`crate::config`] | a text with its own syntax |

use std::time::Duration;

use bytesize::ByteSize;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// Longest name of a field, group or key, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// Deepest path into a record, in keys.
const PATH_KEYS_MAX: usize = 16;

/// An option whose value is wrong although its type and range are right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptionFault {
    /// The key below the table that was checked.
    pub key: &'static str,
    /// The fault, in words that follow the key and its value ("must be ...").
    pub fault: String,
    /// What to do next, where it is not just to correct the value.
    pub fix: Option<&'static str>,
}

impl OptionFault {
    /// A fault where `is_broken`.
    pub fn when(is_broken: bool, key: &'static str, fault: impl Into<String>) -> Option<Self> {
        is_broken.then(|| Self {
            key,
            fault: fault.into(),
            fix: None,
        })
    }
}

/// Requires no key in the schema: a file is laid over the built-in layer, which has them all.
pub fn optional(schema: &mut Schema) {
    schema.remove("required");
}

/// What is wrong with a value under the keyword `x-duration`; other types than text are the
/// business of `type`.
///
/// # Errors
/// The allowed values, in words that follow the key and its value.
pub fn check_duration(keyword: &Value, value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else {
        return Ok(());
    };
    let word = |name: &str| {
        keyword
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let bound = |name: &str| humantime::parse_duration(word(name)).unwrap_or_default();
    let or = match word("or") {
        "" => String::new(),
        or if or == text => return Ok(()),
        or => format!(", or \"{or}\""),
    };
    let zero = word("zero");
    let least = if zero.is_empty() {
        word("minimum")
    } else {
        "0s"
    };
    let range = format!("must be a duration from {least} to {}", word("maximum"));
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) if !zero.is_empty() => Ok(()),
        Ok(found) if found > bound("maximum") => Err(range + &or),
        Ok(found) if found >= bound("minimum") => Ok(()),
        Ok(_) if !zero.is_empty() => {
            let least = word("minimum");
            Err(format!("must be at least {least}, or 0s for {zero}{or}"))
        }
        Ok(_) => Err(range + &or),
        Err(_) => Err(format!("{range}, with a unit: us, ms, s, m, h or d{or}")),
    }
}

/// What is wrong with a value under the keyword `x-size`.
///
/// # Errors
/// The allowed values, in words that follow the key and its value.
pub fn check_size(keyword: &Value, value: &Value) -> Result<(), String> {
    let word = |name: &str| {
        keyword
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let bound = |name: &str| word(name).parse::<ByteSize>().unwrap_or_default();
    let range = format!(
        "must be a size from {} to {}",
        word("minimum"),
        word("maximum")
    );
    match (value, ByteSize::deserialize(value)) {
        (Value::String(_) | Value::Number(_), Ok(found)) => {
            match (bound("minimum")..=bound("maximum")).contains(&found) {
                true => Ok(()),
                false => Err(range),
            }
        }
        (Value::String(_), Err(_)) => Err(format!(
            "{range}: a number and B, KiB, MiB or GiB, such as \"8 MiB\""
        )),
        (Value::Number(number), Err(_)) if number.is_i64() => Err(range),
        _ => Ok(()),
    }
}

/// A number of bytes, as it is written.
#[derive(JsonSchema)]
#[serde(untagged)]
pub enum ByteSizeText {
    /// In bytes.
    Bytes(u64),
    /// With a unit: B, KiB, MiB or GiB.
    Text(String),
}

/// Reads a number of bytes, such as `8 MiB`.
///
/// # Errors
/// Where it is none, or too large for this machine.
pub fn size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let size = ByteSize::deserialize(from)?;
    usize::try_from(size.as_u64()).map_err(|_| de::Error::custom("is too large for this machine"))
}

/// Reads a text that means "none" where it is empty.
///
/// # Errors
/// Those of the type.
pub fn none_if_empty<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: de::DeserializeOwned,
{
    let text = String::deserialize(from)?;
    match text.is_empty() {
        true => Ok(None),
        false => T::deserialize(Value::String(text))
            .map(Some)
            .map_err(de::Error::custom),
    }
}

/// Reads a list without its nulls: they hold the positions of elements that were reported as
/// invalid.
///
/// # Errors
/// Those of the elements.
pub fn without_nulls<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Vec::<Option<T>>::deserialize(from)?
        .into_iter()
        .flatten()
        .collect())
}

/// Reads a time zone.
///
/// # Errors
/// Where the name is not known.
pub fn time_zone<'de, D: Deserializer<'de>>(from: D) -> Result<TimeZone, D::Error> {
    TimeZone::get(&String::deserialize(from)?)
        .map_err(|fault| de::Error::custom(format!("is not a known time zone: {fault}")))
}

/// The name of a consumer group or of a field: anything without control characters.
///
/// # Errors
/// The allowed names.
pub fn name(name: &str) -> Result<String, String> {
    match (1..=NAME_CHARS_MAX).contains(&name.chars().count())
        && !name.chars().any(char::is_control)
    {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "must have 1 to {NAME_CHARS_MAX} characters, none of them a control character"
        )),
    }
}

/// The keys of a path into a record, from the top.
///
/// # Errors
/// The allowed paths.
pub fn path(keys: Vec<String>) -> Result<Vec<String>, String> {
    let is_good = |key: &String| !key.is_empty() && key.chars().count() <= NAME_CHARS_MAX;
    match (1..=PATH_KEYS_MAX).contains(&keys.len()) && keys.iter().all(is_good) {
        true => Ok(keys),
        false => Err(format!(
            "must be 1 to {PATH_KEYS_MAX} keys of 1 to {NAME_CHARS_MAX} characters, such as \"sensors.temp\", \
             or [\"a.b\", \"c\"] where a key holds dots"
        )),
    }
}

/// The keys of a path that is written with dots.
///
/// # Errors
/// The allowed paths.
pub fn dotted_path(text: &str) -> Result<Vec<String>, String> {
    path(text.split('.').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_read_in_bytes() {
        let keyword = json!({ "minimum": "1 B", "maximum": "1 TiB" });
        let read = |text: &str| {
            check_size(&keyword, &json!(text))?;
            size(json!(text)).map_err(|error| error.to_string())
        };
        assert_eq!(read("8 MiB"), Ok(8 << 20));
        assert_eq!(read("512KiB"), Ok(512 << 10));
        // A unit of the SI, a fraction, and a plain number as text are read too.
        assert_eq!(read("8 MB"), Ok(8_000_000));
        assert_eq!(read("1.5 MiB"), Ok(3 << 19));
        assert_eq!(read("8"), Ok(8));
        for bad in [
            "MiB",
            "-1 B",
            "0 B",
            "99999999999999999999 B",
            "18446744073709551615 GiB",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let keyword = json!({ "minimum": "1 B", "maximum": "10 B" });
        assert_eq!(
            check_size(&keyword, &json!(1 << 20)),
            Err("must be a size from 1 B to 10 B".into())
        );
        assert!(check_size(&keyword, &json!(-1)).is_err());
    }

    #[test]
    fn the_ends_of_a_range_are_inside() {
        let keyword = json!({ "minimum": "1ms", "maximum": "10s" });
        let check = |text: &str| check_duration(&keyword, &json!(text));
        assert_eq!(check("1ms"), Ok(()));
        assert_eq!(check("10s"), Ok(()));
        for bad in ["999us", "10s 1ns", "10", "", "-1s", "ten seconds"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn words_stand_beside_a_duration() {
        let keyword = json!({ "minimum": "1s", "maximum": "1h", "zero": "never", "or": "auto" });
        let check = |text: &str| check_duration(&keyword, &json!(text));
        assert_eq!(
            [check("0s"), check("auto"), check("1s")],
            [Ok(()), Ok(()), Ok(())]
        );
        assert!(check("10ms").is_err() && check("2h").is_err() && check("never").is_err());
    }
}
