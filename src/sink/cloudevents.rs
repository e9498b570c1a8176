//! CloudEvents headers (version 1.0, binary content mode of the Kafka protocol binding): an alert's
//! metadata where routers and filters can read it without parsing the value.

use rdkafka::message::{Header, OwnedHeaders};

use crate::events::published::PublishedEvent;
use crate::record::alert::Alert;

/// The headers of an alert. `ce_id` is unique for each event and the same at every replay.
pub fn headers(alert: &Alert) -> OwnedHeaders {
    let id = format!("{}-{}", alert.id, alert.sequence);
    let source = format!("/outlierd/streams/{}", alert.stream);
    let kind = format!(
        "io.outlierd.{}.{}",
        alert.kind.as_str(),
        alert.event.as_str()
    );
    made_of([&id, &source, &kind, &alert.series, &alert.time])
}

/// The headers of an event of the models.
pub fn event_headers(event: &PublishedEvent) -> OwnedHeaders {
    let source = format!("/outlierd/streams/{}", event.stream);
    let kind = event.event.kind();
    let id = format!("{}-{kind}-{}", event.stream, event.at);
    made_of([
        &id,
        &source,
        &format!("io.outlierd.{kind}"),
        &event.stream,
        &event.at,
    ])
}

fn made_of([id, source, kind, subject, time]: [&str; 5]) -> OwnedHeaders {
    [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", source),
        ("ce_type", kind),
        ("ce_subject", subject),
        ("ce_time", time),
        ("content-type", "application/json"),
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
