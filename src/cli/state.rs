//! `outlierd state`: what is stored of each series.

use std::fs::File;
use std::io::{BufReader, BufWriter, IntoInnerError};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::config_args::ConfigArgs;
use super::table;
use crate::model::registry::Registry;
use crate::pipeline::series::SeriesState;
use crate::pipeline::status::SeriesStatus;
use crate::state::codec::CodecError;
use crate::state::sled::SledStore;
use crate::state::{Store, codec, transfer};

/// Inspect, move or delete the stored states. Stop the daemon first: it locks the state folder.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd state list --config outlierd.toml\n  outlierd state show --config outlierd.toml pumps pump-07\n  outlierd state export --config outlierd.toml states.jsonl\n  outlierd state clear --config outlierd.toml pumps"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List streams, partitions, positions and series
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show a summary of one series, and its complete state
    Show {
        /// The stream
        stream: String,
        /// The series
        series: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Write all states, positions and training records to a file that is independent of version
    /// and storage engine
    Export {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Read such a file into an empty state folder
    Import {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Delete all states, positions and training records of a stream
    Clear {
        /// The stream
        stream: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

fn open(config: &ConfigArgs) -> anyhow::Result<SledStore> {
    Ok(SledStore::open_as_it_is(&config.load()?.service.state_dir)?)
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List { config } => list(&open(config)?)?,
        Command::Show {
            stream,
            series,
            config,
        } => show(config, stream, series)?,
        Command::Export { file, config } => {
            let store = open(config)?;
            let out =
                File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
            let mut out = BufWriter::new(out);
            let entries = transfer::export(&store, &mut out)?;
            out.into_inner()
                .map_err(IntoInnerError::into_error)?
                .sync_all()?;
            println!("{entries} entries written to {}", file.display());
        }
        Command::Import { file, config } => {
            let text =
                File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
            let imported = transfer::import(&open(config)?, &mut BufReader::new(text), is_state);
            println!(
                "{} entries read",
                imported.with_context(|| file.display().to_string())?
            );
        }
        Command::Clear { stream, config } => {
            open(config)?.clear(stream)?;
            println!("stream {stream}: cleared; it restarts at its group's committed offsets");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether bytes are the state of a series; one that is not is reported before anything is stored.
fn is_state(bytes: &[u8]) -> Result<(), CodecError> {
    codec::decode::<SeriesState>(bytes).map(drop)
}

fn list(store: &SledStore) -> anyhow::Result<()> {
    let mut table = table([
        "stream",
        "partition",
        "next offset",
        "series",
        "training records",
    ]);
    for stream in store.streams()? {
        let learned = store.learned(&stream)?.len();
        for (partition, offset) in store.positions(&stream)? {
            let series = store.count(&stream, partition)?;
            table.add_row([
                stream.clone(),
                partition.to_string(),
                offset.to_string(),
                series.to_string(),
                learned.to_string(),
            ]);
        }
    }
    println!("{table}");
    Ok(())
}

fn show(config: &ConfigArgs, stream: &str, series: &str) -> anyhow::Result<()> {
    let store = open(config)?;
    let settings = config.stream(Some(stream))?;
    let bundle = Registry::open(&config.load()?.service.model_dir)?.load_current(stream)?;
    let mut found = false;
    for (partition, _) in store.positions(stream)? {
        if let Some(bytes) = store.state(stream, partition, series)? {
            let state: SeriesState = codec::decode(&bytes)
                .with_context(|| format!("state of series {series} in partition {partition}"))?;
            println!("partition {partition}, {} bytes", bytes.len());
            let status = SeriesStatus::new(&settings, bundle.as_ref(), partition, series, &state);
            println!("{}", serde_json::to_string_pretty(&status)?);
            println!("{}", serde_json::to_string_pretty(&state)?);
            found = true;
        }
    }
    if !found {
        bail!(
            "stream {stream} has no series {series:?}; `outlierd state list` shows what is stored"
        );
    }
    Ok(())
}
