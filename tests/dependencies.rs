//! Every crate that is built in has a licence and a source that deny.toml allows, and is not banned
//! there.
//!
//! cargo-deny reads the same file, but takes minutes to build: scripts/test runs it only where it
//! is installed.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

struct Rules {
    licences: BTreeSet<String>,
    banned: BTreeSet<String>,
    registries: BTreeSet<String>,
}

impl Rules {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
        let file: Value = config::Config::builder()
            .add_source(config::File::from(path))
            .build()
            .and_then(config::Config::try_deserialize)
            .unwrap();
        let texts = |list: &Value, of: fn(&Value) -> &Value| {
            let texts = list.as_array().unwrap().iter();
            texts
                .map(|text| of(text).as_str().unwrap().to_owned())
                .collect()
        };
        Self {
            licences: texts(&file["licenses"]["allow"], |text| text),
            banned: texts(&file["bans"]["deny"], |entry| &entry["crate"]),
            registries: texts(&file["sources"]["allow-registry"], |text| text),
        }
    }

    /// Whether an SPDX expression can be met with the allowed licences alone. `/` is an old way to
    /// write OR.
    fn allow(&self, expression: &str) -> bool {
        let spaced = expression
            .replace('/', " OR ")
            .replace('(', " ( ")
            .replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = words.as_slice();
        self.any(&mut rest) && rest.is_empty()
    }

    fn any(&self, words: &mut &[&str]) -> bool {
        let mut holds = self.all(words);
        while take(words, "OR") {
            holds |= self.all(words);
        }
        holds
    }

    fn all(&self, words: &mut &[&str]) -> bool {
        let mut holds = self.one(words);
        while take(words, "AND") {
            holds &= self.one(words);
        }
        holds
    }

    fn one(&self, words: &mut &[&str]) -> bool {
        if take(words, "(") {
            return self.any(words) & take(words, ")");
        }
        let Some((licence, rest)) = words.split_first() else {
            return false;
        };
        *words = rest;
        let mut name = (*licence).to_owned();
        if take(words, "WITH")
            && let Some((exception, rest)) = words.split_first()
        {
            name = format!("{name} WITH {exception}");
            *words = rest;
        }
        self.licences.contains(&name)
    }
}

/// Takes the word off the front where it is there.
fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

/// The crates of this platform, as Cargo.lock has them.
fn packages() -> Vec<Value> {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    // Our own has no source.
    packages
        .filter(|package| !package["source"].is_null())
        .cloned()
        .collect()
}

#[test]
fn each_crate_is_one_that_deny_toml_allows() {
    let (rules, packages) = (Rules::read(), packages());
    let mut wrong = Vec::new();
    for package in &packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, licence, source) = (text("name"), text("license"), text("source"));
        if !rules.allow(licence) {
            wrong.push(format!("{name} is under {licence:?}"));
        }
        if rules.banned.contains(name) {
            wrong.push(format!("{name} is banned"));
        }
        let registry = source.strip_prefix("registry+").unwrap_or(source);
        if !rules.registries.contains(registry) {
            wrong.push(format!("{name} comes from {source:?}"));
        }
    }
    assert!(packages.len() > 100, "only {} crates", packages.len());
    assert!(wrong.is_empty(), "see deny.toml: {wrong:#?}");
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let rules = Rules::read();
    for (expression, allowed) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("(MIT OR GPL-3.0-only) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", false),
        ("MIT OR Apache-2.0 AND GPL-3.0-only", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("GPL-2.0 WITH Classpath-exception-2.0", false),
        ("AGPL-3.0", false),
        ("", false),
        ("MIT Apache-2.0", false),
    ] {
        assert_eq!(rules.allow(expression), allowed, "{expression:?}");
    }
}
