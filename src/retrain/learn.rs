//! From records to a bundle: scaler, cross-fitted models, calibration.
//!
//! Each series' rows are cut into contiguous folds; a model is trained on all but one fold and
//! reconstructs the fold that it never saw. Those residuals calibrate the chart. A `dense` bundle
//! scores with the mean of the fold models, a `linear` one with one model of all rows (its closed
//! form hardly depends on a fold).

mod features;
mod folds;
mod images;
pub mod inputs;

use std::ops::ControlFlow;

use jiff::Timestamp;

use self::folds::{Folds, parts};
use self::inputs::{field_normal, inputs, normals, take_seasons};
use super::set::{TrainingSet, WindowStarts};
use crate::config::settings::StreamSettings;
use crate::failure::{Failure, FailureClass};
use crate::gate::NormalRange;
use crate::model::ResidualScope;
use crate::model::bundle::{Bundle, BundleError};
use crate::model::calibration::{Calibration, ChartCalibration, thinned};
use crate::model::context::TimeContext;
use crate::model::denoiser::Denoiser;
use crate::model::ensemble::Ensemble;
use crate::model::manifest::{FieldInfo, Metrics, Origin};
use crate::model::registry::RegistryError;
use crate::model::scaler::{Scaler, ScalerError};
use crate::model::shape::{ModelShape, ShapeError};
use crate::model::train::{self, TrainError, Trained, TrainingWindows};
use crate::model::{Autoencoder, ModelError, ModelKind};
use crate::pipeline::PipelineError;
use crate::pipeline::status::gap_us;
use crate::record::EventTime;
use crate::score::calibrate::series_rows;
use crate::score::charts::NormalRows;
use crate::score::resolution::{least_deviations, scaled_steps};
use crate::score::rest::Rest;
use crate::score::{ScoreError, by_part, residuals};
use crate::state::StoreError;

/// Why records gave no bundle.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// Too few records.
    #[error(
        "{windows} windows of {window} records are too few for training, which needs at least {needed}; provide more records or fewer training.folds"
    )]
    TooFew {
        /// Windows found.
        windows: usize,
        /// Records in a window.
        window: usize,
        /// Windows needed.
        needed: usize,
    },
    /// The caller asked to stop.
    #[error("training was cancelled")]
    Cancelled,
    /// An image that was kept can no longer be read.
    #[error("the image of {at} cannot be read: {fault}")]
    Image {
        /// Its event time.
        at: EventTime,
        /// Kind of fault.
        fault: String,
    },
    /// The scaler.
    #[error("scaling: {0}")]
    Scaler(#[from] ScalerError),
    /// The shape.
    #[error("model: {0}")]
    Shape(#[from] ShapeError),
    /// A training.
    #[error(transparent)]
    Train(TrainError),
    /// The model could not be run or joined.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The proof.
    #[error(transparent)]
    Trial(#[from] PipelineError),
    /// The calibration.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The model folder.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store of kept records.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure for LearnError {
    fn class(&self) -> FailureClass {
        match self {
            Self::TooFew { .. } | Self::Image { .. } => FailureClass::USER,
            // By a stop, or by the configured time limit.
            Self::Cancelled => FailureClass::USER.retryable(),
            Self::Scaler(error) => error.class(),
            Self::Shape(error) => error.class(),
            Self::Train(error) => error.class(),
            Self::Model(error) => error.class(),
            Self::Trial(error) => error.class(),
            Self::Score(error) => error.class(),
            Self::Bundle(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }
}

impl From<TrainError> for LearnError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Cancelled { .. } => Self::Cancelled,
            other => Self::Train(other),
        }
    }
}

/// A network takes the place of its linear twin where its error on held-out windows is at most this
/// part of the twin's: two trainings of one network differ by less.
const WORTH_IT: f64 = 0.95;

/// How far a learning has come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Progress {
    /// Epochs done, over all models.
    pub epochs: usize,
    /// Epochs at most, over all models.
    pub of: usize,
    /// The last epoch's loss of held-out rows, else of the rows trained on.
    pub loss: f64,
}

/// Learns a bundle from records of normal operation. The same records, settings and seed give the
/// same bundle id.
///
/// `start` gives scaler and first weights, where its shape is the one that is wanted.
///
/// # Errors
/// See [`LearnError`]. `on_progress` cancels by `Break`.
pub fn learn(
    stream: &StreamSettings,
    set: &TrainingSet,
    start: Option<&Bundle>,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Bundle, LearnError> {
    if let Some(format) = &stream.image {
        if stream.model.kind.is_of_features() {
            return features::learn(stream, format, set, on_progress);
        }
        return images::learn(stream, format, set, start, on_progress);
    }
    let fields = stream.record.fields.len();
    let shape = ModelShape::of(&stream.model, stream.window, fields);
    shape.validate()?;
    let start = start.filter(|bundle| {
        ModelShape {
            members: 1,
            ..bundle.manifest.shape.clone()
        } == shape
    });
    let set = &set.cut(gap_us(stream, set.period_micros()));
    let normals = normals(stream, set);
    // The scaler of the start is of the same inputs.
    let start = start.filter(|bundle| {
        let before = bundle.calibration.fields.iter();
        before
            .zip(&normals)
            .all(|(before, now)| before.counter_resets.is_some() == now.counter.is_some())
    });
    let (set, states) = &inputs(stream, set, &normals);
    let windows = windows(stream, set)?;
    let clock = TimeContext::new(&stream.model);
    let scaler = match start {
        Some(bundle) => bundle.calibration.scaler.clone(),
        None => clock.extend(Scaler::fit(&set.rows, fields)?),
    };
    let scaled = scaler.scaled(&clock.extended(&set.rows, &set.times, fields));
    let folds = Folds {
        scaled,
        of: parts(&windows.segments, stream.training.folds),
        windows,
        fields: shape.fields,
        count: stream.training.folds,
    };
    let (shape, trained, mut metrics) =
        by_folds_or_linear(stream, shape, &folds, start, on_progress)?;
    let errors = match stream.score.scope {
        ResidualScope::Record => None,
        ResidualScope::Window => Some(window_errors(&folds, fields, &trained)?),
    };
    let model = joined(stream, &shape, &folds, trained, on_progress)?;
    let (calibration, denoiser, ratio) =
        calibration(stream, set, &normals, scaler, errors, &folds)?;
    let calibration = Calibration {
        states: states.clone(),
        ..calibration
    };
    metrics.denoising_ratio = ratio;
    let origin = origin(stream, set, folds.windows.starts.len(), metrics);
    Ok(Bundle::new(
        origin,
        calibration,
        model,
        denoiser,
        Timestamp::now(),
    )?)
}

/// A network for each fold, or its linear twin where that is as good on the windows that it did not
/// see.
fn by_folds_or_linear(
    stream: &StreamSettings,
    shape: ModelShape,
    folds: &Folds,
    start: Option<&Bundle>,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<(ModelShape, Vec<Trained>, Metrics), LearnError> {
    let trained = by_folds(stream, &shape, folds, start, on_progress)?;
    let mut metrics = metrics(&trained);
    if !stream.model.linear_unless_better || !shape.kind.is_network() {
        return Ok((shape, trained, metrics));
    }
    let settings = stream.with_kind(ModelKind::Linear).model;
    let linear = ModelShape::of(&settings, stream.window, stream.record.fields.len());
    let twins = by_folds(stream, &linear, folds, None, on_progress)?;
    let mut of_linear = self::metrics(&twins);
    let losses = metrics.holdout_loss.zip(of_linear.holdout_loss);
    let ratio = losses.map(|(network, linear)| network / linear.max(f64::MIN_POSITIVE));
    (metrics.linear_ratio, of_linear.linear_ratio) = (ratio, ratio);
    Ok(match ratio.is_some_and(|ratio| ratio > WORTH_IT) {
        true => (linear, twins, of_linear),
        false => (shape, trained, metrics),
    })
}

/// One model of those of the folds: their mean, or for a closed form one that is fitted to all
/// windows.
fn joined(
    stream: &StreamSettings,
    shape: &ModelShape,
    folds: &Folds,
    trained: Vec<Trained>,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Box<dyn Autoencoder>, LearnError> {
    if shape.kind.is_network() {
        let members = trained.into_iter().map(|trained| trained.model);
        return Ok(Box::new(Ensemble::new(members.collect())?));
    }
    let all = folds.all();
    let rows = TrainingWindows {
        values: &folds.scaled,
        train: &all,
        held_out: &[],
    };
    let last = (folds.count, folds.count + 1);
    Ok(fit(rows, shape, None, stream, last, on_progress)?.model)
}

/// A model for each fold, which does not see its windows.
fn by_folds(
    stream: &StreamSettings,
    shape: &ModelShape,
    folds: &Folds,
    start: Option<&Bundle>,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Vec<Trained>, LearnError> {
    let overlap = (stream.window - 1) / stream.stride;
    // A closed form is fitted once more, to all windows.
    let models = folds.count + usize::from(!shape.kind.is_network());
    let each = (0..folds.count).map(|k| {
        let (train, held_out) = (folds.outside(k, overlap), folds.inside(k));
        let rows = TrainingWindows {
            values: &folds.scaled,
            train: &train,
            held_out: &held_out,
        };
        let start = start.and_then(|bundle| bundle.model.member(k));
        fit(rows, shape, start, stream, (k, models), on_progress)
    });
    each.collect()
}

fn windows(stream: &StreamSettings, set: &TrainingSet) -> Result<WindowStarts, LearnError> {
    let windows = set.windows(stream.window, stream.stride);
    // Each model is left with enough rows when a fold and the held-out part are gone.
    let needed = 4 * train::ROWS_MIN.max(stream.training.folds);
    match windows.starts.len() {
        found if found < needed => Err(LearnError::TooFew {
            windows: found,
            window: stream.window,
            needed,
        }),
        _ => Ok(windows),
    }
}

/// Trains the `number`-th of `models` models; each has its own seed.
fn fit(
    rows: TrainingWindows<'_>,
    shape: &ModelShape,
    start: Option<&dyn Autoencoder>,
    stream: &StreamSettings,
    (number, models): (usize, usize),
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Trained, LearnError> {
    let mut settings = stream.training.clone();
    settings.seed = settings
        .seed
        .wrapping_mul(1_000)
        .wrapping_add(number as u64);
    Ok(train::fit(rows, shape, start, &settings, &mut |epoch| {
        let loss = epoch.holdout_loss.unwrap_or(epoch.train_loss);
        on_progress(&Progress {
            epochs: number * epoch.of + epoch.number,
            of: models * epoch.of,
            loss,
        })
    })?)
}

/// The error of each field over each window (row-major, n x fields, scaled units) by the model that
/// did not see it.
fn window_errors(
    folds: &Folds,
    fields: usize,
    trained: &[Trained],
) -> Result<Vec<f32>, LearnError> {
    let scope = ResidualScope::Window;
    let mut all = vec![0.0; folds.windows.starts.len() * fields];
    for (trained, of) in trained.iter().zip(&folds.of) {
        let windows: Vec<usize> = of.iter().flat_map(Clone::clone).collect();
        let starts: Vec<usize> = windows
            .iter()
            .map(|&window| folds.windows.starts[window])
            .collect();
        let mut windows = windows.into_iter();
        by_part(
            &*trained.model,
            &folds.scaled,
            &starts,
            |part| -> Result<(), LearnError> {
                let found = residuals(&*trained.model, scope, &part)?;
                for (residual, window) in found.all().chunks_exact(fields).zip(windows.by_ref()) {
                    all[window * fields..(window + 1) * fields].copy_from_slice(residual);
                }
                Ok(())
            },
        )?;
    }
    Ok(all)
}

fn calibration(
    stream: &StreamSettings,
    set: &TrainingSet,
    normals: &[NormalRange],
    scaler: Scaler,
    errors: Option<Vec<f32>>,
    folds: &Folds,
) -> Result<(Calibration, Option<Denoiser>, Option<f64>), LearnError> {
    let fields = stream.record.fields.len();
    let mut readings = folds.newest(stream.window, fields);
    // An error over a window has no steps, and no season: the model knows the time.
    let (steps, seasons) = match errors {
        None => (
            scaled_steps(&set.rows, &scaler.sd[..fields]),
            take_seasons(stream, set, folds, &mut readings),
        ),
        Some(_) => (Vec::new(), Vec::new()),
    };
    let least = least_deviations(&steps);
    let fields_normal: Vec<_> = normals.iter().map(field_normal).collect();
    let rest = Rest::of(&fields_normal, &scaler);
    let rows = NormalRows {
        readings: &readings,
        residuals: errors.as_deref().unwrap_or(&readings),
        k: fields,
        segments: &folds.windows.segments,
        gaps: &folds.windows.gaps,
        folds: &folds.of,
        least: &least,
        rest: &rest,
        denoiser: stream
            .model
            .kind
            .is_network()
            .then_some(stream.training.seed),
    };
    let found = rows.calibrate(&stream.score)?;
    let thin = |chart: ChartCalibration| ChartCalibration {
        scores: thinned(chart.scores),
        ..chart
    };
    let calibration = Calibration {
        scope: stream.score.scope,
        scaler,
        charts: found.charts.into_iter().map(thin).collect(),
        innovation: found.innovation,
        adjusted: found.adjusted,
        differences: found.differences,
        lift: 0.0,
        series_rows: series_rows(&folds.windows.segments),
        steps,
        seasons,
        states: None,
        fields: fields_normal,
        period_micros: set.period_micros(),
        peaks: None,
    };
    Ok((calibration, found.denoiser, found.denoising_ratio))
}

/// Means over the fold models.
fn metrics(trained: &[Trained]) -> Metrics {
    let n = trained.len().max(1) as f64;
    let held_out: Option<Vec<f64>> = trained.iter().map(|t| t.holdout_loss).collect();
    Metrics {
        epochs: trained.iter().map(|t| t.epochs).max().unwrap_or(0),
        train_loss: trained.iter().map(|t| t.train_loss).sum::<f64>() / n,
        holdout_loss: held_out.map(|losses| losses.iter().sum::<f64>() / n),
        denoising_ratio: None,
        linear_ratio: None,
    }
}

fn origin(stream: &StreamSettings, set: &TrainingSet, rows: usize, metrics: Metrics) -> Origin {
    Origin {
        stream: stream.name.clone(),
        fields: stream.record.fields.iter().map(FieldInfo::of).collect(),
        training: stream.training.clone(),
        rows: rows as u64,
        learned_from: set.ranges(),
        metrics,
    }
}
