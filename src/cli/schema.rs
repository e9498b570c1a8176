//! `outlierd schema`: the schemas of what goes in and out, those of `schemas/`.

use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use schemars::schema_for;

use super::config_args::ConfigArgs;
use crate::events::published::PublishedEvent;
use crate::record::alert::{Alert, DeadLetter};
use crate::record::score::RecordScore;
use crate::share::control::ControlMessage;
use crate::sink::avro::{ALERT_SCHEMA, SCORE_SCHEMA};

/// Print a JSON Schema: of the records of a stream, of what outlierd publishes, or of the
/// configuration; or the Avro schema of alerts or scores.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd schema alert\n  outlierd schema record --config outlierd.toml --stream pumps"
)]
pub(super) struct Args {
    /// Which schema
    #[arg(value_enum)]
    what: SchemaName,
    /// Stream of the configuration, for `record` [default: the only one]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum SchemaName {
    /// Input records of a stream
    Record,
    /// Alerts
    Alert,
    /// Alerts in Avro (output.format = "avro")
    AlertAvro,
    /// Scores, on the topic output.scores
    Score,
    /// Scores in Avro
    ScoreAvro,
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
        SchemaName::Alert => schema_for!(Alert).to_value(),
        SchemaName::AlertAvro => serde_json::from_str(ALERT_SCHEMA)?,
        SchemaName::Score => schema_for!(RecordScore).to_value(),
        SchemaName::ScoreAvro => serde_json::from_str(SCORE_SCHEMA)?,
        SchemaName::DeadLetter => schema_for!(DeadLetter).to_value(),
        SchemaName::Event => schema_for!(PublishedEvent).to_value(),
        SchemaName::Control => schema_for!(ControlMessage).to_value(),
        SchemaName::Config => crate::config::json_schema(),
        SchemaName::Record => {
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
