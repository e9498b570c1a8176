//! Makes the built programs find libtorch at run time, and says what to do where there is none.
//!
//! `LIBTORCH` comes from `.cargo/config.toml` (the folder that `scripts/setup` fills) or from the user's environment.
//! No dependencies, so that this check is compiled and run before the long builds of torch-sys and librdkafka.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

/// The version that our `tch` is made for.
const LIBTORCH_VERSION: &str = "2.13.0";

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-changed=build.rs");

    let home = libtorch_home();
    let lib = home.join("lib");
    println!("cargo::rerun-if-changed={}", lib.display());

    // An rpath of the program itself, so that it starts from any folder and with nothing exported.
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

fn libtorch_home() -> PathBuf {
    let Some(home) = env::var_os("LIBTORCH").map(PathBuf::from) else {
        fail("LIBTORCH is not set: run cargo inside the repository, after scripts/setup");
    };
    if !home.join("lib/libtorch_cpu.so").is_file() {
        fail(&format!("no libtorch in {}: run scripts/setup", home.display()));
    }
    match version(&home) {
        Some(found) if found == LIBTORCH_VERSION => home,
        found => fail(&format!(
            "libtorch {LIBTORCH_VERSION} is needed, {} holds {}: run scripts/setup, or correct LIBTORCH",
            home.display(),
            found.as_deref().unwrap_or("one of unknown version"),
        )),
    }
}

/// As libtorch's own header says it; a folder copied out of a Python environment has no other mark.
fn version(home: &Path) -> Option<String> {
    let header = std::fs::read_to_string(home.join("include/torch/headeronly/version.h")).ok()?;
    let (_, after) = header.split_once("#define TORCH_VERSION \\")?;
    after.split('"').nth(1).map(str::to_owned)
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1);
}
