//! Faults injected into real readings: the faults that a model must detect before it goes live, and
//! their sizes.
//!
//! Each fault acts on one field of a series from one record on. Its size is in standard deviations
//! of that field over normal traffic, so that all fields and all models are asked the same
//! question. Everything is drawn from a seed.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

pub use crate::promotion::{InjectedFaultKind, SIZES};

/// One fault in one field.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct InjectedFault {
    /// What it does.
    pub kind: InjectedFaultKind,
    /// Index of the field.
    pub field: usize,
    /// Standard deviations of the field.
    pub size: f64,
}

/// Puts a fault into `rows` (row-major, n x fields) from row `start` on; `unit` is the field's
/// standard deviation over normal traffic, in its own unit.
pub fn inject(
    rows: &mut [f64],
    fields: usize,
    fault: &InjectedFault,
    start: usize,
    unit: f64,
    seed: u64,
) {
    let n = rows.len() / fields;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let at = |row: usize| row * fields + fault.field;
    let step = fault.size * unit;
    match fault.kind {
        InjectedFaultKind::Spike => {
            if start < n {
                rows[at(start)] += step;
            }
        }
        InjectedFaultKind::LevelShift => (start..n).for_each(|row| rows[at(row)] += step),
        InjectedFaultKind::Drift => {
            let length = n.saturating_sub(start).max(1) as f64;
            (start..n).for_each(|row| rows[at(row)] += step * (row - start + 1) as f64 / length);
        }
        InjectedFaultKind::Variance => {
            for row in start..n {
                let noise: f64 = StandardNormal.sample(&mut rng);
                rows[at(row)] += step * noise;
            }
        }
        InjectedFaultKind::Stuck => {
            let last = rows[at(start.saturating_sub(1).min(n.saturating_sub(1)))];
            (start..n).for_each(|row| rows[at(row)] = last);
        }
        InjectedFaultKind::CorrelationBreak => {
            let mut readings: Vec<f64> = (0..n).map(|row| rows[at(row)]).collect();
            readings.shuffle(&mut rng);
            for (row, reading) in (start..n).zip(readings) {
                rows[at(row)] = reading;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(kind: InjectedFaultKind, size: f64) -> Vec<f64> {
        // Two fields; the second one counts.
        let mut rows: Vec<f64> = (0..10).flat_map(|i| [100.0, f64::from(i)]).collect();
        inject(
            &mut rows,
            2,
            &InjectedFault {
                kind,
                field: 1,
                size,
            },
            6,
            2.0,
            1,
        );
        assert!(
            rows.chunks(2).all(|row| row[0] == 100.0),
            "the other field is left alone"
        );
        let found: Vec<f64> = rows.chunks(2).map(|row| row[1]).collect();
        assert_eq!(found[..6], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        found[6..].to_vec()
    }

    #[test]
    fn each_kind_does_what_its_name_says() {
        assert_eq!(
            injected(InjectedFaultKind::Spike, 4.0),
            [14.0, 7.0, 8.0, 9.0]
        );
        assert_eq!(
            injected(InjectedFaultKind::LevelShift, -1.0),
            [4.0, 5.0, 6.0, 7.0]
        );
        assert_eq!(
            injected(InjectedFaultKind::Drift, 2.0),
            [7.0, 9.0, 11.0, 13.0]
        );
        assert_eq!(injected(InjectedFaultKind::Stuck, 1.0), [5.0; 4]);
        let noisy = injected(InjectedFaultKind::Variance, 1.0);
        assert!(
            noisy
                .iter()
                .zip([6.0, 7.0, 8.0, 9.0])
                .all(|(x, was)| *x != was && (x - was).abs() < 10.0),
            "{noisy:?}"
        );
        let broken = injected(InjectedFaultKind::CorrelationBreak, 1.0);
        assert!(
            broken.iter().all(|x| (0.0..10.0).contains(x)) && broken != [6.0, 7.0, 8.0, 9.0],
            "{broken:?}"
        );
    }
}
