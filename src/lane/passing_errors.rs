//! Errors of a lane's consumer that pass without the lane: librdkafka tries again.

use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use super::Lane;
use crate::events::lane::ConsumerFailed;
use crate::failure::Failure as _;

/// How often they are logged: they come in swarms while a broker is away.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct PassingErrors<'l> {
    lane: &'l Lane,
    warned: Option<Instant>,
}

impl<'l> PassingErrors<'l> {
    pub(super) fn of(lane: &'l Lane) -> Self {
        Self { lane, warned: None }
    }

    /// Whether an error passes; one that does is reported.
    pub(super) fn passes(&mut self, error: &KafkaError) -> bool {
        if !error.is_retryable() {
            return false;
        }
        let stream = &self.lane.stream;
        let status = &self.lane.status;
        status.consumer_failed(&stream.input.topic, error);
        let is_logged = self.warned.is_none_or(|at| at.elapsed() > WARN_EVERY);
        if is_logged {
            self.warned = Some(Instant::now());
        }
        ConsumerFailed {
            stream: &stream.name,
            lane: self.lane.number,
            error,
            is_logged,
        }
        .emit();
        true
    }
}
