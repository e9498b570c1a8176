//! The self-test of the live series, and what it means for the stream.

use super::Engine;
use crate::events::published::Event;
use crate::events::retrain::{DeviationKnown, SightChanged};
use crate::pipeline::series::SeriesState;
use crate::promotion::Verdict;
use crate::record::EventTime;
use crate::retrain::error::RetrainError;
use crate::retrain::proof::spread;
use crate::retrain::self_test::{SelfTest, Subject};
use crate::retrain::set::{Run, TrainingSet};
use crate::retrain::trial::Trial;
use crate::state::codec;

/// Series that are tested at a time.
const SERIES: usize = 4;
/// Readings that a series is tried with, the latest.
const ROWS: usize = 192;
/// Fewer tell nothing.
const ROWS_MIN: usize = 60;

/// Whether the live series would catch what the bundle has proved to catch, as the last self-test found it.
#[derive(Clone, PartialEq, Debug)]
pub struct Sight {
    /// Whether they would not.
    pub blind: bool,
    /// Since when it is so; where it is not, the time of the test.
    pub since: EventTime,
    /// Series that were tested.
    pub tested: usize,
    /// The bundle that they are scored by.
    pub bundle: String,
}

impl Engine {
    /// Tests some live series where it is time to; announces where the stream has gone blind, or sees again.
    ///
    /// # Errors
    /// Where store or model folder cannot be read, or the bundle cannot score.
    pub fn self_test(&mut self, now: EventTime) -> Result<(), RetrainError> {
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
        self.seeing.follow(&live);
        self.test_series(&live, now)?;
        let verdict = Verdict::read(&self.registry, &self.stream.name, &live)?;
        self.announce(&live, verdict.as_ref(), now)
    }

    /// What live series would catch today.
    pub fn seeing(&self) -> &SelfTest {
        &self.seeing
    }

    /// What the self-test last found; `None` until enough series have been tested since the start. The lane that owns
    /// partition 0 publishes it.
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
            let subject = Subject {
                state: &state,
                values: &values,
                period,
                unit: &unit,
            };
            if let Some(smallest) = subject.test(&mut trial)? {
                self.seeing.add(&series, smallest);
            }
        }
        Ok(())
    }

    /// The committed state of a series that sends now and has no alert, and its latest normal readings.
    fn live_series(
        &self,
        series: &str,
        fields: usize,
        now: EventTime,
    ) -> Result<Option<(SeriesState, Vec<f64>)>, RetrainError> {
        let mut runs: Vec<&Run> = self
            .buffer
            .runs()
            .filter(|run| run.series == series && !run.taught)
            .collect();
        runs.sort_by_key(|run| run.from());
        let Some(partition) = runs.last().map(|run| run.partition) else {
            return Ok(None);
        };
        let Some(bytes) = self.store.state(&self.stream.name, partition, series)? else {
            return Ok(None);
        };
        let state: SeriesState = codec::decode(&bytes)?;
        // One whose partition is another machine's by now stands still here.
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
        verdict: Option<&Verdict>,
        now: EventTime,
    ) -> Result<(), RetrainError> {
        let (stream, fields) = (&self.stream.name, &self.stream.record.fields);
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        for (index, field) in names.iter().enumerate() {
            if let Some(size) = self.seeing.detectable(index) {
                DeviationKnown {
                    stream,
                    field,
                    size,
                }
                .emit();
            }
        }
        let was = self.plan.blind_since;
        let Some(is_blind) = self.seeing.is_blind(&names, verdict, was.is_some()) else {
            return Ok(());
        };
        let tested = self.seeing.tested();
        self.sight = Some(Sight {
            blind: is_blind,
            since: was.filter(|_| is_blind).unwrap_or(now),
            tested,
            bundle: live.to_owned(),
        });
        if is_blind == was.is_some() {
            return Ok(());
        }
        SightChanged {
            stream,
            blind: is_blind,
            tested,
        }
        .emit();
        self.outbox.put(
            stream,
            Event::SightChanged {
                blind: is_blind,
                series_tested: tested,
            },
        );
        self.plan.blind_since = is_blind.then_some(now);
        self.keep_plan()
    }
}
