//! The self-test of the live series, and what it means for the stream.

use super::RetrainEngine;
use crate::events::retrain::{DetectorHealthChanged, MinDetectableShift};
use crate::pipeline::series::SeriesState;
use crate::promotion::PromotionVerdict;
use crate::record::EventTime;
use crate::retrain::error::RetrainError;
use crate::retrain::proof::spread;
use crate::retrain::self_test::{SelfTest, TestedSeries};
use crate::retrain::set::{RecordRun, TrainingSet};
use crate::retrain::trial::Trial;
use crate::state::codec;

/// Series that are tested at a time.
const SERIES: usize = 4;
/// Readings that a series is tried with, the latest.
const ROWS: usize = 192;
/// Fewer tell nothing.
const ROWS_MIN: usize = 60;

/// Whether the live series would catch what the bundle has proved to catch, as the last self-test
/// found it.
#[derive(Clone, PartialEq, Debug)]
pub struct Sight {
    /// Whether they would not.
    pub degraded: bool,
    /// Since when it is so; where it is not, the time of the test.
    pub since: EventTime,
    /// Series that were tested.
    pub tested: usize,
    /// The bundle that they are scored by.
    pub bundle: String,
}

impl RetrainEngine {
    /// Tests some live series if due; reports when the detector becomes degraded, or has recovered.
    ///
    /// # Errors
    /// Where store or model folder cannot be read, or the bundle cannot score.
    pub fn run_self_test(&mut self, now: EventTime) -> Result<(), RetrainError> {
        let every = self.stream.retrain.self_test;
        let is_due = self.plan.self_test.is_none_or(|at| now >= at);
        let Some(live) = self
            .live
            .as_ref()
            .map(|live| live.id.clone())
            .filter(|_| is_due && !every.is_zero())
        else {
            return Ok(());
        };
        self.plan.self_test = Some(now.after(every));
        self.keep_plan()?;
        self.self_test.follow(&live);
        self.test_series(&live, now)?;
        let verdict = PromotionVerdict::read(&self.registry, &self.stream.name, &live)?;
        self.announce(&live, verdict.as_ref(), now)
    }

    /// Faults that live series would detect at present.
    pub fn self_test(&self) -> &SelfTest {
        &self.self_test
    }

    /// What the self-test last found; `None` until enough series have been tested since the start.
    /// The lane that owns partition 0 publishes it.
    pub fn sight(&self) -> Option<&Sight> {
        self.sight.as_ref()
    }

    fn test_series(&mut self, live: &str, now: EventTime) -> Result<(), RetrainError> {
        let fields = self.stream.record.fields.len();
        let mut names: Vec<&str> = self.buffer.runs().map(|run| run.series.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(());
        }
        let from = self.next_tested % names.len();
        let chosen: Vec<String> = names[from..]
            .iter()
            .chain(&names[..from])
            .take(SERIES)
            .map(|&name| name.to_owned())
            .collect();
        self.next_tested = from + chosen.len();
        let bundle = self.registry.load(&self.stream.name, live)?;
        let period = bundle.calibration.period_micros;
        let unit = spread(&TrainingSet::of_runs(self.buffer.runs()), fields);
        let mut trial = Trial::new(&self.stream, bundle)?;
        for series in chosen {
            let Some((state, values)) = self.live_series(&series, fields, now)? else {
                continue;
            };
            let subject = TestedSeries {
                state: &state,
                values: &values,
                period,
                unit: &unit,
            };
            if let Some(smallest) = subject.test(&mut trial)? {
                self.self_test.add(&series, smallest);
            }
        }
        Ok(())
    }

    /// The committed state of a series that sends now and has no alert, and its latest normal
    /// readings.
    fn live_series(
        &self,
        series: &str,
        fields: usize,
        now: EventTime,
    ) -> Result<Option<(SeriesState, Vec<f64>)>, RetrainError> {
        let mut runs: Vec<&RecordRun> = self
            .buffer
            .runs()
            .filter(|run| run.series == series && !run.labeled_normal)
            .collect();
        runs.sort_by_key(|run| run.from());
        let Some(partition) = runs.last().map(|run| run.partition) else {
            return Ok(None);
        };
        let Some(bytes) = self.store.state(&self.stream.name, partition, series)? else {
            return Ok(None);
        };
        let state: SeriesState = codec::decode(&bytes)?;
        // The state of one whose partition another instance owns by now does not change here.
        let stale = state
            .gate
            .newest()
            .is_none_or(|newest| newest.after(self.stream.retrain.self_test) < now);
        let mut values: Vec<f64> = runs
            .iter()
            .flat_map(|run| run.values.iter().copied())
            .collect();
        let excess = (values.len() / fields.max(1)).saturating_sub(ROWS) * fields;
        values.drain(..excess);
        let tells = !stale && !state.alerting() && values.len() >= ROWS_MIN * fields;
        Ok(tells.then_some((state, values)))
    }

    fn announce(
        &mut self,
        live: &str,
        verdict: Option<&PromotionVerdict>,
        now: EventTime,
    ) -> Result<(), RetrainError> {
        let stream = &self.stream.name;
        let fields = &self.stream.record.fields;
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        for (index, field) in names.iter().enumerate() {
            if let Some(size) = self.self_test.detectable(index) {
                MinDetectableShift {
                    stream,
                    field,
                    size,
                }
                .emit();
            }
        }
        let was = self.plan.degraded_since;
        let Some(is_degraded) = self.self_test.is_degraded(&names, verdict, was.is_some()) else {
            return Ok(());
        };
        let tested = self.self_test.tested();
        self.sight = Some(Sight {
            degraded: is_degraded,
            since: was.filter(|_| is_degraded).unwrap_or(now),
            tested,
            bundle: live.to_owned(),
        });
        if is_degraded == was.is_some() {
            return Ok(());
        }
        DetectorHealthChanged {
            stream,
            degraded: is_degraded,
            tested,
        }
        .emit(&self.event_queue);
        self.plan.degraded_since = is_degraded.then_some(now);
        self.keep_plan()
    }
}
