//! What goes into the forward pass of a batch, and what comes out of it.

use crate::config::settings::StreamSettings;
use crate::record::row::{GatedRow, WindowStatus};
use crate::record::{Batch, Image};
use crate::score::inspect::Inspected;
use crate::score::{Residual, Residuals};

/// What the model gets of a batch.
#[derive(Default)]
pub struct ModelInput<'b> {
    /// Scaled windows, row-major, windows x inputs.
    pub(super) windows: Vec<f32>,
    /// Images.
    pub(super) images: Vec<&'b Image>,
}

/// What the model makes of a batch.
pub enum ModelOutput<'b> {
    /// There is no model.
    None,
    /// Of windows.
    Rows(Residuals),
    /// Of images.
    Images(Vec<(Inspected, &'b Image)>),
}

/// What the model makes of one record.
#[derive(Clone, Copy)]
pub enum RowOutput<'o> {
    /// Of a window.
    Row(Residual<'o>),
    /// Of an image.
    Image(&'o Inspected, &'o Image),
}

impl ModelOutput<'_> {
    /// Of the record of `row`; `None` where no window ends with it.
    pub fn of(&self, row: &GatedRow<'_>) -> Option<RowOutput<'_>> {
        let WindowStatus::Window { index, .. } = row.window else {
            return None;
        };
        match self {
            Self::None => None,
            Self::Rows(all) => Some(RowOutput::Row(all.row(index))),
            Self::Images(all) => {
                let (inspected, image) = all.get(index)?;
                Some(RowOutput::Image(inspected, image))
            }
        }
    }
}

impl ModelInput<'_> {
    /// Room for the windows that the records of a chunk make.
    pub fn with_capacity(chunk: &Batch<'_>, stream: &StreamSettings) -> Self {
        Self {
            windows: Vec::with_capacity(chunk.values.len() * stream.window / stream.stride),
            images: Vec::new(),
        }
    }
}
