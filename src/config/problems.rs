//! A problem of a configuration: which key, what was found, what is allowed, what to do next; and
//! the list of all of them.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use crate::failure::{Failure, FailureClass};

/// Longest part of a found value that is shown, in characters.
const FOUND_CHARS_MAX: usize = 60;

/// Tables of `[kafka]` whose keys are librdkafka properties, which hold dots, and whose values may
/// be passwords.
pub const PROPERTY_TABLES: [&str; 3] = ["properties", "consumer", "producer"];

/// Keys of `[registry]` whose values are secrets.
pub const REGISTRY_SECRETS: [&str; 2] = ["password", "token"];

/// One step of a key path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum KeyStep {
    /// Into a table.
    Key(String),
    /// Into a list, from 0.
    Index(usize),
}

/// The way to a value from the top of the configuration, such as
/// `streams.pumps.record.fields[2].min`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct KeyPath(pub Vec<KeyStep>);

impl KeyPath {
    /// A path of keys written with dots; for keys that are known to hold none.
    pub fn of(dotted: &str) -> Self {
        Self::default().join(dotted)
    }

    /// This path and then more keys, written with dots; for keys that are known to hold none.
    pub fn join(&self, dotted: &str) -> Self {
        dotted
            .split('.')
            .fold(self.clone(), |path, key| path.key(key))
    }

    /// This path and then one key, whatever it holds.
    pub fn key(mut self, key: &str) -> Self {
        self.0.push(KeyStep::Key(key.into()));
        self
    }

    /// This path and then an element of a list.
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(KeyStep::Index(index));
        self
    }

    /// The value at this path.
    pub fn find<'v>(&self, tree: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(tree, |value, step| match step {
            KeyStep::Key(key) => value.get(key),
            KeyStep::Index(index) => value.get(index),
        })
    }

    /// Whether `self` leads to `other`, or is the same.
    pub fn is_prefix_of(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Whether the value is never shown: librdkafka properties hold passwords.
    fn is_secret(&self) -> bool {
        match self.0.as_slice() {
            [KeyStep::Key(table), KeyStep::Key(key), ..] => {
                table == "kafka" && PROPERTY_TABLES.contains(&key.as_str())
                    || table == "registry" && REGISTRY_SECRETS.contains(&key.as_str())
            }
            _ => false,
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                KeyStep::Index(index) => write!(f, "[{index}]")?,
                KeyStep::Key(key) => {
                    let dot = if i == 0 { "" } else { "." };
                    let is_bare = key
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
                    match is_bare && !key.is_empty() {
                        true => write!(f, "{dot}{key}")?,
                        false => write!(f, "{dot}{key:?}")?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// One problem of a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigProblem {
    /// The key; empty if the problem concerns the whole file.
    pub key: KeyPath,
    /// The value found, as written in TOML (nearly); `None` where there is none, or where it may be
    /// a secret.
    pub found: Option<String>,
    /// The variable or flag that set the value, where it is not the file.
    pub origin: Option<String>,
    /// The fault, starting with a verb ("must be ...", "is missing").
    pub fault: String,
    /// What to do next.
    pub fix: String,
}

impl ConfigProblem {
    /// A problem without a value.
    pub fn new(key: KeyPath, fault: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            key,
            found: None,
            origin: None,
            fault: fault.into(),
            fix: fix.into(),
        }
    }

    /// The same with the value that was found; not where it may be a secret.
    pub fn found(mut self, value: &Value) -> Self {
        self.found = (!self.key.is_secret()).then(|| shown(value));
        self
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut subject = self.key.to_string();
        if let Some(found) = &self.found {
            subject += &format!(" = {found}");
        }
        if let Some(origin) = &self.origin {
            subject += &format!(" (set by {origin})");
        }
        let space = if subject.is_empty() { "" } else { " " };
        write!(f, "{subject}{space}{}\n    fix: {}", self.fault, self.fix)
    }
}

/// Every problem of a configuration, in the order of their keys. Its text has two lines for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigProblems {
    /// The user's file.
    pub file: Option<PathBuf>,
    /// Never empty.
    pub list: Vec<ConfigProblem>,
}

impl ConfigProblems {
    /// Sorted, and each only once: a value of `[defaults]` is read again for each stream.
    pub(super) fn new(file: Option<PathBuf>, mut list: Vec<ConfigProblem>) -> Self {
        list.sort_by(|a, b| a.key.cmp(&b.key));
        list.dedup();
        Self { file, list }
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        write!(
            f,
            "{count} problem{} in the configuration",
            if count == 1 { "" } else { "s" }
        )?;
        if let Some(file) = &self.file {
            write!(f, " {}", file.display())?;
        }
        f.write_str(":")?;
        self.list
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigProblems {}

impl Failure for ConfigProblems {
    fn class(&self) -> FailureClass {
        FailureClass::USER
    }
}

/// A value as text, cut to a bearable length.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(FOUND_CHARS_MAX) {
        Some((cut, _)) => format!("{}...", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}

/// The candidate that `word` was probably meant to be: at most a third of its letters differ.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let most = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::levenshtein(&word.to_lowercase(), candidate),
                candidate,
            )
        })
        .min()
        .filter(|&(distance, _)| distance <= most)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_close_word_is_proposed() {
        assert_eq!(
            nearest("treshold", ["threshold", "training"]),
            Some("threshold")
        );
        assert_eq!(
            nearest("Earliest", ["earliest", "latest"]),
            Some("earliest")
        );
        assert_eq!(nearest("colour", ["topic", "group"]), None);
    }

    #[test]
    fn keys_that_are_not_bare_are_quoted() {
        let path = KeyPath::of("kafka.properties")
            .key("sasl.password")
            .index(3);
        assert_eq!(path.to_string(), "kafka.properties.\"sasl.password\"[3]");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let key = KeyPath::of("kafka.properties").key("sasl.password");
        assert_eq!(
            ConfigProblem::new(key, "is refused", "remove it")
                .found(&"hunter2".into())
                .found,
            None
        );
    }
}
