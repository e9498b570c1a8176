//! `outlierd check`: is the configuration good?

use std::process::ExitCode;

use super::config_args::ConfigArgs;
use super::connect::connect;

/// Validate a configuration and list every problem (exit code 64). `run` does so as well, before it
/// starts. With --connect, ask the brokers, topics, rights and newest records as well, and the schema
/// registry where alerts are in Avro, and list what would go wrong (exit code 1).
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd check --config /etc/outlierd/outlierd.toml\n  outlierd check --connect --config /etc/outlierd/outlierd.toml"
)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask the brokers, and read the newest 100 records of each stream
    #[arg(long)]
    connect: bool,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    for stream in &settings.streams {
        println!(
            "stream {}: {} fields from topic {}, model {}, threshold {:?}, alerts to {}",
            stream.name,
            stream.record.fields.len(),
            stream.input.topic,
            stream.model.kind.as_str(),
            stream.threshold.kind,
            stream.output.alerts
        );
    }
    println!("the configuration is valid");
    if !args.connect {
        return Ok(ExitCode::SUCCESS);
    }
    let findings = connect(&settings);
    for note in &findings.notes {
        println!("  {note}");
    }
    for problem in &findings.problems {
        println!("PROBLEM {problem}");
    }
    if findings.problems.is_empty() {
        println!("nothing found that would go wrong");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
