//! The learning rate of each optimiser step: a short linear warm-up, then half a cosine down to
//! zero.
//!
//! Contract: never above the peak, never negative, for any step below `steps`. The cosine is the
//! single cycle of Loshchilov and Hutter, "SGDR", ICLR 2017; the warm-up keeps AdamW's first,
//! ill-estimated moments from throwing the fresh weights about.

/// The part of the steps in which the rate rises.
const WARM_UP: f64 = 0.05;

/// The learning rate of `step` (from 0) among `steps`.
pub(super) fn learning_rate(peak: f64, step: usize, steps: usize) -> f64 {
    let warm_up = (steps as f64 * WARM_UP).ceil();
    let step = step as f64;
    if step < warm_up {
        return peak * (step + 1.0) / warm_up;
    }
    let progress = (step - warm_up) / (steps as f64 - warm_up).max(1.0);
    peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_then_falls_to_nearly_zero() {
        let rates: Vec<f64> = (0..1000)
            .map(|step| learning_rate(3e-3, step, 1000))
            .collect();
        assert!((rates[0] - 3e-3 / 50.0).abs() < 1e-15);
        assert_eq!(rates[49], 3e-3);
        assert_eq!(rates[50], 3e-3);
        assert!((rates[525] - 1.5e-3).abs() < 1e-12);
        assert!(rates[999] > 0.0 && rates[999] < 1e-7);
        assert!(rates[50..].is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn a_single_step_runs_at_the_peak() {
        assert_eq!(learning_rate(1e-2, 0, 1), 1e-2);
    }
}
