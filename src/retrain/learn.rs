//! From records to a bundle: scaler, cross-fitted models, calibration.
//!
//! Each series' rows are cut into contiguous folds; a model is trained on all but one fold and reconstructs the fold that
//! it never saw. Those residuals calibrate the chart. A `dense` bundle scores with the mean of the fold models, a
//! `linear` one with one model of all rows (its closed form hardly depends on a fold).

use std::ops::{ControlFlow, Range};

use jiff::Timestamp;

use super::set::TrainingSet;
use crate::config::settings::{ModelKind, Stream};
use crate::gate;
use crate::model::bundle::{Bundle, BundleError};
use crate::model::calibration::{Calibration, FieldNormal, SCORES_MAX};
use crate::model::ensemble::Ensemble;
use crate::model::manifest::{FieldInfo, Metrics, Origin};
use crate::model::registry::RegistryError;
use crate::model::scaler::{Scaler, ScalerError};
use crate::model::shape::{ModelShape, ShapeError};
use crate::model::train::{self, Rows, TrainError, Trained};
use crate::model::{Autoencoder, ModelError};
use crate::score::calibrate::{Gap, calibrate};
use crate::score::{ScoreError, residuals};
use crate::state::StoreError;

/// Why records gave no bundle.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// Too few records.
    #[error(
        "{windows} windows of {window} records are too few to train on: at least {needed} are needed; give more records or fewer training.folds"
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

impl From<TrainError> for LearnError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Cancelled { .. } => Self::Cancelled,
            other => Self::Train(other),
        }
    }
}

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

/// The windows of a training set, and where each fold of them is.
struct Folds {
    /// Row-major, n x inputs, plain readings.
    windows: Vec<f64>,
    /// The same, scaled.
    scaled: Vec<f32>,
    inputs: usize,
    /// Windows of each series.
    segments: Vec<Range<usize>>,
    /// Where records are missing before a window.
    gaps: Vec<Gap>,
    count: usize,
}

impl Folds {
    /// The windows of fold `k`: the k-th part of each series.
    fn of(&self, k: usize) -> Vec<Range<usize>> {
        let part = |segment: &Range<usize>| {
            let cut = |i: usize| segment.start + segment.len() * i / self.count;
            cut(k)..cut(k + 1)
        };
        self.segments.iter().map(part).collect()
    }

    /// The scaled windows of fold `k`.
    fn inside(&self, k: usize) -> Vec<f32> {
        self.of(k).into_iter().flat_map(|r| &self.scaled[r.start * self.inputs..r.end * self.inputs]).copied().collect()
    }

    /// The scaled windows outside fold `k`, without those that share a record with it.
    fn outside(&self, k: usize, window: usize) -> Vec<f32> {
        let mut rows = Vec::with_capacity(self.scaled.len());
        for (segment, fold) in self.segments.iter().zip(self.of(k)) {
            let before = segment.start..fold.start.saturating_sub(window - 1).max(segment.start);
            let after = (fold.end + window - 1).min(segment.end)..segment.end;
            let before = if fold.is_empty() { segment.clone() } else { before };
            let after = if fold.is_empty() { segment.end..segment.end } else { after };
            for range in [before, after] {
                rows.extend_from_slice(&self.scaled[range.start * self.inputs..range.end * self.inputs]);
            }
        }
        rows
    }
}

/// Learns a bundle from records of normal operation. The same records, settings and seed give the same bundle id.
///
/// `start` gives scaler and first weights, where its shape is the one that is wanted.
///
/// # Errors
/// See [`LearnError`]. `on_progress` cancels by `Break`.
pub fn learn(
    stream: &Stream,
    set: &TrainingSet,
    start: Option<&Bundle>,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Bundle, LearnError> {
    let fields = stream.record.fields.len();
    let shape = shape(stream, fields);
    shape.validate()?;
    let start = start.filter(|bundle| ModelShape { members: 1, ..bundle.manifest.shape.clone() } == shape);
    let folds = fold(stream, set, &shape)?;
    let scaler = match start {
        Some(bundle) => bundle.calibration.scaler.clone(),
        None => Scaler::fit(&set.rows, fields)?,
    };
    let folds = Folds { scaled: scale(&scaler, &folds.windows, fields), ..folds };

    let models = folds.count + usize::from(shape.kind == ModelKind::Linear);
    let mut trained = Vec::new();
    for k in 0..folds.count {
        let (train, held_out) = (folds.outside(k, stream.window), folds.inside(k));
        let rows = Rows { train: &train, held_out: &held_out };
        let start = start.and_then(|bundle| bundle.model.member(k));
        trained.push(fit(rows, &shape, start, stream, k, models, on_progress)?);
    }
    let residuals = out_of_fold(&folds, &scaler, &trained, fields)?;
    let metrics = metrics(&trained);
    let model: Box<dyn Autoencoder> = match shape.kind {
        ModelKind::Linear => {
            let rows = Rows { train: &folds.scaled, held_out: &[] };
            fit(rows, &shape, None, stream, folds.count, models, on_progress)?.model
        }
        ModelKind::Dense => Box::new(Ensemble::new(trained.into_iter().map(|t| t.model).collect())?),
    };
    let calibration = calibration(stream, set, scaler, &residuals, &folds)?;
    let origin = origin(stream, set, folds.windows.len() / shape.inputs(), metrics);
    Ok(Bundle::new(origin, calibration, model, Timestamp::now())?)
}

fn shape(stream: &Stream, fields: usize) -> ModelShape {
    let model = &stream.model;
    let hidden = if model.kind == ModelKind::Linear { Vec::new() } else { model.hidden.clone() };
    ModelShape { kind: model.kind, window: stream.window, fields, hidden, latent: model.latent, members: 1 }
}

fn fold(stream: &Stream, set: &TrainingSet, shape: &ModelShape) -> Result<Folds, LearnError> {
    let (windows, segments, gaps) = set.windows(stream.window, shape.fields);
    let (count, inputs) = (stream.training.folds, shape.inputs());
    // Each model is left with enough rows when a fold and the held-out part are gone.
    let needed = 4 * train::ROWS_MIN.max(count);
    match windows.len() / inputs {
        found if found < needed => Err(LearnError::TooFew { windows: found, window: stream.window, needed }),
        _ => Ok(Folds { windows, scaled: Vec::new(), inputs, segments, gaps, count }),
    }
}

fn scale(scaler: &Scaler, windows: &[f64], fields: usize) -> Vec<f32> {
    let mut scaled = vec![0.0; windows.len()];
    for (raw, z) in windows.chunks_exact(fields).zip(scaled.chunks_exact_mut(fields)) {
        scaler.scale_into(raw, z);
    }
    scaled
}

/// Trains the `number`-th of `models` models; each has a seed of its own.
fn fit(
    rows: Rows<'_>,
    shape: &ModelShape,
    start: Option<&dyn Autoencoder>,
    stream: &Stream,
    number: usize,
    models: usize,
    on_progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Trained, LearnError> {
    let mut settings = stream.training.clone();
    settings.seed = settings.seed.wrapping_mul(1_000).wrapping_add(number as u64);
    Ok(train::fit(rows, shape, start, &settings, &mut |epoch| {
        let loss = epoch.holdout_loss.unwrap_or(epoch.train_loss);
        on_progress(&Progress { epochs: number * epoch.of + epoch.number, of: models * epoch.of, loss })
    })?)
}

/// The residual of each window's newest record (row-major, n x fields, scaled units) by the model that did not see it.
fn out_of_fold(folds: &Folds, scaler: &Scaler, trained: &[Trained], fields: usize) -> Result<Vec<f32>, LearnError> {
    let mut all = vec![0.0; folds.windows.len() / folds.inputs * fields];
    for (k, trained) in trained.iter().enumerate() {
        for range in folds.of(k) {
            let windows = &folds.windows[range.start * folds.inputs..range.end * folds.inputs];
            let found = residuals(&*trained.model, scaler, windows)?;
            all[range.start * fields..range.end * fields].copy_from_slice(found.all());
        }
    }
    Ok(all)
}

fn calibration(
    stream: &Stream,
    set: &TrainingSet,
    scaler: Scaler,
    residuals: &[f32],
    folds: &Folds,
) -> Result<Calibration, LearnError> {
    let fields = stream.record.fields.len();
    let charted =
        calibrate(&stream.score, residuals, fields, &folds.segments, &folds.gaps).map_err(ScoreError::from)?;
    let normals = gate::normals(&set.rows, fields, &set.runs);
    let step = charted.scores.len().div_ceil(SCORES_MAX).max(1);
    Ok(Calibration {
        scaler,
        residual_mean: charted.mean,
        residual_sd: charted.sd,
        covariance: charted.covariance,
        series_rows: charted.series_rows,
        scores: charted.scores.into_iter().step_by(step).collect(),
        fields: normals.into_iter().map(field_normal).collect(),
        period_micros: set.period_micros(),
    })
}

fn field_normal(n: gate::Normal) -> FieldNormal {
    FieldNormal { movement: n.movement, longest_run: n.longest_run, range: n.range, step: n.step }
}

/// Means over the fold models.
fn metrics(trained: &[Trained]) -> Metrics {
    let n = trained.len().max(1) as f64;
    let held_out: Option<Vec<f64>> = trained.iter().map(|t| t.holdout_loss).collect();
    Metrics {
        epochs: trained.iter().map(|t| t.epochs).max().unwrap_or(0),
        train_loss: trained.iter().map(|t| t.train_loss).sum::<f64>() / n,
        holdout_loss: held_out.map(|losses| losses.iter().sum::<f64>() / n),
    }
}

fn origin(stream: &Stream, set: &TrainingSet, rows: usize, metrics: Metrics) -> Origin {
    let info = |field: &crate::config::settings::Field| FieldInfo {
        name: field.name.clone(),
        path: field.path.clone(),
        unit: field.unit.clone(),
    };
    Origin {
        stream: stream.name.clone(),
        fields: stream.record.fields.iter().map(info).collect(),
        training: stream.training.clone(),
        rows: rows as u64,
        learned_from: set.ranges(),
        metrics,
    }
}
