//! The manifest: what a bundle is, what it learned from and how well, in words that people and
//! programs can read.
//!
//! Contract: `manifest.json` is this type as JSON. Its `id` is a hash over all of it but `id` and
//! `created`; since it holds the hashes of the bundle's other files, the id names the whole
//! content, and the same data, settings and seed give the same id on the same machine.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::shape::{ModelShape, ShapeError};
use crate::model::TrainingSettings;
use crate::record::EventTime;
use crate::record::format::{FieldSettings, States};

/// The format of bundles that this version writes. Raise it with each new field, which is optional
/// and left out where it is not there, so that older bundles keep their ids. 2: several charts.
pub const FORMAT: u32 = 2;
/// The oldest format that is read: 1 was in no release.
pub const OLDEST_FORMAT: u32 = 2;
/// Hexadecimal digits of a bundle's id: 128 of the 256 bits of its hash.
pub const ID_DIGITS: usize = 32;

/// What a bundle is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of the bundle, [`FORMAT`].
    pub format: u32,
    /// Id of the bundle: [`Manifest::content_id`].
    pub id: String,
    /// When it was made, by the clock of the machine that made it.
    pub created: Timestamp,
    /// Version of outlierd that made it.
    pub software: String,
    /// Sizes of the model.
    pub shape: ModelShape,
    /// What it was made for and from.
    pub origin: Origin,
    /// BLAKE3 hash, hexadecimal, of each other file of the bundle.
    pub files: BTreeMap<String, String>,
}

/// What a bundle was made for, what it learned from, and how well it went.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Name of the stream.
    pub stream: String,
    /// The fields of a record, in the order of the model's inputs.
    pub fields: Vec<FieldInfo>,
    /// The settings of the training, seed included.
    pub training: TrainingSettings,
    /// Rows (windows) of the training, held-out ones included.
    pub rows: u64,
    /// The times learned from.
    pub learned_from: Vec<Segment>,
    /// How well it went.
    pub metrics: Metrics,
}

/// A field as the model knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldInfo {
    /// Its name.
    pub name: String,
    /// The keys that lead to it from the top of the record.
    pub path: Vec<String>,
    /// Its unit, for display.
    pub unit: Option<String>,
    /// Its states, where it names one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
}

impl FieldInfo {
    /// A configured field.
    pub fn of(field: &FieldSettings) -> Self {
        let states = field.states.iter().flat_map(States::names);
        Self {
            name: field.name.clone(),
            path: field.path.clone(),
            unit: field.unit.clone(),
            states: states.map(str::to_owned).collect(),
        }
    }
}

/// A stretch of event time, both ends included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The series; empty where it is that of all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub series: String,
    /// Event time of the first record, in microseconds since the epoch.
    pub from: EventTime,
    /// Event time of the last record.
    pub until: EventTime,
}

impl Segment {
    /// Whether the two have a time of a series in common; one without a series is of all of them.
    pub fn overlaps(&self, other: &Self) -> bool {
        let same = self.series == other.series || self.series.is_empty() || other.series.is_empty();
        same && self.from <= other.until && other.from <= self.until
    }

    /// Whether a record lies in it.
    pub fn holds(&self, series: &str, time: EventTime) -> bool {
        (self.series.is_empty() || self.series == series)
            && (self.from..=self.until).contains(&time)
    }
}

/// How well a training went; the losses are trimmed mean square errors per input in scaled units.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Epochs that were run.
    pub epochs: usize,
    /// Loss of the rows trained on.
    pub train_loss: f64,
    /// Loss of the held-out rows; `None` where none were held out.
    pub holdout_loss: Option<f64>,
    /// Error of the denoiser on noisy held-out records, as a part of that of its linear part; `None`
    /// where there was none to fit, or too few records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denoising_ratio: Option<f64>,
    /// Held-out loss of the network, as a part of that of its linear twin; `None` where there was no
    /// network to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear_ratio: Option<f64>,
}

/// A manifest that no bundle can have.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum ManifestError {
    /// A name that cannot be a folder's.
    #[error(
        "stream name {name:?}: allowed are 1 to 200 letters, digits, '-', '_' and '.', not starting with '.'; rename the stream"
    )]
    StreamName {
        /// The name found.
        name: String,
    },
    /// The model does not have one input per field.
    #[error("{names} fields are named, the model's shape has {fields}")]
    Fields {
        /// Names found.
        names: usize,
        /// Fields of the shape.
        fields: usize,
    },
    /// A loss that is NaN or infinite.
    #[error("{metric} is {value}; it must be a finite number")]
    Metric {
        /// Which one.
        metric: &'static str,
        /// What was found.
        value: f64,
    },
    /// The sizes are not those of a model.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl Manifest {
    /// The id that follows from the content: the first [`ID_DIGITS`] digits of the BLAKE3 hash of
    /// the manifest's JSON with an empty `id` and the epoch as `created`.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn content_id(&self) -> Result<String, serde_json::Error> {
        let content = Self {
            id: String::new(),
            created: Timestamp::UNIX_EPOCH,
            ..self.clone()
        };
        let mut id = blake3::hash(&serde_json::to_vec(&content)?)
            .to_hex()
            .to_string();
        id.truncate(ID_DIGITS);
        Ok(id)
    }

    /// Checks names, sizes and numbers; format, id and files are the bundle's to check.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn validate(&self) -> Result<(), ManifestError> {
        check_stream(&self.origin.stream)?;
        self.shape.validate()?;
        if self.origin.fields.len() != self.shape.readings() {
            return Err(ManifestError::Fields {
                names: self.origin.fields.len(),
                fields: self.shape.readings(),
            });
        }
        let metrics = &self.origin.metrics;
        let losses = [
            ("train_loss", Some(metrics.train_loss)),
            ("holdout_loss", metrics.holdout_loss),
        ];
        match losses
            .into_iter()
            .find_map(|(metric, loss)| Some((metric, loss.filter(|loss| !loss.is_finite())?)))
        {
            Some((metric, value)) => Err(ManifestError::Metric { metric, value }),
            None => Ok(()),
        }
    }
}

/// Checks that a stream's name can be the name of a folder that is neither hidden nor above its
/// parent.
///
/// # Errors
/// [`ManifestError::StreamName`].
pub fn check_stream(name: &str) -> Result<(), ManifestError> {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if plain && (1..=200).contains(&name.len()) && !name.starts_with('.') {
        Ok(())
    } else {
        Err(ManifestError::StreamName {
            name: name.to_owned(),
        })
    }
}
