//! One challenge: a bundle is trained on the buffer, and compared with the live one.

use std::ops::ControlFlow;

use super::held_out;
use crate::config::settings::{StreamSettings, WeightInit};
use crate::events::retrain::TrainingStarted;
use crate::model::ModelKind;
use crate::model::bundle::Bundle;
use crate::model::registry::Registry;
use crate::promotion::{PromotionVerdict, VERDICT};
use crate::record::EventTime;
use crate::retrain::buffer::Buffer;
use crate::retrain::error::RetrainError;
use crate::retrain::learn::learn;
use crate::retrain::proof::{ConfirmedFault, EvaluationInput, Twins};
use crate::retrain::schedule::RetrainReason;
use crate::retrain::set::TrainingSet;

/// Minimum number of held-out records.
const HELD_OUT_MIN: usize = 64;

/// What a challenge reads.
pub(super) struct Challenge<'e> {
    pub(super) stream: &'e StreamSettings,
    pub(super) registry: &'e Registry,
    /// Id of the live bundle.
    pub(super) champion: Option<&'e str>,
    pub(super) buffer: &'e Buffer,
    pub(super) confirmed: &'e [ConfirmedFault],
    /// Whether the buffer holds enough to train on.
    pub(super) has_enough: bool,
}

impl Challenge<'_> {
    /// Trains a challenger and examines it; the registry keeps both the bundle and the verdict.
    ///
    /// # Errors
    /// See [`RetrainError`]. `go_on` is asked now and then, and cancels by `Break`.
    pub(super) fn run(
        &self,
        reason: RetrainReason,
        now: EventTime,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<PromotionVerdict, RetrainError> {
        let name = &self.stream.name;
        let Some(champion) = self.champion else {
            return Err(RetrainError::NoChampion {
                stream: name.clone(),
            });
        };
        let champion = self.registry.load(name, champion)?;
        let (learned, held_out) = held_out::split(self.buffer, self.stream.retrain.hold_out);
        if held_out.len() < HELD_OUT_MIN || !self.has_enough {
            return Err(RetrainError::TooFew {
                records: self.buffer.len(),
                held_out: held_out.len(),
            });
        }
        TrainingStarted {
            stream: name,
            reason: reason.to_string(),
            records: self.buffer.len(),
        }
        .emit();
        let start =
            Some(&champion).filter(|_| self.stream.retrain.initial_weights == WeightInit::Warm);
        let challenger = learn(self.stream, &learned, start, &mut |_| go_on())?;
        challenger.save(self.registry.root())?;
        let mut twin = |kind: ModelKind| -> Result<Option<Bundle>, RetrainError> {
            if kind == self.stream.model.kind {
                return Ok(None);
            }
            let stream = self.stream.with_kind(kind);
            Ok(Some(learn(&stream, &learned, None, &mut |_| go_on())?))
        };
        let twins = Twins {
            linear: twin(ModelKind::Linear)?,
            none: twin(ModelKind::None)?,
        };
        let input = EvaluationInput {
            stream: self.stream,
            all: &TrainingSet::of_runs(self.buffer.runs()),
            held_out: &held_out,
            confirmed: self.confirmed,
            reason: &reason.to_string(),
            at: now,
        };
        let verdict = input.evaluate(challenger, champion, twins, go_on)?;
        self.registry.attach(
            name,
            &verdict.challenger,
            VERDICT,
            &serde_json::to_vec_pretty(&verdict)?,
        )?;
        Ok(verdict)
    }
}
