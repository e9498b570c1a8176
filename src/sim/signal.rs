//! Signals as plants send them: what the records of a healthy pump look like beside its faults.

use super::fault::{Direction, FaultSize, PlantFault, PlantFaultKind};
use super::sensor::{Sensor, Values};

/// Part of the working day that is over when a machine is turned off for the night.
const NIGHT: f64 = 0.75;
/// Steps of a coarse thermometer, in kelvin.
const COARSE_STEP: f64 = 2.0;

/// The signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::VariantArray)]
pub enum Signal {
    /// The machine is off in the last quarter of each working day: its readings are 0, but for the
    /// temperatures.
    OffAtNight,
    /// The thermometers have steps of 2 K.
    CoarseSensors,
    /// The flow meter is lost while a bearing wears.
    LostSensor,
    /// The motor's fan fails and is not repaired.
    LastingFault,
}

/// When something is planted, in records of a pump: from the first to the one after the last.
pub type Records = std::ops::Range<u64>;

impl Signal {
    /// All of them.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::OffAtNight => "off at night",
            Self::CoarseSensors => "steps of 2 K",
            Self::LostSensor => "sensor lost",
            Self::LastingFault => "lasting fault",
        }
    }

    /// The fault of pump number `pump` in the records `within`, of which `day` make a working day.
    pub fn fault(self, pump: usize, within: &Records, day: u64) -> PlantFault {
        let left = within.end.saturating_sub(within.start);
        let third = within.start + left / 3;
        let (kind, size, start, length) = match self {
            Self::OffAtNight => {
                // By day.
                let start = third.next_multiple_of(day.max(1)) + day / 8;
                let kind = PlantFaultKind::Stuck(Sensor::DischargePressure);
                (kind, FaultSize::Medium, start, day / 2)
            }
            Self::CoarseSensors => {
                let kind = PlantFaultKind::Shift(Sensor::BearingTemperature, Direction::Up);
                (kind, FaultSize::Large, third, day)
            }
            Self::LostSensor => (
                PlantFaultKind::BearingWear,
                FaultSize::Medium,
                third,
                2 * day,
            ),
            Self::LastingFault => (PlantFaultKind::CoolingLoss, FaultSize::Large, third, left),
        };
        PlantFault {
            pump,
            kind,
            size,
            start: start.min(within.end),
            end: start.saturating_add(length).min(within.end),
        }
    }

    /// The records without the flow meter, of a pump whose bearing wears in the records `fault`: the
    /// half in the middle.
    pub fn lost(self, fault: &Records) -> Option<Records> {
        let quarter = fault.end.saturating_sub(fault.start) / 4;
        (self == Self::LostSensor).then(|| fault.start + quarter..fault.end - quarter)
    }

    /// Changes the readings of a record number `step`, at which the part `day` of the working day is
    /// over; a reading that is lost becomes NaN. `fault` has the records with the fault.
    pub fn change(self, step: u64, day: f64, fault: &Records, values: &mut Values) {
        match self {
            Self::OffAtNight if day >= NIGHT => {
                let runs = |sensor: &Sensor| {
                    !matches!(
                        sensor,
                        Sensor::BearingTemperature | Sensor::WindingTemperature
                    )
                };
                for sensor in Sensor::ALL.iter().filter(|sensor| runs(sensor)) {
                    values[sensor.index()] = 0.0;
                }
            }
            Self::CoarseSensors => {
                for sensor in [Sensor::BearingTemperature, Sensor::WindingTemperature] {
                    let value = &mut values[sensor.index()];
                    *value = (*value / COARSE_STEP).round() * COARSE_STEP;
                }
            }
            Self::LostSensor if self.lost(fault).is_some_and(|lost| lost.contains(&step)) => {
                values[Sensor::Flow.index()] = f64::NAN;
            }
            Self::OffAtNight | Self::LostSensor | Self::LastingFault => {}
        }
    }
}
