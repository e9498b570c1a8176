//! CloudEvents headers (version 1.0, binary content mode of the Kafka protocol binding): an alert's
//! metadata where routers and filters can read it without parsing the value.

use rdkafka::message::{Header, OwnedHeaders};

use crate::events::published::PublishedEvent;
use crate::record::alert::Alert;

/// The media type of a value in JSON.
pub const JSON: &str = "application/json";
/// The media type of a value in Avro, that of the example of the protocol binding.
pub const AVRO: &str = "application/avro";

/// The headers of an alert whose value has a media type. `ce_id` is unique for each event and the same
/// at every replay.
pub fn headers(alert: &Alert, content_type: &str) -> OwnedHeaders {
    let id = format!("{}-{}", alert.id, alert.sequence);
    let source = format!("/outlierd/streams/{}", alert.stream);
    let kind = format!(
        "io.outlierd.{}.{}",
        alert.kind.as_str(),
        alert.event.as_str()
    );
    let attributes = [&id, &source, &kind, &alert.series, &alert.time];
    made_of(attributes.map(String::as_str), content_type)
}

/// The headers of an event of the models.
pub fn event_headers(event: &PublishedEvent) -> OwnedHeaders {
    let source = format!("/outlierd/streams/{}", event.stream);
    let kind = event.event.kind();
    let id = format!("{}-{kind}-{}", event.stream, event.at);
    let kind = format!("io.outlierd.{kind}");
    let attributes = [&id, &source, &kind, &event.stream, &event.at];
    made_of(attributes.map(String::as_str), JSON)
}

fn made_of([id, source, kind, subject, time]: [&str; 5], content_type: &str) -> OwnedHeaders {
    [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", source),
        ("ce_type", kind),
        ("ce_subject", subject),
        ("ce_time", time),
        ("content-type", content_type),
    ]
    .into_iter()
    .fold(
        OwnedHeaders::new_with_capacity(7),
        |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        },
    )
}
