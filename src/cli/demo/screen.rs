//! The terminal: check marks and alerts as lines on stdout, a bar and the daemon's log on stderr,
//! none through another.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::EnvFilter;

use crate::cli::is_coloured;
use crate::record::alert::Severity;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(200);

/// Shared by all threads that print; a clone draws the same bar.
#[derive(Clone)]
pub(super) struct Screen {
    bar: ProgressBar,
    coloured: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        // Nothing is under way yet.
        bar.finish_and_clear();
        let coloured = is_coloured(&io::stdout());
        Self { bar, coloured }
    }

    /// Lets the daemon log on stderr, above the bar.
    pub(super) fn start_log(&self, filter: &str) {
        let screen = self.clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_target(false)
            .with_ansi(is_coloured(&io::stderr()))
            .with_writer(move || AboveBar(screen.clone()));
        // A second subscriber in one process, as in a test, leaves the first one in place.
        let _ = log.try_init();
    }

    pub(super) fn line(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// Ticks off a step of the start-up.
    pub(super) fn done(&self, step: &str, what: &str) {
        self.line(&format!("{} {step:<9} {what}", self.paint("32", "ok")));
    }

    /// Starts a new bar.
    pub(super) fn begin(&self, prefix: &'static str, length: u64) {
        if let Ok(style) = ProgressStyle::with_template("{prefix:>9} [{bar:30}] {pos}/{len} {msg}")
        {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.disable_steady_tick();
        self.bar.reset();
        self.bar.set_length(length);
        self.bar.set_prefix(prefix);
        self.bar.set_message("");
    }

    /// Shows that something of unknown length is under way.
    pub(super) fn begin_waiting(&self, prefix: &'static str) {
        self.begin(prefix, 0);
        if let Ok(style) = ProgressStyle::with_template("{prefix:>9} {spinner} {elapsed}") {
            self.bar.set_style(style);
        }
        self.bar.enable_steady_tick(TICK);
    }

    pub(super) fn progress(&self, position: u64, message: String) {
        self.bar.set_position(position);
        self.bar.set_message(message);
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// A severity in its colour, of equal width.
    pub(super) fn severity(&self, severity: Severity) -> String {
        match severity {
            Severity::Info => self.paint("36", "info    "),
            Severity::Warning => self.paint("33", "warning "),
            Severity::Critical => self.paint("1;31", "critical"),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.coloured {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes log lines without tearing the bar.
struct AboveBar(Screen);

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bar.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
