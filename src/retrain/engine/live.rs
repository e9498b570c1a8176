//! What retraining has to know of the live bundle.

use crate::config::settings::StreamSettings;
use crate::events::retrain::{BundleRefused, DriftMeasured, MinDetectableFault};
use crate::model::bundle::Bundle;
use crate::model::registry::{Registry, RegistryError};
use crate::pipeline::fits;
use crate::pipeline::series::tag;
use crate::promotion::PromotionVerdict;
use crate::retrain::buffer::Buffer;
use crate::retrain::drift::drift;
use crate::retrain::schedule::RetrainReason;
use crate::retrain::set::RecordRun;

/// Loads a bundle that is to go live in place of `live`; `None` where it does not fit the stream,
/// which is reported.
pub(super) fn load_fitting(
    registry: &Registry,
    stream: &StreamSettings,
    bundle: &str,
    live: Option<&str>,
) -> Result<Option<Bundle>, RegistryError> {
    let loaded = registry.load(&stream.name, bundle)?;
    let Err(error) = fits(stream, &loaded) else {
        return Ok(Some(loaded));
    };
    BundleRefused {
        stream: &stream.name,
        bundle,
        live,
        error: &error,
    }
    .emit();
    Ok(None)
}

/// The live bundle.
pub(super) struct LiveModel {
    pub(super) id: String,
    /// The scores of its calibration.
    pub(super) scores: Vec<f64>,
}

impl LiveModel {
    pub(super) fn new(id: String, bundle: &Bundle) -> Self {
        let scores = bundle.calibration.scores().next();
        let scores = scores.unwrap_or_default().to_vec();
        Self { id, scores }
    }

    /// Shows the smallest faults that it has proved to catch.
    pub(super) fn show_sensitivity(
        &self,
        registry: &Registry,
        stream: &str,
    ) -> Result<(), RegistryError> {
        if let Some(verdict) = PromotionVerdict::read(registry, stream, &self.id)? {
            MinDetectableFault {
                stream,
                verdict: &verdict,
            }
            .emit();
        }
        Ok(())
    }

    /// Whether the newest scores of normal traffic have moved away from those of the calibration.
    pub(super) fn drifted(
        &self,
        buffer: &Buffer,
        stream: &StreamSettings,
    ) -> Option<RetrainReason> {
        let tag = tag(&self.id);
        let mut runs: Vec<&RecordRun> = buffer.runs().filter(|run| run.bundle == tag).collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.until()));
        // The newest quarter of what the buffer can hold.
        let scores = runs
            .into_iter()
            .flat_map(|run| &run.scores)
            .filter(|score| score.is_finite())
            .take(stream.retrain.records / 4);
        let recent: Vec<f64> = scores.map(|&score| f64::from(score)).collect();
        let found = drift(&recent, &self.scores, stream.score.ewma_weight)?;
        DriftMeasured {
            stream: &stream.name,
            distance: found.distance,
        }
        .emit();
        found.is_drift().then_some(RetrainReason::Drift {
            distance: found.distance,
        })
    }
}
