//! VUS-PR: the volume under the surface that precision and recall span with the length of a buffer
//! around each anomaly.
//!
//! Paparrizos, Boniol, Palpanas, Tsay, Elmore, Franklin: "Volume Under the Surface: A New Accuracy
//! Evaluation Measure for Time-Series Anomaly Detection", PVLDB 15(11), 2022. Labels begin and end
//! where somebody drew a line: a flag shortly before or after counts in part, and no length of that
//! "shortly" has to be chosen. It needs no threshold, and adjusts nothing.

use super::LabeledSequence;
use super::counts::ranges;

/// Thresholds at which each curve is sampled, as in the paper's own program.
const THRESHOLDS: usize = 250;

/// VUS-PR with buffers of 0 to `buffer_max` records; records without a score rank last. `None`
/// where there is no anomaly, or no normal record, or if the records are independent.
pub fn vus_pr(sequence: &LabeledSequence, buffer_max: usize) -> Option<f64> {
    let labels = &sequence.labels;
    if sequence.independent || !labels.contains(&true) || !labels.contains(&false) {
        return None;
    }
    let scores: Vec<f64> = sequence
        .scores
        .iter()
        .map(|score| score.unwrap_or(f64::NEG_INFINITY))
        .collect();
    let order = ScoreOrder::new(&scores);
    let areas = (0..=buffer_max).map(|buffer| range_pr_auc(labels, &order, buffer));
    Some(areas.sum::<f64>() / (buffer_max + 1) as f64)
}

/// The records by falling score.
struct ScoreOrder {
    /// Which record has which rank.
    records: Vec<usize>,
    /// How many records each sampled threshold flags: those of an equal score come together.
    flagged: Vec<usize>,
}

impl ScoreOrder {
    fn new(scores: &[f64]) -> Self {
        let mut records: Vec<usize> = (0..scores.len()).collect();
        records.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let last = scores.len() - 1;
        let step = last as f64 / (THRESHOLDS - 1) as f64;
        let sampled = (0..THRESHOLDS).map(|i| {
            if i + 1 == THRESHOLDS {
                last
            } else {
                (i as f64 * step) as usize
            }
        });
        let flagged = sampled.map(|at| {
            let threshold = scores[records[at]];
            records.partition_point(|&record| scores[record] >= threshold)
        });
        let flagged = flagged.collect();
        Self { records, flagged }
    }
}

/// The area under the range-based precision-recall curve for one length of the buffer.
fn range_pr_auc(labels: &[bool], order: &ScoreOrder, buffer: usize) -> f64 {
    let soft = extended(labels, buffer);
    let positive: Vec<bool> = soft.iter().map(|&label| label > 0.0).collect();
    let anomalies = ranges(&positive);
    // The sum of the labels halfway between the drawn ones and the extended ones.
    let expected = f64::midpoint(
        labels.iter().filter(|&&label| label).count() as f64,
        soft.iter().sum(),
    );
    // How many records have to be flagged until each anomaly is touched.
    let mut rank = vec![0; labels.len()];
    order
        .records
        .iter()
        .enumerate()
        .for_each(|(at, &record)| rank[record] = at);
    let touched = |range: &std::ops::Range<usize>| {
        rank[range.clone()]
            .iter()
            .min()
            .map_or(usize::MAX, |least| least + 1)
    };
    let touched: Vec<usize> = anomalies.iter().map(touched).collect();

    let mut found = vec![0.0; labels.len() + 1];
    for (at, &record) in order.records.iter().enumerate() {
        found[at + 1] = found[at] + soft[record];
    }
    let mut area = 0.0;
    let mut before = (0.0, 1.0);
    for &flagged in &order.flagged {
        let existing = touched.iter().filter(|&&needed| needed <= flagged).count() as f64
            / anomalies.len() as f64;
        let recall = (found[flagged] / expected).min(1.0) * existing;
        let precision = found[flagged] / flagged as f64;
        area += (recall - before.0) * f64::midpoint(precision, before.1);
        before = (recall, precision);
    }
    area
}

/// Labels with slopes of half the buffer on both sides of each anomaly: `sqrt(1 - distance /
/// buffer)`, at most 1 in all.
fn extended(labels: &[bool], buffer: usize) -> Vec<f64> {
    let mut soft: Vec<f64> = labels
        .iter()
        .map(|&label| f64::from(u8::from(label)))
        .collect();
    if buffer <= 1 {
        return soft;
    }
    let slope = |distance: usize| (1.0 - distance as f64 / buffer as f64).sqrt();
    for range in ranges(labels) {
        let first = range.start;
        let last = range.end - 1;
        (last..(last + buffer / 2).min(labels.len())).for_each(|at| soft[at] += slope(at - last));
        (first.saturating_sub(buffer / 2)..first).for_each(|at| soft[at] += slope(first - at));
    }
    soft.iter_mut().for_each(|label| *label = label.min(1.0));
    soft
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same numbers as the program that made the golden figures drew.
    fn sequence(records: usize, seed: u64, anomalies: &[[usize; 2]]) -> LabeledSequence {
        let mut x = seed;
        let labels: Vec<bool> = (0..records)
            .map(|at| {
                anomalies
                    .iter()
                    .any(|&[from, until]| (from..until).contains(&at))
            })
            .collect();
        let draw = |label: &bool| {
            x = (1_103_515_245 * x + 12_345) % (1 << 31);
            Some(((x >> 8) % 1_000) as f64 / 1_000.0 + if *label { 0.4 } else { 0.0 })
        };
        let scores = labels.iter().map(draw).collect();
        LabeledSequence {
            labels,
            scores,
            threshold: 1.0,
            ..LabeledSequence::default()
        }
    }

    #[test]
    fn it_is_what_another_implementation_gives() {
        // By `range_pr_roc_auc_support` of aeon 1.6.0, averaged over the buffers.
        type Case = (usize, u64, &'static [[usize; 2]], usize, f64);
        let cases: [Case; 3] = [
            (60, 1, &[[10, 15]], 10, 0.785_354_612_468_251_7),
            (
                700,
                2,
                &[[100, 130], [300, 305], [690, 700]],
                40,
                0.573_271_406_699_646_2,
            ),
            (
                300,
                3,
                &[[0, 3], [8, 20], [150, 151]],
                25,
                0.334_469_908_505_764,
            ),
        ];
        for (records, seed, anomalies, buffer, expected) in cases {
            let found = vus_pr(&sequence(records, seed, anomalies), buffer).unwrap();
            assert!(
                (found - expected).abs() < 1e-9,
                "{found} in place of {expected}"
            );
        }
    }

    #[test]
    fn perfect_scores_fill_the_volume_nearly() {
        let mut perfect = sequence(1_000, 4, &[[400, 450], [700, 720]]);
        perfect.scores = perfect
            .labels
            .iter()
            .map(|&label| Some(f64::from(u8::from(label))))
            .collect();
        assert!(vus_pr(&perfect, 20).unwrap() > 0.9);
        let all = LabeledSequence {
            labels: vec![true; 1_000],
            ..perfect
        };
        assert_eq!(
            vus_pr(&all, 20),
            None,
            "without a normal record there is nothing to tell apart"
        );
    }
}
