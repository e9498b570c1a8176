//! From the merged tree to the settings: `[defaults]` goes under each stream, texts are read, and
//! rules between values are held.
//!
//! A value that a stream inherits is named where it was written, in `defaults`, and is then
//! reported once.

mod destination;
mod image;
mod model;
mod rules;
mod service;
mod share;
mod silence;
mod stream;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::layers::{built_in, overlay};
use super::problems::{ConfigProblem, KeyPath, KeyStep, shown};
use super::raw;
use super::settings::Settings;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A leap year: longer spans are typing errors.
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// The settings of a tree whose structure is good; what else is wrong is added to `problems`.
///
/// `None` where a part is missing because of a problem. Problems that only follow from one already
/// there are left out.
pub fn settings(tree: &Value, problems: &mut Vec<ConfigProblem>) -> Option<Settings> {
    let raw: raw::Config = match serde_json::from_value(complete(tree)) {
        Ok(raw) => raw,
        Err(error) => {
            // The schema is made from the same types, so that it has said what is wrong, or has a
            // hole.
            if problems.is_empty() {
                let fix = "compare the values with config/default.toml";
                problems.push(ConfigProblem::new(
                    KeyPath::default(),
                    format!("cannot be read: {error}"),
                    fix,
                ));
            }
            return None;
        }
    };
    let mut reader = ConfigReader {
        tree,
        known: problems.clone(),
        problems: Vec::new(),
    };
    let service = reader.service(&raw.service);
    let kafka = reader.kafka(&raw.kafka);
    let share = reader.share(&raw.share, &raw.streams);
    let streams: Vec<_> = raw
        .streams
        .iter()
        .map(|(name, raw)| reader.stream(name, raw))
        .collect();
    reader.across_streams(&raw.streams);
    problems.append(&mut reader.problems);
    let streams = streams.into_iter().collect::<Option<_>>()?;
    Some(Settings {
        service: service?,
        kafka: kafka?,
        share: share?,
        streams,
    })
}

/// The tree over the built-in layer, and each stream over `[defaults]`, one of images with
/// `[image_defaults]` in between.
fn complete(tree: &Value) -> Value {
    let mut whole = built_in();
    overlay(&mut whole, tree);
    let defaults = whole.get("defaults").cloned().unwrap_or_default();
    let mut of_images = defaults.clone();
    if let Some(above) = whole.get("image_defaults") {
        overlay(&mut of_images, above);
    }
    if let Some(Value::Object(streams)) = whole.get_mut("streams") {
        for stream in streams.values_mut() {
            let under = if is_of_images(Some(stream), Some(&defaults)) {
                &of_images
            } else {
                &defaults
            };
            let own = std::mem::replace(stream, under.clone());
            overlay(stream, &own);
        }
    }
    whole
}

/// Whether records are images, as the stream or the defaults say.
fn is_of_images(stream: Option<&Value>, defaults: Option<&Value>) -> bool {
    [stream, defaults]
        .into_iter()
        .flatten()
        .find_map(|table| table.pointer("/record/format"))
        == Some(&"image".into())
}

/// The fix for a value out of its range, with the default if there is one.
pub fn usual_fix(key: &KeyPath) -> String {
    let mut place = key.clone();
    if let [KeyStep::Key(streams), KeyStep::Key(_), rest @ ..] = key.0.as_slice()
        && streams == "streams"
    {
        place = KeyPath([&[KeyStep::Key("defaults".into())], rest].concat());
    }
    match place.find(&built_in()) {
        Some(default) if !default.is_object() && !is_empty(default) => {
            format!(
                "correct it, or remove it for the default {}",
                shown(default)
            )
        }
        _ => "correct it".to_owned(),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Reads raw values and collects what is wrong with them.
struct ConfigReader<'t> {
    /// The user's layers: the source of each value.
    tree: &'t Value,
    /// Problems that were found before.
    known: Vec<ConfigProblem>,
    /// Those found here.
    problems: Vec<ConfigProblem>,
}

impl ConfigReader<'_> {
    /// Where a stream's value was written: in the stream, in `[image_defaults]`, or in
    /// `[defaults]`.
    fn place(&self, stream: &str, key: &str) -> KeyPath {
        let own = KeyPath::of("streams").key(stream).join(key);
        let table = KeyPath::of("streams").key(stream);
        let of_images = is_of_images(table.find(self.tree), self.tree.get("defaults"));
        let inherited = ["image_defaults", "defaults"]
            .into_iter()
            .skip(usize::from(!of_images));
        let written = |place: &KeyPath| place.find(self.tree).is_some();
        std::iter::once(own.clone())
            .chain(inherited.map(|table| KeyPath::of(table).join(key)))
            .find(written)
            .unwrap_or(own)
    }

    /// Takes what a reader made of a raw value, or notes the fault with the usual fix.
    fn take<T>(
        &mut self,
        key: KeyPath,
        found: &impl Serialize,
        read: Result<T, String>,
    ) -> Option<T> {
        read.map_err(|fault| {
            let fix = usual_fix(&key);
            self.note(
                ConfigProblem::new(key, fault, fix)
                    .found(&serde_json::to_value(found).unwrap_or_default()),
            );
        })
        .ok()
    }

    /// Notes a problem, unless it only follows from one at the same key or below it.
    fn note(&mut self, problem: ConfigProblem) {
        if !self
            .known
            .iter()
            .any(|known| problem.key.is_prefix_of(&known.key))
        {
            self.problems.push(problem);
        }
    }

    /// Whether a problem was found at a key or below it.
    fn has_problem(&self, key: &KeyPath) -> bool {
        self.known
            .iter()
            .chain(&self.problems)
            .any(|problem| key.is_prefix_of(&problem.key))
    }
}

/// The streams by name, as written.
type StreamConfigs = BTreeMap<String, raw::StreamConfig>;
