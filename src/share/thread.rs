//! The Kafka clients of what is shared, and the thread that runs them.
//!
//! Both topics are read from their start, at every start: they are compacted, and hold one message for each thing that is to
//! be known. Errors of the brokers pass: what is live stays so, and it is tried again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
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

use super::history::{self, HistoryError};
use super::mirror::{Mirror, MirrorError, Outgoing};
use super::parcel::Label;
use crate::config::settings::{Kafka, Share, Stream};
use crate::events::published::Put;
use crate::events::share::SharingFailed;
use crate::lane::Control as Order;
use crate::record::feedback::{Feedback, Records, Says};
use crate::retrain::engine::{Lesson, is_known};
use crate::retrain::set::TrainingRow;
use crate::retrain::thread::Retrainer;
use crate::sink::cloudevents;
use crate::source::{Quiet, add_from_beginning, producer_config, reader_config};
use crate::state::Store;

/// How long the thread waits for messages at a time; bounds how late it notices a stop.
const POLL: Duration = Duration::from_millis(100);
/// How often folder and topics are held against each other.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last messages of a stop may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
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

/// Who is told of a stream.
pub struct Pupils {
    /// The stream.
    pub stream: Arc<Stream>,
    /// Its retraining.
    pub retrainer: Retrainer,
    /// Its lanes.
    pub lanes: Vec<SyncSender<Order>>,
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
    events: Receiver<Put>,
    /// What operators said and was not told on yet.
    feedback: Vec<Feedback>,
    /// What the retraining had no room for, as in the course of a training.
    waiting: Vec<Lesson>,
}

impl Sharing {
    /// Makes the clients.
    ///
    /// # Errors
    /// Where their properties are refused.
    pub fn new(
        kafka: &Kafka,
        topics: &Share,
        mirror: Mirror,
        store: Arc<dyn Store>,
        events: Receiver<Put>,
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
        let (events_topic, kafka, feedback, waiting) =
            (topics.events.clone(), kafka.clone(), Vec::new(), Vec::new());
        Ok(Self {
            kafka,
            events_topic,
            store,
            mirror,
            reader,
            producer,
            events,
            feedback,
            waiting,
        })
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
                    self.feedback
                        .extend(self.mirror.take_control(topic, &key, message.payload()));
                } else {
                    self.mirror.take_part(topic, &key, part(&message));
                }
                Polled::Message
            }
        }
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
        while let Ok(put) = self.events.try_recv() {
            match put {
                Put::Event(event) => {
                    let Some(topic) = &self.events_topic else {
                        continue;
                    };
                    let value = serde_json::to_vec(&event).ok();
                    self.send(
                        topic,
                        &event.stream,
                        value.as_deref(),
                        cloudevents::event_headers(&event),
                    );
                }
                Put::Alert(topic, alert) => {
                    let value = serde_json::to_vec(&alert).ok();
                    self.send(
                        &topic,
                        &alert.series,
                        value.as_deref(),
                        cloudevents::headers(&alert),
                    );
                }
            }
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

    /// Tells the lanes and the retraining what operators said.
    fn teach(&mut self, pupils: &[Pupils]) {
        let of = |stream: &str| pupils.iter().find(|pupil| pupil.stream.name == stream);
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        self.waiting = waiting
            .filter_map(|lesson| of(&lesson.feedback.stream)?.retrainer.teach(lesson))
            .collect();
        for feedback in std::mem::take(&mut self.feedback) {
            let Some(pupil) = of(&feedback.stream) else {
                continue;
            };
            match is_known(&*self.store, &feedback) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => SharingFailed {
                    error: error.to_string(),
                }
                .emit(),
            }
            let records = feedback
                .records
                .map_or(Ok(Vec::new()), |at| self.records(pupil, &feedback, at));
            let records = records.unwrap_or_else(|error| {
                SharingFailed {
                    error: error.to_string(),
                }
                .emit();
                Vec::new()
            });
            let feedback = Arc::new(feedback);
            for lane in &pupil.lanes {
                // A lane that hangs is told by its own signs.
                let _ = lane.try_send(Order::Teach(feedback.clone()));
            }
            let lesson = Lesson {
                feedback: Feedback::clone(&feedback),
                records,
            };
            self.waiting.extend(pupil.retrainer.teach(lesson));
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
