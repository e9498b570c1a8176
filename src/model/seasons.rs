//! The seasonal baseline: what the clock of a plant lets expect of each field.
//!
//! Contract: the fields of a record are charted less the baseline of their time, so that a machine
//! that runs at the wrong hour deviates by as much as one that stops at the right one, and a start
//! at six o'clock is no jump.
//!
//! A week has a slot for each quarter of an hour. The level of a slot is the median over the dates
//! that had it; a level of few dates is shrunk towards that of the coarser slots around it, quarter
//! to hour of the week to hour of the day, by the variance between dates against the variance
//! between slots (empirical Bayes: Efron and Morris, "Data Analysis Using Stein's Estimator and its
//! Generalizations", JASA 70, 1975). A slot that no date had has the coarser level. So one week of
//! records gives hours of the day, several weeks give hours of the week, and a field that the clock
//! does not explain keeps a baseline of nearly 0.

use std::collections::BTreeMap;

use super::context::{ClockTime, SlotWidth, TimeContext};
use super::memory::CLIP;

/// Scaled records to fit a baseline to.
pub struct SeasonRows<'a> {
    /// Row-major, n x k.
    pub rows: &'a [f32],
    /// The time of each by the plant's clock.
    pub times: &'a [ClockTime],
    /// The number of the series of each.
    pub series: &'a [usize],
    /// Fields.
    pub k: usize,
}

impl SeasonRows<'_> {
    /// The baseline of the records for which `uses` holds: slots x k, row-major. Empty where the
    /// context has no time features.
    pub fn fit(&self, clock: &TimeContext, uses: impl Fn(usize) -> bool) -> Vec<f32> {
        let k = self.k;
        let slots = clock.slots();
        let times = self.times.iter().copied().enumerate();
        let used: Vec<(usize, ClockTime)> = times.filter(|(row, _)| uses(*row)).collect();
        let mut baseline = vec![0.0f32; slots * k];
        if slots == 0 || used.is_empty() {
            return baseline;
        }
        let means = self.series_means(&used);
        for field in 0..k {
            let value = |row: usize| {
                let level = means[self.series[row] * k + field];
                f64::from((self.rows[row * k + field] - level).clamp(-CLIP, CLIP))
            };
            let mut levels = vec![0.0; slots];
            for width in clock.slot_widths() {
                refine(&mut levels, width, &used, value);
            }
            for (slot, level) in levels.into_iter().enumerate() {
                baseline[slot * k + field] = level as f32;
            }
        }
        baseline
    }

    /// The mean of each field of each series: series x k.
    fn series_means(&self, used: &[(usize, ClockTime)]) -> Vec<f32> {
        let count = self.series.iter().max().map_or(0, |most| most + 1);
        let mut sums = vec![0.0f64; count * self.k];
        let mut rows = vec![0.0f64; count];
        for (row, _) in used {
            let series = self.series[*row];
            rows[series] += 1.0;
            let values = &self.rows[row * self.k..(row + 1) * self.k];
            let own = &mut sums[series * self.k..(series + 1) * self.k];
            own.iter_mut()
                .zip(values)
                .for_each(|(sum, z)| *sum += f64::from(*z));
        }
        let means = sums.chunks_exact(self.k).zip(rows);
        means
            .flat_map(|(sums, rows)| sums.iter().map(move |sum| (sum / rows.max(1.0)) as f32))
            .collect()
    }
}

/// Adds to the level of each slot what the cell that it belongs to has left over.
fn refine(
    levels: &mut [f64],
    width: SlotWidth,
    used: &[(usize, ClockTime)],
    value: impl Fn(usize) -> f64,
) {
    // What is left of each date in each cell: its mean is one observation, however many records
    // it has.
    let mut dates: BTreeMap<(usize, i32), (f64, f64)> = BTreeMap::new();
    for (row, at) in used {
        let sum = dates.entry((width.cell(at.slot), at.day)).or_default();
        *sum = (sum.0 + value(*row) - levels[at.slot], sum.1 + 1.0);
    }
    let mut cells: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for ((cell, _), (sum, rows)) in dates {
        cells.entry(cell).or_default().push(sum / rows);
    }
    let medians: BTreeMap<usize, f64> = cells
        .iter_mut()
        .map(|(&cell, found)| (cell, median(found)))
        .collect();
    let (mut squares, mut freedom, mut inverse) = (0.0, 0.0, 0.0);
    for (cell, found) in &cells {
        let squared = found.iter().map(|x| (x - medians[cell]).powi(2));
        squares += squared.sum::<f64>();
        freedom += found.len() as f64 - 1.0;
        inverse += 1.0 / found.len() as f64;
    }
    // One date for each cell: nothing says what of its level returns.
    if freedom < 1.0 {
        return;
    }
    let within = squares / freedom;
    let count = cells.len() as f64;
    let mean = medians.values().sum::<f64>() / count;
    let spread = medians.values().map(|m| (m - mean).powi(2)).sum::<f64>() / count;
    let between = (spread - within * inverse / count).max(0.0);
    for (slot, level) in levels.iter_mut().enumerate() {
        let cell = width.cell(slot);
        if let Some((found, median)) = cells.get(&cell).zip(medians.get(&cell)) {
            let own = within / found.len() as f64;
            *level += median * between / (between + own).max(f64::MIN_POSITIVE);
        }
    }
}

/// The median of some values; of an even number the mean of the middle two.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[half - 1], values[half]),
        _ => values[half],
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::model::TimeFeature::{DayOfWeek, TimeOfDay};
    use crate::record::EventTime;

    const MINUTE: i64 = 60_000_000;
    /// Monday, 2026-06-01, in minutes since the epoch.
    const MONDAY: i64 = 29_671_200;

    fn clock(features: &[crate::model::TimeFeature]) -> TimeContext {
        TimeContext::utc(features)
    }

    /// The baseline of one field with a value every ten minutes of so many days.
    fn fitted(clock: &TimeContext, days: i64, value: impl Fn(i64, i64) -> f32) -> Vec<f32> {
        let times: Vec<ClockTime> = (0..days * 144)
            .map(|row| clock.at(EventTime((MONDAY + 10 * row) * MINUTE)))
            .collect();
        let rows: Vec<f32> = (0..days * 144)
            .map(|row| value(row / 144, row % 144 * 10))
            .collect();
        SeasonRows {
            rows: &rows,
            times: &times,
            series: &vec![0; times.len()],
            k: 1,
        }
        .fit(clock, |_| true)
    }

    fn at(clock: &TimeContext, baseline: &[f32], day: i64, minute: i64) -> f32 {
        let time = EventTime((MONDAY + day * 1_440 + minute) * MINUTE);
        baseline[clock.at(time).slot]
    }

    #[test]
    fn a_week_of_shifts_is_known_after_four_and_a_holiday_does_not_spoil_it() {
        let clock = clock(&[TimeOfDay, DayOfWeek]);
        let works = |day: i64, minute: i64| day % 7 < 5 && (360..1_320).contains(&minute);
        // The second Thursday is a holiday.
        let shifts = |day, minute| f32::from(u8::from(works(day, minute) && day != 10));
        let baseline = fitted(&clock, 28, shifts);
        let found = |day, minute| at(&clock, &baseline, day, minute);
        assert!(found(1, 720) - found(1, 60) > 0.95, "{baseline:?}");
        // It costs a part of the difference between a Saturday and the other days.
        assert!((found(5, 720) - found(1, 60)).abs() < 0.1);
        assert!(found(3, 720) - found(1, 60) > 0.9, "the holiday counts");
        // The end of the shift is sharp.
        assert!(found(0, 1_310) - found(0, 1_320) > 0.95);
    }

    #[test]
    fn few_weeks_give_hours_of_the_day_and_noise_gives_nothing() {
        let clock = clock(&[TimeOfDay, DayOfWeek]);
        let day = |_, minute: i64| f32::from(u8::from((360..1_320).contains(&minute)));
        let baseline = fitted(&clock, 5, day);
        let found = |day, minute| at(&clock, &baseline, day, minute);
        assert!(found(0, 720) - found(0, 60) > 0.95);
        assert!(found(6, 720) - found(6, 60) > 0.95, "as on the other days");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let noise: Vec<f32> = (0..28 * 144).map(|_| rng.random_range(-1.7..1.7)).collect();
        let baseline = fitted(&clock, 28, |day, minute| {
            noise[(day * 144 + minute / 10) as usize]
        });
        let squares = baseline.iter().map(|x| f64::from(x * x)).sum::<f64>();
        let rms = (squares / baseline.len() as f64).sqrt();
        assert!(rms < 0.15, "{rms}");
    }

    #[test]
    fn a_smooth_day_is_followed() {
        let clock = clock(&[TimeOfDay]);
        let wave = |minute: i64| (minute as f32 / 1_440.0 * std::f32::consts::TAU).sin();
        let baseline = fitted(&clock, 7, |_, minute| wave(minute));
        for minute in (0..1_440).step_by(10) {
            let off = at(&clock, &baseline, 2, minute) - wave(minute);
            assert!(off.abs() < 0.05, "{minute}: {off}");
        }
    }

    #[test]
    fn rows_that_are_left_out_change_nothing() {
        let clock = clock(&[DayOfWeek]);
        let times: Vec<ClockTime> = (0..28)
            .map(|day| clock.at(EventTime((MONDAY + day * 1_440) * MINUTE)))
            .collect();
        let mut rows: Vec<f32> = (0..28u8).map(|day| f32::from(day % 7)).collect();
        let series = vec![0; 28];
        let fit = |rows: &[f32]| {
            let of = SeasonRows {
                rows,
                times: &times,
                series: &series,
                k: 1,
            };
            of.fit(&clock, |row| row < 21)
        };
        let before = fit(&rows);
        rows[21..].fill(5.0);
        assert_eq!(fit(&rows), before);
        assert_eq!(before.len(), 7);
        assert!((before[6] - 3.0).abs() < 0.1, "less the mean: {before:?}");
    }
}
