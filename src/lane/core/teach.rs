//! What an operator says of an alert, on its way to the state of the series.

use super::{Core, load};
use crate::lane::error::LaneError;
use crate::pipeline::series::SeriesState;
use crate::record::feedback::Feedback;

impl Core {
    /// Teaches the series that an operator speaks of, where it is this lane's; the change is committed with its next record.
    ///
    /// # Errors
    /// Where its state cannot be read.
    pub fn teach(&mut self, feedback: &Feedback) -> Result<(), LaneError> {
        let Some(partition) = feedback.records.map(|records| records.partition) else {
            return Ok(());
        };
        let (stream, series) = (&self.stream.name, feedback.series.as_str());
        if !self.owned.contains(&partition) {
            return Ok(());
        }
        let stored = match self.table.holds(partition, series) {
            true => None,
            false => match load(&*self.store, stream, partition, series)? {
                Some(state) => Some(state),
                None => return Ok(()),
            },
        };
        let fields = self.stream.record.fields.len();
        let slot = self
            .table
            .slot(partition, series, || stored, || SeriesState::new(fields));
        if let Some(slot) = slot.ok().and_then(|slot| self.table.get_mut(slot)) {
            self.pipeline.teach(&mut slot.state, feedback);
        }
        Ok(())
    }
}
