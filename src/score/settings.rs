//! The options of the control chart: `[streams.NAME.score]`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::ResidualScope;
use crate::options::optional;

/// The control chart on the residual; see design.md, "Scoring".
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct ScoreSettings {
    /// Scope of the residual: the newest record of a window, or the whole window.
    pub scope: ResidualScope,
    /// EWMA weight of the newest residual, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub ewma_weight: f64,
    /// Weight of the newest residual in the slow baseline, 0 to below 1.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub baseline_weight: f64,
    /// Factor on `baseline_weight` while the series alerts, 0 to 1: a fault is not learned, a level
    /// shift is in the end.
    #[schemars(range(min = 0, max = 1))]
    pub baseline_alarm_factor: f64,
    /// Standard deviations at which a residual is clipped, 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub clip_sigma: f64,
    /// Weight of the diagonal in the shrunk covariance, above 0, at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub shrinkage: f64,
}
