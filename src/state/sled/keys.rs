//! The keys of a stream's tree: one byte for the kind of entry, and what names it.
//!
//! | key | value |
//! |---|---|
//! | `P`, partition | position |
//! | `C`, partition | position in the changelog |
//! | `S`, partition, series | state |
//! | `L`, partition, offset | training record |
//! | `N`, key | note of the retraining |
//!
//! Partitions have 4 bytes and offsets 8, big endian, so that their order is that of the keys.

pub(super) const POSITION: u8 = b'P';
pub(super) const CHANGELOG: u8 = b'C';
pub(super) const STATE: u8 = b'S';
pub(super) const LEARNED: u8 = b'L';
pub(super) const NOTE: u8 = b'N';

pub(super) fn partition_key(kind: u8, partition: i32) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

pub(super) fn state_key(partition: i32, series: &str) -> Vec<u8> {
    let mut key = partition_key(STATE, partition);
    key.extend_from_slice(series.as_bytes());
    key
}

pub(super) fn learned_key(partition: i32, offset: i64) -> Vec<u8> {
    let mut key = partition_key(LEARNED, partition);
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

pub(super) fn note_key(key: &str) -> Vec<u8> {
    [&[NOTE], key.as_bytes()].concat()
}

/// The last `N` bytes of a key or value as an array; `None` where it is shorter.
pub(super) fn tail<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.last_chunk::<N>().copied()
}
