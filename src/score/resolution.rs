//! The resolution of each field: a step of its converter is no deviation.
//!
//! A coarse sensor in a quiet room reads the same for hours, and one step more counts as many standard
//! deviations. So half a step is added to each standard deviation: one step is then two of them, and
//! thirty steps are fifteen times more.

/// Part of a step that a standard deviation has at least.
const PART: f64 = 0.5;
/// Distinct readings from which on the least distance of two is a step.
const DISTINCT_MIN: usize = 3;
/// Decimals that a converter writes at most, and the largest part of the readings that its step is:
/// of two readings that are further apart each is a state of the machine.
const DECIMALS: (i32, f64) = (3, 0.05);

/// The step of each field of records (row-major, n x k, in the fields' units) in units of `sd`, which
/// scales the field; 0 where it is not known.
pub fn scaled_steps(rows: &[f64], sd: &[f64]) -> Vec<f64> {
    let column = |field: usize| rows.iter().skip(field).step_by(sd.len()).copied();
    let steps = (0..sd.len()).map(|field| step(column(field).collect()));
    let scaled = steps
        .zip(sd)
        .map(|(step, sd)| step / sd.max(f64::MIN_POSITIVE));
    scaled.collect()
}

/// The least standard deviations that steps give.
pub fn least_deviations(steps: &[f64]) -> Vec<f64> {
    steps.iter().map(|step| PART * step).collect()
}

fn step(mut readings: Vec<f64>) -> f64 {
    readings.retain(|x| x.is_finite());
    readings.sort_unstable_by(f64::total_cmp);
    readings.dedup();
    let largest = readings
        .iter()
        .fold(0.0f64, |largest, x| largest.max(x.abs()));
    if readings.len() >= DISTINCT_MIN {
        let gaps = readings.windows(2).map(|pair| pair[1] - pair[0]);
        // Two texts of one number differ by a rounding.
        let gaps = gaps.filter(|gap| *gap > 1e-9 * largest);
        return gaps.min_by(f64::total_cmp).unwrap_or(0.0);
    }
    let is_written = |digits: &i32| {
        let unit = 10f64.powi(*digits);
        readings
            .iter()
            .all(|x| (x * unit - (x * unit).round()).abs() < 1e-6)
    };
    let digits = (0..=DECIMALS.0).find(is_written);
    let step = digits.map_or(0.0, |digits| 10f64.powi(-digits));
    if step <= DECIMALS.1 * largest {
        step
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_distance_is_the_step_and_states_have_none() {
        let coarse = [21.0, 21.5, 21.5, 21.0, 23.0, 21.0];
        let state = [0.0, 1.0, 0.0, 0.0, 1.0, 0.0];
        let quiet = [44.1, 44.1, 44.1, 44.1, 44.2, 44.1];
        let speeds = [1000.0, 1500.0, 1500.0, 1000.0, 1000.0, 1500.0];
        let rows: Vec<f64> = (0..6)
            .flat_map(|i| [coarse[i], state[i], quiet[i], 45.0, speeds[i]])
            .collect();
        let found = scaled_steps(&rows, &[1.0; 5]);
        assert_eq!(found[..2], [0.5, 0.0]);
        assert!((found[2] - 0.1).abs() < 1e-9, "{found:?}");
        assert_eq!(found[3..], [1.0, 1.0]);
        assert_eq!(scaled_steps(&[1.0, 2.0, 4.0], &[2.0]), [0.5]);
        assert_eq!(least_deviations(&[0.5, 0.0]), [0.25, 0.0]);
    }
}
