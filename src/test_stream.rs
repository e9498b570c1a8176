//! The streams of unit tests.

use crate::config::settings::StreamSettings;
use crate::config::{ConfigSources, load};

/// The stream `s` of the topic `t` with the fields `x`, `y` and `z`, and the built-in settings else.
pub fn three_fields() -> StreamSettings {
    let overrides = [
        "streams.s.input.topic=t",
        "streams.s.record.fields=[\"x\", \"y\", \"z\"]",
    ];
    let sources = ConfigSources {
        overrides: overrides.map(str::to_owned).into(),
        ..ConfigSources::default()
    };
    load(&sources).unwrap().streams.remove(0)
}
