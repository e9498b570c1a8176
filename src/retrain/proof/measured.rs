//! One model measured alone: for choosing a kind before there is a champion.

use std::ops::ControlFlow;

use super::{EvaluationInput, EvaluationSuite, likely};
use crate::model::bundle::Bundle;
use crate::retrain::error::RetrainError;

/// What one model reached, whatever the others did.
#[derive(Clone, PartialEq, Debug)]
pub struct MeasuredSensitivity {
    /// The bundle's id.
    pub id: String,
    /// Mean square error of the held-out records, in units of each field's standard deviation
    /// inside a series.
    pub error: f64,
    /// Alerts that the held-out records raised, which are taken to be normal.
    pub alerts: f64,
    /// Those that the budget allows.
    pub budgeted: f64,
    /// Injected faults, and the number detected.
    pub asked: usize,
    /// See [`MeasuredSensitivity::asked`].
    pub caught: usize,
}

impl MeasuredSensitivity {
    /// Measures one model by the same questions as [`EvaluationInput::evaluate`].
    ///
    /// # Errors
    /// As [`EvaluationInput::evaluate`].
    pub fn of(
        input: &EvaluationInput<'_>,
        bundle: Bundle,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Self, RetrainError> {
        let reached = EvaluationSuite::new(input).run(bundle, go_on)?;
        let answers: Vec<bool> = reached
            .injected
            .iter()
            .filter_map(|caught| *caught)
            .collect();
        Ok(Self {
            error: reached.error,
            alerts: reached.alerts(),
            budgeted: reached.normal.budgeted,
            asked: answers.len(),
            caught: answers.iter().filter(|&&caught| caught).count(),
            id: reached.id,
        })
    }

    /// Whether it raises no more alerts than the budget makes likely.
    pub fn keeps_budget(&self) -> bool {
        self.alerts <= likely(self.budgeted)
    }

    /// Fraction of the injected faults that is detected.
    pub fn caught_part(&self) -> f64 {
        self.caught as f64 / self.asked.max(1) as f64
    }
}
