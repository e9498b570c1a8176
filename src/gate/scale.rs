//! A changed unit or scale: the reading is impossible in the configured unit and normal in another
//! one.

/// Readings nearer to the mean than this, in standard deviations, are left to the model.
const FAR_SD: f64 = 20.0;

/// How near to the mean a converted reading must come, in standard deviations.
const NEAR_SD: f64 = 3.0;

/// A mean of fewer standard deviations than this has no detectable scale.
///
/// The conversions of a wide distribution cover nearly everything: of wild readings, spread evenly
/// over 3 decades to each side of the mean, four in five are ordinary in some other unit where the
/// mean is 5 standard deviations, a third at 20, 16 % at 50, 8 % at 100 and 1 % at 1000. That is
/// the probability that a real anomaly is misclassified as a wrong unit, and not scored. A wrong
/// unit that is not detected here is scored as an anomaly; so the limit is high.
const IDENTIFIABLE_SD: f64 = 50.0;

/// Converts a reading in a wrong unit to the right one: `slope * x + offset`. Each conversion is
/// listed with its inverse.
const CONVERSIONS: [(f64, f64); 28] = [
    (1e-6, 0.0),
    (1e-5, 0.0),
    (1e-4, 0.0),
    (1e-3, 0.0),
    (1e-2, 0.0),
    (1e-1, 0.0),
    (1e1, 0.0),
    (1e2, 0.0),
    (1e3, 0.0),
    (1e4, 0.0),
    (1e5, 0.0),
    (1e6, 0.0),
    (1.0, -273.15),            // K read as C
    (1.0, 273.15),             // C read as K
    (5.0 / 9.0, -160.0 / 9.0), // F read as C
    (1.8, 32.0),               // C read as F
    (0.068_947_572_93, 0.0),   // psi read as bar
    (14.503_773_77, 0.0),      // bar read as psi
    (0.145_037_737_7, 0.0),    // kPa read as psi
    (6.894_757_293, 0.0),      // psi read as kPa
    (1.0 / 60.0, 0.0),         // per minute read as per second
    (60.0, 0.0),               // per second read as per minute
    (1.0 / 3600.0, 0.0),       // per hour read as per second
    (3600.0, 0.0),             // per second read as per hour
    (1.0 / 3.6, 0.0),          // m3/h read as l/s, km/h read as m/s
    (3.6, 0.0),                // l/s read as m3/h, m/s read as km/h
    (1.0 / 25.4, 0.0),         // mm read as inch
    (25.4, 0.0),               // inch read as mm
];

/// The normal readings of a field with a detectable scale.
#[derive(Clone, PartialEq, Debug)]
pub struct Scale {
    mean: f64,
    sd: f64,
}

impl Scale {
    /// `None` if the scale is not detectable: a constant field, a mean near zero, or numbers that
    /// are not finite.
    pub fn new(mean: f64, sd: f64) -> Option<Self> {
        let identifiable =
            mean.is_finite() && sd.is_finite() && sd > 0.0 && mean.abs() > IDENTIFIABLE_SD * sd;
        identifiable.then_some(Self { mean, sd })
    }

    /// Whether `x` (finite) is far outside normal and well inside after one of the conversions.
    pub fn jumped(&self, x: f64) -> bool {
        let far = |distance: f64| distance.abs() > FAR_SD * self.sd;
        // Near the zero of the wrong unit every reading converts to the mean, that of a dead
        // channel first (0 C in K).
        let ordinary = |&(slope, offset): &(f64, f64)| {
            far(slope * x) && (slope * x + offset - self.mean).abs() <= NEAR_SD * self.sd
        };
        far(x - self.mean) && CONVERSIONS.iter().any(ordinary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of wild readings that are taken for a scale jump: log-uniform within 3 decades of the
    /// mean, the ones that are far enough from it.
    fn mistaken(mean: f64, sd: f64) -> f64 {
        let scale = Scale::new(mean, sd).expect("identifiable");
        let wild = (0..60_000).map(|i| mean * 10f64.powf(f64::from(i) / 10_000.0 - 3.0));
        let far: Vec<f64> = wild.filter(|x| (x - mean).abs() > FAR_SD * sd).collect();
        far.iter().filter(|x| scale.jumped(**x)).count() as f64 / far.len() as f64
    }

    #[test]
    fn wild_readings_are_seldom_taken_for_another_unit() {
        for mean in [1.0, 20.0, 90.0, 290.0, 300.0, -300.0] {
            for (mean_sd, at_most) in [(50.1, 0.18), (100.0, 0.09), (1000.0, 0.018)] {
                let share = mistaken(mean, (mean / mean_sd).abs());
                assert!(share < at_most, "mean {mean} of {mean_sd} sd: {share}");
            }
        }
    }

    #[test]
    fn each_conversion_stands_beside_its_inverse() {
        for (slope, offset) in CONVERSIONS {
            let back = |(s, o): &(f64, f64)| (s * (slope * 7.0 + offset) + o - 7.0).abs() < 1e-6;
            assert!(CONVERSIONS.iter().any(back), "{slope} x + {offset}");
        }
    }

    #[test]
    fn a_wide_field_has_no_scale() {
        assert_eq!(Scale::new(49.0, 1.0), None);
        assert_eq!(Scale::new(5.0, 0.0), None);
        assert_eq!(Scale::new(f64::INFINITY, 1.0), None);
        assert_eq!(Scale::new(f64::NAN, 1.0), None);
        assert!(Scale::new(-51.0, 1.0).is_some());
    }
}
