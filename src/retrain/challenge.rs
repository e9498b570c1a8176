//! One challenge: a bundle that was trained on older records is tested against the live one on the
//! newest ones.
//!
//! The engine challenges with the traffic that it keeps, `outlierd train` with that of its files.

use std::ops::ControlFlow;

use crate::events::share::BundlesPruned;
use crate::model::ModelKind;
use crate::model::bundle::Bundle;
use crate::model::registry::{Registry, RegistryError, YEAR, prune};
use crate::pipeline::fits;
use crate::promotion::{PromotionVerdict, VERDICT};
use crate::retrain::error::RetrainError;
use crate::retrain::learn::learn;
use crate::retrain::proof::{Contenders, EvaluationInput};
use crate::retrain::set::TrainingSet;

/// Minimum number of held-out records.
pub const HELD_OUT_MIN: usize = 64;

/// What a challenger is tested with.
pub struct Challenge<'e> {
    /// The model folder: it keeps the challenger and its verdict.
    pub registry: &'e Registry,
    /// The live bundle.
    pub champion: Bundle,
    /// The records that the challenger learned from.
    pub learned: &'e TrainingSet,
    /// The tests.
    pub input: EvaluationInput<'e>,
}

impl Challenge<'_> {
    /// Tests a challenger; the registry keeps both the bundle and the verdict.
    ///
    /// # Errors
    /// [`RetrainError::Unchanged`] where the challenger is the champion; see [`RetrainError`] for the
    /// others. `go_on` is asked now and then, and cancels by `Break`.
    pub fn run(
        self,
        challenger: Bundle,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<PromotionVerdict, RetrainError> {
        let stream = self.input.stream;
        if challenger.id() == self.champion.id() {
            return Err(RetrainError::Unchanged {
                bundle: challenger.id().to_owned(),
            });
        }
        BundlesPruned {
            stream: &stream.name,
            bundles: &prune(self.registry, &stream.name)?,
        }
        .emit();
        challenger.save(self.registry.root())?;
        let mut twin = |kind: ModelKind| -> Result<Option<Bundle>, RetrainError> {
            if kind == stream.model.kind {
                return Ok(None);
            }
            let stream = stream.with_kind(kind);
            let bundle = learn(&stream, self.learned, None, &mut |_| go_on())?;
            Ok(Some(bundle))
        };
        let contenders = Contenders {
            linear: twin(ModelKind::Linear)?,
            none: twin(ModelKind::None)?,
            best: self.best_of_year()?,
            challenger,
            champion: self.champion,
        };
        let verdict = self.input.evaluate(contenders, go_on)?;
        self.registry.attach(
            &stream.name,
            &verdict.challenger,
            VERDICT,
            &serde_json::to_vec_pretty(&verdict)?,
        )?;
        Ok(verdict)
    }

    /// The bundle that was live within the last year and detected most, where that is more than the
    /// champion does: without it, each challenger may detect a tenth less than the one before.
    ///
    /// Verdicts compare two bundles on the same faults; their ratios, multiplied along the history,
    /// compare all. Bundles that were rolled back, do not load or do not fit the stream are none.
    fn best_of_year(&self) -> Result<Option<Bundle>, RegistryError> {
        let (stream, registry) = (self.input.stream, self.registry);
        let history = registry.history(&stream.name)?;
        let mut ranked: Vec<(f64, String)> = Vec::new();
        let level_of = |ranked: &[(f64, String)], id: &str| {
            let known = ranked.iter().find(|(_, known)| known == id);
            known.map(|(level, _)| *level)
        };
        for bundle in history.kept_within(YEAR)? {
            if level_of(&ranked, &bundle).is_some() {
                continue;
            }
            let verdict = PromotionVerdict::read(registry, &stream.name, &bundle);
            let verdict = verdict.unwrap_or_default();
            let level = verdict.and_then(|verdict| {
                let champion = level_of(&ranked, &verdict.champion)?;
                Some(champion + verdict.detected_ratio()?.ln())
            });
            ranked.push((level.unwrap_or(0.0), bundle));
        }
        let champion = level_of(&ranked, self.champion.id()).unwrap_or(0.0);
        ranked.retain(|(level, _)| *level > champion);
        ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let bundles = ranked.iter().filter_map(|(_, id)| {
            let bundle = registry.load(&stream.name, id).ok()?;
            fits(stream, &bundle).is_ok().then_some(bundle)
        });
        Ok({ bundles }.next())
    }
}
