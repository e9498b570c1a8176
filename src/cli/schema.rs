//! `outlierd schema`: the JSON Schemas of what goes in and out, those of `schemas/`.

use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use schemars::schema_for;

use super::config_args::ConfigArgs;
use crate::events::published::Published;
use crate::record::alert::{Alert, DeadLetter};
use crate::share::control::Control;

/// Print a JSON Schema: of the records of a stream, of what outlierd publishes, or of the configuration.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd schema alert\n  outlierd schema record --config outlierd.toml --stream pumps"
)]
pub(super) struct Args {
    /// Which schema
    #[arg(value_enum)]
    what: What,
    /// Stream of the configuration, for `record` [default: the only one]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Input records of a stream
    Record,
    /// Alerts
    Alert,
    /// Records that could not be used
    DeadLetter,
    /// Events of the models, on the topic share.events
    Event,
    /// Feedback and orders, on the topic share.control
    Control,
    /// The configuration file
    Config,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let schema = match args.what {
        What::Alert => schema_for!(Alert).to_value(),
        What::DeadLetter => schema_for!(DeadLetter).to_value(),
        What::Event => schema_for!(Published).to_value(),
        What::Control => schema_for!(Control).to_value(),
        What::Config => crate::config::json_schema(),
        What::Record => {
            let stream = args.config.stream(args.stream.as_deref())?;
            if stream.image.is_some() {
                bail!(
                    "the records of stream {} are images, which have no JSON Schema; see docs/images.md",
                    stream.name
                );
            }
            crate::decode::schema::record_schema(&stream.record)
        }
    };
    println!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(ExitCode::SUCCESS)
}
