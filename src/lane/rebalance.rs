//! The lane's side of a rebalance: commit before partitions leave, and start the ones that come
//! where their states are.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::OAuthToken;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Statistics, TopicPartitionList};

use super::assignment::StartFinder;
use super::error::LaneError;
use super::group::GroupMember;
use super::lag::{ConsumerLag, measure};
use super::lane_state::LaneState;
use super::status::LaneStatus;
use super::{Lane, SEEK_TIMEOUT};
use crate::events::PartitionsChanged;
use crate::record::EventTime;
use crate::retrain::learner::Learner;
use crate::source::Tokens;

/// The consumer's callbacks of one lane. They run on the lane's thread, inside its poll.
pub struct LaneContext {
    stream: String,
    lane: usize,
    finder: StartFinder,
    lane_state: Arc<Mutex<LaneState>>,
    learner: Arc<Learner>,
    status: Arc<LaneStatus>,
    /// Counts rebalances, so that the lane notices one that ran inside its poll.
    rebalances: AtomicU64,
    /// Partitions revoked since the lane last asked; emptied by [`LaneContext::take_revoked`].
    revoked: Mutex<Vec<i32>>,
    /// A rebalance that could not be answered: the lane takes it and restarts.
    failure: Mutex<Option<LaneError>>,
    /// See [`LaneContext::has_aborted`].
    aborted: AtomicBool,
    /// Whether the lane has ended: the group may still assign while the consumer leaves it, and
    /// nobody would read that.
    leaving: AtomicBool,
    /// Whether the lane has read all there is, and a broker answers, as librdkafka last said.
    at_end: AtomicBool,
    /// Partitions that were read to their ends when librdkafka last said so.
    drained: Mutex<BTreeSet<i32>>,
    /// Those that were so twice in a row, and when by the machine's clock; until the lane takes them.
    ends: Mutex<Option<(Vec<i32>, EventTime)>>,
    /// Whether the lane has paused its partitions: those that come meanwhile are paused too.
    paused: AtomicBool,
    tokens: Tokens,
}

impl GroupMember for BaseConsumer<LaneContext> {
    fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        Consumer::group_metadata(self)
    }

    fn commit_offsets(&self, offsets: &TopicPartitionList, mode: CommitMode) -> KafkaResult<()> {
        self.commit(offsets, mode)
    }
}

impl LaneContext {
    /// Callbacks that act on a lane's state.
    pub fn new(lane: &Lane, lane_state: Arc<Mutex<LaneState>>) -> Self {
        let (rebalances, revoked, failure, leaving, at_end, paused) = Default::default();
        let (drained, ends, aborted) = Default::default();
        Self {
            stream: lane.stream.name.clone(),
            lane: lane.number,
            finder: StartFinder::new(lane),
            lane_state,
            learner: lane.learner.clone(),
            status: lane.status.clone(),
            rebalances,
            revoked,
            failure,
            aborted,
            leaving,
            at_end,
            drained,
            ends,
            paused,
            tokens: lane.kafka.tokens(),
        }
    }

    /// The partitions that are read to their ends, and since when that is known; `None` where nothing
    /// is known since the last call.
    pub fn take_ends(&self) -> Option<(Vec<i32>, EventTime)> {
        self.ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Forgets which partitions are read to their ends: they are read from elsewhere.
    pub fn forget_ends(&self) {
        self.at_end.store(false, Ordering::Release);
        self.drained
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        drop(self.take_ends());
    }

    /// Whether the lane has read all there is, and a broker answers.
    pub fn is_at_end(&self) -> bool {
        self.at_end.load(Ordering::Acquire)
    }

    /// Whether the lane's partitions are paused.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// The lane has paused all its partitions, or resumed them.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// The lane has ended, and everything it wanted to commit is committed.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// How many rebalances there have been.
    pub fn rebalances(&self) -> u64 {
        self.rebalances.load(Ordering::Acquire)
    }

    /// The partitions revoked since the last call: messages of theirs that were polled before are
    /// no longer this lane's.
    pub fn take_revoked(&self) -> Vec<i32> {
        std::mem::take(&mut *self.revoked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The rebalance that failed since the last call.
    pub fn take_failure(&self) -> Option<LaneError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Whether a rebalance failed while the lane stops. What is not committed then must not be: the
    /// group may have waited for the lane for too long, and have given its partitions away.
    pub fn has_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Keeps a failure for the lane; one that stops ends anyway.
    fn fail(&self, error: LaneError) {
        if self
            .lane_state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stops()
        {
            tracing::info!(stream = self.stream, lane = self.lane, error = %error, "rebalance aborted");
            self.aborted.store(true, Ordering::Release);
        } else {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &mut TopicPartitionList,
    ) -> Result<(), LaneError> {
        let numbers = numbers(partitions);
        let owned = {
            let mut lane_state = self
                .lane_state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if !numbers.is_empty() {
                let starts = self.finder.find(consumer, &mut lane_state, &numbers)?;
                for start in &starts {
                    let (topic, offset) = (&self.finder.topic, Offset::Offset(start.next));
                    partitions.set_partition_offset(topic, start.partition, offset)?;
                }
                lane_state.handover().assigned(&starts)?;
            }
            lane_state.owned()
        };
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions)?,
            _ => consumer.assign(partitions)?,
        }
        if self.learner.is_training() || self.is_paused() {
            consumer.pause(partitions)?;
        }
        self.status.joined();
        let change = "assigned";
        PartitionsChanged {
            stream: &self.stream,
            lane: self.lane,
            change,
            partitions: &numbers,
            owned,
        }
        .emit();
        Ok(())
    }

    fn revoke(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &TopicPartitionList,
    ) -> Result<(), LaneError> {
        let numbers = numbers(partitions);
        let (committed, owned) = {
            let mut lane_state = self
                .lane_state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // A lost partition may have a new owner already: what is not committed yet is the new
            // owner's to find.
            let committed = if consumer.assignment_lost() {
                lane_state.abort();
                Ok(())
            } else {
                lane_state.commit(consumer, CommitMode::Sync).map(drop)
            };
            lane_state.handover().revoked(&numbers);
            (committed, lane_state.owned())
        };
        self.revoked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(&numbers);
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions)?,
            _ => consumer.unassign()?,
        }
        // The partitions are given back all the same.
        if let Err(error) = committed {
            self.fail(error);
        }
        let change = "revoked";
        PartitionsChanged {
            stream: &self.stream,
            lane: self.lane,
            change,
            partitions: &numbers,
            owned,
        }
        .emit();
        Ok(())
    }
}

/// Answers a rebalance by taking nothing.
fn decline<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    event: &RDKafkaRespErr,
    partitions: &TopicPartitionList,
) {
    let is_cooperative = matches!(
        consumer.rebalance_protocol(),
        RebalanceProtocol::Cooperative
    );
    let answered = match event {
        _ if !is_cooperative => consumer.unassign(),
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
            consumer.incremental_assign(&TopicPartitionList::new())
        }
        _ => consumer.incremental_unassign(partitions),
    };
    if let Err(error) = answered {
        tracing::debug!(error = %error, "cannot decline a rebalance");
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions
        .elements()
        .iter()
        .map(|p| p.partition())
        .collect()
}

impl ClientContext for LaneContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// How far the lane is behind the newest record that it may read. librdkafka's own lag counts
    /// from offsets that the consumer commits, and a transaction commits them without it.
    fn stats(&self, statistics: Statistics) {
        let is_paused = self.is_paused();
        let ConsumerLag {
            report,
            mut drained,
        } = measure(&self.stream, &statistics);
        if is_paused {
            drained.clear();
        }
        let at_end = report.is_connected && !report.is_behind && !is_paused;
        self.at_end.store(at_end, Ordering::Release);
        self.status.reported(&report);
        let mut before = self.drained.lock().unwrap_or_else(PoisonError::into_inner);
        let ends: Vec<i32> = before.intersection(&drained).copied().collect();
        *before = drained;
        let at = (!ends.is_empty()).then(|| (ends, EventTime::now()));
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// The lane's poll returns these errors too, without the reason.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(stream = self.stream, lane = self.lane, error = %error, reason, "consumer");
        // It follows from what was reported of each broker.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.status.connection_failed(reason);
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.tokens.answer()
    }
}

impl ConsumerContext for LaneContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        self.rebalances.fetch_add(1, Ordering::AcqRel);
        // What was known of the partitions may be that of another owner's time.
        self.forget_ends();
        if self.leaving.load(Ordering::Acquire) {
            decline(consumer, &event, partitions);
            return;
        }
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.assign(consumer, partitions)
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                self.revoke(consumer, partitions)
            }
            other => Err(KafkaError::Rebalance(RDKafkaErrorCode::from(other)).into()),
        };
        if let Err(error) = done {
            // Without an answer librdkafka would wait for ever: this one lets the group go on, and
            // the lane restarts because of the failure.
            decline(consumer, &event, partitions);
            self.fail(error);
        }
    }
}

/// Makes the consumer continue at other offsets.
pub(super) fn seek(
    consumer: &BaseConsumer<LaneContext>,
    offsets: TopicPartitionList,
) -> Result<(), LaneError> {
    let sought = consumer.seek_partitions(offsets, SEEK_TIMEOUT)?;
    consumer.context().forget_ends();
    for partition in sought.elements() {
        partition.error()?;
    }
    Ok(())
}
