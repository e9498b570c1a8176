//! What a lane takes from the output of its pipeline for the retraining: normal traffic, what a
//! bundle on probation is measured by, and how thresholds follow the alert budget.

use std::sync::Arc;

use crate::config::settings::StreamSettings;
use crate::events::lane::{CalibrationDoubted, ThresholdsCorrected};
use crate::events::published::EventQueue;
use crate::pipeline::series::tag;
use crate::pipeline::{BatchOutput, Pipeline};
use crate::record::alert::{Alert, AlertEvent, AlertKind};
use crate::retrain::buffer::Admission;
use crate::retrain::collect::{Collector, ScoredRecord};
use crate::retrain::set::RecordRun;

/// See the module. One for each lane.
pub struct Sampler {
    stream: Arc<StreamSettings>,
    admission: Arc<Admission>,
    event_queue: EventQueue,
    /// The collector of the live bundle's records, and the tag of that bundle.
    collector: Option<(u64, Collector)>,
}

impl Sampler {
    /// Samples the records of a stream as far as the `admission` lets them in; events
    /// go to the queue.
    pub fn new(
        stream: Arc<StreamSettings>,
        admission: Arc<Admission>,
        event_queue: EventQueue,
    ) -> Self {
        Self {
            stream,
            admission,
            event_queue,
            collector: None,
        }
    }

    /// Samples the output of a batch; `pipeline` is the one that ran it.
    pub fn take(&mut self, pipeline: &Pipeline, done: &BatchOutput) {
        ThresholdsCorrected {
            stream: &self.stream.name,
            corrections: &done.corrections,
        }
        .emit(&self.event_queue);
        for (series, field) in &done.doubted {
            let fields = &self.stream.record.fields;
            CalibrationDoubted {
                stream: &self.stream.name,
                series,
                field: fields.get(*field).map_or("", |field| &field.name),
            }
            .emit();
        }
        let Some(bundle) = pipeline
            .detector
            .bundle()
            .filter(|_| self.stream.image.is_none())
        else {
            return;
        };
        let opened =
            |alert: &&Alert| alert.event == AlertEvent::Open && alert.kind == AlertKind::Anomaly;
        self.admission.count(
            done.alerts.iter().filter(opened).count() as u64,
            done.counts.budgeted,
        );
        if let Some(newest) = done.outcomes.iter().map(|outcome| outcome.time).max() {
            self.admission.observe(newest);
        }
        let tag = tag(bundle.id());
        if self.collector.as_ref().is_none_or(|(of, _)| *of != tag) {
            let stream = &self.stream;
            let period = bundle.calibration.period_micros;
            let admission = self.admission.clone();
            let collector = Collector::new(&stream.retrain, admission, stream.window, period);
            self.collector = Some((tag, collector));
        }
        let Some((_, collector)) = &mut self.collector else {
            return;
        };
        for (outcome, values) in done.readings().filter(|(outcome, _)| !outcome.resampling) {
            let muted = pipeline.episodes.is_muted(&outcome.series, outcome.time);
            let record = ScoredRecord {
                values,
                outcome,
                muted,
            };
            collector.offer(&record, tag);
        }
    }

    /// The normal traffic that was collected since the last call.
    pub fn take_runs(&mut self) -> Vec<RecordRun> {
        self.collector
            .as_mut()
            .map_or(Vec::new(), |(_, collector)| collector.take())
    }

    /// A partition leaves: what was being collected of its series is dropped.
    pub fn drop_partition(&mut self, partition: i32) {
        if let Some((_, collector)) = &mut self.collector {
            collector.drop_partition(partition);
        }
    }
}
