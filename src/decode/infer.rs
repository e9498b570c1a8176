//! What a topic's messages look like: the format that reads them, found from some hundreds of them, for
//! `outlierd init`.
//!
//! The answers are guesses from the data: an encoding that reads every message, the array whose elements
//! look like records or tags, a place that reads as a time and does not fall, a text that names few
//! series. What was not sure is a note beside the setting.

mod columns;
mod config;
mod places;
mod shape;
mod times;

use serde_json::Value;

use self::columns::table_of;
use self::places::{Place, Places};
use self::shape::Shape;
use super::encoding::Encoding;
use super::unpack::unpacked;
use crate::record::Message;
use crate::record::format::{Format, KeyFrom, RecordFormat, TimeFrom};

/// Values that are looked at, at most.
const VALUES_MAX: usize = 20_000;
/// Share of the messages that an encoding has to read.
const READ_SHARE: f64 = 0.95;

/// What was found.
pub struct InferredFormat {
    /// The format of the records.
    pub record: RecordFormat,
    /// The period of rows, where tags come one by one or at rates of their own; in seconds.
    pub resample_s: Option<f64>,
    /// Typical time between two records of a series, in seconds.
    pub period_s: Option<f64>,
    /// What a reader of the configuration should know, one sentence each.
    pub notes: Vec<String>,
    /// By field, what was seen of it.
    pub ranges: Vec<String>,
    /// Places that hold texts of few kinds: states, which are no readings.
    pub states: Vec<String>,
}

/// Finds the format of messages.
///
/// # Errors
/// What is wrong with them, in words.
pub fn infer(messages: &[Message<'_>]) -> Result<InferredFormat, String> {
    let payloads = messages.iter().filter_map(|message| message.payload);
    let payloads: Vec<_> = payloads
        .map(|payload| unpacked(payload, usize::MAX / 2))
        .collect::<Result<_, _>>()
        .map_err(|problem| problem.detail)?;
    if payloads.is_empty() {
        return Err("there is no message with a value".to_owned());
    }
    let mut record = RecordFormat::json(Vec::new());
    let mut notes = Vec::new();
    let payloads: Vec<&[u8]> = payloads.iter().map(|payload| &**payload).collect();
    encoding(&payloads, &mut record, &mut notes)?;
    if record.format.is_image() {
        record.key = key_of_messages(messages);
        return Ok(InferredFormat::of_images(record, notes));
    }
    let values = values(messages, &record);
    let shape = Shape::of(values, &mut record, &mut notes)?;
    let places = Places::of(&shape.records, record.decimal_comma);
    times::find(&places, &shape.records, &mut record, &mut notes);
    key(&places, messages, &mut record);
    let found = places.readings(&record);
    if found.is_empty() {
        let names = places.names().join(", ");
        return Err(format!(
            "no place of the records holds numbers; they have {names}"
        ));
    }
    let period_s = times::period(&shape.records, &record, messages, shape.is_tag);
    Ok(InferredFormat::of(record, shape, &places, period_s, notes))
}

/// The encoding that reads the messages.
fn encoding(
    payloads: &[&[u8]],
    record: &mut RecordFormat,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let is_image =
        |payload: &&[u8]| payload.starts_with(b"\x89PNG") || payload.starts_with(b"\xFF\xD8\xFF");
    if payloads.iter().all(is_image) {
        record.format = Format::Image;
        return Ok(());
    }
    for format in [Format::Json, Format::Influx, Format::Msgpack] {
        record.format = format;
        let encoding = Encoding::new(record);
        let reads = |payload: &&&[u8]| {
            let values = encoding.values(payload).unwrap_or_default();
            let is_record = |value: &Result<Value, _>| {
                value
                    .as_ref()
                    .is_ok_and(|value| value.is_object() || value.is_array())
            };
            !values.is_empty() && values.iter().all(is_record)
        };
        let read = payloads.iter().filter(reads).count();
        if read as f64 >= READ_SHARE * payloads.len() as f64 {
            return Ok(());
        }
    }
    if table_of(payloads, record, notes) {
        return Ok(());
    }
    let first = payloads.first().map_or(&[][..], |payload| payload);
    let begin = String::from_utf8_lossy(first.get(..first.len().min(40)).unwrap_or(first));
    Err(format!(
        "the messages are in no encoding that is known without a schema: JSON, line protocol, MessagePack, CSV, PNG or JPEG; the first one begins with {:?}",
        begin
    ))
}

/// The values of the messages, each message's in its order; `null` of a tombstone.
fn values(messages: &[Message<'_>], record: &RecordFormat) -> Vec<Value> {
    let encoding = Encoding::new(record);
    let of = |message: &Message<'_>| {
        let payload = message
            .payload
            .and_then(|payload| unpacked(payload, usize::MAX / 2).ok());
        let found = payload.and_then(|payload| encoding.values(&payload).ok());
        found.unwrap_or_else(|| vec![Ok(Value::Null)])
    };
    let all = messages.iter().flat_map(of).filter_map(Result::ok);
    all.take(VALUES_MAX).collect()
}

/// The source of the series key: the Kafka key where it names few series, or a place that does.
fn key(places: &Places, messages: &[Message<'_>], record: &mut RecordFormat) {
    let by_message = key_of_messages(messages);
    let place = || {
        let named = places.all().iter().filter(|place| place.names_series());
        named.max_by_key(|place| place.key_rank()).map(Place::path)
    };
    record.key = match by_message {
        KeyFrom::Kafka => KeyFrom::Kafka,
        other => place().map_or(other, KeyFrom::Field),
    };
    if let (KeyFrom::Field(key), TimeFrom::Field(time)) = (&record.key, &record.time)
        && key == time
    {
        record.key = KeyFrom::Partition;
    }
}

/// The Kafka key where each message has one and few are different, else the partition.
fn key_of_messages(messages: &[Message<'_>]) -> KeyFrom {
    let keys = messages.iter().map(|message| message.key);
    let Some(keys) = keys.collect::<Option<Vec<_>>>() else {
        return KeyFrom::Partition;
    };
    let is_text = |key: &&[u8]| std::str::from_utf8(key).is_ok_and(|key| !key.is_empty());
    let distinct: std::collections::HashSet<_> = keys.iter().collect();
    match keys.iter().all(is_text) && 4 * distinct.len() <= keys.len().max(4) {
        true => KeyFrom::Kafka,
        false => KeyFrom::Partition,
    }
}

#[cfg(test)]
mod tests;
