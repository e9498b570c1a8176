//! The gate as the pipeline uses it: every rule, its recovery, and what must never happen.

mod clock;
mod doubt;
mod properties;
mod spikes;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use outlierd::gate::GateSettings;
use outlierd::gate::{GateRules, GateState, NormalRange, TimeOrder, normals};
use outlierd::record::format::FieldSettings;
use outlierd::record::{
    EventTime, FaultKind, GateVerdict, MISSING, NON_FINITE, RejectReason, SensorFault,
};
use outlierd::sim::fleet::{Fleet, FleetPlan};
use outlierd::sim::sensor::Sensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SECOND: i64 = 1_000_000;

fn gate() -> GateSettings {
    GateSettings {
        allowed_lateness: Duration::from_secs(5),
        max_ahead: Duration::from_secs(3600),
        late_reset: 3,
        stuck_after: 60,
        flat_ratio: 0.01,
        scale_jump: true,
        spike: true,
        doubt_after: Duration::from_secs(14 * 86_400),
        gap_after: 5.0,
        ignore_when: BTreeMap::new(),
    }
}

fn fields(count: usize) -> Vec<FieldSettings> {
    (0..count)
        .map(|i| FieldSettings::named(&format!("f{i}")))
        .collect()
}

/// 100 +- 1, moving by 0.5 a record.
const NORMAL: NormalRange = NormalRange {
    mean: 100.0,
    sd: 1.0,
    movement: 0.5,
    longest_run: 1,
    rest: 100.0,
    moving_run: 1,
    mean_run: 0.0,
    range: [97.0, 103.0],
    counter: None,
    step: Some(4.0),
};

/// A plan and a series of it, fed one record a second.
struct Series {
    plan: GateRules,
    state: GateState,
    time: i64,
}

impl Series {
    fn new(plan: GateRules, fields: usize) -> Self {
        Self {
            plan,
            state: GateState::new(fields),
            time: 0,
        }
    }

    fn of(normal: Option<NormalRange>) -> Self {
        Self::new(
            GateRules::new(
                &gate(),
                &fields(1),
                normal.as_ref().map(std::slice::from_ref),
            ),
            1,
        )
    }

    fn feed(&mut self, values: &[f64]) -> GateVerdict {
        self.time += SECOND;
        self.plan
            .check(&mut self.state, EventTime(self.time), None, values)
            .verdict
    }

    /// The kinds of the faults of one record.
    fn kinds(&mut self, values: &[f64]) -> Vec<FaultKind> {
        match self.feed(values) {
            GateVerdict::Pass => Vec::new(),
            GateVerdict::Fault(faults) => faults.iter().map(|fault| fault.kind).collect(),
            GateVerdict::Reject(reason, detail) => panic!("{reason:?}: {detail}"),
        }
    }

    /// Feeds one field until its first fault: how many records were fed by then, and its kind.
    fn first_fault(
        &mut self,
        readings: impl IntoIterator<Item = f64>,
    ) -> Option<(usize, FaultKind)> {
        let mut kinds = readings
            .into_iter()
            .map(|x| self.kinds(&[x]).first().copied());
        kinds
            .by_ref()
            .zip(1..)
            .find_map(|(kind, count)| kind.map(|kind| (count, kind)))
    }

    /// What a record at `seconds` makes of the clock.
    fn at(&mut self, seconds: i64, x: f64) -> Result<TimeOrder, RejectReason> {
        let checked = self
            .plan
            .check(&mut self.state, EventTime(seconds * SECOND), None, &[x]);
        match checked.verdict {
            GateVerdict::Reject(reason, _) => Err(reason),
            _ => Ok(checked.order),
        }
    }
}

/// A mean-reverting walk (AR(1), phi 0.9) around 100 with standard deviation 1, seeded.
fn walk(seed: u64) -> impl Iterator<Item = f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut x = 0.0f64;
    std::iter::repeat_with(move || {
        let noise: f64 = rng.sample(rand_distr::StandardNormal);
        x = 0.9 * x + 0.19f64.sqrt() * noise;
        100.0 + x
    })
}

fn fit(readings: &[f64]) -> NormalRange {
    normals(readings, 1, std::slice::from_ref(&(0..readings.len())))[0]
}

#[test]
fn every_faulty_field_is_listed_and_recovers() {
    let mut fields = fields(5);
    (fields[3].min, fields[3].max) = (-40.0, 125.0);
    (fields[4].min, fields[4].max) = (-40.0, 125.0);
    let mut series = Series::new(GateRules::new(&gate(), &fields, None), 5);
    let fault = |field, kind, value| SensorFault {
        field,
        kind,
        value,
        repeats: None,
    };
    assert_eq!(
        series.feed(&[1.0, MISSING, f64::NEG_INFINITY, 125.5, -40.5]),
        GateVerdict::Fault(vec![
            fault(1, FaultKind::Missing, None),
            fault(2, FaultKind::NonFinite, None),
            fault(3, FaultKind::OutOfRange, Some(125.5)),
            fault(4, FaultKind::OutOfRange, Some(-40.5)),
        ])
    );
    assert_eq!(
        series.feed(&[1.0, 2.0, 3.0, 125.0, -40.0]),
        GateVerdict::Pass
    );
    assert_eq!(
        series.kinds(&[1.0, 2.0]),
        [FaultKind::Missing; 3],
        "a row that is too short"
    );
}

#[test]
fn a_stuck_sensor_is_told_by_ten_times_its_longest_run_and_recovers() {
    for (longest_run, expected) in [(1, 60), (6, 60), (7, 70), (30, 300)] {
        let mut series = Series::of(Some(NormalRange {
            longest_run,
            moving_run: longest_run,
            ..NORMAL
        }));
        let stuck = series.first_fault(std::iter::repeat_n(100.25, 1_000));
        assert_eq!(stuck, Some((expected, FaultKind::Stuck)));
        assert_eq!(series.kinds(&[MISSING]), [FaultKind::Missing]);
        assert_eq!(
            series.kinds(&[100.25]),
            [FaultKind::Stuck],
            "a gap does not free it"
        );
        assert_eq!(
            series.first_fault([99.0, 99.0, 100.0]),
            None,
            "it moves again"
        );
    }
}

#[test]
fn a_field_that_was_constant_in_training_is_never_stuck_or_flat() {
    let normal = fit(&[50.0; 500]);
    assert_eq!(
        normal,
        NormalRange {
            mean: 50.0,
            longest_run: 500,
            rest: 50.0,
            mean_run: 500.0,
            range: [50.0; 2],
            ..NormalRange::default()
        }
    );
    let mut series = Series::of(Some(normal));
    assert_eq!(series.first_fault(std::iter::repeat_n(50.0, 100_000)), None);
    assert_eq!(
        series.first_fault(std::iter::repeat_n(5.0, 100_000)),
        None,
        "nor at another set point"
    );
}

#[test]
fn while_learning_a_set_point_is_not_stuck_but_a_moving_sensor_is() {
    let mut series = Series::of(None);
    let set_point = (0..50).flat_map(|step| std::iter::repeat_n(f64::from(step), 1_000));
    assert_eq!(series.first_fault(set_point), None);
    let mut series = Series::of(None);
    let readings = walk(1).take(200).chain(std::iter::repeat_n(7.0, 1_000));
    assert_eq!(series.first_fault(readings), Some((260, FaultKind::Stuck)));
}

#[test]
fn stuck_and_flat_can_be_switched_off() {
    let off = GateSettings {
        stuck_after: 0,
        flat_ratio: 0.0,
        ..gate()
    };
    for normal in [None, Some(&NORMAL)] {
        let mut series = Series::new(
            GateRules::new(&off, &fields(1), normal.map(std::slice::from_ref)),
            1,
        );
        assert_eq!(
            series.first_fault(walk(1).take(200).chain(std::iter::repeat_n(101.5, 100_000))),
            None
        );
    }
}

#[test]
fn a_sensor_with_a_hundredth_of_its_movement_is_flat_after_a_long_time_and_recovers() {
    let mut series = Series::of(Some(NORMAL));
    let dead = |i: i32| 100.0 + f64::from(i % 2) * 0.002;
    // The mean falls from 1 to 0.01 in 5 spans of 100 records, and then has to stay there for
    // another.
    let (records, kind) = series.first_fault((0..2_000).map(dead)).expect("flat");
    assert_eq!(kind, FaultKind::Flat);
    assert!((600..625).contains(&records), "{records}");
    let recovery: Vec<_> = walk(2).take(50).map(|x| series.kinds(&[x])).collect();
    assert!(recovery.iter().skip(5).all(Vec::is_empty), "{recovery:?}");
}

#[test]
fn a_sensor_that_moves_again_after_it_was_stuck_is_not_called_flat() {
    // With so long a span, the mean alone would take dozens of records to rise again.
    let mut series = Series::of(Some(NormalRange {
        longest_run: 100,
        ..NORMAL
    }));
    let stuck = (0..10_000)
        .filter(|_| series.kinds(&[100.0]) == [FaultKind::Stuck])
        .count();
    assert_eq!(stuck, 9_001);
    assert_eq!(series.first_fault(walk(3).take(100)), None);
}

#[test]
fn a_coarsely_quantised_signal_is_neither_stuck_nor_flat() {
    let readings: Vec<f64> = walk(4)
        .take(50_000)
        .map(|x| (x / 2.0).round() * 2.0)
        .collect();
    let mut series = Series::of(Some(fit(&readings[..2_000])));
    assert_eq!(series.first_fault(readings), None);
}

#[test]
fn a_signal_that_seldom_steps_is_not_flat_and_can_be_stuck() {
    let steps = |step: i32| std::iter::repeat_n(f64::from(step % 2), 300);
    let training: Vec<f64> = (0..30).flat_map(steps).collect();
    let normal = fit(&training);
    assert_eq!((normal.movement, normal.longest_run), (29.0 / 8_999.0, 300));
    let mut series = Series::of(Some(normal));
    assert_eq!(series.first_fault((0..200).flat_map(steps)), None);
    assert_eq!(
        series.first_fault(std::iter::repeat_n(5.0, 9_000)),
        Some((3_000, FaultKind::Stuck))
    );
}

#[test]
fn a_machine_at_rest_is_not_flat_if_it_rested_in_training() {
    // 600 records of running, 600 of rest with a thousandth of the movement.
    let readings: Vec<f64> = walk(5)
        .zip(0..60_000)
        .map(|(x, i)| {
            if (i / 600) % 2 == 0 {
                x
            } else {
                20.0 + (x - 100.0) / 1_000.0
            }
        })
        .collect();
    let mut series = Series::of(Some(fit(&readings[..3_000])));
    let rest = readings[601..1_200].iter().cycle().take(20_000);
    assert_eq!(
        series.first_fault(readings.iter().chain(rest).copied()),
        None
    );
}

#[test]
fn readings_in_another_unit_are_scale_jumps_and_recover() {
    let jumped = |normal: NormalRange, x: f64| {
        Series::of(Some(normal)).kinds(&[x]) == [FaultKind::ScaleJump]
    };
    let celsius = NormalRange {
        mean: 90.0,
        sd: 0.5,
        movement: 0.1,
        longest_run: 1,
        ..NormalRange::default()
    };
    let bar = NormalRange {
        mean: 6.0,
        sd: 0.05,
        movement: 0.01,
        longest_run: 1,
        ..NormalRange::default()
    };
    for (normal, x, why) in [
        (celsius, 90.3 * 1.8 + 32.0, "F for C"),
        (celsius, 89.8 + 273.15, "K for C"),
        (celsius, 9.01, "a digit"),
        (celsius, 90_100.0, "thousandths"),
        (bar, 6.02 * 14.503_773_77, "psi for bar"),
        (bar, 6.0 * 60.0, "per minute for per second"),
        (bar, 6.0 / 3600.0, "per second for per hour"),
        (bar, 6.03 * 25.4, "mm for inch"),
    ] {
        assert!(jumped(normal, x), "{why}");
    }
    assert!(!jumped(celsius, 130.0), "far, and ordinary in no unit");
    assert!(!jumped(celsius, 0.0), "a dead channel");
    assert!(!jumped(celsius, 95.0), "near enough for the model");
    assert!(
        !jumped(
            NormalRange {
                mean: 1.0,
                sd: 0.5,
                ..bar
            },
            100.0
        ),
        "no scale to tell"
    );
    let off = GateSettings {
        scale_jump: false,
        ..gate()
    };
    let mut series = Series::new(GateRules::new(&off, &fields(1), Some(&[celsius])), 1);
    assert_eq!(series.first_fault([9.0, 9_000.0]), None);
    let mut series = Series::of(Some(celsius));
    assert_eq!(series.kinds(&[900.0]), [FaultKind::ScaleJump]);
    assert_eq!(series.kinds(&[90.0]), []);
}

#[test]
fn a_normal_walk_of_100_000_records_never_faults() {
    for seed in 0..3 {
        let readings: Vec<f64> = walk(seed).take(100_000).collect();
        let mut series = Series::of(Some(fit(&readings[..400])));
        assert_eq!(series.first_fault(readings), None, "seed {seed}");
    }
}

/// Runs normal readings of 8 fields past a gate that learned from the first 400 rows.
fn faults_of_normal_rows(rows: &[f64]) -> Vec<FaultKind> {
    let normals = normals(&rows[..8 * 400], 8, std::slice::from_ref(&(0..400)));
    let mut series = Series::new(GateRules::new(&gate(), &fields(8), Some(&normals)), 8);
    // Where the machine is stopped its readings jump; they stay there, so it was no spike.
    rows.chunks(8)
        .flat_map(|row| series.kinds(row))
        .filter(|kind| *kind != FaultKind::Jump)
        .collect()
}

#[test]
fn normal_records_of_a_simulated_pump_never_fault() {
    let mut fleet = Fleet::new(
        FleetPlan {
            pumps: 1,
            ..FleetPlan::default()
        },
        &[],
    );
    let mut rows: Vec<f64> = Vec::new();
    for _ in 0..9_400 {
        fleet.step();
        let reading = fleet.readings().next().expect("one pump");
        let steps = Sensor::ALL.into_iter().zip(reading.values);
        rows.extend(steps.map(|(sensor, value)| {
            (value * sensor.steps_per_unit()).round() / sensor.steps_per_unit()
        }));
    }
    assert_eq!(faults_of_normal_rows(&rows), []);
}

#[test]
#[ignore = "reads SKAB's normal run: OUTLIERD_TEST_DATA names the folder that holds skab"]
fn real_normal_records_of_a_pump_never_fault() {
    let folder = std::env::var("OUTLIERD_TEST_DATA").expect("OUTLIERD_TEST_DATA");
    let path = std::path::Path::new(&folder).join("skab/anomaly-free/anomaly-free.csv");
    let text = std::fs::read_to_string(path).expect("SKAB's normal run");
    let rows: Vec<f64> = text
        .lines()
        .skip(1)
        .flat_map(|line| line.split(';').skip(1))
        .map(|x| x.parse().expect("a number"))
        .collect();
    assert!(rows.len() / 8 > 9_000);
    assert_eq!(faults_of_normal_rows(&rows), []);
}

#[test]
fn normals_are_robust_and_know_their_segments() {
    let mut readings: Vec<f64> = walk(6).take(2_000).collect();
    let clean = fit(&readings);
    assert!(
        (clean.mean - 100.0).abs() < 0.3 && (clean.sd - 1.0).abs() < 0.15,
        "{clean:?}"
    );
    for i in [100, 700, 1_500] {
        readings[i] = 1e9;
    }
    let spiked = fit(&readings);
    assert!(
        (spiked.mean - clean.mean).abs() < 0.05 && (spiked.sd - clean.sd).abs() < 0.1,
        "{spiked:?}"
    );
    assert!(spiked.movement < 2.0 * clean.movement, "{spiked:?}");

    // Two fields, two segments: no difference and no run reaches over the seam, nor into rows that
    // do not exist.
    let rows = [1.0, 5.0, 1.0, MISSING, 2.0, 5.0, 2.0, 9.0, 2.0, 9.0];
    let segments: [Range<usize>; 2] = [0..3, 3..99];
    let [a, b] = normals(&rows, 2, &segments)[..] else {
        panic!("two fields")
    };
    assert_eq!((a.movement, a.longest_run), (1.0 / 3.0, 2));
    assert_eq!((b.movement, b.longest_run), (0.0, 2));
    assert_eq!(
        normals(&[MISSING, MISSING], 1, std::slice::from_ref(&(0..2))),
        [NormalRange::default()]
    );
    assert_eq!(normals(&[], 0, &[]), []);
}

#[test]
fn a_state_of_another_configuration_is_started_anew() {
    let plan = GateRules::new(&gate(), &fields(2), None);
    let mut state = GateState::new(7);
    assert_eq!(
        plan.check(&mut state, EventTime(1), None, &[1.0, 2.0])
            .verdict,
        GateVerdict::Pass
    );
    let mut fresh = GateState::new(2);
    plan.check(&mut fresh, EventTime(1), None, &[1.0, 2.0]);
    assert_eq!(state, fresh);
}

#[test]
fn the_state_is_small() {
    let mut series = Series::new(GateRules::new(&gate(), &fields(8), Some(&[NORMAL; 8])), 8);
    for x in walk(7).take(1_000) {
        series.feed(&[x; 8]);
    }
    let bytes = postcard::to_stdvec(&series.state).expect("encodes").len();
    assert!(bytes <= 8 * 20 + 24, "{bytes}");
}
