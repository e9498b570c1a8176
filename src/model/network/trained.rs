//! A trained network as a model: over rows of readings by the kernels of [`super::super::kernels`],
//! over tiles of images by libtorch.

use tch::Tensor;

use super::Network;
use crate::model::kernels::Program;
use crate::model::shape::ModelShape;
use crate::model::{Autoencoder, ModelError, by_tensor, whole_rows};

/// See the module.
#[derive(Debug)]
pub(super) struct TrainedNetwork {
    pub(super) network: Network,
    /// `None` over tiles of images.
    pub(super) program: Option<Program>,
}

impl Autoencoder for TrainedNetwork {
    fn shape(&self) -> &ModelShape {
        &self.network.shape
    }

    fn reconstruct(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        whole_rows(rows, self.shape().inputs())?;
        match &self.program {
            Some(program) => Ok(program.reconstruct(rows)),
            None => by_tensor(self.shape(), rows, |x| self.network.in_blocks(x)),
        }
    }

    fn encode(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        let shape = self.shape();
        whole_rows(rows, shape.inputs())?;
        if !shape.kind.has_code() {
            return Err(ModelError::NoCode { kind: shape.kind });
        }
        match &self.program {
            Some(program) => Ok(program.encode(rows, shape.latent)),
            None => by_tensor(shape, rows, |x| self.network.code(x)),
        }
    }

    fn member(&self, number: usize) -> Option<&dyn Autoencoder> {
        (number == 0).then_some(self)
    }

    fn weights(&self) -> Vec<(String, Tensor)> {
        self.network.named_weights()
    }
}
