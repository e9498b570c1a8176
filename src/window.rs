//! A window: the last W records of a series, oldest first, as the model's input.
//!
//! Windows hold plain readings, not scaled ones, so that they stay valid when the bundle changes. A
//! row model (W = 1) has none. A sensor fault empties the window: a model must not see readings
//! that cannot be believed.

use serde::{Deserialize, Serialize};

use crate::record::EventTime;

/// The records of a series that the next window still needs.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct WindowState {
    /// At most W - 1 rows of readings, row-major, oldest first: how many there are tells when the
    /// next window is due. Overwritten as records come, emptied by [`WindowState::clear`].
    rows: Vec<f64>,
    /// Time of the newest record, from which a gap is measured.
    newest: EventTime,
    /// Records since the last gap, as far as they can be in one window.
    whole: u16,
}

impl WindowState {
    /// Takes note of the time of the record that is pushed next: after more than `gap_us` records
    /// are missing before it (0: never).
    pub fn note(&mut self, time: EventTime, gap_us: i64) {
        if gap_us > 0 && !self.rows.is_empty() && time.micros_since(self.newest) > gap_us {
            self.whole = 0;
        }
        self.newest = time;
    }

    /// Whether records are missing inside the window that ends with the newest record.
    pub fn spans_gap(&self, window: usize) -> bool {
        usize::from(self.whole) < window
    }

    /// Adds one record's readings and, once there are `window` records, hands the window (`window x
    /// fields`) to `take`. `stride` records later is the next one, with 1 <= `stride` <= `window`.
    ///
    /// Returns whether there was a window.
    pub fn push(
        &mut self,
        window: usize,
        stride: usize,
        readings: &[f64],
        take: impl FnOnce(&[f64]),
    ) -> bool {
        let full = window * readings.len();
        // Rows of a longer window, from before a change of the configuration.
        self.rows
            .drain(..(self.rows.len() + readings.len()).saturating_sub(full));
        self.rows.extend_from_slice(readings);
        self.whole = (self.whole + 1).min(window as u16);
        if self.rows.len() < full {
            return false;
        }
        take(&self.rows);
        self.rows.drain(..stride.clamp(1, window) * readings.len());
        true
    }

    /// Whether the newest record, that ended no window, is one of those between two windows.
    pub fn is_between(&self, window: usize, stride: usize, fields: usize) -> bool {
        self.rows.len() > window.saturating_sub(stride) * fields
    }

    /// Forgets the records, so that the next window starts empty.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.whole = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_are_the_last_rows_at_every_stride(
            window in 1..6usize, stride in 1..6usize, fields in 1..4usize, n in 0..30usize,
        ) {
            let stride = stride.min(window);
            let mut state = WindowState::default();
            let rows: Vec<Vec<f64>> = (0..n).map(|i| (0..fields).map(|j| (i * 10 + j) as f64).collect()).collect();
            for (i, row) in rows.iter().enumerate() {
                let mut out = Vec::new();
                let full = state.push(window, stride, row, |window| out.extend_from_slice(window));
                prop_assert_eq!(full, i + 1 >= window && (i + 1 - window).is_multiple_of(stride));
                let expected = if full { rows[i + 1 - window..=i].concat() } else { Vec::new() };
                prop_assert_eq!(out, expected);
                if !full && i >= window {
                    prop_assert!(state.is_between(window, stride, fields));
                }
            }
        }
    }

    fn push(state: &mut WindowState, window: usize, value: f64) -> Option<Vec<f64>> {
        let mut found = None;
        state.push(window, 1, &[value], |window| found = Some(window.to_vec()));
        found
    }

    #[test]
    fn a_cleared_window_starts_anew() {
        let mut state = WindowState::default();
        push(&mut state, 2, 1.0);
        assert_eq!(push(&mut state, 2, 2.0), Some(vec![1.0, 2.0]));
        state.clear();
        assert_eq!(push(&mut state, 2, 3.0), None);
        assert_eq!(push(&mut state, 2, 4.0), Some(vec![3.0, 4.0]));
    }

    #[test]
    fn a_window_is_marked_while_a_gap_is_inside_it() {
        let mut state = WindowState::default();
        let mut marked = Vec::new();
        for second in [0, 1, 2, 3, 10, 11, 12, 13] {
            state.note(EventTime(second * 1_000_000), 2_000_000);
            if push(&mut state, 3, 0.0).is_some() {
                marked.push((second, state.spans_gap(3)));
            }
        }
        assert_eq!(
            marked,
            [
                (2, false),
                (3, false),
                (10, true),
                (11, true),
                (12, false),
                (13, false)
            ]
        );
    }

    #[test]
    fn a_window_that_was_made_shorter_goes_on_with_its_newest_rows() {
        let mut state = WindowState::default();
        for value in 0..9 {
            push(&mut state, 5, f64::from(value));
        }
        assert_eq!(push(&mut state, 3, 9.0), Some(vec![7.0, 8.0, 9.0]));
    }
}
