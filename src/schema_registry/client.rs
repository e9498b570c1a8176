//! Requests to a registry. Each blocks for at most the time-out at each URL.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::RootCerts;

use crate::http::{self, cause, percent_encoded, shortened};
use crate::options::OptionFault;

use super::{RegisteredSchema, RegistrySettings, SchemaRegistryError, SchemaType};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// Most schemas that one schema needs, directly or not.
const REFERENCES_MAX: usize = 256;
/// Most schemas that need each other in a row.
const REFERENCE_DEPTH_MAX: usize = 16;
/// The codes of Confluent's API for a subject, a version and a schema that is not there.
const NOT_FOUND_CODES: [u64; 3] = [40401, 40402, 40403];
/// Largest id: the API has 32-bit integers with a sign. A registry takes a larger one for a wrong URL.
const ID_MAX: u32 = i32::MAX.unsigned_abs();
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json";

/// Why requests to the URLs failed.
#[derive(Default)]
struct RequestFailures {
    /// At each URL that did not answer.
    unreachable: Vec<String>,
    /// At the last that does not know what was asked.
    unknown: Option<String>,
    refused: Option<String>,
}

/// A client of one registry.
pub struct RegistryClient {
    agent: Agent,
    urls: Vec<String>,
    /// The URL that answered last, which is asked first.
    preferred: AtomicUsize,
    authorization: Option<String>,
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClient")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

impl RegistryClient {
    /// A client, which has not asked anything yet.
    ///
    /// # Errors
    /// What is wrong with `settings`.
    pub fn new(settings: &RegistrySettings) -> Result<Self, OptionFault> {
        if settings.urls.is_empty() {
            return Err(fault("urls", "must have at least one URL"));
        }
        for (index, url) in settings.urls.iter().enumerate() {
            check_url(url).map_err(|wrong| {
                let number = index + 1;
                fault("urls", format!("must be URLs, and {wrong} (URL {number})"))
            })?;
        }
        let roots = settings.ca_file.as_deref().map(certificates).transpose()?;
        Ok(Self {
            agent: http::agent(roots, settings.timeout),
            urls: settings
                .urls
                .iter()
                .map(|url| url.trim_end_matches('/').to_owned())
                .collect(),
            preferred: AtomicUsize::new(0),
            authorization: authorization(settings)?,
        })
    }

    /// The same, whose error is that of a request.
    ///
    /// # Errors
    /// `Refused` with what is wrong with `settings`.
    pub fn open(settings: &RegistrySettings) -> Result<Self, SchemaRegistryError> {
        let refused = |wrong: OptionFault| format!("registry.{} {}", wrong.key, wrong.fault);
        Self::new(settings).map_err(|wrong| SchemaRegistryError::Refused(refused(wrong)))
    }

    /// The base URLs.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The schema with an id, with all that it refers to.
    ///
    /// # Errors
    /// [`SchemaRegistryError`]; `Refused` for an answer that is no schema.
    pub fn schema(&self, id: u32) -> Result<RegisteredSchema, SchemaRegistryError> {
        if id > ID_MAX {
            let text = format!("{id} is beyond the ids of schemas, 1 to {ID_MAX}");
            return Err(SchemaRegistryError::Unknown(text));
        }
        let answer = self.request(&format!("/schemas/ids/{id}"), None)?;
        let what = format!("the schema {id}");
        let schema_type = match answer.get("schemaType").and_then(Value::as_str) {
            None => SchemaType::Avro,
            Some(name) => SchemaType::of(name).ok_or_else(|| {
                let text =
                    format!("{what} is of the type {name:?}; AVRO, PROTOBUF and JSON are known");
                SchemaRegistryError::Refused(text)
            })?,
        };
        let mut references = Vec::new();
        self.collect(&answer, &mut references, &mut HashSet::new(), 0)?;
        let text = text_of(&answer, &what)?;
        Ok(RegisteredSchema {
            id,
            schema_type,
            text,
            references,
        })
    }

    /// Adds what an answer refers to, the deepest first.
    fn collect(
        &self,
        answer: &Value,
        found: &mut Vec<(String, String)>,
        seen: &mut HashSet<(String, u64)>,
        depth: usize,
    ) -> Result<(), SchemaRegistryError> {
        let references = answer.get("references").and_then(Value::as_array);
        for reference in references.into_iter().flatten() {
            let text = |key: &str| reference.get(key).and_then(Value::as_str);
            let version = reference.get("version").and_then(Value::as_u64);
            let (Some(name), Some(subject), Some(version)) =
                (text("name"), text("subject"), version)
            else {
                let text = format!("{reference} is no reference to a schema");
                return Err(SchemaRegistryError::Refused(text));
            };
            if !seen.insert((subject.to_owned(), version)) {
                continue;
            }
            if depth >= REFERENCE_DEPTH_MAX || seen.len() > REFERENCES_MAX {
                return Err(SchemaRegistryError::Refused(format!(
                    "more than {REFERENCES_MAX} schemas are needed, or more than {REFERENCE_DEPTH_MAX} in a row"
                )));
            }
            let path = format!("/subjects/{}/versions/{version}", percent_encoded(subject));
            let answer = self.request(&path, None)?;
            self.collect(&answer, found, seen, depth + 1)?;
            let what = format!("version {version} of the subject {subject:?}");
            found.push((name.to_owned(), text_of(&answer, &what)?));
        }
        Ok(())
    }

    /// Registers a schema under a subject, unless it is there already, and returns its id.
    ///
    /// # Errors
    /// [`SchemaRegistryError`]; `Refused` where the registry finds it invalid, or incompatible with the
    /// versions before.
    pub fn register(
        &self,
        subject: &str,
        schema_type: SchemaType,
        text: &str,
    ) -> Result<u32, SchemaRegistryError> {
        let path = format!("/subjects/{}/versions", percent_encoded(subject));
        let answer = self.request(&path, Some(&body_of(schema_type, text)))?;
        id_of(&answer, subject)
    }

    /// The id of a schema that is registered under a subject: this needs no right to register.
    ///
    /// # Errors
    /// [`SchemaRegistryError`]; `Unknown` where the subject does not have it.
    pub fn find(
        &self,
        subject: &str,
        schema_type: SchemaType,
        text: &str,
    ) -> Result<u32, SchemaRegistryError> {
        let path = format!("/subjects/{}", percent_encoded(subject));
        let answer = self.request(&path, Some(&body_of(schema_type, text)))?;
        id_of(&answer, subject)
    }

    /// Why the newest version of a subject is not compatible with a schema, as the registry's rule for
    /// the subject has it; `None` where it is.
    ///
    /// # Errors
    /// [`SchemaRegistryError`]; `Unknown` where the subject has no version yet.
    pub fn incompatibility(
        &self,
        subject: &str,
        schema_type: SchemaType,
        text: &str,
    ) -> Result<Option<String>, SchemaRegistryError> {
        let subject = percent_encoded(subject);
        let path = format!("/compatibility/subjects/{subject}/versions/latest?verbose=true");
        let answer = self.request(&path, Some(&body_of(schema_type, text)))?;
        if answer.get("is_compatible").and_then(Value::as_bool) != Some(false) {
            return Ok(None);
        }
        let messages = answer.get("messages").and_then(Value::as_array);
        let messages = messages.into_iter().flatten().filter_map(Value::as_str);
        let messages: Vec<String> = messages.map(shortened).collect();
        Ok(Some(messages.join("; ")))
    }

    /// Asks one URL after another until one has the answer; with a body, by POST. What only one of
    /// several does not know may be new.
    fn request(&self, path: &str, body: Option<&str>) -> Result<Value, SchemaRegistryError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failures = RequestFailures::default();
        for turn in 0..self.urls.len() {
            let at = (first + turn) % self.urls.len();
            let Some(url) = self.urls.get(at) else {
                continue;
            };
            if let Some(answer) = self.attempt(&format!("{url}{path}"), body, &mut failures) {
                self.preferred.store(at, Ordering::Relaxed);
                return Ok(answer);
            }
        }
        Err(match (failures.refused, failures.unknown) {
            (Some(text), _) => SchemaRegistryError::Refused(text),
            (None, Some(text)) => SchemaRegistryError::Unknown(text),
            (None, None) => SchemaRegistryError::Unreachable(failures.unreachable.join("; ")),
        })
    }

    /// Asks one URL.
    fn attempt(
        &self,
        url: &str,
        body: Option<&str>,
        failures: &mut RequestFailures,
    ) -> Option<Value> {
        let (status, text) = match self.exchange(url, body) {
            Ok(answer) => answer,
            Err(error) => {
                failures
                    .unreachable
                    .push(format!("{url}: {}", cause(&error)));
                return None;
            }
        };
        let answer: Option<Value> = serde_json::from_str(&text).ok();
        if let (200..300, Some(answer)) =
            (status, answer.as_ref().filter(|answer| answer.is_object()))
        {
            return Some(answer.clone());
        }
        let code = answer
            .as_ref()
            .and_then(|answer| answer.get("error_code")?.as_u64());
        let message = answer
            .as_ref()
            .and_then(|answer| answer.get("message")?.as_str());
        let said = message.map(|message| format!(": {}", shortened(message)));
        let fault = format!("{url}: HTTP {status}{}", said.unwrap_or_default());
        match status {
            404 if code.is_some_and(|code| NOT_FOUND_CODES.contains(&code)) => {
                failures.unknown = Some(fault);
            }
            409 | 422 => failures.refused = Some(fault),
            200..300 => failures
                .unreachable
                .push(format!("{fault}, and no JSON object")),
            401 | 403 if self.authorization.is_none() => {
                let hint = "no username or token is configured";
                failures.unreachable.push(format!("{fault} ({hint})"));
            }
            _ => failures.unreachable.push(fault),
        }
        None
    }

    fn exchange(&self, url: &str, body: Option<&str>) -> Result<(u16, String), ureq::Error> {
        let mut answer = match body {
            None => {
                let mut request = self.agent.get(url).header("Accept", ACCEPT);
                if let Some(value) = &self.authorization {
                    request = request.header("Authorization", value);
                }
                request.call()?
            }
            Some(body) => {
                let request = self.agent.post(url).header("Accept", ACCEPT);
                let mut request = request.header("Content-Type", CONTENT_TYPE);
                if let Some(value) = &self.authorization {
                    request = request.header("Authorization", value);
                }
                request.send(body)?
            }
        };
        let status = answer.status().as_u16();
        let reader = answer.body_mut().with_config();
        let text = reader.limit(ANSWER_BYTES_MAX).lossy_utf8(true);
        Ok((status, text.read_to_string()?))
    }
}

fn fault(key: &'static str, fault: impl Into<String>) -> OptionFault {
    OptionFault {
        key,
        fault: fault.into(),
        fix: None,
    }
}

/// The value of the header that lets us in.
fn authorization(settings: &RegistrySettings) -> Result<Option<String>, OptionFault> {
    let value = match (&settings.token, &settings.username, &settings.password) {
        (None, None, None) => return Ok(None),
        (Some(token), None, None) => format!("Bearer {token}"),
        (None, Some(user), password) => {
            let password = password.as_deref().unwrap_or_default();
            format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
        }
        (None, None, Some(_)) => return Err(fault("password", "needs registry.username")),
        (Some(_), ..) => {
            let wrong = "and registry.username exclude each other";
            return Err(fault("token", wrong));
        }
    };
    match value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(Some(value)),
        false => Err(fault("token", "must be text that an HTTP header can hold")),
    }
}

/// A base URL is `http` or `https` and has a host; messages name it, so that no password may be in
/// it.
fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("http://");
    let rest = rest.or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or("one begins with neither http:// nor https://")?;
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err("one has a user in it: set registry.username and registry.password");
    }
    if rest.contains(['?', '#', ' ']) || !rest.is_ascii() {
        return Err("one has a part that no base URL has");
    }
    match host.is_empty() {
        true => Err("one has no host"),
        false => Ok(()),
    }
}

fn certificates(file: &Path) -> Result<RootCerts, OptionFault> {
    let pem = std::fs::read(file)
        .map_err(|error| fault("ca_file", format!("cannot be read: {error}")))?;
    http::certificates(&pem).ok_or_else(|| fault("ca_file", "has no certificate in PEM"))
}

/// What a request about a schema sends.
fn body_of(schema_type: SchemaType, text: &str) -> String {
    json!({ "schemaType": schema_type.as_str(), "schema": text }).to_string()
}

fn id_of(answer: &Value, subject: &str) -> Result<u32, SchemaRegistryError> {
    let id = answer.get("id").and_then(Value::as_u64);
    id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
        let text = format!("the answer for the subject {subject:?} has no id");
        SchemaRegistryError::Refused(text)
    })
}

fn text_of(answer: &Value, what: &str) -> Result<String, SchemaRegistryError> {
    let text = answer.get("schema").and_then(Value::as_str);
    let absent = || SchemaRegistryError::Refused(format!("the answer for {what} has no text"));
    text.map(str::to_owned).ok_or_else(absent)
}
