//! The model of a stream, its training and its chart as they are written; see [`super`].

use schemars::JsonSchema;
use serde::Deserialize;

use super::optional;
use crate::config::settings::{Context, ModelKind, Over, Warmth};

/// The autoencoder.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Model {
    /// Its kind.
    pub kind: ModelKind,
    /// Widths of the encoder's hidden layers, mirrored in the decoder: at most 8, each 1 to 4096. Units (dense, vae, lstm)
    /// or channels of convolutions; of unet the first one is that of the full resolution.
    #[schemars(length(max = 8), inner(range(min = 1, max = 4096)))]
    pub hidden: Vec<usize>,
    /// Width of the code: smaller than window x fields, and at least 1 for all but linear. unet has none.
    #[schemars(range(min = 0, max = 4095))]
    pub latent: usize,
    /// Records (conv, conv_vae) or pixels (conv2d, unet, vae2d) that a kernel spans: odd, 1 to 63.
    #[schemars(range(min = 1, max = 63))]
    pub kernel: usize,
    /// Codes that are drawn for each window (vae, conv_vae, vae2d), 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub samples: usize,
    /// What the model is told of the time of each record.
    pub context: Vec<Context>,
    /// The clock of context: an IANA name.
    #[schemars(example = "Europe/Zurich")]
    pub time_zone: String,
    /// File of a torchscript model's module; "" for the other kinds.
    #[schemars(example = "/etc/outlierd/pump.pt")]
    pub script: String,
    /// SHA-256 of that file, hexadecimal: a file with another one is not loaded.
    pub sha256: String,
}

/// How the autoencoder is trained.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Training {
    /// Records that a stream without a model learns from, 64 to 1000000.
    #[schemars(range(min = 64, max = 1_000_000))]
    pub records: usize,
    /// Seed of weights, noise and shuffles.
    #[schemars(range(min = 0))]
    pub seed: u64,
    /// Passes over the training rows at most, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub epochs: usize,
    /// Rows of one optimiser step, 1 to 65536.
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
    /// Epochs without a better held-out error after which training stops, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub patience: usize,
    /// Part of each batch with the largest loss that is not learned from, 0 to 0.5.
    #[schemars(range(min = 0, max = 0.5))]
    pub trim: f64,
    /// Tiles of images that are learned from, 256 to 1000000, drawn from all of them.
    #[schemars(range(min = 256, max = 1_000_000))]
    pub tiles: usize,
    /// Masks in a tile at most that the model learns to take out (conv2d, unet, vae2d), 0 to 64.
    #[schemars(range(min = 0, max = 64))]
    pub masks: usize,
    /// Contiguous parts of the records, each scored by a model that did not see it, 2 to 16.
    #[schemars(range(min = 2, max = 16))]
    pub folds: usize,
}

/// How the model is trained again on normal traffic, and when the new one goes live.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Retrain {
    /// Event time between two trainings, 1m to 3660d; 0s: never by time.
    #[schemars(example = "7d")]
    pub every: String,
    /// Part of `every` by which a training may come later, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub jitter: f64,
    /// Whether a training is also due when the scores of normal traffic have moved away from the calibration.
    pub on_drift: bool,
    /// What a challenger's weights start from.
    pub start: Warmth,
    /// Records that the buffer of normal traffic holds, 256 to 10000000.
    #[schemars(range(min = 256, max = 10_000_000))]
    pub records: usize,
    /// Event time after which a kept record is half as likely to be still kept, 1m to 3660d.
    #[schemars(example = "14d")]
    pub half_life: String,
    /// Event time on both sides of an episode from which nothing is learned, 0s to 366d.
    #[schemars(example = "10m")]
    pub guard: String,
    /// Part of the buffer, the newest, on which a challenger proves itself, 0.05 to 0.5.
    #[schemars(range(min = 0.05, max = 0.5))]
    pub hold_out: f64,
    /// How long a training may take, 1s to 30d.
    #[schemars(example = "1h")]
    pub time_limit: String,
    /// Whether a challenger that has proved itself goes live by itself.
    pub promote: bool,
    /// Event time after a promotion in which too many alerts bring the last bundle back, 0s to 366d; 0s: never.
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
pub struct Score {
    /// What of a window the residual is taken over: its newest record, or all of it.
    pub over: Over,
    /// Weight of the newest residual in the smoothing, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Weight of the newest residual in the slow baseline, 0 to below 1.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta: f64,
    /// Part of beta that is left while the series alerts, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub leak: f64,
    /// Standard deviations at which a residual is squashed, 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub squash: f64,
    /// Weight of the diagonal in the shrunk covariance, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub shrinkage: f64,
}
