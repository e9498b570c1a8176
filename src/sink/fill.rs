//! Writes the states of one partition to its changelog beside the lanes, in a transaction that ends
//! whatever another instance writes so at the same time.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::producer::BaseRecord;

use super::producer::{DeadLetterLimit, LaneProducer};
use super::transaction::STEP_TIMEOUT;
use super::{MAX_MESSAGE_BYTES_TEXT, SinkError};
use crate::config::settings::StreamSettings;
use crate::source::{KafkaSettings, producer_config};

/// How long the transaction may stay open. It holds up those who wait for the states.
const TIMEOUT: Duration = Duration::from_secs(60);

/// See the module. What was sent counts with [`ChangelogFill::commit`].
pub struct ChangelogFill {
    producer: LaneProducer,
    id: String,
    topic: String,
    partition: i32,
}

impl ChangelogFill {
    /// Begins to fill a partition, and locks out all that have begun before.
    ///
    /// # Errors
    /// [`SinkError::Config`] and [`SinkError::Transaction`].
    pub fn begin(
        kafka: &KafkaSettings,
        stream: &StreamSettings,
        partition: i32,
    ) -> Result<Self, SinkError> {
        let id = format!("{}-changelog-{partition}", stream.input.group);
        let mut config = producer_config(kafka, "outlierd-changelog");
        let timeout = TIMEOUT.as_millis().to_string();
        config
            .set("enable.idempotence", "true")
            .set("message.max.bytes", MAX_MESSAGE_BYTES_TEXT)
            .set("transactional.id", &id)
            .set("transaction.timeout.ms", &timeout)
            .set("delivery.timeout.ms", &timeout);
        let topic = stream.output.states.clone();
        // It sends no dead letters.
        let dead_letters = DeadLetterLimit {
            topic: stream.output.dead_letters.clone(),
            bytes_max: Arc::default(),
        };
        let producer = LaneProducer::new(kafka, &config, &topic, dead_letters, true)?;
        Ok(Self {
            producer,
            id,
            topic,
            partition,
        })
    }

    /// Sends an entry.
    ///
    /// # Errors
    /// [`SinkError::Delivery`] where librdkafka does not take it.
    pub fn send(&self, key: &[u8], value: &[u8]) -> Result<(), SinkError> {
        let record = BaseRecord::<[u8], [u8]>::to(&self.topic);
        let record = record.partition(self.partition).key(key).payload(value);
        self.producer.send(record)
    }

    /// Makes all entries visible.
    ///
    /// # Errors
    /// Where the brokers refuse them: none of them counts.
    pub fn commit(&self) -> Result<(), SinkError> {
        self.producer.wait(STEP_TIMEOUT)?;
        if let Some(refused) = self.producer.refused() {
            return Err(refused);
        }
        self.producer.commit_alone()
    }

    /// Whether an error of it says that another instance has begun to fill the partition since.
    pub fn is_locked_out(&self, error: &SinkError) -> bool {
        error.fenced(&self.id).is_some()
    }
}
