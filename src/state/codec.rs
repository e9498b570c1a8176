//! The bytes of a stored value: one byte of version, four bytes of CRC-32 (little endian), then
//! postcard.
//!
//! The version is the one in which the layout of the value's type last changed, so that a type that
//! did not change has the same bytes in each release. The checksum covers version and body and is
//! checked on every read. A release reads the layouts that it writes and those before them, and
//! refuses all others: it never misreads or overwrites what another release wrote. It can also write
//! the layouts before (`service.state_format`), so that instances of two releases work in one group
//! and an upgrade can be undone (docs/upgrading.md).

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use serde::{Serialize, de::DeserializeOwned};

use crate::failure::{Failure, FailureClass};

/// The format that this release writes, unless `service.state_format` names the one before. Raise it
/// with a change of a stored type, whose [`Stored::VERSION`] it becomes.
///
/// 2: half-precision peaks, one piece for the chart's vectors, narrower counters. 3: resampling,
/// gaps in windows. 4: several charts. 5: rests, sentinels, and series that end. 6: since when
/// episodes. 7: the layout of rows. 8: the first record of a series.
pub const FORMAT: u8 = 8;
/// The format of the release before.
pub const PREVIOUS: u8 = FORMAT - 1;
/// Since this version the layouts have not changed of the types that implement serde; the ones
/// before were in no release.
const FIRST: u8 = 7;

const HEADER: usize = 5;

/// The format that this process writes; [`FORMAT`] where nobody has set it.
static WRITTEN: OnceLock<u8> = OnceLock::new();

/// Sets the format that this process writes, [`FORMAT`] or [`PREVIOUS`]: one for the whole process,
/// before anything is stored. Later calls have no effect.
pub fn set_written(format: u8) {
    WRITTEN.get_or_init(|| format);
}

fn written() -> u8 {
    WRITTEN.get().copied().unwrap_or(FORMAT)
}

/// A value that is stored. A type whose layout never changed is one by its implementations of
/// serde; another type does not implement `Deserialize`, and implements this.
pub trait Stored: Sized {
    /// The version in which its layout last changed.
    const VERSION: u8;
    /// The version of its layout before, which is read too; [`Stored::VERSION`] where there is none.
    const OLDEST: u8;

    /// Appends the body in the layout of a version to some bytes.
    ///
    /// # Errors
    /// Where postcard cannot write the value.
    fn write(&self, version: u8, bytes: Vec<u8>) -> postcard::Result<Vec<u8>>;

    /// The value of a body in the layout of a version.
    ///
    /// # Errors
    /// Where the body is no value of the type.
    fn read(version: u8, body: &[u8]) -> postcard::Result<Self>;
}

impl<T: Serialize + DeserializeOwned> Stored for T {
    const VERSION: u8 = FIRST;
    const OLDEST: u8 = FIRST;

    fn write(&self, _: u8, bytes: Vec<u8>) -> postcard::Result<Vec<u8>> {
        postcard::to_extend(self, bytes)
    }

    fn read(_: u8, body: &[u8]) -> postcard::Result<Self> {
        postcard::from_bytes(body)
    }
}

/// The version in which this process writes values of a type.
pub fn written_version<T: Stored>() -> u8 {
    version_in::<T>(written())
}

/// The version of a type in a format.
fn version_in<T: Stored>(format: u8) -> u8 {
    match T::VERSION <= format {
        true => T::VERSION,
        false => T::OLDEST,
    }
}

/// Why stored bytes are no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer outlierd.
    #[error(
        "it has format version {found}, but this outlierd reads versions {} to {}: install the newer outlierd again (docs/upgrading.md), or clear it with `outlierd state clear`", .read.start(), .read.end()
    )]
    Newer {
        /// The version found.
        found: u8,
        /// The versions that are read.
        read: RangeInclusive<u8>,
    },
    /// Written by an outlierd that is too old.
    #[error(
        "it has format version {found}, but this outlierd reads versions {} to {}: run the release between the two first (docs/upgrading.md), or clear it with `outlierd state clear`", .read.start(), .read.end()
    )]
    Older {
        /// The version found.
        found: u8,
        /// The versions that are read.
        read: RangeInclusive<u8>,
    },
    /// The bytes are not those that were written.
    #[error("its checksum does not match ({bytes} bytes): it was damaged on disk")]
    Damaged {
        /// How many bytes were found.
        bytes: usize,
    },
    /// The checksum matches but the body is no value of the type.
    #[error("invalid value: {0}")]
    Body(String),
}

impl CodecError {
    /// Whether another release wrote the value, so that it must be left as it is.
    pub fn is_of_another_release(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Older { .. })
    }
}

impl Failure for CodecError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Newer { .. } | Self::Older { .. } => FailureClass::USER,
            Self::Damaged { .. } => FailureClass::EXTERNAL,
            Self::Body(_) => FailureClass::INTERNAL,
        }
    }
}

/// The bytes of a value in the format that this process writes.
///
/// # Errors
/// [`CodecError::Body`] where postcard cannot write the type.
pub fn encode<T: Stored>(value: &T) -> Result<Vec<u8>, CodecError> {
    encode_in(written(), value)
}

/// The bytes of a value in a format.
///
/// # Errors
/// As [`encode`].
pub fn encode_in<T: Stored>(format: u8, value: &T) -> Result<Vec<u8>, CodecError> {
    let version = version_in::<T>(format);
    let mut bytes = value
        .write(version, vec![version, 0, 0, 0, 0])
        .map_err(|error| CodecError::Body(error.to_string()))?;
    let sum = checksum(&bytes);
    bytes[1..HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

/// The value of stored bytes.
///
/// # Errors
/// Where the bytes are damaged, of another release, or no value of the type.
pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, CodecError> {
    let (version, body) = split(T::OLDEST..=T::VERSION, bytes)?;
    T::read(version, body).map_err(|error| CodecError::Body(error.to_string()))
}

/// The version of the stored bytes of a type.
///
/// # Errors
/// As [`decode`]; the body is not looked at.
pub fn version_of<T: Stored>(bytes: &[u8]) -> Result<u8, CodecError> {
    split(T::OLDEST..=T::VERSION, bytes).map(|(version, _)| version)
}

/// Checks that a release wrote a value, of whatever type, whose formats are read.
///
/// # Errors
/// [`CodecError::Newer`] and [`CodecError::Older`]; damaged bytes are of no release.
pub fn check_release(bytes: &[u8]) -> Result<(), CodecError> {
    match split(FIRST..=FORMAT, bytes) {
        Err(error) if error.is_of_another_release() => Err(error),
        _ => Ok(()),
    }
}

/// Version and body.
fn split(read: RangeInclusive<u8>, bytes: &[u8]) -> Result<(u8, &[u8]), CodecError> {
    let damaged = || CodecError::Damaged { bytes: bytes.len() };
    let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(damaged)?;
    let [found, sum @ ..] = header else {
        return Err(damaged());
    };
    if checksum(bytes).to_le_bytes() != sum {
        return Err(damaged());
    }
    let found = *found;
    if found > *read.end() {
        return Err(CodecError::Newer { found, read });
    }
    if found < *read.start() {
        return Err(CodecError::Older { found, read });
    }
    Ok((found, body))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..1]);
    hasher.update(&bytes[HEADER..]);
    hasher.finalize()
}

/// The same bytes with another version, checksum and all.
#[cfg(test)]
pub(super) fn of_version(version: u8, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[0] = version;
    let sum = checksum(&bytes);
    bytes[1..HEADER].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(value: (u64, Vec<f32>, String)) {
            let value = (value.0, value.1.into_iter().map(f32::to_bits).collect::<Vec<_>>(), value.2);
            let bytes = encode(&value).unwrap();
            prop_assert_eq!(decode::<(u64, Vec<u32>, String)>(&bytes), Ok(value));
        }

        #[test]
        fn one_flipped_bit_is_noticed(value: Vec<u32>, at: prop::sample::Index, bit in 0..8u8) {
            let mut bytes = encode(&value).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode::<Vec<u32>>(&bytes).is_err());
        }

        #[test]
        fn any_bytes_give_an_error_or_a_value(bytes: Vec<u8>) {
            let _ = decode::<(u64, Vec<f32>, String)>(&bytes);
        }
    }

    /// A type whose layout changed in the newest format: the second half came then.
    #[derive(PartialEq, Debug)]
    struct Pair(u32, u32);

    impl Stored for Pair {
        const VERSION: u8 = FORMAT;
        const OLDEST: u8 = PREVIOUS;

        fn write(&self, version: u8, bytes: Vec<u8>) -> postcard::Result<Vec<u8>> {
            match version {
                FORMAT => postcard::to_extend(&(self.0, self.1), bytes),
                _ => postcard::to_extend(&self.0, bytes),
            }
        }

        fn read(version: u8, body: &[u8]) -> postcard::Result<Self> {
            match version {
                FORMAT => postcard::from_bytes(body).map(|(a, b)| Self(a, b)),
                _ => postcard::from_bytes(body).map(|a| Self(a, 0)),
            }
        }
    }

    #[test]
    fn both_formats_of_a_type_are_written_and_read() {
        let value = Pair(7, 8);
        let now = encode_in(FORMAT, &value).unwrap();
        let before = encode_in(PREVIOUS, &value).unwrap();
        assert_eq!([now[0], before[0]], [FORMAT, PREVIOUS]);
        assert_eq!(decode(&now), Ok(value));
        assert_eq!(decode(&before), Ok(Pair(7, 0)));
        assert_eq!(version_of::<Pair>(&before), Ok(PREVIOUS));
    }

    #[test]
    fn a_type_that_never_changed_has_the_same_bytes_in_each_format() {
        let formats = [PREVIOUS, FORMAT].map(|format| encode_in(format, &7u32).unwrap());
        assert_eq!(formats[0], formats[1]);
        assert_eq!(decode(&formats[0]), Ok(7u32));
    }

    #[test]
    fn what_another_release_wrote_is_refused_by_its_version() {
        let bytes = encode_in(FORMAT, &Pair(7, 8)).unwrap();
        let read = || PREVIOUS..=FORMAT;
        let (newer, older) = (FORMAT + 1, PREVIOUS - 1);
        let error = decode::<Pair>(&of_version(newer, bytes.clone())).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("it has format version 9, but this outlierd reads versions 7 to 8"),
            "{text}"
        );
        let (found, read_now) = (newer, read());
        assert_eq!(
            error,
            CodecError::Newer {
                found,
                read: read_now
            }
        );
        let (found, read) = (older, read());
        let old = of_version(older, bytes.clone());
        assert_eq!(decode::<Pair>(&old), Err(CodecError::Older { found, read }));
        for (version, is_known) in [(newer, false), (older, false), (FORMAT, true)] {
            let checked = check_release(&of_version(version, bytes.clone()));
            assert_eq!(checked.is_ok(), is_known, "{version}");
        }
        assert_eq!(check_release(b"no value of any release"), Ok(()));
    }
}
