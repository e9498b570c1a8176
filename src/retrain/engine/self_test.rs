//! The self-test of the live series, and what it means for the stream.

use super::notes::EngineNotes;
use crate::config::settings::StreamSettings;
use crate::events::published::EventQueue;
use crate::events::retrain::{DetectorHealthChanged, MinDetectableShift};
use crate::model::registry::Registry;
use crate::pipeline::series::SeriesState;
use crate::promotion::PromotionVerdict;
use crate::record::EventTime;
use crate::retrain::buffer::Buffer;
use crate::retrain::error::RetrainError;
use crate::retrain::proof::spread;
use crate::retrain::schedule::RetrainSchedule;
use crate::retrain::self_test::{SelfTest, TestedSeries};
use crate::retrain::set::{RecordRun, TrainingSet};
use crate::retrain::trial::Trial;

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

/// What the self-test of a stream reads.
pub(super) struct SelfTestInput<'e> {
    pub(super) stream: &'e StreamSettings,
    pub(super) registry: &'e Registry,
    pub(super) buffer: &'e Buffer,
    pub(super) notes: &'e EngineNotes,
}

/// Tests the live series in turn, and keeps what was found.
#[derive(Default)]
pub(super) struct SelfTestRound {
    /// Faults that live series would detect at present.
    detectable: SelfTest,
    /// What that means for the stream.
    sight: Option<Sight>,
    /// The number of the series that is tested next.
    next: usize,
}

impl SelfTestRound {
    pub(super) fn detectable(&self) -> &SelfTest {
        &self.detectable
    }

    pub(super) fn sight(&self) -> Option<&Sight> {
        self.sight.as_ref()
    }

    /// Tests some series with the bundle `live`.
    pub(super) fn test_series(
        &mut self,
        input: &SelfTestInput<'_>,
        live: &str,
        now: EventTime,
    ) -> Result<(), RetrainError> {
        self.detectable.follow(live);
        let fields = input.stream.record.fields.len();
        let mut names: Vec<&str> = input.buffer.runs().map(|run| run.series.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(());
        }
        let from = self.next % names.len();
        let chosen: Vec<&str> = names[from..]
            .iter()
            .chain(&names[..from])
            .take(SERIES)
            .copied()
            .collect();
        self.next = from + chosen.len();
        let bundle = input.registry.load(&input.stream.name, live)?;
        let period = bundle.calibration.period_micros;
        let mut unit = spread(&TrainingSet::of_runs(input.buffer.runs()), fields);
        let settings = unit.iter_mut().zip(&input.stream.record.fields);
        let states = settings.filter(|(_, field)| field.states.is_some());
        states.for_each(|(unit, _)| *unit = f64::NAN);
        let mut trial = Trial::new(input.stream, bundle)?;
        for series in chosen {
            let Some((state, values)) = input.live_series(series, fields, now)? else {
                continue;
            };
            let subject = TestedSeries {
                state: &state,
                values: &values,
                period,
                unit: &unit,
            };
            if let Some(smallest) = subject.test(&mut trial)? {
                self.detectable.add(series, smallest);
            }
        }
        Ok(())
    }

    /// Compares what was found with what the bundle has proved to catch, and publishes where the
    /// detector becomes degraded or has recovered. Returns whether that changed the schedule.
    pub(super) fn conclude(
        &mut self,
        stream: &StreamSettings,
        live: &str,
        verdict: Option<&PromotionVerdict>,
        schedule: &mut RetrainSchedule,
        now: EventTime,
        events: &EventQueue,
    ) -> bool {
        let fields = &stream.record.fields;
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        for (index, field) in names.iter().enumerate() {
            if let Some(size) = self.detectable.detectable(index) {
                MinDetectableShift {
                    stream: &stream.name,
                    field,
                    size,
                }
                .emit();
            }
        }
        let was = schedule.degraded_since;
        let Some(is_degraded) = self.detectable.is_degraded(&names, verdict, was.is_some()) else {
            return false;
        };
        let tested = self.detectable.tested();
        self.sight = Some(Sight {
            degraded: is_degraded,
            since: was.filter(|_| is_degraded).unwrap_or(now),
            tested,
            bundle: live.to_owned(),
        });
        if is_degraded == was.is_some() {
            return false;
        }
        DetectorHealthChanged {
            stream: &stream.name,
            degraded: is_degraded,
            tested,
        }
        .emit(events);
        schedule.degraded_since = is_degraded.then_some(now);
        true
    }
}

impl SelfTestInput<'_> {
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
        let Some(state) = self.notes.state(partition, series)? else {
            return Ok(None);
        };
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
        let tells = !stale && !state.episode.is_alarming() && values.len() >= ROWS_MIN * fields;
        Ok(tells.then_some((state, values)))
    }
}
