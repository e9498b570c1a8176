//! A trial: a bundle scores given rows in the daemon's own pipeline, and nothing of it is
//! published.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::settings::StreamSettings;
use crate::model::bundle::Bundle;
use crate::pipeline::series::{SeriesState, SeriesTable};
use crate::pipeline::{Pipeline, PipelineError};
use crate::record::alert::AlertEvent;
use crate::record::{Batch, EventTime, Record};

/// Records of one batch.
const BATCH_ROWS: usize = 4_096;

/// The rows of one series in the order of time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Sequence {
    /// Event times, increasing.
    pub times: Vec<EventTime>,
    /// Readings, row-major, n x fields.
    pub values: Vec<f64>,
}

/// The result of a trial of some sequences.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TrialResult {
    /// For each sequence the rows that opened an alert, of either kind.
    pub opened: Vec<Vec<usize>>,
    /// For each sequence the rows that closed one.
    pub closed: Vec<Vec<usize>>,
    /// Alerts that the budget allows for the scored records.
    pub budgeted: f64,
}

impl TrialResult {
    /// Whether an alert of a sequence is open at a row, or opens behind it.
    pub fn is_alerting_from(&self, sequence: usize, row: usize) -> bool {
        let before = |rows: &[Vec<usize>]| rows[sequence].iter().filter(|at| **at < row).count();
        before(&self.opened) > before(&self.closed)
            || self.opened[sequence].iter().any(|at| *at >= row)
    }
}

/// A bundle on trial.
pub struct Trial {
    pipeline: Pipeline,
    fields: usize,
}

impl Trial {
    /// Puts a bundle on trial with the stream's settings, but without mutes and without forgetting.
    ///
    /// # Errors
    /// A bundle that does not fit the stream or cannot score.
    pub fn new(stream: &StreamSettings, bundle: Bundle) -> Result<Self, PipelineError> {
        let mut stream = stream.clone();
        stream.mutes.clear();
        stream.retention.forget_after = Duration::ZERO;
        stream.silence.after = 0.0;
        // Its rows have been resampled already.
        stream.resample.period = Duration::ZERO;
        stream.record.max_series = usize::MAX;
        let fields = stream.record.fields.len();
        Ok(Self {
            pipeline: Pipeline::new(Arc::new(stream), Some(bundle))?,
            fields,
        })
    }

    /// Scores sequences, each as its own series; all start in the state `start`, or as new series.
    ///
    /// # Errors
    /// Where the forward pass fails.
    pub fn run(
        &mut self,
        sequences: &[Sequence],
        start: Option<&SeriesState>,
    ) -> Result<TrialResult, PipelineError> {
        let mut tried = TrialResult {
            opened: vec![Vec::new(); sequences.len()],
            closed: vec![Vec::new(); sequences.len()],
            budgeted: 0.0,
        };
        let mut table = SeriesTable::new(usize::MAX);
        let mut batch = Batch::default();
        for (number, sequence) in sequences.iter().enumerate() {
            for (row, (&time, values)) in sequence
                .times
                .iter()
                .zip(sequence.values.chunks_exact(self.fields))
                .enumerate()
            {
                let partition = number as i32;
                let offset = row as i64;
                let message = batch.records.len();
                batch.records.push(Record {
                    message,
                    partition,
                    offset,
                    part: None,
                    series: Cow::Borrowed("trial"),
                    time,
                    second_time: None,
                    arrival: None,
                });
                batch.values.extend_from_slice(values);
                if batch.records.len() >= BATCH_ROWS {
                    self.judge(std::mem::take(&mut batch), start, &mut table, &mut tried)?;
                }
            }
        }
        self.judge(batch, start, &mut table, &mut tried)?;
        Ok(tried)
    }

    fn judge(
        &mut self,
        batch: Batch<'_>,
        start: Option<&SeriesState>,
        table: &mut SeriesTable,
        tried: &mut TrialResult,
    ) -> Result<(), PipelineError> {
        let done = self
            .pipeline
            .run_decoded(batch, table, &mut |_, _| Ok(start.cloned()))?;
        tried.budgeted += done.counts.budgeted;
        for alert in done.alerts.iter().filter(|alert| alert.kind.is_alarm()) {
            let rows = match alert.event {
                AlertEvent::Open => &mut tried.opened,
                AlertEvent::Close => &mut tried.closed,
                AlertEvent::Update => continue,
            };
            if let Some(rows) = rows.get_mut(alert.position.partition as usize) {
                rows.push(alert.position.offset as usize);
            }
        }
        // Slots of earlier sequences are not needed any more, but a table only evicts what was
        // committed.
        drop(table.take_dirty());
        drop(table.take_unstored());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use rand::{Rng as _, SeedableRng as _};

    use super::*;
    use crate::model::ModelKind;
    use crate::record::TrainingRow;
    use crate::retrain::learn::learn;
    use crate::retrain::set::TrainingSet;
    use crate::test_stream::three_fields;

    /// Three readings a minute of a heater that is on or off; from minute `fault` on it gives a tenth
    /// less when on.
    fn heater(count: usize, fault: usize) -> Vec<TrainingRow> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let (mut on, mut left) = (false, 0);
        let row = |minute: usize| {
            if left == 0 {
                (on, left) = (!on, rng.random_range(30..150));
            }
            left -= 1;
            let level = match (on, minute >= fault) {
                (true, false) => 80.0,
                (true, true) => 72.0,
                (false, _) => 20.0,
            };
            let noise = if on { 3.0 } else { 0.8 };
            TrainingRow {
                series: "a".to_owned(),
                time: EventTime(minute as i64 * 60_000_000),
                values: (0..3)
                    .map(|_| level + rng.random_range(-noise..noise))
                    .collect(),
                image: None,
            }
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn an_autoencoder_with_memory_finds_a_state_between_the_modes_of_a_machine() {
        const LEARNED: usize = 2_000;
        const FAULT: usize = 3_000;
        let rows = heater(FAULT + 400, FAULT);
        let set = TrainingSet::new(rows[..LEARNED].iter().cloned());
        let sequence = Sequence {
            times: rows[LEARNED..].iter().map(|row| row.time).collect(),
            values: rows[LEARNED..]
                .iter()
                .flat_map(|row| row.values.clone())
                .collect(),
        };
        let opened = |kind| {
            let stream = three_fields().with_kind(kind);
            let bundle = learn(&stream, &set, None, &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(bundle.denoiser.is_some(), kind == ModelKind::Dense);
            let mut trial = Trial::new(&stream, bundle).unwrap();
            let tried = trial.run(std::slice::from_ref(&sequence), None).unwrap();
            let fault = FAULT - LEARNED;
            let (before, after): (Vec<usize>, Vec<usize>) =
                tried.opened[0].iter().partition(|row| **row < fault);
            (before.len(), after.len())
        };
        let (before, after) = opened(ModelKind::Dense);
        assert!(before <= 1 && after >= 1, "{before} {after}");
        let (_, after) = opened(ModelKind::None);
        assert_eq!(after, 0, "without the autoencoder");
    }
}
