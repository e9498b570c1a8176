//! `outlierd model`: the bundles, which of them is live, and why.

mod diff;
mod show;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::config_args::ConfigArgs;
use super::table;
use crate::model::manifest::{Manifest, Segment};
use crate::model::registry::{Registry, learned_from};
use crate::pipeline::load_fitting;
use crate::promotion::PromotionVerdict;

/// List, show, compare, promote, roll back and pin bundles, and request a training.
///
/// A running daemon that uses the same model folder switches to the live bundle within seconds,
/// between two batches; while it trains a challenger, right after that.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd model list --config outlierd.toml\n  outlierd model show --config outlierd.toml pumps\n  outlierd model promote --config outlierd.toml pumps 3f9a\n  outlierd model rollback --config outlierd.toml pumps"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// A bundle of a stream.
#[derive(clap::Args)]
struct BundleArg {
    /// The stream
    stream: String,
    /// The bundle's id, or a prefix of it [default: the live one]
    id: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// A stream.
#[derive(clap::Args)]
struct StreamArg {
    /// The stream
    stream: String,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Subcommand)]
enum Command {
    /// List the bundles of all streams
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show a bundle: its training data, the results of its promotion tests, and the smallest
    /// faults that it detects
    Show {
        #[command(flatten)]
        which: BundleArg,
        /// Print manifest and verdict as JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare two bundles
    Diff {
        /// The stream
        stream: String,
        /// Id of the first bundle, or a prefix of it
        a: String,
        /// Id of the second bundle [default: the live one]
        b: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Make a bundle the live one
    Promote {
        /// The stream
        stream: String,
        /// The bundle's id, or a prefix of it
        id: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Roll back: make the previously live bundle live again
    Rollback(StreamArg),
    /// Pin the live bundle: no automatic promotion or rollback
    Pin {
        #[command(flatten)]
        of: StreamArg,
        /// Unpin the live bundle
        #[arg(long)]
        off: bool,
    },
    /// Request a challenger from the running daemon now
    Challenge(StreamArg),
    /// List which bundle went live when and why
    History(StreamArg),
}

/// Note on a bundle whose training records were excluded later.
const TRAINED_ON_EXCLUDED: &str = "trained on a range that is now excluded";

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List { config } => list(config)?,
        Command::Show { which, json } => {
            let (registry, stream) = open(&which.config, &which.stream)?;
            let id = resolve(&registry, stream, which.id.as_deref())?;
            show::show(&registry, stream, &id, *json)?;
        }
        Command::Diff {
            stream,
            a,
            b,
            config,
        } => {
            let (registry, stream) = open(config, stream)?;
            let ids = [
                resolve(&registry, stream, Some(a))?,
                resolve(&registry, stream, b.as_deref())?,
            ];
            diff::diff(&registry, stream, &ids)?;
        }
        Command::Promote { stream, id, config } => {
            let (registry, stream) = open(config, stream)?;
            let id = registry.resolve(stream, id)?;
            load_fitting(&registry, &config.stream(Some(stream))?, &id)?;
            registry.promote(stream, &id, "promoted by hand")?;
            println!("stream {stream}: {id} is the live bundle");
        }
        Command::Rollback(of) => {
            let (registry, stream) = open(&of.config, &of.stream)?;
            let Some(id) = registry.previous(stream)? else {
                bail!(
                    "stream {stream}: no bundle was live before the current one; `outlierd model promote` makes any bundle live"
                );
            };
            load_fitting(&registry, &of.config.stream(Some(stream))?, &id)?;
            registry.promote(stream, &id, "rolled back by hand")?;
            println!("stream {stream}: {id} is the live bundle again");
        }
        Command::Pin { of, off } => {
            let (registry, stream) = open(&of.config, &of.stream)?;
            registry.flags(stream)?.pin(!off)?;
            let says = if *off { "is unpinned" } else { "is pinned" };
            println!("stream {stream}: the live bundle {says}");
        }
        Command::Challenge(of) => {
            let (registry, stream) = open(&of.config, &of.stream)?;
            registry.flags(stream)?.request_training()?;
            println!(
                "stream {stream}: training requested; the daemon's log and `outlierd model show` have the result"
            );
        }
        Command::History(of) => {
            let (registry, stream) = open(&of.config, &of.stream)?;
            history(&registry, stream)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The registry, and the stream's name once it is known to be configured.
fn open<'s>(config: &ConfigArgs, stream: &'s str) -> anyhow::Result<(Registry, &'s str)> {
    config.stream(Some(stream))?;
    Ok((Registry::open(&config.load()?.service.model_dir)?, stream))
}

fn resolve(registry: &Registry, stream: &str, id: Option<&str>) -> anyhow::Result<String> {
    match id {
        Some(prefix) => Ok(registry.resolve(stream, prefix)?),
        None => registry
            .current(stream)?
            .with_context(|| format!("stream {stream} has no live bundle yet")),
    }
}

fn list(config: &ConfigArgs) -> anyhow::Result<()> {
    let settings = config.load()?;
    let registry = Registry::open(&settings.service.model_dir)?;
    let mut table = table([
        "stream",
        "bundle",
        "live",
        "kind",
        "rows",
        "held-out error",
        "proof",
        "created",
    ]);
    for stream in &settings.streams {
        let pinned = registry.flags(&stream.name)?.is_pinned();
        let marked = registry.excluded_ranges(&stream.name)?.read()?;
        for bundle in registry.list(&stream.name)? {
            let live = match (bundle.current, pinned) {
                (true, true) => "live, pinned",
                (true, false) => "live",
                _ => "",
            };
            let mut cells = vec![stream.name.clone(), bundle.id.clone(), live.to_owned()];
            cells.extend(match &bundle.manifest {
                Ok(manifest) => {
                    let proof = proof(&registry, &stream.name, &bundle.id);
                    described(manifest, &proof, &marked)
                }
                Err(error) => {
                    let nothing = String::new;
                    [
                        error.to_string(),
                        nothing(),
                        nothing(),
                        nothing(),
                        nothing(),
                    ]
                }
            });
            table.add_row(cells);
        }
    }
    println!("{table}");
    Ok(())
}

/// What came of the tests of a bundle.
fn proof(registry: &Registry, stream: &str, id: &str) -> String {
    match PromotionVerdict::read(registry, stream, id).ok().flatten() {
        None => "-".into(),
        Some(verdict) if verdict.passed => "passed".into(),
        Some(verdict) => format!("failed: {}", verdict.failed().join(", ")),
    }
}

/// The cells of a bundle that can be read, behind its id.
fn described(m: &Manifest, proof: &str, marked: &[Segment]) -> [String; 5] {
    let proof = match learned_from(m, marked).next() {
        Some(_) => format!("{proof}; {TRAINED_ON_EXCLUDED}"),
        None => proof.to_owned(),
    };
    let held_out = m.origin.metrics.holdout_loss;
    [
        m.shape.kind.as_str().to_owned(),
        m.origin.rows.to_string(),
        held_out.map_or("-".into(), |loss| format!("{loss:.4}")),
        proof,
        m.created.to_string(),
    ]
}

fn history(registry: &Registry, stream: &str) -> anyhow::Result<()> {
    let mut table = table(["went live", "bundle", "why"]);
    for entry in registry.history(stream)?.entries()? {
        table.add_row([entry.at.to_string(), entry.bundle, entry.why]);
    }
    println!("{table}");
    Ok(())
}
