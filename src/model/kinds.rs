//! The table of kinds: how each becomes a model. What is true of a kind whatever its sizes is in
//! [`ModelKind`] itself.

use std::sync::Arc;

use super::architecture::Architecture;
use super::conv::Conv;
use super::conv2d::Conv2d;
use super::dense::Dense;
use super::lstm::Lstm;
use super::shape::ModelShape;
use super::unet::Unet;
use crate::model::ModelKind;

/// How a kind becomes a model.
pub(super) enum Recipe {
    /// In closed form: [`super::linear`].
    Linear,
    /// In closed form, of whole feature maps: [`super::frame`].
    Frame,
    /// In closed form, of the cells of feature maps: [`super::patch`].
    Patch,
    /// From a file: [`super::script`].
    Script,
    /// As a network of that architecture, trained by gradient descent: [`super::network`].
    Network(fn(&ModelShape) -> Arc<dyn Architecture>),
}

impl Recipe {
    /// The recipe of a kind.
    pub(super) fn of(kind: ModelKind) -> Self {
        match kind {
            // Without components: the mean of the rows.
            ModelKind::None | ModelKind::Linear => Self::Linear,
            ModelKind::Frame => Self::Frame,
            ModelKind::Patch => Self::Patch,
            ModelKind::Torchscript => Self::Script,
            ModelKind::Dense | ModelKind::Vae => Self::Network(|shape| Arc::new(Dense::new(shape))),
            ModelKind::Conv | ModelKind::ConvVae => {
                Self::Network(|shape| Arc::new(Conv::new(shape)))
            }
            ModelKind::Lstm => Self::Network(|shape| Arc::new(Lstm::new(shape))),
            ModelKind::Conv2d | ModelKind::Vae2d => {
                Self::Network(|shape| Arc::new(Conv2d::new(shape)))
            }
            ModelKind::Unet => Self::Network(|shape| Arc::new(Unet::new(shape))),
        }
    }
}
