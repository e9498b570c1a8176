//! A window: the last W records of a series, oldest first, as the model's input.
//!
//! Windows hold plain readings, not scaled ones, so that they stay valid when the bundle changes. A row model (W = 1)
//! keeps nothing. A sensor fault empties the window: a model must not see readings that cannot be believed.

use serde::{Deserialize, Serialize};

/// The records of a series that the next window still needs.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct WindowState {
    /// At most W - 1 rows of readings, row-major, oldest first. Overwritten as records come, emptied by [`WindowState::clear`].
    rows: Vec<f64>,
}

impl WindowState {
    /// Adds one record's readings and, once there are `window` records, appends the window (`window x fields`) to `out`.
    ///
    /// Returns whether a window was appended.
    pub fn push(&mut self, window: usize, readings: &[f64], out: &mut Vec<f64>) -> bool {
        let kept = window.saturating_sub(1) * readings.len();
        let full = self.rows.len() == kept;
        if full {
            out.extend_from_slice(&self.rows);
            out.extend_from_slice(readings);
            let newest = self.rows.len().min(readings.len());
            self.rows.drain(..newest);
        }
        if kept > 0 {
            self.rows.extend_from_slice(readings);
        }
        full
    }

    /// Forgets the records, so that the next window starts anew.
    pub fn clear(&mut self) {
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_are_the_last_rows(window in 1..5usize, fields in 1..4usize, n in 0..20usize) {
            let mut state = WindowState::default();
            let rows: Vec<Vec<f64>> = (0..n).map(|i| (0..fields).map(|j| (i * 10 + j) as f64).collect()).collect();
            for (i, row) in rows.iter().enumerate() {
                let mut out = Vec::new();
                let full = state.push(window, row, &mut out);
                prop_assert_eq!(full, i + 1 >= window);
                let expected = if full { rows[i + 1 - window..=i].concat() } else { Vec::new() };
                prop_assert_eq!(out, expected);
            }
        }
    }

    #[test]
    fn a_cleared_window_starts_anew() {
        let mut state = WindowState::default();
        let mut out = Vec::new();
        for value in [1.0, 2.0] {
            state.push(2, &[value], &mut out);
        }
        state.clear();
        assert!(!state.push(2, &[3.0], &mut out));
        assert!(state.push(2, &[4.0], &mut out));
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0]);
    }
}
