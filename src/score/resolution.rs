//! The resolution of each field: a step of its converter is no deviation.
//!
//! A coarse sensor in a quiet room reads the same for hours, and one step more counts as many standard
//! deviations. So half a step is added to each standard deviation: one step is then two of them, and
//! thirty steps are fifteen times more.

/// Part of a step that a standard deviation has at least.
const PART: f64 = 0.5;
/// Readings nearer to each other than this, in scaled units, are equal up to rounding.
const ROUNDING: f32 = 1e-4;
/// Distinct readings from which on they are steps, not states of a machine.
const DISTINCT_MIN: usize = 3;

/// The least standard deviation of each field of scaled records (row-major, n x k); 0 where a field has
/// states instead of steps.
pub fn least_deviations(readings: &[f32], k: usize) -> Vec<f64> {
    (0..k)
        .map(|field| {
            let mut sorted: Vec<f32> = readings.iter().skip(field).step_by(k).copied().collect();
            sorted.sort_unstable_by(f32::total_cmp);
            let steps = sorted.windows(2).map(|pair| pair[1] - pair[0]);
            let steps: Vec<f32> = steps.filter(|step| *step > ROUNDING).collect();
            let smallest = steps.iter().copied().fold(f32::INFINITY, f32::min);
            match steps.len() + 1 >= DISTINCT_MIN {
                true => PART * f64::from(smallest),
                false => 0.0,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_smallest_step_counts_and_states_have_none() {
        let coarse = [0.0f32, 0.5, 0.5, 0.0, 2.0, 0.500_01];
        let state = [0.0f32, 1.0, 0.0, 0.0, 1.0, 0.0];
        let fine: Vec<f32> = (0..6u8).map(|i| f32::from(i * i) * 0.013).collect();
        let rows: Vec<f32> = (0..6)
            .flat_map(|i| [coarse[i], state[i], fine[i], 7.0])
            .collect();
        let found = least_deviations(&rows, 4);
        assert!((found[0] - 0.25).abs() < 1e-4, "{found:?}");
        assert_eq!((found[1], found[3]), (0.0, 0.0));
        assert!((found[2] - 0.0065).abs() < 1e-6, "{found:?}");
    }
}
