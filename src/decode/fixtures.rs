//! Formats that the tests of the decode step share.

use crate::record::format::{FieldSettings, KeyFrom, RecordFormat, TimeFrom};

/// A field without a unit or bounds.
pub(super) fn field(name: &str, path: &[&str]) -> FieldSettings {
    let path = path.iter().map(|&key| key.to_owned()).collect();
    FieldSettings {
        path,
        ..FieldSettings::named(name)
    }
}

/// A format with key and time from Kafka and the fields given as (dotted path, name).
pub(super) fn format(fields: &[(&str, &str)]) -> RecordFormat {
    let named = |(path, name): &(&str, &str)| field(name, &path.split('.').collect::<Vec<_>>());
    RecordFormat::json(fields.iter().map(named).collect())
}

/// The example stream: a pump's flow, pressure and temperature, the last one nested.
pub(super) fn example() -> RecordFormat {
    let mut format = format(&[
        ("flow", "flow"),
        ("pressure", "pressure"),
        ("motor.temp", "temp"),
    ]);
    format.key = KeyFrom::Field(vec!["pump".to_owned()]);
    format.time = TimeFrom::Field(vec!["ts".to_owned()]);
    for (field, (unit, min, max)) in format.fields.iter_mut().zip([
        ("l/min", 0.0, 200.0),
        ("bar", -1.0, 25.0),
        ("degC", -40.0, f64::INFINITY),
    ]) {
        field.unit = Some(unit.to_owned());
        (field.min, field.max) = (min, max);
    }
    format
}
