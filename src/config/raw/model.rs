//! The model of a stream, its training and its chart as they are written; see [`super`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::optional;
use crate::config::settings::{ModelKind, ResidualScope, TimeFeature, WeightInit};

/// The autoencoder.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ModelConfig {
    /// Its kind.
    pub kind: ModelKind,
    /// Widths of the encoder's hidden layers, mirrored in the decoder: at most 8, each 1 to 4096.
    /// Units (dense, vae, lstm) or channels of convolutions; of unet the first one is that of the
    /// full resolution.
    #[schemars(length(max = 8), inner(range(min = 1, max = 4096)))]
    pub hidden: Vec<usize>,
    /// Width of the code: smaller than window x fields, and at least 1 for all but linear. unet has
    /// none.
    #[schemars(range(min = 0, max = 4095))]
    pub latent: usize,
    /// Kernel size in records (conv, conv_vae) or pixels (conv2d, unet, vae2d): odd, 1 to 63.
    #[schemars(range(min = 1, max = 63))]
    pub kernel: usize,
    /// Number of codes drawn for each window (vae, conv_vae, vae2d), 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub samples: usize,
    /// Time features of each record as additional model inputs.
    pub context: Vec<TimeFeature>,
    /// Time zone of `context`: an IANA name.
    #[schemars(example = "Europe/Zurich")]
    pub time_zone: String,
    /// File of a torchscript model's module; "" for the other kinds.
    #[schemars(example = "/etc/outlierd/pump.pt")]
    pub script: String,
    /// SHA-256 of that file, hexadecimal: outlierd does not load a file with another checksum.
    pub sha256: String,
}

/// Training of the autoencoder.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct TrainingConfig {
    /// Number of training records of a stream's first model, 64 to 1000000.
    #[schemars(range(min = 64, max = 1_000_000))]
    pub records: usize,
    /// Seed of weights, noise and shuffles.
    #[schemars(range(min = 0))]
    pub seed: u64,
    /// Maximum number of passes over the training rows, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub epochs: usize,
    /// Rows per optimiser step, 1 to 65536.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch: usize,
    /// Peak learning rate, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Weight decay, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub weight_decay: f64,
    /// Standard deviation of the noise added to the scaled inputs, 0 to 10.
    #[schemars(range(min = 0, max = 10))]
    pub noise: f64,
    /// Epochs without a lower held-out error after which training stops, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub patience: usize,
    /// Fraction of each batch with the largest loss that is left out, 0 to 0.5.
    #[schemars(range(min = 0, max = 0.5))]
    pub trim: f64,
    /// Number of training tiles, drawn from all images, 256 to 1000000.
    #[schemars(range(min = 256, max = 1_000_000))]
    pub tiles: usize,
    /// Maximum number of masks in a tile that the model learns to remove (conv2d, unet, vae2d), 0
    /// to 64.
    #[schemars(range(min = 0, max = 64))]
    pub masks: usize,
    /// Number of contiguous parts of the records, each scored by a model not trained on it, 2 to
    /// 16.
    #[schemars(range(min = 2, max = 16))]
    pub folds: usize,
}

/// Retraining on normal traffic, and promotion of the new model.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct RetrainConfig {
    /// Event time between two trainings, 1m to 3660d; 0s: no periodic training.
    #[schemars(example = "7d")]
    pub every: String,
    /// Fraction of `every` by which a training may be delayed, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub jitter: f64,
    /// Whether a training is also due when the scores of normal traffic have drifted from the
    /// calibration.
    pub on_drift: bool,
    /// Initial weights of a challenger.
    pub initial_weights: WeightInit,
    /// Size of the training buffer in records of normal traffic, 256 to 10000000.
    #[schemars(range(min = 256, max = 10_000_000))]
    pub records: usize,
    /// Half-life of a record in the training buffer, in event time, 1m to 3660d.
    #[schemars(example = "14d")]
    pub half_life: String,
    /// Event time on both sides of an episode that is excluded from training, 0s to 366d.
    #[schemars(example = "10m")]
    pub guard: String,
    /// Fraction of the buffer, the newest records, that is held out to test a challenger, 0.05 to
    /// 0.5.
    #[schemars(range(min = 0.05, max = 0.5))]
    pub hold_out: f64,
    /// Time limit of a training, 1s to 30d.
    #[schemars(example = "1h")]
    pub time_limit: String,
    /// Whether a challenger that passes its tests goes live automatically.
    pub promote: bool,
    /// Event time after a promotion in which too many alerts cause a rollback, 0s to 366d; 0s:
    /// never.
    #[schemars(example = "1d")]
    pub probation: String,
    /// Event time between two self-tests, 1m to 366d; 0s: none.
    #[schemars(example = "1h")]
    pub self_test: String,
}

/// The control chart on the residual.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ScoreConfig {
    /// Scope of the residual: the newest record of a window, or the whole window.
    pub scope: ResidualScope,
    /// EWMA weight of the newest residual, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub ewma_weight: f64,
    /// Weight of the newest residual in the slow baseline, 0 to below 1.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub baseline_weight: f64,
    /// Factor on `baseline_weight` while the series alerts, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub baseline_alarm_factor: f64,
    /// Standard deviations at which a residual is clipped, 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub clip_sigma: f64,
    /// Weight of the diagonal in the shrunk covariance, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub shrinkage: f64,
}
