//! The whole daemon against a real Apache Kafka: records from a separate client, alerts read back
//! by an independent one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod avro_output;
mod changelog;
mod copied_state;
mod daemon;
mod degraded;
mod destination;
mod feedback;
mod fits;
mod images;
mod kerberos;
mod messages;
mod monitoring;
mod oidc;
mod panics;
mod poison;
mod positions;
mod ready;
mod recovery;
mod registry;
mod retention;
mod retrain;
mod secured;
mod share;
mod signatures;
mod silence;
mod support;
#[path = "../test_images/mod.rs"]
#[expect(dead_code, reason = "the daemon's configuration is a file here")]
mod test_images;
#[path = "../test_stream/mod.rs"]
mod test_stream;
mod upgrades;
