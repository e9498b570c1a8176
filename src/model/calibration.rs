//! The calibration: what normal data look like to a trained model. Pure data, filled by the
//! training, read by the path.
//!
//! Contract: a calibration that passed [`Calibration::validate`] has matching lengths, finite
//! numbers and positive scales, so that no later step has to guard a division or a square root by
//! itself.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::memory;
use super::scaler::Scaler;
use super::shape::ModelShape;
use super::states::StateBaseline;
use crate::model::{ResidualScope, TimeFeature};
use crate::record::alert::ChartKind;
use crate::record::format::ErrorMeasure;

/// Most calibration scores that are kept; more are thinned evenly.
pub const SCORES_MAX: usize = 4096;

/// Charts of a bundle at most.
pub const CHARTS_MAX: usize = 5;

/// The constants of one chart, and the scores of normal data.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChartCalibration {
    /// Which chart.
    pub kind: ChartKind,
    /// Mean of the charted vector (length k, scaled units).
    pub mean: Vec<f64>,
    /// Its standard deviation (length k, scaled units), > 0.
    pub sd: Vec<f64>,
    /// Shrunk covariance of the smoothed vector, row-major, k x k.
    pub covariance: Vec<f64>,
    /// Scores of normal data, in time order, thinned to at most [`SCORES_MAX`].
    pub scores: Vec<f64>,
}

/// What normal data look like to a model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// What of a window the charted residual is taken over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scope: ResidualScope,
    /// Sensor units to the model's inputs.
    pub scaler: Scaler,
    /// The charts, each with its own threshold; none for images.
    pub charts: Vec<ChartCalibration>,
    /// What the past of a series explains of its newest record; see [`crate::score::regression`].
    /// Empty where nothing is charted of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub innovation: Vec<f32>,
    /// What the other fields explain of a field. Empty where nothing is charted of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adjusted: Vec<f32>,
    /// Mean squared difference of successive records of each field, in scaled units; none for
    /// images.
    pub differences: Vec<f64>,
    /// Logarithm of what the thresholds begin raised by: those of a model that did not prove itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lift: f64,
    /// Median number of records that a series had in the calibration: how long a time it knows.
    pub series_rows: usize,
    /// The step of each field's converter in scaled units, 0 where it is not known; empty where the
    /// charts look at no readings.
    #[serde(default)]
    pub steps: Vec<f64>,
    /// The seasonal baseline, slots x scored fields, in scaled units; see [`super::seasons`]. Empty
    /// without time features, and where the charts look at no readings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seasons: Vec<f32>,
    /// What the states of a record add to its readings; `None` where no field names a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<StateBaseline>,
    /// How each field of a record behaves normally, in sensor units.
    pub fields: Vec<FieldNormal>,
    /// Median event time between two records of a series, in microseconds; 0 where it is not known.
    pub period_micros: i64,
    /// How far normal images are from their reconstructions; then there is no charted residual.
    /// `None` for readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peaks: Option<Peaks>,
}

/// What normal images reach: of the logarithm of the highest error in a box, for each side of box
/// and last for the whole image.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peaks {
    /// The error.
    pub error: ErrorMeasure,
    /// Mean over held-out normal images.
    pub mean: Vec<f64>,
    /// Standard deviation, > 0.
    pub sd: Vec<f64>,
    /// Scores of normal images, at most [`SCORES_MAX`].
    pub scores: Vec<f64>,
}

/// Scores that follow each other are kept in blocks of this many: high scores come in clusters, and
/// a threshold counts them.
const BLOCK: usize = 128;

/// At most [`SCORES_MAX`] scores: whole blocks from evenly spaced places.
pub fn thinned(scores: Vec<f64>) -> Vec<f64> {
    let blocks = SCORES_MAX / BLOCK;
    if scores.len() <= SCORES_MAX {
        return scores;
    }
    let starts = (0..blocks).map(|block| block * (scores.len() - BLOCK) / (blocks - 1));
    let kept = starts.flat_map(|start| &scores[start..start + BLOCK]);
    kept.copied().collect()
}

/// Older calibrations do not say: what they would say is left out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How one field behaves in normal operation.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldNormal {
    /// Mean absolute difference of consecutive readings of a series, in the unit of the sensor.
    pub movement: f64,
    /// Longest run of equal readings of a series.
    pub longest_run: u32,
    /// The reading of that run: where the machine rests.
    #[serde(default)]
    pub rest: f64,
    /// Longest run of another reading.
    #[serde(default)]
    pub moving_run: u32,
    /// Mean length of runs, where there are too few for the longest one to tell; 0 otherwise.
    #[serde(default)]
    pub mean_run: f64,
    /// Least and largest reading.
    pub range: [f64; 2],
    /// Absolute difference of consecutive readings that no normal record reaches; `None` where none
    /// can be told.
    pub step: Option<f64>,
    /// Of a counter, of which the model gets what it rises by: whether it is reset in normal
    /// operation. `None` for another field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter_resets: Option<bool>,
}

/// A calibration that cannot be used.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum CalibrationError {
    /// A chart without the model that it is of, or the reverse.
    #[error("the autoencoder {}", if *.is_charted { "has a chart, but no weights" } else { "has weights, but no chart" })]
    Denoiser {
        /// Which of the two there is.
        is_charted: bool,
    },
    /// A list that is too short or too long.
    #[error("{list} has {found} entries, {expected} are needed")]
    Length {
        /// Which list.
        list: &'static str,
        /// Entries found.
        found: usize,
        /// What was allowed.
        expected: String,
    },
    /// A number outside its range.
    #[error("{list}[{index}] is {value}; it must be {allowed}")]
    Value {
        /// Which list.
        list: &'static str,
        /// Which entry, from 0.
        index: usize,
        /// The number found.
        value: f64,
        /// What was allowed.
        allowed: &'static str,
    },
}

impl Calibration {
    /// Checks lengths and ranges against the model's shape.
    ///
    /// # Errors
    /// The first list or number that cannot be used.
    pub fn validate(&self, shape: &ModelShape) -> Result<(), CalibrationError> {
        if let Some(peaks) = &self.peaks {
            exactly("peaks.sd", peaks.sd.len(), peaks.mean.len())?;
            every("peaks.mean", peaks.mean.iter(), "finite", |x| x.is_finite())?;
            every("peaks.sd", peaks.sd.iter(), POSITIVE, positive)?;
            scores("peaks.scores", &peaks.scores)?;
        }
        self.validate_charts(shape)?;
        // Pixels share one scale for each channel, and one reading: how bright they are.
        let scales = if shape.is_of_images() {
            shape.channels()
        } else {
            shape.fields
        };
        if self.peaks.is_some() != shape.is_of_images() {
            return Err(length(
                "peaks",
                usize::from(self.peaks.is_some()),
                "those of a model of images".to_owned(),
            ));
        }
        exactly("scaler.mean", self.scaler.mean.len(), scales)?;
        exactly("scaler.sd", self.scaler.sd.len(), scales)?;
        exactly("fields", self.fields.len(), shape.readings())?;
        self.validate_baselines(shape)?;
        every("scaler.mean", self.scaler.mean.iter(), "finite", |x| {
            x.is_finite()
        })?;
        every("scaler.sd", self.scaler.sd.iter(), POSITIVE, positive)?;
        every(
            "fields.movement",
            self.fields.iter().map(|field| &field.movement),
            NOT_NEGATIVE,
            not_negative,
        )?;
        every(
            "fields.range",
            self.fields.iter().flat_map(|field| &field.range),
            "finite",
            |x| x.is_finite(),
        )?;
        every(
            "fields.step",
            self.fields.iter().filter_map(|field| field.step.as_ref()),
            NOT_NEGATIVE,
            not_negative,
        )?;
        every("lift", [self.lift].iter(), NOT_NEGATIVE, not_negative)?;
        every(
            "period_micros",
            [self.period_micros as f64].iter(),
            NOT_NEGATIVE,
            not_negative,
        )
    }

    /// What readings are compared with.
    fn validate_baselines(&self, shape: &ModelShape) -> Result<(), CalibrationError> {
        let states = self.states.as_ref();
        if states.is_some_and(|states| !states.is_of(self.fields.len())) {
            let allowed = "a finite offset for each state and field".to_owned();
            return Err(length("states", self.fields.len(), allowed));
        }
        let slots = match self.scope {
            ResidualScope::Record => TimeFeature::slots(&shape.context),
            ResidualScope::Window => 0,
        };
        exactly("seasons", self.seasons.len(), slots * shape.scored())?;
        let seasons: Vec<f64> = self.seasons.iter().map(|&z| f64::from(z)).collect();
        every("seasons", seasons.iter(), "finite", |x| x.is_finite())
    }

    /// The charts and what they look at.
    fn validate_charts(&self, shape: &ModelShape) -> Result<(), CalibrationError> {
        let k = shape.charted();
        if self.charts.is_empty() != (k == 0) || self.charts.len() > CHARTS_MAX {
            let allowed = if k == 0 { "0" } else { "1 to 5" };
            return Err(length("charts", self.charts.len(), allowed.to_owned()));
        }
        for chart in &self.charts {
            exactly("charts.mean", chart.mean.len(), k)?;
            exactly("charts.sd", chart.sd.len(), k)?;
            exactly("charts.covariance", chart.covariance.len(), k * k)?;
            every("charts.mean", chart.mean.iter(), "finite", |x| {
                x.is_finite()
            })?;
            every("charts.sd", chart.sd.iter(), POSITIVE, positive)?;
            every(
                "charts.covariance",
                chart.covariance.iter(),
                "finite",
                |x| x.is_finite(),
            )?;
            let diagonal = chart.covariance.iter().step_by(k + 1);
            every("charts.covariance diagonal", diagonal, POSITIVE, positive)?;
            scores("charts.scores", &chart.scores)?;
        }
        let has = |kind| self.charts.iter().any(|chart| chart.kind == kind);
        let wanted = |kind, inputs: usize| if has(kind) { inputs * k * k } else { 0 };
        let innovation = wanted(ChartKind::Variance, memory::PAST);
        exactly("innovation", self.innovation.len(), innovation)?;
        let adjusted = wanted(ChartKind::Adjusted, memory::NOW);
        exactly("adjusted", self.adjusted.len(), adjusted)?;
        let coefficients = self.innovation.iter().chain(&self.adjusted);
        let coefficients: Vec<f64> = coefficients.map(|&b| f64::from(b)).collect();
        every("coefficients", coefficients.iter(), "finite", |x| {
            x.is_finite()
        })?;
        exactly("differences", self.differences.len(), k)?;
        every(
            "differences",
            self.differences.iter(),
            NOT_NEGATIVE,
            not_negative,
        )
    }

    /// What the clock lets expect of each field in a slot of time, in scaled units; `None` where
    /// nothing is known of it.
    pub fn season(&self, slot: usize, k: usize) -> Option<&[f32]> {
        self.seasons.get(slot * k..(slot + 1) * k)
    }

    /// The scores of normal data that each threshold begins with: of each chart, or of images.
    pub fn scores(&self) -> impl Iterator<Item = &[f64]> {
        let charts = self.charts.iter().map(|chart| &*chart.scores);
        charts.chain(self.peaks.iter().map(|peaks| &*peaks.scores))
    }
}

fn scores(list: &'static str, scores: &[f64]) -> Result<(), CalibrationError> {
    if scores.len() > SCORES_MAX {
        return Err(length(list, scores.len(), format!("0 to {SCORES_MAX}")));
    }
    every(list, scores.iter(), NOT_NEGATIVE, not_negative)
}

const POSITIVE: &str = "finite and > 0";
const NOT_NEGATIVE: &str = "finite and >= 0";

fn positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

fn not_negative(x: f64) -> bool {
    x.is_finite() && x >= 0.0
}

fn length(list: &'static str, found: usize, expected: String) -> CalibrationError {
    CalibrationError::Length {
        list,
        found,
        expected,
    }
}

fn exactly(list: &'static str, found: usize, expected: usize) -> Result<(), CalibrationError> {
    if found == expected {
        Ok(())
    } else {
        Err(length(list, found, expected.to_string()))
    }
}

fn every<'a>(
    list: &'static str,
    values: impl Iterator<Item = &'a f64>,
    allowed: &'static str,
    holds: impl Fn(f64) -> bool,
) -> Result<(), CalibrationError> {
    match values
        .copied()
        .enumerate()
        .find(|&(_, value)| !holds(value))
    {
        Some((index, value)) => Err(CalibrationError::Value {
            list,
            index,
            value,
            allowed,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelKind;

    fn example() -> (Calibration, ModelShape) {
        let calibration = Calibration {
            scope: ResidualScope::Record,
            scaler: Scaler {
                mean: vec![1.0, -2.0],
                sd: vec![0.5, 1e-3],
            },
            charts: vec![ChartCalibration {
                kind: ChartKind::Mewma,
                mean: vec![0.0, 0.1],
                sd: vec![0.2, 0.3],
                covariance: vec![1.0, -0.5, -0.5, 1.0],
                scores: vec![0.0, 1.5, 2.0],
            }],
            innovation: Vec::new(),
            adjusted: Vec::new(),
            states: None,
            differences: vec![1.0, 0.5],
            lift: 0.0,
            series_rows: 3,
            steps: Vec::new(),
            seasons: Vec::new(),
            fields: vec![
                FieldNormal {
                    movement: 0.0,
                    longest_run: 9,
                    rest: 0.0,
                    moving_run: 4,
                    mean_run: 2.5,
                    range: [2.0, 2.0],
                    step: None,
                    counter_resets: None,
                },
                FieldNormal {
                    movement: 0.3,
                    longest_run: 1,
                    rest: 0.0,
                    moving_run: 1,
                    mean_run: 1.0,
                    range: [-1.0, 1.0],
                    step: Some(2.0),
                    counter_resets: None,
                },
            ],
            period_micros: 1_000_000,
            peaks: None,
        };
        (
            calibration,
            ModelShape::new(ModelKind::Linear, 3, 2, &[], 1),
        )
    }

    #[test]
    fn a_good_one_passes() {
        let (calibration, shape) = example();
        calibration.validate(&shape).unwrap();
    }

    #[test]
    fn each_fault_is_named() {
        type Break = fn(&mut Calibration);
        let cases: [(Break, &str); 13] = [
            (
                |c| c.innovation = vec![0.5; 24],
                "innovation has 24 entries, 0 are needed",
            ),
            (
                |c| c.charts[0].kind = ChartKind::Adjusted,
                "adjusted has 0 entries, 16 are needed",
            ),
            (
                |c| c.scaler.sd.truncate(1),
                "scaler.sd has 1 entries, 2 are needed",
            ),
            (
                |c| c.charts[0].covariance.truncate(3),
                "charts.covariance has 3 entries, 4 are needed",
            ),
            (
                |c| c.charts.clear(),
                "charts has 0 entries, 1 to 5 are needed",
            ),
            (
                |c| c.charts[0].scores = vec![1.0; 4097],
                "charts.scores has 4097 entries, 0 to 4096 are needed",
            ),
            (
                |c| c.scaler.sd[1] = 0.0,
                "scaler.sd[1] is 0; it must be finite and > 0",
            ),
            (
                |c| c.charts[0].covariance[3] = -1.0,
                "charts.covariance diagonal[1] is -1; it must be finite and > 0",
            ),
            (
                |c| c.charts[0].scores[2] = f64::NAN,
                "charts.scores[2] is NaN; it must be finite and >= 0",
            ),
            (
                |c| c.fields[1].movement = -0.1,
                "fields.movement[1] is -0.1",
            ),
            (
                |c| c.fields[0].range[1] = f64::INFINITY,
                "fields.range[1] is inf",
            ),
            (|c| c.fields[1].step = Some(-1.0), "fields.step[0] is -1"),
            (|c| c.period_micros = -5, "period_micros[0] is -5"),
        ];
        for (fault, message) in cases {
            let (mut calibration, shape) = example();
            fault(&mut calibration);
            let found = calibration.validate(&shape).unwrap_err().to_string();
            assert!(
                found.contains(message),
                "{found:?} does not contain {message:?}"
            );
        }
    }
}
