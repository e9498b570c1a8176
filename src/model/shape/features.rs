//! The shape of what a model over features looks at.

use serde::{Deserialize, Serialize};

/// Most inputs of a model over features: 1024 x 1024 pixels through the filter bank in three colours.
pub const FEATURES_MAX: usize = 64 * 64 * 156;
/// Values of a model's directions and components at most: 10 MiB of a bundle.
const FRAME_VALUES_MAX: usize = 10 << 18;
/// Fewest directions of the channels that a frame model may be reduced to.
const DIRECTIONS_MIN: usize = 8;

/// What fixes the sizes of a feature map.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureShape {
    /// Width and height in pixels to which an image is resized; 0 x 0: it keeps its size.
    pub input: [usize; 2],
    /// Channels of the image, 1 or 3.
    pub colours: usize,
    /// SHA-256 of the backbone; `None` for the filter bank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<String>,
    /// Channels of a cell.
    pub channels: usize,
    /// Columns and rows of the map; 1 x 1 where each cell is a row of its own.
    pub cells: [usize; 2],
}

impl FeatureShape {
    /// Cells of a row of the model's inputs.
    pub fn places(&self) -> usize {
        self.cells[0].saturating_mul(self.cells[1])
    }

    /// Directions of the channels that a code of `latent` values can hold all cells of: as many as
    /// the size of a bundle allows; `None` where that is too few to be worth it.
    pub fn directions(&self, latent: usize) -> Option<usize> {
        let most = FRAME_VALUES_MAX / self.places().saturating_mul(latent).max(1);
        (most >= DIRECTIONS_MIN.min(self.channels)).then_some(most.min(self.channels))
    }

    /// Whether the numbers belong to each other and to a model of so many inputs.
    pub(super) fn is_sound(&self, inputs: usize) -> bool {
        let is_sized = (self.input[0] == 0) == (self.input[1] == 0);
        matches!(self.colours, 1 | 3)
            && is_sized
            && self.channels.checked_mul(self.places()) == Some(inputs)
    }
}
