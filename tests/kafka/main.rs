//! The whole daemon against a real Apache Kafka: records from a separate client, alerts read back by an independent one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by unwrapping it, in its helpers too"
)]

mod blind;
mod daemon;
mod feedback;
mod images;
mod keep;
#[path = "../pictures/mod.rs"]
#[expect(dead_code, reason = "the daemon's configuration is a file here")]
mod pictures;
mod recovery;
mod retrain;
mod share;
mod silence;
mod support;
