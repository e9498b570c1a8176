//! A schema registry that one test has for itself, to take it away.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use outlierd::schema_registry::RegistrySettings;
use outlierd::schema_registry::SchemaType;
use outlierd::schema_registry::client::RegistryClient;

use super::PATIENCE;
use super::process::run_script;

static NEXT_PORT: AtomicU16 = AtomicU16::new(22192);

pub struct OwnRegistry {
    port: u16,
    folder: tempfile::TempDir,
}

impl OwnRegistry {
    /// With https too.
    pub fn start() -> Self {
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let port = std::iter::repeat_with(|| NEXT_PORT.fetch_add(2, Ordering::Relaxed))
            .take_while(|&port| port < 22992)
            .find(|&port| is_free(port) && is_free(port + 1))
            .expect("two free ports");
        let folder = tempfile::tempdir().unwrap();
        let registry = Self { port, folder };
        assert!(registry.command("start", &["--tls"]));
        registry
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn tls_url(&self) -> String {
        format!("https://127.0.0.1:{}/apis/ccompat/v7", self.port + 1)
    }

    /// A file of the certificates.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.path().join("registry/tls").join(name)
    }

    pub fn client(&self) -> RegistryClient {
        let client = RegistryClient::new(&RegistrySettings {
            urls: vec![self.url()],
            username: None,
            password: None,
            token: None,
            ca_file: None,
            timeout: PATIENCE,
        });
        client.unwrap()
    }

    /// Registers a schema and returns its id.
    pub fn register(&self, subject: &str, schema_type: SchemaType, text: &str) -> u32 {
        let client = self.client();
        client.register(subject, schema_type, text).unwrap()
    }

    /// Makes each further schema of a subject read what the one before has written.
    pub fn require_compatibility(&self, subject: &str) {
        let request = ureq::put(format!("{}/config/{subject}", self.url()));
        let request = request.header("Content-Type", "application/vnd.schemaregistry.v1+json");
        request.send(r#"{"compatibility":"BACKWARD"}"#).unwrap();
    }

    pub fn start_again(&self) {
        assert!(self.command("start", &[]));
    }

    pub fn kill(&self) {
        assert!(self.command("stop", &["--kill"]));
    }

    fn command(&self, command: &str, arguments: &[&str]) -> bool {
        run_script(
            "registry",
            command,
            self.port,
            self.folder.path(),
            arguments,
        )
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        self.command("clean", &[]);
    }
}
