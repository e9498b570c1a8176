//! A TorchScript module that was exported from Python, as a model.
//!
//! Contract: a module is code, so it runs only if its SHA-256 is named in the configuration
//! ([`allow`]), which is checked before anything of it is read. It takes `[n, window, values]` f32
//! in scaled units (each field less its mean, over its standard deviation) and gives as much back.
//! What it gives for a row must not depend on the other rows; a trial pass at each load sees to
//! that. It is not trained here: scaler, chart and threshold are fitted to it as to any other
//! model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tch::{CModule, Kind, TchError, Tensor};
use thiserror::Error;

use super::shape::ModelShape;
use super::{Autoencoder, DiskError, ModelError, by_tensor, disk};
use crate::model::ModelSettings;

/// The keys of the configuration that name a module, and the script that makes one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModuleKeys {
    file: &'static str,
    sha256: &'static str,
    exporter: &'static str,
}

/// Of a torchscript model.
const SCRIPT: ModuleKeys = ModuleKeys {
    file: "model.script",
    sha256: "model.sha256",
    exporter: "scripts/export-torchscript",
};
/// Of a backbone.
pub(super) const BACKBONE: ModuleKeys = ModuleKeys {
    file: "model.backbone",
    sha256: "model.backbone_sha256",
    exporter: "scripts/export-backbone",
};

/// Rows of the trial pass.
const TRIAL_ROWS: i64 = 16;
/// Results of one row in two batches may differ by this much, in scaled units.
const TRIAL_TOLERANCE: f64 = 1e-4;

/// The modules that the configuration of this process names: paths by SHA-256. It is one list for
/// the process, so that no way to a bundle, by command, registry or topic, leads past it.
static ALLOWED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// Why a module is no model.
#[derive(Debug, Error)]
pub enum ScriptError {
    /// Its checksum is not named.
    #[error(
        "the TorchScript module with SHA-256 {sha256} is not configured; set its file and checksum in {} and {} if you trust it",
        .keys.file, .keys.sha256
    )]
    NotAllowed {
        /// Where it would be named.
        keys: ModuleKeys,
        /// The checksum.
        sha256: String,
    },
    /// The file is another one.
    #[error(
        "{} has SHA-256 {found}, but {key} is {expected}: it is not loaded; install the right file, or correct {key} if you trust this one",
        .path.display(), key = .keys.sha256
    )]
    Checksum {
        /// Where it is named.
        keys: ModuleKeys,
        /// The file.
        path: PathBuf,
        /// Its checksum.
        found: String,
        /// The one that is named.
        expected: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// libtorch cannot load or run it.
    #[error("{} is not a TorchScript module that this version can run: {source}; export it again with {}", .path.display(), .keys.exporter)]
    Module {
        /// Where it is named.
        keys: ModuleKeys,
        /// The file.
        path: PathBuf,
        /// The error of libtorch.
        source: TchError,
    },
    /// It gives something of another size or kind.
    #[error(
        "{} gives {kind:?} of size {found:?} for f32 of size {given:?} ([rows, window, values of a record], or [rows, channels, side, side]); it must return f32 of the same size",
        .path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// Size of the trial's input.
        given: Vec<i64>,
        /// Size of what it gave.
        found: Vec<i64>,
        /// The kind of what it gave.
        kind: Kind,
    },
    /// It gives no feature maps.
    #[error(
        "{} returns {found} for f32 of size {given:?} ([rows, 3, height, width]); it must return a tuple of f32 maps [rows, channels, height / stride, width / stride]",
        .path.display()
    )]
    Maps {
        /// The file.
        path: PathBuf,
        /// Size of the trial's input.
        given: Vec<i64>,
        /// What it gave.
        found: String,
    },
    /// It gives NaN or infinity for plain inputs.
    #[error("{} returns numbers that are not finite for ordinary inputs: check its training", .path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
    },
    /// What it gives for a row depends on the others.
    #[error(
        "{} returns different results for a row depending on the other rows of the batch: export it in evaluation mode (batch normalisation, dropout)",
        .path.display()
    )]
    Rows {
        /// The file.
        path: PathBuf,
    },
}

/// Allows the modules that the models name.
pub fn allow<'m>(models: impl IntoIterator<Item = &'m ModelSettings>) {
    let mut allowed = ALLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    allowed.extend(
        models
            .into_iter()
            .flat_map(|model| [model.module(), model.backbone()])
            .flatten()
            .map(|script| (script.sha256, script.path)),
    );
}

/// Loads the module with this SHA-256, once it is proven to be the one that the configuration names.
///
/// # Errors
/// See [`ScriptError`].
pub(super) fn load_allowed(
    sha256: &str,
    keys: ModuleKeys,
) -> Result<(PathBuf, CModule), ScriptError> {
    let allowed = ALLOWED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(sha256)
        .cloned();
    let path = allowed.ok_or_else(|| ScriptError::NotAllowed {
        keys,
        sha256: sha256.to_owned(),
    })?;
    let bytes = disk::read(&path)?;
    let found = sha256_of(&bytes);
    if found != sha256 {
        return Err(ScriptError::Checksum {
            keys,
            path,
            found,
            expected: sha256.to_owned(),
        });
    }
    let fails = |source| ScriptError::Module {
        keys,
        path: path.clone(),
        source,
    };
    // What a graph optimiser makes of it may differ from one pass to the next; a score must not.
    tch::jit::f_set_graph_executor_optimize(false).map_err(fails)?;
    let mut module = CModule::load_data(&mut bytes.as_slice()).map_err(fails)?;
    module.f_set_eval().map_err(fails)?;
    Ok((path, module))
}

/// A loaded module.
#[derive(Debug)]
pub struct ScriptModel {
    shape: ModelShape,
    module: CModule,
}

impl ScriptModel {
    /// Loads the module that the shape names, once its checksum is proven, and tries it.
    ///
    /// # Errors
    /// See [`ScriptError`].
    pub fn load(shape: &ModelShape) -> Result<Self, ModelError> {
        let sha256 = shape.script.clone().unwrap_or_default();
        let (path, module) = load_allowed(&sha256, SCRIPT)?;
        let script = Self {
            shape: shape.clone(),
            module,
        };
        script.try_out(&path)?;
        Ok(script)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let y = self
            .module
            .forward_ts(&[x.f_view(self.size(-1).as_slice())?])?;
        y.f_reshape([-1, self.shape.inputs() as i64])
    }

    /// What the module takes of so many rows: windows of records, or tiles of images.
    fn size(&self, rows: i64) -> Vec<i64> {
        let shape = &self.shape;
        match shape.tile as i64 {
            0 => vec![rows, shape.window as i64, shape.fields as i64],
            side => vec![rows, shape.channels() as i64, side, side],
        }
    }

    fn try_out(&self, path: &Path) -> Result<(), ScriptError> {
        let path = path.to_owned();
        let given = self.size(TRIAL_ROWS);
        let run = |x: &Tensor| self.module.forward_ts(&[x]);
        let tried = tch::no_grad(|| -> Result<(Tensor, Tensor), TchError> {
            // Plain numbers within two standard deviations, and other rows behind them.
            let count = 2 * TRIAL_ROWS * self.shape.inputs() as i64;
            let x = Tensor::f_arange(count, (Kind::Float, tch::Device::Cpu))?
                .f_sin()?
                .f_mul_scalar(2.0)?;
            let x = x.f_view(self.size(2 * TRIAL_ROWS).as_slice())?;
            Ok((run(&x.f_narrow(0, 0, TRIAL_ROWS)?)?, run(&x)?))
        });
        let (alone, together) = tried.map_err(|source| ScriptError::Module {
            keys: SCRIPT,
            path: path.clone(),
            source,
        })?;
        let kind = alone.kind();
        if alone.size() != given || kind != Kind::Float || together.size()[0] != 2 * TRIAL_ROWS {
            return Err(ScriptError::Shape {
                path,
                given,
                found: alone.size(),
                kind,
            });
        }
        let difference = || -> Result<f64, TchError> {
            alone
                .f_sub(&together.f_narrow(0, 0, TRIAL_ROWS)?)?
                .f_abs()?
                .f_max()?
                .f_double_value(&[])
        };
        let difference = difference().map_err(|source| ScriptError::Module {
            keys: SCRIPT,
            path: path.clone(),
            source,
        })?;
        agrees(difference, TRIAL_TOLERANCE, path)
    }
}

/// Whether rows alone and in a larger batch, which differ by so much, passed the trial.
pub(super) fn agrees(difference: f64, tolerance: f64, path: PathBuf) -> Result<(), ScriptError> {
    match difference {
        difference if !difference.is_finite() => Err(ScriptError::NotFinite { path }),
        difference if difference > tolerance => Err(ScriptError::Rows { path }),
        _ => Ok(()),
    }
}

/// Lower-case hexadecimal digits.
fn sha256_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Autoencoder for ScriptModel {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn reconstruct(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        by_tensor(&self.shape, rows, |x| self.forward(x))
    }

    fn member(&self, number: usize) -> Option<&dyn Autoencoder> {
        (number == 0).then_some(self)
    }

    /// None: they stay in the module's file.
    fn weights(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}
