//! The settings of silence.

use std::time::Duration;

/// Missing-data detection.
#[derive(Clone, PartialEq, Debug)]
pub struct SilenceSettings {
    /// Times its typical gap after which a series is overdue; 0: silence is not looked for.
    pub after: f64,
    /// The shortest silence that is announced.
    pub at_least: Duration,
    /// What ends the name of the gateway at the start of a series' key; `None`: there are no
    /// gateways.
    pub gateway: Option<String>,
}
