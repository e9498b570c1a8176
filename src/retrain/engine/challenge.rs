//! A challenge with the traffic that the engine keeps.

use std::ops::ControlFlow;

use super::held_out;
use crate::config::settings::{StreamSettings, WeightInit};
use crate::events::retrain::TrainingStarted;
use crate::model::registry::Registry;
use crate::promotion::PromotionVerdict;
use crate::record::EventTime;
use crate::retrain::buffer::Buffer;
use crate::retrain::challenge::{Challenge, HELD_OUT_MIN};
use crate::retrain::error::RetrainError;
use crate::retrain::learn::learn;
use crate::retrain::proof::{ConfirmedFault, EvaluationInput};
use crate::retrain::schedule::RetrainReason;
use crate::retrain::set::TrainingSet;

/// What a challenge reads.
pub(super) struct BufferChallenge<'e> {
    pub(super) stream: &'e StreamSettings,
    pub(super) registry: &'e Registry,
    /// Id of the live bundle.
    pub(super) champion: Option<&'e str>,
    pub(super) buffer: &'e Buffer,
    pub(super) confirmed: &'e [ConfirmedFault],
    /// Whether the buffer holds enough to train on.
    pub(super) has_enough: bool,
}

impl BufferChallenge<'_> {
    /// Trains a challenger and tests it.
    ///
    /// # Errors
    /// See [`RetrainError`]. `go_on` is asked now and then, and cancels by `Break`.
    pub(super) fn run(
        &self,
        reason: RetrainReason,
        now: EventTime,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<PromotionVerdict, RetrainError> {
        let (stream, name) = (self.stream, &self.stream.name);
        let Some(champion) = self.champion else {
            return Err(RetrainError::NoChampion {
                stream: name.clone(),
            });
        };
        let champion = self.registry.load(name, champion)?;
        let (learned, held_out) = held_out::split(self.buffer, stream.retrain.hold_out);
        let records = self.buffer.len();
        if held_out.len() < HELD_OUT_MIN || !self.has_enough {
            return Err(RetrainError::TooFew {
                records,
                held_out: held_out.len(),
            });
        }
        let reason = reason.to_string();
        TrainingStarted {
            stream: name,
            reason: reason.clone(),
            records,
        }
        .emit();
        let is_warm = stream.retrain.initial_weights == WeightInit::Warm;
        let start = is_warm.then_some(&champion);
        let challenger = learn(stream, &learned, start, &mut |_| go_on())?;
        let challenge = Challenge {
            registry: self.registry,
            champion,
            learned: &learned,
            input: EvaluationInput {
                stream,
                all: &TrainingSet::of_runs(self.buffer.runs()),
                held_out: &held_out,
                confirmed: self.confirmed,
                reason: &reason,
                at: now,
            },
        };
        challenge.run(challenger, go_on)
    }
}
