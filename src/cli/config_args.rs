//! Flags that name a configuration.

use std::path::PathBuf;

use anyhow::bail;

use crate::config::settings::{Settings, StreamSettings};
use crate::config::{ConfigProblem, ConfigProblems, ConfigSources, KeyPath, load};
use crate::model::script;
use crate::source::refused_properties;

/// Name of the stream that `replay` uses for a file without a configuration.
const REPLAY: &str = "replay";

/// Source of the configuration.
#[derive(clap::Args, Clone)]
pub(super) struct ConfigArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, overriding file and environment: --set streams.pumps.threshold.margin=3
    /// (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    /// The flags override `before`; `after` overrides the flags.
    fn load_with(
        &self,
        before: Vec<String>,
        after: Vec<String>,
    ) -> Result<Settings, ConfigProblems> {
        let overrides = before
            .into_iter()
            .chain(self.set.iter().cloned())
            .chain(after)
            .collect();
        let settings = load(&ConfigSources::of_process(self.config.clone(), overrides))?;
        // Only librdkafka knows its properties, and `config` does not know librdkafka.
        let refused = refused_properties(&settings.kafka)
            .into_iter()
            .map(|(table, key, why)| {
                let fix = "see CONFIGURATION.md of librdkafka for the property and its values";
                ConfigProblem::new(
                    KeyPath::of("kafka").key(table).key(&key),
                    format!("is rejected by librdkafka: {why}"),
                    fix,
                )
            });
        match refused.collect::<Vec<_>>() {
            none if none.is_empty() => {
                script::allow(settings.streams.iter().map(|stream| &stream.model));
                Ok(settings)
            }
            list => Err(ConfigProblems {
                file: self.config.clone(),
                list,
            }),
        }
    }

    /// Reads and validates all layers.
    pub(super) fn load(&self) -> Result<Settings, ConfigProblems> {
        self.load_with(Vec::new(), Vec::new())
    }

    /// One stream of the configuration; without a name, the only one.
    pub(super) fn stream(&self, name: Option<&str>) -> anyhow::Result<StreamSettings> {
        stream_of(&self.load()?, name).cloned()
    }
}

/// One stream of a configuration; without a name, the only one.
pub(super) fn stream_of<'s>(
    settings: &'s Settings,
    name: Option<&str>,
) -> anyhow::Result<&'s StreamSettings> {
    let streams = &settings.streams;
    let names = || {
        streams
            .iter()
            .map(|stream| stream.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (name, &streams[..]) {
        (None, [only]) => Ok(only),
        (None, _) => bail!("--stream NAME is needed: the configuration has {}", names()),
        (Some(name), _) => match streams.iter().find(|stream| stream.name == name) {
            Some(found) => Ok(found),
            None => bail!(
                "the configuration has no stream {name:?}; it has {}",
                names()
            ),
        },
    }
}

/// A stream of images with the built-in settings (and the defaults of the configuration, if one is
/// named).
///
/// The flags override `preset` (`key=value`).
pub(super) fn stream_of_images(
    config: &ConfigArgs,
    preset: Vec<String>,
) -> anyhow::Result<StreamSettings> {
    let of_images = vec![
        format!("streams.{REPLAY}.input.topic={REPLAY}"),
        format!("streams.{REPLAY}.record.format=image"),
    ];
    made_up(config.load_with(preset, of_images)?)
}

fn made_up(settings: Settings) -> anyhow::Result<StreamSettings> {
    match settings
        .streams
        .into_iter()
        .find(|stream| stream.name == REPLAY)
    {
        Some(stream) => Ok(stream),
        None => bail!("the flags do not define a stream"),
    }
}

/// A stream with the built-in settings (and the defaults of the configuration, if one is named)
/// whose fields are columns of a file.
///
/// The flags override `preset` (`key=value`).
pub(super) fn stream_of_fields(
    config: &ConfigArgs,
    fields: &[String],
    preset: Vec<String>,
) -> anyhow::Result<StreamSettings> {
    // A JSON string is a TOML string.
    let field = |name: &String| {
        format!(
            "{{ name = {text}, path = [{text}] }}",
            text = serde_json::Value::from(name.as_str())
        )
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    let of_fields = vec![
        format!("streams.{REPLAY}.input.topic={REPLAY}"),
        format!("streams.{REPLAY}.record.fields=[{}]", fields.join(", ")),
    ];
    made_up(config.load_with(preset, of_fields)?)
}
