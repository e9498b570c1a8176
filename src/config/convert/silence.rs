//! `[streams.NAME.silence]`.

use std::time::Duration;

use super::ConfigReader;
use crate::config::raw;
use crate::config::settings::SilenceSettings;

/// The smallest useful factor: below it, normal variation of the gaps exceeds the limit.
const AFTER_MIN: f64 = 2.0;

impl ConfigReader<'_> {
    pub(super) fn silence(
        &mut self,
        stream: &str,
        raw: &raw::SilenceConfig,
    ) -> Option<SilenceSettings> {
        let second = Duration::from_secs(1);
        let month = Duration::from_secs(30 * 86_400);
        let at_least = self.span(stream, "silence.at_least", &raw.at_least, second, month);
        let after = match raw.after {
            after if after > 0.0 && after < AFTER_MIN => {
                Err(format!("must be from {AFTER_MIN} to 1000, or 0 for off"))
            }
            after => Ok(after),
        };
        let place = self.place(stream, "silence.after");
        let after = self.take(place, &raw.after, after);
        let gateway = (!raw.gateway.is_empty()).then(|| raw.gateway.clone());
        Some(SilenceSettings {
            after: after?,
            at_least: at_least?,
            gateway,
        })
    }
}
