//! What the errors of models and bundles mean for whoever meets them.

use super::ModelError;
use super::bundle::BundleError;
use super::calibration::CalibrationError;
use super::disk::DiskError;
use super::manifest::ManifestError;
use super::registry::RegistryError;
use super::scaler::ScalerError;
use super::script::ScriptError;
use super::shape::ShapeError;
use super::train::TrainError;
use super::weights::WeightsError;
use crate::failure::{Failure, FailureClass};

impl Failure for DiskError {
    fn class(&self) -> FailureClass {
        self.source.class()
    }
}

/// A shape follows from the configuration.
impl Failure for ShapeError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Inputs { .. }
            | Self::Tile { .. }
            | Self::Features { .. }
            | Self::Cells { .. }
            | Self::Latent { .. }
            | Self::HiddenWidth { .. }
            | Self::HiddenLayers { .. }
            | Self::Members { .. }
            | Self::NothingScored { .. }
            | Self::NoScript
            | Self::NoHidden { .. }
            | Self::Window { .. }
            | Self::Size { .. }
            | Self::HiddenOfLinear { .. } => FailureClass::USER,
        }
    }
}

/// A scaler is fitted to the training records.
impl Failure for ScalerError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Rows { .. } | Self::NotFinite { .. } | Self::Spread { .. } => FailureClass::USER,
        }
    }
}

/// outlierd computes a calibration, and the id of the bundle covers it.
impl Failure for CalibrationError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Denoiser { .. } | Self::Length { .. } | Self::Value { .. } => {
                FailureClass::INTERNAL
            }
        }
    }
}

impl Failure for WeightsError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Format(_) | Self::Dtype { .. } => FailureClass::USER,
            Self::Torch(_) => FailureClass::INTERNAL,
        }
    }
}

/// The module is a file of the user.
impl Failure for ScriptError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Disk(error) => error.class(),
            Self::NotAllowed { .. }
            | Self::Checksum { .. }
            | Self::Module { .. }
            | Self::Shape { .. }
            | Self::Maps { .. }
            | Self::NotFinite { .. }
            | Self::Rows { .. } => FailureClass::USER,
        }
    }
}

impl Failure for ModelError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Shape(error) => error.class(),
            Self::Script(error) => error.class(),
            // The file of the weights, or the kind that is configured.
            Self::WeightMissing { .. }
            | Self::WeightUnknown { .. }
            | Self::WeightSize { .. }
            | Self::WeightNotFinite { .. }
            | Self::FeaturesNotFinite
            | Self::NoCode { .. } => FailureClass::USER,
            Self::Input { .. }
            | Self::Rows { .. }
            | Self::NoNetwork { .. }
            | Self::NoMembers
            | Self::Members { .. }
            | Self::Torch(_) => FailureClass::INTERNAL,
        }
    }
}

impl Failure for TrainError {
    fn class(&self) -> FailureClass {
        match self {
            Self::TooFewRows { .. } | Self::NotFinite { .. } | Self::Diverged { .. } => {
                FailureClass::USER
            }
            // By a stop, or by the configured time limit.
            Self::Cancelled { .. } => FailureClass::USER.retryable(),
            Self::Model(error) => error.class(),
        }
    }
}

impl Failure for ManifestError {
    fn class(&self) -> FailureClass {
        match self {
            Self::StreamName { .. } => FailureClass::USER,
            Self::Fields { .. } | Self::Metric { .. } => FailureClass::INTERNAL,
            Self::Shape(error) => error.class(),
        }
    }
}

impl Failure for BundleError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Disk(error) => error.class(),
            // The message names the file to replace, or what to update.
            Self::NewerFormat { .. } | Self::OlderFormat { .. } | Self::Damaged { .. } => {
                FailureClass::USER
            }
            Self::Changed { .. } | Self::Json(_) => FailureClass::INTERNAL,
            Self::Manifest(error) => error.class(),
            Self::Calibration(error) => error.class(),
            Self::Weights(error) => error.class(),
            Self::Encoder(error) => error.class(),
        }
    }
}

impl Failure for RegistryError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Disk(error) => error.class(),
            Self::Stream(error) => error.class(),
            Self::Unknown { .. }
            | Self::Ambiguous { .. }
            | Self::Current { .. }
            | Self::Unreadable { .. }
            | Self::Misplaced { .. } => FailureClass::USER,
            Self::Bundle(error) => error.class(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_full_disk_below_a_bundle_is_not_the_users() {
        let disk = DiskError {
            action: "write",
            path: PathBuf::from("models"),
            source: io::ErrorKind::StorageFull.into(),
        };
        let error = RegistryError::from(BundleError::from(disk));
        assert_eq!(error.class(), FailureClass::EXTERNAL.retryable());
    }

    #[test]
    fn a_damaged_bundle_is_for_the_user_to_replace() {
        let error = RegistryError::from(BundleError::Damaged {
            path: PathBuf::from("weights.safetensors"),
            problem: "truncated".to_owned(),
        });
        assert_eq!(error.class(), FailureClass::USER);
    }
}
