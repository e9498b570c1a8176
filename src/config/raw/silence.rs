//! Silence as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::optional;

/// When a series, a gateway or the whole topic that sends nothing any more is announced.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct Silence {
    /// Times its typical gap after which a series is overdue, 2 to 1000; 0: off.
    #[schemars(range(min = 0, max = 1000))]
    pub after: f64,
    /// The shortest silence that is announced, 1s to 30d.
    #[schemars(example = "1m")]
    pub at_least: String,
    /// What ends the name of the gateway in a series' key; "" for no gateways.
    #[schemars(example = "/", length(max = 16))]
    pub gateway: String,
}
