//! Dense symmetric matrices of a chart's size, row-major: factored in a fixed order of operations, so
//! that a bundle trained twice is the same bundle.

/// The matrix is not positive definite.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error(
    "the residual covariance of the calibration is not positive definite at field {row}: train a new bundle"
)]
pub struct NotPositiveDefinite {
    /// Where the factorisation failed.
    pub row: usize,
}

/// The lower Cholesky factor of a symmetric matrix (n x n, row-major).
///
/// # Errors
/// [`NotPositiveDefinite`] where `a` is singular.
pub fn cholesky(a: &[f64], n: usize) -> Result<Vec<f64>, NotPositiveDefinite> {
    let mut l = vec![0.0; n * n];
    for row in 0..n {
        for column in 0..=row {
            let dot: f64 = (0..column)
                .map(|k| l[row * n + k] * l[column * n + k])
                .sum();
            let rest = a.get(row * n + column).copied().unwrap_or(f64::NAN) - dot;
            if row == column {
                if rest.is_nan() || rest <= 0.0 {
                    return Err(NotPositiveDefinite { row });
                }
                l[row * n + row] = rest.sqrt();
            } else {
                l[row * n + column] = rest / l[column * n + column];
            }
        }
    }
    Ok(l)
}

/// The inverse of a lower triangular matrix (n x n, row-major), by forward substitution.
pub fn invert_lower(l: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for row in 0..n {
        let (done, rest) = inverse.split_at_mut(row * n);
        let own = &mut rest[..=row];
        for (k, other) in done.chunks_exact(n).enumerate() {
            let factor = l[row * n + k];
            own.iter_mut()
                .zip(&other[..=k])
                .for_each(|(x, y)| *x -= factor * y);
        }
        own[row] = 1.0;
        let diagonal = l[row * n + row];
        own.iter_mut().for_each(|x| *x /= diagonal);
    }
    inverse
}

/// The inverse of a symmetric positive definite matrix (n x n, row-major).
///
/// # Errors
/// [`NotPositiveDefinite`] where `a` is singular.
pub fn inverse(a: &[f64], n: usize) -> Result<Vec<f64>, NotPositiveDefinite> {
    let lower = invert_lower(&cholesky(a, n)?, n);
    let mut inverse = vec![0.0; n * n];
    for row in lower.chunks_exact(n.max(1)) {
        add_outer(&mut inverse, row);
    }
    Ok(inverse)
}

/// Adds `x x'` to a symmetric matrix.
pub fn add_outer(matrix: &mut [f64], x: &[f64]) {
    for (row, &a) in matrix.chunks_exact_mut(x.len().max(1)).zip(x) {
        if a != 0.0 {
            row.iter_mut().zip(x).for_each(|(m, b)| *m += a * b);
        }
    }
}

/// The product of a symmetric matrix (n x n, row-major) and a vector.
pub fn times(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    let mut product = vec![0.0; x.len()];
    for (row, &a) in matrix.chunks_exact(x.len().max(1)).zip(x) {
        product.iter_mut().zip(row).for_each(|(p, m)| *p += a * m);
    }
    product
}

/// `x' y`.
pub fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverse_inverts() {
        let a = [4.0, 1.0, 0.5, 1.0, 3.0, -0.2, 0.5, -0.2, 2.0];
        let inverse = inverse(&a, 3).unwrap();
        for column in 0..3 {
            let unit = times(&a, &inverse[3 * column..3 * column + 3]);
            for (row, found) in unit.iter().enumerate() {
                assert!(
                    (found - f64::from(u8::from(row == column))).abs() < 1e-12,
                    "{unit:?}"
                );
            }
        }
        assert_eq!(
            cholesky(&[1.0, 2.0, 2.0, 1.0], 2),
            Err(NotPositiveDefinite { row: 1 })
        );
    }
}
