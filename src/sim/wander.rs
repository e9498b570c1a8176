//! A wander: a random process that strays from zero and is drawn back, one step a record.
//!
//! It is the Ornstein-Uhlenbeck process in its exact discrete form (Gillespie, Physical Review E
//! 54, 1996), which is an AR(1) process: its standard deviation and its memory do not change with
//! the step.

use rand::Rng;
use rand_distr::StandardNormal;

/// A stationary AR(1) process with mean 0.
#[derive(Clone, Debug)]
pub struct Wander {
    value: f64,
    keep: f64,
    kick: f64,
}

impl Wander {
    /// A process with standard deviation `sd` that forgets with the time constant `tau` (both times
    /// in seconds), started from its stationary distribution. A `tau` of 0 is white noise.
    pub fn new(sd: f64, tau: f64, dt: f64, rng: &mut impl Rng) -> Self {
        let keep = if tau > 0.0 { (-dt / tau).exp() } else { 0.0 };
        let start: f64 = rng.sample(StandardNormal);
        Self {
            value: sd * start,
            keep,
            kick: sd * (1.0 - keep * keep).sqrt(),
        }
    }

    /// Moves one step and gives the new value.
    pub fn step(&mut self, rng: &mut impl Rng) -> f64 {
        let noise: f64 = rng.sample(StandardNormal);
        self.value = self.keep * self.value + self.kick * noise;
        self.value
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn moments(tau: f64, dt: f64) -> (f64, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut wander = Wander::new(2.0, tau, dt, &mut rng);
        let values: Vec<f64> = (0..200_000).map(|_| wander.step(&mut rng)).collect();
        let power = values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
        let lagged = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>()
            / (values.len() - 1) as f64;
        (power.sqrt(), lagged / power)
    }

    #[test]
    fn keeps_its_spread_and_memory_whatever_the_step() {
        for (tau, dt) in [(10.0, 1.0), (10.0, 5.0), (0.0, 1.0)] {
            let (sd, correlation) = moments(tau, dt);
            let expected = if tau > 0.0 { f64::exp(-dt / tau) } else { 0.0 };
            assert!((sd - 2.0).abs() < 0.06, "sd {sd} at tau {tau}, dt {dt}");
            assert!(
                (correlation - expected).abs() < 0.02,
                "correlation {correlation} at tau {tau}, dt {dt}"
            );
        }
    }
}
