//! A machine whose records are in the topic `in` of a mock cluster, and the daemon that reads them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::process::{PATIENCE, write_config};

/// Fills the topic with records of the series `rig`.
pub fn fill(brokers: &str, payloads: impl Iterator<Item = String>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .unwrap();
    for payload in payloads {
        let mut record = BaseRecord::to("in").key("rig").payload(&payload);
        while let Err((_, back)) = producer.send(record) {
            record = back;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// The configuration of the daemon; `scores` is the topic of scores, where there is one.
pub fn config(folder: &Path, brokers: &str, delivery: &str, scores: Option<&str>) -> PathBuf {
    let scores = scores.map_or(String::new(), |topic| format!(", scores = \"{topic}\""));
    let text = format!(
        r#"
service.http_listen = "127.0.0.1:0"
service.log_filter = "info"
kafka.consumer = {{ "fetch.wait.max.ms" = 10 }}
share = {{ bundles = "", control = "", events = "" }}
[streams.rig]
input = {{ topic = "in", delivery = "{delivery}" }}
output = {{ alerts = "in.alerts", dead_letters = "in.dead"{scores} }}
record = {{ time = "field:t", fields = ["x", "y"] }}
model = {{ kind = "linear", latent = 1 }}
"#
    );
    write_config(folder, brokers, &text)
}
