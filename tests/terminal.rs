//! What the commands print: schemas, help, and colours.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const OUTLIERD: &str = env!("CARGO_BIN_EXE_outlierd");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn stdout(args: &[&str]) -> String {
    let output = Command::new(OUTLIERD)
        .args(args)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The stream that schemas/record.schema.json is of.
const EXAMPLE: [&str; 2] = [
    "streams.pumps.record.key=field:pump",
    concat!(
        r#"streams.pumps.record.fields=[{name="flow", unit="l/min", min=0.0, max=200.0}, "#,
        r#"{name="pressure", unit="bar", min=-1.0, max=25.0}, "#,
        r#"{name="temp", path="motor.temp", unit="degC", min=-40.0}]"#,
    ),
];

#[test]
fn every_schema_of_the_repository_is_printed() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("schemas")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let avro = file
            .strip_suffix(".avsc")
            .map(|name| format!("{name}-avro"));
        let name = avro.as_deref().or(file.strip_suffix(".schema.json"));
        let name = name.unwrap();
        let mut args = vec!["schema", name];
        if name == "record" {
            args.extend(["--config", "config/example.toml"]);
            args.extend(EXAMPLE.iter().flat_map(|set| ["--set", set]));
        }
        let printed: Value = serde_json::from_str(&stdout(&args)).unwrap();
        let stored: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert!(printed == stored, "outlierd schema {name} is not {file}");
        seen += 1;
    }
    assert!(seen >= 9, "{seen} schemas");
}

/// The text of a help page with one space between its words.
fn help(command: &str) -> String {
    let text = stdout(&[command, "--help"]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn completions_and_man_pages_have_each_command() {
    let commands = ["run", "status", "evaluate", "feedback"];
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&["completions", shell]);
        assert!(
            commands.iter().all(|command| script.contains(command)),
            "{shell}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    stdout(&["man", folder.path().to_str().unwrap()]);
    for command in commands {
        let page = folder.path().join(format!("outlierd-{command}.1"));
        assert!(fs::read_to_string(page).unwrap().contains(".SH SYNOPSIS"));
    }
}

#[test]
fn train_and_model_say_the_same_of_when_a_bundle_goes_live() {
    let (train, model) = (help("train"), help("model"));
    let sentence = "A running daemon that uses the same model folder switches to the live bundle within seconds, \
        between two batches; while it trains a challenger, right after that.";
    assert!(train.contains(sentence), "{train}");
    assert!(model.contains(sentence), "{model}");
}

/// Runs the daemon on a terminal of its own, without a broker, until it waits for one; what the
/// terminal shows.
fn log_on_a_terminal(no_color: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display();
    let sets = [
        format!("service.state_dir=\"{dir}/state\""),
        format!("service.model_dir=\"{dir}/models\""),
        "service.http_listen=\"\"".to_owned(),
        "kafka.brokers=\"127.0.0.1:1\"".to_owned(),
    ];
    let sets: Vec<String> = sets.iter().map(|set| format!("--set '{set}'")).collect();
    // GNU or util-linux, as on every Debian: `script` gives the command a terminal.
    let command = format!(
        "exec timeout --preserve-status -s TERM 4 {OUTLIERD} run --config config/example.toml {}",
        sets.join(" ")
    );
    let mut run = Command::new("script");
    run.args(["-qec", &command, "/dev/null"])
        .current_dir(root())
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    if let Some(value) = no_color {
        run.env("NO_COLOR", value);
    }
    let shown = run.output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("state folder open"), "{shown}");
    shown
}

#[test]
fn no_color_is_heeded_on_a_terminal() {
    let coloured = log_on_a_terminal(None);
    assert!(coloured.contains("\u{1b}["), "no terminal? {coloured}");
    // An empty value is none: https://no-color.org
    assert!(log_on_a_terminal(Some("")).contains("\u{1b}["));
    let plain = log_on_a_terminal(Some("1"));
    assert!(!plain.contains("\u{1b}["), "{plain}");
}
