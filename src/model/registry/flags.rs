//! What an operator has set for a stream, here or on another instance: the pin, and a request for
//! training. Each is an empty file, so that the command and the daemon share nothing but the folder.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::RegistryError;
use crate::model::disk::{self, failed};

/// While this file is there, no bundle goes live or comes back by itself.
const PINNED: &str = "pinned";
/// This file asks for a training; who trains removes it.
const WANTED: &str = "wanted";

/// See the module.
#[derive(Clone, Debug)]
pub struct OperatorFlags {
    /// The stream's.
    folder: PathBuf,
}

impl OperatorFlags {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Whether the live bundle is pinned.
    pub fn is_pinned(&self) -> bool {
        self.folder.join(PINNED).exists()
    }

    /// Pins the live bundle, or unpins it.
    ///
    /// # Errors
    /// The file system's.
    pub fn pin(&self, pinned: bool) -> Result<(), RegistryError> {
        if pinned {
            return self.set(PINNED);
        }
        let path = self.folder.join(PINNED);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error).into())
            }
            _ => Ok(()),
        }
    }

    /// Asks the daemon that uses this folder to train a challenger.
    ///
    /// # Errors
    /// The file system's.
    pub fn request_training(&self) -> Result<(), RegistryError> {
        self.set(WANTED)
    }

    /// Whether a training was asked for since the last call.
    pub fn take_training_request(&self) -> bool {
        fs::remove_file(self.folder.join(WANTED)).is_ok()
    }

    fn set(&self, flag: &str) -> Result<(), RegistryError> {
        disk::create_folders(&self.folder)?;
        Ok(disk::replace(&self.folder, flag, b"")?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_two;

    #[test]
    fn a_training_is_asked_for_once() {
        let (_dir, registry, _) = with_two();
        let flags = registry.flags("pumps").unwrap();
        assert!(!flags.take_training_request());
        flags.request_training().unwrap();
        assert!(flags.take_training_request());
        assert!(!flags.take_training_request());
    }

    #[test]
    fn a_pin_holds_until_it_is_taken_off() {
        let (_dir, registry, _) = with_two();
        let flags = registry.flags("pumps").unwrap();
        assert!(!flags.is_pinned());
        flags.pin(true).unwrap();
        flags.pin(true).unwrap();
        assert!(flags.is_pinned());
        flags.pin(false).unwrap();
        flags.pin(false).unwrap();
        assert!(!flags.is_pinned());
    }
}
