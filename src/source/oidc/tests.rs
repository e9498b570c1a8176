//! Against an endpoint in this process. tests/kafka/oidc.rs has the brokers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use super::*;
use crate::failure::Domain;
use crate::source::{KafkaSettings, client_config, refused_properties};

const SECRET_TEXT: &str = "s3:cret/+ä";

/// What it answers, and the requests that it has got.
struct Endpoint {
    port: u16,
    answer: Arc<Mutex<(u16, String)>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    fn start(status: u16, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Self {
            port: listener.local_addr().unwrap().port(),
            answer: Arc::new(Mutex::new((status, body.to_owned()))),
            requests: Arc::default(),
        };
        let (answer, requests) = (endpoint.answer.clone(), endpoint.requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read(&mut stream);
                let (status, body) = answer.lock().unwrap().clone();
                requests.lock().unwrap().push(request);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        endpoint
    }

    fn answer(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    fn kafka(&self) -> KafkaSettings {
        let mut kafka = KafkaSettings::to("localhost:9092");
        kafka.properties = properties(&format!("http://127.0.0.1:{}/token", self.port), &[]);
        kafka
    }

    fn fetch(&self) -> Result<Token, TokenError> {
        let client = TokenClient::new(&self.kafka().properties).unwrap();
        client.unwrap().fetch()
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// The head of a request and its body.
fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let chunked = head.contains("transfer-encoding: chunked");
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
            if chunked && body.ends_with("0\r\n\r\n")
                || length.is_some_and(|l: usize| body.len() >= l)
            {
                return text;
            }
        }
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{text}");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

fn properties(endpoint: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let usual = [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "OAUTHBEARER"),
        (METHOD, "oidc"),
        (CLIENT_ID[0], "outlierd"),
        (SECRET[0], SECRET_TEXT),
        (ENDPOINT, endpoint),
        (SCOPE, "kafka alerts"),
    ];
    let all = usual.iter().chain(more);
    all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn jwt(claims: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn the_request_is_that_of_client_credentials_and_the_token_is_read() {
    let token = jwt(r#"{"sub":"service-outlierd","exp":4102444800}"#);
    let endpoint = Endpoint::start(
        200,
        &format!(r#"{{"access_token":"{token}","expires_in":60}}"#),
    );
    let found = endpoint.fetch().unwrap();
    assert_eq!(
        (&*found.text, &*found.principal),
        (&*token, "service-outlierd")
    );
    assert_eq!(found.expires - found.given, 60_000);
    let request = endpoint.requests.lock().unwrap().remove(0);
    let credentials = STANDARD.encode("outlierd:s3%3Acret%2F%2B%C3%A4");
    assert!(request.starts_with("POST /token HTTP/1.1"), "{request}");
    assert!(
        request.contains(&format!("Basic {credentials}")),
        "{request}"
    );
    assert!(
        request.contains("grant_type=client_credentials&scope=kafka+alerts")
            || request.contains("grant_type=client_credentials&scope=kafka%20alerts"),
        "{request}"
    );

    // Without a lifetime that of the token counts, and a token that is no JWT belongs to the client.
    endpoint.answer(200, &format!(r#"{{"access_token":"{token}"}}"#));
    assert_eq!(endpoint.fetch().unwrap().expires, 4_102_444_800_000);
    endpoint.answer(200, r#"{"access_token":"opaque","expires_in":"30"}"#);
    let found = endpoint.fetch().unwrap();
    assert_eq!((&*found.text, &*found.principal), ("opaque", "outlierd"));
    assert_eq!(found.expires - found.given, 30_000);
}

#[test]
fn a_failure_has_a_reason_without_the_secret_and_names_who_has_to_act() {
    let endpoint = Endpoint::start(200, "");
    let expired = jwt(r#"{"sub":"a","exp":1000000000}"#);
    for (status, body, reason, domain) in [
        (
            401,
            format!(r#"{{"error":"invalid_client","error_description":"not {SECRET_TEXT}"}}"#),
            "HTTP 401: invalid_client: not ...",
            Domain::User,
        ),
        (404, "<html>".to_owned(), "HTTP 404", Domain::User),
        (503, String::new(), "HTTP 503", Domain::External),
        (429, String::new(), "HTTP 429", Domain::External),
        (
            200,
            "{}".to_owned(),
            "the answer has no access_token",
            Domain::User,
        ),
        (
            200,
            r#"{"access_token":"opaque"}"#.to_owned(),
            "neither the answer nor the token has a lifetime",
            Domain::User,
        ),
        (
            200,
            r#"{"access_token":"a\u0001b","expires_in":9}"#.to_owned(),
            "the token has a character that no token has",
            Domain::User,
        ),
        (
            200,
            format!(r#"{{"access_token":"{expired}"}}"#),
            "the token has expired; are the clocks right?",
            Domain::User,
        ),
    ] {
        endpoint.answer(status, &body);
        let error = endpoint.fetch().err().unwrap();
        let place = format!("no token from http://127.0.0.1:{}/token: ", endpoint.port);
        assert_eq!(error.to_string(), place + reason);
        assert_eq!(error.domain(), domain, "{reason}");
        assert!(error.is_retryable());
    }
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let properties = properties(&format!("http://{closed}"), &[]);
    let error = TokenClient::new(&properties)
        .unwrap()
        .unwrap()
        .fetch()
        .err()
        .unwrap();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(error.domain(), Domain::External);
}

#[test]
fn properties_that_cannot_work_are_named() {
    let url = "https://idp/token";
    assert!(TokenClient::new(&BTreeMap::new()).unwrap().is_none());
    assert!(TokenClient::new(&properties(url, &[])).unwrap().is_some());
    for (key, value, fault) in [
        ("sasl.mechanism", "PLAIN", "must be \"OAUTHBEARER\""),
        (CLIENT_ID[0], "", "is needed"),
        (SECRET[0], "", "is needed"),
        (ENDPOINT, "", "is needed"),
        (ENDPOINT, "idp/token", "must begin with https://"),
        (ENDPOINT, "https:///token", "must have a host"),
        (
            ENDPOINT,
            "https://anna:secret@idp/token",
            "must have no user",
        ),
        (ENDPOINT, "https://idp/to ken", "has a character"),
        ("sasl.oauthbearer.extensions", "a=b", "is not supported"),
        (
            "sasl.oauthbearer.grant.type",
            "jwt-bearer",
            "is not supported",
        ),
        ("sasl.oauthbearer.assertion.file", "/a", "is not supported"),
        (CA_FILE, "/no/such/file", "cannot be read"),
        (CA_TEXT, "nothing", "has no certificate"),
    ] {
        let found = TokenClient::new(&properties(url, &[(key, value)]))
            .err()
            .unwrap();
        assert_eq!(found.key, key);
        assert!(found.fault.starts_with(fault), "{key}: {}", found.fault);
    }
    let grant = properties(url, &[(GRANT[0], GRANT[1]), (CA_FILE, PROBE)]);
    assert!(TokenClient::new(&grant).unwrap().is_some());
}

#[test]
fn librdkafka_gets_what_is_not_of_oidc() {
    let mut kafka = KafkaSettings::to("localhost:9092");
    kafka.properties = properties("https://idp/token", &[(CA_FILE, "/etc/ssl/ca.pem")]);
    assert!(refused_properties(&kafka).is_empty());
    let config = client_config(&kafka, "a");
    let map = config.config_map();
    let keys: std::collections::BTreeSet<&str> = map.keys().copied().collect();
    let due = [
        "bootstrap.servers",
        "client.id",
        "sasl.mechanism",
        "security.protocol",
    ];
    assert_eq!(keys, due.into());
    // Without OIDC nothing is taken out.
    kafka
        .properties
        .insert(METHOD.to_owned(), "default".to_owned());
    assert_eq!(client_config(&kafka, "a").get(SCOPE), Some("kafka alerts"));
}

#[test]
fn clients_share_a_token_that_is_renewed_before_it_expires() {
    let endpoint = Endpoint::start(200, r#"{"access_token":"first","expires_in":3600}"#);
    let kafka = endpoint.kafka();
    let tokens = [kafka.tokens(), kafka.clone().tokens()];
    for token in &tokens {
        token.check().unwrap();
        assert_eq!(token.answer().unwrap().token, "first");
    }
    assert_eq!(endpoint.requests(), 1);
    assert_eq!(kafka.principal().unwrap(), "User:outlierd");

    // The second half of its life has begun: the old one is given, without a wait, until a new one
    // is there.
    let short = endpoint.kafka();
    endpoint.answer(200, r#"{"access_token":"old","expires_in":2}"#);
    let tokens = short.tokens();
    let started = Instant::now();
    assert_eq!(tokens.answer().unwrap().token, "old");
    endpoint.answer(200, r#"{"access_token":"new","expires_in":3600}"#);
    while tokens.answer().unwrap().token == "old" {
        assert!(started.elapsed() < Duration::from_secs(60));
        thread::yield_now();
    }
    assert_eq!(endpoint.requests(), 3);
}

#[test]
fn an_endpoint_that_is_away_is_reported_once_no_token_is_valid() {
    let endpoint = Endpoint::start(200, r#"{"access_token":"old","expires_in":2}"#);
    let tokens = endpoint.kafka().tokens();
    tokens.check().unwrap();
    endpoint.answer(503, "");
    let started = Instant::now();
    let error = loop {
        match tokens.answer() {
            Ok(token) => assert_eq!(token.token, "old"),
            Err(error) => break error,
        }
        assert!(started.elapsed() < Duration::from_secs(60));
        thread::yield_now();
    };
    assert!(error.to_string().ends_with("/token: HTTP 503"), "{error}");
    assert!(started.elapsed() > Duration::from_millis(1_500));
    // The endpoint is not asked in vain again and again.
    assert!(endpoint.requests() <= 4, "{}", endpoint.requests());
    endpoint.answer(200, r#"{"access_token":"new","expires_in":60}"#);
    while tokens.check().is_err() {
        assert!(started.elapsed() < Duration::from_secs(60));
        thread::yield_now();
    }
    assert_eq!(tokens.answer().unwrap().token, "new");
}

#[test]
fn without_oidc_no_token_is_needed() {
    let tokens = KafkaSettings::to("localhost:9092").tokens();
    assert!(!tokens.are_needed());
    tokens.check().unwrap();
    let error = tokens.answer().err().unwrap().to_string();
    assert!(error.contains("sasl.oauthbearer.method"), "{error}");
}
