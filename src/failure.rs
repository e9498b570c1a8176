//! What an error means for whoever meets it: who has to act, and whether a repetition helps. Every
//! error of outlierd answers both.
//!
//! The impls have no wildcard arm, so that a new variant has to decide. Those of foreign types, which
//! are not exhaustive, are below for `std::io::Error` and in `source/failure.rs` for `KafkaError`.

use std::any::Any;
use std::error::Error;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who has to act on an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Domain {
    /// Whoever set outlierd up or sends the data: the configuration, a file or a record must
    /// change.
    User,
    /// Whoever runs what outlierd uses: brokers, disks, the network, the operating system.
    External,
    /// Whoever develops outlierd: a bug, or an invariant that does not hold.
    Internal,
}

impl_as_str!(Domain);

/// What an error means: who has to act, and whether the same call may succeed later although nobody
/// changes anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailureClass {
    domain: Domain,
    is_retryable: bool,
}

impl FailureClass {
    /// The user has to change something.
    pub const USER: Self = Self::lasting(Domain::User);
    /// Something outside of outlierd has to be repaired.
    pub const EXTERNAL: Self = Self::lasting(Domain::External);
    /// A bug of outlierd.
    pub const INTERNAL: Self = Self::lasting(Domain::Internal);

    /// A repetition does not help.
    pub const fn lasting(domain: Domain) -> Self {
        Self {
            domain,
            is_retryable: false,
        }
    }

    /// The same, where a repetition may succeed.
    pub const fn retryable(self) -> Self {
        Self {
            domain: self.domain,
            is_retryable: true,
        }
    }
}

/// Panics on the thread that a test has named: `OUTLIERD_TEST_PANIC=THREAD=FILE` does so once the
/// file exists. A panic of a step is an error of its records; this one ends the process.
#[cfg(feature = "kafka-tests")]
pub fn panic_if_asked() {
    static ASKED: std::sync::OnceLock<Option<(String, std::path::PathBuf)>> =
        std::sync::OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        let asked = std::env::var("OUTLIERD_TEST_PANIC").ok()?;
        let (thread, file) = asked.split_once('=')?;
        Some((thread.to_owned(), file.into()))
    });
    if let Some((name, file)) = asked
        && std::thread::current().name() == Some(name)
        && file.exists()
    {
        panic!("{name} was asked to");
    }
}

/// Does nothing: only builds for tests are asked.
#[cfg(not(feature = "kafka-tests"))]
pub fn panic_if_asked() {}

/// An error that knows what it means.
pub trait Failure: Error {
    /// Both answers; an error that wraps another one answers as that one does.
    fn class(&self) -> FailureClass;

    /// Who has to act.
    fn domain(&self) -> Domain {
        self.class().domain
    }

    /// Whether the same call may succeed later although nobody changes anything.
    fn is_retryable(&self) -> bool {
        self.class().is_retryable
    }
}

impl Failure for io::Error {
    /// A path or an address that does not fit is the user's; all else is the machine's. A disk that
    /// is full may be freed by another program, and a network may come back.
    fn class(&self) -> FailureClass {
        use io::ErrorKind as Kind;
        match self.kind() {
            Kind::AddrInUse
            | Kind::AddrNotAvailable
            | Kind::AlreadyExists
            | Kind::InvalidData
            | Kind::InvalidFilename
            | Kind::InvalidInput
            | Kind::IsADirectory
            | Kind::NotADirectory
            | Kind::NotFound
            | Kind::PermissionDenied => FailureClass::USER,
            Kind::ConnectionAborted
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::NotConnected
            | Kind::OutOfMemory
            | Kind::QuotaExceeded
            | Kind::ResourceBusy
            | Kind::StaleNetworkFileHandle
            | Kind::StorageFull
            | Kind::TimedOut
            | Kind::WouldBlock => FailureClass::EXTERNAL.retryable(),
            // `ErrorKind` is not exhaustive.
            _ => FailureClass::EXTERNAL,
        }
    }
}

/// The message of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// The failure that is going on, for `/status`.
#[derive(Default, Debug)]
pub struct PresentFailure(Mutex<Option<FailureReport>>);

/// A failure as `/status` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailureReport {
    /// Who has to act.
    pub domain: Domain,
    /// The text of the error.
    pub text: String,
}

impl PresentFailure {
    /// What fails now; `None` while all is well.
    pub fn get(&self) -> Option<FailureReport> {
        self.lock().clone()
    }

    /// Keeps an error; returns whether it is another one than before.
    pub fn set(&self, error: &dyn Failure) -> bool {
        let report = FailureReport {
            domain: error.domain(),
            text: error.to_string(),
        };
        let mut kept = self.lock();
        let is_new = kept.as_ref() != Some(&report);
        *kept = Some(report);
        is_new
    }

    /// All is well again; returns whether it was not.
    pub fn clear(&self) -> bool {
        self.lock().take().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<FailureReport>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_users_and_a_disk_is_not() {
        for (kind, domain, is_retryable) in [
            (io::ErrorKind::NotFound, Domain::User, false),
            (io::ErrorKind::PermissionDenied, Domain::User, false),
            (io::ErrorKind::StorageFull, Domain::External, true),
            (io::ErrorKind::ReadOnlyFilesystem, Domain::External, false),
            (io::ErrorKind::Other, Domain::External, false),
            // A thread that the system cannot give now.
            (io::ErrorKind::WouldBlock, Domain::External, true),
        ] {
            let error = io::Error::from(kind);
            assert_eq!(error.domain(), domain, "{kind}");
            assert_eq!(error.is_retryable(), is_retryable, "{kind}");
        }
    }

    #[test]
    fn a_failure_is_new_until_it_has_been_kept() {
        let failure = PresentFailure::default();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!([failure.set(&full), failure.set(&full)], [true, false]);
        assert!(failure.set(&io::Error::from(io::ErrorKind::NotFound)));
        assert_eq!(failure.get().unwrap().domain.as_str(), "user");
        assert_eq!([failure.clear(), failure.clear()], [true, false]);
        assert_eq!(failure.get(), None);
    }
}
