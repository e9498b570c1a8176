//! What all formats have in common: the payload, and series and event time, from the Kafka key, the
//! timestamp, a header, or what was found in the payload.

use std::borrow::Cow;

use super::DecodeProblem;
use super::text::{check_key, quoted};
use super::time::{self, TimeReader};
use crate::record::format::{KeyFrom, TimeFrom};
use crate::record::{Message, ReadTime, RejectReason};

/// The byte order mark, which some gateways put in front of each message.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The payload, which is there and not too long; `allowed` is what it should be.
pub(super) fn payload<'a>(
    message: &Message<'a>,
    bytes_max: usize,
    allowed: &str,
) -> Result<&'a [u8], DecodeProblem> {
    let Some(payload) = message.payload else {
        return Err(DecodeProblem::new(
            RejectReason::Empty,
            format!("no payload (a tombstone); {allowed} is allowed"),
        ));
    };
    if payload.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    match payload {
        bytes if bytes.is_empty() || bytes == BOM => Err(DecodeProblem::new(
            RejectReason::Empty,
            format!("an empty payload; {allowed} is allowed"),
        )),
        payload => Ok(payload),
    }
}

/// A payload above the bound.
pub(super) fn too_large(bytes_max: usize) -> DecodeProblem {
    let detail = format!(
        "the payload is longer than the allowed {bytes_max} bytes; see `record.max_payload_bytes`"
    );
    DecodeProblem::new(RejectReason::TooLarge, detail)
}

/// A payload as text, without its byte order mark.
pub(super) fn text(payload: &[u8]) -> Result<&str, DecodeProblem> {
    let payload = payload.strip_prefix(BOM).unwrap_or(payload);
    std::str::from_utf8(payload).map_err(|error| {
        let at = error.valid_up_to();
        let byte = payload.get(at).copied().unwrap_or_default();
        let detail = format!(
            "byte {at} of the payload is 0x{byte:02X}, which is not UTF-8; only UTF-8 is allowed"
        );
        DecodeProblem::new(RejectReason::NotUtf8, detail)
    })
}

/// The series; `found` is the value in the payload at the path of `from`.
pub(super) fn series<'a>(
    from: &KeyFrom,
    message: &Message<'a>,
    found: Option<Cow<'a, str>>,
) -> Result<Cow<'a, str>, DecodeProblem> {
    match from {
        KeyFrom::Field(path) => found.ok_or_else(|| {
            let detail = format!(
                "series key `{}` is absent or null; expected a string or an integer",
                path.join(".")
            );
            DecodeProblem::new(RejectReason::MissingKey, detail)
        }),
        KeyFrom::Partition => Ok(Cow::Owned(message.partition.to_string())),
        KeyFrom::Kafka => {
            let Some(key) = message.key else {
                let detail =
                    "the message has no Kafka key, which names the series; see `record.key`";
                return Err(DecodeProblem::new(RejectReason::MissingKey, detail));
            };
            key_text(key, "the Kafka key").map(Cow::Borrowed)
        }
        KeyFrom::Header(name) => {
            let Some(key) = message.headers.and_then(|headers| headers.last(name)) else {
                let detail = format!(
                    "the message has no header {name:?}, which names the series; see `record.key`"
                );
                return Err(DecodeProblem::new(RejectReason::MissingKey, detail));
            };
            key_text(key, &format!("the header {name:?}")).map(Cow::Borrowed)
        }
    }
}

fn key_text<'a>(key: &'a [u8], place: &str) -> Result<&'a str, DecodeProblem> {
    let text = std::str::from_utf8(key).map_err(|_| {
        let detail = format!(
            "{place} {} is not UTF-8",
            quoted(&String::from_utf8_lossy(key))
        );
        DecodeProblem::new(RejectReason::BadKey, detail)
    })?;
    check_key(text, place)?;
    Ok(text)
}

/// The event time; `found` is the value in the payload at the path of `from`.
pub(super) fn time(
    from: &TimeFrom,
    times: &TimeReader,
    message: &Message<'_>,
    found: Option<ReadTime>,
) -> Result<ReadTime, DecodeProblem> {
    let near = |read, place: &dyn Fn() -> String| {
        let near = times.near(read, message.arrival);
        near.map_err(|fault| {
            DecodeProblem::new(RejectReason::BadTime, format!("{}: {fault}", place()))
        })
    };
    match from {
        TimeFrom::Field(path) => {
            let place = || format!("event time `{}`", path.join("."));
            let found = found.ok_or_else(|| {
                let (place, allowed) = (place(), times.allowed());
                let detail = format!("{place} is absent, null or blank; expected {allowed}");
                DecodeProblem::new(RejectReason::MissingTime, detail)
            })?;
            near(found, &place)
        }
        TimeFrom::Kafka => {
            let Some(time) = message.timestamp else {
                let detail = "the message has no Kafka timestamp, which is its event time; see `record.time`";
                return Err(DecodeProblem::new(RejectReason::MissingTime, detail));
            };
            let read = time::in_range(time.0).map(ReadTime::from);
            read.ok_or_else(|| {
                let detail =
                    format!("the Kafka timestamp {time} is outside the years 1970 to 2199");
                DecodeProblem::new(RejectReason::BadTime, detail)
            })
        }
        TimeFrom::Header(name) => {
            let Some(found) = message.headers.and_then(|headers| headers.last(name)) else {
                let detail = format!(
                    "the message has no header {name:?}, which is its event time; see `record.time`"
                );
                return Err(DecodeProblem::new(RejectReason::MissingTime, detail));
            };
            let text = String::from_utf8_lossy(found);
            if text.trim().is_empty() {
                let detail = format!(
                    "the header {name:?}, which is the event time, is blank; see `record.time`"
                );
                return Err(DecodeProblem::new(RejectReason::MissingTime, detail));
            }
            let bad = |fault| {
                DecodeProblem::new(RejectReason::BadTime, format!("header {name:?}: {fault}"))
            };
            near(times.read_text(&text).map_err(bad)?, &|| {
                format!("header {name:?}")
            })
        }
    }
}
