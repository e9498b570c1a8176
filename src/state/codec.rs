//! The bytes of a stored value: one byte of version, four bytes of CRC-32 (little endian), then
//! postcard.
//!
//! The checksum covers version and body and is checked on every read. A version newer than this
//! program's is refused, so that a downgrade never misreads what an upgrade wrote.

use serde::{Serialize, de::DeserializeOwned};

use crate::failure::{Failure, FailureClass};

/// The version that this program writes. Raise it with every change of a stored type, and keep
/// reading the older ones.
///
/// 2: half-precision peaks, one piece for the chart's vectors, narrower counters. 3: resampling,
/// gaps in windows. 4: several charts. 5: rests, sentinels, and series that end. 6: since when
/// episodes. 7: the layout of rows.
pub const VERSION: u8 = 7;
/// The oldest version that is read: the ones before were in no release.
const OLDEST: u8 = 7;

const HEADER: usize = 5;

/// Why stored bytes are no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer outlierd.
    #[error(
        "it has format version {found}, but this outlierd reads versions up to {VERSION}: install the newer outlierd again, or clear it with `outlierd state clear`"
    )]
    Newer {
        /// The version found.
        found: u8,
    },
    /// Written by an outlierd that is too old.
    #[error(
        "it has format version {found}, but this outlierd reads versions {OLDEST} to {VERSION}"
    )]
    Older {
        /// The version found.
        found: u8,
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

impl Failure for CodecError {
    fn class(&self) -> FailureClass {
        match self {
            Self::Newer { .. } | Self::Older { .. } => FailureClass::USER,
            Self::Damaged { .. } => FailureClass::EXTERNAL,
            Self::Body(_) => FailureClass::INTERNAL,
        }
    }
}

/// The bytes of a value.
///
/// # Errors
/// [`CodecError::Body`] where postcard cannot write the type.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VERSION, 0, 0, 0, 0];
    bytes =
        postcard::to_extend(value, bytes).map_err(|error| CodecError::Body(error.to_string()))?;
    let sum = checksum(&bytes);
    bytes[1..HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

/// The value of stored bytes.
///
/// # Errors
/// Where the bytes are damaged, of a newer version, or no value of the type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let damaged = || CodecError::Damaged { bytes: bytes.len() };
    let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(damaged)?;
    let [version, sum @ ..] = header else {
        return Err(damaged());
    };
    if checksum(bytes).to_le_bytes() != sum {
        return Err(damaged());
    }
    if *version > VERSION {
        return Err(CodecError::Newer { found: *version });
    }
    if *version < OLDEST {
        return Err(CodecError::Older { found: *version });
    }
    postcard::from_bytes(body).map_err(|error| CodecError::Body(error.to_string()))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..1]);
    hasher.update(&bytes[HEADER..]);
    hasher.finalize()
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

    /// The bytes of a value, with the version number of another format.
    fn of_version(version: u8) -> Vec<u8> {
        let mut bytes = encode(&7u32).unwrap();
        bytes[0] = version;
        let sum = checksum(&bytes);
        bytes[1..HEADER].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let found = VERSION + 1;
        assert_eq!(
            decode::<u32>(&of_version(found)),
            Err(CodecError::Newer { found })
        );
    }

    #[test]
    fn one_that_is_too_old_is_not_misread() {
        assert_eq!(decode::<u32>(&of_version(VERSION)), Ok(7));
        assert_eq!(
            decode::<u32>(&of_version(1)),
            Err(CodecError::Older { found: 1 })
        );
    }
}
