//! One series of readings, record by record: what it learns from its first ones, and what comes of
//! the others.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::pipeline::Pipeline;
use outlierd::pipeline::series::SeriesTable;
use outlierd::record::alert::{Alert, AlertEvent, AlertKind};
use outlierd::record::{Batch, EventTime, Record, RecordVerdict};
use outlierd::retrain::learn::learn;
use outlierd::retrain::set::{TrainingRow, TrainingSet};

/// What came of a stream that learned from its first records.
pub struct Outcome {
    pub alerts: Vec<Alert>,
    pub verdicts: Vec<RecordVerdict>,
}

impl Outcome {
    pub fn opened(&self, kind: AlertKind) -> Vec<&Alert> {
        let is_one = |alert: &&Alert| alert.kind == kind && alert.event == AlertEvent::Open;
        self.alerts.iter().filter(is_one).collect()
    }

    pub fn closed(&self, kind: AlertKind) -> Vec<&Alert> {
        let is_one = |alert: &&Alert| alert.kind == kind && alert.event == AlertEvent::Close;
        self.alerts.iter().filter(is_one).collect()
    }
}

/// The record that an alert's event is of.
pub fn row_of(alert: &Alert) -> usize {
    alert.position.offset as usize
}

/// Learns from the first records of a series as a daemon would, faulty ones left out, and runs the
/// others, one at a time, `every` so many seconds.
pub fn run<const K: usize>(
    stream: &Arc<StreamSettings>,
    rows: &[[f64; K]],
    learned: usize,
    every: i64,
) -> Outcome {
    let mut alerts = Vec::new();
    let mut verdicts = Vec::new();
    let mut table = SeriesTable::new(10);
    let mut pipeline = Pipeline::new(stream.clone(), None).unwrap();
    let mut training = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        if number == learned {
            let set = TrainingSet::new(std::mem::take(&mut training));
            let bundle = learn(stream, &set, None, &mut |_| ControlFlow::Continue(())).unwrap();
            pipeline.swap(Some(bundle)).unwrap();
        }
        let time = EventTime(number as i64 * every * 1_000_000);
        let record = Record {
            message: 0,
            partition: 0,
            offset: number as i64,
            part: None,
            series: Cow::Borrowed("m"),
            time,
            second_time: None,
            arrival: Some(time),
        };
        let batch = Batch {
            records: vec![record],
            values: row.to_vec(),
            ..Batch::default()
        };
        let done = pipeline
            .run_decoded(batch, &mut table, &mut |_, _| Ok(None))
            .unwrap();
        training.extend(done.training_rows().map(|(_, row): (_, TrainingRow)| row));
        verdicts.extend(done.outcomes.iter().map(|outcome| outcome.verdict));
        alerts.extend(done.alerts);
    }
    Outcome { alerts, verdicts }
}
