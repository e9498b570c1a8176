//! `outlierd evaluate` from the command line, on files whose figures are known beforehand.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers included"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn evaluate(arguments: &[&str], input: &Path, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outlierd"));
    command
        .arg("evaluate")
        .args(arguments)
        .arg(input)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap()
}

fn figures(out: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(out.join("figures.json")).unwrap()).unwrap()
}

/// Two fields that move together; from row `broken` on for 60 rows the second one goes its own way.
fn pump(rows: usize, broken: usize, seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut text = String::from("flow,pressure,anomaly\n");
    for row in 0..rows {
        let load = (row as f64 / 7.0).sin() + rng.random_range(-0.05..0.05);
        let anomaly = (broken..broken + 60).contains(&row);
        let pressure = if anomaly { 1.5 - load } else { load } + rng.random_range(-0.05..0.05);
        writeln!(text, "{load},{pressure},{}", u8::from(anomaly)).unwrap();
    }
    text
}

#[test]
fn a_folder_of_labelled_files_gets_its_figures_and_its_report() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("plant")).unwrap();
    for (name, seed) in [("plant/a.csv", 1), ("plant/b.csv", 2)] {
        fs::write(folder.path().join(name), pump(1_000, 700, seed)).unwrap();
    }
    let (input, out) = (folder.path().join("plant"), folder.path().join("out"));
    let flags = [
        "--label",
        "anomaly",
        "--train-rows",
        "400",
        "--set",
        "defaults.model.latent=1",
    ];
    let ran = evaluate(&flags, &input, &out);
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let found = figures(&out);
    let all = &found["all"];
    assert_eq!(
        (all["records"].as_u64(), all["anomalous"].as_u64()),
        (Some(1_200), Some(120))
    );
    // The scores of the records behind a fault are still falling.
    assert!(all["roc_auc"].as_f64().unwrap() > 0.9, "{all}");
    assert!(all["vus_pr"].as_f64().unwrap() > 0.5, "{all}");
    assert_eq!(all["fixed"]["delay"]["anomalies"], 2);
    assert_eq!(all["fixed"]["delay"]["found"], 2, "{all}");
    let names: Vec<&str> = found["sequences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b"]);
    let counted = [
        "true_positives",
        "false_positives",
        "false_negatives",
        "true_negatives",
    ];
    assert_eq!(
        counted
            .iter()
            .map(|key| all["fixed"][key].as_u64().unwrap())
            .sum::<u64>(),
        1_200
    );
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("<h2>a</h2>") && page.contains("Plotly.newPlot"));
    assert!(
        !page.contains("<script src") && !page.contains("<link"),
        "it opens without a network"
    );
    assert!(String::from_utf8_lossy(&ran.stdout).contains("ROC AUC"));
}

/// One course a row: a pulse at reading 10, or at reading 25 where it is an anomaly.
fn strokes(normal: usize, anomalous: usize) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut text = String::from("class");
    (0..40).for_each(|at| write!(text, ",t{at}").unwrap());
    for row in 0..normal + anomalous {
        let (class, pulse) = if row < normal {
            ("1", 10.0)
        } else {
            ("2", 25.0)
        };
        write!(text, "\n{class}").unwrap();
        for at in 0..40 {
            let value =
                (-((f64::from(at) - pulse) / 3.0).powi(2)).exp() + rng.random_range(-0.1..0.1);
            write!(text, ",{value}").unwrap();
        }
    }
    text + "\n"
}

#[test]
fn courses_that_stand_alone_are_judged_as_a_whole() {
    for kind in ["linear", "dense", "conv", "lstm", "vae", "conv_vae"] {
        let folder = tempfile::tempdir().unwrap();
        let (input, out) = (folder.path().join("strokes.csv"), folder.path().join("out"));
        fs::write(&input, strokes(200, 30)).unwrap();
        let kind_set = format!("defaults.model.kind={kind}");
        let mut flags = vec![
            "--label",
            "class",
            "--normal",
            "1",
            "--wide",
            "--train-normal",
            "120",
            "--set",
            &kind_set,
        ];
        if matches!(kind, "conv" | "lstm" | "conv_vae") {
            flags.extend(["--set", "defaults.model.hidden=[8]"]);
        }
        let ran = evaluate(&flags, &input, &out);
        assert!(
            ran.status.success(),
            "{kind}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        let all = figures(&out)["all"].clone();
        assert_eq!(
            (all["records"].as_u64(), all["anomalous"].as_u64()),
            (Some(110), Some(30)),
            "{kind}"
        );
        assert_eq!(all["unscored"], 0, "{kind}");
        assert!(all["roc_auc"].as_f64().unwrap() > 0.99, "{kind}: {all}");
        assert!(all["fixed"]["f1"].as_f64().unwrap() > 0.85, "{kind}: {all}");
        assert!(
            all["fixed"]["delay"].is_null() && all["vus_pr"].is_null(),
            "{kind}: {all}"
        );
    }
}

#[test]
fn what_cannot_be_judged_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("pump.csv"), folder.path().join("out"));
    fs::write(&input, pump(300, 200, 1)).unwrap();
    let refusal = |flags: &[&str]| {
        let ran = evaluate(flags, &input, &out);
        assert!(!ran.status.success());
        String::from_utf8(ran.stderr).unwrap()
    };
    let text = refusal(&["--label", "fault", "--train-rows", "100"]);
    assert!(
        text.contains("no column \"fault\"") && text.contains("flow, pressure, anomaly"),
        "{text}"
    );
    let text = refusal(&[
        "--label",
        "anomaly",
        "--train-rows",
        "300",
        "--set",
        "defaults.model.latent=1",
    ]);
    assert!(text.contains("no rows are left for evaluation"), "{text}");
    let text = refusal(&["--label", "anomaly", "--wide", "--train-normal", "5000"]);
    assert!(
        text.contains("240 normal rows, fewer than --train-normal 5000"),
        "{text}"
    );
}
