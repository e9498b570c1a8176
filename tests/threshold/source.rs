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
