//! Records whose schemas the registry has not given yet.
//!
//! A schema that is new to the daemon comes within milliseconds, and the lane waits for it. While the
//! registry does not answer, the records wait in memory: the lane pauses its partitions and keeps
//! polling, so that it stays in its group, and nothing is rejected.

use std::time::{Duration, Instant};

use rdkafka::message::{BorrowedMessage, Message as _};

use super::lane_state::LaneState;
use super::status::LaneStatus;
use crate::config::settings::StreamSettings;
use crate::events::lane::SchemasAwaited;
use crate::source::view;

/// How long a lane waits for a new schema before it pauses, and how often it looks.
const SHORT_WAIT: Duration = Duration::from_millis(200);
const PACE: Duration = Duration::from_millis(2);
/// How often a wait for the registry is logged.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub(super) struct SchemaWait<'c> {
    /// The records that wait, in the order in which they were polled.
    held: Vec<BorrowedMessage<'c>>,
    warned: Option<Instant>,
}

impl<'c> SchemaWait<'c> {
    /// Whether records wait.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Gives up the records that wait: they are read again, or belong to another lane.
    pub(super) fn take(&mut self) -> Vec<BorrowedMessage<'c>> {
        std::mem::take(&mut self.held)
    }

    /// Drops the records of some partitions.
    pub(super) fn drop_partitions(&mut self, partitions: &[i32]) {
        self.held
            .retain(|message| !partitions.contains(&message.partition()));
    }

    /// The records that can run: those that waited and then those that were `polled`, once all of their
    /// schemas are known, and none before.
    pub(super) fn ready(
        &mut self,
        polled: Vec<BorrowedMessage<'c>>,
        lane_state: &mut LaneState,
    ) -> Vec<BorrowedMessage<'c>> {
        let pipeline = lane_state.pipeline_mut();
        if !pipeline.needs_registry() {
            return polled;
        }
        let has_waited = self.is_waiting();
        self.held.extend(polled);
        let messages: Vec<_> = self.held.iter().map(view).collect();
        let began = Instant::now();
        let mut is_resolved = pipeline.resolve(&messages);
        while !is_resolved && !has_waited && began.elapsed() < SHORT_WAIT {
            std::thread::sleep(PACE);
            is_resolved = pipeline.resolve(&messages);
        }
        match is_resolved {
            true => self.take(),
            false => Vec::new(),
        }
    }

    /// Shows and logs why records wait, where they do for a registry that does not answer.
    pub(super) fn report(&mut self, stream: &StreamSettings, lane: usize, status: &LaneStatus) {
        let trouble = stream.schemas.trouble().filter(|_| self.is_waiting());
        if let Some(trouble) = &trouble
            && self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY)
        {
            self.warned = Some(Instant::now());
            SchemasAwaited {
                stream: &stream.name,
                lane,
                records: self.held.len(),
                error: trouble,
            }
            .emit();
        }
        status.awaits_schemas(trouble);
    }
}
