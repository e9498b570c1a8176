//! The configuration: read in layers, validated as a whole.
//!
//! ```text
//! default.toml <- the user's file <- OUTLIERD__... <- --set     (layers)
//!   -> one tree -> secrets from their files                     (secrets)
//!   -> known keys, types, ranges, syntax                        (structure, syntax)
//!   -> [defaults] under each stream -> settings::Settings       (merged)
//!   -> rules between values -> the settings, or every problem   (check)
//! ```
//!
//! A key is one field of one type, in the module that uses it; its comment there is the manual of
//! the schema. `config/default.toml` is the only place of default values.

mod check;
mod layers;
mod merged;
mod problems;
mod reload;
mod secrets;
pub mod settings;
mod structure;
mod syntax;

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize as _;

use self::merged::MergedTree;
pub use self::problems::{ConfigProblem, ConfigProblems, KeyPath};
pub use self::reload::{apply_live, needs_restart};
use self::settings::Settings;

/// The built-in layer, in TOML: every key with its default and its manual.
pub const DEFAULT_TOML: &str = include_str!("../config/default.toml");

/// Where the layers above the built-in one come from; later ones win.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigSources {
    /// The user's file, in TOML; `None` reads none.
    pub file: Option<PathBuf>,
    /// Environment variables. Those that begin with `OUTLIERD__` count, the others are ignored.
    ///
    /// `__` separates the keys; a stream whose name holds `-` or `.` is written with `_`, and so is
    /// a librdkafka property: `OUTLIERD__KAFKA__PROPERTIES__SASL_PASSWORD` sets `sasl.password`.
    pub environment: Vec<(OsString, OsString)>,
    /// `key=value` pairs. Keys are joined by dots; a key with a dot is quoted. The value is parsed
    /// as TOML, and as plain text if that fails.
    pub overrides: Vec<String>,
}

impl ConfigSources {
    /// The sources of a process: a file, its environment, and the pairs given on its command line.
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<String>) -> Self {
        Self {
            file,
            environment: std::env::vars_os().collect(),
            overrides,
        }
    }
}

/// Reads all layers and validates them.
///
/// # Errors
/// Every problem that was found, at once: a file that cannot be read or is no TOML, unknown keys,
/// wrong types, values out of range, and rules between values that are broken.
pub fn load(sources: &ConfigSources) -> Result<Settings, ConfigProblems> {
    let fail = |list| ConfigProblems::new(sources.file.clone(), list);
    let mut layers = layers::read(sources).map_err(fail)?;
    let mut list = std::mem::take(&mut layers.problems);
    secrets::resolve(&mut layers.tree, &sources.environment, &mut list);
    structure::prune(&mut layers.tree, &list);
    list.extend(structure::check(&mut layers.tree));
    let tree = MergedTree::new(std::mem::take(&mut layers.tree));
    let settings = read(&tree, &mut list);
    if let Some(settings) = settings.filter(|_| list.is_empty()) {
        return Ok(settings);
    }
    layers.name_origins(&mut list);
    Err(fail(list))
}

/// The settings of a tree whose structure is good; what else is wrong is added to `problems`.
/// `None` where they cannot be read because of a problem.
fn read(tree: &MergedTree, problems: &mut Vec<ConfigProblem>) -> Option<Settings> {
    match Settings::deserialize(tree.resolved()) {
        Ok(mut settings) => {
            for stream in &mut settings.streams {
                stream.fit_built_in_model(tree.is_written(&stream.name, "model.latent"));
            }
            let between = check::problems(&settings, tree, problems);
            problems.extend(between);
            for stream in &mut settings.streams {
                stream.complete(&settings.registry);
            }
            Some(settings)
        }
        Err(error) => {
            // The schema is made from the same types, so that it has reported what is wrong, or
            // has a hole.
            if problems.is_empty() {
                let fault = format!("cannot be read: {error}");
                let fix = "compare the values with config/default.toml";
                problems.push(ConfigProblem::new(KeyPath::default(), fault, fix));
            }
            None
        }
    }
}

/// The JSON Schema (draft 2020-12) of a configuration file. No key is required there: the built-in
/// layer has them all.
pub fn json_schema() -> serde_json::Value {
    structure::schema(false)
}
