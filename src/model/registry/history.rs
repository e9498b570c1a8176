//! What was live when and why, and the way back.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RegistryError;
use crate::model::disk::{self, failed};

/// One line for each time that another bundle went live.
const HISTORY: &str = "history.jsonl";
/// Bytes of the history from which on its older half is dropped: some thousand promotions.
const BYTES_MAX: u64 = 1024 * 1024;
/// Characters of a reason that are kept: it may come from another instance.
const WHY_MAX: usize = 500;

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

/// The history of one stream: a file that is appended to, and loses its older half when it is large.
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
        let span = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let from = Timestamp::now().as_second().saturating_sub(span);
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
            why: why.chars().take(WHY_MAX).collect(),
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
        written.map_err(failed("write", &self.path))?;
        self.shorten()
    }

    /// Drops the older half of a history that is too large. A line that another process appends in
    /// this moment is lost.
    fn shorten(&self) -> Result<(), RegistryError> {
        let size = fs::metadata(&self.path).map_err(failed("read", &self.path))?;
        let Some(folder) = self.path.parent().filter(|_| size.len() > BYTES_MAX) else {
            return Ok(());
        };
        let bytes = disk::read(&self.path)?;
        let half = bytes.len() / 2;
        let newer = &bytes[half..];
        let begin = newer.iter().position(|&byte| byte == b'\n');
        let kept = &newer[begin.map_or(0, |at| at + 1)..];
        tracing::info!(path = %self.path.display(), from = bytes.len(), to = kept.len(),
            "history of live bundles is large: its older half is dropped");
        Ok(disk::replace(folder, HISTORY, kept)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_two;
    use super::{AUTOMATIC_ROLLBACK, BYTES_MAX, LiveHistory};

    #[test]
    fn a_large_history_keeps_its_newer_half_in_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let history = LiveHistory::in_folder(folder.path());
        let entry = |id: usize| format!("{id:032x}");
        let why = "a reason of another instance ".repeat(100);
        let mut written = 0;
        let mut largest = 0;
        while written < 4_000 {
            history.append(&entry(written), &why).unwrap();
            written += 1;
            largest = largest.max(history.path.metadata().unwrap().len());
        }
        assert!(largest <= BYTES_MAX, "{largest} bytes");
        let kept = history.entries().unwrap();
        let due: Vec<String> = (written - kept.len()..written).map(entry).collect();
        let bundles: Vec<String> = kept.into_iter().map(|entry| entry.bundle).collect();
        assert_eq!(bundles, due, "the newest, none cut in two");
        assert!(due.len() > 500, "{} are kept", due.len());
        let before = history.before(Some(&entry(written - 1))).unwrap();
        assert_eq!(before, Some(entry(written - 2)));
    }

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
