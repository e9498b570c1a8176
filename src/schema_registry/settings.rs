//! The options of the registry: `[registry]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::options::{none_if_empty, optional, without_nulls};

/// Schema registry of messages in Avro or Protobuf.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct RegistrySettings {
    /// Base URLs of the registry's REST API (Confluent's), tried in turn; none: no registry.
    #[serde(deserialize_with = "without_nulls")]
    #[schemars(example = vec!["https://registry-1:8081"])]
    pub urls: Vec<String>,
    /// User name for basic authentication; "": none.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String")]
    pub username: Option<String>,
    /// Password of `username`, or where it is read from.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "RegistrySecret")]
    pub password: Option<String>,
    /// Bearer token, in place of a user name, or where it is read from; "": none.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "RegistrySecret")]
    pub token: Option<String>,
    /// PEM file of the authorities that may have signed the registry's certificate; "": the system's.
    #[serde(deserialize_with = "none_if_empty")]
    #[schemars(with = "String", example = &"/etc/ssl/plant-ca.pem")]
    pub ca_file: Option<PathBuf>,
    /// Time limit of a request to one URL, 100ms to 5m.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = &"10s", extend("x-duration" = {"minimum": "100ms", "maximum": "5m"}))]
    pub timeout: Duration,
}

/// A secret, or where it is read from; `config::secrets` has put it in place of that.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the schema")]
enum RegistrySecret {
    /// As text.
    Text(String),
    /// In a file, or in a credential of systemd.
    Source(RegistrySecretSource),
}

/// Where a secret is read from, at the start. One of the two.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "for the schema")]
struct RegistrySecretSource {
    /// Path of the file.
    #[schemars(example = &"/run/secrets/registry")]
    file: Option<String>,
    /// Name of a credential of systemd, in `$CREDENTIALS_DIRECTORY`.
    credential: Option<String>,
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySettings")
            .field("urls", &self.urls)
            .field("ca_file", &self.ca_file)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
