//! Training of a stream's model from its own records: the first model when a stream has none, and
//! each next one.
//!
//! Normal traffic is kept ([`collect`], [`buffer`]); when it is time ([`plan`], [`drift`]) a
//! challenger is trained on it ([`learn`]) and is tested against the live bundle ([`proof`], with
//! the faults of [`inject`]). [`engine`] joins these, [`thread`] runs it.

pub mod buffer;
pub mod collect;
pub mod drift;
pub mod engine;
pub mod error;
pub mod inject;
pub mod learn;
pub mod learner;
pub mod plan;
pub mod proof;
pub mod self_test;
pub mod set;
pub mod thread;
pub mod trial;

pub use crate::promotion as verdict;

/// The built-in settings, for tests.
#[cfg(test)]
fn built_in() -> crate::config::settings::RetrainSettings {
    use crate::config::{ConfigSources, load};
    let overrides = [
        "streams.s.input.topic=t",
        "streams.s.record.fields=[\"x\", \"y\", \"z\"]",
    ];
    let settings = load(&ConfigSources {
        overrides: overrides.map(str::to_owned).into(),
        ..ConfigSources::default()
    });
    settings
        .expect("the built-in settings have no problem")
        .streams
        .remove(0)
        .retrain
}
