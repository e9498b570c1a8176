//! The messages of the control topic. The newest one of each key counts
//! (`schemas/control.schema.json`).

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::feedback::Feedback;

/// Bytes of a message at most: what is larger is none of outlierd's.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// A message of the control topic.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlMessage {
    /// A bundle is live on all instances.
    Live(LiveBundle),
    /// The live bundle is pinned or unpinned.
    Pin {
        /// Name of the stream.
        stream: String,
        /// Whether it is.
        pinned: bool,
    },
    /// A training is requested. The instance that trains removes the message.
    Challenge {
        /// Name of the stream.
        stream: String,
    },
    /// Operator feedback on an alert.
    Feedback(Feedback),
}

/// A bundle went live.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LiveBundle {
    /// Name of the stream.
    pub stream: String,
    /// Id of the bundle.
    pub bundle: String,
    /// Why.
    pub why: String,
    /// When (RFC 3339).
    #[schemars(with = "String")]
    pub at: Timestamp,
}

impl ControlMessage {
    /// The message that a value of the control topic holds.
    ///
    /// # Errors
    /// Why it is none of this release.
    pub fn parse(value: &[u8]) -> Result<Self, String> {
        let bytes = value.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(format!(
                "it has {bytes} bytes, and a control message has at most {MESSAGE_BYTES_MAX}"
            ));
        }
        serde_json::from_slice(value).map_err(|error| error.to_string())
    }

    /// The stream that it is about.
    pub fn stream(&self) -> &str {
        match self {
            Self::Live(live) => &live.stream,
            Self::Pin { stream, .. } | Self::Challenge { stream } => stream,
            Self::Feedback(feedback) => &feedback.stream,
        }
    }

    /// The key of the message.
    pub fn key(&self) -> String {
        let stream = self.stream();
        match self {
            Self::Live(_) => live_key(stream),
            Self::Pin { .. } => pin_key(stream),
            Self::Challenge { .. } => format!("challenge/{stream}"),
            Self::Feedback(feedback) => format!("feedback/{stream}/{}", feedback.subject()),
        }
    }

    /// The stream whose `challenge` a tombstone removes.
    pub fn challenge_of(key: &str) -> Option<&str> {
        key.strip_prefix("challenge/")
    }
}

/// The key of the message that names the live bundle of a stream.
pub fn live_key(stream: &str) -> String {
    format!("live/{stream}")
}

/// The key of the message that pins the live bundle of a stream.
pub fn pin_key(stream: &str) -> String {
    format!("pin/{stream}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_it_is() {
        let at = Timestamp::UNIX_EPOCH;
        let live = LiveBundle {
            stream: "pumps".into(),
            bundle: "ab".into(),
            why: "first".into(),
            at,
        };
        let text = serde_json::to_string(&ControlMessage::Live(live.clone())).unwrap();
        assert_eq!(
            text,
            r#"{"type":"live","stream":"pumps","bundle":"ab","why":"first","at":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(
            serde_json::from_str::<ControlMessage>(&text).unwrap(),
            ControlMessage::Live(live)
        );
        let unknown = serde_json::from_str::<ControlMessage>(
            r#"{"type":"live","stream":"pumps","model":"ab"}"#,
        );
        assert!(unknown.is_err());
    }
}
