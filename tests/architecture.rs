//! Keeps the import rules of ARCHITECTURE.md and the cap on file length.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const LINES_MAX: usize = 500;

/// The steps of the path; none imports another.
const STEPS: [&str; 8] = [
    "source",
    "decode",
    "gate",
    "window",
    "score",
    "threshold",
    "episode",
    "sink",
];

/// Crates that only some modules may name, by their paths below `src`.
const CRATES: [(&str, &[&str]); 4] = [
    (
        "rdkafka",
        &[
            "state/changelog",
            "source",
            "sink",
            "lane",
            "share/history",
            "share/thread",
            "app",
            "cli/demo",
            "cli/feedback",
            "cli/topic_range",
        ],
    ),
    ("sled", &["state/sled"]),
    ("tch", &["model", "score"]),
    ("statrs", &["threshold", "retrain"]),
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Each source file with its path below `src`, without the ending, and its code without comments.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let of = |path: PathBuf| {
        let name = path
            .strip_prefix(&root)
            .unwrap()
            .with_extension("")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        (name, code.join("\n"))
    };
    rust_files(&root).into_iter().map(of).collect()
}

fn is_in(file: &str, module: &str) -> bool {
    file == module || file.starts_with(&format!("{module}/"))
}

/// Whether the code names a path that begins with `prefix` (`crate::gate`, `tch`).
fn names(code: &str, prefix: &str) -> bool {
    code.match_indices(prefix).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + prefix.len()..];
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        starts
            && (after.starts_with("::")
                || (prefix.contains("::") && !after.starts_with(char::is_alphanumeric)))
    })
}

#[test]
fn no_step_imports_another() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let Some(own) = STEPS.iter().find(|step| is_in(&file, step)) else {
            continue;
        };
        for step in STEPS.iter().filter(|step| *step != own) {
            // How to reach the brokers is one thing, used by both ends of the path.
            let shared_client = *own == "sink" && *step == "source";
            if names(&code, &format!("crate::{step}")) && !shared_client {
                wrong.push(format!("{file} imports {step}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "only pipeline joins the steps: {wrong:#?}"
    );
}

#[test]
fn record_imports_nothing_of_ours_and_nothing_imports_app_or_cli() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        if is_in(&file, "record") && names(&code, "crate") {
            wrong.push(format!("{file} imports something of the crate"));
        }
        for top in ["app", "cli"] {
            let allowed = is_in(&file, top) || is_in(&file, "cli") || file == "main";
            if names(&code, &format!("crate::{top}")) && !allowed {
                wrong.push(format!("{file} imports {top}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_foreign_crate_stays_behind_its_modules() {
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        for (name, modules) in CRATES {
            let allowed = modules.iter().any(|module| is_in(&file, module));
            if names(&code, name) && !allowed && !is_own_module(&code, name) {
                wrong.push(format!("{file} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `state::sled` is a module of ours with the name of the crate that it hides.
fn is_own_module(code: &str, name: &str) -> bool {
    name == "sled" && code.contains("pub mod sled")
}

/// Intervals are measured on the clock that only goes forward. The machine's own, which can jump, is read where a point in
/// time is meant.
#[test]
fn the_machines_clock_is_read_where_a_date_is_meant() {
    let allowed = [
        "record",
        "model/registry",
        "retrain/learn",
        "cli/demo",
        "cli/feedback",
    ];
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let reads = ["SystemTime::now", "Timestamp::now", "Zoned::now"]
            .iter()
            .any(|name| code.contains(name));
        if reads && !allowed.iter().any(|module| is_in(&file, module)) {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_stay_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in rust_files(&root.join(folder)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > LINES_MAX {
                wrong.push(format!("{} has {lines} lines", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "at most {LINES_MAX} lines: {wrong:#?}");
}
