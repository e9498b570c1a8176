//! Report by exception: a field that a record does not have keeps its last reading for so long as the
//! stream says, and is missing after that.
//!
//! Contract: a reading that came and is not a number is held no further and replaces nothing. A record
//! behind the newest one of its series changes nothing. The same records give the same rows, live as in
//! a replay.

use serde::{Deserialize, Serialize};

use crate::record::EventTime;
use crate::record::format::RecordFormat;

/// How long the readings of a stream are held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HoldRules {
    /// By field, in microseconds; 0: not at all.
    spans_us: Vec<i64>,
}

/// The last readings of a series.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct HeldReadings {
    /// By field, with its time; NaN where there is none.
    readings: Vec<(f64, EventTime)>,
}

impl HoldRules {
    /// The rules of a stream; `None` where no reading is held.
    pub fn new(format: &RecordFormat) -> Option<Self> {
        let span = |of: Option<std::time::Duration>| {
            i64::try_from(of.unwrap_or(format.hold).as_micros()).unwrap_or(i64::MAX)
        };
        let spans = format.fields.iter().map(|field| span(field.hold));
        let spans_us: Vec<i64> = spans.collect();
        spans_us
            .iter()
            .any(|span| *span > 0)
            .then_some(Self { spans_us })
    }

    /// Puts the held readings in the places of those that a record at a time does not have. Returns
    /// their fields, ascending.
    pub fn fill(&self, held: &HeldReadings, time: EventTime, values: &mut [f64]) -> Vec<usize> {
        let mut filled = Vec::new();
        let fields = values.iter_mut().zip(&held.readings).zip(&self.spans_us);
        for (field, ((value, (last, at)), span)) in fields.enumerate() {
            let age = time.micros_since(*at);
            if value.is_nan() && last.is_finite() && (0..=*span).contains(&age) && *span > 0 {
                *value = *last;
                filled.push(field);
            }
        }
        filled
    }

    /// Holds the readings of a record at a time; those of `filled` are not its own.
    pub fn hold(&self, held: &mut HeldReadings, time: EventTime, values: &[f64], filled: &[usize]) {
        if held.readings.len() != self.spans_us.len() {
            held.readings = vec![(f64::NAN, EventTime::default()); self.spans_us.len()];
        }
        let fields = values.iter().zip(&mut held.readings).enumerate();
        for (field, (value, (last, at))) in fields {
            let is_own = !value.is_nan() && !filled.contains(&field);
            if is_own && (last.is_nan() || time >= *at) {
                (*last, *at) = (*value, time);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::format::FieldSettings;
    use crate::record::{MISSING, NON_FINITE};

    const SECOND: i64 = 1_000_000;

    /// Ten seconds, and an hour for the second field.
    fn rules() -> HoldRules {
        let mut fields = ["a", "b"].map(FieldSettings::named).to_vec();
        fields[1].hold = Some(Duration::from_secs(3_600));
        let mut format = RecordFormat::json(fields);
        format.hold = Duration::from_secs(10);
        HoldRules::new(&format).expect("it holds")
    }

    fn row(held: &mut HeldReadings, second: i64, mut values: [f64; 2]) -> [f64; 2] {
        let (rules, time) = (rules(), EventTime(second * SECOND));
        let filled = rules.fill(held, time, &mut values);
        rules.hold(held, time, &values, &filled);
        values
    }

    #[test]
    fn a_reading_is_held_for_its_time_and_no_longer() {
        let mut held = HeldReadings::default();
        assert!(
            row(&mut held, 0, [MISSING, 5.0])[0].is_nan(),
            "there is none"
        );
        assert_eq!(row(&mut held, 1, [1.0, MISSING]), [1.0, 5.0]);
        assert_eq!(row(&mut held, 11, [MISSING, MISSING]), [1.0, 5.0]);
        let late = row(&mut held, 12, [MISSING, MISSING]);
        assert!(
            late[0].is_nan(),
            "it is as old as its reading, not as the last row"
        );
        assert_eq!(late[1], 5.0);
        assert!(row(&mut held, 3_601, [2.0, MISSING])[1].is_nan());
    }

    #[test]
    fn a_reading_that_is_no_number_ends_the_hold_and_a_late_one_changes_nothing() {
        let mut held = HeldReadings::default();
        row(&mut held, 5, [1.0, 2.0]);
        assert_eq!(row(&mut held, 6, [NON_FINITE, MISSING]), [NON_FINITE, 2.0]);
        assert!(row(&mut held, 7, [MISSING, MISSING])[0].is_nan());
        row(&mut held, 4, [9.0, 9.0]);
        assert!(row(&mut held, 8, [MISSING, MISSING])[0].is_nan());
        assert_eq!(row(&mut held, 9, [MISSING, MISSING])[1], 2.0);
    }

    #[test]
    fn a_stream_that_holds_nothing_has_no_rules() {
        let mut format = RecordFormat::json(vec![FieldSettings::named("a")]);
        assert_eq!(HoldRules::new(&format), None);
        format.fields[0].hold = Some(Duration::from_secs(1));
        assert!(HoldRules::new(&format).is_some());
    }
}
