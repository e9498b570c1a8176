use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::memory::Memory;
use crate::model::weights::{decode, encode};

/// Rows of a series of records (n x k) in `folds` parts, and the memory at its end.
fn rows(records: &[Vec<f32>], folds: usize) -> (DenoiserRows, Memory) {
    let mut rows = DenoiserRows::new(records[0].len());
    let mut memory = Memory::default();
    for (at, z) in records.iter().enumerate() {
        if let Some(past) = memory.past() {
            rows.push(z, past, at * folds / records.len());
        }
        memory.take(z, true);
    }
    (rows, memory)
}

/// A machine that is on or off, each for 5 to 30 records.
fn on_off(count: usize) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut level, mut left) = (1.0f32, 0);
    let record = |_| {
        if left == 0 {
            (level, left) = (-level, rng.random_range(5..30));
        }
        left -= 1;
        vec![level + rng.random_range(-0.1..0.1)]
    };
    (0..count).map(record).collect()
}

#[test]
fn a_state_that_no_mode_has_is_not_reconstructed() {
    let (rows, memory) = rows(&on_off(2_000), 2);
    let fitted = fit(&rows, 2, 7).unwrap().unwrap();
    assert!(fitted.error_ratio < 0.5, "{}", fitted.error_ratio);
    let denoiser = fitted.mean().unwrap();
    let past = memory.past().unwrap();
    let left = |z: f32| denoiser.residual(&[z], past)[0].abs();
    assert!(
        left(1.0) < 0.15 && left(-1.0) < 0.15,
        "{} {}",
        left(1.0),
        left(-1.0)
    );
    // A third of the way to the other mode, which it takes for noise on the mode.
    assert!(
        left(0.6) > 0.25 && left(-0.6) > 0.25,
        "{} {}",
        left(0.6),
        left(-0.6)
    );
}

#[test]
fn on_what_is_linear_the_network_is_not_ahead() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut state = [0.0f32; 2];
    let record = |_| {
        let (a, b): (f32, f32) = (rng.random_range(-0.5..0.5), rng.random_range(-0.5..0.5));
        state = [0.9 * state[0] + a, 0.5 * state[0] + b];
        state.to_vec()
    };
    let (rows, _) = rows(&(0..2_000).map(record).collect::<Vec<_>>(), 2);
    let fitted = fit(&rows, 2, 7).unwrap().unwrap();
    assert!(fitted.error_ratio > 0.9, "{}", fitted.error_ratio);
}

#[test]
fn few_records_are_not_fitted() {
    let (rows, _) = rows(&on_off(20), 2);
    assert!(fit(&rows, 2, 7).unwrap().is_none());
}

#[test]
fn the_same_rows_and_seed_give_the_same_weights_and_those_come_back_from_their_file() {
    let (rows, memory) = rows(&on_off(400), 2);
    let fitted = || fit(&rows, 2, 3).unwrap().unwrap().mean().unwrap();
    let denoiser = fitted();
    assert_eq!(denoiser, fitted());
    let bytes = encode(&denoiser.weights()).unwrap();
    let mut weights = decode(&bytes).unwrap();
    let read = Denoiser::take(&mut weights, 1).unwrap().unwrap();
    assert!(weights.is_empty());
    assert_eq!(read, denoiser);
    let past = memory.past().unwrap();
    assert_eq!(read.residual(&[0.3], past), denoiser.residual(&[0.3], past));
    // A file for another number of fields, or without one of the weights.
    let mut weights = decode(&bytes).unwrap();
    assert!(Denoiser::take(&mut weights, 2).is_err());
    let mut weights = decode(&bytes).unwrap();
    weights.remove("denoiser.1.1.weight");
    let error = Denoiser::take(&mut weights, 1).unwrap_err().to_string();
    assert!(error.contains("denoiser.1.1.weight is missing"), "{error}");
    assert_eq!(Denoiser::take(&mut NamedTensors::new(), 1).unwrap(), None);
}
