//! Time ranges that operators have excluded from training.

use crate::events::published::EventQueue;
use crate::events::retrain::TrainedOnExcludedRange;
use crate::model::manifest::{Manifest, Segment};
use crate::model::registry::{Registry, RegistryError, learned_from};
use crate::record::EventTime;
use crate::record::feedback::Feedback;
use crate::retrain::set::RecordRun;

/// The excluded ranges of a stream, as the registry keeps them.
pub(super) struct ExcludedTraffic {
    ranges: Vec<Segment>,
}

impl ExcludedTraffic {
    pub(super) fn read(registry: &Registry, stream: &str) -> Result<Self, RegistryError> {
        let ranges = registry.excluded_ranges(stream)?.read()?;
        Ok(Self { ranges })
    }

    /// The parts of a run that are not excluded.
    pub(super) fn without(&self, run: RecordRun) -> Vec<RecordRun> {
        if self.ranges.is_empty() {
            return vec![run];
        }
        let series = run.series.clone();
        run.split(|time| !self.ranges.iter().any(|range| range.holds(&series, time)))
    }

    /// Excludes the time range of some feedback. Returns what was done, for the operator, and
    /// reports whether the live bundle was trained on it.
    pub(super) fn add(
        &mut self,
        registry: &Registry,
        stream: &str,
        feedback: &Feedback,
        events: &EventQueue,
    ) -> Result<&'static str, RegistryError> {
        registry.excluded_ranges(stream)?.add(&Segment {
            series: feedback.series.clone(),
            from: EventTime(feedback.from.as_microsecond()),
            until: EventTime(feedback.until.as_microsecond()),
        })?;
        *self = Self::read(registry, stream)?;
        let live = registry.load_current(stream)?;
        Ok(
            match live.is_some_and(|bundle| self.report(stream, &bundle.manifest, events)) {
                true => {
                    "excluded from training; the live bundle was trained on it: train another one with `outlierd model challenge`"
                }
                false => "excluded from training",
            },
        )
    }

    /// Whether a bundle was trained on an excluded range; logs and publishes it.
    pub(super) fn report(&self, stream: &str, manifest: &Manifest, events: &EventQueue) -> bool {
        let ranges = learned_from(manifest, &self.ranges).count();
        TrainedOnExcludedRange {
            stream,
            bundle: &manifest.id,
            ranges,
        }
        .emit(events);
        ranges > 0
    }
}
