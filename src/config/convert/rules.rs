//! Rules between values: of one stream, and of several.

use std::collections::BTreeMap;

use super::stream::named;
use super::{ConfigReader, StreamConfigs};
use crate::config::problems::{ConfigProblem, KeyPath};
use crate::config::raw;
use crate::config::settings::{FieldSettings, INPUTS_MAX, ThresholdSettings, TimeFeature};

/// Windows that each fold of the training needs at least.
const FOLD_WINDOWS_MIN: usize = 64;

impl ConfigReader<'_> {
    /// No two fields have one name, or read one place of the record.
    pub(super) fn distinct_fields(&mut self, place: &KeyPath, fields: &[Option<FieldSettings>]) {
        let fields: Vec<(usize, &FieldSettings)> = fields
            .iter()
            .enumerate()
            .filter_map(|(i, field)| Some((i, field.as_ref()?)))
            .collect();
        let mut names = BTreeMap::new();
        let mut paths: BTreeMap<&[String], usize> = BTreeMap::new();
        for &(i, field) in &fields {
            let at = place.clone().index(i);
            if let Some(first) = names.insert(&field.name, i) {
                let fault = format!("has the name {:?} of fields[{first}]", field.name);
                self.note(ConfigProblem::new(
                    at,
                    fault,
                    "give each field a unique name, or remove one of them",
                ));
            } else if let Some(first) = paths.insert(&field.path, i) {
                let fault = format!("reads the same place of the record as fields[{first}]");
                self.note(ConfigProblem::new(
                    at,
                    fault,
                    "correct the path of one of them",
                ));
            }
        }
        for &(i, field) in &fields {
            let above = (1..field.path.len()).find_map(|keys| paths.get(field.path.get(..keys)?));
            if let Some(above) = above {
                let fault = format!("lies inside of fields[{above}], which is a number");
                self.note(ConfigProblem::new(
                    place.clone().index(i),
                    fault,
                    "correct the path of one of them",
                ));
            }
        }
    }

    /// What the values of one stream ask of each other.
    pub(super) fn within_stream(
        &mut self,
        stream: &str,
        raw: &raw::StreamConfig,
        threshold: Option<&ThresholdSettings>,
    ) {
        self.distinct_topics(stream, raw);
        if raw.record.format.is_image() {
            self.tile(stream, raw);
        } else {
            self.shape(stream, raw);
            self.training_records(stream, raw);
        }
        if let Some(ThresholdSettings {
            budget,
            period: Some(period),
            ..
        }) = threshold
            && budget.alerts * period.as_secs_f64() >= budget.period.as_secs_f64()
        {
            let key = self.place(stream, "threshold.budget");
            let most = budget.period.as_secs_f64() / period.as_secs_f64();
            let fault = format!(
                "allows an alert at every record: a series has {most} records in that time"
            );
            let fix = "lower the budget, or correct threshold.period";
            self.note(
                ConfigProblem::new(key, fault, fix).found(&raw.threshold.budget.as_str().into()),
            );
        }
    }

    fn distinct_topics(&mut self, stream: &str, raw: &raw::StreamConfig) {
        let mut taken: Vec<(&str, String)> = Vec::new();
        for (key, topic) in outputs(&raw.output) {
            let topic = named(topic, stream);
            if topic.is_empty() {
                continue;
            }
            if let Some((other, _)) = taken.iter().find(|(_, name)| *name == topic) {
                let key = self.place(stream, &format!("output.{key}"));
                let fault = format!("is also the topic of output.{other}");
                let fix = "give each output its own topic: they hold different kinds of message";
                self.note(ConfigProblem::new(key, fault, fix).found(&topic.as_str().into()));
            }
            taken.push((key, topic));
        }
    }

    /// The autoencoder's sizes fit each other.
    fn shape(&mut self, stream: &str, raw: &raw::StreamConfig) {
        let context = TimeFeature::inputs(&raw.model.context);
        let window = raw.window;
        let fields = raw.record.fields.len();
        let at_fields = self.place(stream, "record.fields");
        let at_window = self.place(stream, "window");
        if fields == 0 || self.has_problem(&at_fields) || self.has_problem(&at_window) {
            return;
        }
        if raw.model.kind.is_spatial() {
            let fault = format!(
                "{:?} is for images, and the records are readings",
                raw.model.kind.as_str()
            );
            let fix = "set model.kind to \"dense\", or record.format to \"image\"";
            self.note(ConfigProblem::new(
                self.place(stream, "model.kind"),
                fault,
                fix,
            ));
            return;
        }
        let inputs = window.saturating_mul(fields + context);
        if inputs > INPUTS_MAX {
            let fault = format!(
                "makes {inputs} inputs of the model with {fields} fields; at most {INPUTS_MAX} are allowed"
            );
            let fix = format!(
                "choose a window of at most {}, or fewer fields",
                INPUTS_MAX / (fields + context)
            );
            self.note(ConfigProblem::new(at_window, fault, fix).found(&window.into()));
            return;
        }
        self.stride(stream, raw);
        if raw.model.kind.is_windowed() && window < 2 {
            let fault = format!(
                "must be 2 or more for a {} model, which needs a sequence of records",
                raw.model.kind.as_str()
            );
            let fix = "set window to 16 or more, or model.kind to \"dense\"";
            self.note(ConfigProblem::new(at_window, fault, fix).found(&window.into()));
            return;
        }
        self.code(stream, raw, inputs);
    }

    /// The hidden layers are there, and the code is narrower than the inputs.
    fn code(&mut self, stream: &str, raw: &raw::StreamConfig, inputs: usize) {
        let window = raw.window;
        let latent = raw.model.latent;
        let fields = raw.record.fields.len();
        if raw.model.hidden.is_empty() && raw.model.kind.needs_layers() {
            let fault = format!(
                "is empty: a {} model needs hidden layers",
                raw.model.kind.as_str()
            );
            self.note(ConfigProblem::new(
                self.place(stream, "model.hidden"),
                fault,
                "give it one or two, such as [16]",
            ));
        }
        let Some(least) = raw.model.kind.code_min() else {
            return;
        };
        let kind = raw.model.kind.as_str();
        let key = self.place(stream, "model.latent");
        if inputs <= least {
            let fault = "does not fit: a code has to be smaller than the model's input, which is one field of one record";
            let fix = "set window to 8 or more, or model.kind to \"linear\" and model.latent to 0";
            self.note(ConfigProblem::new(key, fault, fix).found(&latent.into()));
        } else if !(least..inputs).contains(&latent) {
            let most = inputs - 1;
            let fault = format!(
                "must be from {least} to {most} for a {kind} model: below its {inputs} inputs (window {window} x {fields} fields)"
            );
            let fix = format!(
                "a quarter of the inputs is a good initial value: {}",
                (inputs / 4).clamp(least, most)
            );
            self.note(ConfigProblem::new(key, fault, fix).found(&latent.into()));
        }
    }

    /// No record is between two windows.
    fn stride(&mut self, stream: &str, raw: &raw::StreamConfig) {
        if raw.stride > raw.window {
            let key = self.place(stream, "stride");
            let fault = format!(
                "must be at most the window, which is {}: records between two windows would never be scored",
                raw.window
            );
            self.note(
                ConfigProblem::new(key, fault, "lower it, or raise window")
                    .found(&raw.stride.into()),
            );
        }
    }

    /// The first training has enough windows for every fold.
    fn training_records(&mut self, stream: &str, raw: &raw::StreamConfig) {
        let least = raw.window + raw.stride * ((4 * raw.training.folds).max(FOLD_WINDOWS_MIN) - 1);
        if raw.training.records < least {
            let key = self.place(stream, "training.records");
            let fault = format!(
                "must be at least {least} for window {} and {} folds",
                raw.window, raw.training.folds
            );
            let fix = "raise it; ten times as many train a better model";
            self.note(ConfigProblem::new(key, fault, fix).found(&raw.training.records.into()));
        }
    }

    /// What the streams ask of each other.
    pub(super) fn across_streams(&mut self, streams: &StreamConfigs) {
        if streams.is_empty() {
            let fix = "add a table [streams.NAME] with input.topic and record.fields; config/example.toml shows one";
            self.note(ConfigProblem::new(
                KeyPath::of("streams"),
                "is missing: no stream is configured",
                fix,
            ));
        }
        self.distinct_files(streams);
        let mut readers = BTreeMap::new();
        for (name, raw) in streams {
            let topic = named(&raw.input.topic, name);
            let group = named(&raw.input.group, name);
            if topic.is_empty() {
                continue;
            }
            if let Some(first) = readers.insert((topic.clone(), group.clone()), name) {
                let key = self.place(name, "input.group");
                let fault = format!(
                    "lets stream {name} read topic {topic} in the group of stream {first}: each would get a part of it"
                );
                self.note(
                    ConfigProblem::new(key, fault, "give each stream its own group")
                        .found(&group.into()),
                );
            }
        }
        for (name, raw) in streams {
            let output = &raw.output;
            for (key, topic) in outputs(output) {
                let topic = named(topic, name);
                if let Some((_, reader)) = readers.iter().find(|((input, _), _)| *input == topic) {
                    let key = self.place(name, &format!("output.{key}"));
                    let fault = format!(
                        "is the input topic of stream {reader}: it would read what outlierd writes"
                    );
                    self.note(
                        ConfigProblem::new(key, fault, "choose another topic").found(&topic.into()),
                    );
                }
            }
        }
    }
}

/// The topics that a stream writes, by key.
pub(super) fn outputs(output: &raw::OutputConfig) -> [(&'static str, &String); 5] {
    [
        ("alerts", &output.alerts),
        ("dead_letters", &output.dead_letters),
        ("states", &output.states),
        ("scores", &output.scores),
        ("heat_maps", &output.heat_maps),
    ]
}
