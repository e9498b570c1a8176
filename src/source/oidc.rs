//! A token of OIDC, requested with client credentials (RFC 6749, section 4.4), under librdkafka's own
//! properties. librdkafka can request it with libcurl, which not every machine has.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use ureq::Agent;
use ureq::tls::RootCerts;

use crate::failure::{Failure, FailureClass};
use crate::http::{self, cause, percent_encoded, shortened};
use crate::record::EventTime;

const METHOD: &str = "sasl.oauthbearer.method";
/// Each under its two names.
const MECHANISM: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];
const CLIENT_ID: [&str; 2] = [
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.id",
];
const SECRET: [&str; 2] = [
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
];
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";
const SCOPE: &str = "sasl.oauthbearer.scope";
const GRANT: [&str; 2] = ["sasl.oauthbearer.grant.type", "client_credentials"];
const CA_FILE: &str = "https.ca.location";
const CA_TEXT: &str = "https.ca.pem";
/// Where each property of OIDC begins.
const PREFIXES: [&str; 2] = ["sasl.oauthbearer.", "https.ca."];
/// The value of [`CA_FILE`] for the authorities of the system.
const PROBE: &str = "probe";

/// How long the endpoint may take: a failure is reported within 5 s.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Longest answer that is read, in bytes: brokers take tokens of a few kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with a property.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OidcFault {
    /// The property.
    pub key: String,
    /// In words that follow the key.
    pub fault: String,
    /// What to do.
    pub fix: &'static str,
}

impl OidcFault {
    fn new(key: &str, fault: impl Into<String>, fix: &'static str) -> Self {
        Self {
            key: key.to_owned(),
            fault: fault.into(),
            fix,
        }
    }
}

/// Why there is no token. No message has the secret in it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no token from {endpoint}: {reason}")]
pub struct TokenError {
    endpoint: String,
    reason: String,
    /// Whether the endpoint has answered that it gives none.
    is_refusal: bool,
}

impl Failure for TokenError {
    /// As with the credentials of brokers, another attempt may succeed once they are corrected there.
    fn class(&self) -> FailureClass {
        match self.is_refusal {
            true => FailureClass::USER.retryable(),
            false => FailureClass::EXTERNAL.retryable(),
        }
    }
}

/// A token that the endpoint has given.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// As the brokers get it.
    pub text: String,
    /// Whose it is: the `sub` of a JWT.
    pub principal: String,
    /// When it was given, in milliseconds since 1970.
    pub given: i64,
    /// When it expires.
    pub expires: i64,
}

/// Asks one endpoint for tokens.
pub struct TokenClient {
    agent: Agent,
    endpoint: String,
    client_id: String,
    secret: String,
    scope: Option<String>,
}

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient")
            .field("endpoint", &self.endpoint)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Whether the properties choose OIDC.
pub fn is_chosen(properties: &BTreeMap<String, String>) -> bool {
    let method = properties.get(METHOD);
    method.is_some_and(|method| method.eq_ignore_ascii_case("oidc"))
}

/// Whether a property is of OIDC, so that librdkafka must not get it: without libcurl it refuses it.
pub fn is_own(key: &str) -> bool {
    PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

impl TokenClient {
    /// The client of the properties, which has not asked anything yet; `None` where they do not choose
    /// OIDC.
    ///
    /// # Errors
    /// The first property that is missing, wrong, or of something that outlierd cannot do.
    pub fn new(properties: &BTreeMap<String, String>) -> Result<Option<Self>, OidcFault> {
        if !is_chosen(properties) {
            return Ok(None);
        }
        let first = |names: &[&str]| names.iter().find_map(|name| properties.get(*name));
        let is_bearer = |mechanism: &String| mechanism.eq_ignore_ascii_case("OAUTHBEARER");
        if !first(&MECHANISM).is_some_and(is_bearer) {
            let fault = format!("must be \"OAUTHBEARER\" with {METHOD} = \"oidc\"");
            let fix = "set it, or remove the method";
            return Err(OidcFault::new(MECHANISM[0], fault, fix));
        }
        let needed = |names: &[&str]| {
            let found = first(names).filter(|value| !value.is_empty());
            let fault = || {
                let name = names.first().copied().unwrap_or_default();
                let fault = format!("is needed with {METHOD} = \"oidc\"");
                OidcFault::new(name, fault, "set it; docs/kafka.md has an example")
            };
            found.cloned().ok_or_else(fault)
        };
        let endpoint = needed(&[ENDPOINT])?;
        if let Err(fault) = check_url(&endpoint) {
            let fix =
                "correct it, as https://idp.example/realms/plant/protocol/openid-connect/token";
            return Err(OidcFault::new(ENDPOINT, fault, fix));
        }
        if let Some(fault) = properties
            .iter()
            .find_map(|(key, value)| unknown(key, value))
        {
            return Err(fault);
        }
        Ok(Some(Self {
            agent: http::agent(roots(properties)?, TIMEOUT),
            endpoint,
            client_id: needed(&CLIENT_ID)?,
            secret: needed(&SECRET)?,
            scope: properties
                .get(SCOPE)
                .filter(|scope| !scope.is_empty())
                .cloned(),
        }))
    }

    /// Asks for a token. Blocks for at most [`TIMEOUT`].
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn fetch(&self) -> Result<Token, TokenError> {
        let given = EventTime::now().as_millis();
        let (status, text) = self
            .exchange()
            .map_err(|error| self.failed(cause(&error)))?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let token = answer.get("access_token").and_then(Value::as_str);
        match (status, token) {
            (200..300, Some(token)) => {
                let read = read_token(token, &answer, &self.client_id, given);
                read.map_err(|reason| self.refused(reason))
            }
            (200..300, None) => Err(self.refused("the answer has no access_token".to_owned())),
            (400..429, _) => Err(self.refused(described(status, &answer))),
            _ => Err(self.failed(described(status, &answer))),
        }
    }

    fn exchange(&self) -> Result<(u16, String), ureq::Error> {
        // RFC 6749, section 2.3.1.
        let [user, password] = [&self.client_id, &self.secret].map(|text| percent_encoded(text));
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        let grant = ("grant_type", GRANT[1]);
        let scope = self.scope.as_deref().map(|scope| ("scope", scope));
        let mut answer = self
            .agent
            .post(&self.endpoint)
            .header("Accept", "application/json")
            .header("Authorization", &format!("Basic {credentials}"))
            .send_form([grant].into_iter().chain(scope))?;
        let status = answer.status().as_u16();
        let reader = answer.body_mut().with_config();
        let text = reader.limit(ANSWER_BYTES_MAX).lossy_utf8(true);
        Ok((status, text.read_to_string()?))
    }

    /// A failure that passes.
    pub(super) fn failed(&self, reason: String) -> TokenError {
        TokenError {
            endpoint: self.endpoint.clone(),
            reason,
            is_refusal: false,
        }
    }

    fn refused(&self, reason: String) -> TokenError {
        TokenError {
            // An endpoint may repeat what it was sent.
            reason: reason.replace(&self.secret, "..."),
            is_refusal: true,
            ..self.failed(String::new())
        }
    }
}

/// An endpoint has a host, and no user: messages name it.
fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("https://");
    let rest = rest.or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?']).next());
    match host {
        None => Err("must begin with https:// or http://"),
        Some("") => Err("must have a host"),
        Some(host) if host.contains('@') => Err("must have no user in it"),
        Some(_) if url.contains([' ', '#']) || !url.is_ascii() => {
            Err("has a character that no URL of an endpoint has")
        }
        Some(_) => Ok(()),
    }
}

/// The properties of OIDC that ask for something else than client credentials.
fn unknown(key: &str, value: &str) -> Option<OidcFault> {
    let known = [
        METHOD,
        ENDPOINT,
        SCOPE,
        CA_FILE,
        CA_TEXT,
        CLIENT_ID[0],
        CLIENT_ID[1],
    ];
    let is_known = known.contains(&key) || SECRET.contains(&key);
    if !is_own(key) || is_known || value.is_empty() || [key, value] == GRANT {
        return None;
    }
    let fix = match key {
        "sasl.oauthbearer.extensions" => {
            "remove it: the Kafka client of outlierd sends tokens without extensions"
        }
        _ => "remove it: outlierd gets tokens with client credentials",
    };
    Some(OidcFault::new(key, "is not supported", fix))
}

/// The authorities of the endpoint; `None` for those of the system.
fn roots(properties: &BTreeMap<String, String>) -> Result<Option<RootCerts>, OidcFault> {
    let fix = "name a file with certificates in PEM";
    let (key, pem) = match (properties.get(CA_TEXT), properties.get(CA_FILE)) {
        (Some(text), _) if !text.is_empty() => (CA_TEXT, text.clone().into_bytes()),
        (_, Some(file)) if !file.is_empty() && file != PROBE => {
            let read = std::fs::read(file);
            let unread = |error| OidcFault::new(CA_FILE, format!("cannot be read: {error}"), fix);
            (CA_FILE, read.map_err(unread)?)
        }
        _ => return Ok(None),
    };
    let none = || OidcFault::new(key, "has no certificate in PEM", fix);
    http::certificates(&pem).ok_or_else(none).map(Some)
}

/// What an answer without a token says (RFC 6749, section 5.2).
fn described(status: u16, answer: &Value) -> String {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    let said = [text("error"), text("error_description")];
    let said: String = said
        .into_iter()
        .flatten()
        .map(|said| format!(": {}", shortened(said)))
        .collect();
    format!("HTTP {status}{said}")
}

/// The lifetime is that of the answer (`expires_in`, in seconds), else that of the JWT (`exp`). A token
/// that is no JWT belongs to the client.
fn read_token(text: &str, answer: &Value, client_id: &str, given: i64) -> Result<Token, String> {
    let is_visible = |byte: u8| (b'!'..=b'~').contains(&byte);
    if !text.bytes().all(is_visible) {
        return Err("the token has a character that no token has".to_owned());
    }
    let claims = claims(text).unwrap_or_default();
    let lasts = seconds(answer.get("expires_in")).map(|lasts| given.saturating_add(lasts));
    let expires = lasts.or_else(|| seconds(claims.get("exp")));
    let expires = expires.ok_or("neither the answer nor the token has a lifetime")?;
    if expires <= given {
        return Err("the token has expired; are the clocks right?".to_owned());
    }
    let principal = claims.get("sub").and_then(Value::as_str);
    Ok(Token {
        text: text.to_owned(),
        principal: principal.unwrap_or(client_id).to_owned(),
        given,
        expires,
    })
}

/// The claims of a JWT, which is for the brokers to verify.
fn claims(token: &str) -> Option<Value> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// A number of seconds in milliseconds; some endpoints write it as text.
fn seconds(value: Option<&Value>) -> Option<i64> {
    let value = value?;
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    // It saturates.
    Some((number * 1e3) as i64)
}

#[cfg(test)]
mod tests;
