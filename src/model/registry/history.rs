//! What was live when and why, the way back, and the pin.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Registry, RegistryError};
use crate::model::disk::{self, failed};

/// One line for each time that another bundle went live.
const HISTORY: &str = "history.jsonl";
/// While this file is there, no bundle goes live or comes back by itself.
const PINNED: &str = "pinned";
/// This file asks for a training; who trains removes it.
const WANTED: &str = "wanted";

/// A bundle went live.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WentLive {
    /// When, by the clock of the machine.
    pub at: Timestamp,
    /// Its id.
    pub bundle: String,
    /// Why.
    pub why: String,
}

impl Registry {
    /// What went live, the latest last. Lines that are none are left out.
    ///
    /// # Errors
    /// A bad stream name, or the file system's.
    pub fn history(&self, stream: &str) -> Result<Vec<WentLive>, RegistryError> {
        let bytes = disk::read_if_there(&self.folder(stream)?.join(HISTORY))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// The bundle that was live before the present one; `None` where there was none.
    ///
    /// # Errors
    /// As [`Self::history`] and [`Self::current`].
    pub fn previous(&self, stream: &str) -> Result<Option<String>, RegistryError> {
        let current = self.current(stream)?;
        // Who went back once, and goes back again, wants the one before that: everything that went
        // live after the present bundle first did is undone.
        let history: Vec<String> = self
            .history(stream)?
            .into_iter()
            .map(|entry| entry.bundle)
            .collect();
        let first = history
            .iter()
            .position(|id| Some(id) == current.as_ref())
            .unwrap_or(history.len());
        Ok(history[..first].last().cloned())
    }

    /// Whether the live bundle is pinned.
    ///
    /// # Errors
    /// A bad stream name.
    pub fn is_pinned(&self, stream: &str) -> Result<bool, RegistryError> {
        Ok(self.folder(stream)?.join(PINNED).exists())
    }

    /// Pins the live bundle, or unpins it.
    ///
    /// # Errors
    /// A bad stream name, or the file system's.
    pub fn pin(&self, stream: &str, pinned: bool) -> Result<(), RegistryError> {
        let folder = self.folder(stream)?;
        if pinned {
            disk::create_folders(&folder)?;
            return Ok(disk::replace(&folder, PINNED, b"")?);
        }
        match fs::remove_file(folder.join(PINNED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &folder.join(PINNED))(error).into())
            }
            _ => Ok(()),
        }
    }

    /// Asks the daemon that uses this folder to train a challenger.
    ///
    /// # Errors
    /// A bad stream name, or the file system's.
    pub fn want_training(&self, stream: &str) -> Result<(), RegistryError> {
        let folder = self.folder(stream)?;
        disk::create_folders(&folder)?;
        Ok(disk::replace(&folder, WANTED, b"")?)
    }

    /// Whether a training was asked for since the last call.
    ///
    /// # Errors
    /// A bad stream name.
    pub fn take_wanted(&self, stream: &str) -> Result<bool, RegistryError> {
        Ok(fs::remove_file(self.folder(stream)?.join(WANTED)).is_ok())
    }

    pub(super) fn note_live(&self, stream: &str, id: &str, why: &str) -> Result<(), RegistryError> {
        let path = self.folder(stream)?.join(HISTORY);
        let entry = WentLive {
            at: Timestamp::now(),
            bundle: id.to_owned(),
            why: why.to_owned(),
        };
        // One write of one line: another process that appends at the same time does not cut it in
        // two.
        let line = format!("{}\n", serde_json::to_string(&entry).unwrap_or_default());
        let open = OpenOptions::new().create(true).append(true).open(&path);
        let written = open.and_then(|mut file| {
            file.write_all(line.as_bytes())
                .and_then(|()| file.sync_all())
        });
        Ok(written.map_err(failed("write", &path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_two;

    #[test]
    fn the_way_back_is_that_of_the_history() {
        let (_dir, registry, [a, b]) = with_two();
        assert_eq!(registry.previous("pumps").unwrap(), None);
        registry.promote("pumps", &a, "first").unwrap();
        assert_eq!(registry.previous("pumps").unwrap(), None);
        registry.promote("pumps", &b, "proved").unwrap();
        assert_eq!(registry.previous("pumps").unwrap(), Some(a.clone()));
        registry.promote("pumps", &a, "rollback").unwrap();
        assert_eq!(
            registry.previous("pumps").unwrap(),
            None,
            "and not to and fro"
        );
        let whys: Vec<String> = registry
            .history("pumps")
            .unwrap()
            .into_iter()
            .map(|entry| entry.why)
            .collect();
        assert_eq!(whys, ["first", "proved", "rollback"]);
    }

    #[test]
    fn a_training_is_asked_for_once() {
        let (_dir, registry, _) = with_two();
        assert!(!registry.take_wanted("pumps").unwrap());
        registry.want_training("pumps").unwrap();
        assert!(registry.take_wanted("pumps").unwrap());
        assert!(!registry.take_wanted("pumps").unwrap());
    }

    #[test]
    fn a_pin_holds_until_it_is_taken_off() {
        let (_dir, registry, _) = with_two();
        assert!(!registry.is_pinned("pumps").unwrap());
        registry.pin("pumps", true).unwrap();
        registry.pin("pumps", true).unwrap();
        assert!(registry.is_pinned("pumps").unwrap());
        registry.pin("pumps", false).unwrap();
        registry.pin("pumps", false).unwrap();
        assert!(!registry.is_pinned("pumps").unwrap());
    }
}
