//! Sentinels: numbers that a gateway or a converter sends where it has no reading.

use super::normal::{NormalRange, beyond};

/// The usual ones: marks of missing data, and the ends of integer ranges.
const USUAL: [f64; 16] = [
    -99.99,
    -888.0,
    -999.0,
    -999.9,
    -9_999.0,
    -9_999.9,
    -99_999.0,
    -999_999.0,
    9_999.0,
    -32_768.0,
    32_767.0,
    65_535.0,
    -2_147_483_648.0,
    2_147_483_647.0,
    4_294_967_295.0,
    -9_223_372_036_854_775_808.0,
];
/// Numbers from here on are filling, such as 1e30 or the largest float.
const FILL: f64 = 1e30;
/// Widths of the normal range that a usual sentinel lies outside of it at least, and a constant that
/// is no usual one.
const OUTSIDE: (f64, f64) = (3.0, 10.0);
/// Records for which such a constant repeats.
const REPEATS: u32 = 3;
/// How far a sentinel is from the reading before, as a multiple of it and beyond, while no normal range
/// is known.
const LEAP: (f64, f64) = (20.0, 50.0);

/// What is a sentinel of one field.
#[derive(Clone, PartialEq, Debug)]
pub struct Sentinels {
    /// The normal range; `None` while there is no bundle.
    range: Option<[f64; 2]>,
    /// Whether normal readings hardly ever repeat.
    moves: bool,
}

impl Sentinels {
    /// `normal` is `None` while there is no bundle.
    pub fn new(normal: Option<&NormalRange>) -> Self {
        Self {
            range: normal.map(|normal| normal.range),
            moves: normal
                .is_some_and(|normal| normal.movement > 0.0 && normal.longest_run < REPEATS),
        }
    }

    /// Whether a reading is a sentinel: the last one was `last`, `x` was read `run` times in a row, and
    /// `was_one` tells whether the last one was a sentinel.
    pub fn is_one(&self, x: f64, last: Option<f64>, run: u32, was_one: bool) -> bool {
        if was_one && last == Some(x) {
            return true;
        }
        let is_usual = USUAL.contains(&x) || x.abs() >= FILL;
        let Some(range) = self.range else {
            let leaps = |last: f64| (x - last).abs() > LEAP.0 * last.abs() + LEAP.1;
            return is_usual && last.is_some_and(leaps);
        };
        let outside = beyond(range, x);
        let width = range[1] - range[0];
        (is_usual && outside > OUTSIDE.0 * width)
            || (self.moves && run >= REPEATS && outside > OUTSIDE.1 * width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Sentinels {
        Sentinels::new(Some(&NormalRange {
            movement: 0.1,
            longest_run: 1,
            range: [1.0, 3.0],
            ..NormalRange::default()
        }))
    }

    #[test]
    fn usual_sentinels_are_told_from_readings_of_that_size() {
        for x in [-9_999.0, -888.0, 65_535.0, 32_767.0, 1e35, -1e38] {
            assert!(known().is_one(x, Some(2.0), 1, false), "{x}");
            assert!(Sentinels::new(None).is_one(x, Some(2.0), 1, false), "{x}");
        }
        let large = Sentinels::new(Some(&NormalRange {
            range: [-40_000.0, 70_000.0],
            ..NormalRange::default()
        }));
        for x in [-9_999.0, 65_535.0, 32_767.0] {
            assert!(!large.is_one(x, Some(2.0), 1, false), "{x}");
            assert!(
                !Sentinels::new(None).is_one(x, Some(0.9 * x), 1, false),
                "{x}"
            );
        }
    }

    #[test]
    fn a_constant_far_out_is_one_once_it_repeats_and_stays_one() {
        assert!(!known().is_one(777.0, Some(777.0), 2, false));
        assert!(known().is_one(777.0, Some(777.0), 3, false));
        assert!(known().is_one(777.0, Some(777.0), 4, true));
        assert!(!known().is_one(2.0, Some(777.0), 1, true));
        assert!(
            !known().is_one(20.0, Some(20.0), 9, false),
            "it is not far enough"
        );
    }
}
