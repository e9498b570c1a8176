//! Whether configuration, bundle and stored state go together: asked at the start, before a bundle
//! goes live by whatever way, and for each stored state. Nothing is indexed without it.

use super::PipelineError;
use crate::config::settings::StreamSettings;
use crate::failure::{Failure, FailureClass};
use crate::model::bundle::Bundle;
use crate::model::manifest::FieldInfo;
use crate::model::registry::{Registry, RegistryError};
use crate::record::format::{ReadAs, States};

/// Why a bundle cannot score a stream.
#[derive(Debug, thiserror::Error)]
pub enum UnfitError {
    /// It cannot be loaded.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It was trained for another configuration.
    #[error(transparent)]
    Unfit(#[from] PipelineError),
}

impl Failure for UnfitError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Registry(error) => error.class(),
            Self::Unfit(error) => error.class(),
        }
    }
}

/// Loads the bundle `id`, given in full, of a stream that it is to score.
///
/// # Errors
/// See [`UnfitError`].
pub fn load_fitting(
    registry: &Registry,
    stream: &StreamSettings,
    id: &str,
) -> Result<Bundle, UnfitError> {
    let bundle = registry.load(&stream.name, id)?;
    fits(stream, &bundle)?;
    Ok(bundle)
}

/// What the rows that are stored of a series were made of: the fields in their order, whether they
/// are configured as counters, the time features beside them, and the period of resampling. Rows of
/// another layout are dropped. Never 0, which a series has before its first record.
pub(super) fn row_layout(stream: &StreamSettings) -> u32 {
    let mut hasher = blake3::Hasher::new();
    for field in &stream.record.fields {
        let read_as = match field.read_as {
            None => 0,
            Some(ReadAs::Value) => 1,
            Some(ReadAs::Rate) => 2,
            Some(ReadAs::Delta) => 3,
        };
        hasher.update(field.name.as_bytes()).update(&[0, read_as]);
        for state in field.states.iter().flat_map(States::names) {
            hasher.update(state.as_bytes()).update(&[0]);
        }
    }
    hasher.update(format!("{:?}", stream.model.context).as_bytes());
    hasher.update(&stream.resample.period.as_micros().to_le_bytes());
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    u32::from_le_bytes([a, b, c, d]).max(1)
}

/// The fields in words, with their states.
fn described(fields: impl Iterator<Item = FieldInfo>) -> Vec<String> {
    let fields = fields.map(|field| match field.states.is_empty() {
        true => field.name,
        false => format!("{} ({})", field.name, field.states.join(", ")),
    });
    fields.collect()
}

/// Whether a bundle was trained for the configuration of a stream.
///
/// # Errors
/// What differs, and what the user can do.
pub fn fits(stream: &StreamSettings, bundle: &Bundle) -> Result<(), PipelineError> {
    let manifest = &bundle.manifest;
    let is_of_images = manifest.shape.is_of_images();
    if is_of_images != stream.image.is_some() {
        return Err(PipelineError::Records {
            bundle: bundle.id().into(),
            stream: stream.name.clone(),
            is_of_images,
        });
    }
    let found = manifest.shape.window;
    if found != stream.window {
        return Err(PipelineError::Window {
            bundle: bundle.id().into(),
            stream: stream.name.clone(),
            found,
            wanted: stream.window,
        });
    }
    let context = &manifest.shape.context;
    let wanted_context = &stream.model.context;
    if context != wanted_context {
        return Err(PipelineError::Context {
            bundle: bundle.id().into(),
            stream: stream.name.clone(),
            found: format!("{context:?}"),
            wanted: format!("{wanted_context:?}"),
        });
    }
    let found = described(manifest.origin.fields.iter().cloned());
    let wanted = described(stream.record.fields.iter().map(FieldInfo::of));
    if found != wanted {
        return Err(PipelineError::Fields {
            bundle: bundle.id().into(),
            stream: stream.name.clone(),
            found: found.join(", "),
            wanted: wanted.join(", "),
        });
    }
    Ok(())
}
