//! Scores to test with: seeded draws, and a chart without faults.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Seeded draws by inverse survival functions.
pub struct Draw(ChaCha8Rng);

impl Draw {
    pub fn seeded(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }
    pub fn uniform(&mut self) -> f64 {
        1.0 - self.0.random::<f64>()
    }
    pub fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
    pub fn of(&mut self, n: usize, mut draw: impl FnMut(&mut Self) -> f64) -> Vec<f64> {
        (0..n).map(|_| draw(self)).collect()
    }
}

/// Probability that the absolute value of a normal draw is larger, by an expansion of the normal tail
/// that is good beyond 2 standard deviations (Abramowitz and Stegun 26.2.17).
pub fn half_normal_tail(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    let series = [
        1.330_274_429,
        -1.821_255_978,
        1.781_477_937,
        -0.356_563_782,
        0.319_381_53,
    ];
    let sum = series.iter().fold(0.0, |sum, c| (sum + c) * t);
    2.0 * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt() * sum
}

/// The chart of eight independent fields without a fault: smoothed vectors, so scores that come in
/// clusters.
pub struct Chart {
    draw: Draw,
    fields: [f64; 8],
}

impl Chart {
    pub fn seeded(seed: u64) -> Self {
        Self {
            draw: Draw::seeded(seed),
            fields: [0.0; 8],
        }
    }
    pub fn score(&mut self) -> f64 {
        let alpha = 0.1;
        let sd = f64::sqrt(alpha / (2.0 - alpha));
        for field in &mut self.fields {
            *field += alpha * (self.draw.normal() - *field);
        }
        self.fields
            .iter()
            .map(|field| (field / sd).powi(2))
            .sum::<f64>()
            .sqrt()
    }
    pub fn scores(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.score()).collect()
    }
}
