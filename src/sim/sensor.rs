//! A sensor: one of the eight readings that a simulated pump reports, with its unit and resolution.

/// How many sensors a pump has.
pub const SENSORS: usize = 8;

/// One reading of each sensor, in the order of [`Sensor::ALL`] and in [`Sensor::unit`]s.
pub type Values = [f64; SENSORS];

/// The sensors of a pump.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Sensor {
    /// Delivered flow.
    Flow,
    /// Gauge pressure at the suction flange.
    SuctionPressure,
    /// Gauge pressure at the discharge flange.
    DischargePressure,
    /// Motor current.
    MotorCurrent,
    /// Shaft speed.
    Speed,
    /// Vibration velocity at the bearing housing, root mean square.
    Vibration,
    /// Temperature of the drive-end bearing.
    BearingTemperature,
    /// Temperature of the motor's winding.
    WindingTemperature,
}

impl_as_str!(Sensor);

impl Sensor {
    /// All of them, in the order of [`Values`].
    pub const ALL: [Self; SENSORS] = [
        Self::Flow,
        Self::SuctionPressure,
        Self::DischargePressure,
        Self::MotorCurrent,
        Self::Speed,
        Self::Vibration,
        Self::BearingTemperature,
        Self::WindingTemperature,
    ];

    /// Its place in [`Values`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The unit that it is labelled with in the records.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Flow => "m3/h",
            Self::SuctionPressure | Self::DischargePressure => "bar",
            Self::MotorCurrent => "A",
            Self::Speed => "rpm",
            Self::Vibration => "mm/s",
            Self::BearingTemperature | Self::WindingTemperature => "degC",
        }
    }

    /// Its resolution, as decimals: whole revolutions, tenths of a degree, millibars.
    pub fn decimals(self) -> u32 {
        match self {
            Self::Speed => 0,
            Self::BearingTemperature | Self::WindingTemperature => 1,
            Self::Flow | Self::MotorCurrent | Self::Vibration => 2,
            Self::SuctionPressure | Self::DischargePressure => 3,
        }
    }

    /// How many steps of its resolution make one unit: ten to the power of [`Sensor::decimals`].
    pub fn steps_per_unit(self) -> f64 {
        match self.decimals() {
            0 => 1.0,
            1 => 10.0,
            2 => 100.0,
            _ => 1_000.0,
        }
    }

    /// What a reading can be on a pump of this size: the range that the configuration of a stream
    /// declares.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::Flow => (0.0, 250.0),
            Self::SuctionPressure => (-1.0, 5.0),
            Self::DischargePressure => (-1.0, 16.0),
            Self::MotorCurrent => (0.0, 120.0),
            Self::Speed => (0.0, 3_600.0),
            Self::Vibration => (0.0, 50.0),
            Self::BearingTemperature => (-40.0, 150.0),
            Self::WindingTemperature => (-40.0, 200.0),
        }
    }

    /// Its movement over a normal day, as one rounded standard deviation: the measure of the sensor
    /// faults' sizes.
    pub fn spread(self) -> f64 {
        match self {
            Self::Flow => 7.0,
            Self::SuctionPressure => 0.05,
            Self::DischargePressure => 0.3,
            Self::MotorCurrent => 2.4,
            Self::Speed => 125.0,
            Self::Vibration => 0.16,
            Self::BearingTemperature => 4.5,
            Self::WindingTemperature => 6.5,
        }
    }

    /// `value` as a gateway would give it after somebody changed the unit: l/s, psi, mA, Hz, in/s
    /// or degrees Fahrenheit.
    pub fn in_other_unit(self, value: f64) -> f64 {
        match self {
            Self::Flow => value / 3.6,
            Self::SuctionPressure | Self::DischargePressure => value * 14.503_773_8,
            Self::MotorCurrent => value * 1_000.0,
            Self::Speed => value / 60.0,
            Self::Vibration => value / 25.4,
            Self::BearingTemperature | Self::WindingTemperature => value * 1.8 + 32.0,
        }
    }

    /// `value` at the sensor's resolution; the same number that its decimal text reads as.
    pub fn quantise(self, value: f64) -> f64 {
        let scale = self.steps_per_unit();
        (value * scale).round() / scale
    }
}
