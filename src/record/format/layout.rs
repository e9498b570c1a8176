//! How the records of a message are found in its value.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::KeyWords;
use crate::options::optional;

/// Where the records of a message are in its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A message is one record.
    #[default]
    Row,
    /// A message holds an array of records.
    Rows,
    /// A message holds the tags of one record, as name and value.
    Tags,
    /// A message is one tag of a record.
    Tag,
}

/// How tags are written.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct TagFormat {
    /// Path of the array of tags, or of the object with tags under their names; "": the whole value.
    #[serde(deserialize_with = "path_or_whole")]
    #[schemars(with = "String", example = &"values", extend("x-syntax" = "path-or-whole"))]
    pub path: Vec<String>,
    /// In a tag, the path of its name, text or a number.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", example = &"id", extend("x-syntax" = "path"))]
    pub name: Vec<String>,
    /// In a tag, the path of its value.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String", example = &"v", extend("x-syntax" = "path"))]
    pub value: Vec<String>,
    /// In a tag, the path of its quality: `false`, text that does not begin like "good", or a number
    /// from 1 to 191 is a bad one. "": none.
    #[serde(deserialize_with = "path_or_whole")]
    #[schemars(with = "String", example = &"q", extend("x-syntax" = "path-or-whole"))]
    pub quality: Vec<String>,
}

/// A path into a record, as the option of another table.
///
/// # Errors
/// The allowed paths.
pub fn path<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let words = KeyWords::deserialize(from)?;
    words.path().map_err(serde::de::Error::custom)
}

/// A path into a record, or "" for the whole of it, as the option of another table.
///
/// # Errors
/// The allowed paths.
pub fn path_or_whole<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    match KeyWords::deserialize(from)? {
        KeyWords::Text(text) if text.is_empty() => Ok(Vec::new()),
        words => words.path().map_err(serde::de::Error::custom),
    }
}

/// The character between two cells.
///
/// # Errors
/// The allowed characters.
pub fn delimiter<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let text = String::deserialize(from)?;
    match text.as_bytes() {
        _ if text == "tab" => Ok(b'\t'),
        [byte] if byte.is_ascii_punctuation() || matches!(byte, b'\t' | b' ') => Ok(*byte),
        _ => Err(serde::de::Error::custom(
            "must be one character, such as \",\" or \";\", or \"tab\"",
        )),
    }
}
