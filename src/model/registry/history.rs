//! What was live when and why, and the way back.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RegistryError;
use crate::model::disk::{self, failed};

/// One line for each time that another bundle went live.
const HISTORY: &str = "history.jsonl";

/// What the reason of a rollback that no operator asked for begins with.
pub const AUTOMATIC_ROLLBACK: &str = "automatic rollback";

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

/// The history of one stream: a file that is only appended to.
#[derive(Clone, Debug)]
pub struct LiveHistory {
    path: PathBuf,
}

impl LiveHistory {
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            path: folder.join(HISTORY),
        }
    }

    /// What went live, the latest last. Lines that are none are left out.
    ///
    /// # Errors
    /// The file system's.
    pub fn entries(&self) -> Result<Vec<WentLive>, RegistryError> {
        let bytes = disk::read_if_there(&self.path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// The bundles that went live within a duration before now, in their order, but for those that
    /// were rolled back for their alerts.
    ///
    /// # Errors
    /// As [`Self::entries`].
    pub fn kept_within(&self, duration: Duration) -> Result<Vec<String>, RegistryError> {
        let entries = self.entries()?;
        let from = Timestamp::now().as_second() - duration.as_secs().cast_signed();
        let is_automatic = |entry: &WentLive| entry.why.starts_with(AUTOMATIC_ROLLBACK);
        let failed: Vec<&str> = entries
            .windows(2)
            .filter(|pair| is_automatic(&pair[1]))
            .map(|pair| pair[0].bundle.as_str())
            .collect();
        let kept = entries
            .iter()
            .filter(|entry| entry.at.as_second() >= from)
            .map(|entry| entry.bundle.as_str())
            .filter(|bundle| !failed.contains(bundle));
        Ok(kept.map(str::to_owned).collect())
    }

    /// The bundle that was live before `current`; `None` where there was none.
    ///
    /// # Errors
    /// As [`Self::entries`].
    pub(super) fn before(&self, current: Option<&str>) -> Result<Option<String>, RegistryError> {
        // Who went back once, and goes back again, wants the one before that: everything that went
        // live after the present bundle first did is undone.
        let history: Vec<String> = self
            .entries()?
            .into_iter()
            .map(|entry| entry.bundle)
            .collect();
        let first = history
            .iter()
            .position(|id| Some(id.as_str()) == current)
            .unwrap_or(history.len());
        Ok(history[..first].last().cloned())
    }

    /// Notes that the bundle `id` went live.
    pub(super) fn append(&self, id: &str, why: &str) -> Result<(), RegistryError> {
        let entry = WentLive {
            at: Timestamp::now(),
            bundle: id.to_owned(),
            why: why.to_owned(),
        };
        // One write of one line: another process that appends at the same time does not cut it in
        // two.
        let line = format!("{}\n", serde_json::to_string(&entry).unwrap_or_default());
        let open = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path);
        let written = open.and_then(|mut file| {
            file.write_all(line.as_bytes())
                .and_then(|()| file.sync_all())
        });
        Ok(written.map_err(failed("write", &self.path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_two;
    use super::AUTOMATIC_ROLLBACK;

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
            .entries()
            .unwrap()
            .into_iter()
            .map(|entry| entry.why)
            .collect();
        assert_eq!(whys, ["first", "proved", "rollback"]);
        let year = std::time::Duration::from_secs(365 * 24 * 3600);
        let kept = || {
            registry
                .history("pumps")
                .unwrap()
                .kept_within(year)
                .unwrap()
        };
        assert_eq!(kept(), [a.as_str(), &b, &a]);
        registry.promote("pumps", &b, "proved again").unwrap();
        let why = format!("{AUTOMATIC_ROLLBACK}: 9 alerts");
        registry.promote("pumps", &a, &why).unwrap();
        assert_eq!(kept(), [a.as_str(), &a, &a], "b raised too many alerts");
    }
}
