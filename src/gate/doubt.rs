//! Calibration in doubt: a sensor that has been called faulty for very long, and still varies as the
//! others do.
//!
//! Whether a sensor is stuck, flat or at another scale depends on the training records. One that was
//! replaced by another make, or whose machine has another load now, may break such a rule for
//! good, and none of its readings would ever be scored or learned. A fault that has lasted for
//! `gate.doubt_after` is therefore examined: over the second half of that time the spread of its
//! readings, as a part of the normal one, is compared with that of the healthy sensors. A dead
//! sensor does not pass: it has noise at most. One that passes gets a normal range of those
//! readings, which holds until another bundle goes live, and is scored again. Should it disagree with
//! the others after all, the charts report that.

use serde::{Deserialize, Serialize};

use super::field::{FieldRules, FieldState};
use super::normal::NormalRange;
use crate::gate::GateSettings;
use crate::record::format::FieldSettings;
use crate::record::{EventTime, FaultKind, SensorFault};

/// Part of the healthy sensors' spread that a sensor must have.
const VARIES: f64 = 0.25;
/// Readings that are examined at least.
const READINGS_MIN: u32 = 100;
/// Readings beyond it are not examined: their squares would overflow.
const READING_MAX: f64 = 1e150;

/// When faults of a stream under one bundle are doubted.
#[derive(Clone, PartialEq, Debug)]
pub struct DoubtRules {
    /// Microseconds for which a fault must have lasted.
    after: i64,
    gate: GateSettings,
    fields: Vec<FieldSettings>,
    normals: Vec<NormalRange>,
}

/// What is remembered of the lasting faults of one series.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Doubts {
    lasting: Option<Lasting>,
    relearned: Vec<Relearned>,
}

/// A time with faults that may be doubted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Lasting {
    since: EventTime,
    /// Records with such a fault since then, and without one.
    faulty: u32,
    healthy: u32,
    /// The readings of each field in the second half of the time that a fault must last; empty before.
    readings: Vec<Readings>,
}

/// The readings of one field.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Readings {
    count: u32,
    /// Of which its sensor was faulty.
    faulty: u32,
    mean: f64,
    /// Sum of the squared deviations from it (Welford, "Note on a method for calculating corrected
    /// sums of squares and products", Technometrics 4(3), 1962).
    squares: f64,
    /// Sum of the |difference|s of consecutive ones.
    path: f64,
    last: f64,
    run: u32,
    longest_run: u32,
    low: f64,
    high: f64,
}

/// A field whose fault was doubted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Relearned {
    field: usize,
    /// What the bundle knows of it: the relearned range ends with that.
    bundle: NormalRange,
    normal: NormalRange,
}

impl DoubtRules {
    /// `None` where faults are never doubted.
    pub fn new(
        gate: &GateSettings,
        fields: &[FieldSettings],
        normals: &[NormalRange],
    ) -> Option<Self> {
        let after = i64::try_from(gate.doubt_after.as_micros()).unwrap_or(i64::MAX);
        (after > 0).then(|| Self {
            after,
            gate: gate.clone(),
            fields: fields.to_vec(),
            normals: normals.to_vec(),
        })
    }

    /// The rules of a field whose normal range was relearned; `None` for the others.
    pub fn rules_of(&self, doubts: Option<&Doubts>, field: usize) -> Option<FieldRules> {
        let relearned = &doubts?.relearned;
        let found = relearned.iter().find(|found| found.field == field)?;
        let is_of_bundle = self.normals.get(field) == Some(&found.bundle);
        let settings = self.fields.get(field).filter(|_| is_of_bundle)?;
        Some(FieldRules::new(&self.gate, settings, Some(&found.normal)))
    }

    /// Advances by a record with its faults. A fault that is doubted becomes one of the kind
    /// [`FaultKind::CalibrationDoubtful`], and the memory of its field begins again.
    pub fn follow(
        &self,
        doubts: &mut Option<Box<Doubts>>,
        memories: &mut [FieldState],
        time: EventTime,
        values: &[f64],
        faults: &mut [SensorFault],
    ) {
        let is_faulty = faults.iter().any(may_be_doubted);
        if !is_faulty && doubts.is_none() {
            return;
        }
        let found = doubts.get_or_insert_default();
        if !found.last_on(time, is_faulty) {
            if found.relearned.is_empty() {
                *doubts = None;
            }
            return;
        }
        let Some(lasting) = &mut found.lasting else {
            return;
        };
        let lasted = time.micros_since(lasting.since);
        if lasted < self.after / 2 {
            return;
        }
        lasting.examine(values, faults);
        if lasted < self.after || !is_faulty {
            return;
        }
        let usual = self.usual_spread(&lasting.readings);
        let relearned = faults.iter_mut().filter(|fault| may_be_doubted(fault));
        let relearned = relearned.filter_map(|fault| {
            let relearned = self.relearn(lasting, fault, usual)?;
            if let Some(memory) = memories.get_mut(fault.field) {
                memory.relearned();
            }
            fault.kind = FaultKind::CalibrationDoubtful;
            Some(relearned)
        });
        let relearned: Vec<Relearned> = relearned.collect();
        let is_other = |old: &Relearned| relearned.iter().all(|new| new.field != old.field);
        found.relearned.retain(is_other);
        found.relearned.extend(relearned);
        // What does not pass is examined again after the same time.
        found.lasting = None;
    }

    /// The normal range of a field that varies as the others do, from its readings.
    fn relearn(&self, lasting: &Lasting, fault: &SensorFault, usual: f64) -> Option<Relearned> {
        let bundle = *self.normals.get(fault.field)?;
        let readings = lasting.readings.get(fault.field)?;
        let is_long = readings.count >= READINGS_MIN && 2 * readings.faulty > readings.count;
        let mut spread = readings.spread(&bundle)?;
        if fault.kind == FaultKind::ScaleJump {
            // In another unit the spread is another one too.
            let scaled = spread * (bundle.mean / readings.mean).abs();
            spread = spread.max(if scaled.is_finite() { scaled } else { 0.0 });
        }
        let varies = spread > 0.0 && spread >= VARIES * usual.min(1.0);
        (is_long && varies).then(|| Relearned {
            field: fault.field,
            bundle,
            normal: NormalRange {
                mean: readings.mean,
                sd: readings.sd(),
                movement: readings.path / f64::from(readings.count - 1),
                longest_run: readings.longest_run.max(bundle.longest_run),
                moving_run: readings.longest_run.max(bundle.moving_run),
                range: [readings.low, readings.high],
                step: None,
                ..bundle
            },
        })
    }

    /// The median of the healthy sensors' spreads, as parts of the normal ones; 1 where there is no
    /// other sensor.
    fn usual_spread(&self, readings: &[Readings]) -> f64 {
        let healthy = readings.iter().zip(&self.normals);
        let healthy = healthy.filter(|(of, _)| 2 * of.faulty <= of.count);
        let mut spreads: Vec<f64> = healthy
            .filter_map(|(of, normal)| of.spread(normal))
            .collect();
        spreads.sort_by(f64::total_cmp);
        spreads.get(spreads.len() / 2).copied().unwrap_or(1.0)
    }
}

impl Doubts {
    /// Advances by a record; returns whether the faults last.
    fn last_on(&mut self, time: EventTime, is_faulty: bool) -> bool {
        let lasting = match &mut self.lasting {
            Some(lasting) => lasting,
            None if !is_faulty => return false,
            none => none.insert(Lasting {
                since: time,
                faulty: 0,
                healthy: 0,
                readings: Vec::new(),
            }),
        };
        // The source may have set its clock back.
        lasting.since = lasting.since.min(time);
        let count = match is_faulty {
            true => &mut lasting.faulty,
            false => &mut lasting.healthy,
        };
        *count = count.saturating_add(1);
        if lasting.healthy > lasting.faulty {
            self.lasting = None;
        }
        self.lasting.is_some()
    }
}

impl Lasting {
    fn examine(&mut self, values: &[f64], faults: &[SensorFault]) {
        if self.readings.is_empty() {
            self.readings = vec![Readings::default(); values.len()];
        }
        for (field, (of, &x)) in self.readings.iter_mut().zip(values).enumerate() {
            let is_faulty = faults.iter().any(|fault| fault.field == field);
            if x.abs() <= READING_MAX {
                of.follow(x, is_faulty);
            }
        }
    }
}

impl Readings {
    fn follow(&mut self, x: f64, is_faulty: bool) {
        if self.count == 0 {
            (self.low, self.high, self.last) = (x, x, x);
        }
        self.count = self.count.saturating_add(1);
        self.faulty = self.faulty.saturating_add(u32::from(is_faulty));
        let deviation = x - self.mean;
        self.mean += deviation / f64::from(self.count);
        self.squares += deviation * (x - self.mean);
        self.path += (x - self.last).abs();
        self.run = if x == self.last {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.longest_run = self.longest_run.max(self.run);
        self.low = self.low.min(x);
        self.high = self.high.max(x);
        self.last = x;
    }

    fn sd(&self) -> f64 {
        (self.squares / f64::from(self.count.max(1))).sqrt()
    }

    /// The standard deviation as a part of the normal one; `None` where there is none.
    fn spread(&self, normal: &NormalRange) -> Option<f64> {
        let spread = self.sd() / normal.sd;
        (self.count > 1 && normal.sd > 0.0 && spread.is_finite()).then_some(spread)
    }
}

/// Whether a fault depends on the training records, and its sensor gives readings. One that stands
/// still with all others is the machine's.
fn may_be_doubted(fault: &SensorFault) -> bool {
    matches!(
        fault.kind,
        FaultKind::Stuck | FaultKind::Flat | FaultKind::ScaleJump
    )
}
