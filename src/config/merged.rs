//! The layers above the built-in one laid over it, and `[defaults]` under each stream.

use serde_json::Value;

use super::layers::{built_in, overlay};
use super::problems::{KeyPath, KeyStep, shown};

/// Tables of a stream whose texts may hold `{stream}`.
const TEMPLATE_TABLES: [&str; 2] = ["input", "output"];
/// What stands for the stream's name in a text.
const STREAM: &str = "{stream}";

/// All layers, and where each value was written.
pub struct MergedTree {
    /// The user's layers: the source of each value.
    written: Value,
    /// The user's layers over the built-in one: complete, as written.
    pub whole: Value,
}

impl MergedTree {
    /// Completes the user's layers.
    pub fn new(written: Value) -> Self {
        let mut whole = built_in();
        overlay(&mut whole, &written);
        Self { written, whole }
    }

    /// The tree that the settings are read from: each stream over `[defaults]`, one of images with
    /// `[image_defaults]` in between, and `{stream}` replaced with the stream's name.
    pub fn resolved(&self) -> Value {
        let mut tree = self.whole.clone();
        let Some(table) = tree.as_object_mut() else {
            return tree;
        };
        let defaults = table.remove("defaults").unwrap_or_default();
        let mut of_images = defaults.clone();
        if let Some(above) = table.remove("image_defaults") {
            overlay(&mut of_images, &above);
        }
        if let Some(Value::Object(streams)) = table.get_mut("streams") {
            for (name, stream) in streams {
                let is_of_images = is_of_images(Some(stream), Some(&defaults));
                let under = if is_of_images { &of_images } else { &defaults };
                let own = std::mem::replace(stream, under.clone());
                overlay(stream, &own);
                if let (false, Some(stream)) = (is_of_images, stream.as_object_mut()) {
                    stream.remove("image");
                }
                insert_name(stream, name);
            }
        }
        tree
    }

    /// Whether the user has written a stream's value, rather than inherited the built-in one.
    pub fn is_written(&self, stream: &str, key: &str) -> bool {
        self.place(stream, key).find(&self.written).is_some()
    }

    /// Where a stream's value was written: in the stream, in `[image_defaults]`, or in
    /// `[defaults]`.
    pub fn place(&self, stream: &str, key: &str) -> KeyPath {
        let own = KeyPath::of("streams").key(stream).join(key);
        places(&self.written, &own)
            .into_iter()
            .find(|place| place.find(&self.written).is_some())
            .unwrap_or(own)
    }

    /// The value at a key as it was written; of a stream, it may be inherited.
    pub fn value(&self, key: &KeyPath) -> Option<&Value> {
        places(&self.whole, key)
            .iter()
            .find_map(|place| place.find(&self.whole))
    }
}

/// The places where the value of a key may be, the nearest first: of a stream also in
/// `[image_defaults]`, if its records are images, and in `[defaults]`.
fn places(tree: &Value, key: &KeyPath) -> Vec<KeyPath> {
    let mut places = vec![key.clone()];
    if let [KeyStep::Key(streams), KeyStep::Key(name), rest @ ..] = key.0.as_slice()
        && streams == "streams"
    {
        let stream = KeyPath::of(streams).key(name);
        let of_images = is_of_images(stream.find(tree), tree.get("defaults"));
        let tables = ["image_defaults", "defaults"].into_iter();
        let tables = tables.skip(usize::from(!of_images));
        places.extend(tables.map(|table| KeyPath([&KeyPath::of(table).0, rest].concat())));
    }
    places
}

/// Replaces `{stream}` in the names of topics, groups and files.
fn insert_name(stream: &mut Value, name: &str) {
    for table in TEMPLATE_TABLES {
        let values = stream.get_mut(table).and_then(Value::as_object_mut);
        for value in values.into_iter().flat_map(serde_json::Map::values_mut) {
            if let Value::String(text) = value {
                *text = text.replace(STREAM, name);
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use crate::config::settings::Settings;
    use crate::config::{ConfigProblems, ConfigSources, load};
    use crate::model::ModelKind;

    fn loaded(fields: &str, more: &[&str]) -> Result<Settings, ConfigProblems> {
        let mut overrides = vec!["streams.a.input.topic=t".to_owned()];
        overrides.push(format!("streams.a.record.fields={fields}"));
        overrides.extend(more.iter().map(|&pair| pair.to_owned()));
        load(&ConfigSources {
            overrides,
            ..ConfigSources::default()
        })
    }

    fn model(fields: &str, more: &[&str]) -> (ModelKind, usize) {
        let model = &loaded(fields, more).unwrap().streams[0].model;
        (model.kind, model.latent)
    }

    #[test]
    fn the_built_in_model_fits_any_number_of_fields() {
        assert_eq!(model(r#"["x"]"#, &[]), (ModelKind::Dense, 0));
        assert_eq!(model(r#"["x", "y"]"#, &[]), (ModelKind::Dense, 1));
        assert_eq!(model(r#"["x", "y", "z"]"#, &[]), (ModelKind::Dense, 2));
        let window = ["streams.a.window=8"];
        assert_eq!(model(r#"["x"]"#, &window), (ModelKind::Dense, 2));
    }

    #[test]
    fn what_is_written_is_kept() {
        let linear = ["defaults.model.kind=linear"];
        assert_eq!(model(r#"["x"]"#, &linear), (ModelKind::Linear, 0));
        let latent = ["streams.a.model.latent=1"];
        assert_eq!(model(r#"["x", "y", "z"]"#, &latent), (ModelKind::Dense, 1));
        for written in ["streams.a.model.latent=2", "defaults.model.kind=vae"] {
            let problems = loaded(r#"["x"]"#, &[written]).unwrap_err().to_string();
            assert!(problems.contains("does not fit"), "{problems}");
        }
    }
}
