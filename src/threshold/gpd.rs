//! The generalised Pareto distribution of peaks over a level: its shape from a sample, and its far
//! quantiles.
//!
//! Survival of an excess y is `(1 + shape y / sigma)^(-1 / shape)`, in the limit `exp(-y / sigma)`
//! at shape 0. The shape is the maximum of the likelihood, found by Grimshaw's reduction to the
//! roots of one variable ("Computing Maximum Likelihood Estimates for the Generalized Pareto
//! Distribution", Technometrics 35(2), 1993), as SPOT does; where there is no root, by moments
//! (Hosking and Wallis, Technometrics 29(3), 1987). Excesses are normalised by their mean first:
//! their unit is of no account.

/// Range of a shape: below -0.5 the likelihood is not regular (Smith, Biometrika 72(1), 1985),
/// above 0.5 there is no variance.
const SHAPE: (f64, f64) = (-0.5, 0.5);
/// Points at which each side of 0 is searched for a change of sign.
const GRID: i32 = 10;
/// Halvings of a bracket: a millionth of it is far below what a few dozen peaks tell.
const HALVINGS: usize = 20;

/// The shape of the distribution of some excesses > 0, [-0.5, 0.5]; 0 where they tell none.
pub(super) fn shape(excesses: &[f32]) -> f64 {
    let n = excesses.len() as f64;
    let mean = excesses.iter().map(|&y| f64::from(y)).sum::<f64>() / n;
    let squares = excesses
        .iter()
        .map(|&y| (f64::from(y) / mean).powi(2))
        .sum::<f64>()
        / n;
    let largest = excesses
        .iter()
        .fold(0.0f64, |largest, &y| largest.max(f64::from(y) / mean));
    if !(mean > 0.0 && squares > 1.0 && squares.is_finite()) {
        return 0.0;
    }
    let sample = ExcessSample { excesses, mean };
    // theta = shape / sigma lies above -1 / largest. Shapes near 1 and above are cut off anyway, so
    // 20 is far enough.
    let low = -1.0 / largest;
    let high = 20.0;
    let negative =
        (0..GRID).map(|i| low * (1.0 - libm::pow(0.001, f64::from(i + 1) / f64::from(GRID))));
    let positive =
        (0..GRID).map(|i| 0.02 * libm::pow(high / 0.02, f64::from(i) / f64::from(GRID - 1)));
    let roots = sample
        .roots(negative)
        .into_iter()
        .chain(sample.roots(positive));
    let best = roots
        .flatten()
        .map(|theta| sample.likelihood(theta))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let shape = match best {
        Some((_, shape)) => shape,
        None => 0.5 * (1.0 - 1.0 / (squares - 1.0)),
    };
    shape.clamp(SHAPE.0, SHAPE.1)
}

/// The excess that a peak exceeds with probability 1 / `ratio`, at a mean excess of 1; 0 where
/// `ratio` <= 1.
pub(super) fn excess(shape: f64, ratio: f64) -> f64 {
    let log = libm::log(ratio.max(1.0));
    let sigma = 1.0 - shape;
    if shape.abs() < 1e-9 {
        sigma * log
    } else {
        sigma * libm::expm1(shape * log) / shape
    }
}

struct ExcessSample<'p> {
    excesses: &'p [f32],
    mean: f64,
}

impl ExcessSample<'_> {
    /// Means of `1 / (1 + theta y)` and `ln(1 + theta y)` over the normalised excesses.
    fn means(&self, theta: f64) -> (f64, f64) {
        let theta = theta / self.mean;
        let n = self.excesses.len() as f64;
        let mut inverses = 0.0;
        let mut logs = 0.0;
        // One logarithm of a product for eight of single factors: logarithms are most of a fit.
        for chunk in self.excesses.chunks(8) {
            let mut product = 1.0;
            for &y in chunk {
                let factor = 1.0 + theta * f64::from(y);
                inverses += 1.0 / factor;
                product *= factor;
            }
            logs += libm::log(product);
        }
        (inverses / n, logs / n)
    }

    /// Grimshaw's function: 0 where the likelihood has its extremes (and at theta 0, which is left
    /// out).
    fn slope(&self, theta: f64) -> f64 {
        let (inverse, log) = self.means(theta);
        inverse * (1.0 + log) - 1.0
    }

    /// The mean log-likelihood at a root, up to a constant, and its shape.
    fn likelihood(&self, theta: f64) -> (f64, f64) {
        let shape = self.means(theta).1;
        let likelihood = -libm::log(shape / theta) - shape;
        (
            if likelihood.is_nan() {
                f64::NEG_INFINITY
            } else {
                likelihood
            },
            shape,
        )
    }

    /// The first two roots along a grid: more do not occur on one side of 0.
    fn roots(&self, grid: impl Iterator<Item = f64>) -> [Option<f64>; 2] {
        let mut found = [None; 2];
        let mut before: Option<(f64, f64)> = None;
        for theta in grid {
            let slope = self.slope(theta);
            if let Some((start, sign)) = before
                && (sign > 0.0) != (slope > 0.0)
                && let Some(free) = found.iter_mut().find(|root| root.is_none())
            {
                *free = Some(self.bisect(start, theta, sign > 0.0));
            }
            before = Some((theta, slope));
        }
        found
    }

    fn bisect(&self, mut start: f64, mut end: f64, start_is_positive: bool) -> f64 {
        for _ in 0..HALVINGS {
            let middle = 0.5 * (start + end);
            if (self.slope(middle) > 0.0) == start_is_positive {
                start = middle
            } else {
                end = middle
            }
        }
        0.5 * (start + end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mid-point quantiles of a generalised Pareto distribution: a sample without luck.
    fn ideal(shape: f64, scale: f64, n: usize) -> Vec<f32> {
        (0..n)
            .map(|i| {
                let log = -(1.0 - (i as f64 + 0.5) / n as f64).ln();
                (scale
                    * if shape == 0.0 {
                        log
                    } else {
                        (shape * log).exp_m1() / shape
                    }) as f32
            })
            .collect()
    }

    #[test]
    fn the_shape_is_found_at_any_scale() {
        for wanted in [-0.4, -0.2, -0.05, 0.0, 0.05, 0.2, 0.4] {
            for scale in [1e-9, 1.0, 1e9] {
                let found = shape(&ideal(wanted, scale, 2_000));
                assert!(
                    (found - wanted).abs() < 0.03,
                    "{wanted} at {scale}: {found}"
                );
            }
        }
    }

    #[test]
    fn samples_that_tell_nothing_have_shape_zero() {
        for sample in [
            vec![],
            vec![1.0],
            vec![3.0; 64],
            vec![0.0; 64],
            vec![f32::MAX; 3],
        ] {
            assert_eq!(shape(&sample), 0.0, "{sample:?}");
        }
    }

    #[test]
    fn far_quantiles_agree_with_the_closed_form() {
        assert!((excess(0.0, 100.0) - 100f64.ln()).abs() < 1e-12);
        assert!(
            (excess(0.5, 100.0) - 9.0).abs() < 1e-12,
            "0.5 (100^0.5 - 1) / 0.5"
        );
        assert!(
            (excess(1e-8, 100.0) - excess(0.0, 100.0)).abs() < 1e-6,
            "no jump at shape 0"
        );
        assert_eq!(excess(0.2, 0.5), 0.0);
    }
}
