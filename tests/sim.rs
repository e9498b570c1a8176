//! The simulated plant: the same twice, physically coupled, stable when healthy, and broken where
//! it says it is.

use std::collections::BTreeSet;

use outlierd::record::EventTime;
use outlierd::sim::fault::{Direction, FaultSize, PlantFault, PlantFaultKind};
use outlierd::sim::fleet::{Fleet, FleetPlan, PumpReading};
use outlierd::sim::plan::{self, FaultPlan};
use outlierd::sim::sensor::{SENSORS, Sensor, Values};
use outlierd::sim::signal::Signal;
use proptest::prelude::*;

fn fleet_plan(pumps: usize) -> FleetPlan {
    FleetPlan {
        pumps,
        ..FleetPlan::default()
    }
}

/// The readings of every pump: `[pump][step]`.
fn run(plan: FleetPlan, faults: &[PlantFault], steps: usize) -> Vec<Vec<Values>> {
    let mut series = vec![Vec::with_capacity(steps); plan.pumps];
    let mut fleet = Fleet::new(plan, faults);
    for _ in 0..steps {
        fleet.step();
        for (pump, reading) in series.iter_mut().zip(fleet.readings()) {
            pump.push(*reading.values);
        }
    }
    series
}

fn column(rows: &[Values], sensor: Sensor) -> Vec<f64> {
    rows.iter().map(|row| row[sensor.index()]).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn sd(values: &[f64]) -> f64 {
    let centre = mean(values);
    (values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (ca, cb) = (mean(a), mean(b));
    let covariance = a
        .iter()
        .zip(b)
        .map(|(x, y)| (x - ca) * (y - cb))
        .sum::<f64>()
        / a.len() as f64;
    covariance / (sd(a) * sd(b))
}

/// A machine fault with the sensors that it raises, lowers and leaves alone.
type Moves = (
    PlantFaultKind,
    &'static [Sensor],
    &'static [Sensor],
    &'static [Sensor],
);

/// Mean difference that a fault makes to each sensor over its last quarter, against the same run
/// without it.
fn moved_by(kind: PlantFaultKind, size: FaultSize) -> Values {
    let fault = PlantFault {
        pump: 0,
        kind,
        size,
        start: 3_000,
        end: 4_200,
    };
    let healthy = run(fleet_plan(1), &[], 4_200);
    let broken = run(fleet_plan(1), &[fault], 4_200);
    assert_eq!(
        healthy[0][..3_000],
        broken[0][..3_000],
        "{kind:?} acts before its onset"
    );
    Sensor::ALL.map(|sensor| {
        let last = |rows: &[Values]| mean(&column(&rows[3_900..], sensor));
        last(&broken[0]) - last(&healthy[0])
    })
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let faults = plan::draw(
        1,
        20,
        &FaultPlan {
            quiet: 50,
            length: 20_000,
            gap: 10,
        },
    );
    let bytes = |seed| {
        let mut fleet = Fleet::new(
            FleetPlan {
                seed,
                ..FleetPlan::default()
            },
            &faults,
        );
        let mut buffer = Vec::new();
        for _ in 0..300 {
            fleet.step();
            fleet
                .readings()
                .for_each(|reading| reading.write_json(&mut buffer));
        }
        buffer
    };
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[test]
fn a_pump_is_the_same_in_a_larger_fleet_and_differs_from_its_neighbours() {
    let (small, large) = (run(fleet_plan(2), &[], 100), run(fleet_plan(30), &[], 100));
    assert_eq!(small[..], large[..2]);
    let firsts: BTreeSet<String> = large.iter().map(|rows| format!("{:?}", rows[0])).collect();
    assert_eq!(firsts.len(), 30);
}

#[test]
fn records_are_json_with_the_values_times_and_units_of_the_readings() {
    let mut fleet = Fleet::new(fleet_plan(3), &[]);
    for step in 0..200 {
        fleet.step();
        for (index, reading) in fleet.readings().enumerate() {
            let mut buffer = b"kept ".to_vec();
            reading.write_json(&mut buffer);
            let json: serde_json::Value = serde_json::from_slice(&buffer[5..]).unwrap();
            assert_eq!(json["pump"], FleetPlan::name_of(index));
            let time: jiff::Timestamp = json["time"].as_str().unwrap().parse().unwrap();
            assert_eq!(
                EventTime(time.as_microsecond()),
                fleet_plan(3).time_of(step)
            );
            let sensors = json["sensors"].as_object().unwrap();
            assert_eq!(sensors.len(), SENSORS);
            for sensor in Sensor::ALL {
                assert_eq!(sensors[sensor.as_str()]["unit"], sensor.unit());
                assert_eq!(
                    sensors[sensor.as_str()]["value"].as_f64().unwrap(),
                    reading.values[sensor.index()]
                );
            }
        }
    }
}

#[test]
fn records_keep_the_sign_of_readings_below_one() {
    let down = |sensor| PlantFaultKind::Spike(sensor, Direction::Down);
    let fault = PlantFault {
        pump: 0,
        kind: down(Sensor::SuctionPressure),
        size: FaultSize::Large,
        start: 0,
        end: 1,
    };
    let mut fleet = Fleet::new(fleet_plan(1), &[fault]);
    fleet.step();
    let reading = fleet.readings().next().unwrap();
    let value = reading.values[Sensor::SuctionPressure.index()];
    assert!((-1.0..0.0).contains(&value), "{value}");
    let mut buffer = Vec::new();
    reading.write_json(&mut buffer);
    let json: serde_json::Value = serde_json::from_slice(&buffer).unwrap();
    assert_eq!(
        json["sensors"]["suction_pressure"]["value"].as_f64(),
        Some(value)
    );
}

#[test]
fn the_couplings_of_a_healthy_pump_have_the_signs_of_the_physics() {
    for rows in run(fleet_plan(4), &[], 10_800) {
        let of = |a, b| correlation(&column(&rows, a), &column(&rows, b));
        assert!(of(Sensor::Speed, Sensor::Flow) > 0.8);
        assert!(of(Sensor::Speed, Sensor::DischargePressure) > 0.8);
        assert!(of(Sensor::Flow, Sensor::MotorCurrent) > 0.8);
        assert!(of(Sensor::Flow, Sensor::SuctionPressure) < -0.2);
        assert!(of(Sensor::Speed, Sensor::Vibration) > 0.5);
        assert!(of(Sensor::MotorCurrent, Sensor::WindingTemperature) > 0.4);
        // The temperature of now belongs to the load of some minutes ago.
        let (current, winding) = (
            column(&rows, Sensor::MotorCurrent),
            column(&rows, Sensor::WindingTemperature),
        );
        let lagged = correlation(&current[..10_500], &winding[300..]);
        assert!(lagged > correlation(&current, &winding) + 0.05, "{lagged}");
    }
}

#[test]
fn a_healthy_fleet_stays_in_its_ranges_and_its_statistics_do_not_drift_away() {
    let day = 3_600;
    for rows in run(fleet_plan(20), &[], 6 * day) {
        for sensor in Sensor::ALL {
            let values = column(&rows, sensor);
            let (low, high) = sensor.range();
            assert!(
                values.iter().all(|v| (low..=high).contains(v)),
                "{sensor:?} leaves its range"
            );
            let (early, late) = values.split_at(3 * day);
            let shift = (mean(late) - mean(early)).abs() / sensor.spread();
            assert!(
                shift < 1.0,
                "the mean of {sensor:?} moves by {shift} spreads"
            );
            let ratio = sd(late) / sd(early);
            assert!(
                (0.6..1.6).contains(&ratio),
                "the spread of {sensor:?} changes by {ratio}"
            );
            let measured = sd(&values) / sensor.spread();
            assert!(
                (0.7..1.4).contains(&measured),
                "{sensor:?} moves by {measured} of what it says"
            );
        }
    }
}

#[test]
fn a_pump_starts_without_a_transient() {
    for rows in run(fleet_plan(20), &[], 1_800) {
        let bearing = column(&rows, Sensor::BearingTemperature);
        assert!((mean(&bearing[..60]) - mean(&bearing[..600])).abs() < 4.0);
        assert!(rows[0].iter().all(|value| value.is_finite()));
        assert!(column(&rows, Sensor::Flow)[0] > 50.0);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn machine_faults_move_the_sensors_that_the_physics_says() {
    use Sensor::*;
    let expected: [Moves; 6] = [
        (
            PlantFaultKind::BearingWear,
            &[Vibration, BearingTemperature, MotorCurrent],
            &[],
            &[Flow, Speed, SuctionPressure],
        ),
        (
            PlantFaultKind::Cavitation,
            &[Vibration],
            &[Flow, SuctionPressure, DischargePressure],
            &[Speed],
        ),
        (
            PlantFaultKind::Leak,
            &[MotorCurrent],
            &[Flow, DischargePressure, SuctionPressure],
            &[Speed],
        ),
        (
            PlantFaultKind::ValveBlockage,
            &[DischargePressure, SuctionPressure],
            &[Flow, MotorCurrent],
            &[Speed],
        ),
        (
            PlantFaultKind::ImpellerDamage,
            &[Vibration],
            &[Flow, DischargePressure, MotorCurrent],
            &[Speed],
        ),
        (
            PlantFaultKind::CoolingLoss,
            &[WindingTemperature],
            &[],
            &[Flow, Vibration, BearingTemperature, MotorCurrent],
        ),
    ];
    for (kind, up, down, still) in expected {
        for size in FaultSize::ALL {
            let moved = moved_by(kind, size);
            let moves = |sensor: &Sensor| moved[sensor.index()] / sensor.spread();
            assert!(
                up.iter().all(|sensor| moves(sensor) > 0.02),
                "{kind:?} {size:?} {moved:?}"
            );
            assert!(
                down.iter().all(|sensor| moves(sensor) < -0.02),
                "{kind:?} {size:?} {moved:?}"
            );
            assert!(
                still.iter().all(|sensor| moves(sensor) == 0.0),
                "{kind:?} {size:?} {moved:?}"
            );
        }
        let strongest = |size| {
            let moved = moved_by(kind, size);
            Sensor::ALL
                .iter()
                .map(|sensor| (moved[sensor.index()] / sensor.spread()).abs())
                .fold(0.0, f64::max)
        };
        assert!(
            strongest(FaultSize::Large) > 2.0 * strongest(FaultSize::Small),
            "{kind:?} does not grow with its size"
        );
        assert!(
            strongest(FaultSize::Large) > 1.0,
            "a large {kind:?} hides: {}",
            strongest(FaultSize::Large)
        );
    }
}

#[test]
fn cavitation_makes_flow_and_pressure_fluctuate_from_record_to_record() {
    let fault = PlantFault {
        pump: 0,
        kind: PlantFaultKind::Cavitation,
        size: FaultSize::Medium,
        start: 1_000,
        end: 2_000,
    };
    let rows = &run(fleet_plan(1), &[fault], 2_000)[0];
    for sensor in [Sensor::Flow, Sensor::DischargePressure] {
        let jumps: Vec<f64> = column(rows, sensor)
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect();
        let ratio = sd(&jumps[1_100..]) / sd(&jumps[..1_000]);
        assert!(ratio > 1.5, "{sensor:?} fluctuates {ratio} times as much");
    }
}

#[test]
fn sensor_faults_touch_one_reading_and_leave_the_process_alone() {
    let healthy = run(fleet_plan(1), &[], 1_300);
    for sensor in Sensor::ALL {
        let kinds = [
            PlantFaultKind::Stuck(sensor),
            PlantFaultKind::Spike(sensor, Direction::Up),
            PlantFaultKind::Shift(sensor, Direction::Down),
            PlantFaultKind::Drift(sensor, Direction::Up),
            PlantFaultKind::UnitChange(sensor),
        ];
        for kind in kinds {
            let fault = PlantFault {
                pump: 0,
                kind,
                size: FaultSize::Medium,
                start: 1_000,
                end: 1_200,
            };
            let rows = &run(fleet_plan(1), &[fault], 1_300)[0];
            for (step, (row, well)) in rows.iter().zip(&healthy[0]).enumerate() {
                for other in Sensor::ALL
                    .into_iter()
                    .filter(|other| *other != sensor || !fault.acts_on(step as u64))
                {
                    assert_eq!(
                        row[other.index()],
                        well[other.index()],
                        "{kind:?} moves {other:?} at {step}"
                    );
                }
            }
            let (value, well) = (
                rows[1_199][sensor.index()],
                healthy[0][1_199][sensor.index()],
            );
            let off = (value - well) / sensor.spread();
            match kind {
                PlantFaultKind::Stuck(_) => assert!(
                    rows[999..1_200]
                        .iter()
                        .all(|row| row[sensor.index()] == value)
                ),
                PlantFaultKind::Spike(..) => assert!((11.0..13.0).contains(&off), "{kind:?} {off}"),
                PlantFaultKind::Shift(..) => assert!((-2.1..-1.9).contains(&off), "{kind:?} {off}"),
                PlantFaultKind::Drift(..) => assert!((1.9..2.1).contains(&off), "{kind:?} {off}"),
                _ => assert!(off.abs() > 3.0, "{kind:?} {off}"),
            }
        }
    }
}

#[test]
fn the_default_plan_has_every_kind_in_every_size_and_healthy_pumps() {
    let faults = plan::draw(1, 20, &FaultPlan::default());
    let kinds: BTreeSet<(&str, &str)> = faults
        .iter()
        .map(|fault| (fault.kind.name(), fault.size.as_str()))
        .collect();
    assert_eq!(kinds.len(), 9 * 3 + 2, "{kinds:?}");
    assert!(faults.iter().all(|fault| fault.pump % 4 != 3));
}

proptest! {
    #[test]
    fn plans_keep_their_promises(
        seed: u64, pumps in 0_usize..40, quiet in 0_u64..5_000, length in 0_u64..40_000, gap in 0_u64..3_000
    ) {
        let plan = FaultPlan { quiet, length, gap };
        let faults = plan::draw(seed, pumps, &plan);
        prop_assert_eq!(&faults, &plan::draw(seed, pumps, &plan));
        for fault in &faults {
            let (shortest, longest) = fault.kind.lasts();
            prop_assert!((shortest..=longest).contains(&(fault.end - fault.start)));
            prop_assert!(fault.start >= quiet && fault.end <= length && fault.pump < pumps);
        }
        for pump in 0..pumps {
            let own: Vec<&PlantFault> = faults.iter().filter(|fault| fault.pump == pump).collect();
            prop_assert!(own.windows(2).all(|pair| pair[0].end + gap <= pair[1].start));
        }
    }
}

#[test]
fn each_signal_changes_what_it_is_about() {
    let day = 720;
    let within = 2_040..14_400;
    for &signal in Signal::ALL {
        let fault = signal.fault(5, &within, day);
        assert!(
            within.contains(&fault.start) && fault.end <= within.end,
            "{fault:?}"
        );
        let records = fault.start..fault.end;
        let changed = |step: u64| {
            let mut values = [101.0; SENSORS];
            let part = (step % day) as f64 / day as f64;
            signal.change(step, part, &records, &mut values);
            values
        };
        let is_changed = |step: &u64| changed(*step).iter().any(|x| *x != 101.0);
        let count = (0..14_400).filter(is_changed).count() as u64;
        let expected = match signal {
            Signal::OffAtNight => 14_400 / 4,
            Signal::CoarseSensors => 14_400,
            // Half of the time that the bearing wears.
            Signal::LostSensor => day,
            Signal::LastingFault => 0,
        };
        assert_eq!(count, expected, "{signal:?}");
    }
    let short = Signal::LostSensor.fault(0, &(10..10), day);
    assert_eq!((short.start, short.end), (10, 10), "no time is left");
}

#[test]
fn a_lost_reading_is_null() {
    let mut buffer = Vec::new();
    let mut values = [1.0; SENSORS];
    values[Sensor::Flow.index()] = f64::NAN;
    let reading = PumpReading {
        pump: "pump-20",
        time: "2026-03-02T00:00:00Z",
        values: &values,
    };
    reading.write_json(&mut buffer);
    let json: serde_json::Value = serde_json::from_slice(&buffer).unwrap();
    assert!(json["sensors"]["flow"]["value"].is_null());
    assert_eq!(json["sensors"]["speed"]["value"], 1);
}
