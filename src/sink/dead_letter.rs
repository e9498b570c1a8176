//! A record that could not be scored, as a message that its topic takes: what is too large is left
//! out, and headers say so.

use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};

use crate::record::Rejected;

/// Room for outlierd's own headers and for what Kafka adds to a message, in bytes: names of streams,
/// topics reasons and details are short.
const OWN_BYTES: usize = 4_096;
/// What Kafka adds to a header at most, in bytes.
const HEADER_OVERHEAD: usize = 10;

/// Which parts of a record its dead letter leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Omitted {
    pub(super) payload: bool,
    pub(super) key: bool,
    /// The record's own headers.
    pub(super) headers: bool,
}

impl Omitted {
    /// The parts to leave out of a message, for it to have at most `bytes_max` bytes.
    pub(super) fn of(message: &BorrowedMessage<'_>, bytes_max: usize) -> Self {
        let headers = message.headers().into_iter().flat_map(|all| all.iter());
        let bytes = headers
            .map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len) + HEADER_OVERHEAD);
        Self::of_sizes(
            message.payload_len(),
            message.key_len(),
            bytes.sum(),
            bytes_max,
        )
    }

    /// The largest part goes first: a long key does not cost the payload.
    fn of_sizes(payload: usize, key: usize, headers: usize, bytes_max: usize) -> Self {
        let mut omitted = Self::default();
        let mut parts = [
            (payload, &mut omitted.payload),
            (key, &mut omitted.key),
            (headers, &mut omitted.headers),
        ];
        parts.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let mut left = OWN_BYTES.saturating_add(payload + key + headers);
        for (bytes, is_omitted) in parts {
            if left > bytes_max && bytes > 0 {
                *is_omitted = true;
                left -= bytes;
            }
        }
        omitted
    }

    /// The headers of the dead letter: those of the record, and why and where from it comes.
    pub(super) fn headers(
        self,
        message: &BorrowedMessage<'_>,
        stream: &str,
        topic: &str,
        rejected: &Rejected,
    ) -> OwnedHeaders {
        let own = message.headers().filter(|_| !self.headers);
        let mut headers = own.map(|h| h.detach()).unwrap_or_default();
        let flag = |is_omitted| if is_omitted { "true" } else { "false" };
        for (key, value) in [
            ("outlierd-stream", stream),
            ("outlierd-reason", rejected.reason.as_str()),
            ("outlierd-detail", &rejected.detail),
            ("outlierd-topic", topic),
            ("outlierd-partition", &message.partition().to_string()),
            ("outlierd-offset", &message.offset().to_string()),
            ("outlierd-payload-bytes", &message.payload_len().to_string()),
            ("outlierd-payload-omitted", flag(self.payload)),
            ("outlierd-key-omitted", flag(self.key)),
            ("outlierd-headers-omitted", flag(self.headers)),
        ] {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        if let Some(part) = rejected.part {
            headers = headers.insert(Header {
                key: "outlierd-part",
                value: Some(&part.to_string()),
            });
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kafka's default.
    const LIMIT: usize = 1_048_588;

    fn left_out(payload: usize, key: usize, headers: usize) -> [bool; 3] {
        let omitted = Omitted::of_sizes(payload, key, headers, LIMIT);
        [omitted.payload, omitted.key, omitted.headers]
    }

    #[test]
    fn nothing_is_left_out_of_what_fits() {
        assert_eq!(left_out(900_000, 100_000, 10_000), [false; 3]);
        assert_eq!(left_out(LIMIT - OWN_BYTES, 0, 0), [false; 3]);
    }

    #[test]
    fn the_largest_parts_are_left_out_until_the_rest_fits() {
        assert_eq!(left_out(2, 1_048_300, 0), [false, true, false]);
        assert_eq!(left_out(1_500_000, 20, 300), [true, false, false]);
        assert_eq!(left_out(1_100_000, 1_048_580, 0), [true, true, false]);
        assert_eq!(left_out(10, 10, 1_400_000), [false, false, true]);
        assert_eq!(left_out(600_000, 500_000, 400_000), [true, false, false]);
        assert_eq!(left_out(LIMIT, LIMIT, LIMIT), [true; 3]);
    }

    #[test]
    fn a_topic_that_takes_almost_nothing_gets_the_headers_of_outlierd_alone() {
        let omitted = Omitted::of_sizes(10, 0, 10, 100);
        assert!(omitted.payload && omitted.headers && !omitted.key);
    }
}
