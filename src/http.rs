//! Requests over HTTP: to a schema registry, and to the token endpoint of OIDC.

use std::time::Duration;

use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider};

/// What the logs of servers name outlierd.
const USER_AGENT: &str = concat!("outlierd/", env!("CARGO_PKG_VERSION"));

/// Makes requests that block for at most `timeout`, with TLS by the system's OpenSSL. `roots` are the
/// authorities that a server's certificate may be of; without them, those of the system. A status of
/// failure is an answer, not an error.
pub fn agent(roots: Option<RootCerts>, timeout: Duration) -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(roots.unwrap_or(RootCerts::PlatformVerifier))
        .build();
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(3)
        // Requests are rare: a kept connection would mostly be one that the server has closed.
        .max_idle_connections(0)
        .timeout_global(Some(timeout))
        .user_agent(USER_AGENT)
        .tls_config(tls)
        .build();
    config.new_agent()
}

/// The certificates of a text in PEM; `None` where it has none.
pub fn certificates(pem: &[u8]) -> Option<RootCerts> {
    let items = ureq::tls::parse_pem(pem).filter_map(Result::ok);
    let certificates: Vec<_> = items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    (!certificates.is_empty()).then(|| RootCerts::new_with_certs(&certificates))
}

/// The cause of a failed exchange, without the jargon of the library.
pub fn cause(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => "no answer within the time-out".to_owned(),
        ureq::Error::HostNotFound => "the host is not found".to_owned(),
        ureq::Error::BodyExceedsLimit(limit) => {
            format!("the answer has more than {limit} bytes")
        }
        error => error.to_string(),
    }
}

/// A server's message, short enough for a log line.
pub fn shortened(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.chars().take(200).collect()
}

/// A text as one part of a path, or one value of a form (RFC 3986, section 2.1).
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
