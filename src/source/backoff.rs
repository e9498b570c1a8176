//! How long whoever works with the brokers waits between two attempts.

use std::time::Duration;

const MIN: Duration = Duration::from_millis(500);
const MAX: Duration = Duration::from_secs(30);

/// Waiting times that double, from half a second to half a minute; a new one begins again.
#[derive(Default)]
pub struct Backoff(Option<Duration>);

impl Backoff {
    /// The wait after one more failed attempt.
    pub fn wait(&mut self) -> Duration {
        let wait = self.0.map_or(MIN, |last| (last * 2).min(MAX));
        self.0 = Some(wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_its_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.wait().as_millis() as u64).collect();
        assert_eq!(
            waits,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
        );
    }
}
