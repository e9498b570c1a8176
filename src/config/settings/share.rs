//! The settings of what machines share.

/// Topics of what all machines that read the same streams share; `None`: not shared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShareSettings {
    /// Compacted topic of the bundles.
    pub bundles: Option<String>,
    /// Compacted topic of what is live, of commands and of feedback.
    pub control: Option<String>,
    /// Topic of what happens to the models.
    pub events: Option<String>,
}
