//! Alerts as JSON lines, appended to a file or written to the standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::{Destination, DestinationError};

/// Appends alerts to a file, and opens it again after a log rotation.
pub(super) struct AlertFile {
    path: PathBuf,
    file: File,
}

impl AlertFile {
    /// Opens the file, or creates it; its folder must exist.
    ///
    /// # Errors
    /// [`DestinationError::Open`].
    pub(super) fn open(path: &Path) -> Result<Self, DestinationError> {
        let file = open(path).map_err(|source| DestinationError::Open {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Whether the path still leads to the open file: a rotation renames or removes it.
    fn is_current(&self) -> io::Result<bool> {
        let open = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes the lines, all or none of them, and flushes them to the disk.
    fn append(&mut self, lines: &str) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        let written = self
            .file
            .write_all(lines.as_bytes())
            .and_then(|()| self.file.sync_data());
        if written.is_err() {
            // A full disk takes a part of a line. Where it cannot be removed either, the line break
            // that the next attempt needs is written by `end_line`.
            let _ = self.file.set_len(before);
        }
        written
    }
}

impl Destination for AlertFile {
    fn deliver(&mut self, alerts: &[String]) -> Result<(), DestinationError> {
        let path = self.path.clone();
        let fail = |source| DestinationError::Write {
            path: path.clone(),
            source,
        };
        if !self.is_current().map_err(fail)? {
            *self = Self::open(&path)?;
        }
        end_line(&mut self.file)
            .and_then(|()| self.append(&lines(alerts)))
            .map_err(fail)?;
        match self.file.metadata() {
            Ok(metadata) if metadata.nlink() == 0 => Err(DestinationError::Removed { path }),
            _ => Ok(()),
        }
    }
}

/// The alerts, a line each.
fn lines(alerts: &[String]) -> String {
    alerts.iter().flat_map(|alert| [alert, "\n"]).collect()
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a named pipe would wait for its reader.
    let existing = fs::metadata(path).ok();
    if existing.as_ref().is_some_and(|found| !found.is_file()) {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    if existing.is_none() {
        // The file's name is on the disk before the first position is committed.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(file)
}

/// Ends a line that a crash of the machine left incomplete: its alert was not committed, and
/// follows in a line for itself.
fn end_line(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last == [b'\n'] {
        return Ok(());
    }
    file.write_all(b"\n")
}

/// Writes alerts to the standard output. The log goes to the standard error.
pub(super) struct AlertStdout;

impl Destination for AlertStdout {
    fn deliver(&mut self, alerts: &[String]) -> Result<(), DestinationError> {
        let mut out = io::stdout().lock();
        out.write_all(lines(alerts).as_bytes())
            .and_then(|()| out.flush())
            .map_err(DestinationError::Stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure as _, FailureClass};

    fn alerts(numbers: std::ops::Range<u32>) -> Vec<String> {
        numbers
            .map(|number| format!("{{\"id\":\"a\",\"sequence\":{number}}}"))
            .collect()
    }

    fn read_lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn alerts_are_appended_to_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.jsonl");
        AlertFile::open(&path)
            .unwrap()
            .deliver(&alerts(0..2))
            .unwrap();
        AlertFile::open(&path)
            .unwrap()
            .deliver(&alerts(2..3))
            .unwrap();
        assert_eq!(read_lines(&path), alerts(0..3));
    }

    #[test]
    fn a_renamed_file_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("alerts"), folder.path().join("alerts.1"));
        let mut file = AlertFile::open(&path).unwrap();
        file.deliver(&alerts(0..2)).unwrap();
        fs::rename(&path, &rotated).unwrap();
        file.deliver(&alerts(2..4)).unwrap();
        assert_eq!(
            (read_lines(&rotated), read_lines(&path)),
            (alerts(0..2), alerts(2..4))
        );
        // The rotation may create the new file itself.
        fs::rename(&path, &rotated).unwrap();
        fs::write(&path, "").unwrap();
        file.deliver(&alerts(4..5)).unwrap();
        assert_eq!(
            (read_lines(&rotated), read_lines(&path)),
            (alerts(2..4), alerts(4..5))
        );
    }

    #[test]
    fn a_removed_file_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts");
        let mut file = AlertFile::open(&path).unwrap();
        file.deliver(&alerts(0..1)).unwrap();
        fs::remove_file(&path).unwrap();
        file.deliver(&alerts(1..2)).unwrap();
        assert_eq!(read_lines(&path), alerts(1..2));
    }

    #[test]
    fn a_truncated_file_is_written_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts");
        let mut file = AlertFile::open(&path).unwrap();
        file.deliver(&alerts(0..2)).unwrap();
        File::create(&path).unwrap();
        file.deliver(&alerts(2..3)).unwrap();
        assert_eq!(read_lines(&path), alerts(2..3));
    }

    #[test]
    fn an_incomplete_line_is_ended_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts");
        fs::write(&path, "{\"id\":\"a\",\"seq").unwrap();
        AlertFile::open(&path)
            .unwrap()
            .deliver(&alerts(0..1))
            .unwrap();
        let due = [vec!["{\"id\":\"a\",\"seq".to_owned()], alerts(0..1)].concat();
        assert_eq!(read_lines(&path), due);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("none/alerts"), folder.path().to_owned()] {
            let error = AlertFile::open(&path).err().unwrap().to_string();
            assert!(
                error.contains(&format!("{path:?} cannot be opened: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_folder_that_is_gone_fails_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, away) = (folder.path().join("inner"), folder.path().join("away"));
        fs::create_dir(&inner).unwrap();
        let path = inner.join("alerts");
        let mut file = AlertFile::open(&path).unwrap();
        fs::rename(&inner, &away).unwrap();
        let error = file.deliver(&alerts(0..1)).unwrap_err();
        assert!(matches!(error, DestinationError::Open { .. }), "{error}");
        assert_eq!(error.class(), FailureClass::USER);
        fs::rename(&away, &inner).unwrap();
        file.deliver(&alerts(0..1)).unwrap();
        assert_eq!(read_lines(&path), alerts(0..1));
    }

    /// `/dev/full` takes nothing, as a full disk.
    #[test]
    fn a_full_disk_is_an_error() {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .open("/dev/full")
            .unwrap();
        let path = PathBuf::from("/dev/full");
        let error = AlertFile { path, file }.deliver(&alerts(0..1)).unwrap_err();
        assert!(matches!(error, DestinationError::Write { .. }), "{error}");
        assert_eq!(error.class(), FailureClass::EXTERNAL.retryable());
    }
}
