//! The options of models and their training: `[streams.NAME.model]` and `training`.

use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::options::{self, OptionFault, none_if_empty, optional};

/// Inputs of a model that looks at all of them at once: records of a window times fields, or pixels
/// of a tile times channels.
pub const INPUTS_MAX: usize = 4096;

/// Slots of a day in a seasonal baseline: quarters of an hour.
pub const DAY_SLOTS: usize = 96;

/// The autoencoder.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ModelSettings {
    /// Its kind.
    pub kind: ModelKind,
    /// Whether a linear model replaces the network where the network's error on held-out records is
    /// not at least 5 % lower; over readings.
    pub linear_unless_better: bool,
    /// Widths of the encoder's hidden layers, mirrored in the decoder: at most 8, each 1 to 4096.
    /// Units (dense, vae, lstm) or channels of convolutions; of unet the first one is that of the
    /// full resolution.
    #[schemars(length(max = 8), inner(range(min = 1, max = 4096)))]
    pub hidden: Vec<usize>,
    /// Width of the code: smaller than window x fields, and at least 1 for all but linear. unet has
    /// none. Without a value it is 2, or less where the input is narrower.
    #[schemars(range(min = 0, max = 4095))]
    pub latent: usize,
    /// Kernel size in records (conv, conv_vae) or pixels (conv2d, unet, vae2d): odd, 1 to 63.
    #[schemars(range(min = 1, max = 63))]
    pub kernel: usize,
    /// Number of codes drawn for each window (vae, conv_vae, vae2d), 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub samples: usize,
    /// Time features of each record as additional model inputs.
    #[serde(deserialize_with = "features")]
    pub context: Vec<TimeFeature>,
    /// Time zone of `context`: an IANA name.
    #[serde(deserialize_with = "options::time_zone")]
    #[schemars(with = "String", example = "Europe/Zurich", extend("x-syntax" = "time-zone"))]
    pub time_zone: TimeZone,
    /// Dates that count as Sundays for `context`.
    #[schemars(with = "Vec<String>", example = ["2026-12-25"])]
    pub holidays: Vec<Date>,
    /// File of a torchscript model's module; "" for the other kinds.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = "/etc/outlierd/pump.pt")]
    pub script: Option<PathBuf>,
    /// SHA-256 of that file, hexadecimal: outlierd does not load a file with another checksum.
    pub sha256: String,
    /// Side in pixels to which frame and patch resize each image: 64 to 1024, in steps of 32; 0:
    /// its own size.
    #[schemars(range(min = 0, max = 1024))]
    pub input: usize,
    /// File of a backbone whose features frame and patch look at; "" for the built-in filter bank.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = "/etc/outlierd/lite0.pt")]
    pub backbone: Option<PathBuf>,
    /// SHA-256 of that file, hexadecimal.
    pub backbone_sha256: String,
}

impl ModelSettings {
    /// The module of a torchscript model.
    pub fn module(&self) -> Option<ScriptSettings> {
        let path = self.script.clone()?;
        let sha256 = self.sha256.to_lowercase();
        Some(ScriptSettings { path, sha256 })
    }

    /// The backbone that a kind over features looks through; `None` for the filter bank.
    pub fn backbone(&self) -> Option<ScriptSettings> {
        let path = self.backbone.clone()?;
        let sha256 = self.backbone_sha256.to_lowercase();
        Some(ScriptSettings { path, sha256 })
    }

    /// What is wrong with the values.
    pub fn faults(&self) -> impl Iterator<Item = OptionFault> {
        let wanted = self.kind.is_script();
        let kind = self.kind.as_str();
        let unused = format!("is for kind \"torchscript\", and model.kind is {kind:?}");
        let has_backbone = self.backbone.is_some();
        let no_features =
            format!("is for the kinds \"frame\" and \"patch\", and model.kind is {kind:?}");
        [
            OptionFault::when(
                self.kernel.is_multiple_of(2),
                "kernel",
                "must be odd: a kernel has a centre",
            ),
            OptionFault::when(
                wanted && self.script.is_none(),
                "script",
                "is missing: a torchscript model needs a file",
            ),
            OptionFault::when(!wanted && self.script.is_some(), "script", unused),
            OptionFault::when(
                !is_digest(&self.sha256) && (wanted || !self.sha256.is_empty()),
                "sha256",
                "must be the 64 hexadecimal digits that sha256sum prints for model.script",
            ),
            OptionFault::when(
                self.input != 0 && (self.input < 64 || !self.input.is_multiple_of(32)),
                "input",
                "must be a multiple of 32 from 64 on, or 0 for the size of the images",
            ),
            OptionFault::when(
                has_backbone && !self.kind.is_of_features(),
                "backbone",
                no_features,
            ),
            OptionFault::when(
                !is_digest(&self.backbone_sha256)
                    && (has_backbone || !self.backbone_sha256.is_empty()),
                "backbone_sha256",
                "must be the 64 hexadecimal digits that sha256sum prints for model.backbone",
            ),
        ]
        .into_iter()
        .flatten()
    }
}

/// Whether a text is a SHA-256.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Each feature once.
fn features<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<TimeFeature>, D::Error> {
    let mut features = Vec::deserialize(from)?;
    features.dedup();
    Ok(features)
}

/// A TorchScript module that may run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptSettings {
    /// Its file.
    pub path: PathBuf,
    /// Its SHA-256: 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Training of the autoencoder; also kept in the manifest of each bundle.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = optional, extend("additionalProperties" = false))]
pub struct TrainingSettings {
    /// Least number of training records of a stream's first model, 64 to 1000000.
    #[schemars(range(min = 64, max = 1_000_000))]
    pub records: usize,
    /// Effective records that the median series needs as well, 0 to 1000: its records, less what
    /// its autocorrelation and the charts' smoothing make of them; 0: none.
    #[schemars(range(min = 0, max = 1000))]
    pub effective_records: u32,
    /// Number of records after which the first model is trained in any case, 64 to 1000000.
    #[schemars(range(min = 64, max = 1_000_000))]
    pub records_max: usize,
    /// Event time of the median series after which the same holds, 1m to 366d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "1d", extend("x-duration" = {"minimum": "1m", "maximum": "366d"}))]
    pub span_max: Duration,
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

    /// Slots of the seasonal baseline that `context` gives: the quarters of an hour of a week or of a
    /// day, the days of a week, or none.
    pub fn slots(context: &[Self]) -> usize {
        let has = |feature| context.contains(&feature);
        match (has(Self::TimeOfDay), has(Self::DayOfWeek)) {
            (true, true) => 7 * DAY_SLOTS,
            (true, false) => DAY_SLOTS,
            (false, true) => 7,
            (false, false) => 0,
        }
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
    /// No model: the charts of the readings alone.
    None,
    /// Principal components, in closed form.
    Linear,
    /// Principal components of the feature map of a whole image, in closed form.
    Frame,
    /// The Gaussian of the features of a part of an image, wherever that is, in closed form.
    Patch,
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
    /// Over the features of an image.
    Features,
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

impl_as_str!(ModelKind);

impl ModelKind {
    /// All of them, the cheap ones first.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// One row for each kind.
    #[rustfmt::skip]
    const fn properties(self) -> KindProperties {
        use KindInput::{Any, Features, Row, Tile, Window};
        let (input, layers, kernel, variational, code, gradient) = match self {
            //                    input     layers   kernel variational code     gradient
            Self::None        => (Row,      None,    false, false,      None,    false),
            Self::Linear      => (Any,      None,    false, false,      Some(0), false),
            Self::Frame       => (Features, None,    false, false,      Some(1), false),
            Self::Patch       => (Features, None,    false, false,      None,    false),
            Self::Dense       => (Row,      Some(0), false, false,      Some(1), true),
            Self::Vae         => (Row,      Some(1), false, true,       Some(1), true),
            Self::Conv        => (Window,   Some(1), true,  false,      Some(1), true),
            Self::ConvVae     => (Window,   Some(1), true,  true,       Some(1), true),
            Self::Lstm        => (Window,   Some(1), false, false,      Some(1), true),
            Self::Conv2d      => (Tile,     Some(1), true,  false,      Some(1), true),
            Self::Vae2d       => (Tile,     Some(1), true,  true,       Some(1), true),
            Self::Unet        => (Tile,     Some(1), true,  false,      None,    true),
            Self::Torchscript => (Any,      None,    false, false,      None,    false),
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

    /// Whether it looks at features of an image, cell by cell, in place of its pixels.
    pub fn is_of_features(self) -> bool {
        self.properties().input == KindInput::Features
    }

    /// Whether it may see readings.
    pub fn takes_readings(self) -> bool {
        !self.is_spatial() && !self.is_of_features()
    }

    /// Whether it may see images: those over tiles and features, and those that take any row of values.
    pub fn takes_images(self) -> bool {
        !self.is_windowed()
    }

    /// Whether it is meant for images.
    pub fn is_for_images(self) -> bool {
        use KindInput::{Any, Features, Tile};
        matches!(self.properties().input, Any | Tile | Features)
    }

    /// Least size of the code that all of what it knows of its input goes through; `None` where no
    /// code is known.
    pub fn code_min(self) -> Option<usize> {
        self.properties().code
    }

    /// The same for so many inputs: of one input no narrower code is left, and a dense model without a
    /// code gives the mean.
    pub fn code_min_of(self, inputs: usize) -> Option<usize> {
        match (self, inputs) {
            (Self::Dense, 1) => Some(0),
            _ => self.code_min(),
        }
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
}
