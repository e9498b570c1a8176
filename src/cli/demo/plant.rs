//! The plant: the fleet as a Kafka producer that never runs far ahead of the daemon.
//!
//! Exactly the records to learn from come first, then the plant waits for the model: so that the same seed gives the same
//! model, however fast the machine is. All records of a pump go to one partition, as those of a keyed producer do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::Offset;

use super::broker::{PARTITIONS, Topics};
use super::daemon::{Daemon, Phase};
use super::screen::Screen;
use super::{LEARN_STEPS, Plan};
use crate::config::settings::Settings;
use crate::record::EventTime;
use crate::sim::fleet::{Fleet, FleetPlan};
use crate::source::client_config;

/// Payload that the daemon has not committed yet, in a partition: a fifth of what the built-in broker keeps.
const BACKLOG_BYTES_MAX: i64 = 1024 * 1024;
/// How often the daemon's committed positions are looked up while the plant waits for them.
const WAIT: Duration = Duration::from_millis(5);
/// How often the terminal is brought up to date.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// A daemon that reads nothing for this long, and does not train, is stuck.
const STALL_MAX: Duration = Duration::from_secs(120);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What a run came to.
pub(super) struct Run {
    /// Steps sent before the model was live.
    pub(super) learned_steps: u64,
    /// Steps sent in all.
    pub(super) steps: u64,
    /// Event time of the first record that was scored, and after the last one.
    pub(super) from: EventTime,
    pub(super) until: EventTime,
    /// Records that were scored.
    pub(super) scored: u64,
    /// Records that the daemon refused, learning included.
    pub(super) dead_letters: i64,
    pub(super) learning: Duration,
    pub(super) training: Duration,
    pub(super) scoring: Duration,
    /// Id of the model.
    pub(super) bundle: String,
}

/// See the module.
pub(super) struct Plant<'a> {
    plan: &'a Plan,
    fleet: Fleet,
    topic: String,
    dead_letters: String,
    producer: BaseProducer,
    /// Asks for the positions of the daemon's group, and never joins it.
    positions: BaseConsumer,
    /// Records and bytes sent to each partition.
    sent: Vec<(i64, i64)>,
    /// Records of each partition that the daemon has committed.
    committed: Vec<i64>,
    interrupted: &'a Arc<AtomicBool>,
    screen: &'a Screen,
    shown: Instant,
    /// When the daemon last moved.
    moved: Instant,
}

impl<'a> Plant<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        settings: &Settings,
        topics: &Topics,
        interrupted: &'a Arc<AtomicBool>,
        screen: &'a Screen,
    ) -> anyhow::Result<Self> {
        let mut producer = client_config(&settings.kafka, "outlierd-demo-plant");
        producer.set("linger.ms", "5").set("enable.idempotence", "true");
        let mut positions = client_config(&settings.kafka, "outlierd-demo-positions");
        positions.set("group.id", &topics.input).set("enable.auto.commit", "false");
        let partitions = usize::try_from(PARTITIONS)?;
        Ok(Self {
            plan,
            fleet: Fleet::new(plan.fleet.clone(), &plan.faults),
            topic: topics.input.clone(),
            dead_letters: topics.dead_letters.clone(),
            producer: producer.create().context("the plant's producer could not be made")?,
            positions: positions.create().context("the client that asks for positions could not be made")?,
            sent: vec![(0, 0); partitions],
            committed: vec![0; partitions],
            interrupted,
            screen,
            shown: Instant::now(),
            moved: Instant::now(),
        })
    }

    /// Sends the whole plan, and waits until the daemon has worked it off or Ctrl-C was pressed.
    pub(super) fn run(&mut self, daemon: &mut Daemon) -> anyhow::Result<Run> {
        let plan = self.plan;
        let started = Instant::now();
        let (learned_steps, trained_from) = self.learn(daemon)?;
        let (bundle, training) = self.await_model(daemon, trained_from)?;
        let live = Instant::now();
        let steps = self.operate(daemon, learned_steps)?;
        self.screen.clear();
        Ok(Run {
            learned_steps,
            steps,
            from: plan.fleet.time_of(learned_steps),
            until: plan.fleet.time_of(steps),
            scored: (steps - learned_steps) * plan.fleet.pumps as u64,
            dead_letters: self.dead_letters()?,
            learning: trained_from.duration_since(started),
            training,
            scoring: live.elapsed(),
            bundle,
        })
    }

    /// Sends records until the daemon has enough to learn from. Gives how many of each pump, and when it was done.
    fn learn(&mut self, daemon: &mut Daemon) -> anyhow::Result<(u64, Instant)> {
        let (wanted, pumps) = (self.plan.learn_records(), self.plan.fleet.pumps);
        let mut steps = 0;
        // Records that the gate refuses are made up for, one step at a time.
        let mut missing = false;
        self.screen.begin("learning", wanted);
        loop {
            if steps < LEARN_STEPS || missing {
                self.send_step()?;
                steps += 1;
                missing = false;
            }
            let all_sent = steps >= LEARN_STEPS;
            if all_sent || !self.has_room() {
                self.wait()?;
            }
            let all_read = all_sent && self.backlog() == 0;
            if !all_read && !self.is_time_to_show() {
                continue;
            }
            self.refuse_if_interrupted()?;
            match daemon.phase()? {
                Phase::Starting => {}
                Phase::Learning { records, .. } => {
                    self.screen.progress(records, format!("records; {} simulated", clock(self.plan, steps)));
                    missing = all_read && records < wanted;
                    if missing && steps >= self.plan.steps {
                        bail!(
                            "the daemon took only {records} of {wanted} records to learn from: see its log with --log info"
                        );
                    }
                }
                Phase::Training | Phase::Live { .. } => break,
            }
        }
        self.screen.done("learning", &format!("{wanted} records of {pumps} pumps, {}", clock(self.plan, steps)));
        Ok((steps, Instant::now()))
    }

    fn await_model(&mut self, daemon: &mut Daemon, since: Instant) -> anyhow::Result<(String, Duration)> {
        self.screen.begin_waiting("training");
        loop {
            self.refuse_if_interrupted()?;
            if let Phase::Live { bundle } = daemon.phase()? {
                let took = since.elapsed();
                self.screen.done("training", &format!("took {:.1} s", took.as_secs_f64()));
                self.screen.done("live", &format!("model {bundle}"));
                return Ok((bundle, took));
            }
            std::thread::sleep(SHOW_EVERY);
        }
    }

    fn refuse_if_interrupted(&self) -> anyhow::Result<()> {
        if self.is_interrupted() {
            bail!("stopped before the model was live: nothing was scored");
        }
        Ok(())
    }

    /// Sends the rest of the plan, faults and all, or until Ctrl-C; what was sent is always worked off. Gives the number
    /// of steps sent in all.
    fn operate(&mut self, daemon: &mut Daemon, first: u64) -> anyhow::Result<u64> {
        let (started, pumps) = (Instant::now(), self.plan.fleet.pumps as u64);
        self.moved = started;
        self.screen.begin("live", (self.plan.steps - first) * pumps);
        let mut steps = first;
        loop {
            let all_sent = steps == self.plan.steps || self.is_interrupted();
            if all_sent && self.backlog() == 0 {
                return Ok(steps);
            }
            if !all_sent {
                self.send_step()?;
                steps += 1;
            }
            if all_sent || !self.has_room() {
                self.wait()?;
            }
            if self.is_time_to_show() {
                // Asked for its error: a daemon that has ended is not waited for.
                daemon.phase()?;
                let done = ((steps - first) * pumps).saturating_sub(self.backlog());
                let rate = done as f64 / started.elapsed().as_secs_f64();
                self.screen.progress(done, format!("records, {rate:.0}/s; {} simulated", clock(self.plan, steps)));
            }
        }
    }

    fn dead_letters(&self) -> anyhow::Result<i64> {
        let count = |partition| {
            let ends = self.positions.fetch_watermarks(&self.dead_letters, partition, REQUEST_TIMEOUT);
            Ok(ends.context("the dead letters could not be counted")?.1)
        };
        (0..PARTITIONS).map(count).sum()
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    fn is_time_to_show(&mut self) -> bool {
        let due = self.shown.elapsed() >= SHOW_EVERY;
        if due {
            self.shown = Instant::now();
        }
        due
    }

    /// Sends one record of each pump.
    fn send_step(&mut self) -> anyhow::Result<()> {
        self.fleet.step();
        let mut payload = Vec::new();
        for (pump, reading) in self.fleet.readings().enumerate() {
            payload.clear();
            reading.write_json(&mut payload);
            let index = pump % self.sent.len();
            let mut record =
                BaseRecord::to(&self.topic).key(reading.pump).payload(&payload).partition(i32::try_from(index)?);
            while let Err((error, refused)) = self.producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error).context("the plant could not send");
                }
                self.producer.poll(WAIT);
                record = refused;
            }
            if let Some((records, bytes)) = self.sent.get_mut(index) {
                *records += 1;
                *bytes += payload.len() as i64;
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Records that the daemon has not committed, by what was known last.
    fn backlog(&self) -> u64 {
        let behind = |((sent, _), committed): (&(i64, i64), &i64)| u64::try_from(sent - committed).unwrap_or(0);
        self.sent.iter().zip(&self.committed).map(behind).sum()
    }

    /// Whether every partition may take another step. Records are of one size within a few bytes.
    fn has_room(&self) -> bool {
        self.sent.iter().zip(&self.committed).all(|(&(records, bytes), &committed)| {
            let size = bytes / records.max(1);
            (records - committed) * size < BACKLOG_BYTES_MAX
        })
    }

    /// Waits a moment and looks up how far the daemon has come.
    ///
    /// # Errors
    /// Where the broker does not answer, or the daemon is stuck.
    fn wait(&mut self) -> anyhow::Result<()> {
        self.producer.poll(WAIT);
        let mut asked = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            asked.add_partition(&self.topic, partition);
        }
        let found = self.positions.committed_offsets(asked, REQUEST_TIMEOUT).context("no committed positions")?;
        let before = self.backlog();
        for element in found.elements() {
            let known = usize::try_from(element.partition()).ok().and_then(|index| self.committed.get_mut(index));
            if let (Offset::Offset(offset), Some(known)) = (element.offset(), known) {
                *known = offset;
            }
        }
        if self.backlog() < before || before == 0 {
            self.moved = Instant::now();
        } else if self.moved.elapsed() > STALL_MAX {
            bail!("the daemon has not committed anything for {} s: see its log with --log info", STALL_MAX.as_secs());
        }
        Ok(())
    }
}

impl Drop for Plant<'_> {
    fn drop(&mut self) {
        // What is still queued after an early end is nobody's any more.
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}

/// Simulated time that has passed.
fn clock(plan: &Plan, steps: u64) -> String {
    let of = |fleet: &FleetPlan| fleet.time_of(steps).micros_since(fleet.start) / 1_000_000;
    humantime::format_duration(Duration::from_secs(of(&plan.fleet).unsigned_abs())).to_string()
}
