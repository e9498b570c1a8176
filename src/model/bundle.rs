//! A bundle: one immutable, versioned model with all that belongs to it, in a folder named by its content.
//!
//! Contract: `<dir>/<stream>/<id>/` holds `manifest.json`, `weights.safetensors` and `calibration.json`, and appears whole or
//! not at all, however the writer dies. [`Bundle::load`] gives exactly what was saved or an error: each file is held
//! against its hash before it is read, and every number is checked before it is used.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use super::calibration::{Calibration, CalibrationError};
use super::disk::{self, DiskError};
use super::manifest::{FORMAT, Manifest, ManifestError, Origin};
use super::weights::{self, WeightsError};
use super::{Autoencoder, from_weights, use_one_thread};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// The file name of the weights.
pub const WEIGHTS: &str = "weights.safetensors";
/// The calibration's file name.
pub const CALIBRATION: &str = "calibration.json";

/// A model with its calibration and manifest.
pub struct Bundle {
    /// What it is.
    pub manifest: Manifest,
    /// What normal data look like to it.
    pub calibration: Calibration,
    /// The trained model.
    pub model: Box<dyn Autoencoder>,
}

/// Why a bundle could not be made, saved or loaded.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The file system said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The bundle was written by a newer version.
    #[error(
        "{} has bundle format {found}, this version reads up to {FORMAT}: update outlierd, or promote an older bundle",
        .path.display()
    )]
    NewerFormat {
        /// Its manifest.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// A file is not what was written.
    #[error(
        "{} is damaged: {problem}; copy the bundle anew from where it is whole, or make another one live with `outlierd model promote`",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A bundle whose parts were changed after it was made.
    #[error("bundle {id} is no longer what its id names: make a new bundle of the changed parts")]
    Changed {
        /// The id that it was made with.
        id: String,
    },
    /// The manifest cannot be.
    #[error("the bundle's manifest cannot be: {0}")]
    Manifest(#[from] ManifestError),
    /// The calibration does not fit the model.
    #[error("the bundle's calibration cannot be: {0}")]
    Calibration(#[from] CalibrationError),
    /// The weights could not be written.
    #[error("the bundle's weights cannot be: {0}")]
    Weights(#[from] WeightsError),
    /// A value that JSON cannot hold.
    #[error("the bundle cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Bundle {
    /// Joins a trained model with its calibration; the id follows from the content. `created` is the clock of the caller.
    ///
    /// # Errors
    /// Parts that do not fit each other.
    pub fn new(
        origin: Origin,
        calibration: Calibration,
        model: Box<dyn Autoencoder>,
        created: Timestamp,
    ) -> Result<Self, BundleError> {
        let shape = model.shape().clone();
        calibration.validate(&shape)?;
        let mut manifest = Manifest {
            format: FORMAT,
            id: String::new(),
            created,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            shape,
            origin,
            files: BTreeMap::new(),
        };
        manifest.validate()?;
        manifest.files = hashes(&contents(&calibration, model.as_ref())?);
        manifest.id = manifest.content_id()?;
        Ok(Self {
            manifest,
            calibration,
            model,
        })
    }

    /// The id: 32 hexadecimal digits, the same for the same content.
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Writes the bundle to `<dir>/<stream>/<id>/` and returns that path; where it already stands, it is only checked.
    ///
    /// # Errors
    /// The file system's, a damaged bundle already under this id, or parts that were changed since [`Bundle::new`].
    pub fn save(&self, dir: &Path) -> Result<PathBuf, BundleError> {
        let files = contents(&self.calibration, self.model.as_ref())?;
        if hashes(&files) != self.manifest.files || self.manifest.content_id()? != self.manifest.id
        {
            return Err(BundleError::Changed {
                id: self.manifest.id.clone(),
            });
        }
        let folder = dir.join(&self.manifest.origin.stream);
        let path = folder.join(self.id());
        if path.exists() {
            return Self::load(&path).map(|_| path);
        }
        disk::create_folders(&folder)?;
        let temp = disk::with_temp(&folder, self.id(), disk::create_folder)?;
        let finished = self.write_files(&temp, &files).and_then(|()| {
            fs::rename(&temp, &path)
                .map_err(|source| disk::failed("rename a folder to", &path)(source).into())
        });
        if finished.is_err() {
            // The first error is the one to report; what stays behind is cleaned by a later `Registry::open`.
            let _ = fs::remove_dir_all(&temp);
            if path.exists() {
                // Another writer of the same content was faster.
                return Self::load(&path).map(|_| path);
            }
        }
        finished?;
        for folder in [folder.as_path(), dir] {
            disk::sync_folder(folder)?;
        }
        Ok(path)
    }

    fn write_files(
        &self,
        folder: &Path,
        files: &[(&'static str, Vec<u8>)],
    ) -> Result<(), BundleError> {
        let manifest = (MANIFEST, serde_json::to_vec_pretty(&self.manifest)?);
        for (name, bytes) in files.iter().chain([&manifest]) {
            disk::write_synced(&folder.join(name), bytes)?;
        }
        Ok(disk::sync_folder(folder)?)
    }

    /// Loads the bundle in the folder `path`.
    ///
    /// # Errors
    /// A file that is missing, damaged, or written by a newer version; each error names the file and what to do.
    pub fn load(path: &Path) -> Result<Self, BundleError> {
        use_one_thread();
        let manifest = Self::load_manifest(path)?;
        let calibration_path = path.join(CALIBRATION);
        let calibration: Calibration =
            serde_json::from_slice(&read_hashed(&calibration_path, CALIBRATION, &manifest)?)
                .map_err(damaged(&calibration_path))?;
        calibration
            .validate(&manifest.shape)
            .map_err(damaged(&calibration_path))?;
        let weights_path = path.join(WEIGHTS);
        let weights = weights::decode(&read_hashed(&weights_path, WEIGHTS, &manifest)?)
            .map_err(damaged(&weights_path))?;
        let model = from_weights(&manifest.shape, weights).map_err(damaged(&weights_path))?;
        Ok(Self {
            manifest,
            calibration,
            model,
        })
    }

    /// Loads and checks the manifest of the bundle in the folder `path`, without its model.
    ///
    /// # Errors
    /// As [`Bundle::load`].
    pub fn load_manifest(path: &Path) -> Result<Manifest, BundleError> {
        /// What every format, however new, is known to have.
        #[derive(Deserialize)]
        struct AnyFormat {
            format: u32,
        }
        let path = path.join(MANIFEST);
        let bytes = disk::read(&path)?;
        let AnyFormat { format } = serde_json::from_slice(&bytes).map_err(damaged(&path))?;
        if format > FORMAT {
            return Err(BundleError::NewerFormat {
                path,
                found: format,
            });
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(damaged(&path))?;
        manifest.validate().map_err(damaged(&path))?;
        let id = manifest.content_id()?;
        if id != manifest.id {
            return Err(damaged(&path)(format!(
                "it says id {:?}, its content has id {id:?}",
                manifest.id
            )));
        }
        Ok(manifest)
    }
}

/// The files of a bundle besides its manifest.
fn contents(
    calibration: &Calibration,
    model: &dyn Autoencoder,
) -> Result<[(&'static str, Vec<u8>); 2], BundleError> {
    Ok([
        (WEIGHTS, weights::encode(&model.weights())?),
        (CALIBRATION, serde_json::to_vec(calibration)?),
    ])
}

fn hashes(files: &[(&'static str, Vec<u8>)]) -> BTreeMap<String, String> {
    files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), blake3::hash(bytes).to_hex().to_string()))
        .collect()
}

/// Reads the file `name` at `path` once it is proven to be the one that the manifest means.
fn read_hashed(path: &Path, name: &str, manifest: &Manifest) -> Result<Vec<u8>, BundleError> {
    let bytes = disk::read(path)?;
    let found = blake3::hash(&bytes).to_hex();
    match manifest.files.get(name) {
        Some(expected) if expected == found.as_str() => Ok(bytes),
        Some(expected) => Err(damaged(path)(format!(
            "its hash is {found}, {MANIFEST} says {expected}"
        ))),
        None => Err(damaged(path)(format!("{MANIFEST} does not list it"))),
    }
}

fn damaged<E: ToString>(path: &Path) -> impl FnOnce(E) -> BundleError {
    let path = path.to_owned();
    move |problem| BundleError::Damaged {
        path,
        problem: problem.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::config::settings::{ModelKind, Over, Training};
    use crate::model::calibration::FieldNormal;
    use crate::model::manifest::{FieldInfo, Metrics, Segment};
    use crate::model::scaler::Scaler;
    use crate::model::shape::ModelShape;
    use crate::model::train;
    use crate::record::EventTime;

    fn rows() -> Vec<f32> {
        (0..300).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    /// A small trained bundle of stream `pumps`; another seed gives another id.
    pub(in crate::model) fn example(kind: ModelKind, seed: u64, created: i64) -> Bundle {
        let hidden = if kind == ModelKind::Dense {
            vec![4]
        } else {
            vec![]
        };
        let shape = ModelShape::new(kind, 1, 3, &hidden, 1);
        let training = Training {
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
        };
        let (values, starts) = (rows(), (0..300).step_by(3).collect::<Vec<_>>());
        let rows = train::Rows {
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
            },
        };
        let calibration = Calibration {
            over: Over::Record,
            scaler: Scaler {
                mean: vec![0.1, 1.0 / 3.0, -2e9],
                sd: vec![1e-3, std::f64::consts::PI, 2e6],
            },
            residual_mean: vec![0.1 + 0.2, -0.0, 1e-17],
            residual_sd: vec![f64::MIN_POSITIVE, 1.0, 123_456.789_012_345_67],
            covariance: vec![1.0, 0.1, 0.0, 0.1, 2.0 / 7.0, 0.0, 0.0, 0.0, 3.3e-300],
            scores: (1..200).map(|i| f64::from(i).sqrt().ln_1p()).collect(),
            series_rows: 199,
            fields: vec![
                FieldNormal {
                    movement: 0.7,
                    longest_run: 3,
                    range: [-1.0, 2.5],
                    step: Some(4.0)
                };
                3
            ],
            period_micros: 1_000_000,
            peaks: None,
        };
        Bundle::new(
            origin,
            calibration,
            trained.model,
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
            // Saved once more, here and elsewhere, it is still the same bundle, and nothing unfinished is left.
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
        changed.calibration.scores[7] += 1e-9;
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
        assert!(
            matches!(refusal(&path), BundleError::Disk(error) if error.path.ends_with(WEIGHTS))
        );
    }

    #[test]
    fn a_newer_format_is_refused_whatever_else_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join(MANIFEST),
            r#"{"format": 2, "new": {"layout": true}}"#,
        )
        .unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, BundleError::NewerFormat { found: 2, .. }));
        assert!(
            error
                .to_string()
                .contains("format 2, this version reads up to 1: update outlierd"),
            "{error}"
        );
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let refuse = |change: fn(&mut Origin, &mut Calibration)| {
            let Bundle {
                manifest,
                mut calibration,
                model,
            } = example(ModelKind::Linear, 1, 1);
            let mut origin = manifest.origin;
            change(&mut origin, &mut calibration);
            Bundle::new(origin, calibration, model, Timestamp::UNIX_EPOCH)
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
        let short = refuse(|_, calibration| calibration.residual_sd.truncate(1));
        assert!(
            short.contains("residual_sd has 1 entries, 3 are needed"),
            "{short}"
        );
    }
}
