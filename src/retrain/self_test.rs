//! Self-test: what the live series would detect at present, with their adapted thresholds and
//! baselines.
//!
//! The promotion tests show what a bundle detects in new series. Live series have adapted since: a
//! raised threshold, or a baseline that follows too fast, degrades the detector silently. So level
//! shifts are injected into copies of live series' latest normal records, and scored from copies of
//! their states. Nothing of it is published or stored.

use std::collections::VecDeque;

use super::inject::{InjectedFault, InjectedFaultKind, inject};
use super::trial::{Sequence, Trial};
use crate::pipeline::PipelineError;
use crate::pipeline::series::SeriesState;
use crate::promotion::PromotionVerdict;
use crate::record::EventTime;

/// The injected fault: a deviation that stays.
const KIND: InjectedFaultKind = InjectedFaultKind::LevelShift;
/// Records that it lasts, as in the promotion tests.
const FAULT_ROWS: usize = 100;
/// Number of newest results that are evaluated per stream.
const RESULTS_MAX: usize = 32;
/// Minimum number of tested series for a degraded detector.
const TESTED_MIN: usize = 3;
/// Multiple of the size in the promotion tests above which a field is degraded: two of the tested
/// sizes.
const WORSE: f64 = 4.0;
/// Fraction of degraded fields from which the detector is degraded, and below which it has
/// recovered.
const BLIND: (f64, f64) = (0.5, 0.25);

/// Faults that the series tested last would detect.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SelfTest {
    /// The bundle that they are scored by.
    bundle: String,
    /// For each series, the smallest size that it detects in each field; the newest last.
    results: VecDeque<(String, Vec<Option<f64>>)>,
}

/// A live series, and what it is tried with.
#[derive(Clone, Debug)]
pub struct TestedSeries<'a> {
    /// Its state as it was committed.
    pub state: &'a SeriesState,
    /// Its latest normal readings, row-major.
    pub values: &'a [f64],
    /// Microseconds between two records.
    pub period: i64,
    /// Standard deviation of each field inside a series, in its own unit; NaN of one without
    /// readings, which is not tested.
    pub unit: &'a [f64],
}

impl TestedSeries<'_> {
    /// The smallest level shift, in standard deviations, that is caught in each field; `None` where
    /// the series alerts without one, so that it tells nothing.
    ///
    /// # Errors
    /// Where the forward pass fails.
    pub fn test(&self, trial: &mut Trial) -> Result<Option<Vec<Option<f64>>>, PipelineError> {
        let fields = self.unit.len().max(1);
        let rows = self.values.len() / fields;
        let start = rows - FAULT_ROWS.min(2 * rows / 3);
        let newest = self.state.gate.newest().unwrap_or_default().0;
        let times: Vec<EventTime> = (1..=rows as i64)
            .map(|row| EventTime(newest + row * self.period.max(1)))
            .collect();
        let clean = Sequence {
            times,
            values: self.values.to_vec(),
        };
        // The readings are no continuation of those that the state remembers.
        let mut state = self.state.clone();
        state.interrupt(1);
        if !trial
            .run(std::slice::from_ref(&clean), Some(&state))?
            .opened[0]
            .iter()
            .all(|&row| row < start)
        {
            return Ok(None);
        }
        let sizes = KIND.sizes();
        let mut smallest = Vec::with_capacity(fields);
        for (field, &unit) in self.unit.iter().enumerate() {
            if unit.is_nan() {
                smallest.push(Some(unit));
                continue;
            }
            let with = |&size: &f64| {
                let mut sequence = clean.clone();
                inject(
                    &mut sequence.values,
                    fields,
                    &InjectedFault {
                        kind: KIND,
                        field,
                        size,
                    },
                    start,
                    unit,
                    field as u64,
                );
                sequence
            };
            let sequences: Vec<Sequence> = sizes.iter().map(with).collect();
            let opened = trial.run(&sequences, Some(&state))?.opened;
            let caught = |index: usize| opened[index].iter().any(|&row| row >= start);
            smallest.push(
                (0..sizes.len())
                    .rev()
                    .take_while(|&index| caught(index))
                    .last()
                    .map(|index| sizes[index]),
            );
        }
        Ok(Some(smallest))
    }
}

impl SelfTest {
    /// Forgets results of another bundle than the live one.
    pub fn follow(&mut self, bundle: &str) {
        if self.bundle != bundle {
            *self = Self {
                bundle: bundle.to_owned(),
                results: VecDeque::new(),
            };
        }
    }

    /// Takes the result of a series, in place of an older one.
    pub fn add(&mut self, series: &str, smallest: Vec<Option<f64>>) {
        self.results.retain(|(other, _)| other != series);
        self.results.push_back((series.to_owned(), smallest));
        while self.results.len() > RESULTS_MAX {
            self.results.pop_front();
        }
    }

    /// Number of tested series.
    pub fn tested(&self) -> usize {
        self.results.len()
    }

    /// The smallest size that at least half of the tested series catch in a field, in standard
    /// deviations; infinite where that is none. `None` where nothing was tested.
    pub fn detectable(&self, field: usize) -> Option<f64> {
        let mut sizes: Vec<f64> = self
            .results
            .iter()
            .filter_map(|(_, smallest)| {
                smallest
                    .get(field)
                    .map(|size| size.unwrap_or(f64::INFINITY))
            })
            .filter(|size| !size.is_nan())
            .collect();
        sizes.sort_unstable_by(f64::total_cmp);
        sizes.get(sizes.len().saturating_sub(1) / 2).copied()
    }

    /// Whether the stream is blind now: in at least half of the fields that can tell, series catch
    /// only deviations more than four times as large as the bundle has proved to catch, or, without
    /// a proof, none of any size. One that `was` blind sees again when that holds for less than a
    /// quarter of the fields. `None` while too few series have been tested.
    pub fn is_degraded(
        &self,
        names: &[&str],
        verdict: Option<&PromotionVerdict>,
        was: bool,
    ) -> Option<bool> {
        if self.tested() < TESTED_MIN {
            return None;
        }
        let proved = |name: &str| {
            let of = |verdict: &PromotionVerdict| {
                let found = verdict
                    .sensitivity
                    .iter()
                    .find(|s| s.kind == KIND && s.field == name);
                found.map_or(f64::INFINITY, |s| s.smallest.unwrap_or(f64::INFINITY))
            };
            verdict.map_or(f64::MAX, of)
        };
        let mut degraded = 0;
        let mut fields = 0;
        for (field, name) in names.iter().enumerate() {
            // What the bundle never caught tells nothing.
            let (proved, Some(now)) = (proved(name), self.detectable(field)) else {
                continue;
            };
            if proved.is_finite() {
                fields += 1;
                degraded += usize::from(now.is_infinite() || now > WORSE * proved);
            }
        }
        let part = degraded as f64 / f64::from(u32::try_from(fields).ok().filter(|&n| n > 0)?);
        Some(part >= if was { BLIND.1 } else { BLIND.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["x", "y"];

    fn tested(smallest: &[[Option<f64>; 2]]) -> SelfTest {
        let mut test = SelfTest::default();
        test.follow("b");
        smallest
            .iter()
            .enumerate()
            .for_each(|(number, sizes)| test.add(&number.to_string(), sizes.to_vec()));
        test
    }

    #[test]
    fn half_of_the_series_tell_what_is_caught() {
        let test = tested(&[[Some(1.0), None], [Some(2.0), None], [None, Some(4.0)]]);
        assert_eq!(
            (test.detectable(0), test.detectable(1)),
            (Some(2.0), Some(f64::INFINITY))
        );
        assert_eq!(SelfTest::default().detectable(0), None);
    }

    #[test]
    fn without_a_proof_only_a_stream_that_catches_nothing_is_blind_and_it_does_not_flap() {
        let degraded = |test: &SelfTest, was| test.is_degraded(&NAMES, None, was);
        assert_eq!(
            degraded(&tested(&[[None, None]; 2]), false),
            None,
            "too few"
        );
        let (all, half, none) = (
            tested(&[[None, None]; 3]),
            tested(&[[Some(16.0), None]; 3]),
            [[Some(16.0); 2]; 3],
        );
        assert_eq!(
            (
                degraded(&all, false),
                degraded(&half, false),
                degraded(&tested(&none), false)
            ),
            (Some(true), Some(true), Some(false))
        );
        assert_eq!(
            (degraded(&half, true), degraded(&tested(&none), true)),
            (Some(true), Some(false))
        );
    }

    #[test]
    fn another_bundle_and_another_test_of_a_series_take_the_place_of_the_last_ones() {
        let mut test = tested(&[[None, None]; 40]);
        assert_eq!(test.tested(), RESULTS_MAX);
        test.add("39", vec![Some(1.0), Some(1.0)]);
        assert_eq!(test.tested(), RESULTS_MAX);
        test.follow("another one");
        assert_eq!(test.tested(), 0);
    }
}
