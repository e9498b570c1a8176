//! Events of the process as a whole.

use std::time::Duration;

use tracing::{error, info, warn};

use super::metric;
use crate::failure::Failure;

/// No broker answered at the start.
pub struct BrokersAwaited<'a> {
    /// Why.
    pub error: &'a dyn Failure,
    /// When outlierd asks again.
    pub retry: Duration,
}

impl BrokersAwaited<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            error = %self.error,
            domain = self.error.domain().as_str(),
            retry_s = self.retry.as_secs(),
            "waiting for the brokers"
        );
        metric::BROKERS_AWAITED.add([], 1);
    }
}

/// The endpoint did not give a new token while the old one is valid.
pub struct TokenNotRenewed<'a> {
    /// Why.
    pub error: &'a dyn Failure,
}

impl TokenNotRenewed<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        warn!(
            error = %self.error,
            domain = self.error.domain().as_str(),
            "token not renewed, using the old one while it is valid"
        );
        metric::TOKENS_NOT_RENEWED.add([], 1);
    }
}

/// The schema registry did not answer at the start.
pub struct RegistryAwaited<'a> {
    /// The stream whose output is Avro.
    pub stream: &'a str,
    /// Why.
    pub error: &'a dyn Failure,
    /// When outlierd asks again.
    pub retry: Duration,
}

impl RegistryAwaited<'_> {
    /// Logs.
    pub fn emit(&self) {
        warn!(
            stream = self.stream,
            error = %self.error,
            domain = self.error.domain().as_str(),
            retry_s = self.retry.as_secs(),
            "waiting for the schema registry"
        );
    }
}

/// The state store failed, so that the daemon stops.
pub struct StoreLost<'a> {
    /// Why.
    pub error: &'a dyn Failure,
}

impl StoreLost<'_> {
    /// Logs.
    pub fn emit(&self) {
        error!(
            error = self.error.to_string(),
            domain = self.error.domain().as_str(),
            "stopping: the state store failed"
        );
    }
}

/// A thread ended although nobody stopped it, so that the daemon stops.
pub struct ThreadLost<'a> {
    /// Which, and how.
    pub error: &'a dyn Failure,
}

impl ThreadLost<'_> {
    /// Logs.
    pub fn emit(&self) {
        error!(
            error = self.error.to_string(),
            domain = self.error.domain().as_str(),
            "stopping: a thread ended"
        );
    }
}

/// Whether the daemon is ready has changed, or why it is not.
pub struct ReadinessChanged<'a> {
    /// Why it is not; empty where it is.
    pub reasons: &'a [String],
}

impl ReadinessChanged<'_> {
    /// Logs, and sets the gauge.
    pub fn emit(&self) {
        let is_ready = self.reasons.is_empty();
        if is_ready {
            info!("ready");
        } else {
            warn!(reasons = self.reasons.join("; "), "not ready");
        }
        metric::READY.set_flag([], is_ready);
    }
}

/// The configuration was read again.
pub struct ConfigReloaded<'a> {
    /// Keys that changed and cannot take effect before a restart, or why the old configuration
    /// stays.
    pub result: Result<&'a [String], &'a dyn Failure>,
}

impl ConfigReloaded<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        let outcome = match self.result {
            Err(error) => {
                error!(
                    error = %error,
                    domain = error.domain().as_str(),
                    "configuration not reloaded, keeping the old one"
                );
                "rejected"
            }
            Ok(keys) => {
                if !keys.is_empty() {
                    warn!(
                        ?keys,
                        "these keys changed and need a restart; all other changes are applied"
                    );
                }
                info!("configuration reloaded");
                "applied"
            }
        };
        metric::CONFIG_RELOADS.add([("outcome", outcome)], 1);
    }
}
