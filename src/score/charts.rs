//! The charts of a bundle: each looks at another side of the same records, and each has its own
//! threshold and its share of the alert budget.
//!
//! | chart | of | finds |
//! |---|---|---|
//! | `mewma` | the readings, smoothed | levels, drifts |
//! | `t2` | the readings | jumps |
//! | `adjusted` | what the other fields do not explain, smoothed; only where they explain most | slow faults that the load hides |
//! | `variance` | what the past does not explain, its smoothed squared length | variance, frequency, broken correlations |
//! | `autoencoder` | what the denoiser leaves, smoothed; only where it is far ahead of a linear one | states that no mode of normal operation has |
//!
//! For models with time features, and for whole windows, what the model leaves takes the place of
//! the readings.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::calibrate::{CalibrationGap, calibrate};
use super::chart::{Chart, ChartState, paced};
use super::denoise::denoise;
use super::matrix::NotPositiveDefinite;
use super::regression::{Coefficients, FIELDS_MAX, Regressions, adjusted, fit, innovation};
use super::rest::Rest;
use super::rows::Rows;
use super::wild::Tame;
use super::{ScoreError, ScoreSettings};
use crate::model::ResidualScope;
use crate::model::calibration::{CHARTS_MAX, Calibration, ChartCalibration};
use crate::model::denoiser::Denoiser;
use crate::model::memory::Memory;
use crate::record::alert::ChartKind;

/// What the charts remember of a series.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ChartsState {
    now: View,
    /// While the series alerts, what would be remembered if the alert had never been: baselines at
    /// their anchors, and longer means that take no record.
    before: Option<Box<View>>,
    /// While the series alerts, the smoothed squared difference of successive records, each field in
    /// units of its normal one.
    unrest: Option<Box<[f32]>>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct View {
    memory: Memory,
    charts: Vec<ChartState>,
}

/// The charts of a bundle.
pub struct Charts {
    /// `None` where nothing is charted of it.
    innovation: Option<Coefficients>,
    /// The same.
    adjusted: Option<Coefficients>,
    /// The same.
    denoiser: Option<Denoiser>,
    charts: Vec<(ChartKind, Chart)>,
    /// Mean squared difference of successive records of each field.
    differences: Vec<f64>,
    rest: Rest,
}

/// A record of a series as the charts see it.
#[derive(Clone, Copy)]
struct ChartedRecord<'r> {
    z: &'r [f32],
    residual: &'r [f32],
    missing: &'r [usize],
}

/// What the charts make of a record.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ChartScores {
    scores: [f64; CHARTS_MAX],
    before: [f64; CHARTS_MAX],
    count: usize,
    /// While the series alerts, how many times its normal squared movement from record to record the
    /// most restless field has; 0 otherwise.
    pub unrest: f64,
}

impl ChartScores {
    /// The one score of a record that has no charts.
    pub fn single(score: f64) -> Self {
        let mut scores = Self::default();
        (scores.scores[0], scores.before[0], scores.count) = (score, score, 1);
        // Without memory nothing says that a plant is steady.
        scores.unrest = f64::INFINITY;
        scores
    }

    /// The score of each chart.
    pub fn all(&self) -> &[f64] {
        &self.scores[..self.count]
    }

    /// While the series alerts, the score that each chart would have if the alert had never been.
    pub fn before(&self) -> &[f64] {
        &self.before[..self.count]
    }
}

/// Weight of the newest squared difference.
const UNREST_WEIGHT: f64 = 0.05;
/// Squared differences are cut here, in squared scaled units.
const DIFFERENCE_MAX: f64 = 25.0;

impl Charts {
    /// The charts of a calibration.
    ///
    /// # Errors
    /// Where a covariance is singular.
    pub fn new(
        settings: &ScoreSettings,
        c: &Calibration,
        denoiser: Option<&Denoiser>,
    ) -> Result<Self, NotPositiveDefinite> {
        let settings = paced(settings, c.series_rows);
        let chart = |of: &ChartCalibration| {
            let chart = Chart::new(of.kind, &settings, &of.mean, &of.sd, &of.covariance)?;
            Ok((of.kind, chart))
        };
        Ok(Self {
            innovation: Coefficients::stored(&c.innovation),
            adjusted: Coefficients::stored(&c.adjusted),
            denoiser: denoiser.cloned(),
            charts: c.charts.iter().map(chart).collect::<Result<_, _>>()?,
            differences: c.differences.clone(),
            rest: Rest::of(&c.fields, &c.scaler),
        })
    }

    /// Takes the newest record of a series: `z` are its readings, `residual` what the charts of
    /// readings look at; both of length k, in scaled units. Those of the `missing` fields (ascending)
    /// are a model's guess. `alerting` slows the baselines down.
    pub fn step(
        &self,
        state: &mut ChartsState,
        z: &[f32],
        residual: &[f32],
        missing: &[usize],
        alerting: bool,
    ) -> ChartScores {
        let estimated = self.estimated(&state.now, z, residual, missing);
        let (z, residual) = estimated.as_ref().map_or((z, residual), |(z, r)| (z, r));
        let unrest = self.unrest(state, z, alerting);
        if self.rest.ends_or_begins(&state.now.memory, z) {
            state.interrupt(1);
        }
        match (alerting, &state.before) {
            (true, None) => state.before = Some(Box::new(self.at_anchor(&state.now))),
            (false, Some(_)) => state.before = None,
            _ => {}
        }
        let record = ChartedRecord {
            z,
            residual,
            missing,
        };
        let scores = self.step_view(&mut state.now, record, alerting, None);
        let (now, before) = (&state.now.memory, state.before.as_deref_mut());
        let before = before.map(|view| self.step_view(view, record, alerting, Some(now)));
        ChartScores {
            scores,
            before: before.unwrap_or(scores),
            count: self.charts.len(),
            unrest,
        }
    }

    /// The record with what its series and its other fields let expect of the missing ones: the chart
    /// of the newest readings knows best. `None` where nothing is missing.
    fn estimated(
        &self,
        view: &View,
        z: &[f32],
        residual: &[f32],
        missing: &[usize],
    ) -> Option<(Vec<f32>, Vec<f32>)> {
        let number = self
            .charts
            .iter()
            .position(|(kind, _)| *kind == ChartKind::T2);
        let number = number.unwrap_or(0);
        let (_, chart) = self.charts.get(number).filter(|_| !missing.is_empty())?;
        let new = ChartState::default();
        let state = view.charts.get(number).unwrap_or(&new);
        let estimated = chart.estimated(state, residual, missing);
        let mut z = z.to_vec();
        for &field in missing {
            z[field] += estimated[field] - residual[field];
        }
        Some((z, estimated))
    }

    /// Takes a record into a view. `now` is the memory of the records as they were, where the view is
    /// what would be remembered without the alert: its longer means take no record, and those of
    /// before do not explain what the other fields do to a slow one at another load.
    fn step_view(
        &self,
        view: &mut View,
        record: ChartedRecord<'_>,
        alerting: bool,
        now: Option<&Memory>,
    ) -> [f64; CHARTS_MAX] {
        let ChartedRecord {
            z,
            residual,
            missing,
        } = record;
        let count = self.charts.len();
        view.charts.resize_with(count, ChartState::default);
        let (past, others) = (self.innovation.as_ref(), self.adjusted.as_ref());
        let innovation = past.and_then(|by| innovation(by, &view.memory, z));
        let denoiser = self.denoiser.as_ref().zip(view.memory.past());
        let denoised = denoiser.map(|(by, past)| by.residual(z, past));
        view.memory.take(z, now.is_none());
        let adjusted = others.and_then(|by| adjusted(by, now.unwrap_or(&view.memory), z));
        let mut scores = [0.0; CHARTS_MAX];
        let charts = self.charts.iter().zip(&mut view.charts);
        for (score, ((kind, chart), state)) in scores.iter_mut().zip(charts) {
            let vector = match kind {
                ChartKind::Mewma | ChartKind::T2 => Some(residual),
                ChartKind::Variance => innovation.as_deref(),
                ChartKind::Adjusted => adjusted.as_deref(),
                ChartKind::Autoencoder => denoised.as_deref(),
            };
            // There may be too few records since the start or a gap.
            match vector {
                Some(vector) => *score = chart.step(state, vector, missing, alerting),
                None => state.pause(),
            }
        }
        scores
    }

    /// The same view, with its anchors for baselines.
    fn at_anchor(&self, view: &View) -> View {
        let mut view = view.clone();
        for ((kind, _), state) in self.charts.iter().zip(&mut view.charts) {
            if measures_level(*kind) {
                state.return_to_anchor();
            }
        }
        view
    }

    /// See [`ChartScores::unrest`]; before the record enters the memory.
    fn unrest(&self, state: &mut ChartsState, z: &[f32], alerting: bool) -> f64 {
        let Some(newest) = state.now.memory.newest().filter(|_| alerting) else {
            state.unrest = None;
            return 0.0;
        };
        let calm = || vec![1.0; z.len()].into();
        let unrest = state.unrest.get_or_insert_with(calm);
        let mut largest = 0.0f64;
        let fields = z.iter().zip(newest).zip(&self.differences);
        for (unrest, ((&z, &before), &normal)) in unrest.iter_mut().zip(fields) {
            let squared = f64::from(z - before).powi(2).min(DIFFERENCE_MAX);
            let ratio = squared / normal.max(1e-6);
            *unrest += (UNREST_WEIGHT * (ratio - f64::from(*unrest))) as f32;
            largest = largest.max(f64::from(*unrest));
        }
        largest
    }

    /// Each field's share of the present score of a chart; they add up to 1.
    pub fn shares(&self, state: &ChartsState, chart: usize) -> Vec<f64> {
        let both = self.charts.get(chart).zip(state.now.charts.get(chart));
        both.map_or(Vec::new(), |((_, chart), state)| chart.shares(state))
    }

    /// The score of each chart that steps (scaled, length k) alone can reach: what no alert may come
    /// from. 0 where no steps are known.
    pub fn step_scores(&self, steps: &[f64]) -> Vec<f64> {
        let charts = self.charts.iter();
        charts.map(|(_, chart)| chart.step_score(steps)).collect()
    }

    /// The kind of a chart.
    pub fn kind(&self, chart: usize) -> Option<ChartKind> {
        self.charts.get(chart).map(|(kind, _)| *kind)
    }

    /// Whether a chart measures a level, which a new normal moves; the one score of an image is no
    /// chart's, and does.
    pub fn has_level(&self, chart: usize) -> bool {
        self.kind(chart).is_none_or(measures_level)
    }

    /// Takes the present smoothed deviations for the new baselines. What came before says nothing of
    /// the next records.
    pub fn rebase(&self, state: &mut ChartsState) {
        state.interrupt(u64::MAX);
        state.before = None;
        let mut level: Option<ChartState> = None;
        for ((kind, _), state) in self.charts.iter().zip(&mut state.now.charts) {
            match (kind, &level) {
                // Its baseline is what is left at the new level.
                (ChartKind::Variance, _) => *state = ChartState::default(),
                // One record is no level: it is where the smoothed records are.
                (ChartKind::T2, Some(level)) => state.clone_from(level),
                _ => state.rebase(),
            }
            level.get_or_insert_with(|| state.clone());
        }
    }
}

/// Whether a kind measures from a baseline that a level shift moves.
fn measures_level(kind: ChartKind) -> bool {
    kind != ChartKind::Variance
}

impl ChartsState {
    /// So many records are missing before the next one.
    pub fn interrupt(&mut self, missing: u64) {
        self.now.memory.interrupt(missing);
        if let Some(before) = &mut self.before {
            before.memory.interrupt(missing);
        }
    }

    /// Forgets the alert: the series is where it was long before.
    pub fn resume(&mut self) {
        if let Some(before) = self.before.take() {
            self.now = *before;
        }
    }

    /// What is remembered for a bundle with another scaler, each field by its factor and shift. Only
    /// with `deviations` those from the baselines stay.
    pub fn rescaled(&self, by: &[(f64, f64)], deviations: bool) -> Self {
        let factors: Vec<f64> = by.iter().map(|(factor, _)| *factor).collect();
        let view = |view: &View| View {
            memory: view.memory.rescaled(by),
            charts: match deviations {
                true => view.charts.iter().map(|c| c.rescaled(&factors)).collect(),
                false => Vec::new(),
            },
        };
        Self {
            now: view(&self.now),
            before: self
                .before
                .as_ref()
                .filter(|_| deviations)
                .map(|b| Box::new(view(b))),
            unrest: None,
        }
    }
}

/// What is charted of normal data: vectors of each kind, and how they are cut.
pub struct NormalRows<'a> {
    /// The readings of each record, row-major, n x k, scaled.
    pub readings: &'a [f32],
    /// What the charts of readings look at, of the same shape.
    pub residuals: &'a [f32],
    /// Fields.
    pub k: usize,
    /// The records of each series.
    pub segments: &'a [Range<usize>],
    /// Records that are missing between them.
    pub gaps: &'a [CalibrationGap],
    /// The parts of each series that a regression is fitted without.
    pub folds: &'a [Vec<Range<usize>>],
    /// The least standard deviation of each field; see [`super::resolution`].
    pub least: &'a [f64],
    /// Where the machine rests.
    pub rest: &'a Rest,
    /// Seed of a denoiser; `None`: none is tried.
    pub denoiser: Option<u64>,
}

/// The charts of normal data.
pub struct Calibrated {
    /// Each chart.
    pub charts: Vec<ChartCalibration>,
    /// Coefficients of the innovation; empty where there is none.
    pub innovation: Vec<f32>,
    /// Coefficients of the regression-adjusted variables; empty where there are none.
    pub adjusted: Vec<f32>,
    /// The denoiser that is charted.
    pub denoiser: Option<Denoiser>,
    /// How far it is ahead of a linear one; see [`denoise`].
    pub denoising_ratio: Option<f64>,
    /// Mean squared difference of successive records of each field.
    pub differences: Vec<f64>,
}

impl NormalRows<'_> {
    /// Fits the charts to the records that are not wild.
    ///
    /// # Errors
    /// A covariance that is singular, which shrinkage and penalty make impossible for finite records,
    /// or a failure inside libtorch.
    pub fn calibrate(&self, settings: &ScoreSettings) -> Result<Calibrated, ScoreError> {
        let k = self.k;
        let tame = Tame::of(self.readings, k, self.segments, self.gaps, self.folds);
        NormalRows {
            readings: &tame.take(self.readings, k),
            residuals: &tame.take(self.residuals, k),
            k,
            segments: &tame.segments,
            gaps: &tame.gaps,
            folds: &tame.folds,
            least: self.least,
            rest: self.rest,
            denoiser: self.denoiser,
        }
        .calibrate_tame(settings)
    }

    fn calibrate_tame(&self, settings: &ScoreSettings) -> Result<Calibrated, ScoreError> {
        let (k, segments, gaps) = (self.k, self.segments, self.gaps);
        let least = self.least;
        let of =
            |kind, vectors: &[f32]| calibrate(kind, settings, vectors, k, segments, gaps, least);
        let mut charts = vec![of(ChartKind::Mewma, self.residuals)?];
        let mut found = Regressions::default();
        let (mut denoised, mut denoising_ratio) = (None, None);
        // A window of errors has no past that would say anything of it.
        if settings.scope == ResidualScope::Record {
            charts.push(of(ChartKind::T2, self.residuals)?);
            if k <= FIELDS_MAX {
                let gaps = self.rest.with_gaps(self.readings, k, gaps);
                found = fit(self.readings, k, segments, &gaps, self.folds)?;
                if found.adjusted.is_some() {
                    let (rows, segments) = (&found.adjusteds, &found.adjusted_segments);
                    let adjusted = ChartKind::Adjusted;
                    charts.push(calibrate(
                        adjusted,
                        settings,
                        rows,
                        k,
                        segments,
                        &[],
                        least,
                    )?);
                }
                charts.push(of(ChartKind::Variance, &found.innovations)?);
                if let Some(seed) = self.denoiser {
                    let rows = Rows::new(self.readings, k, segments, &gaps, self.folds);
                    (denoised, denoising_ratio) = denoise(&rows, seed)?;
                }
                if let Some(of) = &denoised {
                    let (kind, rows) = (ChartKind::Autoencoder, &of.residuals);
                    charts.push(calibrate(
                        kind,
                        settings,
                        rows,
                        k,
                        &of.segments,
                        &[],
                        least,
                    )?);
                }
            }
        }
        Ok(Calibrated {
            charts,
            innovation: found.innovation.0,
            adjusted: found.adjusted.unwrap_or_default().0,
            denoiser: denoised.map(|of| of.denoiser),
            denoising_ratio,
            differences: self.differences(),
        })
    }

    fn differences(&self) -> Vec<f64> {
        let k = self.k;
        let pairs = || {
            let rows = self.segments.iter();
            rows.flat_map(|segment| segment.start + 1..segment.end.max(segment.start + 1))
        };
        let count = pairs().count().max(1) as f64;
        let mut mean = vec![0.0; k];
        for row in pairs() {
            let (before, z) = self.readings[(row - 1) * k..(row + 1) * k].split_at(k);
            for (mean, (z, before)) in mean.iter_mut().zip(z.iter().zip(before)) {
                *mean += f64::from(z - before).powi(2).min(DIFFERENCE_MAX) / count;
            }
        }
        mean
    }
}
