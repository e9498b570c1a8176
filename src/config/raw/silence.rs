//! Silence as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::optional;

/// Missing-data detection: when a series, a gateway or the whole topic that stops sending raises an
/// alert.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct SilenceConfig {
    /// Multiple of its typical interval after which a series is overdue, 2 to 1000; 0: off.
    #[schemars(range(min = 0, max = 1000))]
    pub after: f64,
    /// The shortest silence that raises an alert, 1s to 30d.
    #[schemars(example = "1m")]
    pub at_least: String,
    /// Separator that ends the gateway's name in a series' key; "" for no gateways.
    #[schemars(example = "/", length(max = 16))]
    pub gateway: String,
}
