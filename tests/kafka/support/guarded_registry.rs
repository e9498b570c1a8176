//! A schema registry behind a proxy that lets nobody in without a password, as companies run theirs.

use std::io::{self, BufRead, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const USER: &str = "outlierd";
const PASSWORD: &str = "secret";
const REFUSAL: &str = r#"{"error_code":401,"message":"Unauthorized"}"#;

pub struct GuardedRegistry {
    address: SocketAddr,
    /// Requests that were let in, and those that were not.
    requests: Arc<[AtomicUsize; 2]>,
}

impl GuardedRegistry {
    /// In front of the registry that listens on this port of the loopback interface.
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let counted = requests.clone();
        // It ends with the test program.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counted = counted.clone();
                thread::spawn(move || serve(client, port, &counted));
            }
        });
        Self { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/apis/ccompat/v7", self.address)
    }

    /// The keys of a configuration that the proxy lets in.
    pub fn credentials() -> String {
        format!("username = {USER:?}\npassword = {PASSWORD:?}\n")
    }

    pub fn let_in(&self) -> usize {
        self.requests[0].load(Ordering::Relaxed)
    }

    pub fn refused(&self) -> usize {
        self.requests[1].load(Ordering::Relaxed)
    }
}

/// One request a connection.
fn serve(mut client: TcpStream, port: u16, counted: &[AtomicUsize; 2]) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let head = read_head(&mut reader)?;
    let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let is_let_in = head.lines().any(|line| {
        let pair = line.split_once(": ");
        pair.is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("authorization") && value == expected
        })
    });
    counted[usize::from(!is_let_in)].fetch_add(1, Ordering::Relaxed);
    if !is_let_in {
        let length = REFUSAL.len();
        return write!(
            client,
            "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{REFUSAL}"
        );
    }
    let mut registry = TcpStream::connect(("127.0.0.1", port))?;
    let (request, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    write!(registry, "{request}\r\nConnection: close\r\n{headers}")?;
    let mut to = registry.try_clone()?;
    let body = thread::spawn(move || io::copy(&mut reader, &mut to));
    io::copy(&mut registry, &mut client)?;
    client.shutdown(Shutdown::Both)?;
    drop(body.join());
    Ok(())
}

/// Up to and with the empty line behind the headers.
fn read_head(client: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && client.read_line(&mut head)? > 0 {}
    Ok(head)
}
