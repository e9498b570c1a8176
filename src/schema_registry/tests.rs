//! Against a server in this process that answers as registries do. scripts/registry runs a real one.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::cache::{SchemaCache, SchemaLookup};
use super::client::RegistryClient;
use super::*;
use crate::options::OptionFault;

/// Answers by path: a status and a body.
type Answers = Arc<Mutex<HashMap<String, (u16, String)>>>;

struct Server {
    port: u16,
    answers: Answers,
    requests: Arc<AtomicUsize>,
    /// The head of the last request, then its body.
    last: Arc<Mutex<String>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            answers: Answers::default(),
            requests: Arc::default(),
            last: Arc::default(),
        };
        let (answers, requests) = (Arc::clone(&server.answers), Arc::clone(&server.requests));
        let last = Arc::clone(&server.last);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read(&mut stream);
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                requests.fetch_add(1, Ordering::SeqCst);
                *last.lock().unwrap() = request;
                let missing = (
                    404,
                    r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned(),
                );
                let (status, body) = answers
                    .lock()
                    .unwrap()
                    .get(&path)
                    .cloned()
                    .unwrap_or(missing);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        server
    }

    fn answer(&self, path: &str, status: u16, body: &str) {
        let answer = (status, body.to_owned());
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn client(&self) -> RegistryClient {
        client(&[self.url()])
    }
}

fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.split('\r').next()?.parse().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                return String::from_utf8(bytes).unwrap();
            }
        }
        match stream.read(&mut part).unwrap() {
            0 => return String::from_utf8(bytes).unwrap(),
            count => bytes.extend(&part[..count]),
        }
    }
}

fn settings(urls: &[String]) -> RegistrySettings {
    RegistrySettings {
        urls: urls.to_vec(),
        username: None,
        password: None,
        token: None,
        ca_file: None,
        timeout: Duration::from_millis(500),
    }
}

fn client(urls: &[String]) -> RegistryClient {
    RegistryClient::new(&settings(urls)).unwrap()
}

/// A port that nobody listens at.
fn closed() -> String {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    format!("http://127.0.0.1:{port}")
}

#[test]
fn a_schema_comes_with_all_that_it_refers_to() {
    let server = Server::start();
    let reference = |name: &str| format!(r#"{{"name":"{name}","subject":"{name}/s","version":3}}"#);
    let (a, b) = (reference("a"), reference("b"));
    server.answer(
        "/schemas/ids/7",
        200,
        &format!(r#"{{"schema":"main","schemaType":"PROTOBUF","references":[{a},{b}]}}"#),
    );
    server.answer(
        "/subjects/a%2Fs/versions/3",
        200,
        &format!(r#"{{"schema":"of a","references":[{b}]}}"#),
    );
    server.answer(
        "/subjects/b%2Fs/versions/3",
        200,
        &format!(r#"{{"schema":"of b","references":[{a}]}}"#),
    );
    let due = RegisteredSchema {
        id: 7,
        schema_type: SchemaType::Protobuf,
        text: "main".to_owned(),
        references: vec![("b".into(), "of b".into()), ("a".into(), "of a".into())],
    };
    assert_eq!(server.client().schema(7), Ok(due));
    assert_eq!(server.requests.load(Ordering::SeqCst), 3, "each once");
    assert!(server.last.lock().unwrap().contains("outlierd/"));
    server.answer("/schemas/ids/8", 200, r#"{"schema":"x"}"#);
    assert_eq!(
        server.client().schema(8).unwrap().schema_type,
        SchemaType::Avro
    );
}

#[test]
fn answers_are_told_apart() {
    let server = Server::start();
    let of = |id: u32, status, body: &str| {
        server.answer(&format!("/schemas/ids/{id}"), status, body);
        server.client().schema(id).unwrap_err()
    };
    use SchemaRegistryError::{Refused, Unknown, Unreachable};
    let beyond = server.client().schema(1 << 31).unwrap_err();
    assert!(matches!(&beyond, Unknown(text) if text.contains("2147483648")));
    let unknown = server.client().schema(99).unwrap_err();
    assert!(
        matches!(&unknown, Unknown(text) if text.contains("/schemas/ids/99: HTTP 404: Schema not found")),
        "{unknown}"
    );
    assert!(
        matches!(of(1, 404, r#"{"error_code":404}"#), Unreachable(_)),
        "a wrong URL"
    );
    assert!(matches!(of(1, 404, "<html>"), Unreachable(_)));
    assert!(matches!(of(2, 500, ""), Unreachable(_)));
    assert!(matches!(of(3, 401, "{}"), Unreachable(text) if text.contains("no username")));
    assert!(matches!(of(4, 200, "hello"), Unreachable(text) if text.contains("no JSON")));
    assert!(matches!(of(5, 200, "{}"), Refused(text) if text.contains("has no text")));
    assert!(
        matches!(of(6, 200, r#"{"schema":"","schemaType":"XML"}"#), Refused(text) if text.contains("XML"))
    );
    let references = r#"{"schema":"","references":[{"name":"x","subject":"x","version":1}]}"#;
    assert!(matches!(of(7, 200, references), Unknown(_)));
    server.answer("/subjects/x/versions/1", 503, "");
    assert!(matches!(of(7, 200, references), Unreachable(_)));
    // Deeper and deeper.
    for version in 0..40 {
        let body = format!(
            r#"{{"schema":"","references":[{{"name":"x","subject":"d","version":{}}}]}}"#,
            version + 1
        );
        server.answer(&format!("/subjects/d/versions/{version}"), 200, &body);
    }
    let first = r#"{"schema":"","references":[{"name":"x","subject":"d","version":0}]}"#;
    assert!(matches!(of(8, 200, first), Refused(text) if text.contains("16 in a row")));
}

#[test]
fn urls_are_tried_in_turn_and_the_one_that_answered_comes_first() {
    let (down, server) = (closed(), Server::start());
    server.answer("/schemas/ids/1", 200, r#"{"schema":"x"}"#);
    let both = client(&[down.clone(), server.url()]);
    assert!(both.schema(1).is_ok() && both.schema(1).is_ok());
    let unknown = both.schema(2).unwrap_err();
    assert!(
        matches!(unknown, SchemaRegistryError::Unknown(_)),
        "one that answers knows"
    );
    let behind = Server::start();
    assert!(
        client(&[behind.url(), server.url()]).schema(1).is_ok(),
        "only the second has it"
    );
    let error = client(&[down.clone(), closed()])
        .schema(1)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&down) && error.matches("refused").count() == 2,
        "{error}"
    );
    // It accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let started = Instant::now();
    let error = client(&[url]).schema(1).unwrap_err().to_string();
    assert!(
        error.contains("no answer within") && started.elapsed() < Duration::from_secs(5),
        "{error}"
    );
}

#[test]
fn a_schema_is_registered() {
    let server = Server::start();
    server.answer("/subjects/a%20b/versions", 200, r#"{"id":12}"#);
    let id = server.client().register("a b", SchemaType::Avro, "\"int\"");
    assert_eq!(id, Ok(12));
    let request = server.last.lock().unwrap().clone();
    assert!(
        request.starts_with("POST ") && request.contains("vnd.schemaregistry.v1+json"),
        "{request}"
    );
    assert!(
        request.contains(r#"{"schema":"\"int\"","schemaType":"AVRO"}"#),
        "{request}"
    );
    server.answer(
        "/subjects/a%20b/versions",
        409,
        r#"{"error_code":409,"message":"incompatible"}"#,
    );
    let error = server
        .client()
        .register("a b", SchemaType::Avro, "\"int\"")
        .unwrap_err();
    assert!(matches!(error, SchemaRegistryError::Refused(text) if text.contains("incompatible")));
}

#[test]
fn a_schema_is_looked_up_and_compared() {
    let server = Server::start();
    let client = server.client();
    let find = || client.find("a b", SchemaType::Avro, "\"int\"");
    assert!(matches!(find(), Err(SchemaRegistryError::Unknown(_))));
    server.answer("/subjects/a%20b", 200, r#"{"id":12,"version":3}"#);
    assert_eq!(find(), Ok(12));
    let request = server.last.lock().unwrap().clone();
    assert!(
        request.starts_with("POST /subjects/a%20b ") && request.contains(r#""schemaType":"AVRO""#),
        "{request}"
    );
    server.answer("/subjects/a%20b", 200, "{}");
    assert!(matches!(find(), Err(SchemaRegistryError::Refused(text)) if text.contains("no id")));

    let compare = || client.incompatibility("a b", SchemaType::Avro, "\"int\"");
    assert!(matches!(compare(), Err(SchemaRegistryError::Unknown(_))));
    let path = "/compatibility/subjects/a%20b/versions/latest?verbose=true";
    server.answer(path, 200, r#"{"is_compatible":true}"#);
    assert_eq!(compare(), Ok(None));
    let answer = r#"{"is_compatible":false,"messages":["no default","a type"]}"#;
    server.answer(path, 200, answer);
    assert_eq!(compare(), Ok(Some("no default; a type".to_owned())));
}

#[test]
fn what_is_known_already_is_not_asked_for() {
    let server = Server::start();
    let cache = cache(server.client());
    cache.insert(3, 4);
    assert_eq!(settled(&cache, 3), Ok(4));
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn secrets_reach_the_registry_and_no_message() {
    let server = Server::start();
    let mut of = settings(&[server.url()]);
    of.username = Some("anna".into());
    of.password = Some("secret-1".into());
    server.answer("/schemas/ids/1", 401, "{}");
    let client = RegistryClient::new(&of).unwrap();
    let error = client.schema(1).unwrap_err();
    let request = server.last.lock().unwrap().to_ascii_lowercase();
    assert!(
        request.contains("authorization: basic yw5uytpzzwnyzxqtmq=="),
        "{request}"
    );
    let shown = format!("{error} {error:?} {client:?} {of:?}");
    assert!(
        !shown.contains("secret") && !shown.contains("YW5u"),
        "{shown}"
    );
    of.token = Some("secret-2".into());
    assert!(
        RegistryClient::new(&of)
            .unwrap_err()
            .fault
            .contains("exclude")
    );
    (of.username, of.password) = (None, None);
    let client = RegistryClient::new(&of).unwrap();
    let _ = client.schema(1);
    assert!(server.last.lock().unwrap().contains("Bearer secret-2"));
    of.token = Some("secret\n".into());
    assert!(
        !RegistryClient::new(&of)
            .unwrap_err()
            .fault
            .contains("secret")
    );
    for (url, part) in [
        ("http://anna:secret@host/", "username"),
        ("host:80", "neither"),
        ("https:///x", "no host"),
        ("http://host/?a=b", "no base URL"),
    ] {
        let OptionFault { fault, .. } =
            RegistryClient::new(&settings(&[url.to_owned()])).unwrap_err();
        assert!(fault.contains(part) && !fault.contains("secret"), "{fault}");
    }
    assert!(RegistryClient::new(&settings(&[])).is_err());
}

#[test]
fn a_file_of_authorities_is_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut of = settings(&["https://127.0.0.1:1".to_owned()]);
    of.ca_file = Some(folder.path().join("ca.pem"));
    assert!(
        RegistryClient::new(&of)
            .unwrap_err()
            .fault
            .contains("cannot be read")
    );
    std::fs::write(folder.path().join("ca.pem"), "no certificate").unwrap();
    assert!(
        RegistryClient::new(&of)
            .unwrap_err()
            .fault
            .contains("no certificate in PEM")
    );
}

/// A cache of the lengths of texts.
fn cache(client: RegistryClient) -> SchemaCache<usize> {
    let compile = |schema: &RegisteredSchema| match schema.text.as_str() {
        "bad" => panic!("a compiler that fails"),
        text => text.len(),
    };
    SchemaCache::new(client, compile).unwrap()
}

/// What an id becomes.
fn settled(cache: &SchemaCache<usize>, id: u32) -> Result<usize, String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        match cache.lookup(id) {
            SchemaLookup::Known(length) => return Ok(*length),
            SchemaLookup::Unknown(reason) => return Err(reason.to_string()),
            SchemaLookup::Pending => thread::sleep(Duration::from_millis(5)),
        }
    }
    panic!("{id} is pending; {:?}", cache.trouble());
}

#[test]
fn an_id_is_asked_for_once() {
    let server = Server::start();
    server.answer("/schemas/ids/1", 200, r#"{"schema":"four"}"#);
    server.answer("/schemas/ids/2", 200, r#"{"schema":"bad"}"#);
    let cache = cache(server.client());
    let found: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| settled(&cache, 1))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(found, vec![Ok(4); 8]);
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    let failed = "the compiler of the schema 2 has failed";
    assert_eq!(settled(&cache, 2), Err(failed.to_owned()));
    assert_eq!(settled(&cache, 1), Ok(4));
    assert_eq!(
        (server.requests.load(Ordering::SeqCst), cache.trouble()),
        (2, None)
    );
}

#[test]
fn an_unknown_id_is_asked_for_twice_and_then_kept_as_such() {
    let server = Server::start();
    let cache = cache(server.client());
    assert!(matches!(cache.lookup(5), SchemaLookup::Pending));
    let started = Instant::now();
    // It arrives at the instance that answers between the two requests.
    while server.requests.load(Ordering::SeqCst) == 0 {
        assert!(started.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(5));
    }
    server.answer("/schemas/ids/5", 200, r#"{"schema":"late"}"#);
    assert_eq!(settled(&cache, 5), Ok(4));
    for _ in 0..2 {
        assert!(settled(&cache, 6).unwrap_err().contains("404"));
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 4);
    assert_eq!(cache.trouble(), None);
}

#[test]
fn an_outage_is_waited_for_and_named() {
    let server = Server::start();
    server.answer("/schemas/ids/1", 503, r#"{"message":"restarting"}"#);
    let cache = cache(server.client());
    let deadline = Instant::now() + Duration::from_secs(20);
    while cache
        .trouble()
        .is_none_or(|text| !text.contains("HTTP 503: restarting"))
    {
        assert!(matches!(cache.lookup(1), SchemaLookup::Pending));
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
    server.answer("/schemas/ids/1", 200, r#"{"schema":"four"}"#);
    assert_eq!((settled(&cache, 1), cache.trouble()), (Ok(4), None));
}
