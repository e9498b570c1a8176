//! A stream's first model: how many records it takes, and its proof.
//!
//! The records have to cover what is normal ([`super::coverage`]), and a model of their older part
//! has to keep the alert budget on the newest part, which it did not see. Where it does not, more
//! records are collected; at the bounds of collecting, the model goes live with raised thresholds.

use std::fmt;
use std::ops::ControlFlow;

use super::budget::exceeds;
use super::coverage::at_bounds;
use super::learn::{LearnError, Progress, learn};
use super::proof::sequences;
use super::set::{TrainingRow, TrainingSet, newest_from};
use super::trial::Trial;
use crate::config::settings::StreamSettings;
use crate::model::bundle::Bundle;
use crate::model::calibration::Calibration;
use crate::threshold::lift_of;

/// Part of the records, the newest, that the model is proved on.
const HOLD_OUT: f64 = 0.25;
/// How many times as many records are collected where the proof failed.
const MORE: f64 = 1.25;

/// What came of a first training.
pub enum FirstModel {
    /// It may go live.
    Live(Box<Bundle>),
    /// More records are needed.
    Unproved(FirstTest),
}

/// What a model of the older records raised on the newest ones.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FirstTest {
    /// Records, older and newest ones.
    pub records: usize,
    /// Alerts on the newest ones.
    pub alerts: u64,
    /// Those that the budget allows.
    pub budgeted: f64,
    /// Records after which it is tried again.
    pub wanted: usize,
}

impl FirstTest {
    /// Whether that is more than the budget explains.
    pub fn is_failed(&self) -> bool {
        exceeds(self.alerts, self.budgeted)
    }
}

impl fmt::Display for FirstTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (alerts, budgeted) = (self.alerts, self.budgeted);
        write!(
            f,
            "a model of the older records raises {alerts} alerts on the newest quarter, where the budget allows {budgeted:.2}"
        )
    }
}

/// Trains a stream's first model and proves it.
///
/// # Errors
/// Those of [`learn`].
pub fn learn_first(
    stream: &StreamSettings,
    rows: &[TrainingRow],
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<FirstModel, LearnError> {
    let all = TrainingSet::new(rows.iter().cloned());
    let test = test(stream, rows, &all, on_progress)?;
    let failed = test.filter(FirstTest::is_failed);
    if let Some(failed) = failed.filter(|_| !at_bounds(stream, &all)) {
        return Ok(FirstModel::Unproved(failed));
    }
    let bundle = learn_as_tested(stream, &all, failed, on_progress)?;
    Ok(FirstModel::Live(Box::new(bundle)))
}

/// Trains a first model on all the records that there are, and says how a model of the older ones
/// did on the newest; `None` where they are too few to tell. Where that was more alerts than the
/// budget explains, the thresholds are raised.
///
/// # Errors
/// Those of [`learn`].
pub fn learn_from_all(
    stream: &StreamSettings,
    rows: &[TrainingRow],
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<(Bundle, Option<FirstTest>), LearnError> {
    let all = TrainingSet::new(rows.iter().cloned());
    let test = test(stream, rows, &all, on_progress)?;
    let failed = test.filter(FirstTest::is_failed);
    let bundle = learn_as_tested(stream, &all, failed, on_progress)?;
    Ok((bundle, test))
}

/// A model of all records, with raised thresholds where one of the older records failed.
fn learn_as_tested(
    stream: &StreamSettings,
    all: &TrainingSet,
    failed: Option<FirstTest>,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Bundle, LearnError> {
    let bundle = learn(stream, all, None, on_progress)?;
    let Some(failed) = failed else {
        return Ok(bundle);
    };
    let series = all.segments.len().max(1) as f64;
    raised(bundle, failed.alerts as f64 / series)
}

/// The bundle with thresholds as so many alerts a series would have raised them.
fn raised(bundle: Bundle, alerts: f64) -> Result<Bundle, LearnError> {
    let calibration = Calibration {
        lift: lift_of(alerts),
        ..bundle.calibration
    };
    let (origin, created) = (bundle.manifest.origin, bundle.manifest.created);
    let (model, denoiser) = (bundle.model, bundle.denoiser);
    Ok(Bundle::new(origin, calibration, model, denoiser, created)?)
}

/// What a model of the older records raises on the newest ones; `None` where they are too few to
/// tell, or the stream asks for no test.
fn test(
    stream: &StreamSettings,
    rows: &[TrainingRow],
    all: &TrainingSet,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Option<FirstTest>, LearnError> {
    if stream.training.effective_records == 0 || stream.image.is_some() {
        return Ok(None);
    }
    let cut = newest_from(rows, HOLD_OUT);
    let older = rows.iter().filter(|row| row.time < cut).cloned();
    let bundle = match learn(stream, &TrainingSet::new(older), None, on_progress) {
        Err(LearnError::TooFew { .. }) => return Ok(None),
        learned => learned?,
    };
    let sequences = sequences(all, stream.record.fields.len());
    let mut trial = Trial::new(stream, bundle)?;
    let tried = trial.run(&sequences, None)?;
    let newer = tried.opened.iter().zip(&sequences);
    let newer = newer.flat_map(|(opened, of)| opened.iter().filter(|row| of.times[**row] >= cut));
    let more = (all.len() as f64 * MORE) as usize + 1;
    Ok(Some(FirstTest {
        records: all.len(),
        alerts: newer.count() as u64,
        budgeted: tried.budgeted * HOLD_OUT,
        wanted: more.min(stream.training.records_max),
    }))
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};

    use super::*;
    use crate::model::ModelKind;
    use crate::record::EventTime;
    use crate::test_stream::three_fields;

    /// Noise of one series a second; the newest fifth has `spikes` of them far outside.
    fn rows(count: i64, spikes: i64) -> Vec<TrainingRow> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let row = |second| {
            let is_spike = second >= count * 4 / 5 && second % 40 < spikes;
            let shift = if is_spike { 30.0 } else { 0.0 };
            TrainingRow {
                series: "a".to_owned(),
                time: EventTime(second * 1_000_000),
                values: (0..3).map(|_| rng.random_range(0.0..1.0) + shift).collect(),
                image: None,
            }
        };
        (0..count).map(row).collect()
    }

    fn first(stream: &StreamSettings, rows: &[TrainingRow]) -> FirstModel {
        learn_first(stream, rows, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn a_model_that_alerts_on_the_newest_records_is_not_live_before_the_bounds() {
        let mut stream = three_fields();
        let FirstModel::Live(quiet) = first(&stream, &rows(1_200, 0)) else {
            panic!("quiet records are enough");
        };
        assert_eq!(quiet.calibration.lift, 0.0);
        // Noise holds nothing that a network could learn.
        let origin = &quiet.manifest.origin;
        assert_eq!(quiet.manifest.shape.kind, ModelKind::Linear);
        assert!(
            origin
                .metrics
                .linear_ratio
                .is_some_and(|ratio| ratio > 0.95)
        );
        assert!(quiet.denoiser.is_none() && origin.metrics.denoising_ratio.is_some());
        let restless = rows(1_200, 2);
        let FirstModel::Unproved(unproved) = first(&stream, &restless) else {
            panic!("six alerts");
        };
        assert!(
            unproved.alerts >= 3 && unproved.budgeted < 0.1,
            "{unproved:?}"
        );
        assert_eq!((unproved.records, unproved.wanted), (1_200, 1_501));
        stream.training.records_max = 1_200;
        let FirstModel::Live(raised) = first(&stream, &restless) else {
            panic!("no more is collected");
        };
        assert!(raised.calibration.lift > 0.2, "{}", raised.calibration.lift);
    }
}
