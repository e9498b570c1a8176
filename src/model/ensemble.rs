//! An ensemble: models of one shape whose reconstructions are averaged.
//!
//! The members are the models of the cross-validation: each left another contiguous fold of the
//! rows out, so that the residuals of the left-out rows, which calibrate the chart, come from the
//! very models that score (cross-fitting, as in Chernozhukov et al., "Double/debiased machine
//! learning", The Econometrics Journal 21, 2018). Averaging also takes away most of what depends on
//! the seed (Hansen and Salamon, "Neural Network Ensembles", IEEE PAMI 12, 1990).

use tch::Tensor;

use super::shape::ModelShape;
use super::weights::NamedTensors;
use super::{Autoencoder, ModelError, from_weights};

/// Averaged models of one shape.
pub struct Ensemble {
    shape: ModelShape,
    members: Vec<Box<dyn Autoencoder>>,
}

impl Ensemble {
    /// Joins trained models; their shapes are those of one member.
    ///
    /// # Errors
    /// No member, or members of different shapes.
    pub fn new(members: Vec<Box<dyn Autoencoder>>) -> Result<Self, ModelError> {
        let first = members
            .first()
            .ok_or(ModelError::NoMembers)?
            .shape()
            .clone();
        if let Some(other) = members.iter().find(|member| *member.shape() != first) {
            return Err(ModelError::Members {
                first: first.into(),
                other: other.shape().clone().into(),
            });
        }
        let shape = ModelShape {
            members: members.len(),
            ..first
        };
        shape.validate()?;
        Ok(Self { shape, members })
    }

    /// The ensemble with these weights; they are taken out of `weights`.
    pub(super) fn from_weights(
        shape: &ModelShape,
        weights: &mut NamedTensors,
    ) -> Result<Self, ModelError> {
        let member = ModelShape {
            members: 1,
            ..shape.clone()
        };
        let mut members = Vec::with_capacity(shape.members);
        for number in 0..shape.members {
            let prefix = prefix(number);
            let names: Vec<String> = weights
                .keys()
                .filter(|name| name.starts_with(&prefix))
                .cloned()
                .collect();
            let mut own = NamedTensors::new();
            for name in names {
                if let Some(tensor) = weights.remove(&name) {
                    own.insert(name[prefix.len()..].to_owned(), tensor);
                }
            }
            members.push(from_weights(&member, own)?);
        }
        Ok(Self {
            shape: shape.clone(),
            members,
        })
    }
}

fn prefix(number: usize) -> String {
    format!("member.{number}.")
}

impl Autoencoder for Ensemble {
    fn shape(&self) -> &ModelShape {
        &self.shape
    }

    fn reconstruct(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        let (first, rest) = self.members.split_first().ok_or(ModelError::NoMembers)?;
        let mut mean = first.reconstruct(rows)?;
        for member in rest {
            let other = member.reconstruct(rows)?;
            mean.iter_mut().zip(other).for_each(|(sum, y)| *sum += y);
        }
        let count = self.members.len() as f32;
        mean.iter_mut().for_each(|sum| *sum /= count);
        Ok(mean)
    }

    /// The code of the first member: the members' codes have no common axes.
    fn encode(&self, rows: &[f32]) -> Result<Vec<f32>, ModelError> {
        self.members
            .first()
            .ok_or(ModelError::NoMembers)?
            .encode(rows)
    }

    fn member(&self, number: usize) -> Option<&dyn Autoencoder> {
        self.members.get(number).map(AsRef::as_ref)
    }

    fn weights(&self) -> Vec<(String, Tensor)> {
        let named = |number: usize, member: &dyn Autoencoder| {
            let prefix = prefix(number);
            member
                .weights()
                .into_iter()
                .map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
        };
        self.members
            .iter()
            .enumerate()
            .flat_map(|(number, member)| named(number, member.as_ref()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelKind;
    use crate::model::network::Network;
    use rand::SeedableRng;

    fn member(seed: u64) -> Box<dyn Autoencoder> {
        let shape = ModelShape::new(ModelKind::Dense, 1, 3, &[4], 2);
        Network::initialised(&shape, &mut rand_chacha::ChaCha8Rng::seed_from_u64(seed))
            .and_then(Network::into_model)
            .unwrap()
    }

    #[test]
    fn it_is_the_mean_of_its_members_and_survives_its_weights() {
        let x = [0.5f32, -1.0, 2.0, 0.0, 1.0, -2.0];
        let [a, b] = [1, 2].map(|seed| member(seed).reconstruct(&x).unwrap());
        let mean: Vec<f32> = a.iter().zip(&b).map(|(a, b)| (a + b) / 2.0).collect();
        let ensemble = Ensemble::new(vec![member(1), member(2)]).unwrap();
        let found = ensemble.reconstruct(&x).unwrap();
        assert_eq!(found, mean);
        let weights: NamedTensors = ensemble.weights().into_iter().collect();
        let again = from_weights(ensemble.shape(), weights).unwrap();
        assert_eq!(again.reconstruct(&x).unwrap(), found);
        assert_eq!(again.shape().members, 2);
    }

    #[test]
    fn an_ensemble_of_nothing_is_refused() {
        assert!(matches!(
            Ensemble::new(Vec::new()),
            Err(ModelError::NoMembers)
        ));
    }
}
