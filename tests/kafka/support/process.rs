//! The daemon as a process, and waiting for what it does; for tests against a real broker and
//! against a mock cluster.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const OUTLIERD: &str = env!("CARGO_BIN_EXE_outlierd");
/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// How long outlierd may take to report what is wrong.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until `done` gives something.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {} s for {what}",
            PATIENCE.as_secs()
        );
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// A configuration with the folders of state and models in `folder`; `text` has the rest, keys of
/// `service` and `kafka` with dots.
pub fn write_config(folder: &Path, brokers: &str, text: &str) -> PathBuf {
    let at = |name: &str| folder.join(name);
    let path = at("outlierd.toml");
    let text = format!(
        "service.state_dir = {:?}\nservice.model_dir = {:?}\nkafka.brokers = {brokers:?}\n{text}",
        at("state"),
        at("models")
    );
    fs::write(&path, text).unwrap();
    path
}

/// Runs a command of a script of the repository that keeps a server on a port, in a folder of this
/// name. Returns whether it succeeded.
pub fn run_script(name: &str, command: &str, port: u16, folder: &Path, arguments: &[&str]) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name);
    let status = Command::new(script)
        .args([command, "--port", &port.to_string(), "--dir"])
        .arg(folder.join(name))
        .args(arguments)
        .stdout(Stdio::null())
        .status();
    status.unwrap().success()
}

/// The daemon as a process; killed when dropped.
pub struct Daemon {
    child: Child,
    pub log: PathBuf,
}

impl Daemon {
    pub fn start(config: &Path, name: &str) -> Self {
        Self::start_with(config, name, &[])
    }

    pub fn start_with(config: &Path, name: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(OUTLIERD);
        command.args(["run", "--config"]).arg(config).args(flags);
        Self::spawn(command, config.with_file_name(format!("{name}.log")))
    }

    /// A daemon that `command` becomes, logging into the file `log`.
    pub fn spawn(mut command: Command, log: PathBuf) -> Self {
        let out = fs::File::create(&log).unwrap();
        Self {
            child: command.stderr(out).spawn().unwrap(),
            log,
        }
    }

    pub fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill")
                .arg(format!("-{signal}"))
                .arg(self.child.id().to_string())
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn wait(&mut self) -> i32 {
        let mut code = None;
        wait_for("the daemon's end", || {
            code = self.child.try_wait().unwrap();
            code.is_some().then_some(())
        });
        code.unwrap().code().unwrap_or(-1)
    }

    /// Asks it to end, which it must do well.
    pub fn stop(&mut self) {
        // Before its first line it has no handler of signals.
        let soon = Instant::now() + REPORT_TIMEOUT;
        while self.log().is_empty() && Instant::now() < soon {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.signal("TERM");
        assert_eq!(self.wait(), 0, "{}", self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where it listens; `None` before.
    pub fn address(&self) -> Option<String> {
        let log = self.log();
        let address = log.split(" address=").nth(1)?.split_whitespace().next()?;
        Some(address.to_owned())
    }

    /// Its answer over HTTP, headers included; `None` before it listens. The configuration has
    /// `http_listen = "127.0.0.1:0"`.
    pub fn page(&self, path: &str) -> Option<String> {
        let address = self.address()?;
        let mut stream = TcpStream::connect(&address).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Waits until the log has a line with this text, and returns it. It must come soon.
    pub fn await_line(&self, text: &str) -> String {
        let started = Instant::now();
        let line = wait_for(text, || {
            let log = self.log();
            log.lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        });
        let after = started.elapsed();
        println!("after {} ms: {line}", after.as_millis());
        assert!(after < REPORT_TIMEOUT, "{after:?}: {line}");
        line
    }

    /// Waits until `/readyz` has this status, such as ` 503 `, and this reason.
    pub fn await_readiness(&self, status: &str, reason: &str) {
        wait_for(&format!("{status} with {reason:?}"), || {
            let page = self.page("/readyz")?;
            (page.contains(status) && page.contains(reason)).then_some(())
        });
    }

    /// The sum of a metric over all its series that have this label, such as `outcome="failed"`;
    /// all have the empty one. 0 where it has not moved.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let page = self.page("/metrics").unwrap_or_default();
        let series = page.lines().filter_map(|line| {
            let labels = line.strip_prefix(name)?;
            let is_whole = labels.starts_with(['{', ' ']);
            (is_whole && labels.contains(label)).then(|| labels.rsplit(' ').next())?
        });
        series.map(|value| value.parse::<f64>().unwrap()).sum()
    }

    /// Waits until a metric is at least `due`.
    pub fn await_metric(&self, name: &str, label: &str, due: f64) {
        wait_for(name, || (self.metric(name, label) >= due).then_some(()));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What it logged last says why the test waited in vain; its folder goes with the test.
            let (log, ended) = (self.log(), self.child.try_wait());
            let first = log.lines().count().saturating_sub(60);
            let last: Vec<_> = log.lines().skip(first).collect();
            let name = self.log.display();
            println!("{name}, ended: {ended:?}:\n{}", last.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
