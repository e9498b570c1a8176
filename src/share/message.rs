//! What the messages of the shared topics carry beside key and value: the bundle that a part belongs
//! to, and the signature.

use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};

use super::archive::ArchiveHeader;
use crate::events::share::MessageRefused;
use crate::signature::{SIGNATURE_HEADER, SharingKeys, SignedContent};

/// Headers of a part of a bundle.
const HASH: &str = "outlierd-hash";
const BYTES: &str = "outlierd-bytes";

/// The headers of a message: those of a part of a bundle, and the signature where there is a key.
pub fn headers(
    keys: &SharingKeys,
    topic: &str,
    key: &str,
    value: Option<&[u8]>,
    part: Option<&ArchiveHeader>,
) -> OwnedHeaders {
    let bytes = part.map(|part| part.bytes.to_string());
    let of_part = part.zip(bytes.as_deref());
    let of_part = of_part.map(|(part, bytes)| [part.hash.as_str(), bytes]);
    let signature = keys.sign(&SignedContent {
        topic,
        key,
        value,
        headers: of_part.unwrap_or_default(),
    });
    let mut headers = OwnedHeaders::new();
    for (key, value) in [HASH, BYTES].into_iter().zip(of_part.into_iter().flatten()) {
        let value = Some(value);
        headers = headers.insert(Header { key, value });
    }
    if let Some(signature) = &signature {
        headers = headers.insert(Header {
            key: SIGNATURE_HEADER,
            value: Some(signature.as_str()),
        });
    }
    headers
}

/// Whether a message may be used; one that may not is reported.
pub(super) fn is_accepted(keys: &SharingKeys, message: &BorrowedMessage<'_>) -> bool {
    let key = key(message);
    let text = |name| {
        let value = header(message, name);
        value.map_or("", |bytes| str::from_utf8(bytes).unwrap_or_default())
    };
    let content = SignedContent {
        topic: message.topic(),
        key: &key,
        value: message.payload(),
        headers: [text(HASH), text(BYTES)],
    };
    let refusal = keys.verify(&content, header(message, SIGNATURE_HEADER));
    if let Err(refusal) = refusal {
        MessageRefused {
            topic: message.topic(),
            key: &key,
            refusal,
        }
        .emit();
    }
    refusal.is_ok()
}

/// The key of a message.
pub(super) fn key(message: &BorrowedMessage<'_>) -> String {
    let key = message.key().map(String::from_utf8_lossy);
    key.unwrap_or_default().into_owned()
}

/// Label and bytes of a part; `None` where the message removes it.
pub(super) fn part<'m>(message: &'m BorrowedMessage<'_>) -> Option<(ArchiveHeader, &'m [u8])> {
    let bytes = message.payload()?;
    let text = |name| Some(str::from_utf8(header(message, name)?).ok()?.to_owned());
    let header = ArchiveHeader {
        hash: text(HASH)?,
        bytes: text(BYTES)?.parse().ok()?,
    };
    Some((header, bytes))
}

/// The last value of a header.
fn header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m [u8]> {
    let headers = message.headers()?;
    let named = headers.iter().filter(|header| header.key == name);
    named.filter_map(|header| header.value).last()
}
