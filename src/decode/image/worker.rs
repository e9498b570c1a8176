//! The thread that decodes: one that takes too long, or panics on what it reads, is left behind and
//! a new one started.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::pixels::{Source, decode};
use crate::decode::DecodeProblem;
use crate::record::format::ImageFormat;
use crate::record::{Image, RejectReason};

/// Threads that were left behind at most: each holds a core until its decoder is done.
const LEFT_MAX: usize = 4;

/// How often it is looked whether one of them is done.
const PACE: Duration = Duration::from_millis(5);

type DecodeResult = Result<Image, DecodeProblem>;

/// See the module.
pub(super) struct DecodeWorker {
    format: Arc<ImageFormat>,
    running: Option<DecoderThread>,
    /// Those that were given up; they end when their decoder does.
    left: Vec<thread::JoinHandle<()>>,
}

struct DecoderThread {
    work: SyncSender<Source>,
    done: Receiver<DecodeResult>,
    thread: thread::JoinHandle<()>,
}

impl DecodeWorker {
    pub(super) fn new(format: Arc<ImageFormat>) -> Self {
        Self {
            format,
            running: None,
            left: Vec::new(),
        }
    }

    /// Decodes an image in the time that it may take.
    pub(super) fn decode(&mut self, source: Source) -> DecodeResult {
        let running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        let bad = |detail: String| Err(DecodeProblem::new(RejectReason::BadImage, detail));
        if running.work.send(source).is_err() {
            return bad("the decoder thread has ended".to_owned());
        }
        match running.done.recv_timeout(self.format.decode_timeout) {
            Ok(answer) => {
                self.running = Some(running);
                answer
            }
            Err(RecvTimeoutError::Timeout) => {
                self.left.push(running.thread);
                let most = humantime::format_duration(self.format.decode_timeout);
                bad(format!(
                    "decoding takes longer than {most}; see `image.decode_timeout`"
                ))
            }
            Err(RecvTimeoutError::Disconnected) => {
                bad("the decoder failed: the image is damaged".to_owned())
            }
        }
    }

    fn start(&mut self) -> Result<DecoderThread, DecodeProblem> {
        let deadline = Instant::now() + self.format.decode_timeout;
        loop {
            self.left.retain(|thread| !thread.is_finished());
            if self.left.len() < LEFT_MAX {
                break;
            }
            if Instant::now() >= deadline {
                let detail = format!(
                    "{LEFT_MAX} images before it are still being decoded; see `image.decode_timeout`"
                );
                return Err(DecodeProblem::new(RejectReason::BadImage, detail));
            }
            thread::sleep(PACE);
        }
        let (work, to_do) = sync_channel::<Source>(1);
        let (answer, done) = sync_channel(1);
        let format = self.format.clone();
        let run = move || {
            while let Ok(source) = to_do.recv() {
                if answer.send(decode(source, &format)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("decode-image".into())
            .spawn(run);
        let thread = thread.map_err(|error| {
            DecodeProblem::new(
                RejectReason::BadImage,
                format!("cannot start a decoder thread: {error}"),
            )
        })?;
        Ok(DecoderThread { work, done, thread })
    }
}
