//! The plant: the fleet whose records go to Kafka.
//!
//! Exactly the records to learn from come first, then the plant waits for the model: so that the
//! same seed gives the same model, however fast the machine is. All records of a pump go to one
//! partition, as those of a keyed producer do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::broker::Topics;
use super::daemon::{Daemon, Phase};
use super::feed::Feed;
use super::screen::Screen;
use super::{DemoPlan, LEARN_STEPS};
use crate::config::settings::Settings;
use crate::record::EventTime;
use crate::sim::fleet::{Fleet, FleetPlan, PumpReading};

/// How often the terminal is brought up to date.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// The result of a run.
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
    plan: &'a DemoPlan,
    fleet: Fleet,
    feed: Feed,
    interrupted: &'a Arc<AtomicBool>,
    screen: &'a Screen,
    shown: Instant,
}

impl<'a> Plant<'a> {
    pub(super) fn new(
        plan: &'a DemoPlan,
        settings: &Settings,
        topics: &Topics,
        interrupted: &'a Arc<AtomicBool>,
        screen: &'a Screen,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            plan,
            fleet: Fleet::new(plan.fleet.clone(), &plan.faults),
            feed: Feed::new(settings, topics)?,
            interrupted,
            screen,
            shown: Instant::now(),
        })
    }

    /// Sends the whole plan, and waits until the daemon has worked it off or Ctrl-C was pressed.
    pub(super) fn run(&mut self, daemon: &mut Daemon) -> anyhow::Result<Run> {
        let plan = self.plan;
        let started = Instant::now();
        let (learned_steps, trained_from) = self.learn(daemon)?;
        let (bundle, training) = daemon.await_model(self.screen, self.interrupted, trained_from)?;
        let live = Instant::now();
        let steps = self.operate(daemon, learned_steps)?;
        self.screen.clear();
        Ok(Run {
            learned_steps,
            steps,
            from: plan.fleet.time_of(learned_steps),
            until: plan.fleet.time_of(steps),
            scored: (steps - learned_steps) * plan.fleet.pumps as u64,
            dead_letters: self.feed.dead_letters()?,
            learning: trained_from.duration_since(started),
            training,
            scoring: live.elapsed(),
            bundle,
        })
    }

    /// Sends records until the daemon has enough to learn from. Gives how many of each pump, and
    /// when it was done.
    fn learn(&mut self, daemon: &mut Daemon) -> anyhow::Result<(u64, Instant)> {
        let wanted = self.plan.learn_records();
        let pumps = self.plan.fleet.pumps;
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
            if all_sent || !self.feed.has_room() {
                self.feed.wait()?;
            }
            let all_read = all_sent && self.feed.backlog() == 0;
            if !all_read && !self.is_time_to_show() {
                continue;
            }
            self.refuse_if_interrupted()?;
            match daemon.phase()? {
                Phase::Starting => {}
                Phase::Learning { records, .. } => {
                    self.screen.progress(
                        records,
                        format!("records; {} simulated", clock(self.plan, steps)),
                    );
                    missing = all_read && records < wanted;
                    if missing && steps >= self.plan.steps {
                        bail!(
                            "the daemon accepted only {records} of {wanted} training records: see its log with --log info"
                        );
                    }
                }
                Phase::Training | Phase::Live { .. } => break,
            }
        }
        self.screen.done(
            "learning",
            &format!(
                "{wanted} records of {pumps} pumps, {}",
                clock(self.plan, steps)
            ),
        );
        Ok((steps, Instant::now()))
    }

    fn refuse_if_interrupted(&self) -> anyhow::Result<()> {
        if self.is_interrupted() {
            bail!("stopped before the model was live: no record was scored");
        }
        Ok(())
    }

    /// Sends the rest of the plan, faults and all, or until Ctrl-C; what was sent is always worked
    /// off. Gives the number of steps sent in all.
    fn operate(&mut self, daemon: &mut Daemon, first: u64) -> anyhow::Result<u64> {
        let started = Instant::now();
        let pumps = self.plan.fleet.pumps as u64;
        self.feed.restart_clock();
        self.screen.begin("live", (self.plan.steps - first) * pumps);
        let mut steps = first;
        loop {
            let all_sent = steps == self.plan.steps || self.is_interrupted();
            if all_sent && self.feed.backlog() == 0 {
                return Ok(steps);
            }
            if !all_sent {
                self.send_step()?;
                steps += 1;
            }
            if all_sent || !self.feed.has_room() {
                self.feed.wait()?;
            }
            if self.is_time_to_show() {
                // Asked for its error: a daemon that has ended is not waited for.
                daemon.phase()?;
                let done = ((steps - first) * pumps).saturating_sub(self.feed.backlog());
                let rate = done as f64 / started.elapsed().as_secs_f64();
                self.screen.progress(
                    done,
                    format!(
                        "records, {rate:.0}/s; {} simulated",
                        clock(self.plan, steps)
                    ),
                );
            }
        }
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
        let step = self.fleet.step();
        let day = self.plan.part_of_day(step);
        let mut payload = Vec::new();
        for (pump, reading) in self.fleet.readings().enumerate() {
            payload.clear();
            let mut values = *reading.values;
            if let (Some(signal), Some(fault)) =
                (self.plan.signals.get(pump), self.plan.faults.get(pump))
            {
                signal.change(step, day, &(fault.start..fault.end), &mut values);
            }
            let reading = PumpReading {
                values: &values,
                ..reading
            };
            reading.write_json(&mut payload);
            self.feed.send(pump, reading.pump, &payload)?;
        }
        Ok(())
    }
}

/// Simulated time that has passed.
fn clock(plan: &DemoPlan, steps: u64) -> String {
    let of = |fleet: &FleetPlan| fleet.time_of(steps).micros_since(fleet.start) / 1_000_000;
    humantime::format_duration(Duration::from_secs(of(&plan.fleet).unsigned_abs())).to_string()
}
