//! What a model and its charts get of training records: of counters their increments, and of a stream
//! with time features the readings less their season.

use super::folds::Folds;
use crate::config::settings::StreamSettings;
use crate::events::retrain::FewCycles;
use crate::gate::{self, Counter, NormalRange};
use crate::model::calibration::FieldNormal;
use crate::model::context::{ClockTime, TimeContext};
use crate::model::seasons::SeasonRows;
use crate::retrain::set::TrainingSet;

/// Whole days or weeks below which a seasonal baseline hardly knows what returns.
const CYCLES_MIN: f64 = 3.0;

/// Subtracts from the newest reading of each window (row-major, n x fields, scaled units) the
/// seasonal baseline of the folds that it is not in, and returns that of all.
pub(super) fn take_seasons(
    stream: &StreamSettings,
    set: &TrainingSet,
    folds: &Folds,
    readings: &mut [f32],
) -> Vec<f32> {
    let clock = TimeContext::new(&stream.model);
    let k = stream.record.fields.len();
    let Some(cycles) = clock.cycles(&set.times) else {
        return Vec::new();
    };
    if cycles < CYCLES_MIN {
        let stream = stream.name.as_str();
        FewCycles { stream, cycles }.emit();
    }
    let starts = folds.windows.starts.iter();
    let times: Vec<ClockTime> = starts
        .map(|start| clock.at(set.times[start + stream.window - 1]))
        .collect();
    let mut series = vec![0; times.len()];
    for (number, segment) in folds.windows.segments.iter().enumerate() {
        series[segment.clone()].fill(number);
    }
    let whole = readings.to_vec();
    let rows = SeasonRows {
        rows: &whole,
        times: &times,
        series: &series,
        k,
    };
    for ranges in &folds.of {
        let mut inside = vec![false; times.len()];
        ranges
            .iter()
            .for_each(|range| inside[range.clone()].fill(true));
        let baseline = rows.fit(&clock, |row| !inside[row]);
        for row in (0..times.len()).filter(|&row| inside[row]) {
            let slot = times[row].slot;
            let levels = &baseline[slot * k..(slot + 1) * k];
            let own = readings[row * k..(row + 1) * k].iter_mut();
            own.zip(levels).for_each(|(z, level)| *z -= level);
        }
    }
    rows.fit(&clock, |_| true)
}

pub(super) fn field_normal(n: &NormalRange) -> FieldNormal {
    FieldNormal {
        movement: n.movement,
        longest_run: n.longest_run,
        rest: n.rest,
        moving_run: n.moving_run,
        mean_run: n.mean_run,
        range: n.range,
        step: n.step,
        counter_resets: n.counter.map(|counter| counter.resets),
    }
}

/// How the fields of a stream behave in a set of normal records.
pub fn normals(stream: &StreamSettings, set: &TrainingSet) -> Vec<NormalRange> {
    let fields = &stream.record.fields;
    let mut normals = gate::normals(&set.rows, fields.len(), &set.runs);
    for (normal, field) in normals.iter_mut().zip(fields) {
        match field.counter {
            Some(false) => normal.counter = None,
            Some(true) => normal.counter = normal.counter.or(Some(Counter { resets: true })),
            None => {}
        }
    }
    normals
}

/// The records with what their counters rise by, which is what a model gets of them.
pub fn counted(set: &TrainingSet, counters: impl Iterator<Item = Option<Counter>>) -> TrainingSet {
    let counters: Vec<Option<Counter>> = counters.collect();
    let mut set = set.clone();
    if counters.iter().any(Option::is_some) {
        let times: Vec<i64> = set.times.iter().map(|time| time.0).collect();
        let period = set.period_micros();
        set.rows = gate::increments(&set.rows, &counters, &set.runs, &times, period);
    }
    set
}
