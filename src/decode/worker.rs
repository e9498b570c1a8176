//! A thread for work on outside data that has no bound of its own: where it takes too long or panics,
//! it is left behind and a new one started.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that were left behind at most: each holds a core until its work is done.
const LEFT_MAX: usize = 4;
/// Bytes of a thread's stack: address space only, until deep work needs it.
pub(super) const STACK: usize = 256 << 20;
/// How often it is looked whether one of them is done.
const PACE: Duration = Duration::from_millis(5);

/// Makes, on the new thread, what does the work there.
type Make<Q, A> = dyn Fn() -> Box<dyn FnMut(Q) -> A> + Send + Sync;

/// See the module; `Q` is what is to be done, `A` what comes of it.
pub(super) struct Worker<Q, A> {
    name: &'static str,
    /// How long one piece of work may take.
    limit: Duration,
    make: Arc<Make<Q, A>>,
    running: Option<WorkerThread<Q, A>>,
    /// Those that were given up; they end when their work does.
    left: Vec<thread::JoinHandle<()>>,
}

struct WorkerThread<Q, A> {
    work: SyncSender<Q>,
    done: Receiver<A>,
    thread: thread::JoinHandle<()>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// It takes longer than it may.
    TooLong,
    /// It panicked.
    Failed,
    /// Four pieces of work before it still run.
    Busy,
    /// The system has no thread for it.
    NoThread(std::io::Error),
}

impl<Q: Send + 'static, A: Send + 'static> Worker<Q, A> {
    /// A worker whose thread starts with its first work.
    pub(super) fn new(
        name: &'static str,
        limit: Duration,
        make: impl Fn() -> Box<dyn FnMut(Q) -> A> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            limit,
            make: Arc::new(make),
            running: None,
            left: Vec::new(),
        }
    }

    /// Does a piece of work in the time that it may take.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(super) fn run(&mut self, work: Q) -> Result<A, NoAnswer> {
        let running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        running.work.send(work).map_err(|_| NoAnswer::Failed)?;
        match running.done.recv_timeout(self.limit) {
            Ok(answer) => {
                self.running = Some(running);
                Ok(answer)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.left.push(running.thread);
                Err(NoAnswer::TooLong)
            }
            Err(RecvTimeoutError::Disconnected) => Err(NoAnswer::Failed),
        }
    }

    fn start(&mut self) -> Result<WorkerThread<Q, A>, NoAnswer> {
        let deadline = Instant::now() + self.limit;
        loop {
            self.left.retain(|thread| !thread.is_finished());
            if self.left.len() < LEFT_MAX {
                break;
            }
            if Instant::now() >= deadline {
                return Err(NoAnswer::Busy);
            }
            thread::sleep(PACE);
        }
        let (work, to_do) = sync_channel::<Q>(1);
        let (answer, done) = sync_channel(1);
        let make = self.make.clone();
        let run = move || {
            let mut does = make();
            while let Ok(work) = to_do.recv() {
                if answer.send(does(work)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name(self.name.into())
            .stack_size(STACK)
            .spawn(run);
        let thread = thread.map_err(NoAnswer::NoThread)?;
        Ok(WorkerThread { work, done, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_takes_too_long_or_panics_costs_its_thread_only() {
        let mut worker = Worker::new("test", Duration::from_secs(1), || {
            Box::new(|work: u32| match work {
                0 => panic!("as asked"),
                1 => {
                    thread::sleep(Duration::from_secs(30));
                    1
                }
                work => work,
            })
        });
        assert_eq!(worker.run(5).expect("an answer"), 5);
        assert!(matches!(worker.run(0), Err(NoAnswer::Failed)));
        assert_eq!(worker.run(6).expect("an answer"), 6);
        for _ in 0..LEFT_MAX {
            assert!(matches!(worker.run(1), Err(NoAnswer::TooLong)));
        }
        assert!(matches!(worker.run(7), Err(NoAnswer::Busy)));
    }
}
