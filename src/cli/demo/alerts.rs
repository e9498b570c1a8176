//! The reader of the alerts topic: prints the openings and the turns to a worse severity, and keeps
//! every event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, TopicPartitionList};

use super::broker::{PARTITIONS, Topics};
use super::screen::Screen;
use crate::config::settings::Settings;
use crate::record::alert::{Alert, AlertEvent, Severity};
use crate::source::{QuietClientContext, reader_config};

const POLL: Duration = Duration::from_millis(100);

/// A reader at work.
pub(super) struct AlertReader {
    /// Taken by [`AlertReader::finish`].
    thread: Option<JoinHandle<anyhow::Result<Vec<Alert>>>>,
    orders: Arc<Orders>,
}

/// Commands to the reader.
#[derive(Default)]
struct Orders {
    /// No more alerts are going to be written: end at the end of the topic.
    last: AtomicBool,
    /// Nobody wants the alerts any more: end at once.
    abandoned: AtomicBool,
}

impl AlertReader {
    pub(super) fn start(
        settings: &Settings,
        topics: &Topics,
        screen: Screen,
    ) -> anyhow::Result<Self> {
        let name = "outlierd-demo-alerts";
        let config = reader_config(&settings.kafka, name, name);
        let topic = topics.alerts.clone();
        let orders = Arc::new(Orders::default());
        let told = orders.clone();
        let read = move || read(&config, &topic, &told, &screen).context("cannot read the alerts");
        let thread = thread::Builder::new().name("alerts".into()).spawn(read)?;
        Ok(Self {
            thread: Some(thread),
            orders,
        })
    }

    /// Every alert event of the topic, in the order of each pump.
    ///
    /// # Errors
    /// What the reader failed with.
    pub(super) fn finish(mut self) -> anyhow::Result<Vec<Alert>> {
        self.orders.last.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(alerts)) => alerts,
            _ => Err(anyhow!("the reader of the alerts panicked")),
        }
    }
}

impl Drop for AlertReader {
    fn drop(&mut self) {
        // After an error of the demonstration: the reader must not outlive the broker.
        self.orders.abandoned.store(true, Ordering::Release);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read(
    config: &ClientConfig,
    topic: &str,
    orders: &Orders,
    screen: &Screen,
) -> anyhow::Result<Vec<Alert>> {
    let mut read_to: BTreeMap<i32, i64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let mut consumer = open(config, topic, &read_to)?;
    let mut alerts = Vec::new();
    let mut worst: HashMap<String, Severity> = HashMap::new();
    // Once no more alerts are written: the partitions whose end is not reached yet.
    let mut left: Option<HashSet<i32>> = None;
    while !orders.abandoned.load(Ordering::Acquire) && left.as_ref().is_none_or(|l| !l.is_empty()) {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let alert: Alert = serde_json::from_slice(message.payload().unwrap_or_default())
                    .with_context(|| format!("{topic}, offset {}", message.offset()))?;
                read_to.insert(message.partition(), message.offset() + 1);
                print(&alert, &mut worst, screen);
                alerts.push(alert);
            }
            // The end of a partition is not at an offset that a record tells: behind the last one is
            // the marker of its transaction.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                if let Some(left) = &mut left {
                    left.remove(&partition);
                }
            }
            // librdkafka reconnects by itself; what it cannot mend shows as a partition that never
            // reaches its end.
            Some(Err(error)) => tracing::warn!(error = %error, "reader of the alerts"),
            None if left.is_none() && orders.last.load(Ordering::Acquire) => {
                // The ends that were reached before are none any more, and a consumer reports each once.
                consumer = open(config, topic, &read_to)?;
                left = Some(read_to.keys().copied().collect());
            }
            None => {}
        }
    }
    Ok(alerts)
}

/// A consumer that reads each partition from an offset on.
fn open(
    config: &ClientConfig,
    topic: &str,
    from: &BTreeMap<i32, i64>,
) -> anyhow::Result<BaseConsumer<QuietClientContext>> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in from {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    let consumer: BaseConsumer<_> = config.create_with_context(QuietClientContext::default())?;
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Prints an alert that is news: an episode that opens, or one that became worse.
fn print(alert: &Alert, worst: &mut HashMap<String, Severity>, screen: &Screen) {
    if alert.event == AlertEvent::Close {
        worst.remove(&alert.id);
        return;
    }
    let before = worst.insert(alert.id.clone(), alert.severity);
    if before.is_none_or(|before| before < alert.severity) {
        let mark = if before.is_some() { "worse: " } else { "" };
        screen.line(&format!(
            "{}  {}  {mark}{}",
            alert.time,
            screen.severity(alert.severity),
            alert.summary
        ));
    }
}
