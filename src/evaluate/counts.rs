//! What a flag on each record is worth: rates, F1, and how late an anomaly is found.

use std::ops::Range;

use serde::Serialize;

use super::LabeledSequence;

/// Comparison of flags and labels, record by record.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Counts {
    /// Anomalies that are flagged.
    pub true_positives: usize,
    /// Normal records that are flagged.
    pub false_positives: usize,
    /// Anomalies that are not.
    pub false_negatives: usize,
    /// Normal records that are not.
    pub true_negatives: usize,
    /// Part of all records whose flag is right.
    pub accuracy: Option<f64>,
    /// Part of the flagged records that are anomalies.
    pub precision: Option<f64>,
    /// Part of the anomalies that are flagged.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// False-alarm rate: part of the normal records that are flagged.
    pub false_alarm_rate: Option<f64>,
    /// Missed-alarm rate: part of the anomalies that are not.
    pub missed_alarm_rate: Option<f64>,
    /// Detection delay of anomalies; `None` if the records are independent.
    pub delay: Option<DetectionDelay>,
    /// Records and seconds from the start of each detected anomaly to its first flag.
    #[serde(skip)]
    delays: Vec<(usize, f64)>,
    #[serde(skip)]
    ranges: usize,
}

/// How late anomalies are found.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct DetectionDelay {
    /// Anomalies, runs of anomalous records.
    pub anomalies: usize,
    /// Those that are flagged before they end.
    pub found: usize,
    /// Median over those found, in records after the first one of the anomaly.
    pub median_records: Option<f64>,
    /// The same in seconds of event time.
    pub median_seconds: Option<f64>,
}

impl Counts {
    /// Counts the flags of one more sequence.
    pub fn add(&mut self, sequence: &LabeledSequence, flags: &[bool]) {
        for (&flag, &label) in flags.iter().zip(&sequence.labels) {
            match (flag, label) {
                (true, true) => self.true_positives += 1,
                (true, false) => self.false_positives += 1,
                (false, true) => self.false_negatives += 1,
                (false, false) => self.true_negatives += 1,
            }
        }
        if sequence.independent {
            return;
        }
        for range in ranges(&sequence.labels) {
            self.ranges += 1;
            if let Some(late) = flags[range.clone()].iter().position(|&flag| flag) {
                let first = sequence.times[range.start];
                let found = sequence.times[range.start + late];
                self.delays
                    .push((late, found.micros_since(first) as f64 / 1e6));
            }
        }
    }

    /// Works out the rates, when all are counted.
    pub fn finish(mut self) -> Self {
        let part = |of: usize, all: usize| (all > 0).then(|| of as f64 / all as f64);
        let tp = self.true_positives;
        let fp = self.false_positives;
        let missed = self.false_negatives;
        let rightly_quiet = self.true_negatives;
        self.accuracy = part(tp + rightly_quiet, tp + fp + missed + rightly_quiet);
        self.precision = part(tp, tp + fp);
        self.recall = part(tp, tp + missed);
        self.f1 = if tp + missed > 0 {
            part(2 * tp, 2 * tp + fp + missed)
        } else {
            None
        };
        self.false_alarm_rate = part(fp, fp + rightly_quiet);
        self.missed_alarm_rate = part(missed, tp + missed);
        self.delay = (self.ranges > 0).then(|| DetectionDelay {
            anomalies: self.ranges,
            found: self.delays.len(),
            median_records: median(self.delays.iter().map(|delay| delay.0 as f64).collect()),
            median_seconds: median(self.delays.iter().map(|delay| delay.1).collect()),
        });
        self
    }
}

/// The runs of anomalous records.
pub fn ranges(labels: &[bool]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, _) in labels.iter().enumerate().filter(|(_, label)| **label) {
        match found.last_mut().filter(|range| range.end == at) {
            Some(range) => range.end = at + 1,
            None => found.push(at..at + 1),
        }
    }
    found
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => Some(f64::midpoint(
            *values.get(middle.checked_sub(1)?)?,
            *values.get(middle)?,
        )),
        _ => values.get(middle).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EventTime;

    fn sequence(labels: &[u8]) -> LabeledSequence {
        LabeledSequence {
            times: (0..labels.len() as i64)
                .map(|second| EventTime(2_000_000 * second))
                .collect(),
            labels: labels.iter().map(|&label| label == 1).collect(),
            ..LabeledSequence::default()
        }
    }

    fn count(labels: &[u8], flags: &[u8]) -> Counts {
        let mut counts = Counts::default();
        counts.add(
            &sequence(labels),
            &flags.iter().map(|&flag| flag == 1).collect::<Vec<_>>(),
        );
        counts.finish()
    }

    #[test]
    fn each_record_counts_for_what_it_is() {
        let counts = count(&[0, 0, 1, 1, 1, 0, 1, 1], &[0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!((counts.true_positives, counts.false_positives), (1, 1));
        assert_eq!((counts.false_negatives, counts.true_negatives), (4, 2));
        assert_eq!((counts.precision, counts.recall), (Some(0.5), Some(0.2)));
        assert_eq!(
            (counts.false_alarm_rate, counts.missed_alarm_rate),
            (Some(1.0 / 3.0), Some(0.8))
        );
        assert_eq!(counts.f1, Some(2.0 / 7.0));
        let delay = counts.delay.unwrap();
        assert_eq!((delay.anomalies, delay.found), (2, 1));
        assert_eq!(
            (delay.median_records, delay.median_seconds),
            (Some(1.0), Some(2.0))
        );
    }

    #[test]
    fn figures_that_do_not_exist_are_none() {
        let counts = count(&[0, 0], &[0, 0]);
        assert_eq!(
            (counts.precision, counts.recall, counts.f1, counts.delay),
            (None, None, None, None)
        );
        assert_eq!(counts.false_alarm_rate, Some(0.0));
    }
}
