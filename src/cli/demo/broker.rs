//! The broker of the demonstration: the one that librdkafka carries in itself, or a real one.
//!
//! The built-in one keeps 5 MiB of a partition and drops the oldest beyond: the plant must never be
//! further ahead.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::config::settings::Settings;
use crate::source::client_config;

/// Partitions of each topic: enough that their backlogs, which are bounded one by one, keep the
/// daemon busy.
pub(super) const PARTITIONS: i32 = 6;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Names of the topics, which nobody else uses.
pub(super) struct Topics {
    pub(super) input: String,
    pub(super) alerts: String,
    pub(super) dead_letters: String,
}

impl Topics {
    /// Of the records of `what`.
    pub(super) fn unique(what: &str) -> Self {
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let input = format!("outlierd-demo-{}-{millis}.{what}", std::process::id());
        Self {
            alerts: format!("{input}.alerts"),
            dead_letters: format!("{input}.dead-letters"),
            input,
        }
    }

    fn all(&self) -> [&str; 3] {
        [&self.input, &self.alerts, &self.dead_letters]
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "{} ({PARTITIONS} partitions), and beside it .alerts and .dead-letters",
            self.input
        )
    }
}

pub(super) enum Broker {
    /// Runs for as long as this value lives.
    BuiltIn(MockCluster<'static, DefaultProducerContext>),
    Real(String),
}

impl Broker {
    pub(super) fn start(real: Option<&str>) -> anyhow::Result<Self> {
        match real {
            Some(address) => Ok(Self::Real(address.to_owned())),
            None => MockCluster::new(1)
                .map(Self::BuiltIn)
                .context("the embedded broker did not start"),
        }
    }

    pub(super) fn address(&self) -> String {
        match self {
            Self::BuiltIn(cluster) => cluster.bootstrap_servers(),
            Self::Real(address) => address.clone(),
        }
    }

    /// Settings that only this broker needs.
    pub(super) fn overrides(&self) -> Vec<String> {
        match self {
            // It answers a fetch that found nothing only when its time is up, even where records
            // come meanwhile. Its consumers see what a transaction has not committed yet.
            Self::BuiltIn(_) => vec![
                "kafka.consumer.\"fetch.wait.max.ms\"=10".into(),
                "defaults.input.delivery=\"at_least_once\"".into(),
            ],
            Self::Real(_) => Vec::new(),
        }
    }

    pub(super) fn describe(&self) -> String {
        let kind = if matches!(self, Self::BuiltIn(_)) {
            "built in, on"
        } else {
            "real, at"
        };
        format!("{kind} {}", self.address())
    }

    /// Creates the topics. The built-in broker cannot be asked by an admin client, so that the
    /// daemon finds its output topics there already; on a real one it creates them itself.
    pub(super) fn create(&self, settings: &Settings, topics: &Topics) -> anyhow::Result<()> {
        match self {
            Self::BuiltIn(cluster) => {
                for topic in topics.all() {
                    cluster
                        .create_topic(topic, PARTITIONS, 1)
                        .with_context(|| format!("cannot create topic {topic}"))?;
                }
                Ok(())
            }
            Self::Real(address) => create_input(settings, &topics.input).with_context(|| {
                format!(
                    "cannot create topic {}: does the broker {address} allow it?",
                    topics.input
                )
            }),
        }
    }
}

fn create_input(settings: &Settings, topic: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        client_config(&settings.kafka, "outlierd-demo").create()?;
    let new = NewTopic::new(
        topic,
        PARTITIONS,
        TopicReplication::Fixed(settings.kafka.replication_factor),
    );
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for result in runtime.block_on(admin.create_topics(&[new], &options))? {
        result.map_err(|(topic, code)| anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}
