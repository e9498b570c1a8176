//! `outlierd model`: the bundles.

use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, presets};

use super::config_args::ConfigArgs;
use crate::model::registry::Registry;

/// List, show and promote bundles.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd model list --config outlierd.toml\n  outlierd model promote --config outlierd.toml pumps 3f9a"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the bundles of all streams
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show the manifest of a bundle
    Show {
        /// The stream
        stream: String,
        /// The bundle's id, or the start of it
        id: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Make a bundle the live one; a running daemon takes it at its next start
    Promote {
        /// The stream
        stream: String,
        /// The bundle's id, or the start of it
        id: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List { config } => list(config)?,
        Command::Show { stream, id, config } => {
            let registry = Registry::open(&config.load()?.service.model_dir)?;
            let bundle = registry.load(stream, &registry.resolve(stream, id)?)?;
            println!("{}", serde_json::to_string_pretty(&bundle.manifest)?);
        }
        Command::Promote { stream, id, config } => {
            let registry = Registry::open(&config.load()?.service.model_dir)?;
            let id = registry.resolve(stream, id)?;
            registry.promote(stream, &id)?;
            println!("stream {stream}: {id} is the live bundle");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(config: &ConfigArgs) -> anyhow::Result<()> {
    let settings = config.load()?;
    let registry = Registry::open(&settings.service.model_dir)?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["stream", "bundle", "live", "kind", "rows", "held-out error", "created"]);
    for stream in &settings.streams {
        for bundle in registry.list(&stream.name)? {
            let live = if bundle.current { "live" } else { "" };
            let row = match &bundle.manifest {
                Ok(m) => [
                    m.shape.kind.as_str().to_owned(),
                    m.origin.rows.to_string(),
                    m.origin.metrics.holdout_loss.map_or("-".into(), |loss| format!("{loss:.4}")),
                    m.created.to_string(),
                ],
                Err(error) => [error.to_string(), String::new(), String::new(), String::new()],
            };
            let mut cells = vec![stream.name.clone(), bundle.id.clone(), live.to_owned()];
            cells.extend(row);
            table.add_row(cells);
        }
    }
    println!("{table}");
    Ok(())
}
