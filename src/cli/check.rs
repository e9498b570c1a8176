//! `outlierd check`: is the configuration good?

use std::process::ExitCode;

use super::config_args::ConfigArgs;

/// Validate a configuration and list every problem (exit code 64). `run` does so as well, before it
/// starts.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  outlierd check --config /etc/outlierd/outlierd.toml")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
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
    Ok(ExitCode::SUCCESS)
}
