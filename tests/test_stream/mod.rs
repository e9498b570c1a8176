//! The streams of tests: the built-in settings, and those that a test gives.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::sync::Arc;

use outlierd::config::settings::StreamSettings;
use outlierd::config::{ConfigSources, load};

/// The stream `s` of the topic `t`. `settings` are keys of a stream with their values, such as
/// `window=3`; of two for one key the later one counts.
pub fn stream(settings: &[&str]) -> Arc<StreamSettings> {
    Arc::new(named("s", settings))
}

/// The same of the stream called `name`.
pub fn named(name: &str, settings: &[&str]) -> StreamSettings {
    let all = ["input.topic=t"].iter().chain(settings);
    let sources = ConfigSources {
        overrides: all
            .map(|setting| format!("streams.{name}.{setting}"))
            .collect(),
        ..ConfigSources::default()
    };
    load(&sources).unwrap().streams.remove(0)
}
