//! The Kafka clients of what is shared, and the thread that runs them.
//!
//! Both topics are read from their start, at every start: they are compacted, and hold one message for each thing that is to
//! be known. Errors of the brokers pass: what is live stays so, and it is tried again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{
    BorrowedMessage, DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders,
};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::feedback_log::FeedbackLog;
use super::history::{self, HistoryError};
use super::mirror::{Mirror, MirrorError, Outgoing};
use super::parcel::Label;
use crate::config::settings::{Kafka, Share, Stream};
use crate::events::published::Published;
use crate::events::share::SharingFailed;
use crate::record::feedback::{Feedback, Records, Says};
use crate::retrain::engine::{Lesson, is_known};
use crate::retrain::set::TrainingRow;
use crate::retrain::thread::Retrainer;
use crate::sink::cloudevents;
use crate::source::{Quiet, add_from_beginning, producer_config, reader_config};
use crate::state::{Store, StoreError};

/// How long the thread waits for messages at a time; bounds how late it notices a stop.
const POLL: Duration = Duration::from_millis(100);
/// How often folder and topics are held against each other.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last messages of a stop may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long is waited after records could not be read.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// Records of a series before a confirmed fault: a chart that has settled.
const RECORDS_BEFORE: usize = 400;
/// Headers of a part of a bundle.
const HASH: &str = "outlierd-hash";
const BYTES: &str = "outlierd-bytes";

/// Why the clients could not be made, or the topics not be read.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Kafka.
    #[error("what machines share: {0}")]
    Kafka(#[from] KafkaError),
    /// Folder or store.
    #[error("what machines share: {0}")]
    Mirror(#[from] MirrorError),
    /// The system has no thread for it.
    #[error("no thread for what machines share: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why feedback could not be handed to the retraining now.
#[derive(Debug, thiserror::Error)]
enum TeachError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Who learns from what operators say of a stream.
pub struct Pupils {
    /// The stream.
    pub stream: Arc<Stream>,
    /// Its retraining.
    pub retrainer: Retrainer,
}

/// Says what is not delivered.
struct Deliveries;

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            SharingFailed {
                error: format!("topic {}: {error}", message.topic()),
            }
            .emit();
        }
    }
}

/// See the module.
pub struct Sharing {
    kafka: Kafka,
    /// Topic of the events.
    events_topic: Option<String>,
    store: Arc<dyn Store>,
    mirror: Mirror,
    /// `None` where nothing is shared.
    reader: Option<Reader>,
    producer: ThreadedProducer<Deliveries>,
    events: Receiver<Published>,
    /// By stream, all that operators said of its alerts: the lanes look there for what is theirs.
    logs: HashMap<String, Arc<FeedbackLog>>,
    /// What the retraining has not taken yet, by stream and subject; a later word on the same alert takes the place of an
    /// earlier one. Entries leave when it has room for them, which it may not have in the course of a training.
    waiting: BTreeMap<(String, String), Waiting>,
    /// When records could not be read last.
    failed: Option<Instant>,
}

/// Feedback that the retraining has not taken yet.
struct Waiting {
    feedback: Feedback,
    /// The records that it is about; `None` until they have been read.
    records: Option<Vec<(i64, TrainingRow)>>,
}

impl Sharing {
    /// Makes the clients.
    ///
    /// # Errors
    /// Where their properties are refused.
    pub fn new(
        kafka: &Kafka,
        topics: &Share,
        streams: &[String],
        mirror: Mirror,
        store: Arc<dyn Store>,
        events: Receiver<Published>,
    ) -> Result<Self, ShareError> {
        let mut config = reader_config(kafka, "outlierd-share");
        config.set("auto.offset.reset", "earliest");
        let reader = match (topics.control.clone(), topics.bundles.clone()) {
            (Some(control), Some(bundles)) => Some(Reader {
                consumer: config.create_with_context(Quiet)?,
                control,
                bundles,
            }),
            _ => None,
        };
        let mut config = producer_config(kafka, "outlierd-share");
        let producer = config
            .set("enable.idempotence", "true")
            .create_with_context(Deliveries)?;
        let log = |stream: &String| (stream.clone(), Arc::default());
        Ok(Self {
            kafka: kafka.clone(),
            events_topic: topics.events.clone(),
            store,
            mirror,
            reader,
            producer,
            events,
            logs: streams.iter().map(log).collect(),
            waiting: BTreeMap::new(),
            failed: None,
        })
    }

    /// All that operators said of the alerts of a stream, now and later.
    pub fn feedback_log(&self, stream: &str) -> Arc<FeedbackLog> {
        self.logs.get(stream).cloned().unwrap_or_default()
    }

    /// Reads both topics to their ends, so that this machine begins with what the others have; `stop` ends it early.
    ///
    /// # Errors
    /// Folder or store; errors of the brokers pass.
    pub fn catch_up(&mut self, stop: &AtomicBool) -> Result<(), ShareError> {
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        let mut open = reader.begin(stop)?;
        while open > 0 && !stop.load(Ordering::Acquire) {
            match self.poll(POLL) {
                Polled::End => open -= 1,
                Polled::Message | Polled::Nothing => {}
            }
        }
        self.settle(|_| false)
    }

    /// Runs until `halt` is set, on a thread of its own.
    ///
    /// # Errors
    /// Where the system has no thread.
    pub fn start(
        mut self,
        pupils: Vec<Pupils>,
        halt: Arc<AtomicBool>,
    ) -> Result<JoinHandle<()>, ShareError> {
        let run = move || {
            let mut settled = Instant::now();
            while !halt.load(Ordering::Acquire) {
                if self.reader.is_some() {
                    self.poll(POLL);
                } else {
                    thread::park_timeout(POLL);
                }
                self.publish();
                if settled.elapsed() >= SETTLE_EVERY {
                    settled = Instant::now();
                    let leads = |name: &str| {
                        pupils
                            .iter()
                            .any(|p| p.stream.name == name && p.retrainer.leads())
                    };
                    let done = self.settle(leads);
                    if let Err(error) = done {
                        SharingFailed {
                            error: error.to_string(),
                        }
                        .emit();
                    }
                }
                self.teach(&pupils);
            }
            self.publish();
            // What is not sent now is sent by the next start, but for events.
            let _ = self.producer.flush(FLUSH_TIMEOUT);
        };
        Ok(thread::Builder::new().name("share".into()).spawn(run)?)
    }

    /// Takes one message.
    fn poll(&mut self, wait: Duration) -> Polled {
        let Some(reader) = &self.reader else {
            return Polled::Nothing;
        };
        match reader.consumer.poll(wait) {
            None => Polled::Nothing,
            Some(Err(KafkaError::PartitionEOF(_))) => Polled::End,
            Some(Err(error)) => {
                tracing::debug!(error = %error, "sharing");
                Polled::Nothing
            }
            Some(Ok(message)) => {
                let (topic, key) = (
                    message.topic(),
                    message
                        .key()
                        .map(String::from_utf8_lossy)
                        .unwrap_or_default(),
                );
                if topic == reader.control {
                    let said = self.mirror.take_control(topic, &key, message.payload());
                    if let Some(feedback) = said {
                        self.take_feedback(feedback);
                    }
                } else {
                    self.mirror.take_part(topic, &key, part(&message));
                }
                Polled::Message
            }
        }
    }

    fn take_feedback(&mut self, feedback: Feedback) {
        if let Some(log) = self.logs.get(&feedback.stream) {
            log.insert(feedback.clone());
        }
        let subject = (feedback.stream.clone(), feedback.subject());
        let records = None;
        self.waiting.insert(subject, Waiting { feedback, records });
    }

    /// Holds folder and topics against each other, and sends what has changed here.
    fn settle(&mut self, leads: impl Fn(&str) -> bool) -> Result<(), ShareError> {
        let Some(Reader {
            control, bundles, ..
        }) = &self.reader
        else {
            return Ok(());
        };
        for message in self.mirror.settle(leads)? {
            match message {
                Outgoing::Control(key, value) => {
                    let value = value.and_then(|value| serde_json::to_vec(&value).ok());
                    self.send(control, &key, value.as_deref(), OwnedHeaders::new());
                }
                Outgoing::Part(key, None) => self.send(bundles, &key, None, OwnedHeaders::new()),
                Outgoing::Part(key, Some((label, bytes))) => {
                    let length = label.bytes.to_string();
                    let headers = OwnedHeaders::new()
                        .insert(Header {
                            key: HASH,
                            value: Some(&label.hash),
                        })
                        .insert(Header {
                            key: BYTES,
                            value: Some(&length),
                        });
                    self.send(bundles, &key, Some(&bytes), headers);
                }
            }
        }
        Ok(())
    }

    /// Publishes what has happened.
    fn publish(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            let Some(topic) = &self.events_topic else {
                continue;
            };
            let value = serde_json::to_vec(&event).ok();
            let headers = cloudevents::event_headers(&event);
            self.send(topic, &event.stream, value.as_deref(), headers);
        }
    }

    fn send(&self, topic: &str, key: &str, value: Option<&[u8]>, headers: OwnedHeaders) {
        let record = BaseRecord::<str, [u8]>::to(topic).key(key).headers(headers);
        let record = match value {
            Some(value) => record.payload(value),
            None => record,
        };
        if let Err((error, _)) = self.producer.send(record) {
            SharingFailed {
                error: format!("topic {topic}: {error}"),
            }
            .emit();
        }
    }

    /// Hands what operators said to the retraining. What cannot be handed over now is kept.
    fn teach(&mut self, pupils: &[Pupils]) {
        if self.failed.is_some_and(|at| at.elapsed() < RETRY_EVERY) {
            return;
        }
        self.failed = None;
        for (subject, mut waiting) in std::mem::take(&mut self.waiting) {
            let of = |pupil: &&Pupils| pupil.stream.name == waiting.feedback.stream;
            let Some(pupil) = pupils.iter().find(of) else {
                continue;
            };
            match self.teach_one(pupil, &mut waiting) {
                Ok(true) => {}
                Ok(false) => drop(self.waiting.insert(subject, waiting)),
                Err(error) => {
                    SharingFailed {
                        error: error.to_string(),
                    }
                    .emit();
                    self.failed = Some(Instant::now());
                    self.waiting.insert(subject, waiting);
                }
            }
        }
    }

    /// Hands one word over; returns whether the retraining has it, or has had it before.
    fn teach_one(&self, pupil: &Pupils, waiting: &mut Waiting) -> Result<bool, TeachError> {
        let feedback = &waiting.feedback;
        let records = match waiting.records.take() {
            Some(records) => records,
            None if is_known(&*self.store, feedback)? => return Ok(true),
            None => match feedback.records {
                Some(at) => self.records(pupil, feedback, at)?,
                None => Vec::new(),
            },
        };
        let lesson = Lesson {
            feedback: feedback.clone(),
            records,
        };
        match pupil.retrainer.teach(lesson) {
            Some(back) => {
                waiting.records = Some(back.records);
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn records(
        &self,
        pupil: &Pupils,
        feedback: &Feedback,
        at: Records,
    ) -> Result<Vec<(i64, TrainingRow)>, HistoryError> {
        let before = match feedback.says {
            Says::Confirmed => RECORDS_BEFORE,
            Says::FalseAlarm | Says::NewNormal => 0,
            Says::Expected | Says::MarkRange => return Ok(Vec::new()),
        };
        history::read(&self.kafka, &pupil.stream, &feedback.series, at, before)
    }
}

/// Reads both shared topics.
struct Reader {
    consumer: BaseConsumer<Quiet>,
    control: String,
    bundles: String,
}

impl Reader {
    /// Begins both topics at their start; returns how many partitions they have.
    fn begin(&self, stop: &AtomicBool) -> Result<usize, ShareError> {
        let mut all = TopicPartitionList::new();
        for topic in [&self.control, &self.bundles] {
            while all.elements_for_topic(topic).is_empty() && !stop.load(Ordering::Acquire) {
                if let Err(error) =
                    add_from_beginning(&self.consumer, topic, &mut all, REQUEST_TIMEOUT)
                {
                    SharingFailed {
                        error: error.to_string(),
                    }
                    .emit();
                }
                thread::park_timeout(POLL);
            }
        }
        self.consumer.assign(&all)?;
        Ok(all.count())
    }
}

enum Polled {
    Message,
    End,
    Nothing,
}

/// Label and bytes of a part; `None` where the message removes it.
fn part<'m>(message: &'m BorrowedMessage<'_>) -> Option<(Label, &'m [u8])> {
    let bytes = message.payload()?;
    let headers: HashMap<&str, &[u8]> = message
        .headers()?
        .iter()
        .filter_map(|header| Some((header.key, header.value?)))
        .collect();
    let text = |key: &str| Some(String::from_utf8_lossy(headers.get(key)?).into_owned());
    Some((
        Label {
            hash: text(HASH)?,
            bytes: text(BYTES)?.parse().ok()?,
        },
        bytes,
    ))
}
