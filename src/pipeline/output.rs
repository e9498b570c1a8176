//! The results of a batch, for the lane to publish, to commit and to learn from.

use std::sync::Arc;

use crate::episode::EpisodeOutput;
use crate::events::BatchMetrics;
use crate::record::alert::Alert;
use crate::record::row::{GatedRow, Judgement, ScoredRow, ThresholdCorrection, WindowStatus};
use crate::record::{
    Batch, FaultKind, Record, RecordOutcome, RecordVerdict, Rejected, TrainingRow,
};

use super::detector::Explanation;
use super::intake::Refusal;
use super::series::LoadError;

/// The results of a batch of messages.
#[derive(Default)]
pub struct BatchOutput {
    /// One for each record that was not rejected, in their order.
    pub outcomes: Vec<RecordOutcome>,
    /// Their readings, row-major, outcomes x fields: the record's, or those of the row which it
    /// completed where the stream is resampled.
    pub values: Vec<f64>,
    /// To be published, in the order of the records.
    pub alerts: Vec<Alert>,
    /// To be published as dead letters, in the order of the messages.
    pub rejected: Vec<Rejected>,
    /// Heat maps of alerts, each with its alert's id and as a PNG file; only where the stream
    /// publishes them.
    pub heat_maps: Vec<(String, Vec<u8>)>,
    /// Series whose thresholds were corrected, for the events.
    pub corrections: Vec<(Arc<str>, ThresholdCorrection)>,
    /// Sensors whose calibration is doubted: series and field, for the events.
    pub doubted: Vec<(Arc<str>, usize)>,
    /// Whether the stream had no bundle: its records are training rows.
    pub untrained: bool,
    /// For the metrics.
    pub counts: BatchMetrics,
}

impl BatchOutput {
    /// Training rows, each with the outcome of its record; none where a bundle scored.
    pub fn training_rows(&self) -> impl Iterator<Item = (&RecordOutcome, TrainingRow)> {
        let learning = |(outcome, _): &(&RecordOutcome, &[f64])| {
            self.untrained && outcome.verdict == RecordVerdict::Learning
        };
        self.readings().filter(learning).map(|(outcome, values)| {
            let row = TrainingRow {
                series: outcome.series.to_string(),
                time: outcome.time,
                values: values.to_vec(),
                image: outcome.image.clone(),
            };
            (outcome, row)
        })
    }

    /// The outcomes, each with the readings of its row.
    pub fn readings(&self) -> impl Iterator<Item = (&RecordOutcome, &[f64])> {
        let fields = self.values.len() / self.outcomes.len().max(1);
        let rows = self.values.chunks_exact(fields.max(1));
        self.outcomes.iter().zip(rows)
    }

    /// The output of a chunk, before its records.
    pub(super) fn new(chunk: &Batch<'_>, untrained: bool) -> Self {
        let mut output = Self {
            outcomes: Vec::with_capacity(chunk.records.len()),
            values: Vec::with_capacity(chunk.values.len()),
            untrained,
            ..Self::default()
        };
        output.counts.records = (chunk.records.len() + chunk.rejected.len()) as u64;
        output.counts.coerced = chunk.coerced;
        output
    }

    /// The row of a record that was admitted; one that the gate rejected is noted.
    ///
    /// # Errors
    /// Where the state of its series cannot be loaded.
    pub(super) fn admitted<'b>(
        &mut self,
        record: &Record<'_>,
        prepared: Result<GatedRow<'b>, Refusal>,
    ) -> Result<Option<GatedRow<'b>>, LoadError> {
        match prepared {
            Ok(row) => Ok(Some(row)),
            Err(Refusal::Load(error)) => Err(error),
            Err(Refusal::Reject(reason, detail)) => {
                let rejected = Rejected::new(record.message, reason, detail);
                let rejected = rejected.of_part(record.part);
                self.rejected.push(rejected);
                Ok(None)
            }
        }
    }

    /// Adds the results of one record.
    pub(super) fn push(
        &mut self,
        series: &Arc<str>,
        row: &GatedRow<'_>,
        scored: &ScoredRow<'_>,
        episode: EpisodeOutput,
        why: Explanation,
    ) {
        let faults = row.faults.iter().map(|fault| fault.kind);
        self.counts.faults.extend(faults);
        self.counts.out_of_order += u64::from(row.out_of_order);
        self.counts.budgeted += scored.budgeted;
        self.counts.count(episode.verdict);
        self.counts.muted += episode.muted;
        self.alerts.extend(episode.alerts);
        self.heat_maps.extend(why.heat_maps);
        let faults = row.faults.iter();
        let doubted = faults.filter(|fault| fault.kind == FaultKind::CalibrationDoubtful);
        self.doubted
            .extend(doubted.map(|fault| (series.clone(), fault.field)));
        let correction = scored.correction.map(|found| (series.clone(), found));
        self.corrections.extend(correction);
        self.values.extend_from_slice(&row.values);
        let threshold = match scored.judgement {
            Judgement::Scored { threshold, .. } => Some(threshold),
            _ => None,
        };
        self.outcomes.push(RecordOutcome {
            message: row.record.message,
            partition: row.record.partition,
            offset: row.record.offset,
            part: row.record.part,
            series: series.clone(),
            time: row.time,
            verdict: episode.verdict,
            scored: scored.scored.clone(),
            threshold,
            alerting: episode.alerting,
            spans_gap: row.window.spans_gap(),
            resampling: row.window == WindowStatus::Resampling,
            top_field: why.top_field,
            image: row.image.map(|image| image.file.clone()),
        });
    }

    /// Adds the messages that could not be decoded to those that the gate rejected, in the order of
    /// the messages.
    pub(super) fn with_rejected(mut self, undecoded: Vec<Rejected>) -> Self {
        self.rejected.extend(undecoded);
        self.rejected
            .sort_by_key(|rejected| (rejected.message, rejected.part));
        let reasons = self.rejected.iter().map(|rejected| rejected.reason);
        self.counts.rejected = reasons.collect();
        self
    }

    /// Adds the output of the next chunk of the same messages.
    pub(super) fn append(&mut self, mut next: Self) {
        if self.counts.records == 0 {
            *self = next;
            return;
        }
        self.outcomes.append(&mut next.outcomes);
        self.values.append(&mut next.values);
        self.alerts.append(&mut next.alerts);
        self.rejected.append(&mut next.rejected);
        self.heat_maps.append(&mut next.heat_maps);
        self.corrections.append(&mut next.corrections);
        self.doubted.append(&mut next.doubted);
        self.untrained = next.untrained;
        self.counts.append(next.counts);
    }
}
