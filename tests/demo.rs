//! The demonstration, small, from the command line: it goes through every step, loses no record,
//! and counts what it found.

use std::fs;
use std::process::Command;

use serde_json::Value;

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn a_small_demonstration_runs_to_its_summary() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let out = Command::new(env!("CARGO_BIN_EXE_outlierd"))
        .args(["demo", "--pumps", "3", "--hours", "8"])
        .arg("--json")
        .arg(at("summary.json"))
        .arg("--alerts")
        .arg(at("alerts.jsonl"))
        // The folder of the daemon's state is made there, and removed.
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );

    let steps: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("ok ")?.split(' ').next())
        .collect();
    let of_one = ["broker", "topics", "daemon", "learning", "training", "live"];
    assert_eq!(steps, of_one.repeat(2), "{text}");

    let summary: Value =
        serde_json::from_str(&fs::read_to_string(at("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["learned_records"], 3 * 1_440);
    assert_eq!(summary["scored_records"], 3 * 4_320);
    assert_eq!(summary["dead_letters"], 0);
    let faults = summary["faults"].as_array().unwrap();
    assert!(!faults.is_empty(), "the plan has faults in that time");
    let caught = faults
        .iter()
        .filter(|fault| fault["result"] == "detected")
        .count();
    assert_eq!(summary["faults_detected"], caught);

    let alerts = fs::read_to_string(at("alerts.jsonl")).unwrap();
    let alerts: Vec<Value> = alerts
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let opened: Vec<&str> = alerts
        .iter()
        .filter(|alert| alert["event"] == "open")
        .map(|alert| alert["series"].as_str().unwrap())
        .collect();
    // Those of the pumps with signals are behind them.
    let first = opened.iter().filter(|pump| **pump < "pump-03").count();
    assert_eq!(summary["alerts"], first);
    let opened = opened.len();
    assert!(first > 0 && opened > first, "{opened}, {first}");
    let shown = text
        .lines()
        .filter(|line| line.contains("Z  ") && line.contains("pump-") && !line.contains("worse: "))
        .count();
    assert_eq!(shown, opened, "every opening has its line:\n{text}");

    let signals = summary["signals"].as_array().unwrap();
    let named = |name: &str| signals.iter().any(|found| found["signal"] == name);
    for name in [
        "off at night",
        "steps of 2 K",
        "sensor lost",
        "lasting fault",
    ] {
        assert!(named(name), "{name}: {signals:?}");
    }

    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        left.len(),
        2,
        "only the two files that were asked for are left: {left:?}"
    );
}
