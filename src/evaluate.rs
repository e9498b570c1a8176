//! Evaluation: how well scores separate labelled anomalies from normal records.
//!
//! Contract: a threshold is fixed before the test part, and each record counts once: there is no
//! point adjustment, which calls a whole anomaly found when one record of it is, and makes random
//! scores look good (Kim et al., "Towards a Rigorous Evaluation of Time-Series Anomaly Detection",
//! AAAI 2022). Records without a score (sensor faults, windows that are not full) count as not
//! flagged, and have no rank.

pub mod counts;
pub mod ranking;
pub mod report;
pub mod vus;

use serde::Serialize;

use self::counts::Counts;
use crate::record::EventTime;

/// The test part of one series or file, in the order of time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LabeledSequence {
    /// What it is called in the report.
    pub name: String,
    /// Event time of each record.
    pub times: Vec<EventTime>,
    /// Score of each record, `None` where it was not scored.
    pub scores: Vec<Option<f64>>,
    /// The threshold that was fixed before the test part, > 0.
    pub threshold: f64,
    /// The adaptive threshold at each record, as in life.
    pub adaptive: Vec<Option<f64>>,
    /// Whether an alert was open after each record, as in life.
    pub alerting: Vec<bool>,
    /// Whether each record is an anomaly.
    pub labels: Vec<bool>,
    /// Whether the records are independent: then there are no ranges, and no delays.
    pub independent: bool,
    /// Of images, where their defects were found.
    pub located: Option<Located>,
    /// Images that raised an alert, with the anomalous regions in red.
    pub pictures: Vec<LabeledImage>,
}

/// Where defects were found: of the images whose defects have a mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Located {
    /// Images that raised an alert.
    pub caught: usize,
    /// Those of them whose highest region overlaps the mask.
    pub overlapping: usize,
}

/// An image that raised an alert.
#[derive(Clone, PartialEq, Debug)]
pub struct LabeledImage {
    /// Class and file.
    pub name: String,
    /// Its score.
    pub score: f64,
    /// Whether it is labelled so.
    pub anomalous: bool,
    /// Its heat map, a PNG file.
    pub png: Vec<u8>,
}

impl LabeledSequence {
    /// Whether each record is above the fixed threshold.
    pub fn flagged(&self) -> Vec<bool> {
        self.scores
            .iter()
            .map(|score| score.is_some_and(|score| score > self.threshold))
            .collect()
    }
}

/// All figures of some sequences. Figures that their records do not have (no anomalies, no ranges)
/// are `None`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct EvaluationFigures {
    /// Records of the test part.
    pub records: usize,
    /// Those of them that are anomalies.
    pub anomalous: usize,
    /// Those of them without a score.
    pub unscored: usize,
    /// Area under the ROC curve; scores of several sequences are compared in units of each one's
    /// fixed threshold.
    pub roc_auc: Option<f64>,
    /// Average precision, of the same scores.
    pub average_precision: Option<f64>,
    /// Volume under the precision-recall surface, the mean of the sequences that have anomalies.
    pub vus_pr: Option<f64>,
    /// Scores above the threshold that was fixed before the test part.
    pub fixed: Counts,
    /// Alerts as in life: adaptive thresholds, episodes, sensor faults.
    pub alerts: Counts,
    /// Of images, where their defects were found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub located: Option<Located>,
}

/// The figures of all sequences together, and of each; `buffer` is the longest one of
/// [`vus::vus_pr`], in records.
pub fn figures(
    sequences: Vec<LabeledSequence>,
    buffer: usize,
) -> (EvaluationFigures, Vec<(LabeledSequence, EvaluationFigures)>) {
    // By far the dearest figure: worked out once for each sequence.
    let volumes: Vec<Option<f64>> = sequences
        .iter()
        .map(|sequence| vus::vus_pr(sequence, buffer))
        .collect();
    let all = together(&sequences, &volumes);
    let each = sequences
        .into_iter()
        .zip(volumes)
        .map(|(sequence, volume)| {
            let own = together(std::slice::from_ref(&sequence), &[volume]);
            (sequence, own)
        });
    (all, each.collect())
}

/// The figures of some sequences together, whose volumes under the surface are known.
fn together(sequences: &[LabeledSequence], volumes: &[Option<f64>]) -> EvaluationFigures {
    let mut ranked = Vec::new();
    let mut fixed = Counts::default();
    let mut alerts = Counts::default();
    for sequence in sequences {
        let scored = sequence.scores.iter().zip(&sequence.labels);
        ranked.extend(
            scored
                .filter_map(|(score, label)| Some((score.as_ref()? / sequence.threshold, *label))),
        );
        fixed.add(sequence, &sequence.flagged());
        alerts.add(sequence, &sequence.alerting);
    }
    let volumes: Vec<f64> = volumes.iter().copied().flatten().collect();
    let records = sequences.iter().map(|sequence| sequence.labels.len()).sum();
    EvaluationFigures {
        records,
        anomalous: sequences
            .iter()
            .flat_map(|sequence| &sequence.labels)
            .filter(|&&label| label)
            .count(),
        unscored: records - ranked.len(),
        roc_auc: ranking::roc_auc(&mut ranked),
        average_precision: ranking::average_precision(&mut ranked),
        vus_pr: (!volumes.is_empty()).then(|| volumes.iter().sum::<f64>() / volumes.len() as f64),
        fixed: fixed.finish(),
        alerts: alerts.finish(),
        located: located(sequences),
    }
}

fn located(sequences: &[LabeledSequence]) -> Option<Located> {
    let add = |a: Located, b: Located| Located {
        caught: a.caught + b.caught,
        overlapping: a.overlapping + b.overlapping,
    };
    sequences
        .iter()
        .filter_map(|sequence| sequence.located)
        .reduce(add)
        .filter(|located| located.caught > 0)
}
