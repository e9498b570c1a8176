//! Drift: whether the scores of normal traffic still come from the distribution that the
//! calibration saw.
//!
//! The two-sample Kolmogorov-Smirnov statistic D, the largest distance between two empirical
//! distribution functions (Smirnov, "Table for estimating the goodness of fit of empirical
//! distributions", Annals of Mathematical Statistics 19(2), 1948). Scores are smoothed and so
//! depend on each other: n of them count as `n ewma_weight / (2 - ewma_weight)` independent ones.
//! And a drift has to matter: with enough records any two samples differ significantly.

use serde::{Deserialize, Serialize};

/// The smallest D that is worth a training.
const DISTANCE_MIN: f64 = 0.2;
/// Independent scores that are needed on each side.
const INDEPENDENT_MIN: f64 = 30.0;
/// Probability of a false alarm of the test alone.
const SIGNIFICANCE: f64 = 0.001;

/// What the test found.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Drift {
    /// The statistic D, 0 to 1.
    pub distance: f64,
    /// The D above which it is drift.
    pub limit: f64,
}

impl Drift {
    /// Whether the distribution has moved.
    pub fn is_drift(&self) -> bool {
        self.distance > self.limit
    }
}

/// Holds recent scores of normal traffic against those of the calibration; `ewma_weight` is the
/// weight of the chart's smoothing. `None` where there are too few of either.
pub fn drift(recent: &[f64], calibration: &[f64], ewma_weight: f64) -> Option<Drift> {
    let independent = |n: usize| n as f64 * ewma_weight / (2.0 - ewma_weight);
    let (n, m) = (independent(recent.len()), independent(calibration.len()));
    if n.min(m) < INDEPENDENT_MIN {
        return None;
    }
    let critical = (-0.5 * (SIGNIFICANCE / 2.0f64).ln() * (n + m) / (n * m)).sqrt();
    Some(Drift {
        distance: distance(recent, calibration),
        limit: critical.max(DISTANCE_MIN),
    })
}

/// The largest distance between the empirical distribution functions of two samples.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let (a, b) = (sorted(a), sorted(b));
    let (mut i, mut j, mut largest) = (0, 0, 0.0f64);
    while let (Some(&x), Some(&y)) = (a.get(i), b.get(j)) {
        // Equal values are passed on both sides before the functions are compared.
        let at = x.min(y);
        i += a[i..].iter().take_while(|&&value| value <= at).count();
        j += b[j..].iter().take_while(|&&value| value <= at).count();
        largest = largest.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    fn sample(seed: u64, n: usize, shift: f64) -> Vec<f64> {
        let rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        StandardNormal
            .sample_iter(rng)
            .take(n)
            .map(|x: f64| shift + x)
            .collect()
    }

    #[test]
    fn the_distance_is_that_of_the_distribution_functions() {
        assert_eq!(distance(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0]), 0.0);
        assert_eq!(distance(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        assert_eq!(distance(&[1.0, 3.0], &[2.0, 4.0]), 0.5);
        assert_eq!(distance(&[1.0, 1.0, 1.0], &[1.0]), 0.0);
    }

    #[test]
    fn the_same_distribution_is_no_drift_and_a_moved_one_is() {
        let calibration = sample(1, 4_000, 0.0);
        for seed in 2..40 {
            assert!(
                !drift(&sample(seed, 2_000, 0.0), &calibration, 0.05)
                    .unwrap()
                    .is_drift(),
                "seed {seed}"
            );
            assert!(
                drift(&sample(seed, 2_000, 1.0), &calibration, 0.05)
                    .unwrap()
                    .is_drift(),
                "seed {seed}"
            );
        }
        assert_eq!(
            drift(&calibration[..100], &calibration, 0.05),
            None,
            "too few to tell"
        );
    }
}
