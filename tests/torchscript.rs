//! Modules exported from Python: only what the configuration names by its checksum runs, and only
//! if it fits.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers included"
)]

mod test_stream;
mod two_fields;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::model::bundle::Bundle;
use outlierd::model::encoder::Encoder;
use outlierd::model::script::{self, ScriptError};
use outlierd::model::shape::ModelShape;
use outlierd::model::{ModelError, from_weights};
use sha2::{Digest, Sha256};
use two_fields::{bundle, stream, values};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

/// The stream `s` with this module, which the process is then allowed to run.
fn with_module(path: &Path, sha256: &str) -> Arc<StreamSettings> {
    let mut stream = StreamSettings::clone(&stream(&[
        "window=3",
        "model.kind=torchscript",
        &format!("model.script={}", path.display()),
        &format!("model.sha256={sha256}"),
    ]));
    stream.model.script = Some(path.to_owned());
    stream.model.sha256 = sha256.to_owned();
    script::allow([&stream.model]);
    Arc::new(stream)
}

fn refusal(stream: &StreamSettings) -> ScriptError {
    let shape = ModelShape::of(&stream.model, stream.window, 2);
    match from_weights(&shape, std::collections::BTreeMap::new()) {
        Err(ModelError::Script(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was loaded"),
    }
}

#[test]
fn a_named_module_is_calibrated_saved_and_loaded_like_any_model() {
    let path = golden("line.pt");
    let stream = with_module(&path, &sha256(&path));
    let made = bundle(&stream, &["a", "b"]);
    assert_eq!(made.manifest.shape.script.as_deref(), Some(&*sha256(&path)));
    let folder = tempfile::tempdir().unwrap();
    let loaded = Bundle::load(&made.save(folder.path()).unwrap()).unwrap();
    assert_eq!(loaded.id(), made.id());
    let z: Vec<f32> = (0..3)
        .flat_map(|second| values(0, second, 0.0))
        .map(|x| x as f32)
        .collect();
    let y = loaded.model.reconstruct(&z).unwrap();
    // Both readings become their mean: the part along (1, 1).
    for (z, y) in z.chunks(2).zip(y.chunks(2)) {
        let mean = f32::midpoint(z[0], z[1]);
        assert!(y.iter().all(|y| (y - mean).abs() < 1e-5), "{z:?} {y:?}");
    }
    assert!(matches!(
        loaded.model.encode(&z),
        Err(ModelError::NoCode { .. })
    ));
}

#[test]
fn a_file_with_another_checksum_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.pt");
    let mut bytes = fs::read(golden("line.pt")).unwrap();
    bytes.push(0);
    fs::write(&path, &bytes).unwrap();
    let named = "ab".repeat(32);
    let error = refusal(&with_module(&path, &named));
    assert!(
        matches!(&error, ScriptError::Checksum { expected, found, .. } if *expected == named && *found == sha256(&path))
    );
    assert!(error.to_string().contains("it is not loaded"), "{error}");
}

#[test]
fn a_module_that_no_configuration_names_is_not_loaded() {
    let mut stream = StreamSettings::clone(&with_module(
        &golden("line.pt"),
        &sha256(&golden("line.pt")),
    ));
    stream.model.script = Some(golden("line.pt"));
    stream.model.sha256 = "cd".repeat(32);
    assert!(matches!(refusal(&stream), ScriptError::NotAllowed { .. }));
}

#[test]
fn a_module_that_does_not_fit_is_refused_by_its_trial() {
    let of = |name: &str| {
        let path = golden(name);
        refusal(&with_module(&path, &sha256(&path)))
    };
    assert!(matches!(of("batch.pt"), ScriptError::Rows { .. }));
    let error = of("short.pt");
    assert!(
        error
            .to_string()
            .contains("gives Float of size [16, 1, 2] for f32 of size [16, 3, 2]"),
        "{error}"
    );
    assert!(
        matches!(of("module.py"), ScriptError::Module { .. }),
        "no module at all"
    );
}

#[test]
fn a_backbone_runs_only_where_it_is_named_and_gives_maps() {
    let named = |file: &str, sha256: &str| {
        let mut model = stream(&[]).model.clone();
        model.backbone = Some(golden(file));
        model.backbone_sha256 = sha256.to_owned();
        script::allow([&model]);
        Encoder::new(Some(sha256))
    };
    let own = |file: &str| sha256(&golden(file));
    named("pyramid.pt", &own("pyramid.pt")).unwrap();
    let refused = |file: &str, sha256: &str| named(file, sha256).unwrap_err().to_string();
    let error = refused("blur.pt", &own("blur.pt"));
    assert!(
        error.contains("returns no tuple of tensors for f32 of size [2, 3, 64, 96]"),
        "{error}"
    );
    let error = refused("pyramid.pt", &"ef".repeat(32));
    assert!(
        error.contains("but model.backbone_sha256 is efef"),
        "{error}"
    );
    let error = Encoder::new(Some(&"01".repeat(32)))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("in model.backbone and model.backbone_sha256"),
        "{error}"
    );
}

#[test]
fn a_replay_scores_with_the_module_and_refuses_a_wrong_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.csv"), folder.path().join("out.csv"));
    let mut text = String::from("x,y\n");
    for second in 0..600 {
        let shift = if second >= 500 { 4.0 } else { 0.0 };
        let [x, y] = values(0, second, shift)[..] else {
            panic!("two readings")
        };
        writeln!(text, "{x},{y}").unwrap();
    }
    fs::write(&input, text).unwrap();
    let replay = |sha256: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outlierd"));
        command
            .args(["replay", "--train-rows", "400"])
            .arg(&input)
            .arg("--out")
            .arg(&out);
        for setting in [
            "window=3".to_owned(),
            "model.kind=torchscript".to_owned(),
            format!("model.script={}", golden("line.pt").display()),
            format!("model.sha256={sha256}"),
        ] {
            command.args(["--set", &format!("defaults.{setting}")]);
        }
        command.output().unwrap()
    };
    let ran = replay(&sha256(&golden("line.pt")));
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let found = fs::read_to_string(&out).unwrap();
    let alerting = |from: usize, until: usize| {
        found
            .lines()
            .skip(1 + from)
            .take(until - from)
            .filter(|line| line.split(',').nth(4) == Some("1"))
            .count()
    };
    assert!(
        alerting(500, 600) > 50 && alerting(400, 500) < 10,
        "{} {}",
        alerting(500, 600),
        alerting(400, 500)
    );
    let refused = replay(&"0".repeat(64));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("it is not loaded"),
        "{text}"
    );
}
