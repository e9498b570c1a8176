//! The Kafka clients of what is shared, and the thread that runs them.
//!
//! Both topics are read from their start, at every start: they are compacted, and hold one message
//! for each thing that is to be known. Errors of the brokers pass: what is live stays so, and it is
//! tried again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::archive::ArchiveHeader;
use super::error::{ShareError, TeachError};
use super::feedback_log::FeedbackLog;
use super::history::{self, HistoryError};
use super::message;
use super::sync::{OutgoingMessage, RegistrySync, SyncError};
use crate::config::settings::{ShareSettings, StreamSettings};
use crate::events::published::PublishedEvent;
use crate::events::share::{FeedbackDropped, FeedbackExpired, SharingFailed};
use crate::failure::{Failure as _, panic_if_asked};
use crate::record::feedback::{Feedback, FeedbackLabel, RecordRange};
use crate::retrain::engine::{LabeledFeedback, forget_applied, is_known};
use crate::retrain::set::TrainingRow;
use crate::retrain::thread::Retrainer;
use crate::signature::SharingKeys;
use crate::sink::cloudevents;
use crate::source::KafkaSettings;
use crate::source::rights::{Access, READ, WRITE, is_of_group};
use crate::source::{
    QuietClientContext, add_from_beginning, consumer, producer_config, reader_config,
};
use crate::state::Store;

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
/// How often feedback may fail for a reason that does not pass, before the retraining goes without.
const FAILURES_MAX: u32 = 3;
/// Records of a series before a confirmed fault: a chart that has settled.
const RECORDS_BEFORE: usize = 400;

/// Who learns from what operators say of a stream.
pub struct FeedbackTargets {
    /// The stream.
    pub stream: Arc<StreamSettings>,
    /// Its retraining.
    pub retrainer: Retrainer,
}

/// Reports what is not delivered.
struct ShareProducerContext {
    kafka: KafkaSettings,
}

impl ShareProducerContext {
    fn not_sent(&self, topic: &str, source: KafkaError) {
        let access = Access::of_topic(WRITE, topic);
        let error = match access.missing(&source, &self.kafka) {
            Some(right) => ShareError::Right(right),
            None => ShareError::Send {
                topic: topic.to_owned(),
                source,
            },
        };
        SharingFailed { error: &error }.emit();
    }
}

impl ClientContext for ShareProducerContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "client");
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.kafka.tokens().answer()
    }
}

impl ProducerContext for ShareProducerContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            self.not_sent(message.topic(), error.clone());
        }
    }
}

/// See the module.
pub struct Sharing {
    kafka: KafkaSettings,
    /// Topic of the events.
    events_topic: Option<String>,
    store: Arc<dyn Store>,
    sync: RegistrySync,
    /// What messages are signed with, and whose are accepted.
    keys: SharingKeys,
    /// `None` where nothing is shared.
    reader: Option<TopicReader>,
    producer: ThreadedProducer<ShareProducerContext>,
    events: Receiver<PublishedEvent>,
    /// By stream, all feedback on its alerts: each lane takes what concerns its partitions.
    logs: HashMap<String, Arc<FeedbackLog>>,
    /// What the retraining has not taken yet, by stream and subject; a later word on the same alert
    /// takes the place of an earlier one. Entries leave when it has room for them, which it may not
    /// have in the course of a training.
    waiting: BTreeMap<(String, String), Waiting>,
    /// The streams of which more feedback was given than is kept.
    expired: BTreeSet<String>,
    /// When records could not be read last.
    failed: Option<Instant>,
}

/// Feedback that the retraining has not taken yet.
struct Waiting {
    feedback: Feedback,
    /// The records that it is about; `None` until they have been read.
    records: Option<Vec<(i64, TrainingRow)>>,
    /// How often it failed for a reason that does not pass.
    failures: u32,
}

impl Sharing {
    /// Makes the clients; see [`reader_config`] for `group`.
    ///
    /// # Errors
    /// Where their properties are refused, or the key cannot be read.
    pub fn new(
        kafka: &KafkaSettings,
        topics: &ShareSettings,
        streams: &[String],
        group: &str,
        sync: RegistrySync,
        store: Arc<dyn Store>,
        events: Receiver<PublishedEvent>,
    ) -> Result<Self, ShareError> {
        let keys = SharingKeys::load(topics.signing_key.as_deref(), &topics.trusted_keys)?;
        let mut config = reader_config(kafka, "outlierd-share", group);
        config.set("auto.offset.reset", "earliest");
        let reader = match (topics.control.clone(), topics.bundles.clone()) {
            (Some(control), Some(bundles)) => Some(TopicReader {
                consumer: consumer(kafka, &config, QuietClientContext::of(kafka))?,
                control,
                bundles,
            }),
            _ => None,
        };
        let mut config = producer_config(kafka, "outlierd-share");
        let producer = config
            .set("enable.idempotence", "true")
            .create_with_context(ShareProducerContext {
                kafka: kafka.clone(),
            })?;
        let log = |stream: &String| (stream.clone(), Arc::default());
        Ok(Self {
            kafka: kafka.clone(),
            events_topic: topics.events.clone(),
            store,
            sync,
            keys,
            reader,
            producer,
            events,
            logs: streams.iter().map(log).collect(),
            waiting: BTreeMap::new(),
            expired: BTreeSet::new(),
            failed: None,
        })
    }

    /// All feedback on the alerts of a stream, present and future.
    pub fn feedback_log(&self, stream: &str) -> Arc<FeedbackLog> {
        self.logs.get(stream).cloned().unwrap_or_default()
    }

    /// Reads both topics to their ends, so that this machine begins with what the others have;
    /// `stop` ends it early.
    ///
    /// # Errors
    /// Folder or store; errors of the brokers pass.
    pub fn catch_up(&mut self, stop: &AtomicBool) -> Result<(), ShareError> {
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        let mut open = reader.begin(&self.kafka, stop)?;
        while open > 0 && !stop.load(Ordering::Acquire) {
            match self.poll(POLL) {
                PollResult::End => open -= 1,
                PollResult::Message | PollResult::Nothing => {}
            }
        }
        self.reconcile(|_| false)
    }

    /// Runs until `halt` is set, on a thread of its own.
    ///
    /// # Errors
    /// Where the system has no thread.
    pub fn start(
        mut self,
        targets: Vec<FeedbackTargets>,
        halt: Arc<AtomicBool>,
    ) -> Result<JoinHandle<()>, ShareError> {
        let run = move || {
            let mut settled = Instant::now();
            while !halt.load(Ordering::Acquire) {
                panic_if_asked();
                if self.reader.is_some() {
                    self.poll(POLL);
                } else {
                    thread::park_timeout(POLL);
                }
                self.publish();
                if settled.elapsed() >= SETTLE_EVERY {
                    settled = Instant::now();
                    let is_trainer = |name: &str| {
                        targets
                            .iter()
                            .any(|p| p.stream.name == name && p.retrainer.is_trainer())
                    };
                    let done = self.reconcile(is_trainer);
                    if let Err(error) = done {
                        SharingFailed { error: &error }.emit();
                    }
                }
                self.apply_feedback(&targets);
            }
            self.publish();
            // What is not sent now is sent by the next start, but for events.
            let _ = self.producer.flush(FLUSH_TIMEOUT);
        };
        Ok(thread::Builder::new().name("share".into()).spawn(run)?)
    }

    /// Takes one message.
    fn poll(&mut self, wait: Duration) -> PollResult {
        let Some(reader) = &self.reader else {
            return PollResult::Nothing;
        };
        match reader.consumer.poll(wait) {
            None => PollResult::Nothing,
            Some(Err(KafkaError::PartitionEOF(_))) => PollResult::End,
            Some(Err(error)) if is_of_group(&error) => PollResult::Nothing,
            Some(Err(error)) => {
                tracing::debug!(error = %error, "sharing");
                // One that passes follows from what the lanes report.
                if !error.is_retryable() {
                    // librdkafka does not report which of the two it is.
                    let topics = format!("{}, {}", reader.control, reader.bundles);
                    let error = &failure(&self.kafka, &topics, error);
                    SharingFailed { error }.emit();
                }
                PollResult::Nothing
            }
            Some(Ok(message)) => {
                if !message::is_accepted(&self.keys, &message) {
                    return PollResult::Message;
                }
                let topic = message.topic();
                let key = message::key(&message);
                if topic == reader.control {
                    let said = self.sync.take_control(topic, &key, message.payload());
                    if let Some(feedback) = said {
                        self.take_feedback(feedback);
                    }
                } else {
                    self.sync.take_part(topic, &key, message::part(&message));
                }
                PollResult::Message
            }
        }
    }

    fn take_feedback(&mut self, feedback: Feedback) {
        let subject = (feedback.stream.clone(), feedback.subject());
        let log = self.logs.get(&feedback.stream);
        let expired = log.and_then(|log| log.insert(feedback.clone()));
        let waiting = Waiting {
            feedback,
            records: None,
            failures: 0,
        };
        self.waiting.insert(subject, waiting);
        if let Some(feedback) = expired {
            let subject = (feedback.stream.clone(), feedback.subject());
            FeedbackExpired {
                feedback: &feedback,
                is_first: self.expired.insert(subject.0.clone()),
            }
            .emit();
            self.waiting.remove(&subject);
            // It was applied, or will not be: that need not be known any more.
            if let Err(error) = forget_applied(&*self.store, &feedback) {
                let error = &SyncError::from(error);
                SharingFailed { error }.emit();
            }
        }
    }

    /// Holds folder and topics against each other, and sends what has changed here.
    fn reconcile(&mut self, is_trainer: impl Fn(&str) -> bool) -> Result<(), ShareError> {
        let Some(TopicReader {
            control, bundles, ..
        }) = &self.reader
        else {
            return Ok(());
        };
        for message in self.sync.reconcile(is_trainer)? {
            match message {
                OutgoingMessage::Control(key, value) => {
                    let value = value.and_then(|value| serde_json::to_vec(&value).ok());
                    self.share(control, &key, value.as_deref(), None);
                }
                OutgoingMessage::Part(key, None) => self.share(bundles, &key, None, None),
                OutgoingMessage::Part(key, Some((header, bytes))) => {
                    self.share(bundles, &key, Some(&bytes), Some(&header));
                }
            }
        }
        Ok(())
    }

    /// Sends a message that the other instances act on.
    fn share(&self, topic: &str, key: &str, value: Option<&[u8]>, part: Option<&ArchiveHeader>) {
        let headers = message::headers(&self.keys, topic, key, value, part);
        self.send(topic, key, value, headers);
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
            self.producer.context().not_sent(topic, error);
        }
    }

    /// Hands what operators said to the retraining. What cannot be handed over now is kept.
    fn apply_feedback(&mut self, targets: &[FeedbackTargets]) {
        if self.failed.is_some_and(|at| at.elapsed() < RETRY_EVERY) {
            return;
        }
        self.failed = None;
        for (subject, mut waiting) in std::mem::take(&mut self.waiting) {
            let of = |target: &&FeedbackTargets| target.stream.name == waiting.feedback.stream;
            let Some(target) = targets.iter().find(of) else {
                continue;
            };
            match self.teach_one(target, &mut waiting) {
                Ok(true) => {}
                Ok(false) => drop(self.waiting.insert(subject, waiting)),
                Err(error) => {
                    SharingFailed { error: &error }.emit();
                    self.failed = Some(Instant::now());
                    waiting.failures += u32::from(!error.is_retryable());
                    if waiting.failures < FAILURES_MAX {
                        self.waiting.insert(subject, waiting);
                    } else {
                        FeedbackDropped {
                            feedback: &waiting.feedback,
                            error: &error,
                        }
                        .emit();
                    }
                }
            }
        }
    }

    /// Hands one word over; returns whether the retraining has it, or has had it before.
    fn teach_one(
        &self,
        target: &FeedbackTargets,
        waiting: &mut Waiting,
    ) -> Result<bool, TeachError> {
        let feedback = &waiting.feedback;
        let records = match waiting.records.take() {
            Some(records) => records,
            None if is_known(&*self.store, feedback)? => return Ok(true),
            None => match feedback.records {
                Some(at) => self.records(target, feedback, at)?,
                None => Vec::new(),
            },
        };
        let labeled = LabeledFeedback {
            feedback: feedback.clone(),
            records,
        };
        match target.retrainer.apply_feedback(labeled) {
            Some(back) => {
                waiting.records = Some(back.records);
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn records(
        &self,
        target: &FeedbackTargets,
        feedback: &Feedback,
        at: RecordRange,
    ) -> Result<Vec<(i64, TrainingRow)>, HistoryError> {
        let before = match feedback.label {
            FeedbackLabel::Confirmed => RECORDS_BEFORE,
            FeedbackLabel::FalseAlarm | FeedbackLabel::NewNormal => 0,
            FeedbackLabel::Expected | FeedbackLabel::MarkRange => return Ok(Vec::new()),
        };
        history::read(&self.kafka, &target.stream, &feedback.series, at, before)
    }
}

/// Reads both shared topics.
struct TopicReader {
    consumer: BaseConsumer<QuietClientContext>,
    control: String,
    bundles: String,
}

impl TopicReader {
    /// Begins both topics at their start; returns how many partitions they have.
    fn begin(&self, kafka: &KafkaSettings, stop: &AtomicBool) -> Result<usize, ShareError> {
        let mut all = TopicPartitionList::new();
        for topic in [&self.control, &self.bundles] {
            while all.elements_for_topic(topic).is_empty() && !stop.load(Ordering::Acquire) {
                let added = add_from_beginning(&self.consumer, topic, &mut all, REQUEST_TIMEOUT);
                let wait = added.is_err().then_some(SETTLE_EVERY);
                if let Err(error) = added {
                    let error = &failure(kafka, topic, error);
                    SharingFailed { error }.emit();
                }
                thread::park_timeout(wait.unwrap_or(POLL));
            }
        }
        self.consumer.assign(&all)?;
        Ok(all.count())
    }
}

/// A shared topic cannot be read.
fn failure(kafka: &KafkaSettings, topic: &str, error: KafkaError) -> ShareError {
    let access = Access::of_topic(READ, topic);
    let right = access.missing(&error, kafka);
    right.map_or_else(|| error.into(), ShareError::Right)
}

enum PollResult {
    Message,
    End,
    Nothing,
}
