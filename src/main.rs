//! The `outlierd` command: flags in, exit code out. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    outlierd::cli::main()
}
