//! A lane: one thread with its own consumer and producer, which owns whole partitions of one
//! stream.
//!
//! Its whole life is the loop in [`Lane::run`]: poll a micro-batch, run the pipeline, hand results
//! to the producer, commit when it is time. Nothing else runs on a lane: training and HTTP have
//! threads of their own, and a lane never waits for them; while its stream trains a first model, or
//! the output is slower than the input, it pauses its partitions and keeps polling, so that it
//! stays in its group.

mod assignment;
mod checkpoint;
mod clocks;
mod delivery;
mod detector;
pub mod error;
mod expiry;
mod feedback;
mod group;
mod lag;
pub mod lane_state;
mod marks;
mod notes;
mod passing_errors;
pub mod poison;
mod positions;
pub mod rebalance;
mod recovery;
mod refill;
pub mod sampler;
mod schema_wait;
mod silence;
mod start;
mod status;
pub mod stored_states;
mod stream_alert;
pub mod topic_watch;
mod uncommitted;
mod unusable;
mod warm_up;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};

use self::error::LaneError;
use self::lane_state::LaneState;
use self::passing_errors::PassingErrors;
use self::poison::{Place, PoisonWatch, Stumble, TRIES};
use self::rebalance::{LaneContext, seek};
use self::schema_wait::SchemaWait;
pub use self::status::LaneStatus;
use self::topic_watch::ReadRecords;
use crate::config::settings::StreamSettings;
use crate::events::InputPaused;
use crate::events::lane::{LaneRewound, RecordSteppedOver};
use crate::failure::{panic_if_asked, panic_text};
use crate::pipeline::Pipeline;
use crate::record::{RejectReason, Rejected};
use crate::retrain::learner::{Learner, LearnerPhase};
use crate::retrain::thread::Retrainer;
use crate::share::feedback_log::FeedbackLog;
use crate::sink::Sink;
use crate::sink::avro::AvroOutput;
use crate::source::{self, BatchBounds, Delivery, KafkaSettings, consumer_config, poll_batch};
use crate::state::Store;

/// How long a paused lane polls at a time; bounds how late it notices a new bundle or a stop.
const PAUSED_WAIT: Duration = Duration::from_millis(50);

/// Results on their way to the brokers at which a lane stops taking records, and continues.
const IN_FLIGHT_MAX: usize = 10_000;
const IN_FLIGHT_RESUME: usize = 2_000;

/// How often in a row a lane rewinds to its last commit without leaving its group.
const GO_BACK_MAX: u32 = 3;
/// How long the consumer may take to go to another offset.
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of a stream that are in force. A reload replaces them; only keys that need no
/// restart differ from those that the lane was started with.
pub type ReloadedStream = Arc<Mutex<Arc<StreamSettings>>>;

/// Everything that a lane needs to start, and to start again after an error.
pub struct Lane {
    /// The brokers.
    pub kafka: KafkaSettings,
    /// The stream.
    pub stream: Arc<StreamSettings>,
    /// The same, as the last reload left it; read between two batches.
    pub reloaded: ReloadedStream,
    /// Its number inside the stream, from 0.
    pub number: usize,
    /// Partitions that the input had when the stream was last started; further ones are new.
    pub known_partitions: usize,
    /// What the lanes of the stream have read, for [`topic_watch::TopicWatch`].
    pub read_records: Arc<ReadRecords>,
    /// Where states are kept.
    pub store: Arc<dyn Store>,
    /// Tells which bundle is live, and takes records while there is none.
    pub learner: Arc<Learner>,
    /// Takes normal traffic.
    pub retrainer: Retrainer,
    /// The feedback on the stream's alerts.
    pub feedback: Arc<FeedbackLog>,
    /// What the health page reads.
    pub status: Arc<LaneStatus>,
    /// Largest dead letter, in bytes: kept from one run to the next.
    pub dead_letter_max: Arc<AtomicUsize>,
    /// The writers of alerts and scores, where they are in Avro.
    pub avro: Option<Arc<AvroOutput>>,
    /// Records that it fails at: kept from one run to the next.
    pub poison: Mutex<PoisonWatch>,
}

impl Lane {
    /// Runs until `stop` is set, then commits and returns.
    ///
    /// # Errors
    /// Any [`LaneError`]: all effects since the last commit are void for this lane; a new call goes
    /// on from there.
    pub fn run(&self, stop: &Arc<AtomicBool>) -> Result<(), LaneError> {
        let done = self.run_from_commit(stop);
        done.map_err(|error| self.with_cause(error))
    }

    /// The cause that librdkafka's error does not name.
    fn with_cause(&self, error: LaneError) -> LaneError {
        // A store without an id has failed before.
        let id = self.transactional_id().ok().flatten().unwrap_or_default();
        let reason = self.status.connection_failure();
        error.with_cause(&self.kafka, &self.stream, &id, reason)
    }

    /// `None` where results go through no transaction.
    fn transactional_id(&self) -> Result<Option<String>, LaneError> {
        let input = &self.stream.input;
        Ok(match input.delivery {
            Delivery::ExactlyOnce => {
                let instance = self.store.instance()?;
                Some(format!("{}-{instance}-{}", input.group, self.number))
            }
            Delivery::AtLeastOnce => None,
        })
    }

    fn run_from_commit(&self, stop: &Arc<AtomicBool>) -> Result<(), LaneError> {
        self.kafka.tokens().check()?;
        let lane_state = Arc::new(Mutex::new(self.lane_state(stop)?));
        let consumer = self.consumer(&lane_state)?;
        consumer.subscribe(&[&self.stream.input.topic])?;
        let done = self.poll_until(&consumer, &lane_state, stop);
        self.status.running.store(false, Ordering::Release);
        self.retrainer.set_trainer(self.number, false);
        let done = done.and_then(|()| {
            let mut lane_state = lock(&lane_state);
            // The partitions may have new owners, who find what is not committed.
            if consumer.context().has_aborted() || consumer.assignment_lost() {
                lane_state.abort();
                return Ok(());
            }
            lane_state.commit(&consumer, CommitMode::Sync).map(drop)
        });
        if done.is_err() {
            lock(&lane_state).abort();
        }
        consumer.context().leave();
        done
    }

    fn client_id(&self) -> String {
        format!("outlierd-{}-{}", self.stream.name, self.number)
    }

    /// A producer of the lane; it aborts what the one before left open.
    fn sink(&self) -> Result<Sink, LaneError> {
        let id = self.transactional_id()?;
        Ok(Sink::new(
            &self.kafka,
            &self.stream,
            &self.client_id(),
            id.as_deref(),
            self.dead_letter_max.clone(),
            self.avro.clone(),
        )?)
    }

    fn lane_state(&self, stop: &Arc<AtomicBool>) -> Result<LaneState, LaneError> {
        let bundle = self.learner.live_bundle()?;
        let pipeline = Pipeline::new(self.stream.clone(), bundle)?;
        let sink = self.sink()?;
        let mut lane_state = LaneState::new(self, pipeline, sink, stop.clone());
        lane_state.warm_up(false)?;
        Ok(lane_state)
    }

    fn consumer(
        &self,
        lane_state: &Arc<Mutex<LaneState>>,
    ) -> Result<BaseConsumer<LaneContext>, LaneError> {
        let config: ClientConfig =
            consumer_config(&self.kafka, &self.stream.input, &self.client_id());
        let context = LaneContext::new(self, lane_state.clone());
        Ok(source::consumer(&self.kafka, &config, context)?)
    }

    fn poll_until(
        &self,
        consumer: &BaseConsumer<LaneContext>,
        lane_state: &Mutex<LaneState>,
        stop: &AtomicBool,
    ) -> Result<(), LaneError> {
        let mut errors = PassingErrors::of(self);
        let mut waiting = SchemaWait::default();
        let mut in_force = self.stream.clone();
        let mut rewinds = 0;
        self.status.running.store(true, Ordering::Release);
        while !stop.load(Ordering::Acquire) {
            self.status.turns();
            panic_if_asked();
            let reloaded = lock(&self.reloaded).clone();
            if !Arc::ptr_eq(&in_force, &reloaded) {
                lock(lane_state).pipeline_mut().episodes = reloaded.episode_policy();
                in_force = reloaded;
            }
            let phase = self.learner.phase();
            let slow = self.follow(&phase, waiting.is_waiting(), consumer, lane_state)?;
            let rebalances = consumer.context().rebalances();
            let interrupted = || consumer.context().rebalances() != rebalances;
            let passes = |error: &KafkaError| errors.passes(error);
            let mut bounds = self.bounds(&phase, consumer.context().is_paused());
            if let Some(due_in) = lock(lane_state).urgent_in() {
                bounds.wait = bounds.wait.min(due_in);
            }
            let mut batch =
                poll_batch(consumer, bounds, interrupted, passes).map_err(LaneError::of_poll)?;
            let revoked = consumer.context().take_revoked();
            batch.retain(|message| !revoked.contains(&message.partition()));
            waiting.drop_partitions(&revoked);

            let mut lane_state = lock(lane_state);
            let mut batch = waiting.ready(batch, &mut lane_state);
            waiting.report(&self.stream, self.number, &self.status);
            let done = match consumer.context().take_failure() {
                Some(failure) => Err(failure),
                None if consumer.context().has_aborted() => break,
                None => self.advance(consumer, &mut lane_state, &batch, slow),
            };
            match done {
                Ok(true) => {
                    rewinds = 0;
                    self.retrainer.offer(lane_state.take_runs());
                }
                Ok(false) => {}
                Err(error) => {
                    rewinds += 1;
                    batch.extend(waiting.take());
                    self.rewind(consumer, &mut lane_state, &batch, error, rewinds)?;
                }
            }
            waiting.drop_partitions(&self.follow_topic(consumer, &mut lane_state)?);
            self.status.owns(lane_state.owned(), lane_state.series());
            self.retrainer
                .set_trainer(self.number, lane_state.is_trainer());
            self.learner.train_if_ready(self.retrainer.is_trainer());
        }
        Ok(())
    }

    /// Reads owned partitions from their beginning whose topic was deleted and created again, and
    /// returns them.
    fn follow_topic(
        &self,
        consumer: &BaseConsumer<LaneContext>,
        lane_state: &mut LaneState,
    ) -> Result<Vec<i32>, LaneError> {
        let mut lows = BTreeMap::new();
        for partition in lane_state.replaced() {
            let topic = &self.stream.input.topic;
            let (low, _) = consumer.fetch_watermarks(topic, partition, SEEK_TIMEOUT)?;
            lows.insert(partition, low);
        }
        if !lows.is_empty() {
            seek(consumer, lane_state.handover().restart(consumer, &lows)?)?;
        }
        Ok(lows.into_keys().collect())
    }

    /// One step: the batch through the pipeline, and a commit where it is time for one. Returns
    /// whether it committed.
    fn advance(
        &self,
        consumer: &BaseConsumer<LaneContext>,
        lane_state: &mut LaneState,
        batch: &[BorrowedMessage<'_>],
        slow: bool,
    ) -> Result<bool, LaneError> {
        // What was published of the records that run again includes these.
        if !lane_state.runs_again() {
            // Before the batch: feedback belongs to what was committed.
            lane_state.watch().apply_feedback(&self.feedback)?;
            lane_state
                .watch()
                .watch_topic(batch, consumer.context().is_at_end())?;
            let sight = self.retrainer.sight();
            lane_state.watch().follow_stream(sight.as_ref())?;
        }
        let first = batch.first().map(place);
        let stumble = lock(&self.poison).steps_over(first).cloned();
        match stumble {
            Some(stumble) => self.step_over(lane_state, batch, &stumble)?,
            None if batch.is_empty() => {}
            None => self.run_steps(lane_state, batch)?,
        }
        if let Some((ends, at)) = consumer.context().take_ends() {
            lane_state.at_ends(&ends);
            lane_state.watch().watch_partitions(&ends, at)?;
        }
        // A commit waits for all results: with a slow output it would keep the lane from its
        // group's rebalances.
        let searches = lock(&self.poison).limit().is_some();
        let is_due = lane_state.commit_due() || self.learner.ready();
        let commits = searches || !slow && is_due;
        if commits && lane_state.commit(consumer, CommitMode::Async)? {
            self.status.committed();
            if let Some(first) = first {
                lock(&self.poison).committed(first, self.stream.input.batch_records);
            }
        }
        Ok(commits)
    }

    /// Runs a batch through the pipeline. A panic is an error of the batch: what the steps have
    /// changed is dropped with it.
    fn run_steps(
        &self,
        lane_state: &mut LaneState,
        batch: &[BorrowedMessage<'_>],
    ) -> Result<(), LaneError> {
        let run = AssertUnwindSafe(|| lane_state.run(batch));
        catch_unwind(run).unwrap_or_else(|panic| Err(LaneError::Panicked(panic_text(&*panic))))?;
        self.status.advanced();
        Ok(())
    }

    /// Steps over a record that failed again and again. Where not even its dead letter is taken, it
    /// is left out.
    fn step_over(
        &self,
        lane_state: &mut LaneState,
        batch: &[BorrowedMessage<'_>],
        stumble: &Stumble,
    ) -> Result<(), LaneError> {
        let rejected = Rejected::new(0, RejectReason::Failed, stumble.error.as_str());
        let reason = (stumble.times < 2 * TRIES).then_some(&rejected);
        RecordSteppedOver {
            stream: &self.stream.name,
            partition: stumble.place.0,
            offset: stumble.place.1,
            error: &stumble.error,
            has_dead_letter: reason.is_some(),
        }
        .emit();
        lane_state.step_over(batch, reason)
    }

    /// Goes back to the last commit as a member of the group, where a record or the transaction alone
    /// has failed: mostly the group got a new generation while the lane committed. A lane that left for
    /// it and came back would rebalance the group twice more, in the middle of the others' commits.
    ///
    /// # Errors
    /// The `error`, where the lane has to restart.
    fn rewind(
        &self,
        consumer: &BaseConsumer<LaneContext>,
        lane_state: &mut LaneState,
        batch: &[BorrowedMessage<'_>],
        error: LaneError,
        times: u32,
    ) -> Result<(), LaneError> {
        let usual = self.stream.input.batch_records;
        let first = batch.first().map(place);
        let has_lost_changelog = times <= GO_BACK_MAX && lane_state.has_lost_changelog(&error);
        let is_of_records =
            error.is_of_records() && lock(&self.poison).failed(first, usual, error.to_string());
        let stays = is_of_records || error.is_abortable() && times <= GO_BACK_MAX;
        if !stays && !has_lost_changelog {
            return Err(error);
        }
        let error = self.with_cause(error);
        self.status.failed(&error);
        let rewound = match has_lost_changelog {
            true => Err(LaneError::ChangelogLost),
            false => lane_state.handover().rewind(batch),
        };
        let offsets = match rewound {
            Err(LaneError::ChangelogLost) => lane_state.handover().refill(self.sink()?)?,
            rewound => rewound?,
        };
        seek(consumer, offsets)?;
        LaneRewound {
            stream: &self.stream.name,
            lane: self.number,
            error: &error,
            backoff: None,
        }
        .emit();
        Ok(())
    }

    /// Brings the lane in line with the learner, its output and the registry: paused while a first
    /// model is trained, the output is slow or records `wait` for their schemas, swapped when a bundle
    /// is live. Returns whether the output is slow.
    fn follow(
        &self,
        phase: &LearnerPhase,
        wait: bool,
        consumer: &BaseConsumer<LaneContext>,
        lane_state: &Mutex<LaneState>,
    ) -> Result<bool, LaneError> {
        let mut lane_state = lock(lane_state);
        if let LearnerPhase::Live(id) = phase
            && lane_state.pipeline().detector.bundle_id() != Some(id)
        {
            let bundle = self.learner.live_bundle()?;
            lane_state.pipeline_mut().swap(bundle)?;
        }
        let paused = consumer.context().is_paused();
        let training = matches!(phase, LearnerPhase::Training);
        let in_flight = lane_state.in_flight();
        let slow = in_flight
            > if paused {
                IN_FLIGHT_RESUME
            } else {
                IN_FLIGHT_MAX
            };
        if paused != (training || slow || wait) {
            consumer.context().set_paused(!paused);
            // What is known of the ends leaves out the records that wait.
            consumer.context().forget_ends();
            if paused {
                consumer.resume(&consumer.assignment()?)?;
            } else {
                consumer.pause(&consumer.assignment()?)?;
            }
            if slow || !training && !wait {
                InputPaused {
                    stream: &self.stream.name,
                    lane: self.number,
                    paused: !paused,
                    in_flight,
                }
                .emit();
            }
        }
        Ok(slow)
    }

    /// A learning lane takes no more records than are wanted: the next ones are to be scored.
    fn bounds(&self, phase: &LearnerPhase, paused: bool) -> BatchBounds {
        let input = &self.stream.input;
        let records = match phase {
            LearnerPhase::Collecting { done, wanted, .. } => {
                input.batch_records.min(wanted.saturating_sub(*done).max(1))
            }
            _ => input.batch_records,
        };
        let limit = lock(&self.poison).limit().unwrap_or(usize::MAX);
        BatchBounds {
            records: records.min(limit),
            wait: if paused {
                PAUSED_WAIT
            } else {
                input.batch_wait
            },
            ..BatchBounds::of(input)
        }
    }
}

fn place(message: &BorrowedMessage<'_>) -> Place {
    (message.partition(), message.offset())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
