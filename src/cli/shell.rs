//! `outlierd completions` and `outlierd man`: made from the flags themselves.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

/// Print the completions of a shell.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd completions bash > /etc/bash_completion.d/outlierd\n  outlierd completions zsh > /usr/local/share/zsh/site-functions/_outlierd"
)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write the man pages, one a command, into a folder.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  outlierd man /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// The folder, which exists
    folder: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut command = Cli::command();
    clap_complete::generate(args.shell, &mut command, "outlierd", &mut std::io::stdout());
    ExitCode::SUCCESS
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let folder = &args.folder;
    let written = clap_mangen::generate_to(Cli::command(), folder);
    written.with_context(|| format!("cannot write man pages to {}", folder.display()))?;
    println!("man pages written to {}", folder.display());
    Ok(ExitCode::SUCCESS)
}
