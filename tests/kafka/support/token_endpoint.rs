//! A token endpoint in this process, whose tokens a broker can verify: JWTs with signatures (RS256) of
//! a key that openssl makes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::program;

/// Whose tokens they are.
pub const SUBJECT: &str = "service-outlierd";

struct Endpoint {
    folder: tempfile::TempDir,
    /// Of a token, in seconds.
    life: AtomicU64,
    is_away: AtomicBool,
    tokens: AtomicUsize,
}

pub struct TokenEndpoint {
    endpoint: Arc<Endpoint>,
    port: u16,
}

impl TokenEndpoint {
    /// Gives tokens with a life of so many seconds to the client `outlierd` with the secret `secret`.
    pub fn start(life: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        openssl(&["genrsa", "-out", &key.display().to_string(), "2048"], b"");
        let modulus = [
            "rsa",
            "-noout",
            "-modulus",
            "-in",
            &key.display().to_string(),
        ];
        let modulus = String::from_utf8(openssl(&modulus, b"")).unwrap();
        let modulus = hex::decode(modulus.trim().trim_start_matches("Modulus=")).unwrap();
        let keys = serde_json::json!({ "keys": [{
            "kty": "RSA", "kid": "test", "use": "sig", "alg": "RS256", "e": "AQAB",
            "n": URL_SAFE_NO_PAD.encode(modulus),
        }] });
        fs::write(folder.path().join("jwks.json"), keys.to_string()).unwrap();
        let endpoint = Arc::new(Endpoint {
            folder,
            life: AtomicU64::new(life),
            is_away: AtomicBool::new(false),
            tokens: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is its own affair.
                let _ = served.answer(&mut stream.unwrap());
            }
        });
        Self { endpoint, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    /// The keys that verify its tokens.
    pub fn keys(&self) -> PathBuf {
        self.endpoint.folder.path().join("jwks.json")
    }

    /// The life of the next tokens, in seconds.
    pub fn set_life(&self, life: u64) {
        self.endpoint.life.store(life, Ordering::SeqCst);
    }

    /// It closes every connection without an answer, or answers again.
    pub fn set_away(&self, is_away: bool) {
        self.endpoint.is_away.store(is_away, Ordering::SeqCst);
    }

    /// How many tokens it has given.
    pub fn tokens(&self) -> usize {
        self.endpoint.tokens.load(Ordering::SeqCst)
    }
}

impl Endpoint {
    fn answer(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        if self.is_away.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut request = String::new();
        let mut buffer = [0; 4096];
        // The last value of its body.
        while !request.ends_with("scope=kafka") {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            request += &String::from_utf8_lossy(&buffer[..count]);
        }
        let credentials = format!("Basic {}", STANDARD.encode("outlierd:secret"));
        let (status, body) = if request.contains(&credentials) {
            self.tokens.fetch_add(1, Ordering::SeqCst);
            let life = self.life.load(Ordering::SeqCst);
            let token = self.token(life);
            let body = serde_json::json!({
                "access_token": token, "token_type": "Bearer", "expires_in": life,
            });
            (200, body)
        } else {
            let description = "the client or its secret is not known";
            let body = serde_json::json!({
                "error": "invalid_client", "error_description": description,
            });
            (401, body)
        };
        let body = body.to_string();
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    }

    fn token(&self, life: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = now.as_secs();
        let header = serde_json::json!({ "alg": "RS256", "kid": "test", "typ": "JWT" });
        let claims = serde_json::json!({
            "iss": "test", "sub": SUBJECT, "aud": "kafka", "scope": "kafka", "iat": now, "exp": now + life,
        });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let text = format!("{header}.{claims}");
        let key = self.folder.path().join("key.pem").display().to_string();
        let signature = openssl(&["dgst", "-sha256", "-sign", &key], text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Runs openssl, and returns what it prints.
fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = program("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    output.stdout
}

/// The lines of a broker's configuration that take its tokens, as those of the keys in `keys`.
pub fn listener_lines(keys: &Path) -> String {
    let of = "listener.name.secure.oauthbearer";
    let package = "org.apache.kafka.common.security.oauthbearer";
    format!(
        "listener.name.secure.sasl.enabled.mechanisms=OAUTHBEARER\n\
         {of}.sasl.jaas.config={package}.OAuthBearerLoginModule required;\n\
         {of}.sasl.server.callback.handler.class={package}.OAuthBearerValidatorCallbackHandler\n\
         {of}.sasl.oauthbearer.jwks.endpoint.url=file://{}\n\
         {of}.sasl.oauthbearer.expected.audience=kafka\n\
         {of}.sasl.oauthbearer.expected.issuer=test\n\
         {of}.connections.max.reauth.ms=3600000\n",
        keys.display()
    )
}
