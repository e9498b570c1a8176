//! A bundle in pieces: its files as one run of bytes, cut into parts that fit into messages,
//! verified by their hash.

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureClass};
use crate::state::codec::{self, CodecError};

/// Bytes of a part: well below the 1 MiB that brokers take without being told otherwise.
pub const PART_BYTES: usize = 512 * 1024;
/// Largest parcel that is put together, in bytes: what claims to be larger is none of ours.
pub const BYTES_MAX: usize = 256 * 1024 * 1024;

/// The files of a bundle by name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BundleArchive {
    /// Name and content of each.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The header of a part: which archive it belongs to, and where.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ArchiveHeader {
    /// BLAKE3 hash of the whole, in hexadecimal digits.
    pub hash: String,
    /// Its length in bytes.
    pub bytes: usize,
}

impl ArchiveHeader {
    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.bytes.div_ceil(PART_BYTES).max(1)
    }
}

/// The key of a part: stream, bundle and number.
pub fn part_key(stream: &str, id: &str, number: usize) -> String {
    format!("{stream}/{id}/{number}")
}

/// What a key of [`part_key`] names; `None` where it is none.
pub fn part_of(key: &str) -> Option<(&str, &str, usize)> {
    let (rest, number) = key.rsplit_once('/')?;
    let (stream, id) = rest.rsplit_once('/')?;
    Some((stream, id, number.parse().ok()?))
}

/// Why parts are no parcel.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The hash is another one.
    #[error("its hash is {found}, but its header has {wanted}: it was damaged in transit")]
    Hash {
        /// Of what came.
        found: String,
        /// Of what was sent.
        wanted: String,
    },
    /// It cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Failure for ArchiveError {
    fn class(&self) -> FailureClass {
        match self {
            // The message that arrived stays as it is.
            Self::Hash { .. } => FailureClass::EXTERNAL,
            Self::Codec(error) => error.class(),
        }
    }
}

impl BundleArchive {
    /// Label and parts.
    ///
    /// # Errors
    /// Where it cannot be encoded.
    pub fn pack(&self) -> Result<(ArchiveHeader, Vec<Vec<u8>>), ArchiveError> {
        let bytes = codec::encode(self)?;
        let header = ArchiveHeader {
            hash: blake3::hash(&bytes).to_hex().to_string(),
            bytes: bytes.len(),
        };
        Ok((
            header,
            bytes.chunks(PART_BYTES).map(<[u8]>::to_vec).collect(),
        ))
    }
}

/// Parts of one parcel that have come so far.
#[derive(Debug)]
pub struct ChunkAssembler {
    header: ArchiveHeader,
    parts: Vec<Option<Vec<u8>>>,
}

impl ChunkAssembler {
    /// Nothing has come yet; `None` where the label is none of ours.
    pub fn new(header: ArchiveHeader) -> Option<Self> {
        (header.bytes <= BYTES_MAX).then(|| Self {
            parts: vec![None; header.parts()],
            header,
        })
    }

    /// The label.
    pub fn header(&self) -> &ArchiveHeader {
        &self.header
    }

    /// Takes a part; a number that there is not is left out.
    pub fn take(&mut self, number: usize, bytes: &[u8]) {
        if let Some(part) = self.parts.get_mut(number) {
            *part = Some(bytes.to_vec());
        }
    }

    /// The parcel, once every part is there.
    ///
    /// # Errors
    /// Where what came is not what was sent.
    pub fn open(&self) -> Result<Option<BundleArchive>, ArchiveError> {
        let parts: Option<Vec<&[u8]>> = self.parts.iter().map(Option::as_deref).collect();
        let Some(parts) = parts else { return Ok(None) };
        let bytes = parts.concat();
        let found = blake3::hash(&bytes).to_hex().to_string();
        if found != self.header.hash {
            return Err(ArchiveError::Hash {
                found,
                wanted: self.header.hash.clone(),
            });
        }
        Ok(Some(codec::decode(&bytes)?))
    }
}

/// Bundles of which not every part has come yet, the oldest first. Together they claim at most
/// [`BYTES_MAX`]: a sender that never completes one takes no more memory.
#[derive(Debug, Default)]
pub struct IncompleteBundles(Vec<(String, ChunkAssembler)>);

impl IncompleteBundles {
    /// Begins the bundle `id` where it is not one of them with this header. Returns the ids of the
    /// oldest ones that leave no room for it and are dropped; `None` where the header claims more
    /// than any bundle has.
    pub fn begin(&mut self, id: &str, header: ArchiveHeader) -> Option<Vec<String>> {
        let known = self.get_mut(id);
        if known.is_some_and(|known| *known.header() == header) {
            return Some(Vec::new());
        }
        self.remove(id);
        let bytes = header.bytes;
        let new = ChunkAssembler::new(header)?;
        let mut dropped = Vec::new();
        while !self.0.is_empty() && self.claimed() + bytes > BYTES_MAX {
            dropped.push(self.0.remove(0).0);
        }
        self.0.push((id.to_owned(), new));
        Some(dropped)
    }

    fn claimed(&self) -> usize {
        self.0.iter().map(|(_, of)| of.header().bytes).sum()
    }

    /// One of them.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut ChunkAssembler> {
        let mut all = self.0.iter_mut();
        all.find(|(of, _)| of == id).map(|(_, found)| found)
    }

    /// It is complete, or not wanted any more.
    pub fn remove(&mut self, id: &str) {
        self.0.retain(|(of, _)| of != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> BundleArchive {
        let content = (0..3 * PART_BYTES / 2).map(|i| (i % 251) as u8).collect();
        BundleArchive {
            files: vec![
                ("weights".into(), content),
                ("manifest".into(), b"{}".to_vec()),
            ],
        }
    }

    #[test]
    fn parts_in_any_order_make_the_parcel() {
        let (header, parts) = archive().pack().unwrap();
        assert_eq!(parts.len(), 2);
        let mut assembling = ChunkAssembler::new(header).unwrap();
        assembling.take(1, &parts[1]);
        assembling.take(7, b"of another one");
        assert_eq!(assembling.open().unwrap(), None);
        assembling.take(0, &parts[0]);
        assert_eq!(assembling.open().unwrap(), Some(archive()));
    }

    #[test]
    fn a_damaged_part_is_noticed() {
        let (header, mut parts) = archive().pack().unwrap();
        parts[1][5] ^= 1;
        let mut assembling = ChunkAssembler::new(header).unwrap();
        parts
            .iter()
            .enumerate()
            .for_each(|(number, part)| assembling.take(number, part));
        assert!(matches!(assembling.open(), Err(ArchiveError::Hash { .. })));
    }

    #[test]
    fn bundles_that_never_become_complete_take_bounded_memory() {
        let header = |hash: &str| ArchiveHeader {
            hash: hash.to_owned(),
            bytes: BYTES_MAX / 2,
        };
        let mut all = IncompleteBundles::default();
        let mut begin = |id: &str, hash: &str| all.begin(id, header(hash)).unwrap();
        assert_eq!(begin("a", "1"), [""; 0]);
        assert_eq!(begin("b", "2"), [""; 0]);
        assert_eq!(begin("a", "1"), [""; 0], "it is known");
        assert_eq!(begin("c", "3"), ["a"]);
        assert_eq!(begin("b", "4"), [""; 0], "another one of that id");
        assert!(all.get_mut("a").is_none() && all.get_mut("b").is_some());
    }

    #[test]
    fn a_label_that_claims_too_much_is_refused() {
        assert!(
            ChunkAssembler::new(ArchiveHeader {
                hash: String::new(),
                bytes: usize::MAX
            })
            .is_none()
        );
    }
}
