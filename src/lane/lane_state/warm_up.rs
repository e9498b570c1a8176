//! Warming up: a stream that is new begins in its topic's history, learns from it, and publishes
//! nothing of it.

use std::time::Duration;

use super::LaneState;
use crate::lane::error::LaneError;
use crate::record::EventTime;
use crate::state::{Commit, codec};

/// The note of when the stream was first started.
const STARTED: &str = "warm_up";

impl LaneState {
    /// How much of the history a stream begins with.
    pub(in crate::lane) fn warm_up_span(&self) -> Duration {
        self.stream.input.warm_up
    }

    /// Begins to warm up, where that has not begun before: what arrived until now is not published.
    /// That is kept, so that a restart in the middle continues to warm up.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub(in crate::lane) fn begin_warm_up(&mut self) -> Result<(), LaneError> {
        if !self.go_on_warming_up()? {
            let now = EventTime::now();
            let notes = vec![(STARTED.to_owned(), Some(codec::encode(&now)?))];
            self.store.commit(
                &self.stream.name,
                &Commit {
                    notes,
                    ..Commit::default()
                },
            )?;
            let span = humantime::format_duration(self.stream.input.warm_up).to_string();
            tracing::info!(stream = self.stream.name, span, until = %now, "warming up: training on history without publishing alerts");
            self.pipeline.intake.warm_up(now);
        }
        Ok(())
    }

    /// Goes on warming up where that was begun; returns whether it was.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(in crate::lane) fn go_on_warming_up(&mut self) -> Result<bool, LaneError> {
        let note = self.store.notes(&self.stream.name, STARTED)?.pop();
        let until = note.and_then(|(_, bytes)| codec::decode::<EventTime>(&bytes).ok());
        until
            .into_iter()
            .for_each(|until| self.pipeline.intake.warm_up(until));
        Ok(until.is_some())
    }
}
