//! A fault: what breaks on one pump, from when to when, and how badly.
//!
//! Machine faults act on the state of the process ([`Effects`]), so that all coupled sensors answer
//! as they would on a real pump. Sensor faults act on one reading only ([`PlantFault::distort`]),
//! so that the process gives the lie to it.

use super::sensor::{Sensor, Values};

/// What breaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PlantFaultKind {
    /// A bearing wears: vibration and bearing temperature grow over the whole fault.
    BearingWear,
    /// A clogged strainer: suction pressure falls, the liquid boils, head and current fluctuate,
    /// vibration rises.
    Cavitation,
    /// A leak between the pump and the flow meter that opens over the whole fault.
    Leak,
    /// Something narrows the discharge line within minutes.
    ValveBlockage,
    /// A vane breaks off: the pump curve is lower from one record to the next, and the rotor is out
    /// of balance.
    ImpellerDamage,
    /// The motor's fan fails: the winding grows hot at an unchanged load.
    CoolingLoss,
    /// A sensor repeats its last reading.
    Stuck(Sensor),
    /// A sensor is far off for a few records.
    Spike(Sensor, Direction),
    /// A sensor is off by a constant.
    Shift(Sensor, Direction),
    /// A sensor moves away over the whole fault.
    Drift(Sensor, Direction),
    /// A gateway sends a sensor in another unit under the old label.
    UnitChange(Sensor),
}

/// Which way a sensor is off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// It reads too much.
    Up,
    /// It reads too little.
    Down,
}

impl Direction {
    fn sign(self) -> f64 {
        match self {
            Self::Up => 1.0,
            Self::Down => -1.0,
        }
    }
}

impl PlantFaultKind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::BearingWear => "bearing wear",
            Self::Cavitation => "cavitation",
            Self::Leak => "leak",
            Self::ValveBlockage => "valve blockage",
            Self::ImpellerDamage => "impeller damage",
            Self::CoolingLoss => "cooling loss",
            Self::Stuck(_) => "sensor stuck",
            Self::Spike(..) => "sensor spike",
            Self::Shift(..) => "sensor shift",
            Self::Drift(..) => "sensor drift",
            Self::UnitChange(_) => "unit change",
        }
    }

    /// The sensor that is broken; `None` where the machine is.
    pub fn sensor(self) -> Option<Sensor> {
        match self {
            Self::Stuck(sensor)
            | Self::Spike(sensor, _)
            | Self::Shift(sensor, _)
            | Self::Drift(sensor, _)
            | Self::UnitChange(sensor) => Some(sensor),
            _ => None,
        }
    }

    /// Whether it comes in sizes: a sensor is stuck, or in another unit, or it is not.
    pub fn has_sizes(self) -> bool {
        !matches!(self, Self::Stuck(_) | Self::UnitChange(_))
    }

    /// How many records it lasts, shortest and longest.
    pub fn lasts(self) -> (u64, u64) {
        match self {
            Self::BearingWear => (1_200, 2_400),
            Self::Leak | Self::CoolingLoss | Self::Drift(..) => (900, 1_800),
            Self::ValveBlockage => (600, 1_200),
            Self::Cavitation | Self::ImpellerDamage | Self::Stuck(_) | Self::Shift(..) => {
                (300, 900)
            }
            Self::UnitChange(_) => (120, 600),
            Self::Spike(..) => (1, 5),
        }
    }
}

/// How bad a fault becomes: each size is twice the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum FaultSize {
    /// Within the normal movement of most sensors: some are seen only against the couplings.
    Small,
    /// Visible to an operator of that pump.
    Medium,
    /// Outside the normal movement of a sensor: clear to everybody.
    Large,
}

impl_as_str!(FaultSize);

impl FaultSize {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    fn factor(self) -> f64 {
        match self {
            Self::Small => 1.0,
            Self::Medium => 2.0,
            Self::Large => 4.0,
        }
    }
}

/// One fault of one pump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlantFault {
    /// Index of the pump in the fleet.
    pub pump: usize,
    /// What breaks.
    pub kind: PlantFaultKind,
    /// How badly; means nothing where [`PlantFaultKind::has_sizes`] is false.
    pub size: FaultSize,
    /// Number of the first record that it acts on.
    pub start: u64,
    /// Number of the first record after it: it is repaired at once.
    pub end: u64,
}

/// What a machine fault does to the process of a pump.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Effects {
    /// The head of the pump curve is multiplied by this.
    pub head: f64,
    /// Relative standard deviation of fast fluctuations of the head.
    pub turbulence: f64,
    /// Flow that leaks away before the flow meter at the rated discharge pressure, m3/h.
    pub leak: f64,
    /// The resistance of the discharge line is multiplied by this.
    pub resistance: f64,
    /// Pressure lost in the suction line on top of the normal loss, bar.
    pub suction_loss: f64,
    /// Friction of the bearing on top of the normal one, as heating in kelvin.
    pub friction: f64,
    /// The vibration is multiplied by this.
    pub vibration: f64,
    /// The heat resistance from the winding to the air is multiplied by this.
    pub insulation: f64,
}

impl Effects {
    /// A healthy machine.
    pub const NONE: Self = Self {
        head: 1.0,
        turbulence: 0.0,
        leak: 0.0,
        resistance: 1.0,
        suction_loss: 0.0,
        friction: 0.0,
        vibration: 1.0,
        insulation: 1.0,
    };
}

/// Records in which a fault that comes on fast reaches its full size.
const ONSET_RECORDS: f64 = 60.0;
/// The shifts and drifts of a sensor in [`Sensor::spread`]s for the smallest size.
const SHIFT_SPREADS: f64 = 1.0;
/// The same for spikes.
const SPIKE_SPREADS: f64 = 6.0;

impl PlantFault {
    /// Whether it acts on the record number `step`.
    pub fn acts_on(&self, step: u64) -> bool {
        (self.start..self.end).contains(&step)
    }

    /// Part of the fault's time that has passed at `step`, above 0 and at most 1.
    fn progress(&self, step: u64) -> f64 {
        let passed = step.saturating_sub(self.start) + 1;
        let whole = self.end.saturating_sub(self.start).max(1);
        (passed as f64 / whole as f64).min(1.0)
    }

    /// What it does to the process at `step`, at which it acts; [`Effects::NONE`] for sensor
    /// faults.
    pub fn effects(&self, step: u64) -> Effects {
        let size = self.size.factor();
        let slow = size * self.progress(step);
        let fast = size * ((step.saturating_sub(self.start) + 1) as f64 / ONSET_RECORDS).min(1.0);
        match self.kind {
            PlantFaultKind::BearingWear => Effects {
                vibration: 1.0 + 0.25 * slow,
                friction: 3.0 * slow,
                ..Effects::NONE
            },
            PlantFaultKind::Cavitation => Effects {
                suction_loss: 0.06 * fast,
                head: 1.0 - 0.012 * fast,
                turbulence: 0.012 * fast,
                vibration: 1.0 + 0.2 * fast,
                ..Effects::NONE
            },
            PlantFaultKind::Leak => Effects {
                leak: 8.0 * slow,
                ..Effects::NONE
            },
            PlantFaultKind::ValveBlockage => Effects {
                resistance: 1.0 + 0.2 * fast,
                ..Effects::NONE
            },
            PlantFaultKind::ImpellerDamage => Effects {
                head: 1.0 - 0.02 * size,
                vibration: 1.0 + 0.1 * size,
                ..Effects::NONE
            },
            PlantFaultKind::CoolingLoss => Effects {
                insulation: 1.0 + 0.08 * fast,
                ..Effects::NONE
            },
            PlantFaultKind::Stuck(_)
            | PlantFaultKind::Spike(..)
            | PlantFaultKind::Shift(..)
            | PlantFaultKind::Drift(..)
            | PlantFaultKind::UnitChange(_) => Effects::NONE,
        }
    }

    /// What it does to the readings at `step`, at which it acts; `previous` is what the pump
    /// reported one record before. The process is not touched, and machine faults change nothing
    /// here.
    pub fn distort(&self, step: u64, previous: &Values, values: &mut Values) {
        let Some(sensor) = self.kind.sensor() else {
            return;
        };
        let value = &mut values[sensor.index()];
        let spreads = self.size.factor() * sensor.spread();
        match self.kind {
            PlantFaultKind::Stuck(_) => *value = previous[sensor.index()],
            PlantFaultKind::Spike(_, direction) => {
                *value += direction.sign() * SPIKE_SPREADS * spreads
            }
            PlantFaultKind::Shift(_, direction) => {
                *value += direction.sign() * SHIFT_SPREADS * spreads
            }
            PlantFaultKind::Drift(_, direction) => {
                *value += direction.sign() * SHIFT_SPREADS * spreads * self.progress(step)
            }
            PlantFaultKind::UnitChange(_) => *value = sensor.in_other_unit(*value),
            _ => {}
        }
    }
}
