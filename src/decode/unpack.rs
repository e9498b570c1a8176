//! What senders wrap around a payload without saying so: compression of the value itself (not that of
//! Kafka, which the client undoes), and the frame of a schema registry around JSON.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;

use super::{DecodeProblem, meta};
use crate::record::RejectReason;

/// The first bytes of gzip (RFC 1952, section 2.3.1).
const GZIP: &[u8] = &[0x1F, 0x8B];
/// The first bytes of a frame of Zstandard (RFC 8878, section 3.1.1).
const ZSTD: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];
/// The first byte of a frame; the id of a schema follows in four bytes.
const FRAME: u8 = 0;
/// Bytes of a frame in front of its value.
const FRAME_BYTES: usize = 5;

/// The payload as it was before it was packed.
pub(super) fn unpacked(payload: &[u8], bytes_max: usize) -> Result<Cow<'_, [u8]>, DecodeProblem> {
    if payload.starts_with(GZIP) {
        return read("gzip", MultiGzDecoder::new(payload), bytes_max);
    }
    if payload.starts_with(ZSTD) {
        let reader = zstd::stream::read::Decoder::with_buffer(payload);
        return match reader {
            Ok(reader) => read("zstd", reader, bytes_max),
            Err(error) => Err(damaged("zstd", &error)),
        };
    }
    Ok(Cow::Borrowed(payload))
}

/// JSON without the frame of a registry.
pub(super) fn without_frame(payload: &[u8]) -> &[u8] {
    match payload.split_at_checked(FRAME_BYTES) {
        Some(([FRAME, ..], json)) if json.trim_ascii_start().starts_with(b"{") => json,
        Some(([FRAME, ..], json)) if json.trim_ascii_start().starts_with(b"[") => json,
        _ => payload,
    }
}

fn read(
    kind: &str,
    reader: impl Read,
    bytes_max: usize,
) -> Result<Cow<'static, [u8]>, DecodeProblem> {
    let mut bytes = Vec::new();
    let limit = bytes_max as u64 + 1;
    reader
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(kind, &error))?;
    if bytes.len() > bytes_max {
        return Err(meta::too_large(bytes_max));
    }
    Ok(Cow::Owned(bytes))
}

fn damaged(kind: &str, error: &std::io::Error) -> DecodeProblem {
    let detail = format!("the payload begins like {kind}, which cannot be unpacked: {error}");
    DecodeProblem::new(RejectReason::NotDecodable, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const TEXT: &[u8] = br#"{"x": 1}"#;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn packed_payloads_are_unpacked_and_others_left_as_they_are() {
        assert_eq!(unpacked(&gzip(TEXT), 100).as_deref(), Ok(TEXT));
        let packed = zstd::encode_all(TEXT, 3).unwrap();
        assert_eq!(unpacked(&packed, 100).as_deref(), Ok(TEXT));
        assert!(matches!(unpacked(TEXT, 100), Ok(Cow::Borrowed(TEXT))));
        assert_eq!(unpacked(b"", 100).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn an_unpacked_payload_is_as_bounded_as_another() {
        let bomb = gzip(&vec![b' '; 1 << 20]);
        let problem = unpacked(&bomb, 1000).expect_err("too large");
        assert_eq!(problem.reason, RejectReason::TooLarge);
    }

    #[test]
    fn damage_is_named() {
        for packed in [gzip(TEXT), zstd::encode_all(TEXT, 3).unwrap()] {
            let cut = &packed[..packed.len() - 6];
            let problem = unpacked(cut, 100).expect_err("cut");
            assert_eq!(problem.reason, RejectReason::NotDecodable);
            assert!(problem.detail.contains("cannot be unpacked"));
        }
    }

    #[test]
    fn only_json_loses_a_frame() {
        assert_eq!(without_frame(b"\0\0\0\0\x07{\"x\": 1}"), TEXT);
        assert_eq!(without_frame(b"\0\0\0\0\x07 [1]"), b" [1]");
        for payload in [&b"\0\0\0\0\x07\x02"[..], b"\0\0\0", b"{}", b"\0\0\0\0\x07"] {
            assert_eq!(without_frame(payload), payload);
        }
    }
}
