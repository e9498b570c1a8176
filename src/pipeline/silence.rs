//! Series that fall silent: found by the time of the others in their partition.
//!
//! Contract: a partition's clock is the event time of its records. Records that wait in Kafka do
//! not move it, so that neither lag nor a stop of the daemon makes a silence. Where three series or
//! more send, it is the newest time but that of one series: a source whose clock is ahead does not
//! make the others look silent. Where all of them were silent, as in a plant that rests, the time
//! since the first came back counts. At marks of this clock, which depend on the records alone, all
//! series of the partition are looked at, whether they are in memory or only stored. The clock is
//! part of what a lane commits: a run that was stopped and resumed looks at the same moments as one
//! that was not.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::series::{LoadError, SeriesState, SeriesTable, SlotError, StateLoader, StoredSeries};
use crate::config::settings;
use crate::episode::{self, SilenceEvent};
use crate::gate::GateState;
use crate::inter_arrival::{SilencePolicy, SilenceStatus};
use crate::record::EventTime;
use crate::record::alert::Alert;

/// Bounds of the time between two looks, in microseconds of event time.
const LOOK_EVERY: (i64, i64) = (1_000_000, 3_600_000_000);
/// Looks in the shortest time after which a series is overdue.
const LOOKS: i64 = 4;
/// From how many series on one of them does not make the clock.
const SERIES_MIN: usize = 3;
/// Series of a gateway that fall silent together at least.
const GATEWAY_MIN: usize = 2;

/// See the module.
pub(super) struct SilenceMonitor {
    rules: SilencePolicy,
    gateway: Option<String>,
    /// Fields of a record.
    fields: usize,
    /// Microseconds after which a series is forgotten; 0: never.
    forget_after: i64,
    clocks: HashMap<i32, SilenceClock>,
    /// Alerts of this batch, each with the index of the record that it stands before. Emptied by
    /// [`SilenceMonitor::take`].
    alerts: Vec<(usize, Alert)>,
}

/// The time of one partition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SilenceClock {
    /// The series with the newest time, and that time.
    first: (Arc<str>, EventTime),
    /// The newest time of the others.
    second: Option<EventTime>,
    /// Some of the series that have sent, [`SERIES_MIN`] at most.
    senders: Vec<Arc<str>>,
    /// When the series are looked at next.
    next: EventTime,
    /// When the partition began to send, or began again: before that nobody was silent alone.
    since: EventTime,
    /// The shortest silence that makes a series overdue, in microseconds; the partition has rested
    /// where it was silent for half of that.
    shortest: i64,
    now: Option<EventTime>,
}

/// Where a record stands, of which a silence is told.
#[derive(Clone, Copy)]
pub(super) struct SilenceContext<'a> {
    /// Index of the record in the batch.
    pub(super) record: usize,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) time: EventTime,
    pub(super) bundle: &'a str,
    /// Whether nothing is to be published yet.
    pub(super) warms_up: bool,
}

/// The states of the series, in memory and stored, and the rules of their alerts.
pub(super) struct States<'s, 'l> {
    pub(super) table: &'s mut SeriesTable,
    pub(super) load: &'s mut StateLoader<'l>,
    pub(super) episodes: &'s episode::EpisodePolicy,
}

/// A series that is overdue.
struct OverdueSeries {
    series: Arc<str>,
    /// What has been announced of it.
    silent: SilenceStatus,
    last: EventTime,
    /// When it became so.
    since: EventTime,
}

/// What is known of the series of one gateway.
#[derive(Default)]
struct GatewayStatus {
    series: usize,
    /// Whether one of them has sent lately.
    sends: bool,
    newest: Option<EventTime>,
}

/// What a look at all series of a partition finds.
struct Looked {
    overdue: Vec<OverdueSeries>,
    gateways: BTreeMap<String, GatewayStatus>,
    shortest: i64,
}

impl SilenceMonitor {
    /// `None` where the stream does not look for silence.
    pub(super) fn new(stream: &settings::StreamSettings) -> Option<Self> {
        let forget_after = stream.retention.forget_after.as_micros();
        Some(Self {
            rules: SilencePolicy::new(&stream.silence)?,
            gateway: stream.silence.gateway.clone(),
            fields: stream.record.fields.len(),
            forget_after: i64::try_from(forget_after).unwrap_or(i64::MAX),
            clocks: HashMap::new(),
            alerts: Vec::new(),
        })
    }

    /// The clock of a partition, to be kept; `None` before its first record.
    pub(super) fn clock(&self, partition: i32) -> Option<&SilenceClock> {
        self.clocks.get(&partition)
    }

    /// Goes on with a clock that was kept.
    pub(super) fn set_clock(&mut self, partition: i32, clock: SilenceClock) {
        self.clocks.insert(partition, clock);
    }

    /// A partition leaves.
    pub(super) fn drop_partition(&mut self, partition: i32) {
        self.clocks.remove(&partition);
    }

    /// The alerts that stand before a record of the batch.
    pub(super) fn take(&mut self, before: usize) -> impl Iterator<Item = Alert> {
        let due = self.alerts.partition_point(|(record, _)| *record <= before);
        self.alerts.drain(..due).map(|(_, alert)| alert)
    }

    /// A record of the series in `slot` was accepted, whose last one was `before`: its cadence is
    /// learned, its silence is over, and where it is time to the others are looked at.
    ///
    /// # Errors
    /// Where the state of another series cannot be loaded.
    pub(super) fn observe(
        &mut self,
        slot: usize,
        before: Option<EventTime>,
        here: SilenceContext<'_>,
        states: &mut States<'_, '_>,
    ) -> Result<(), LoadError> {
        let Some(series) = states.table.get_mut(slot).map(|found| found.series.clone()) else {
            return Ok(());
        };
        if let Some(before) = before {
            self.is_back(slot, &series, before, here, states)?;
        }
        let at_least = self.rules.at_least();
        let clock = self
            .clocks
            .entry(here.partition)
            .or_insert_with(|| SilenceClock::new(&series, here.time, at_least));
        match clock.advance(&series, here.time) {
            Some(now) => self.scan(now, here, states),
            None => Ok(()),
        }
    }

    fn is_back(
        &mut self,
        slot: usize,
        series: &str,
        before: EventTime,
        here: SilenceContext<'_>,
        states: &mut States<'_, '_>,
    ) -> Result<(), LoadError> {
        let Some(found) = states.table.get_mut(slot) else {
            return Ok(());
        };
        let inter_arrival = &mut found.state.inter_arrival;
        let limit = self.rules.overdue_after(inter_arrival).unwrap_or(0);
        self.rules
            .record(inter_arrival, here.time.micros_since(before));
        match std::mem::take(&mut inter_arrival.silent) {
            SilenceStatus::No => {}
            SilenceStatus::Alone => {
                let quiet = SilenceEvent {
                    series,
                    last: before,
                    since: EventTime(before.0 + limit),
                    of: 0,
                };
                self.publish(&quiet, here, Some(here.time), states);
            }
            SilenceStatus::WithGateway => self.gateway_is_back(series, here, states)?,
        }
        Ok(())
    }

    /// The first of a gateway's series that sends again ends the gateway's silence.
    fn gateway_is_back(
        &mut self,
        series: &str,
        here: SilenceContext<'_>,
        states: &mut States<'_, '_>,
    ) -> Result<(), LoadError> {
        let Some(name) = self.gateway_of(series).map(of_gateway) else {
            return Ok(());
        };
        let slot = states
            .table
            .known_slot(here.partition, &name, states.load)?;
        let Some(found) = slot.and_then(|slot| states.table.get_mut(slot)) else {
            return Ok(());
        };
        let silent = std::mem::take(&mut found.state.inter_arrival.silent);
        let last = found.state.gate.newest();
        if let Some(last) = last.filter(|_| silent == SilenceStatus::Alone) {
            let quiet = SilenceEvent {
                series: &name,
                last,
                since: last,
                of: 0,
            };
            self.publish(&quiet, here, Some(here.time), states);
        }
        Ok(())
    }

    fn publish(
        &mut self,
        quiet: &SilenceEvent<'_>,
        here: SilenceContext<'_>,
        back: Option<EventTime>,
        states: &States<'_, '_>,
    ) {
        let alert = states.episodes.silence(quiet, here.place(), back);
        self.alerts.push((here.record, alert));
    }

    fn gateway_of<'s>(&self, series: &'s str) -> Option<&'s str> {
        Some(series.split_once(self.gateway.as_deref()?)?.0)
    }

    /// Looks at all series of a partition.
    fn scan(
        &mut self,
        now: EventTime,
        here: SilenceContext<'_>,
        states: &mut States<'_, '_>,
    ) -> Result<(), LoadError> {
        let Some(began) = self.clocks.get(&here.partition).map(|clock| clock.since) else {
            return Ok(());
        };
        let mut looked = self.find(now, began, here, states);
        if let Some(clock) = self.clocks.get_mut(&here.partition) {
            clock.shortest = looked.shortest;
            let wait = (looked.shortest / LOOKS).clamp(LOOK_EVERY.0, LOOK_EVERY.1);
            clock.next = EventTime(now.0.saturating_add(wait));
        }
        looked
            .gateways
            .retain(|_, gateway| !gateway.sends && gateway.series >= GATEWAY_MIN);
        looked
            .overdue
            .sort_by(|a, b| (a.since, &a.series).cmp(&(b.since, &b.series)));
        for found in &looked.overdue {
            let gateway = self
                .gateway_of(&found.series)
                .and_then(|name| Some((name, looked.gateways.get(name)?)));
            if let Some((name, gateway)) = gateway {
                self.gateway_is_silent(name, gateway, found, here, states)?;
            } else {
                announce(&found.series, SilenceStatus::Alone, here.partition, states)?;
                let quiet = SilenceEvent {
                    series: &found.series,
                    last: found.last,
                    since: found.since,
                    of: 0,
                };
                self.publish(&quiet, here, None, states);
            }
        }
        Ok(())
    }

    /// The series that are overdue, whether they are in memory or stored.
    fn find(
        &self,
        now: EventTime,
        began: EventTime,
        here: SilenceContext<'_>,
        states: &mut States<'_, '_>,
    ) -> Looked {
        let mut looked = Looked {
            overdue: Vec::new(),
            gateways: BTreeMap::new(),
            shortest: i64::MAX,
        };
        let mut see = |series: &Arc<str>, found: &StoredSeries| {
            // Whether an expired series has been forgotten already must not matter.
            let age = found.newest.map_or(0, |newest| now.micros_since(newest));
            if self.forget_after > 0 && age > self.forget_after {
                return;
            }
            let limit = self.rules.overdue_after(&found.inter_arrival);
            let usual = limit.unwrap_or(self.rules.at_least());
            looked.shortest = looked.shortest.min(usual);
            let Some((limit, last)) = limit.zip(found.newest) else {
                return;
            };
            let silent_for = now.micros_since(last.max(began));
            if let Some(name) = self.gateway_of(series) {
                let gateway = looked.gateways.entry(name.to_owned()).or_default();
                gateway.series += 1;
                gateway.sends |= silent_for < limit / 2;
                gateway.newest = gateway.newest.max(Some(last));
            }
            let is_new = silent_for > limit
                && found.inter_arrival.silent != SilenceStatus::Alone
                && !here.warms_up;
            if is_new && !states.episodes.is_muted(series, now) {
                looked.overdue.push(OverdueSeries {
                    series: series.clone(),
                    silent: found.inter_arrival.silent,
                    last,
                    since: EventTime(last.0.saturating_add(limit)),
                });
            }
        };
        for slot in states.table.slots_of(here.partition) {
            if let Some(found) = states.table.get_mut(slot) {
                see(&found.series, &StoredSeries::from(&found.state));
            }
        }
        for (series, found) in states.table.stored_of(here.partition) {
            see(series, found);
        }
        looked
    }

    /// One alert for a gateway, whose state is that of a series of its own.
    fn gateway_is_silent(
        &mut self,
        name: &str,
        gateway: &GatewayStatus,
        found: &OverdueSeries,
        here: SilenceContext<'_>,
        states: &mut States<'_, '_>,
    ) -> Result<(), LoadError> {
        let name = of_gateway(name);
        let last = gateway.newest.unwrap_or(found.last);
        let new = || SeriesState::new(self.fields);
        let slot = match states.table.slot(here.partition, &name, states.load, new) {
            Ok(slot) => slot,
            Err(SlotError::TooMany) => return Ok(()),
            Err(SlotError::Load(error)) => return Err(error),
        };
        let Some(of_gateway) = states.table.get_mut(slot) else {
            return Ok(());
        };
        let before = std::mem::replace(
            &mut of_gateway.state.inter_arrival.silent,
            SilenceStatus::Alone,
        );
        if before != SilenceStatus::Alone {
            of_gateway.state.gate = GateState::seen(self.fields, last);
            let quiet = SilenceEvent {
                series: &name,
                last,
                since: last,
                of: gateway.series,
            };
            self.publish(&quiet, here, None, states);
        }
        if found.silent != SilenceStatus::WithGateway {
            announce(
                &found.series,
                SilenceStatus::WithGateway,
                here.partition,
                states,
            )?;
        }
        Ok(())
    }
}

/// Notes in the state of a series what is announced of it.
fn announce(
    series: &str,
    silent: SilenceStatus,
    partition: i32,
    states: &mut States<'_, '_>,
) -> Result<(), LoadError> {
    let slot = states.table.known_slot(partition, series, states.load)?;
    if let Some(found) = slot.and_then(|slot| states.table.get_mut(slot)) {
        found.state.inter_arrival.silent = silent;
    }
    Ok(())
}

impl SilenceClock {
    fn new(series: &Arc<str>, time: EventTime, shortest: i64) -> Self {
        Self {
            first: (series.clone(), time),
            second: None,
            senders: Vec::new(),
            next: time,
            since: time,
            shortest,
            now: None,
        }
    }

    /// A record of a series; returns the time where it is time to look.
    fn advance(&mut self, series: &Arc<str>, time: EventTime) -> Option<EventTime> {
        if self.senders.len() < SERIES_MIN && !self.senders.contains(series) {
            self.senders.push(series.clone());
        }
        if is_same(series, &self.first.0) {
            self.first.1 = self.first.1.max(time);
        } else if time > self.first.1 {
            self.second = Some(self.first.1);
            self.first = (series.clone(), time);
        } else {
            self.second = self.second.max(Some(time));
        }
        let now = if self.senders.len() >= SERIES_MIN {
            self.second?
        } else {
            self.first.1
        };
        let before = self.now.replace(now);
        if before.is_none_or(|before| now.micros_since(before) > self.shortest / 2) {
            self.since = now;
        }
        (now >= self.next).then_some(now)
    }
}

/// Mostly one and the same text in memory.
fn is_same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

impl<'a> SilenceContext<'a> {
    fn place(&self) -> episode::RecordContext<'a> {
        episode::RecordContext {
            series: "",
            time: self.time,
            partition: self.partition,
            offset: self.offset,
            bundle: self.bundle,
            warms_up: self.warms_up,
            spans_gap: false,
        }
    }
}

/// The name of the series that stands for a gateway.
fn of_gateway(name: &str) -> String {
    format!("{name}/*")
}
