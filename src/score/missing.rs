//! Records of which some fields are missing: the charts are those of the fields that are there.
//!
//! For a deviation `e` with precision matrix `P`, the squared length over a part of the fields is the
//! least `e' P e` over all values of the others; it is taken at their conditional mean, `-P_mm^-1 P_mo
//! e_o` (Anderson, "An Introduction to Multivariate Statistical Analysis", 2003, theorem 2.5.1). So a
//! missing deviation is set to that, and nothing else changes: it adds nothing to the score, and has
//! no share of it.
//!
//! A length over fewer fields is shorter. It is multiplied by the ratio of the lengths that normal
//! deviations of all fields and of those that are there exceed equally seldom, so that thresholds
//! hold their false-alarm rate, and what they learn of a record means the same for the next one.

use super::matrix::{inverse, times};

/// Standard normal quantile of the tail in which the lengths are compared: one record in 10,000.
const TAIL: f64 = 3.719;

/// Sets the `missing` entries of a deviation (length k) to their conditional mean given the others;
/// `whitening` is the inverse of the covariance's Cholesky factor, k x k, lower triangular.
pub fn complete(whitening: &[f64], e: &mut [f32], missing: &[usize]) {
    let (k, m) = (e.len(), missing.len());
    if m == 0 || m >= k {
        return;
    }
    missing.iter().for_each(|&field| e[field] = 0.0);
    // Of each row the part that the missing fields would add, and what the others make of it.
    let first = missing.iter().copied().min().unwrap_or(0);
    let mut squares = vec![0.0; m * m];
    let mut target = vec![0.0; m];
    for row in first..k {
        let weights = &whitening[row * k..=row * k + row];
        let columns = missing.iter().map(|&field| weights.get(field));
        let columns: Vec<f64> = columns.map(|w| w.copied().unwrap_or(0.0)).collect();
        let left: f64 = weights
            .iter()
            .zip(&*e)
            .map(|(w, &e)| w * f64::from(e))
            .sum();
        for (at, &a) in columns.iter().enumerate() {
            target[at] -= a * left;
            let row = &mut squares[at * m..(at + 1) * m];
            row.iter_mut().zip(&columns).for_each(|(s, b)| *s += a * b);
        }
    }
    // The columns of an invertible matrix are independent: their products are positive definite.
    if let Ok(inverse) = inverse(&squares, m) {
        for (&field, value) in missing.iter().zip(times(&inverse, &target)) {
            e[field] = value as f32;
        }
    }
}

/// How many times longer a deviation of k fields is than one of `left` of them.
pub fn length_ratio(k: usize, left: usize) -> f64 {
    (quantile(k) / quantile(left)).sqrt()
}

/// The quantile of a chi-squared distribution at [`TAIL`] (Wilson, Hilferty, "The Distribution of
/// Chi-Square", PNAS 17(12), 1931).
fn quantile(fields: usize) -> f64 {
    let fields = fields.max(1) as f64;
    let spread = 2.0 / (9.0 * fields);
    let root = 1.0 - spread + TAIL * spread.sqrt();
    fields * root * root * root
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ChiSquared, ContinuousCDF as _};

    use super::*;
    use crate::score::matrix::{cholesky, dot, invert_lower};

    fn whitening(covariance: &[f64], k: usize) -> Vec<f64> {
        invert_lower(&cholesky(covariance, k).unwrap(), k)
    }

    fn squared(whitening: &[f64], e: &[f32]) -> f64 {
        let rows = whitening.chunks_exact(e.len());
        let e: Vec<f64> = e.iter().map(|&e| f64::from(e)).collect();
        rows.map(|row| dot(row, &e).powi(2)).sum()
    }

    #[test]
    fn the_length_is_that_of_the_fields_that_are_there() {
        let covariance = [4.0, 1.0, 0.5, 1.0, 2.0, -0.3, 0.5, -0.3, 1.0];
        let whitening = whitening(&covariance, 3);
        let mut e = [1.5f32, f32::NAN, -2.0];
        complete(&whitening, &mut e, &[1]);
        // The inverse of [[4, 0.5], [0.5, 1]] is [[1, -0.5], [-0.5, 4]] / 3.75.
        let expected = (1.5 * 1.5 - 2.0 * 0.5 * 1.5 * -2.0 + 4.0 * 4.0) / 3.75;
        assert!((squared(&whitening, &e) - expected).abs() < 1e-5);
        let mut alone = [f32::NAN, f32::NAN, -2.0];
        complete(&whitening, &mut alone, &[0, 1]);
        assert!((squared(&whitening, &alone) - 4.0).abs() < 1e-5);
        let mut whole = [1.0f32, 2.0, 3.0];
        complete(&whitening, &mut whole, &[]);
        assert_eq!(whole, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn lengths_of_fewer_fields_are_exceeded_as_seldom() {
        for (k, left) in [(2, 1), (5, 4), (8, 4), (52, 30)] {
            let of = |fields: usize| ChiSquared::new(fields as f64).unwrap();
            let limit = of(k).inverse_cdf(0.9999);
            let found = of(left).sf(limit / length_ratio(k, left).powi(2));
            assert!((0.8e-4..1.25e-4).contains(&found), "{k} {left}: {found}");
        }
    }
}
