//! The threads of the daemon. None of them ends before the daemon stops: one that does ends the
//! process, so that nothing is missing without anybody noticing.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::AppError;
use crate::failure::panic_text;

/// How often threads that are to end are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Default)]
pub(super) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    pub(super) fn push(&mut self, thread: JoinHandle<()>) {
        self.0.push(thread);
    }

    /// Ends the waiting of threads that are parked.
    pub(super) fn wake(&self) {
        self.0.iter().for_each(|thread| thread.thread().unpark());
    }

    /// The error of a thread that has ended although nobody has stopped it; `None` while all run.
    pub(super) fn ended(&mut self) -> Option<AppError> {
        let ended = self.0.iter().position(JoinHandle::is_finished)?;
        Some(unexpected_end(self.0.swap_remove(ended)))
    }

    /// Waits until all have ended, at most until the deadline; the names of those that still run
    /// then.
    pub(super) async fn still_running(mut self, deadline: Instant) -> Vec<String> {
        loop {
            self.0.retain(|thread| !thread.is_finished());
            if self.0.is_empty() || Instant::now() >= deadline {
                return self.0.iter().map(name).collect();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Extend<JoinHandle<()>> for Threads {
    fn extend<T: IntoIterator<Item = JoinHandle<()>>>(&mut self, threads: T) {
        self.0.extend(threads);
    }
}

/// The error of a thread that has ended.
pub(super) fn unexpected_end(thread: JoinHandle<()>) -> AppError {
    let name = name(&thread);
    AppError::ThreadEnded {
        thread: name,
        panic: thread.join().err().map(|panic| panic_text(&*panic)),
    }
}

fn name(thread: &JoinHandle<()>) -> String {
    thread.thread().name().unwrap_or("unnamed").to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::thread;

    use super::*;

    fn until(name: &str, end: Receiver<()>) -> JoinHandle<()> {
        thread::Builder::new()
            .name(name.into())
            .spawn(move || end.recv().unwrap_or_default())
            .unwrap()
    }

    fn ended(mut threads: Threads) -> AppError {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(error) = threads.ended() {
                return error;
            }
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn every_thread_that_is_left_behind_is_named() {
        let (_lane_hangs, lane) = sync_channel(1);
        let (_retraining_hangs, retraining) = sync_channel(1);
        let (ends, share) = sync_channel::<()>(1);
        drop(ends);
        let threads = Threads(vec![
            until("pumps-0", lane),
            until("retrain-pumps", retraining),
            until("share", share),
        ]);
        let deadline = Instant::now() + Duration::from_millis(300);
        let left = threads.still_running(deadline).await;
        let error = AppError::Drain {
            threads: left,
            timeout: Duration::from_secs(30),
        };
        let text = error.to_string();
        assert!(text.contains("30 s: pumps-0, retrain-pumps;"), "{text}");
    }

    #[tokio::test]
    async fn nothing_is_waited_for_longer_than_it_runs() {
        let (ends, share) = sync_channel::<()>(1);
        drop(ends);
        let began = Instant::now();
        let deadline = began + Duration::from_secs(60);
        let left = Threads(vec![until("share", share)])
            .still_running(deadline)
            .await;
        assert_eq!(left, Vec::<String>::new());
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_thread_that_panics_is_an_error_with_its_message() {
        let (_runs, other) = sync_channel(1);
        let panics = thread::Builder::new()
            .name("pumps-0".into())
            .spawn(|| panic!("index {} out of range", 8))
            .unwrap();
        let error = ended(Threads(vec![until("share", other), panics]));
        let text = error.to_string();
        assert!(
            text.contains("pumps-0 panicked: index 8 out of range"),
            "{text}"
        );
    }

    #[test]
    fn a_thread_that_ends_too_early_is_an_error() {
        let (ends, share) = sync_channel::<()>(1);
        let mut threads = Threads(vec![until("share", share)]);
        assert!(threads.ended().is_none(), "it runs");
        drop(ends);
        let text = ended(threads).to_string();
        assert!(text.contains("thread share ended"), "{text}");
    }
}
