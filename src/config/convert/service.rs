//! `[service]` and `[kafka]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::ConfigReader;
use crate::config::problems::{ConfigProblem, KeyPath};
use crate::config::settings::{KafkaSettings, ServiceSettings};
use crate::config::{raw, text};

/// librdkafka properties that outlierd sets itself, and what to do instead.
const REFUSED: [(&str, &str); 18] = [
    ("bootstrap.servers", "use kafka.brokers"),
    ("metadata.broker.list", "use kafka.brokers"),
    (
        "client.id",
        "remove it: outlierd names every client after its stream and lane",
    ),
    ("group.id", "use input.group of the stream"),
    (
        "group.instance.id",
        "remove it: the lanes of a stream would fence each other",
    ),
    ("auto.offset.reset", "use input.start of the stream"),
    ("topic.auto.offset.reset", "use input.start of the stream"),
    (
        "enable.auto.commit",
        "remove it: offsets are committed with their results, never on a timer",
    ),
    (
        "auto.commit.enable",
        "remove it: offsets are committed with their results, never on a timer",
    ),
    (
        "auto.commit.interval.ms",
        "use input.commit_interval of the stream",
    ),
    (
        "enable.auto.offset.store",
        "remove it: offsets are stored with their results",
    ),
    (
        "enable.partition.eof",
        "remove it: a lane never stops at the end of a partition",
    ),
    (
        "isolation.level",
        "remove it: only committed records are read",
    ),
    (
        "enable.idempotence",
        "remove it: it is always on, so that a retry does not duplicate an alert",
    ),
    (
        "acks",
        "remove it: alerts are acknowledged by all in-sync replicas",
    ),
    (
        "request.required.acks",
        "remove it: alerts are acknowledged by all in-sync replicas",
    ),
    (
        "message.max.bytes",
        "remove it: outlierd limits alerts and dead letters itself",
    ),
    (
        "transactional.id",
        "remove it: each lane needs its own transactional id",
    ),
];

impl ConfigReader<'_> {
    pub(super) fn service(&mut self, raw: &raw::ServiceConfig) -> Option<ServiceSettings> {
        let at = |key: &str| KeyPath::of("service").key(key);
        let state_dir = self.folder(at("state_dir"), &raw.state_dir);
        let model_dir = self.folder(at("model_dir"), &raw.model_dir);
        if state_dir.is_some() && state_dir == model_dir {
            let fault = "must differ from service.model_dir";
            self.note(
                ConfigProblem::new(at("state_dir"), fault, "give each its own folder")
                    .found(&raw.state_dir.as_str().into()),
            );
        }
        let drain = text::duration(
            &raw.drain_timeout,
            Duration::from_secs(1)..=Duration::from_secs(3600),
        );
        let drain_timeout = self.take(at("drain_timeout"), &raw.drain_timeout, drain);
        let listen = match raw.http_listen.as_str() {
            "" => Ok(None),
            address => address.parse().map(Some).map_err(|_| {
                "must be an IP address and a port, such as \"127.0.0.1:9464\" or \"[::]:9464\", or \"\" for none"
                    .to_owned()
            }),
        };
        let http_listen = self.take(at("http_listen"), &raw.http_listen, listen);
        let filter = tracing_subscriber::EnvFilter::builder().parse(&raw.log_filter);
        let filter = filter.map(|_| raw.log_filter.clone()).map_err(|_| {
            "must be off, error, warn, info, debug or trace, or directives such as \"info,outlierd::lane=debug\""
                .to_owned()
        });
        let log_filter = self.take(at("log_filter"), &raw.log_filter, filter);
        Some(ServiceSettings {
            state_dir: state_dir?,
            model_dir: model_dir?,
            drain_timeout: drain_timeout?,
            http_listen: http_listen?,
            log_filter: log_filter?,
            log_format: raw.log_format,
        })
    }

    fn folder(&mut self, at: KeyPath, raw: &str) -> Option<PathBuf> {
        let read = match raw.is_empty() || raw.contains('\0') {
            true => Err("must be the path of a folder".to_owned()),
            false => Ok(PathBuf::from(raw)),
        };
        self.take(at, &raw, read)
    }

    pub(super) fn kafka(&mut self, raw: &raw::KafkaConfig) -> Option<KafkaSettings> {
        let at = |key: &str| KeyPath::of("kafka").key(key);
        let brokers = self.take(at("brokers"), &raw.brokers, text::brokers(&raw.brokers));
        if raw.replication_factor == 0 {
            let fault = "must be from 1 to 15, or -1 for the broker's default";
            let _: Option<()> = self.take(at("replication_factor"), &0, Err(fault.to_owned()));
        }
        Some(KafkaSettings {
            properties: self.properties(&at("properties"), &raw.properties),
            consumer: self.properties(&at("consumer"), &raw.consumer),
            producer: self.properties(&at("producer"), &raw.producer),
            brokers: brokers?,
            create_topics: raw.create_topics,
            replication_factor: raw.replication_factor,
        })
    }

    fn properties(
        &mut self,
        at: &KeyPath,
        raw: &BTreeMap<String, raw::PropertyConfig>,
    ) -> BTreeMap<String, String> {
        for key in raw.keys() {
            if let Some((_, fix)) = REFUSED.iter().find(|(refused, _)| refused == key) {
                self.note(ConfigProblem::new(
                    at.clone().key(key),
                    "cannot be set here: outlierd sets it itself",
                    *fix,
                ));
            }
        }
        raw.iter()
            .map(|(key, value)| (key.clone(), value.to_string()))
            .collect()
    }
}
