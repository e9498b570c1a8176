//! The options of Kafka clients and of a stream's input: `[kafka]` and `[streams.NAME.input]`.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::oidc::{self, OidcFault, TokenClient};
use super::tokens::{SharedTokens, Tokens};
use crate::options::{ByteSizeText, OptionFault, optional, size};

/// Connection to the brokers.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct KafkaSettings {
    /// Bootstrap brokers, `host:port`, comma-separated.
    #[serde(deserialize_with = "brokers")]
    #[schemars(example = "kafka-1:9092,kafka-2:9092", extend("x-syntax" = "brokers"))]
    pub brokers: String,
    /// librdkafka properties of all clients (TLS, SASL, ...).
    #[serde(deserialize_with = "properties")]
    #[schemars(with = "BTreeMap<String, Property>")]
    pub properties: BTreeMap<String, String>,
    /// librdkafka properties of consumers only.
    #[serde(deserialize_with = "properties")]
    #[schemars(with = "BTreeMap<String, Property>")]
    pub consumer: BTreeMap<String, String>,
    /// librdkafka properties of producers only.
    #[serde(deserialize_with = "properties")]
    #[schemars(with = "BTreeMap<String, Property>")]
    pub producer: BTreeMap<String, String>,
    /// Whether outlierd creates missing output topics.
    pub create_topics: bool,
    /// Replication factor of created topics, 1 to 15; -1 is the broker's default.
    #[schemars(range(min = -1, max = 15))]
    pub replication_factor: i32,
    /// The tokens of all clients.
    #[serde(skip)]
    #[schemars(skip)]
    pub tokens: SharedTokens,
}

impl KafkaSettings {
    /// Those of a test.
    #[cfg(test)]
    pub(super) fn to(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            properties: BTreeMap::new(),
            consumer: BTreeMap::new(),
            producer: BTreeMap::new(),
            create_topics: true,
            replication_factor: -1,
            tokens: SharedTokens::default(),
        }
    }

    /// What is wrong with the values.
    pub fn faults(&self) -> impl Iterator<Item = OptionFault> {
        let fault = "must be from 1 to 15, or -1 for the broker's default";
        OptionFault::when(self.replication_factor == 0, "replication_factor", fault).into_iter()
    }

    /// The name that ACLs have for a client of these settings, as far as they or its token show it:
    /// that of TLS client certificates and Kerberos comes from elsewhere.
    pub fn principal(&self) -> Option<String> {
        let user = self.tokens().principal();
        let user = user.or_else(|| self.properties.get("sasl.username").cloned())?;
        Some(format!("User:{user}"))
    }

    /// The tokens of OIDC, which all clients of these settings and of their copies share.
    pub fn tokens(&self) -> Tokens {
        self.tokens.of(&self.properties)
    }

    /// What is wrong with the properties of OIDC.
    pub fn oidc_fault(&self) -> Option<OidcFault> {
        TokenClient::new(&self.properties).err()
    }

    /// `properties` without those that outlierd uses itself: the tokens of OIDC do not come from
    /// librdkafka.
    pub fn client_properties(&self) -> impl Iterator<Item = (&String, &String)> {
        let is_oidc = oidc::is_chosen(&self.properties);
        let properties = self.properties.iter();
        properties.filter(move |(key, _)| !(is_oidc && oidc::is_own(key)))
    }

    /// The properties that outlierd sets itself, with the table and what to do instead.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
        let tables = [
            ("properties", &self.properties),
            ("consumer", &self.consumer),
            ("producer", &self.producer),
        ];
        tables.into_iter().flat_map(|(table, properties)| {
            properties.keys().filter_map(move |key| {
                let (_, fix) = REFUSED.iter().find(|(refused, _)| refused == key)?;
                Some((table, key.as_str(), *fix))
            })
        })
    }
}

/// Reads broker addresses, and takes out the blanks around the commas.
///
/// # Errors
/// Where one is not `host:port`.
pub fn brokers<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let is_good = |broker: &str| match broker.trim().rsplit_once(':') {
        Some((host, port)) => {
            !host.is_empty()
                && !host.contains(char::is_whitespace)
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => false,
    };
    let text = String::deserialize(from)?;
    match text.split(',').all(is_good) {
        true => Ok(text.split(',').map(str::trim).collect::<Vec<_>>().join(",")),
        false => Err(de::Error::custom(
            "must be host:port, comma-separated, such as \"kafka-1:9092,kafka-2:9092\"",
        )),
    }
}

/// The value of a librdkafka property.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Property {
    /// As text.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// The content of a file; `config::secrets` has put it in place of the name.
    Secret(#[expect(dead_code, reason = "for the schema")] SecretFile),
}

/// Where a property is read from, at the start and at a reload. One of the two.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecretFile {
    /// Path of the file.
    #[serde(rename = "file")]
    #[schemars(example = "/run/secrets/kafka-password")]
    _file: Option<String>,
    /// Name of a credential of systemd, in `$CREDENTIALS_DIRECTORY`.
    #[serde(rename = "credential")]
    _credential: Option<String>,
}

/// The values in librdkafka's notation.
fn properties<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = BTreeMap::<String, Property>::deserialize(from)?;
    let text = |(key, value)| match value {
        Property::Text(text) => Ok((key, text)),
        Property::Flag(flag) => Ok((key, flag.to_string())),
        Property::Integer(number) => Ok((key, number.to_string())),
        Property::Float(number) => Ok((key, number.to_string())),
        Property::Secret(_) => Err(de::Error::custom(format!(
            "{key} is not read from its file"
        ))),
    };
    values.into_iter().map(text).collect()
}

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

/// Input of the stream.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = optional)]
pub struct InputSettings {
    /// Topic; `{stream}` is replaced with the stream's name.
    #[schemars(example = "plant.pumps")]
    pub topic: String,
    /// Consumer group; `{stream}` is replaced with the stream's name.
    #[schemars(example = "outlierd-{stream}")]
    pub group: String,
    /// Start offset of a group without committed offsets.
    pub start: StartOffset,
    /// How long before its first start a stream starts reading, to learn without publishing, 0s to
    /// 366d.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "2d", extend("x-duration" = {"minimum": "0s", "maximum": "366d"}))]
    pub warm_up: Duration,
    /// Threads, each with its own consumer and producer, 1 to 64; those beyond the number of
    /// partitions are idle.
    #[schemars(range(min = 1, max = 64))]
    pub lanes: usize,
    /// Maximum number of records in a micro-batch, 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_records: usize,
    /// Maximum payload of a micro-batch, 1 KiB to 256 MiB.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "ByteSizeText", example = "8 MiB", extend("x-size" = {"minimum": "1 KiB", "maximum": "256 MiB"}))]
    pub batch_bytes: usize,
    /// How long a micro-batch waits for more records, 1ms to 10s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "20ms", extend("x-duration" = {"minimum": "1ms", "maximum": "10s"}))]
    pub batch_wait: Duration,
    /// Interval between commits of states and offsets, 10ms to 5m; an alert is committed at once.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", example = "1s", extend("x-duration" = {"minimum": "10ms", "maximum": "5m"}))]
    pub commit_interval: Duration,
    /// Delivery guarantee: how offsets are committed relative to results.
    pub delivery: Delivery,
}

/// Start offset of a consumer group without committed offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartOffset {
    /// At the oldest record.
    Earliest,
    /// After the newest record.
    Latest,
}

/// Delivery guarantee: how offsets are committed relative to results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Offsets and results are one Kafka transaction: a crash duplicates and loses nothing.
    ExactlyOnce,
    /// Offsets are committed after the results: a crash may repeat an alert, with the same id, and
    /// loses none.
    AtLeastOnce,
}
