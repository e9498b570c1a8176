//! `outlierd train` from the command line: with `--compare` every kind that fits is measured and the
//! chosen one goes live; a bundle replaces a live one only where it passes its tests.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers included"
)]

mod test_stream;
#[expect(dead_code, reason = "only its readings are needed here")]
mod two_fields;

#[expect(dead_code, reason = "the stream is a file here")]
mod test_images;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use two_fields::values;

/// Trains on two readings a second; the second one has up to five times `noise` more in the older
/// three quarters of the records.
fn train(folder: &Path, window: usize, noise: f64, flags: &[&str]) -> (Option<i32>, String) {
    let models = folder.join("models");
    let config = format!(
        "service.model_dir = {models:?}\nservice.state_dir = {state:?}\n[streams.s]\ninput.topic = \"t\"\nwindow = {window}\n\
         record.fields = [\"x\", \"y\"]\nmodel.hidden = [6]\nmodel.latent = 1\ntraining.epochs = 5\n\
         threshold.budget = \"2 per series per hour\"\n",
        state = folder.join("state"),
    );
    fs::write(folder.join("outlierd.toml"), config).unwrap();
    let mut text = String::from("x,y\n");
    for second in 0..1_500 {
        let noise = if second < 1_125 { noise } else { 0.0 };
        let noise = noise * (second * 37 % 11 - 5) as f64;
        let [x, y] = values(0, second, noise)[..] else {
            panic!("two readings")
        };
        writeln!(text, "{x},{y}").unwrap();
    }
    fs::write(folder.join("normal.csv"), text).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_outlierd"))
        .args(["train", "--config"])
        .arg(folder.join("outlierd.toml"))
        .arg(folder.join("normal.csv"))
        .args(flags)
        .output()
        .unwrap();
    let both = [ran.stdout, ran.stderr].concat();
    (ran.status.code(), String::from_utf8(both).unwrap())
}

fn compare(folder: &Path, window: usize) -> String {
    let (code, text) = train(folder, window, 0.0, &["--compare"]);
    assert_eq!(code, Some(0), "{text}");
    text
}

fn live(folder: &Path) -> String {
    fs::read_to_string(folder.join("models/s/current")).unwrap()
}

#[test]
fn a_bundle_trained_by_hand_replaces_the_live_one_only_where_it_passes_its_tests() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (code, text) = train(folder, 1, 0.0, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("promoted: stream s"), "{text}");
    let first = live(folder);
    let (code, text) = train(folder, 1, 0.0, &[]);
    assert_eq!(code, Some(0), "the older records are enough: {text}");
    let second = live(folder);
    assert_ne!(first, second);
    for test in [
        "reconstruction",
        "alert_budget",
        "injected_faults",
        "confirmed_faults",
    ] {
        assert!(text.contains(test), "{text}");
    }
    // Learned from faults, tested on normal records.
    let (code, text) = train(folder, 1, 1.0, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not promoted: it failed"), "{text}");
    assert_eq!(live(folder), second, "{text}");
    let (code, text) = train(folder, 1, 1.0, &["--no-promote"]);
    assert_eq!((code, live(folder)), (Some(0), second.clone()), "{text}");
    let (code, text) = train(folder, 1, 1.0, &["--force"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("trained by hand, without tests"), "{text}");
    assert_ne!(live(folder), second);
}

#[test]
fn kinds_over_images_are_compared_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("good")).unwrap();
    for (number, file) in test_images::pictures(280, |_| false).iter().enumerate() {
        fs::write(at(&format!("good/{number:03}.png")), file).unwrap();
    }
    let quick = test_images::QUICK
        .map(|setting| setting.replace("format=image", "format=\"image\"") + "\n")
        .concat();
    let config = format!(
        "service.model_dir = {:?}\nservice.state_dir = {:?}\n[streams.s]\ninput.topic = \"t\"\n{quick}training.epochs = 4\n",
        at("models"),
        at("state")
    );
    fs::write(at("outlierd.toml"), config).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_outlierd"))
        .args(["train", "--compare", "--config"])
        .args([at("outlierd.toml"), at("good")])
        .output()
        .unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(
        ran.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    for kind in ["linear", "conv2d", "vae2d", "unet"] {
        let row = text
            .lines()
            .find(|line| line.contains(&format!("{kind} ")) && line.contains(" us "))
            .unwrap();
        let caught: usize = row
            .split(" of 70")
            .next()
            .unwrap()
            .split_whitespace()
            .last()
            .unwrap()
            .parse()
            .unwrap();
        assert!(caught > 10, "{text}");
    }
    assert!(
        text.contains("is the cheapest kind") && text.contains("promoted"),
        "{text}"
    );
}

#[test]
fn the_kinds_that_fit_are_compared_and_the_chosen_one_goes_live() {
    for (window, kinds) in [
        (1, ["none", "linear", "dense", "vae"].as_slice()),
        (
            6,
            ["none", "linear", "dense", "vae", "conv", "conv_vae", "lstm"].as_slice(),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let text = compare(folder.path(), window);
        let rows: Vec<&str> = text
            .lines()
            .take_while(|line| !line.contains(" is the cheapest"))
            .filter(|line| line.contains(" us "))
            .filter_map(|line| line.trim_matches(['│', ' ', '|']).split_whitespace().next())
            .collect();
        assert_eq!(rows, kinds, "{text}");
        assert_eq!(text.matches("score.shrinkage").count(), 2, "{text}");
        let chosen = text
            .lines()
            .find_map(|line| Some(line.split_once(" is the cheapest")?.0))
            .unwrap();
        assert!(kinds.contains(&chosen), "{text}");
        let current = fs::read_to_string(folder.path().join("models/s/current")).unwrap();
        let manifest = folder
            .path()
            .join("models/s")
            .join(current.trim())
            .join("manifest.json");
        let manifest: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(manifest).unwrap()).unwrap();
        assert_eq!(manifest["shape"]["kind"], chosen, "{text}");
    }
}
