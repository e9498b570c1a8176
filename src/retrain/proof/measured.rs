//! One model measured by itself: for choosing a kind, where there is no champion yet.

use std::ops::ControlFlow;

use super::{Case, Exam, likely};
use crate::model::bundle::Bundle;
use crate::retrain::error::RetrainError;

/// What one model reached, whatever the others did.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    /// The bundle's id.
    pub id: String,
    /// Mean square error of the held-out records, in units of each field's standard deviation inside a series.
    pub error: f64,
    /// Alerts that the held-out records raised, which are taken to be normal.
    pub alerts: f64,
    /// Those that the budget allows.
    pub budgeted: f64,
    /// Injected faults that were asked, and those that were caught.
    pub asked: usize,
    /// See [`Measured::asked`].
    pub caught: usize,
}

impl Measured {
    /// Whether it raises no more alerts than the budget makes likely.
    pub fn keeps_budget(&self) -> bool {
        self.alerts <= likely(self.budgeted)
    }

    /// The part of the injected faults that is caught.
    pub fn caught_part(&self) -> f64 {
        self.caught as f64 / self.asked.max(1) as f64
    }
}

impl Case<'_> {
    /// Measures one model by the same questions as [`Case::examine`].
    ///
    /// # Errors
    /// As [`Case::examine`].
    pub fn measure(
        &self,
        bundle: Bundle,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Measured, RetrainError> {
        let reached = Exam::new(self).sit(bundle, go_on)?;
        let answers: Vec<bool> = reached
            .injected
            .iter()
            .filter_map(|caught| *caught)
            .collect();
        Ok(Measured {
            error: reached.error,
            alerts: reached.alerts(),
            budgeted: reached.normal.budgeted,
            asked: answers.len(),
            caught: answers.iter().filter(|&&caught| caught).count(),
            id: reached.id,
        })
    }
}
