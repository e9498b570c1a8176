//! Resampling: the records of a series become one row for each slot of a fixed period.
//!
//! Contract: slots are aligned to the Unix epoch. Each field has its own rule for several readings
//! in a slot; readings that cannot be (missing, not finite, outside the physical range) count only
//! where the slot has no others, so that the gate still sees a sensor that sends nothing else. A
//! slot is whole with the first record of a later one: nothing waits for a clock, and the same
//! records give the same rows, live as in a replay. A slot without a record has no row.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::options::optional;
use crate::record::format::{FieldSettings, ResampleRule};
use crate::record::{EventTime, MISSING};

/// Resampling of records to rows of a fixed period.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ResampleSettings {
    /// The period, 1ms to 30d; 0s: no resampling.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "10s", extend("x-duration" = {"minimum": "1ms", "maximum": "30d", "zero": "off"}))]
    pub period: Duration,
    /// How several readings of a field in a bucket are combined, unless the field has its own rule.
    pub rule: ResampleRule,
}

/// How one stream is resampled.
#[derive(Clone, PartialEq, Debug)]
pub struct Resampler {
    period_us: i64,
    fields: Vec<FieldLimits>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct FieldLimits {
    rule: ResampleRule,
    min: f64,
    max: f64,
}

/// The slot of a series that still grows.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ResampleState {
    /// Which slot, in periods since the epoch.
    bucket: i64,
    /// Of each field; empty before the first record.
    fields: Vec<FieldBucket>,
}

/// The readings of one field in a slot.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct FieldBucket {
    /// Sum, last, largest or smallest plausible reading, or the last implausible one where there is
    /// no other.
    value: f64,
    /// Plausible readings.
    count: u32,
}

/// A slot that is whole.
#[derive(Clone, PartialEq, Debug)]
pub struct ResampledRow {
    /// The begin of the slot.
    pub time: EventTime,
    /// One reading of each field.
    pub values: Vec<f64>,
}

impl Resampler {
    /// The rules of a stream; `None` where its records are taken as they come.
    pub fn new(resample: &ResampleSettings, fields: &[FieldSettings]) -> Option<Self> {
        let period_us = i64::try_from(resample.period.as_micros()).unwrap_or(i64::MAX);
        let limits = |field: &FieldSettings| FieldLimits {
            rule: field.resample.unwrap_or(resample.rule),
            min: field.min,
            max: field.max,
        };
        (period_us > 0).then(|| Self {
            period_us,
            fields: fields.iter().map(limits).collect(),
        })
    }

    /// Microseconds from one row to the next.
    pub fn period_us(&self) -> i64 {
        self.period_us
    }

    /// Adds a record of a series; gives the slot before where this record is the first of a later
    /// one. A record of an earlier slot, whose row has gone its way, is left out. `restarts` says
    /// that the source set its clock back: its slots start again.
    pub fn push(
        &self,
        state: &mut ResampleState,
        time: EventTime,
        values: &[f64],
        restarts: bool,
    ) -> Option<ResampledRow> {
        let bucket = time.0.div_euclid(self.period_us);
        let begun = !state.fields.is_empty() && state.fields.len() == self.fields.len();
        let mut row = None;
        if !begun || bucket > state.bucket || restarts {
            row = (begun && bucket > state.bucket).then(|| self.close(state));
            state.bucket = bucket;
            state.fields = vec![
                FieldBucket {
                    value: MISSING,
                    count: 0
                };
                self.fields.len()
            ];
        } else if bucket < state.bucket {
            return None;
        }
        let readings = values.iter().copied().chain(std::iter::repeat(MISSING));
        for ((limits, gathered), x) in self.fields.iter().zip(&mut state.fields).zip(readings) {
            limits.add(gathered, x);
        }
        row
    }

    fn close(&self, state: &ResampleState) -> ResampledRow {
        let value = |(limits, gathered): (&FieldLimits, &FieldBucket)| match (
            limits.rule,
            gathered.count,
        ) {
            (ResampleRule::Mean, count @ 2..) => gathered.value / f64::from(count),
            _ => gathered.value,
        };
        ResampledRow {
            time: EventTime(state.bucket.saturating_mul(self.period_us)),
            values: self.fields.iter().zip(&state.fields).map(value).collect(),
        }
    }
}

impl FieldLimits {
    fn add(&self, gathered: &mut FieldBucket, x: f64) {
        let plausible = x.is_finite() && x >= self.min && x <= self.max;
        match (plausible, gathered.count) {
            (true, 0) => *gathered = FieldBucket { value: x, count: 1 },
            (true, count) => {
                gathered.value = match self.rule {
                    ResampleRule::Mean => gathered.value + x,
                    ResampleRule::Last => x,
                    ResampleRule::Max => gathered.value.max(x),
                    ResampleRule::Min => gathered.value.min(x),
                };
                gathered.count = count.saturating_add(1);
            }
            // What is there and cannot be says more than what is not there.
            (false, 0) if !x.is_nan() => gathered.value = x,
            (false, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::NON_FINITE;

    fn plan(rules: &[Option<ResampleRule>]) -> Resampler {
        let field = |resample: &Option<ResampleRule>| FieldSettings {
            min: -100.0,
            max: 100.0,
            resample: *resample,
            ..FieldSettings::named("x")
        };
        let resample = ResampleSettings {
            period: Duration::from_secs(10),
            rule: ResampleRule::Mean,
        };
        Resampler::new(&resample, &rules.iter().map(field).collect::<Vec<_>>()).unwrap()
    }

    fn push(
        plan: &Resampler,
        state: &mut ResampleState,
        second: i64,
        values: &[f64],
    ) -> Option<(i64, Vec<f64>)> {
        let row = plan.push(state, EventTime(second * 1_000_000), values, false)?;
        Some((row.time.0 / 1_000_000, row.values))
    }

    #[test]
    fn each_field_follows_its_rule() {
        let plan = plan(&[
            None,
            Some(ResampleRule::Last),
            Some(ResampleRule::Max),
            Some(ResampleRule::Min),
        ]);
        let mut state = ResampleState::default();
        for (second, x) in [(20, 1.0), (23, 5.0), (29, 3.0)] {
            assert_eq!(push(&plan, &mut state, second, &[x; 4]), None);
        }
        assert_eq!(
            push(&plan, &mut state, 30, &[9.0; 4]),
            Some((20, vec![3.0, 3.0, 5.0, 1.0]))
        );
        // Two slots are empty: they have no rows.
        assert_eq!(
            push(&plan, &mut state, 65, &[7.0; 4]),
            Some((30, vec![9.0; 4]))
        );
        assert_eq!(
            push(&plan, &mut state, 59, &[0.0; 4]),
            None,
            "too late for its slot"
        );
        assert_eq!(
            push(&plan, &mut state, 70, &[0.0; 4]),
            Some((60, vec![7.0; 4]))
        );
    }

    #[test]
    fn what_cannot_be_counts_only_where_there_is_nothing_else() {
        let plan = plan(&[None, None, None, None]);
        let mut state = ResampleState::default();
        push(&plan, &mut state, 0, &[1.0, MISSING, 500.0, MISSING]);
        push(&plan, &mut state, 1, &[MISSING, NON_FINITE, 20.0, MISSING]);
        let (_, values) = push(&plan, &mut state, 10, &[0.0; 4]).unwrap();
        assert_eq!(values[..3], [1.0, NON_FINITE, 20.0]);
        assert!(values[3].is_nan());
    }

    #[test]
    fn a_clock_that_was_set_back_starts_anew() {
        let plan = plan(&[None]);
        let mut state = ResampleState::default();
        push(&plan, &mut state, 100, &[1.0]);
        assert_eq!(
            plan.push(&mut state, EventTime(5_000_000), &[2.0], true),
            None
        );
        assert_eq!(push(&plan, &mut state, 10, &[3.0]), Some((0, vec![2.0])));
    }
}
