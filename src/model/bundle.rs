//! A bundle: one immutable, versioned model with all that belongs to it, in a folder named by its
//! content.
//!
//! Contract: `<dir>/<stream>/<id>/` holds `manifest.json`, `weights.safetensors` and
//! `calibration.json`, and appears whole or not at all, however the writer dies. [`Bundle::load`]
//! gives exactly what was saved or an error: each file is held against its hash before it is read,
//! and every number is checked before it is used.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use super::calibration::{Calibration, CalibrationError};
use super::denoiser::Denoiser;
use super::disk::{self, DiskError};
use super::encoder::Encoder;
use super::manifest::{FORMAT, Manifest, ManifestError, OLDEST_FORMAT, Origin};
use super::weights::{self, WeightsError};
use super::{Autoencoder, ModelError, from_weights, use_one_thread};
use crate::record::alert::ChartKind;

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
    /// The autoencoder with memory whose residual has a chart; `None` where it is not worth one.
    pub denoiser: Option<Denoiser>,
    /// What images go through before the model; `None` for the kinds that look at no features.
    pub encoder: Option<Encoder>,
}

/// Why a bundle could not be made, saved or loaded.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The file system said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The bundle was written by a newer version.
    #[error(
        "{} has bundle format {found}, but this version reads formats {OLDEST_FORMAT} to {FORMAT}: update outlierd, or promote an older bundle",
        .path.display()
    )]
    NewerFormat {
        /// Its manifest.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// The bundle was written by an older version.
    #[error(
        "{} has bundle format {found}, but this version reads formats {OLDEST_FORMAT} to {FORMAT}: train a new bundle",
        .path.display()
    )]
    OlderFormat {
        /// Its manifest.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// A file is not what was written.
    #[error(
        "{} is damaged: {problem}; copy the bundle again from an intact copy, or promote another one with `outlierd model promote`",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A bundle whose parts were changed after it was made.
    #[error(
        "the content of bundle {id} no longer matches its id: create a new bundle from the changed parts"
    )]
    Changed {
        /// The id that it was made with.
        id: String,
    },
    /// The manifest cannot be.
    #[error("invalid bundle manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// The calibration does not fit the model.
    #[error("invalid bundle calibration: {0}")]
    Calibration(#[from] CalibrationError),
    /// The weights could not be written.
    #[error("invalid bundle weights: {0}")]
    Weights(#[from] WeightsError),
    /// The encoder is not to be had.
    #[error(transparent)]
    Encoder(ModelError),
    /// A value that JSON cannot hold.
    #[error("cannot serialize the bundle as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Bundle {
    /// Joins a trained model with its calibration; the id follows from the content. `created` is
    /// the clock of the caller.
    ///
    /// # Errors
    /// Parts that do not fit each other.
    pub fn new(
        origin: Origin,
        calibration: Calibration,
        model: Box<dyn Autoencoder>,
        denoiser: Option<Denoiser>,
        created: Timestamp,
    ) -> Result<Self, BundleError> {
        let shape = model.shape().clone();
        calibration.validate(&shape)?;
        charted(&calibration, denoiser.as_ref())?;
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
        manifest.files = hashes(&contents(&calibration, model.as_ref(), denoiser.as_ref())?);
        manifest.id = manifest.content_id()?;
        let encoder = Encoder::of(&manifest.shape).map_err(BundleError::Encoder)?;
        Ok(Self {
            manifest,
            calibration,
            model,
            denoiser,
            encoder,
        })
    }

    /// The id: 32 hexadecimal digits, the same for the same content.
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Writes the bundle to `<dir>/<stream>/<id>/` and returns that path; where it already stands,
    /// it is only checked.
    ///
    /// # Errors
    /// The file system's, a damaged bundle already under this id, or parts that were changed since
    /// [`Bundle::new`].
    pub fn save(&self, dir: &Path) -> Result<PathBuf, BundleError> {
        let files = contents(
            &self.calibration,
            self.model.as_ref(),
            self.denoiser.as_ref(),
        )?;
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
            // The first error is the one to report; what stays behind is cleaned by a later
            // `Registry::open`.
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
    /// A file that is missing, damaged, or written by a newer version; each error names the file
    /// and what to do.
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
        let mut weights = weights::decode(&read_hashed(&weights_path, WEIGHTS, &manifest)?)
            .map_err(damaged(&weights_path))?;
        let denoiser = Denoiser::take(&mut weights, manifest.shape.scored())
            .map_err(damaged(&weights_path))?;
        charted(&calibration, denoiser.as_ref()).map_err(damaged(&calibration_path))?;
        let model = from_weights(&manifest.shape, weights).map_err(damaged(&weights_path))?;
        let encoder = Encoder::of(&manifest.shape).map_err(BundleError::Encoder)?;
        Ok(Self {
            manifest,
            calibration,
            model,
            denoiser,
            encoder,
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
        if format < OLDEST_FORMAT {
            return Err(BundleError::OlderFormat {
                path,
                found: format,
            });
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(damaged(&path))?;
        manifest.validate().map_err(damaged(&path))?;
        let id = manifest.content_id()?;
        if id != manifest.id {
            return Err(damaged(&path)(format!(
                "its id is {:?}, but its content has the id {id:?}",
                manifest.id
            )));
        }
        Ok(manifest)
    }
}

/// There is a chart of the denoiser's residual exactly where there is a denoiser.
fn charted(calibration: &Calibration, denoiser: Option<&Denoiser>) -> Result<(), CalibrationError> {
    let mut charts = calibration.charts.iter();
    let is_charted = charts.any(|chart| chart.kind == ChartKind::Autoencoder);
    match is_charted == denoiser.is_some() {
        true => Ok(()),
        false => Err(CalibrationError::Denoiser { is_charted }),
    }
}

/// The files of a bundle besides its manifest.
fn contents(
    calibration: &Calibration,
    model: &dyn Autoencoder,
    denoiser: Option<&Denoiser>,
) -> Result<[(&'static str, Vec<u8>); 2], BundleError> {
    let mut weights = model.weights();
    weights.extend(denoiser.into_iter().flat_map(Denoiser::weights));
    Ok([
        (WEIGHTS, weights::encode(&weights)?),
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
            "its hash is {found}, but {MANIFEST} has {expected}"
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
pub(super) mod tests;
