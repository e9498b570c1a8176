//! What is saved and loaded, and what is refused.

use std::ops::ControlFlow;

use super::*;
use crate::model::calibration::{ChartCalibration, FieldNormal};
use crate::model::manifest::{FieldInfo, Metrics, Segment};
use crate::model::scaler::Scaler;
use crate::model::shape::ModelShape;
use crate::model::train;
use crate::model::{ModelKind, ResidualScope, TrainingSettings};
use crate::record::EventTime;
use crate::record::alert::ChartKind;

fn rows() -> Vec<f32> {
    (0..300).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// How the examples are trained.
fn training(seed: u64) -> TrainingSettings {
    TrainingSettings {
        effective_records: 5,
        records_max: 40_000,
        span_max: std::time::Duration::from_secs(86_400),
        records: 100,
        seed,
        epochs: 2,
        batch: 16,
        learning_rate: 3e-3,
        weight_decay: 1e-2,
        noise: 0.3,
        patience: 5,
        trim: 0.05,
        tiles: 256,
        masks: 0,
        folds: 4,
    }
}

/// Numbers that a careless codec would change.
fn calibration() -> Calibration {
    Calibration {
        scope: ResidualScope::Record,
        scaler: Scaler {
            mean: vec![0.1, 1.0 / 3.0, -2e9],
            sd: vec![1e-3, std::f64::consts::PI, 2e6],
        },
        charts: vec![ChartCalibration {
            kind: ChartKind::Variance,
            mean: vec![0.1 + 0.2, -0.0, 1e-17],
            sd: vec![f64::MIN_POSITIVE, 1.0, 123_456.789_012_345_67],
            covariance: vec![1.0, 0.1, 0.0, 0.1, 2.0 / 7.0, 0.0, 0.0, 0.0, 3.3e-300],
            scores: (1..200).map(|i| f64::from(i).sqrt().ln_1p()).collect(),
        }],
        innovation: (0..54).map(|i| (i as f32 / 7.0).sin()).collect(),
        adjusted: Vec::new(),
        states: None,
        differences: vec![0.1, 1.0, 2.0 / 3.0],
        lift: 0.0,
        series_rows: 199,
        steps: Vec::new(),
        seasons: Vec::new(),
        fields: vec![
            FieldNormal {
                movement: 0.7,
                longest_run: 3,
                rest: 0.0,
                moving_run: 2,
                mean_run: 1.5,
                range: [-1.0, 2.5],
                step: Some(4.0),
                counter_resets: None,
            };
            3
        ],
        period_micros: 1_000_000,
        peaks: None,
    }
}

/// A small trained bundle of stream `pumps`; another seed gives another id.
pub(in crate::model) fn example(kind: ModelKind, seed: u64, created: i64) -> Bundle {
    let hidden = if kind == ModelKind::Dense {
        vec![4]
    } else {
        vec![]
    };
    let shape = ModelShape::new(kind, 1, 3, &hidden, 1);
    let training = training(seed);
    let (values, starts) = (rows(), (0..300).step_by(3).collect::<Vec<_>>());
    let rows = train::TrainingWindows {
        values: &values,
        train: &starts,
        held_out: &[],
    };
    let trained = train::fit(rows, &shape, None, &training, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    let field = |name: &str| FieldInfo {
        name: name.to_owned(),
        path: vec![name.to_owned()],
        unit: Some("bar".to_owned()),
        states: Vec::new(),
    };
    let origin = Origin {
        stream: "pumps".to_owned(),
        fields: ["a", "b", "c"].map(field).to_vec(),
        training,
        rows: 100,
        learned_from: vec![Segment {
            series: "a".into(),
            from: EventTime(0),
            until: EventTime(99_000_000),
        }],
        metrics: Metrics {
            epochs: 2,
            train_loss: trained.train_loss,
            holdout_loss: trained.holdout_loss,
            denoising_ratio: None,
            linear_ratio: None,
        },
    };
    Bundle::new(
        origin,
        calibration(),
        trained.model,
        None,
        Timestamp::from_second(created).unwrap(),
    )
    .unwrap()
}

fn outputs(bundle: &Bundle) -> Vec<u32> {
    let y = bundle.model.reconstruct(&rows()).unwrap();
    y.into_iter().map(f32::to_bits).collect()
}

fn refusal(path: &Path) -> BundleError {
    match Bundle::load(path) {
        Ok(_) => panic!("accepted {}", path.display()),
        Err(error) => error,
    }
}

#[test]
fn what_is_loaded_is_what_was_saved_bit_for_bit() {
    for kind in [ModelKind::Dense, ModelKind::Linear] {
        let dir = tempfile::tempdir().unwrap();
        let bundle = example(kind, 1, 1_700_000_000);
        let path = bundle.save(dir.path()).unwrap();
        assert_eq!(path, dir.path().join("pumps").join(bundle.id()));
        let loaded = Bundle::load(&path).unwrap();
        assert_eq!(loaded.manifest, bundle.manifest);
        assert_eq!(loaded.calibration, bundle.calibration);
        assert_eq!(outputs(&loaded), outputs(&bundle));
        // Saved once more, here and elsewhere, it is still the same bundle, and nothing unfinished
        // is left.
        assert_eq!(loaded.save(dir.path()).unwrap(), path);
        let elsewhere = tempfile::tempdir().unwrap();
        let copy = loaded.save(elsewhere.path()).unwrap();
        for file in [MANIFEST, WEIGHTS, CALIBRATION] {
            assert_eq!(
                fs::read(copy.join(file)).unwrap(),
                fs::read(path.join(file)).unwrap()
            );
        }
        assert_eq!(fs::read_dir(dir.path().join("pumps")).unwrap().count(), 1);
    }
}

#[test]
fn the_id_is_that_of_the_content() {
    let id = example(ModelKind::Dense, 1, 1).id().to_owned();
    assert_eq!(id.len(), 32);
    assert_eq!(
        example(ModelKind::Dense, 1, 999).id(),
        id,
        "the time of making is not content"
    );
    assert_ne!(example(ModelKind::Dense, 2, 1).id(), id);
    let mut changed = example(ModelKind::Dense, 1, 1);
    changed.calibration.charts[0].scores[7] += 1e-9;
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        changed.save(dir.path()),
        Err(BundleError::Changed { .. })
    ));
}

#[test]
fn a_flipped_bit_or_a_cut_in_any_file_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = example(ModelKind::Linear, 1, 1).save(dir.path()).unwrap();
    for file in [MANIFEST, WEIGHTS, CALIBRATION] {
        let file = path.join(file);
        let whole = fs::read(&file).unwrap();
        let cut = whole[..whole.len() / 2].to_vec();
        let flips = (0..whole.len()).step_by(whole.len() / 23).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        });
        for bytes in flips.chain([cut, Vec::new()]) {
            // `created` is not part of the id: a change there alone goes unseen.
            let created = |bytes: &[u8]| {
                serde_json::from_slice(bytes)
                    .map(|manifest: Manifest| manifest.created)
                    .ok()
            };
            if created(&bytes).is_some_and(|found| Some(found) != created(&whole)) {
                continue;
            }
            fs::write(&file, &bytes).unwrap();
            let message = refusal(&path).to_string();
            assert!(message.contains(&file.display().to_string()), "{message}");
            assert!(
                message.contains("damaged") && message.contains("model promote"),
                "{message}"
            );
        }
        fs::write(&file, whole).unwrap();
    }
    Bundle::load(&path).unwrap();
    fs::remove_file(path.join(WEIGHTS)).unwrap();
    assert!(matches!(refusal(&path), BundleError::Disk(error) if error.path.ends_with(WEIGHTS)));
}

#[test]
fn a_newer_format_is_refused_whatever_else_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join(MANIFEST),
        r#"{"format": 3, "new": {"layout": true}}"#,
    )
    .unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, BundleError::NewerFormat { found: 3, .. }));
    assert!(
        error
            .to_string()
            .contains("format 3, but this version reads formats 2 to 2: update outlierd"),
        "{error}"
    );
}

#[test]
fn an_older_format_is_refused_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(MANIFEST), r#"{"format": 1}"#).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, BundleError::OlderFormat { found: 1, .. }));
    assert!(error.to_string().contains("train a new bundle"), "{error}");
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let refuse = |change: fn(&mut Origin, &mut Calibration)| {
        let Bundle {
            manifest,
            mut calibration,
            model,
            ..
        } = example(ModelKind::Linear, 1, 1);
        let mut origin = manifest.origin;
        change(&mut origin, &mut calibration);
        Bundle::new(origin, calibration, model, None, Timestamp::UNIX_EPOCH)
            .err()
            .map(|error| error.to_string())
            .unwrap()
    };
    let fields = refuse(|origin, _| origin.fields.truncate(2));
    assert!(
        fields.contains("2 fields are named, the model's shape has 3"),
        "{fields}"
    );
    let stream = refuse(|origin, _| origin.stream = "../pumps".to_owned());
    assert!(stream.contains("stream name \"../pumps\""), "{stream}");
    let loss = refuse(|origin, _| origin.metrics.train_loss = f64::NAN);
    assert!(loss.contains("train_loss is NaN"), "{loss}");
    let short = refuse(|_, calibration| calibration.charts[0].sd.truncate(1));
    assert!(
        short.contains("charts.sd has 1 entries, 3 are needed"),
        "{short}"
    );
}
