//! The `outlierd` command: flags in, exit code out. Everything else is in the library.

use std::process::ExitCode;

/// Its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    outlierd::cli::main()
}
