//! What a lane does between two batches: it applies feedback, and looks for missing data and for the
//! health of the detector.

use std::time::Instant;

use rdkafka::message::BorrowedMessage;

use super::LaneState;
use crate::lane::error::LaneError;
use crate::lane::feedback::FeedbackReceiver;
use crate::lane::silence::newest;
use crate::lane::{clocks, detector, unusable};
use crate::record::EventTime;
use crate::record::alert::Alert;
use crate::retrain::engine::Sight;
use crate::share::feedback_log::FeedbackLog;

/// What a lane looks at between two batches.
pub(in crate::lane) struct LaneWatch<'l> {
    pub(super) lane: &'l mut LaneState,
}

impl LaneWatch<'_> {
    /// Applies feedback on alerts in owned partitions that was not applied yet.
    ///
    /// # Errors
    /// Where the state of a series cannot be read.
    pub(in crate::lane) fn apply_feedback(&mut self, log: &FeedbackLog) -> Result<(), LaneError> {
        let mut receiver = FeedbackReceiver {
            positions: &self.lane.positions,
            notes: &mut self.lane.notes,
            table: &mut self.lane.table,
            states: &self.lane.states,
            pipeline: &self.lane.pipeline,
        };
        if self.lane.feedback.apply_new(log, &mut receiver)? {
            self.lane.uncommitted.hurry();
        }
        Ok(())
    }

    /// Looks whether the topic as a whole is silent, and publishes the alerts that a batch closes,
    /// or its absence opens.
    ///
    /// # Errors
    /// Where an alert cannot be sent.
    pub(in crate::lane) fn watch_topic(
        &mut self,
        batch: &[BorrowedMessage<'_>],
        at_end: bool,
    ) -> Result<(), LaneError> {
        let now = Instant::now();
        let alerts = if batch.is_empty() {
            let partitions = self.lane.positions.count();
            let alerts = self.lane.pipeline.episodes.alerts();
            let opened = self.lane.topic.saw_nothing(
                at_end,
                partitions,
                alerts,
                now,
                &mut self.lane.notes,
            )?;
            opened.into_iter().collect()
        } else {
            self.lane
                .topic
                .observe(&newest(batch), now, &mut self.lane.notes)?
        };
        self.lane
            .publish(alerts.into_iter().map(Alert::summarized), None)
    }

    /// Scans the series of partitions that are read to their ends and silent while others send;
    /// `ends` are those read to their ends, at the time `at` of the machine's clock.
    ///
    /// # Errors
    /// Where the state of a series cannot be read, or an alert cannot be sent.
    pub(in crate::lane) fn watch_partitions(
        &mut self,
        ends: &[i32],
        at: EventTime,
    ) -> Result<(), LaneError> {
        let silent = self
            .lane
            .topic
            .silent_partitions(ends, at, &mut self.lane.notes)?;
        let (pipeline, table) = (&mut self.lane.pipeline, &mut self.lane.table);
        let alerts = clocks::scan(
            &silent,
            pipeline,
            table,
            &self.lane.states,
            &mut self.lane.notes,
        )?;
        self.lane.publish(alerts, None)
    }

    /// Publishes where the stream has had no usable record for a minute, or has one again, and where its
    /// detector has gone blind, or sees again, if partition 0 is owned.
    ///
    /// # Errors
    /// Where an alert cannot be sent.
    pub(in crate::lane) fn follow_stream(
        &mut self,
        sight: Option<&Sight>,
    ) -> Result<(), LaneError> {
        let alerts = self.lane.pipeline.episodes.alerts();
        let (notes, positions) = (&mut self.lane.notes, &self.lane.positions);
        let seen = &self.lane.status.rejections;
        let now = Instant::now();
        let unusable = unusable::follow_as_owner(seen, now, alerts, notes, positions)?;
        let degraded = match sight {
            Some(sight) => detector::follow_as_owner(sight, alerts, notes, positions)?,
            None => None,
        };
        let degraded = degraded.map(Alert::summarized);
        self.lane
            .publish(unusable.into_iter().chain(degraded), None)
    }
}
