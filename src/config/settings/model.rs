//! The model of a stream, its training and its chart; see [`super::StreamSettings`].

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Inputs of a model that looks at all of them at once: records of a window times fields, or pixels
/// of a tile times channels.
pub const INPUTS_MAX: usize = 4096;

/// The autoencoder of a stream.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelSettings {
    /// Its kind.
    pub kind: ModelKind,
    /// Widths of the encoder's hidden layers, mirrored in the decoder: units (dense, vae, lstm), or
    /// channels of convolutions; of unet the first one is that of the full resolution.
    pub hidden: Vec<usize>,
    /// Width of the code; unet has none.
    pub latent: usize,
    /// Records (conv, conv_vae) or pixels (conv2d, unet, vae2d) that a kernel spans; odd.
    pub kernel: usize,
    /// Codes that are drawn for each window (vae, conv_vae, vae2d).
    pub samples: usize,
    /// Time features of each record as additional model inputs.
    pub context: Vec<TimeFeature>,
    /// The clock of `context`.
    pub time_zone: TimeZone,
    /// The module of a torchscript model.
    pub script: Option<ScriptSettings>,
}

/// A TorchScript module that may run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptSettings {
    /// Its file.
    pub path: PathBuf,
    /// Its SHA-256: 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Time features of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeFeature {
    /// Time of day.
    TimeOfDay,
    /// Day of the week.
    DayOfWeek,
}

impl TimeFeature {
    /// Inputs that a model has for all of `context`: cosine and sine of each.
    pub fn inputs(context: &[Self]) -> usize {
        2 * context.len()
    }
}

/// The kinds of autoencoder, the cheap ones first.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Debug,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Principal components, in closed form.
    Linear,
    /// Fully connected layers with tanh, on the flattened window.
    Dense,
    /// A variational autoencoder of fully connected layers.
    Vae,
    /// Convolutions along the window.
    Conv,
    /// A variational autoencoder of convolutions along the window.
    ConvVae,
    /// A recurrent network with long short-term memory along the window.
    Lstm,
    /// Convolutions over a tile of an image, with a narrow code.
    Conv2d,
    /// A variational autoencoder of convolutions over a tile.
    Vae2d,
    /// Convolutions over a tile with skip connections, trained to remove defects.
    Unet,
    /// A module that was exported from Python.
    Torchscript,
}

/// What a kind of autoencoder looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KindInput {
    /// Any row of values: a window, or a tile of an image.
    Any,
    /// Any row of values; for tiles there are better kinds.
    Row,
    /// Along the window: 2 records or more.
    Window,
    /// Over a tile of an image.
    Tile,
}

/// What is true of a kind, whatever its sizes.
struct KindProperties {
    input: KindInput,
    /// Fewest hidden layers; `None` where it has none of its own.
    layers: Option<usize>,
    /// Whether it has kernels.
    kernel: bool,
    /// Whether its code is drawn from a distribution.
    variational: bool,
    /// Least size of the code that all of what it knows goes through; `None` where none is known.
    code: Option<usize>,
    /// Whether it is trained by gradient descent, fold by fold; else at once.
    gradient: bool,
}

impl ModelKind {
    /// All of them, the cheap ones first.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// One row for each kind.
    #[rustfmt::skip]
    const fn properties(self) -> KindProperties {
        use KindInput::{Any, Row, Tile, Window};
        let (input, layers, kernel, variational, code, gradient) = match self {
            //                  input   layers   kernel variational code     gradient
            Self::Linear      => (Any,    None,    false, false,      Some(0), false),
            Self::Dense       => (Row,    Some(0), false, false,      Some(1), true),
            Self::Vae         => (Row,    Some(1), false, true,       Some(1), true),
            Self::Conv        => (Window, Some(1), true,  false,      Some(1), true),
            Self::ConvVae     => (Window, Some(1), true,  true,       Some(1), true),
            Self::Lstm        => (Window, Some(1), false, false,      Some(1), true),
            Self::Conv2d      => (Tile,   Some(1), true,  false,      Some(1), true),
            Self::Vae2d       => (Tile,   Some(1), true,  true,       Some(1), true),
            Self::Unet        => (Tile,   Some(1), true,  false,      None,    true),
            Self::Torchscript => (Any,    None,    false, false,      None,    false),
        };
        KindProperties { input, layers, kernel, variational, code, gradient }
    }

    /// Whether it looks along the window, and needs one of 2 records or more.
    pub fn is_windowed(self) -> bool {
        self.properties().input == KindInput::Window
    }

    /// Whether it looks over a tile of an image.
    pub fn is_spatial(self) -> bool {
        self.properties().input == KindInput::Tile
    }

    /// Whether it may see images: the spatial kinds, and those that take any row of values.
    pub fn takes_images(self) -> bool {
        !self.is_windowed()
    }

    /// Whether it is meant for images.
    pub fn is_for_images(self) -> bool {
        matches!(self.properties().input, KindInput::Any | KindInput::Tile)
    }

    /// Least size of the code that all of what it knows of its input goes through; `None` where no
    /// code is known.
    pub fn code_min(self) -> Option<usize> {
        self.properties().code
    }

    /// Whether all of what it knows of its input goes through a code.
    pub fn has_code(self) -> bool {
        self.code_min().is_some()
    }

    /// Whether it has hidden layers of its own kind; the others have none that are known.
    pub fn has_layers(self) -> bool {
        self.properties().layers.is_some()
    }

    /// Whether it needs a hidden layer.
    pub fn needs_layers(self) -> bool {
        self.properties().layers > Some(0)
    }

    /// Whether it has kernels.
    pub fn is_convolutional(self) -> bool {
        self.properties().kernel
    }

    /// Whether its code is drawn from a distribution.
    pub fn is_variational(self) -> bool {
        self.properties().variational
    }

    /// Whether it is trained by gradient descent, fold by fold; else at once.
    pub fn is_network(self) -> bool {
        self.properties().gradient
    }

    /// Whether it is a file, not trained here.
    pub fn is_script(self) -> bool {
        self == Self::Torchscript
    }

    /// How often `layers` hidden layers of a spatial kind halve a tile.
    pub fn halvings(self, layers: usize) -> usize {
        match self {
            Self::Unet => layers.saturating_sub(1),
            _ if self.is_spatial() => layers,
            _ => 0,
        }
    }

    /// The name in manifests and configuration.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How an autoencoder is trained; also kept in the manifest of each bundle.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrainingSettings {
    /// Number of training records of a stream's first model.
    pub records: usize,
    /// Seed of weights, noise and shuffles.
    pub seed: u64,
    /// Passes over the training part, at most.
    pub epochs: usize,
    /// Rows of one optimiser step.
    pub batch: usize,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// Weight decay of AdamW.
    pub weight_decay: f64,
    /// Standard deviation of the noise added to the scaled inputs.
    pub noise: f64,
    /// Epochs without a better held-out error after which training stops.
    pub patience: usize,
    /// Part of each batch with the largest loss that is left out (trimmed loss), 0 to 0.5.
    pub trim: f64,
    /// Number of training tiles.
    pub tiles: usize,
    /// Masks in a tile at most that the model learns to take out (spatial kinds).
    pub masks: usize,
    /// Contiguous folds: each is held out once, for early stopping, for the reported error and for
    /// the calibration residuals.
    pub folds: usize,
}

/// How a stream's model is trained again on its own normal traffic, and when the new one goes live.
#[derive(Clone, PartialEq, Debug)]
pub struct RetrainSettings {
    /// Event time between two trainings; zero: never by time.
    pub every: Duration,
    /// Part of `every` by which each training may come later, 0 to 1, so that machines and streams
    /// spread out.
    pub jitter: f64,
    /// Whether a training is also due when the scores of normal traffic have drifted from the
    /// calibration.
    pub on_drift: bool,
    /// Initial weights of a challenger.
    pub initial_weights: WeightInit,
    /// Records that the buffer of normal traffic holds.
    pub records: usize,
    /// Event time after which a kept record is half as likely to be still kept.
    pub half_life: Duration,
    /// Event time on both sides of an episode that is excluded from training.
    pub guard: Duration,
    /// Fraction of the buffer, the newest records, that is held out to test the challenger.
    pub hold_out: f64,
    /// How long a training may take.
    pub time_limit: Duration,
    /// Whether a challenger that passes its tests goes live automatically.
    pub promote: bool,
    /// Event time after a promotion in which too many alerts bring the last bundle back.
    pub probation: Duration,
    /// Event time between two self-tests; zero: none.
    pub self_test: Duration,
}

/// Initial weights of a challenger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightInit {
    /// Random weights, and a new scaler.
    Fresh,
    /// The weights and the scaler of the live bundle.
    Warm,
}

/// The control chart on the residual; see design.md, "Scoring".
#[derive(Clone, PartialEq, Debug)]
pub struct ScoreSettings {
    /// What of a window its residual is taken over.
    pub scope: ResidualScope,
    /// Weight of the newest residual in the smoothing, (0, 1].
    pub ewma_weight: f64,
    /// Weight of the newest residual in the slow baseline, [0, 1).
    pub baseline_weight: f64,
    /// The part of `baseline_weight` that is left while the series alerts, [0, 1]: a fault is not
    /// learned, a true level shift is in the end.
    pub baseline_alarm_factor: f64,
    /// Residuals are squashed at this many standard deviations.
    pub clip_sigma: f64,
    /// Weight of the diagonal in the shrunk covariance, (0, 1].
    pub shrinkage: f64,
}

/// Scope of the residual in a window.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ResidualScope {
    /// The newest record: the residual of each field, with its sign.
    #[default]
    Record,
    /// The whole window: the root mean square of each field's residual.
    Window,
}
