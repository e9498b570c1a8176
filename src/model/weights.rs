//! Named weights as bytes, in the safetensors format: a JSON header with names, sizes and offsets,
//! then plain numbers.
//!
//! Contract: the same weights give the same bytes, and the bytes give back the same weights bit for
//! bit. All are f32. Nothing in such a file is ever executed, which is why it is not a pickle.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use tch::{Kind, TchError, Tensor};
use thiserror::Error;

/// Weights by name.
pub type NamedTensors = BTreeMap<String, Tensor>;

/// Weights that cannot be written or read.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The bytes are no safetensors file.
    #[error("truncated or invalid safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// A weight that is not f32.
    #[error("weight {name} is stored as {found:?}; only F32 is read")]
    Dtype {
        /// Its name.
        name: String,
        /// The type found.
        found: Dtype,
    },
    /// A failure inside libtorch.
    #[error("libtorch failed: {0}")]
    Torch(#[from] TchError),
}

/// Encodes `weights`, of any sizes, as f32.
///
/// # Errors
/// A name that occurs twice, or a failure inside libtorch.
pub fn encode(weights: &[(String, Tensor)]) -> Result<Vec<u8>, WeightsError> {
    let mut stored = Vec::with_capacity(weights.len());
    for (name, tensor) in weights {
        let values = Vec::<f32>::try_from(
            &tensor
                .f_detach()?
                .f_to_kind(Kind::Float)?
                .f_reshape([-1i64])?,
        )?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let size: Vec<usize> = tensor
            .size()
            .iter()
            .map(|&size| size.unsigned_abs() as usize)
            .collect();
        stored.push((name, size, bytes));
    }
    let views: Result<Vec<_>, SafeTensorError> = stored
        .iter()
        .map(|(name, size, bytes)| {
            Ok((
                name.as_str(),
                TensorView::new(Dtype::F32, size.clone(), bytes)?,
            ))
        })
        .collect();
    Ok(safetensors::serialize(views?, None)?)
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// Bytes that are cut off or no safetensors file, or a weight that is not f32.
pub fn decode(bytes: &[u8]) -> Result<NamedTensors, WeightsError> {
    let mut weights = NamedTensors::new();
    for (name, view) in SafeTensors::deserialize(bytes)?.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(WeightsError::Dtype {
                name,
                found: view.dtype(),
            });
        }
        let (numbers, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = numbers
            .iter()
            .map(|&number| f32::from_le_bytes(number))
            .collect();
        let size: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        weights.insert(
            name,
            Tensor::f_from_slice(&values)?.f_reshape(size.as_slice())?,
        );
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<(String, Tensor)> {
        vec![
            (
                "b".to_owned(),
                Tensor::from_slice(&[1.5f32, -0.0, f32::MIN_POSITIVE, 1e30]).view([2, 2]),
            ),
            ("a".to_owned(), Tensor::from_slice(&[0.1f32])),
            (
                "empty".to_owned(),
                Tensor::from_slice(&[0.0f32; 0]).view([0, 3]),
            ),
        ]
    }

    #[test]
    fn bytes_are_reproducible_and_give_back_each_bit() {
        let bytes = encode(&example()).unwrap();
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.keys().collect::<Vec<_>>(), ["a", "b", "empty"]);
        for (name, tensor) in example() {
            let found = &decoded[&name];
            assert_eq!(found.size(), tensor.size());
            let bits = |t: &Tensor| {
                Vec::<f32>::try_from(t.view(-1))
                    .unwrap()
                    .into_iter()
                    .map(f32::to_bits)
                    .collect::<Vec<_>>()
            };
            assert_eq!(bits(found), bits(&tensor));
        }
        assert_eq!(
            encode(&decoded.into_iter().collect::<Vec<_>>()).unwrap(),
            bytes
        );
    }

    #[test]
    fn any_cut_is_an_error() {
        let bytes = encode(&example()).unwrap();
        for length in 0..bytes.len() {
            assert!(
                decode(&bytes[..length]).is_err(),
                "accepted {length} of {} bytes",
                bytes.len()
            );
        }
    }

    #[test]
    fn other_number_types_are_refused() {
        let view = TensorView::new(Dtype::F64, vec![1], &[0; 8]).unwrap();
        let bytes = safetensors::serialize([("w", view)], None).unwrap();
        assert_eq!(
            decode(&bytes).unwrap_err().to_string(),
            "weight w is stored as F64; only F32 is read"
        );
    }
}
