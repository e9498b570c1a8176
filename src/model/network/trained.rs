//! A trained network as a model: over rows of readings by the kernels of [`super::super::kernels`],
//! over tiles of images by libtorch.

use tch::Tensor;

use super::Network;
use crate::model::architecture::WeightValues;
use crate::model::kernels::{Draws, Layer, Program};
use crate::model::shape::ModelShape;
use crate::model::{Autoencoder, ModelError, by_tensor, whole_rows};

/// See the module.
#[derive(Debug)]
struct TrainedNetwork {
    network: Network,
    /// `None` over tiles of images.
    program: Option<Program>,
}

impl Network {
    /// The model that reconstructs with the present weights.
    ///
    /// # Errors
    /// A failure inside libtorch.
    pub fn into_model(self) -> Result<Box<dyn Autoencoder>, ModelError> {
        let program = self.program()?;
        Ok(Box::new(TrainedNetwork {
            network: self,
            program,
        }))
    }

    /// The forward pass over rows of readings; `None` over tiles of images.
    fn program(&self) -> Result<Option<Program>, ModelError> {
        let values = |tensor: &Tensor| Vec::<f32>::try_from(&tensor.f_detach()?.f_reshape([-1])?);
        let weights: Vec<Vec<f32>> = self.weights.iter().map(values).collect::<Result<_, _>>()?;
        let mut weights = WeightValues::new(weights);
        let Some(mut program) = self.architecture.program(&mut weights) else {
            return Ok(None);
        };
        program.inputs = self.shape.inputs();
        match &self.draws {
            None => program.encoder.push(Layer::Tanh),
            Some(draws) => {
                program.draws = Some(Draws {
                    latent: self.shape.latent,
                    values: values(draws)?,
                });
            }
        }
        Ok(Some(program))
    }
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
