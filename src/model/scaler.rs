//! The scaler: readings in the units of the sensors to the scaled values that a model sees, and
//! back.
//!
//! Contract: `z = (x - mean) / sd`, clipped to +-[`CLIP`]; `sd` is never below `1e-3 * max(1,
//! |mean|)`, so that a field that stood still in training does not turn its first tick into an
//! outlier of astronomic size.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Scaled values are clipped to this many standard deviations on either side.
pub const CLIP: f64 = 50.0;

/// Mean and standard deviation of each field over the training rows, in the units of the sensors.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaler {
    /// Mean of each field.
    pub mean: Vec<f64>,
    /// Standard deviation of each field, floored, > 0.
    pub sd: Vec<f64>,
}

/// Rows that no scaler can be fitted to.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum ScalerError {
    /// No rows, or not whole ones.
    #[error(
        "{values} values do not form rows of {fields} fields; at least one complete row is needed"
    )]
    Rows {
        /// Values found.
        values: usize,
        /// Fields of a row.
        fields: usize,
    },
    /// A reading that is missing or not a finite number.
    #[error("row {row}, field {field} is {value}; training needs finite readings: remove the row")]
    NotFinite {
        /// Which row, from 0.
        row: usize,
        /// Which field, from 0.
        field: usize,
        /// What was found.
        value: f64,
    },
    /// Readings so far apart that their variance is no finite number.
    #[error("the variance of field {field} overflows: configure its physical range (min, max)")]
    Spread {
        /// Which field, from 0.
        field: usize,
    },
}

/// The scale of the pixels of one channel: as [`Scaler::scale_into`], in single precision.
pub fn of_pixels(mean: f64, sd: f64) -> impl Fn(f32) -> f32 {
    let mean = mean as f32;
    let by = 1.0 / sd as f32;
    let clip = CLIP as f32;
    move |pixel| ((pixel - mean) * by).clamp(-clip, clip)
}

impl Scaler {
    /// Fits mean and (population) standard deviation to `rows`, row-major, `rows.len() / fields`
    /// rows in sensor units.
    ///
    /// The updates are Welford's (Technometrics 1962): squares are taken of differences only, so
    /// that an offset of 1e9 cancels nothing.
    ///
    /// # Errors
    /// No whole row, a value that is not finite, or a spread without a finite variance.
    pub fn fit(rows: &[f64], fields: usize) -> Result<Self, ScalerError> {
        if fields == 0 || rows.is_empty() || !rows.len().is_multiple_of(fields) {
            return Err(ScalerError::Rows {
                values: rows.len(),
                fields,
            });
        }
        let mut mean = vec![0.0; fields];
        let mut squares = vec![0.0; fields];
        let mut count = 0.0;
        for (row, values) in rows.chunks_exact(fields).enumerate() {
            count += 1.0;
            for (field, ((&value, mean), squares)) in
                values.iter().zip(&mut mean).zip(&mut squares).enumerate()
            {
                if !value.is_finite() {
                    return Err(ScalerError::NotFinite { row, field, value });
                }
                let before = value - *mean;
                *mean += before / count;
                *squares += before * (value - *mean);
            }
        }
        let sd: Vec<f64> = squares
            .iter()
            .zip(&mean)
            .map(|(squares, mean)| (squares / count).sqrt().max(1e-3 * mean.abs().max(1.0)))
            .collect();
        // Checked apart: `max` above would hide a NaN behind the floor.
        if let Some(field) = squares
            .iter()
            .zip(&mean)
            .position(|(squares, mean)| !(squares.is_finite() && mean.is_finite()))
        {
            return Err(ScalerError::Spread { field });
        }
        Ok(Self { mean, sd })
    }

    /// Fields of a row.
    pub fn fields(&self) -> usize {
        self.mean.len()
    }

    /// Scales one record or a whole window: `raw` and `out` have the same length, a multiple of
    /// [`Self::fields`].
    ///
    /// Finite readings give finite values. What `out` holds beyond the shorter of the two is left
    /// as it was.
    pub fn scale_into(&self, raw: &[f64], out: &mut [f32]) {
        debug_assert_eq!(raw.len(), out.len());
        let scales = self.mean.iter().zip(&self.sd).cycle();
        for ((value, out), (mean, sd)) in raw.iter().zip(out).zip(scales) {
            *out = ((value - mean) / sd).clamp(-CLIP, CLIP) as f32;
        }
    }

    /// Scales the inputs of a model over images in place: plane by plane of `places` values, the
    /// planes of all channels in turn.
    pub fn scale_planes(&self, rows: &mut [f32], places: usize) {
        let scales = self.mean.iter().zip(&self.sd).cycle();
        for (plane, (mean, sd)) in rows.chunks_exact_mut(places.max(1)).zip(scales) {
            let scale = of_pixels(*mean, *sd);
            plane.iter_mut().for_each(|value| *value = scale(*value));
        }
    }

    /// Scales whole records.
    pub fn scaled(&self, raw: &[f64]) -> Vec<f32> {
        let mut out = vec![0.0; raw.len()];
        self.scale_into(raw, &mut out);
        out
    }

    /// The reading of `field` whose scaled value is `z`, in the unit of the sensor; NaN where there
    /// is no such field.
    pub fn unscale(&self, field: usize, z: f64) -> f64 {
        self.mean
            .get(field)
            .zip(self.sd.get(field))
            .map_or(f64::NAN, |(mean, sd)| mean + z * sd)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offset_of_a_billion_cancels_nothing() {
        let small: Vec<f64> = (0..1000)
            .map(|i| (f64::from(i) * 0.7).sin() * 1e6)
            .collect();
        let shifted: Vec<f64> = small.iter().map(|x| x + 1e9).collect();
        let a = Scaler::fit(&small, 1).unwrap();
        let b = Scaler::fit(&shifted, 1).unwrap();
        assert!(
            (b.mean[0] - a.mean[0] - 1e9).abs() < 1e-5,
            "{} {}",
            a.mean[0],
            b.mean[0]
        );
        // The floor at 1e9 is 1e6: compare the unfloored part by a spread above it.
        let wide: Vec<f64> = small.iter().map(|x| x * 10.0 + 1e9).collect();
        let wide = Scaler::fit(&wide, 1).unwrap();
        assert!(
            (wide.sd[0] / (a.sd[0] * 10.0) - 1.0).abs() < 1e-12,
            "{} {}",
            wide.sd[0],
            a.sd[0]
        );
        assert_eq!(b.sd[0], 1e-3 * b.mean[0]);
    }

    #[test]
    fn constant_field_has_a_floor() {
        let scaler = Scaler::fit(&[5.0, 0.0, 2000.0, 5.0, 0.0, 2000.0], 3).unwrap();
        assert_eq!(scaler.sd, [5e-3, 1e-3, 2.0]);
        let mut z = [0.0f32; 3];
        scaler.scale_into(&[5.005, 1.0, 1e308], &mut z);
        assert!((z[0] - 1.0).abs() < 1e-6);
        assert_eq!(z[1..], [50.0, 50.0]);
    }

    #[test]
    fn windows_repeat_the_fields() {
        let scaler = Scaler {
            mean: vec![1.0, 10.0],
            sd: vec![2.0, 5.0],
        };
        let mut z = [0.0f32; 4];
        scaler.scale_into(&[3.0, 5.0, -1.0, 20.0], &mut z);
        assert_eq!(z, [1.0, -1.0, -1.0, 2.0]);
    }

    #[test]
    fn rows_that_cannot_be_learned_are_named() {
        assert_eq!(
            Scaler::fit(&[1.0, 2.0, 3.0], 2),
            Err(ScalerError::Rows {
                values: 3,
                fields: 2
            })
        );
        assert_eq!(
            Scaler::fit(&[], 2),
            Err(ScalerError::Rows {
                values: 0,
                fields: 2
            })
        );
        let missing = Scaler::fit(&[1.0, 2.0, 3.0, f64::NAN], 2).unwrap_err();
        assert!(matches!(
            missing,
            ScalerError::NotFinite {
                row: 1,
                field: 1,
                ..
            }
        ));
        assert_eq!(
            Scaler::fit(&[1e300, -1e300], 1),
            Err(ScalerError::Spread { field: 0 })
        );
    }

    proptest! {
        #[test]
        fn unscale_undoes_scale(rows in prop::collection::vec(-1e6..1e6f64, 8..40), at in 0usize..8) {
            let scaler = Scaler::fit(&rows, 1).unwrap();
            let mut z = [0.0f32];
            scaler.scale_into(&rows[at..=at], &mut z);
            prop_assert!((scaler.unscale(0, f64::from(z[0])) - rows[at]).abs() <= 1e-5 * scaler.sd[0].max(rows[at].abs()));
        }

        #[test]
        fn finite_readings_give_finite_values(rows in prop::collection::vec(-1e6..1e6f64, 8..40), x in prop::num::f64::NORMAL) {
            let scaler = Scaler::fit(&rows, 1).unwrap();
            let mut z = [0.0f32];
            scaler.scale_into(&[x], &mut z);
            prop_assert!(z[0].abs() <= 50.0);
        }
    }
}
