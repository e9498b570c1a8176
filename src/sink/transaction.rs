//! Transactions: what a lane sends, and the offsets that it belongs to, become visible together or
//! not at all.
//!
//! One producer a lane. The generation of its consumer in the group goes along with the offsets
//! (KIP-447), so that a lane that lost its partitions cannot commit them; the same transactional id
//! after a restart aborts what the last run left open. After any error outlierd aborts the
//! transaction and the lane rewinds to its last commit.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::SinkError;
use crate::config::settings::StreamSettings;
use crate::failure::Failure as _;
use crate::source::KafkaSettings;
use crate::source::client_config;

/// How long one step may take, repetitions included.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit of an abort: at a shutdown it must be short, and the next run aborts the transaction
/// as well.
pub(super) const ABORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a transaction may stay open beyond twice the commit interval. A lane that died without
/// a word holds up the readers of its outputs, and its successor, for so long.
const GRACE: Duration = Duration::from_secs(15);

/// Sets what a transactional producer needs.
pub(super) fn configure(
    config: &mut ClientConfig,
    transactional_id: &str,
    commit_interval: Duration,
) {
    let timeout = 2 * commit_interval + GRACE;
    config
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", timeout.as_millis().to_string())
        // Not longer than the transaction.
        .set("delivery.timeout.ms", timeout.as_millis().to_string());
}

/// Asks the brokers for a transactional producer, so that brokers without transactions are found at
/// start.
///
/// # Errors
/// [`SinkError::Config`] and [`SinkError::Transaction`].
pub fn check(kafka: &KafkaSettings, stream: &StreamSettings) -> Result<(), SinkError> {
    let mut config = client_config(kafka, "outlierd-check");
    configure(
        &mut config,
        &format!("{}-check", stream.input.group),
        stream.input.commit_interval,
    );
    let producer: BaseProducer = config.create().map_err(SinkError::Config)?;
    init(&producer)
}

/// Takes the transactional id: an open transaction of its last holder is aborted, and the holder
/// locked out.
pub(super) fn init<C: ProducerContext>(producer: &BaseProducer<C>) -> Result<(), SinkError> {
    repeat("init", || producer.init_transactions(STEP_TIMEOUT))
}

/// Repeats a step for as long as librdkafka calls its error passing.
pub(super) fn repeat(
    step: &'static str,
    mut try_once: impl FnMut() -> Result<(), KafkaError>,
) -> Result<(), SinkError> {
    let deadline = Instant::now() + STEP_TIMEOUT;
    loop {
        match try_once() {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() && Instant::now() < deadline => {}
            Err(source) => return Err(SinkError::Transaction { step, source }),
        }
    }
}
