//! An alert in one sentence, for people.
//!
//! Contract: the sentence depends on the other fields of the alert alone, so that the same alert
//! reads the same everywhere. Times are UTC, with their date where it is not that of the event.
//! Readings are rounded to three significant digits, or to as many as show how the reading differs
//! from the expected one. Lists are cut after [`LISTED`] entries.

use jiff::Timestamp;

use super::{Alert, AlertEvent, AlertKind, ChartKind, CloseReason, FieldFault, FieldShare};
use crate::record::FaultKind;

/// Entries of a list that a sentence names.
const LISTED: usize = 2;
/// Part of the score from which on a field is named beside the leading one.
const SHARE_NAMED: f64 = 0.1;
/// Significant digits of a reading.
const DIGITS: i32 = 3;
/// Significant digits of the difference between a reading and the expected one.
const DIGITS_APART: i32 = 1;
/// Significant digits of a reading at most, however near the expected one is.
const DIGITS_MAX: i32 = 5;
/// Digits after the point at most.
const PLACES_MAX: usize = 9;
/// Readings from here on, and below the second one, are written with an exponent.
const EXPONENT: (f64, f64) = (1e9, 1e-4);

/// The sentence of an alert.
pub(super) fn of(alert: &Alert) -> String {
    let sentence = match (alert.event, alert.kind) {
        (AlertEvent::Close, _) => closed(alert),
        (_, AlertKind::Anomaly) => anomaly(alert),
        (_, AlertKind::SensorFault) => sensor_fault(alert),
        (_, AlertKind::Silence) => silence(alert),
        (_, AlertKind::DetectorDegraded) => detector_degraded(alert),
        (_, AlertKind::OutOfTrainingRange) => outside(alert),
        (_, AlertKind::UnusableRecords) => format!(
            "None of the records of stream {} could be used for a minute",
            alert.stream
        ),
    };
    sentence + "."
}

fn anomaly(alert: &Alert) -> String {
    let mut sentence = match (alert.regions.first(), alert.fields.first()) {
        (Some(region), _) => {
            let more = more(alert.regions.len().saturating_sub(1), "region");
            format!(
                "The image of {} deviates at {} x {} pixels from ({}, {}){more}",
                alert.series, region.width, region.height, region.x, region.y
            )
        }
        (None, Some(field)) => leading(alert, field),
        (None, None) => format!("{} deviates from its normal records", alert.series),
    };
    sentence += &since(alert);
    sentence += &moved_too(&alert.fields);
    if let Some(ratio) = alert.ratio {
        sentence += &format!("; score {} times the threshold", ratio_text(ratio));
    }
    sentence += &match (alert.provisional, alert.missing_records) {
        (false, _) => String::new(),
        (true, 0) => " (provisional: more alerts than the budget allows)".to_owned(),
        (true, missing) => format!(" (provisional for {missing} more records)"),
    };
    sentence
}

/// What the field with the largest share of the score does.
fn leading(alert: &Alert, field: &FieldShare) -> String {
    let (value, expected) = pair(field);
    let unit = unit(field.unit.as_deref());
    let (name, series) = (&field.name, &alert.series);
    let still = match alert.event {
        AlertEvent::Update => "still ",
        _ => "",
    };
    match alert.chart {
        Some(ChartKind::Variance) => {
            format!(
                "{name} of {series} {still}varies unusually (now {value}{unit}, expected {expected})"
            )
        }
        Some(ChartKind::Adjusted) => format!(
            "{name} of {series} {still}does not fit the other fields (now {value}{unit}, expected {expected})"
        ),
        _ if value == expected => {
            format!("{name} of {series} {still}deviates (now {value}{unit}, as expected)")
        }
        _ => format!(
            "{name} of {series} {still}reads {value}{unit} where {expected}{unit} is expected"
        ),
    }
}

/// The fields that deviate beside the leading one.
fn moved_too(fields: &[FieldShare]) -> String {
    let others: Vec<&FieldShare> = fields
        .iter()
        .skip(1)
        .filter(|field| field.share >= SHARE_NAMED)
        .collect();
    let readings = |field: &FieldShare| {
        let (value, expected) = pair(field);
        let unit = unit(field.unit.as_deref());
        format!("({value}{unit}, expected {expected})")
    };
    match others[..] {
        [] => String::new(),
        [field] => format!("; {} moved too {}", field.name, readings(field)),
        _ => {
            let of = |field: &&FieldShare| format!("{} {}", field.name, readings(field));
            format!("; {} moved too", list(&others, of))
        }
    }
}

fn sensor_fault(alert: &Alert) -> String {
    let Some(fault) = alert.faults.first() else {
        return format!("A sensor of {} is faulty{}", alert.series, since(alert));
    };
    let is_standstill = |fault: &&FieldFault| fault.kind == FaultKind::Standstill;
    let still = alert.faults.iter().filter(is_standstill).count();
    let (mut sentence, others): (String, Vec<&FieldFault>) =
        match alert.faults.iter().find(is_standstill) {
            Some(fault) => (
                standstill(alert, fault, still),
                alert
                    .faults
                    .iter()
                    .filter(|fault| !is_standstill(fault))
                    .collect(),
            ),
            None => (faulty(alert, fault), alert.faults.iter().skip(1).collect()),
        };
    sentence += &since(alert);
    if !others.is_empty() {
        let of = |fault: &&FieldFault| format!("{} ({})", fault.name, kind(fault.kind));
        let verb = if others.len() == 1 { "is" } else { "are" };
        sentence += &format!("; {} {verb} faulty too", list(&others, of));
    }
    if alert.not_scored {
        sentence += "; its records are not scored until at least half of the fields are usable";
    }
    sentence
}

/// What is wrong with a sensor.
fn faulty(alert: &Alert, fault: &FieldFault) -> String {
    let (name, series) = (&fault.name, &alert.series);
    let unit = unit(fault.unit.as_deref());
    let value = fault.value.map_or_else(|| "a reading".to_owned(), exact);
    let of = format!("{name} of {series}");
    match fault.kind {
        FaultKind::Missing => format!("{of} is missing"),
        FaultKind::NonFinite => format!("{of} is not a finite number"),
        FaultKind::OutOfRange => {
            format!("{of} reads {value}{unit}, outside of its physical range")
        }
        FaultKind::Stuck | FaultKind::Standstill => {
            format!("{of} is stuck at {value}{unit}{}", for_records(fault))
        }
        FaultKind::Sentinel => format!("{of} sends {value} in place of a reading"),
        FaultKind::Flat => format!("{of} hardly changes any more (now {value}{unit})"),
        FaultKind::ScaleJump => {
            format!("{of} reads {value}{unit}, which is normal only in another unit or scale")
        }
        FaultKind::CounterReset => format!("{of}, a counter, fell to {value}{unit}"),
        FaultKind::Jump => format!("{of} jumped to {value}{unit}"),
        FaultKind::Spike => format!("{of} had a spike of {value}{unit}"),
        FaultKind::CalibrationDoubtful => format!(
            "{of} varies as the other sensors do, its calibration is doubtful, and it is scored again"
        ),
    }
}

fn standstill(alert: &Alert, fault: &FieldFault, fields: usize) -> String {
    let unit = unit(fault.unit.as_deref());
    let at = fault.value.map_or_else(String::new, |value| {
        format!(
            " ({} at {}{unit}{})",
            fault.name,
            exact(value),
            for_records(fault)
        )
    });
    let fields = match fields {
        1 => "1 field does not change".to_owned(),
        fields => format!("{fields} fields do not change"),
    };
    format!(
        "{} is at a standstill or repeats its last readings: {fields}{at}",
        alert.series
    )
}

fn for_records(fault: &FieldFault) -> String {
    let records = |repeats| format!(" for {repeats} records");
    fault.repeats.map_or_else(String::new, records)
}

fn kind(kind: FaultKind) -> String {
    kind.as_str().replace('_', " ")
}

/// Who is silent: a series, a gateway or the topic.
fn silent(alert: &Alert) -> String {
    match (alert.series.strip_suffix("/*"), alert.records) {
        _ if alert.series == "*" => format!("Topic {}", alert.position.topic),
        (Some(gateway), 0) => format!("Gateway {gateway}"),
        (Some(gateway), series) => format!("Gateway {gateway} with all of its {series} series"),
        (None, _) => format!("Series {}", alert.series),
    }
}

fn silence(alert: &Alert) -> String {
    let due = match alert.since.as_deref() {
        Some(since) if since != alert.opened_at => {
            format!("; a record was due by {}", time(&alert.opened_at, alert))
        }
        _ => String::new(),
    };
    format!("{} has sent no record{}{due}", silent(alert), since(alert))
}

fn detector_degraded(alert: &Alert) -> String {
    format!(
        "The detector of stream {} would miss faults that its model detected in the promotion tests{}; {} series were tested",
        alert.stream,
        since(alert),
        alert.records
    )
}

fn outside(alert: &Alert) -> String {
    let Some(field) = alert.outside.first() else {
        return format!(
            "{} is outside of its training range{}",
            alert.series,
            since(alert)
        );
    };
    let unit = unit(field.unit.as_deref());
    let [low, high] = field.trained;
    let apart = decimals(high - low, DIGITS);
    let mut sentence = format!(
        "{} of {} reads {}{unit}, far outside of its training range of {} to {}{unit}{}",
        field.name,
        alert.series,
        written(field.value, apart),
        written(low, apart),
        written(high, apart),
        since(alert)
    );
    let others: Vec<&str> = (alert.outside.iter().skip(1).map(|field| &*field.name)).collect();
    if !others.is_empty() {
        sentence += &format!("; {} too", list(&others, |name| (*name).to_owned()));
    }
    sentence + "; the model knows nothing of such readings until it is trained on them"
}

/// Why an alert closed, and how long it lasted.
fn closed(alert: &Alert) -> String {
    let series = &alert.series;
    let why = match (alert.close_reason, alert.kind) {
        (Some(CloseReason::Forgotten), _) => {
            format!("{series} is forgotten after retention.forget_after without a record")
        }
        (Some(CloseReason::CalibrationDoubtful), _) => match alert.faults.first() {
            Some(fault) => faulty(alert, fault),
            None => format!("The sensors of {series} are scored again"),
        },
        (Some(CloseReason::Ended), _) => {
            format!(
                "{} has ended: another series has begun in its place",
                silent(alert)
            )
        }
        (Some(CloseReason::Returned), _) => {
            format!("{series} is back where it was before the fault")
        }
        (Some(CloseReason::LevelShift), _) => format!("{series} is steady again, at another level"),
        (Some(CloseReason::AcceptedAsNormal), _) => {
            format!("The level of {series} is accepted as normal after threshold.level_shift_after")
        }
        (_, AlertKind::Anomaly) => format!("{series} is back to normal"),
        (_, AlertKind::SensorFault) => format!("All sensors of {series} are usable again"),
        (_, AlertKind::Silence) => format!("{} sends again", silent(alert)),
        (_, AlertKind::DetectorDegraded) => format!(
            "The detector of stream {} detects the faults of its promotion tests again",
            alert.stream
        ),
        (_, AlertKind::OutOfTrainingRange) => {
            format!("The readings of {series} are back in their training range, or trained on")
        }
        (_, AlertKind::UnusableRecords) => {
            format!("Records of stream {} can be used again", alert.stream)
        }
    };
    let mut sentence = why + &lasted(alert);
    if alert.kind == AlertKind::Anomaly {
        let peak = alert.peak_ratio.map_or_else(String::new, |peak| {
            format!(", at most {} times the threshold", ratio_text(peak))
        });
        let records = match alert.records {
            1 => "1 outlier".to_owned(),
            records => format!("{records} outliers"),
        };
        sentence += &format!(": {records}{peak}");
    }
    sentence
}

/// The time of an alert that closed, from its beginning to its end.
fn lasted(alert: &Alert) -> String {
    let began = alert.since.as_deref().unwrap_or(&alert.opened_at);
    let end = alert.closed_at.as_deref().unwrap_or(&alert.time);
    let what = match alert.kind {
        AlertKind::Anomaly => "anomaly",
        AlertKind::SensorFault => "sensor fault",
        AlertKind::Silence => "silence",
        AlertKind::DetectorDegraded => "degradation",
        AlertKind::OutOfTrainingRange => "excursion",
        AlertKind::UnusableRecords => "time without a usable record",
    };
    let span = match (began.parse::<Timestamp>(), end.parse::<Timestamp>()) {
        (Ok(began), Ok(end)) => duration(end.as_second() - began.as_second()),
        _ => String::new(),
    };
    format!(
        "; the {what} lasted {span}from {} to {}",
        time(began, alert),
        time(end, alert)
    )
}

/// The beginning of an alert.
fn since(alert: &Alert) -> String {
    let began = alert.since.as_deref().unwrap_or(&alert.opened_at);
    format!(" since {}", time(began, alert))
}

/// A time of an alert to the second, without the date where it is that of the event.
fn time(text: &str, alert: &Alert) -> String {
    let Ok(time) = text.parse::<Timestamp>() else {
        return text.to_owned();
    };
    let today = alert.time.parse::<Timestamp>().ok();
    let is_today = today.is_some_and(|today| day(today) == day(time));
    let form = if is_today {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    format!("{} UTC", time.strftime(form))
}

fn day(time: Timestamp) -> i64 {
    time.as_second().div_euclid(86_400)
}

/// A number of seconds in its two largest units; empty where it is negative, as after a clock that
/// was set back.
fn duration(seconds: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    if seconds < 0 {
        return String::new();
    }
    let mut left = seconds;
    let mut parts = Vec::new();
    for (length, unit) in UNITS {
        if left >= length && parts.len() < 2 {
            parts.push(format!("{} {unit}", left / length));
        } else if !parts.is_empty() {
            break;
        }
        left %= length;
    }
    match parts.is_empty() {
        true => "less than 1 s ".to_owned(),
        false => parts.join(" ") + " ",
    }
}

/// Entries of a list, [`LISTED`] of them at most, and how many more there are.
fn list<T>(entries: &[T], of: impl Fn(&T) -> String) -> String {
    let named: Vec<String> = entries.iter().take(LISTED).map(of).collect();
    let left = entries.len().saturating_sub(LISTED);
    match (named.split_last(), left) {
        (Some((last, [])), 0) => last.clone(),
        (Some((last, before)), 0) => format!("{} and {last}", before.join(", ")),
        _ => format!("{}{}", named.join(", "), more(left, "field")),
    }
}

fn more(count: usize, what: &str) -> String {
    match count {
        0 => String::new(),
        1 => format!(" and 1 more {what}"),
        count => format!(" and {count} more {what}s"),
    }
}

fn unit(unit: Option<&str>) -> String {
    unit.map_or_else(String::new, |unit| format!(" {unit}"))
}

fn ratio_text(ratio: f64) -> String {
    written(ratio, decimals(ratio, 2).min(2))
}

/// The reading of a field and the expected one, with the same number of decimal places.
fn pair(field: &FieldShare) -> (String, String) {
    let largest = field.value.abs().max(field.expected.abs());
    let apart = (field.value - field.expected).abs();
    let places = decimals(largest, DIGITS)
        .max(decimals(apart, DIGITS_APART))
        .min(decimals(largest, DIGITS_MAX));
    (
        written(field.value, places),
        written(field.expected, places),
    )
}

/// The decimal places of a number with so many significant digits; negative where digits before the
/// point are rounded too.
fn decimals(x: f64, digits: i32) -> i32 {
    if x == 0.0 || !x.is_finite() {
        return i32::MIN;
    }
    // The exponent is exact, other than that of a logarithm.
    let text = format!("{x:e}");
    let exponent = text
        .split_once('e')
        .and_then(|(_, e)| e.parse::<i32>().ok());
    digits - 1 - exponent.unwrap_or(0)
}

/// A number with so many decimal places.
fn written(x: f64, places: i32) -> String {
    let size = x.abs();
    if size >= EXPONENT.0 || (size > 0.0 && size < EXPONENT.1) {
        return format!("{x:.2e}");
    }
    let text = match usize::try_from(places) {
        Ok(places) => format!("{x:.0$}", places.min(PLACES_MAX)),
        Err(_) => {
            let step = 10f64.powi(places.saturating_neg().min(9));
            format!("{:.0}", (x / step).round() * step)
        }
    };
    // No reading is a negative zero.
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|digit| matches!(digit, b'0' | b'.')) => rest.to_owned(),
        _ => text,
    }
}

/// A single reading: as it is where it has few digits, as a sentinel has, else rounded.
fn exact(x: f64) -> String {
    const LENGTH_MAX: usize = 10;
    let text = format!("{}", x + 0.0);
    match text.len() <= LENGTH_MAX {
        true => text,
        false => written(x, decimals(x, DIGITS + 1)),
    }
}

#[cfg(test)]
mod tests;
