//! A broker that one test has for itself, to take it away.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use super::process::run_script;

static NEXT_PORT: AtomicU16 = AtomicU16::new(21192);

pub struct OwnBroker {
    port: u16,
    folder: tempfile::TempDir,
}

impl OwnBroker {
    pub fn start() -> Self {
        let broker = Self::placed();
        broker.start_again();
        broker
    }

    /// With ACLs, TLS and these users, whose passwords are `NAME-secret`. `address` is that of a
    /// listener whose clients may do everything.
    pub fn start_secured(users: &[String]) -> Self {
        let broker = Self::placed();
        assert!(broker.kafka("start", &["--secured", &users.join(",")]));
        broker
    }

    /// With one more listener, of this host, where users come with `protocol`: see
    /// [`Self::secured_address`]. `lines` are its other properties; whoever has one of the names may
    /// do everything.
    pub fn start_with_listener(
        (protocol, host): (&str, &str),
        names: &[&str],
        lines: &str,
        jvm: &str,
    ) -> Self {
        let broker = Self::placed();
        let (port, secured) = (broker.port, broker.port + 2);
        let names: String = names.iter().map(|name| format!(";User:{name}")).collect();
        let listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        let text = format!(
            "listeners={listeners},CONTROLLER://127.0.0.1:{},SECURE://127.0.0.1:{secured}\n\
             advertised.listeners={listeners},SECURE://{host}:{secured}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:{protocol}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS{names}\n{lines}\n",
            port + 1,
        );
        let path = broker.folder.path().join("more.properties");
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        assert!(broker.kafka("start", &["--properties", &path, "--jvm", jvm]));
        broker
    }

    fn placed() -> Self {
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        // Each its own: a port is free while its broker is stopped, and must not go to another
        // test's. A secured broker takes four.
        let port = std::iter::repeat_with(|| NEXT_PORT.fetch_add(4, Ordering::Relaxed))
            .take_while(|&port| port < 21992)
            .find(|&port| (port..port + 4).all(is_free))
            .expect("four free ports");
        Self {
            port,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Where a secured broker takes users, with TLS.
    pub fn secured_address(&self) -> String {
        format!("127.0.0.1:{}", self.port + 2)
    }

    /// The same with a certificate that has expired.
    pub fn expired_address(&self) -> String {
        format!("127.0.0.1:{}", self.port + 3)
    }

    /// A file of the certificates.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.path().join("kafka/tls").join(name)
    }

    /// Runs kafka-acls.
    pub fn acls(&self, arguments: &[&str]) {
        assert!(
            self.kafka("tool", &[&["acls"], arguments].concat()),
            "{arguments:?}"
        );
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn start_again(&self) {
        assert!(self.kafka("start", &[]));
    }

    pub fn stop(&self) {
        assert!(self.kafka("stop", &[]));
    }

    /// It answers nothing, and breaks no connection, until it is thawed.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.path().join("kafka/pid")).unwrap();
        let status = Command::new("kill")
            .args([&format!("-{signal}"), pid.trim()])
            .status();
        assert!(status.unwrap().success());
    }

    fn kafka(&self, command: &str, arguments: &[&str]) -> bool {
        run_script("kafka", command, self.port, self.folder.path(), arguments)
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.kafka("clean", &[]);
    }
}
