//! A pump: the physics of one speed-controlled centrifugal pump with its motor and its pipes, one
//! step a record.
//!
//! Demand sets the speed; the pump curve, moved by the affinity laws, meets the curve of the pipes
//! at the operating point; from there follow pressures, shaft power, current, and, with first-order
//! lags, the temperatures. (Gülich, "Centrifugal Pumps", for the laws; the numbers are those of a
//! common 22 kW, two-pole pump.)

use std::f64::consts::TAU;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::fault::{Effects, PlantFault};
use super::sensor::{SENSORS, Sensor, Values};
use super::wander::Wander;

/// Flow at the best efficiency point, m3/h.
const RATED_FLOW: f64 = 120.0;
/// Head at no flow, m.
const SHUT_OFF_HEAD: f64 = 60.0;
/// Loss of the pump's head with the square of the flow: 45 m are left at the rated flow. m /
/// (m3/h)^2.
const CURVE_LOSS: f64 = 15.0 / (RATED_FLOW * RATED_FLOW);
/// Height that the pipes climb, m.
const STATIC_HEAD: f64 = 15.0;
/// Resistance of the pipes: the rated flow takes all of the 45 m. m / (m3/h)^2.
const LINE_LOSS: f64 = 30.0 / (RATED_FLOW * RATED_FLOW);
/// Pressure lost in the suction pipe, bar / (m3/h)^2.
const SUCTION_LOSS: f64 = 0.25 / (RATED_FLOW * RATED_FLOW);
/// Discharge pressure at which a leak has its nominal flow, bar.
const LEAK_PRESSURE: f64 = 5.0;
/// Bar for a metre of water.
const BAR_PER_METRE: f64 = 0.098_1;
/// Kilowatt for a metre of water and a m3/h.
const KILOWATT_PER_METRE_FLOW: f64 = 9.81 / 3_600.0;
/// Speed at full frequency, rpm.
const RATED_SPEED: f64 = 2_950.0;
/// Shaft power at the rated point, kW.
const RATED_POWER: f64 = 20.1;
/// Current of the motor that makes torque, A / kW at full frequency, and the one that only
/// magnetises, A.
const AMPERE_PER_KILOWATT: f64 = 1.58;
const MAGNETISING_CURRENT: f64 = 12.0;
/// Current at the rated point, A.
const RATED_CURRENT: f64 = 34.0;
/// Time constants of speed control, bearing and winding, s.
const SPEED_TAU: f64 = 8.0;
const BEARING_TAU: f64 = 240.0;
const WINDING_TAU: f64 = 600.0;

/// What the height of summer adds to the demand (1: the rated flow), and to the air's temperature,
/// K.
const SUMMER_DEMAND: f64 = 0.15;
const SUMMER_AIR: f64 = 10.0;

/// What all pumps of a fleet see alike at one step.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// Number of the record.
    pub step: u64,
    /// Part of the working day that has passed, 0 to 1.
    pub day: f64,
    /// How far the season is: 0 in winter, 1 at the height of summer.
    pub season: f64,
}

/// How one pump differs from the data sheet.
#[derive(Clone, Debug)]
struct Build {
    head: f64,
    curve_loss: f64,
    line_loss: f64,
    efficiency: f64,
    vibration: f64,
    heating: f64,
    tank: f64,
    phase: f64,
    offsets: Values,
}

/// One pump with its state.
#[derive(Clone, Debug)]
pub struct Pump {
    build: Build,
    rng: ChaCha8Rng,
    /// A stream of its own for what only a fault draws, so that a fault changes nothing else of the
    /// run.
    fault_rng: ChaCha8Rng,
    demand: Wander,
    consumers: Wander,
    tank: Wander,
    air: Wander,
    noise: [Wander; SENSORS],
    /// Parts of the way to their goal that speed, bearing and winding go in one step.
    lags: [f64; 3],
    speed: f64,
    bearing: f64,
    winding: f64,
    discharge: f64,
    values: Values,
}

/// The flows, pressures and powers of one step, before lags and noise.
struct OperatingPoint {
    /// Flow through the impeller, m3/h; the leak's part never reaches the flow meter.
    flow: f64,
    leak: f64,
    suction: f64,
    discharge: f64,
    power: f64,
    current: f64,
}

impl Pump {
    /// Pump number `index` of the fleet with this `seed`: the same whatever the size of the fleet.
    /// `dt` is the time between two records and `day` the length of the working day, both in
    /// seconds.
    pub fn new(index: usize, seed: u64, dt: f64, day: f64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut fault_rng = rng.clone();
        rng.set_stream(2 * index as u64);
        fault_rng.set_stream(2 * index as u64 + 1);
        let build = Build::draw(&mut rng);
        let lag = |tau: f64| 1.0 - (-dt / tau).exp();
        let quality = rng.random_range(0.8..1.25);
        let noise = Sensor::ALL.map(|sensor| {
            let (sd, tau) = sensor_noise(sensor);
            Wander::new(sd * quality, tau, dt, &mut rng)
        });
        let mut pump = Self {
            demand: Wander::new(0.06, 300.0, dt, &mut rng),
            consumers: Wander::new(0.04, 120.0, dt, &mut rng),
            tank: Wander::new(0.04, 900.0, dt, &mut rng),
            air: Wander::new(0.7, 2.0 * day, dt, &mut rng),
            noise,
            lags: [lag(SPEED_TAU), lag(BEARING_TAU), lag(WINDING_TAU)],
            speed: 0.9,
            bearing: 0.0,
            winding: 0.0,
            discharge: LEAK_PRESSURE,
            values: [0.0; SENSORS],
            build,
            rng,
            fault_rng,
        };
        pump.warm_up();
        pump
    }

    /// Starts at the temperatures of a pump that has been running, so that the first records are no
    /// transient.
    fn warm_up(&mut self) {
        let lags = std::mem::replace(&mut self.lags, [1.0; 3]);
        self.step(
            Surroundings {
                step: 0,
                day: 0.0,
                season: 0.0,
            },
            None,
        );
        self.lags = lags;
    }

    /// What the pump reported last.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Moves by one record, under the fault that acts at this step.
    pub fn step(&mut self, around: Surroundings, fault: Option<&PlantFault>) {
        let effects = fault.map_or(Effects::NONE, |fault| fault.effects(around.step));
        let rng = &mut self.rng;
        let demand = demand_of_day(around.day - self.build.phase)
            + SUMMER_DEMAND * around.season
            + self.demand.step(rng);
        let consumers = 1.0 + self.consumers.step(rng);
        let tank = self.build.tank + self.tank.step(rng);
        let air =
            22.0 - 4.0 * (TAU * around.day).cos() + SUMMER_AIR * around.season + self.air.step(rng);

        let [speed_lag, bearing_lag, winding_lag] = self.lags;
        self.speed += speed_lag * ((0.8 + 0.2 * demand).clamp(0.6, 1.1) - self.speed);
        let point = self.operating_point(&effects, consumers, tank);
        self.discharge = point.discharge;

        let square = self.speed * self.speed;
        let load = point.power / RATED_POWER;
        let bearing = air + self.build.heating * (18.0 * square + 8.0 * load) + effects.friction;
        self.bearing += bearing_lag * (bearing - self.bearing);
        let heat = (point.current / RATED_CURRENT).powi(2);
        let winding = air + self.build.heating * 55.0 * heat * effects.insulation;
        self.winding += winding_lag * (winding - self.winding);

        let off_best = point.flow / (RATED_FLOW * self.speed) - 1.0;
        let vibration = self.build.vibration
            * effects.vibration
            * (square * (1.2 + 2.0 * off_best * off_best) + 0.4 * load);

        let process = [
            point.flow - point.leak,
            point.suction,
            point.discharge,
            point.current,
            self.speed * RATED_SPEED,
            vibration,
            self.bearing,
            self.winding,
        ];
        self.report(process, around.step, fault);
    }

    /// Where the pump curve meets the curve of the pipes: `n^2 H0 - k Q^2 = Hs + R (Q - L)^2`, a
    /// quadratic in the flow Q through the impeller, with L the leak at the discharge pressure of
    /// one step before.
    fn operating_point(&mut self, effects: &Effects, consumers: f64, tank: f64) -> OperatingPoint {
        let mut head_factor = effects.head;
        if effects.turbulence > 0.0 {
            let gust: f64 = self.fault_rng.sample(StandardNormal);
            head_factor *= 1.0 + effects.turbulence * gust;
        }
        let shut_off = self.build.head * head_factor * self.speed * self.speed;
        let resistance = self.build.line_loss * consumers * effects.resistance;
        let leak = effects.leak * (self.discharge.max(0.0) / LEAK_PRESSURE).sqrt();

        let both = self.build.curve_loss + resistance;
        let spare = (shut_off - STATIC_HEAD - resistance * leak * leak).max(0.0);
        let half = resistance * leak / both;
        let flow = half + (half * half + spare / both).sqrt();

        let head = shut_off - self.build.curve_loss * flow * flow;
        let suction = tank - SUCTION_LOSS * flow * flow - effects.suction_loss;
        let off_best = flow / (RATED_FLOW * self.speed) - 1.0;
        let efficiency = self.build.efficiency * (1.0 - 0.8 * off_best * off_best).max(0.3);
        let friction = 0.5 * self.speed.powi(3) + 0.02 * effects.friction * self.speed;
        let power = KILOWATT_PER_METRE_FLOW * flow * head / efficiency + friction;
        // Below full frequency the drive lowers the voltage with the speed, so that a kilowatt
        // takes more current.
        let active = AMPERE_PER_KILOWATT * power / self.speed;
        let current = active.hypot(MAGNETISING_CURRENT);
        OperatingPoint {
            flow,
            leak,
            suction,
            discharge: suction + BAR_PER_METRE * head,
            power,
            current,
        }
    }

    /// Turns the process into readings: noise and offset of each sensor, its fault, its resolution.
    fn report(&mut self, process: Values, step: u64, fault: Option<&PlantFault>) {
        let previous = self.values;
        let mut values = process;
        for (index, value) in values.iter_mut().enumerate() {
            *value += self.build.offsets[index] + self.noise[index].step(&mut self.rng);
        }
        if let Some(fault) = fault {
            fault.distort(step, &previous, &mut values);
        }
        for (value, sensor) in values.iter_mut().zip(Sensor::ALL) {
            *value = sensor.quantise(*value);
        }
        self.values = values;
    }
}

impl Build {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let mut near = |mean: f64, sd: f64| {
            let deviation: f64 = rng.sample(StandardNormal);
            // Nobody installs a pump that is further off than this.
            mean * (1.0 + sd * deviation.clamp(-2.5, 2.5))
        };
        Self {
            head: near(SHUT_OFF_HEAD, 0.015),
            curve_loss: near(CURVE_LOSS, 0.03),
            line_loss: near(LINE_LOSS, 0.05),
            efficiency: near(0.75, 0.015),
            vibration: near(1.1, 0.08),
            heating: near(1.0, 0.04),
            tank: near(0.8, 0.06),
            phase: near(0.05, 0.4),
            offsets: Sensor::ALL.map(|sensor| near(0.1 * sensor.spread(), 1.0)),
        }
    }
}

/// Mean demand at a time of day (0 to 1): a smooth daily cycle, and a step at the change of each of
/// three shifts.
fn demand_of_day(day: f64) -> f64 {
    let day = day.rem_euclid(1.0);
    let shift = match (day * 3.0) as u32 {
        0 => -0.08,
        1 => 0.08,
        _ => 0.0,
    };
    0.55 - 0.22 * (TAU * day).cos() + shift
}

/// Standard deviation (in the sensor's unit) and memory (s) of a sensor's own noise.
fn sensor_noise(sensor: Sensor) -> (f64, f64) {
    match sensor {
        Sensor::Flow => (0.5, 2.0),
        Sensor::SuctionPressure => (0.004, 1.0),
        Sensor::DischargePressure => (0.015, 1.0),
        Sensor::MotorCurrent => (0.15, 1.5),
        Sensor::Speed => (1.5, 0.0),
        Sensor::Vibration => (0.05, 3.0),
        Sensor::BearingTemperature => (0.07, 5.0),
        Sensor::WindingTemperature => (0.12, 5.0),
    }
}
