//! The command line: one command a file, and the exit codes.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it failed; the message names the remedy |
//! | 2 | flags that do not fit (clap) |
//! | 64 | the configuration has problems; each is listed |
//! | 65 | the input data cannot be used |
//! | 75 | another outlierd has the state folder open: try again when it has stopped |

mod check;
mod config_args;
mod connect;
mod demo;
mod evaluate;
mod feedback;
mod file_run;
mod image_files;
mod init;
mod input_args;
mod model;
mod replay;
mod run;
mod schema;
mod shell;
mod state;
mod status;
mod tap;
mod topic_range;
mod topic_sample;
mod train;

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use comfy_table::{Row, Table, presets};

use crate::app::AppError;
use crate::config::ConfigProblems;
use crate::decode::file::ReadError;
use crate::failure::Failure as _;
use crate::state::StoreError;

/// Streaming anomaly detection: reads sensor records from Kafka, scores them with an autoencoder,
/// publishes alerts.
#[derive(Parser)]
#[command(name = "outlierd", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Demo(demo::Args),
    Check(check::Args),
    Init(init::Args),
    Tap(tap::Args),
    Train(train::Args),
    Replay(replay::Args),
    Evaluate(evaluate::Args),
    State(state::Args),
    Model(model::Args),
    Feedback(feedback::Args),
    Schema(schema::Args),
    Status(status::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// Parses the flags, runs the command and prints the error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    crate::model::use_one_thread();
    let done = match cli.command {
        Command::Run(args) => run::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Init(args) => init::main(&args),
        Command::Tap(args) => tap::main(&args),
        Command::Train(args) => train::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Evaluate(args) => evaluate::main(&args),
        Command::State(args) => state::main(&args),
        Command::Model(args) => model::main(&args),
        Command::Feedback(args) => feedback::main(&args),
        Command::Schema(args) => schema::main(&args),
        Command::Status(args) => status::main(&args),
        Command::Completions(args) => Ok(shell::completions(&args)),
        Command::Man(args) => shell::man(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            say_error(&error);
            ExitCode::from(code(&error))
        }
    }
}

/// Whether to colour what goes to a stream: on a terminal, unless NO_COLOR is set to something
/// (<https://no-color.org>).
fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A table of a command's output.
fn table(header: impl Into<Row>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}

/// The exit code of an error, by the most specific error of its chain.
fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<ConfigProblems>() {
            return 64;
        }
        if cause.is::<ReadError>() {
            return 65;
        }
        let store = cause
            .downcast_ref::<StoreError>()
            .or(match cause.downcast_ref::<AppError>() {
                Some(AppError::Store(store)) => Some(store),
                _ => None,
            });
        if store.is_some_and(StoreError::is_retryable) {
            return 75;
        }
    }
    1
}

/// Prints an error and its causes on stderr, each cause once (a transparent error repeats the one
/// inside it).
#[expect(
    clippy::print_stderr,
    reason = "the one place where commands report their failure"
)]
fn say_error(error: &anyhow::Error) {
    let mut text = String::new();
    let mut last = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let line = cause.to_string();
        if line == last {
            continue;
        }
        let _ = if depth == 0 {
            write!(text, "error: {line}")
        } else {
            write!(text, "\n  because: {line}")
        };
        last = line;
    }
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rdkafka::error::KafkaError;

    use super::*;
    use crate::failure::Domain;
    use crate::sink::topics::TopicError;
    use crate::source::cluster::Unreachable;

    #[test]
    fn the_exit_codes_are_those_of_the_readme() {
        let locked = || StoreError::Locked {
            path: PathBuf::from("state"),
        };
        let full = StoreError::Access {
            stream: "pumps".into(),
            action: "written",
            domain: Domain::External,
            detail: "no space left".into(),
        };
        let problems = ConfigProblems {
            file: None,
            list: Vec::new(),
        };
        let empty = ReadError::Empty {
            file: "in.csv".into(),
        };
        // A command does not wait for brokers, and yet its failure is a plain one.
        let source = KafkaError::Canceled;
        let away = Unreachable::new("kafka:9092", source.to_string(), source);
        for (error, due) in [
            (anyhow::Error::new(problems), 64),
            (anyhow::Error::new(empty).context("training"), 65),
            (anyhow::Error::new(locked()), 75),
            (anyhow::Error::new(AppError::from(locked())), 75),
            (anyhow::Error::new(AppError::from(full)), 1),
            (
                anyhow::Error::new(AppError::from(TopicError::from(away))),
                1,
            ),
            (anyhow::anyhow!("anything else"), 1),
        ] {
            assert_eq!(code(&error), due, "{error:#}");
        }
    }
}
