//! What a model and its charts get of training records: of counters their increments, of records that
//! name a state the readings less what it adds to them, and of a stream with time features the readings
//! less their season.

use super::folds::Folds;
use crate::config::settings::StreamSettings;
use crate::events::retrain::FewCycles;
use crate::gate::{self, Counter, NormalRange};
use crate::model::calibration::{Calibration, FieldNormal};
use crate::model::context::{ClockTime, TimeContext};
use crate::model::seasons::SeasonRows;
use crate::model::states::StateBaseline;
use crate::record::format::{ReadAs, States};
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
        match field.read_as.map(ReadAs::is_counter) {
            // A state has no step either.
            _ if field.states.is_some() => (normal.step, normal.counter) = (None, None),
            Some(false) => normal.counter = None,
            // That it falls is no fault, whether training saw it or not.
            Some(true) => normal.counter = Some(Counter { resets: true }),
            None => {}
        }
    }
    normals
}

/// The records as a new model gets them, and what their states add to them.
pub fn inputs(
    stream: &StreamSettings,
    set: &TrainingSet,
    normals: &[NormalRange],
) -> (TrainingSet, Option<StateBaseline>) {
    let counters = normals.iter().map(|normal| normal.counter);
    let mut set = counted(stream, set, counters);
    let fields = stream.record.fields.iter();
    let counts: Vec<usize> = fields
        .map(|field| field.states.as_ref().map_or(0, States::count))
        .collect();
    let states = StateBaseline::fit(&set.rows, &counts, &set.segments);
    settle(&mut set, states.as_ref());
    (set, states)
}

/// The records as the model of a bundle gets them.
pub fn inputs_of(stream: &StreamSettings, set: &TrainingSet, of: &Calibration) -> TrainingSet {
    let fields = of.fields.iter();
    let counters = fields.map(|field| field.counter_resets.map(|resets| Counter { resets }));
    let mut set = counted(stream, set, counters);
    settle(&mut set, of.states.as_ref());
    set
}

fn settle(set: &mut TrainingSet, states: Option<&StateBaseline>) {
    if let Some(states) = states {
        let k = states.fields();
        (set.rows.chunks_exact_mut(k)).for_each(|row| states.settle(row));
    }
}

/// The records with what their counters rise by, in place of what they show.
fn counted(
    stream: &StreamSettings,
    set: &TrainingSet,
    counters: impl Iterator<Item = Option<Counter>>,
) -> TrainingSet {
    let mut set = set.clone();
    let period = set.period_micros();
    let fields = stream.record.fields.iter().zip(counters);
    let counters: Vec<Option<i64>> = fields
        .map(|(field, counter)| {
            counter.map(|_| match field.read_as {
                Some(ReadAs::Delta) => 0,
                _ => period,
            })
        })
        .collect();
    if counters.iter().any(Option::is_some) {
        let times: Vec<i64> = set.times.iter().map(|time| time.0).collect();
        set.rows = gate::increments(&set.rows, &counters, &set.runs, &times);
    }
    set
}
