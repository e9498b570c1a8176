//! Makes the built programs find libtorch at run time, and refuses a libtorch of another version.
//!
//! `LIBTORCH` comes from `.cargo/config.toml` (the folder that `scripts/setup` fills) or from the
//! user's environment.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The pins that `scripts/setup` fetches by; they name the version that our `tch` is made for.
const PINS: &str = include_str!("scripts/libtorch.txt");

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=scripts/libtorch.txt");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    match libtorch_home() {
        Ok(home) => {
            link(&home.join("lib"));
            ExitCode::SUCCESS
        }
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

/// Rpaths, so that the program starts from any folder and with nothing exported.
fn link(lib: &Path) {
    println!("cargo::rerun-if-changed={}", lib.display());
    // First that of an installed program (bin/outlierd beside lib/outlierd/): it must not reach
    // into the folder where it was built.
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/outlierd");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

fn libtorch_home() -> Result<PathBuf, String> {
    let home = env::var_os("LIBTORCH").map(PathBuf::from);
    let home =
        home.ok_or("LIBTORCH is not set: run cargo inside the repository, after scripts/setup")?;
    if !home.join("lib/libtorch_cpu.so").is_file() {
        return Err(format!(
            "no libtorch in {}: run scripts/setup",
            home.display()
        ));
    }
    let wanted = pinned_version().ok_or("scripts/libtorch.txt pins no torch")?;
    match version(&home) {
        Some(found) if found == wanted => Ok(home),
        found => Err(format!(
            "libtorch {wanted} is needed, {} holds {}: run scripts/setup, or correct LIBTORCH",
            home.display(),
            found.as_deref().unwrap_or("one of unknown version"),
        )),
    }
}

fn pinned_version() -> Option<&'static str> {
    PINS.lines()
        .find_map(|line| line.strip_prefix("torch=="))?
        .split_whitespace()
        .next()
}

/// As libtorch's own header says it; a folder copied out of a Python environment has no other mark.
fn version(home: &Path) -> Option<String> {
    let header = std::fs::read_to_string(home.join("include/torch/headeronly/version.h")).ok()?;
    let (_, after) = header.split_once("#define TORCH_VERSION \\")?;
    after.split('"').nth(1).map(str::to_owned)
}
