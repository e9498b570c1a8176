//! Error maps of the kinds over features: a value for each cell in place of each pixel.

use super::error_map::ErrorMap;
use super::{ScoreError, zeros};
use crate::model::encoder::{Encoder, FeatureMap};
use crate::model::scaler::Scaler;
use crate::model::shape::ModelShape;
use crate::model::{Autoencoder, ModelError};
use crate::record::Image;

/// An error map of cells.
pub struct CellErrors {
    /// A value for each cell.
    pub map: ErrorMap,
    /// Width and height of a cell in pixels of the image.
    pub cell: [f64; 2],
}

/// The error map of each image.
///
/// # Errors
/// Where libtorch refuses the tensors, or a model that looks at other features.
pub fn error_maps(
    encoder: &Encoder,
    model: &dyn Autoencoder,
    scaler: &Scaler,
    images: &[&Image],
) -> Result<Vec<CellErrors>, ScoreError> {
    let shape = model.shape();
    let input = shape
        .features
        .as_ref()
        .map_or([0, 0], |features| features.input);
    let map = |image: &&Image| {
        let FeatureMap {
            cells,
            cell,
            channels,
            values,
        } = encoder.features(image, input)?;
        let mut rows = to_rows(values, channels, shape);
        scaler.scale_planes(&mut rows, shape.places());
        let found = model.reconstruct(&rows)?;
        let map = error_map(shape, cells, &rows, &found)?;
        Ok(CellErrors { map, cell })
    };
    images.iter().map(map).collect()
}

/// A feature map, `[channels, cells]`, as rows of the model's inputs: one, or one for each cell.
pub fn to_rows(values: Vec<f32>, channels: usize, shape: &ModelShape) -> Vec<f32> {
    match shape.places() {
        1 => turned(&values, channels),
        _ => values,
    }
}

/// The error map of scaled rows of a feature map and their reconstruction.
///
/// # Errors
/// Rows that are not those of so many columns and rows of cells.
pub fn error_map(
    shape: &ModelShape,
    cells: [usize; 2],
    rows: &[f32],
    found: &[f32],
) -> Result<ErrorMap, ModelError> {
    let count = cells[0] * cells[1];
    if rows.len() != shape.channels() * count || rows.len() != found.len() {
        return Err(ModelError::Rows {
            values: rows.len(),
            inputs: shape.inputs(),
        });
    }
    Ok(match shape.places() {
        1 => ErrorMap::of_cells(cells, &turned(rows, count), &turned(found, count)),
        _ => ErrorMap::of_cells(cells, rows, found),
    })
}

/// A matrix of so many rows, transposed.
fn turned(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    let column = |at: usize| (0..rows).map(move |row| values[row * columns + at]);
    (0..columns).flat_map(column).collect()
}

/// Values of cells as those of the pixels of an image, in between interpolated: each cell has its
/// value at its centre.
pub fn stretched(
    values: &[f32],
    [columns, rows]: [usize; 2],
    cell: [f64; 2],
    [width, height]: [usize; 2],
) -> Vec<f32> {
    // The cells before and behind a pixel, and the weight of the second one.
    let between = |pixel: usize, cell: f64, count: usize| {
        let most = (count - 1) as f64;
        let place = ((pixel as f64 + 0.5) / cell - 0.5).clamp(0.0, most);
        let before = place.floor();
        let behind = (before + 1.0).min(most);
        (before as usize, behind as usize, (place - before) as f32)
    };
    let across: Vec<_> = (0..width).map(|x| between(x, cell[0], columns)).collect();
    let mut found: Vec<f32> = zeros(width * height);
    for (y, line) in found.chunks_exact_mut(width).enumerate() {
        let (above, below, down) = between(y, cell[1], rows);
        let mixed = |row: usize, &(before, behind, by): &(usize, usize, f32)| {
            let row = &values[row * columns..][..columns];
            row[before] + by * (row[behind] - row[before])
        };
        for (value, place) in line.iter_mut().zip(&across) {
            let upper = mixed(above, place);
            *value = upper + down * (mixed(below, place) - upper);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_stretched_over_the_pixels_that_they_are_of() {
        let found = stretched(&[1.0, 5.0], [2, 1], [4.0, 3.0], [8, 3]);
        let line = [1.0, 1.0, 1.5, 2.5, 3.5, 4.5, 5.0, 5.0];
        assert_eq!(found, [line; 3].concat());
    }

    #[test]
    fn a_map_that_is_turned_twice_is_the_same() {
        let values: Vec<f32> = (0..12).map(|at| at as f32).collect();
        let turned_once = turned(&values, 3);
        assert_eq!(turned_once[..4], [0.0, 4.0, 8.0, 1.0]);
        assert_eq!(turned(&turned_once, 4), values);
    }
}
