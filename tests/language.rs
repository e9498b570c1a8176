//! The texts that users read keep to the terms of CONTRIBUTING.md, "Style": no phrase that was
//! replaced comes back.
//!
//! Checked are the documents, the comments of the configurations, the schemas, the `--help` of
//! every command, and the texts in the sources: errors, log lines, reports.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Phrases that were replaced, each with the term to use.
const REPLACED: &[(&str, &str)] = &[
    ("told", "reported, configured with, given"),
    ("is said", "is logged, is reported"),
    ("are said", "are logged, are reported"),
    ("and said", "and logged, and reported"),
    ("comes to", "is, results in, reaches"),
    ("came to", "was, resulted in, reached"),
    ("goes on", "continues, resumes"),
    ("go on", "continue, resume"),
    ("went on", "continued, resumed"),
    ("held fast", "pinned"),
    ("hold fast", "pin"),
    ("holds fast", "pins"),
    ("to heart", "applied"),
    ("strange", "anomalous"),
    ("stranger", "more anomalous"),
    ("strangest", "most anomalous"),
    ("stands", "is, occurs"),
    ("anew", "again, from the start"),
    ("of its own", "its own"),
    ("of their own", "their own"),
    ("of your own", "your own"),
    ("let go of", "unpin, release"),
    ("lets go", "unpins, releases"),
    ("brought back", "rolled back"),
    ("brings back", "rolls back"),
    ("goes back", "rewinds, rolls back"),
    ("go back", "rewind, roll back"),
    ("went back", "rewound, rolled back"),
    ("way back", "rollback"),
    ("way out", "what to do"),
    ("proved itself", "passed its promotion tests"),
    ("proves itself", "passes its promotion tests"),
    ("learned from", "trained on"),
    ("learn from", "train on"),
    ("learns from", "trains on"),
    ("made good", "restored"),
    ("makes good", "restores"),
    ("mended", "fixed"),
    ("mends", "fixes"),
    ("held against", "compared with"),
    ("judged", "evaluated, scored"),
    ("judges", "evaluates, scores"),
    ("at fault", "invalid, faulty"),
    ("believed", "valid"),
    ("for ever", "forever"),
    ("by itself", "automatically"),
    ("by themselves", "automatically"),
    ("sees again", "recovered"),
    ("caught", "detected"),
    ("catches", "detects"),
    ("asked for", "requested"),
    ("asks for", "requests, requires"),
    ("taken in", "imported"),
    ("set aside", "renamed"),
    ("takes the place of", "replaces"),
    ("could not be made", "cannot create"),
    ("a number that is none", "not a number"),
    ("is no number", "is not a number"),
    ("is no text", "is not text"),
    ("is no file", "is not a file"),
    ("blind", "degraded"),
    ("cadence", "send interval"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The replaced phrases in a text, each with the words around it and the term to use.
fn found(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    let lower = text.to_ascii_lowercase();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (phrase, term) in REPLACED {
        for (at, _) in lower.match_indices(phrase) {
            let before = lower[..at].chars().next_back();
            let after = lower[at + phrase.len()..].chars().next();
            if before.is_some_and(is_word) || after.is_some_and(is_word) {
                continue;
            }
            let from = (0..=at.saturating_sub(40))
                .rev()
                .find(|&i| text.is_char_boundary(i));
            let until = (at + phrase.len() + 40..text.len()).find(|&i| text.is_char_boundary(i));
            let around = &text[from.unwrap_or(0)..until.unwrap_or(text.len())];
            found.push(format!("{phrase:?} in {around:?}: write {term}"));
        }
    }
    found
}

/// The files below a folder with one of these endings, by their paths from the root.
fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        if path.is_dir() {
            all.extend(files(name, endings));
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            all.push(name.to_owned());
        }
    }
    all.sort();
    all
}

fn assert_none(all: Vec<(String, Vec<String>)>) {
    let wrong: Vec<String> = all
        .into_iter()
        .flat_map(|(name, texts)| {
            let found: Vec<String> = texts.iter().flat_map(|text| found(text)).collect();
            found
                .into_iter()
                .map(move |found| format!("{name}: {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn documents_configurations_and_schemas_use_the_terms() {
    let mut names = files("docs", &[".md"]);
    names.extend(files("config", &[".toml"]));
    names.extend(files("schemas", &[".json"]));
    names.extend(files("systemd", &[".service"]));
    names.extend(
        [
            "README.md",
            "CHANGELOG.md",
            "CONTRIBUTING.md",
            "ARCHITECTURE.md",
        ]
        .map(String::from),
    );
    assert!(names.len() > 15, "{names:?}");
    assert_none(
        names
            .into_iter()
            .map(|name| {
                let text = fs::read_to_string(root().join(&name)).unwrap();
                // A phrase may go over a line, in a comment of a configuration too.
                let text = text.replace("\n# ", "\n").replace("\\n", " ");
                (name, vec![text])
            })
            .collect(),
    );
}

/// The help of a command, and of all below it.
fn help(command: &[&str]) -> Vec<(String, Vec<String>)> {
    let output = Command::new(env!("CARGO_BIN_EXE_outlierd"))
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let below: Vec<String> = text
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // A name has two spaces before it; the lines that go on with its text have more.
        .filter_map(|line| {
            line.strip_prefix("  ")
                .filter(|rest| !rest.starts_with(' '))
        })
        .filter_map(|rest| rest.split(' ').next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    let name = format!("outlierd {} --help", command.join(" "));
    let mut all = vec![(name, vec![text])];
    for name in &below {
        all.extend(help(&[command, &[name.as_str()]].concat()));
    }
    all
}

#[test]
fn the_help_of_every_command_uses_the_terms() {
    let all = help(&[]);
    assert!(all.len() > 20, "{}", all.len());
    assert_none(all);
}

/// The string literals of Rust code, up to its unit tests.
fn literals(code: &str) -> Vec<String> {
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut literals = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|&c| c != '\n').is_some() {},
            '\'' => skip_char(&mut chars),
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next().filter(|&c| c != '"') {
                    match c {
                        // A line that goes on, a quote, a line end: all of them separate words or
                        // do not matter.
                        '\\' => {
                            let escaped = chars.next();
                            text.push(if escaped == Some('\n') { ' ' } else { '\\' });
                        }
                        c => text.push(c),
                    }
                }
                literals.push(text);
            }
            _ => {}
        }
    }
    literals
}

/// Steps over a character literal, which may be a quote; a lifetime needs nothing.
fn skip_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let mut ahead = chars.clone();
    let first = ahead.next();
    let closes = match first {
        Some('\\') => {
            ahead.next();
            true
        }
        _ => ahead.peek() == Some(&'\''),
    };
    if closes {
        while ahead.next().is_some_and(|c| c != '\'') {}
        *chars = ahead;
    }
}

/// A literal without what is no prose: placeholders, and keys and names of one word.
fn prose(literal: &str) -> String {
    let mut text = String::new();
    let mut depth = 0_usize;
    for c in literal.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c if depth == 0 => text.push(c),
            _ => {}
        }
    }
    if text.trim().contains(' ') {
        text
    } else {
        String::new()
    }
}

#[test]
fn errors_log_lines_and_reports_use_the_terms() {
    let sources: Vec<String> = files("src", &[".rs"])
        .into_iter()
        .filter(|name| !name.ends_with("tests.rs") && !name.ends_with("fixtures.rs"))
        .collect();
    let all: Vec<(String, Vec<String>)> = sources
        .into_iter()
        .map(|name| {
            let code = fs::read_to_string(root().join(&name)).unwrap();
            let texts = literals(&code).iter().map(|text| prose(text)).collect();
            (name, texts)
        })
        .collect();
    let texts: usize = all.iter().map(|(_, texts)| texts.len()).sum();
    assert!(texts > 1_000, "{texts}");
    assert_none(all);
}

#[test]
fn the_check_finds_phrases_in_words_and_over_lines() {
    assert_eq!(found("a lane\n  goes\n  on, and is stranded").len(), 1);
    assert_eq!(found("Strange: it was told").len(), 2);
    assert_eq!(found("untold, understands, anew_ and renewed").len(), 0);
    let code = "let a = '\"'; let b: &'static str = \"it \\\"stands\\\" \\\n   anew\"; // \"told\"\nlet c = '\\'';";
    let texts = literals(code);
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(found(&texts[0]).len(), 2);
}
